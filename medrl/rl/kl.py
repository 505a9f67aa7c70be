"""Estimators of KL(policy || reference) for each token, on sampled tokens.

Each is `(logps, ref_logps, *, options) -> [P, G, T]` float32, with x = ref -
policy. They are means over samples of the *policy*; on old samples they are
biased. The names are Schulman's, 'Approximating KL Divergence' (2020). Not
here: the reduction, the weight, and full-vocabulary KL.

As a value k1 and k3 are unbiased and k2 is not; as a loss it is the gradient
that counts, and there the order is another one: see each function.

Options of k1, k2 and k3, where peers differ:
  bound   x is clamped to +-bound, beyond which no gradient flows. verl: 20 in
          k3; NeMo RL: 20 in all; TRL and OpenRLHF: none (math.inf).
  top     the value is clamped to +-top, likewise. verl: 10 in k3; NeMo RL and
          OpenRLHF: 10 in all; TRL: none.
  score   adds the gradient of the probability with which the token was drawn,
          value d logp, by a factor of exp(logp - sg[logp]), which is 1. On the
          policy's own samples any unbiased value then has the gradient of the
          reverse KL (arXiv 2506.09477; NeMo RL).

At the extremes: a log-prob of -inf counts as -1e9, and two of them as equal.
With a bound, or a top, values are finite; k3 without a bound is inf beyond
x = 88.
"""

import math

import jax
import jax.numpy as jnp

from medrl.rl import gaps


def k1(logps: jax.Array, ref_logps: jax.Array, *, bound: float = math.inf,
       top: float = math.inf, score: bool = False) -> jax.Array:
  """-x: unbiased, high variance, often negative; for a reward or a metric.

  As a loss it does nothing without `score`: its gradient is that of the
  log-prob, whose mean over the policy's own samples is zero.
  """
  return _estimate(lambda x: -x, logps, ref_logps, bound, top, score)


def k2(logps: jax.Array, ref_logps: jax.Array, *, bound: float = math.inf,
       top: float = math.inf, score: bool = False) -> jax.Array:
  """x^2 / 2: a biased value whose gradient is that of the reverse KL.

  The gradient -x d logp has, on the policy's own samples, the mean d KL.
  """
  return _estimate(lambda x: x**2 / 2, logps, ref_logps, bound, top, score)


def k3(logps: jax.Array, ref_logps: jax.Array, *, bound: float = 20.,
       top: float = 10., score: bool = False) -> jax.Array:
  """e^x - x - 1: unbiased, never negative; what GRPO adds to its loss.

  Its gradient (1 - e^x) d logp is not that of the reverse KL but, in the mean,
  of the forward one, KL(reference || policy); near x = 0 the two agree.
  DeepSeekMath, arXiv 2402.03300, equation 4.
  """
  # expm1 keeps the digits that e^x - 1 loses where x is small.
  return _estimate(lambda x: jnp.expm1(x) - x, logps, ref_logps, bound, top,
                   score)


def straight_through(logps: jax.Array, ref_logps: jax.Array, *,
                     value: str = 'k3', gradient: str = 'k2') -> jax.Array:
  """The value of one estimator, with the gradient of another.

  As it stands verl's 'k3+': a value that is unbiased and never negative, and
  the gradient of the reverse KL.

  Raises:
    ValueError: `value` or `gradient` is none of k1, k2 and k3.
  """
  known = {'k1': k1, 'k2': k2, 'k3': k3}
  for name in (value, gradient):
    if name not in known:
      raise ValueError(f'{name!r} is no estimator; there are '
                       f'{", ".join(known)}')
  moved = known[gradient](logps, ref_logps)
  seen = jax.lax.stop_gradient(known[value](logps, ref_logps))
  return seen + (moved - jax.lax.stop_gradient(moved))


def _estimate(function, logps, ref_logps, bound, top, score):
  gap = -gaps.log_ratio(logps, ref_logps)
  value = function(jnp.clip(gap, -bound, bound))
  if score:
    # As in NeMo RL, a clamped x has no gradient of either kind.
    drawn = jnp.exp(jax.lax.stop_gradient(gap) - gap)
    value = value * jnp.where(jnp.abs(gap) <= bound, drawn, 1)
  return jnp.clip(value, -top, top)
