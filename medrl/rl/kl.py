"""Estimators of KL(policy || reference) for each token, on sampled tokens.

Each is `(logps, ref_logps) -> [P, G, T]` float32, with x = ref - policy. They
are means over samples of the *policy*; on old samples they are biased. The
names are Schulman's, 'Approximating KL Divergence' (2020); the clamps are
verl's. Not here: the reduction, the weight, and full-vocabulary KL.

As a value k1 and k3 are unbiased and k2 is not; as a loss it is the gradient
that counts, and there the order is another one: see each function.
"""

import chex
import jax
import jax.numpy as jnp

# Bounds of the log ratio in k3's exponential and of k3 itself.
_BOUND = 20.0
_TOP = 10.0


def k1(logps: jax.Array, ref_logps: jax.Array) -> jax.Array:
  """-x: unbiased, high variance, often negative; for a reward or a metric.

  As a loss it does nothing: its gradient is that of the log-prob, whose mean
  over the policy's own samples is zero.
  """
  return -_gap(logps, ref_logps)


def k2(logps: jax.Array, ref_logps: jax.Array) -> jax.Array:
  """x^2 / 2: a biased value whose gradient is that of the reverse KL.

  The gradient -x d logp has, on the policy's own samples, the mean d KL.
  """
  return _gap(logps, ref_logps)**2 / 2


def k3(logps: jax.Array, ref_logps: jax.Array) -> jax.Array:
  """e^x - x - 1: unbiased, never negative; what GRPO adds to its loss.

  Its gradient (1 - e^x) d logp is not that of the reverse KL but, in the mean,
  of the forward one, KL(reference || policy); near x = 0 the two agree. x is
  clamped to +-20 and the value to 10, beyond which no gradient flows.
  DeepSeekMath, arXiv 2402.03300, equation 4.
  """
  gap = jnp.clip(_gap(logps, ref_logps), -_BOUND, _BOUND)
  # expm1 keeps the digits that e^x - 1 loses where x is small.
  return jnp.minimum(jnp.expm1(gap) - gap, _TOP)


def _gap(logps, ref_logps):
  chex.assert_equal_shape([logps, ref_logps])
  return jax.lax.stop_gradient(ref_logps) - logps
