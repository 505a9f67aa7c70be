"""Weights for tokens that another policy drew: another engine, older weights.

rho = exp(old logp - sampler logp) of a token says how much likelier the trainer
finds it than the sampler did. Two families of words share one contract,
`(old_logps, sampler_logps, mask, *, options) -> (weights, cut)`, [P, G, T]:

  correction  importance weights, bounded: token_tis, token_band, sequence_tis,
              sequence_band, geometric_tis
  rejection   1 where it keeps and 0 where it rejects: token_reject,
              sequence_reject, geometric_reject, k3_reject, token_veto

Their product multiplies the policy loss. `cut` is True where a bound acted.
Log ratios are clamped to +-20 before exp, sums of them too; a log-prob of -inf
counts as -1e9, and two of them as a ratio of 1. Everything is finite, without
gradient, and 0 outside the mask; a completion without tokens is never cut.

Where the old log-probs are the sampler's own there is nothing to correct. Not
here: the surrogate's ratio, which is between the new policy and the old one.

Sources: truncated importance sampling (TIS), 'Your Efficient RL Framework
Secretly Brings You Off-Policy RL Training' (Yao et al., 2025); IcePop (Ling
Team, 2025); masks and rejection, 'When Speed Kills Stability' (Liu et al.,
2025), as verl's rollout_corr_helper has them.
"""

import jax
import jax.numpy as jnp

from medrl import metrics
from medrl.rl import gaps

_BOUND = 20.0


def token_tis(old_logps: jax.Array, sampler_logps: jax.Array, mask: jax.Array,
              *, cap: float = 2., floor: float = 0.):
  """min(max(rho, floor), cap) of each token.

  cap 2 in verl; OpenRLHF's bounds are 0.5 and 5.
  """
  rho = jnp.exp(_bounded(_gap(old_logps, sampler_logps, mask)))
  return _truncated(rho, mask, floor, cap)


def token_band(old_logps: jax.Array, sampler_logps: jax.Array, mask: jax.Array,
               *, low: float = .5, high: float = 5.):
  """rho of each token where it lies in [low, high], else 0: IcePop."""
  rho = jnp.exp(_bounded(_gap(old_logps, sampler_logps, mask)))
  return _banded(rho, mask, low, high)


def sequence_tis(old_logps: jax.Array, sampler_logps: jax.Array,
                 mask: jax.Array, *, cap: float = 2., floor: float = 0.):
  """The product of a completion's rho, at most `cap`, for all its tokens."""
  return _truncated(_product(old_logps, sampler_logps, mask), mask, floor, cap)


def sequence_band(old_logps: jax.Array, sampler_logps: jax.Array,
                  mask: jax.Array, *, low: float = 0., high: float = 3.):
  """The product of a completion's rho where it lies in [low, high], else 0.

  TRL's 'sequence_mask', with the bounds that are its default.
  """
  return _banded(_product(old_logps, sampler_logps, mask), mask, low, high)


def geometric_tis(old_logps: jax.Array, sampler_logps: jax.Array,
                  mask: jax.Array, *, cap: float = 2., floor: float = 0.):
  """The geometric mean of a completion's rho, at most `cap`.

  For surrogates of whole completions (GSPO, GMPO); ms-swift's sequence level.
  """
  return _truncated(_geometric(old_logps, sampler_logps, mask), mask, floor,
                    cap)


def token_reject(old_logps: jax.Array, sampler_logps: jax.Array,
                 mask: jax.Array, *, low: float = .5, high: float = 2.):
  """Keeps tokens whose rho lies in [low, high].

  verl's token_k1, sequence_reject its seq_sum_k1, geometric_reject its
  seq_mean_k1; verl's bounds are of 1 / rho.
  """
  rho = jnp.exp(_bounded(_gap(old_logps, sampler_logps, mask)))
  return _kept((rho >= low) & (rho <= high), mask)


def sequence_reject(old_logps: jax.Array, sampler_logps: jax.Array,
                    mask: jax.Array, *, low: float = .5, high: float = 2.):
  """Keeps completions whose product of rho lies in [low, high].

  With `sequence_tis` it is verl's masked importance sampling (MIS).
  """
  rho = _product(old_logps, sampler_logps, mask)
  return _kept((rho >= low) & (rho <= high), mask)


def geometric_reject(old_logps: jax.Array, sampler_logps: jax.Array,
                     mask: jax.Array, *, low: float = .999,
                     high: float = 1.001):
  """Keeps completions whose geometric mean of rho lies in [low, high].

  With `token_tis` and a cap that never acts it is the 'seq-mask-tis' of NeMo RL
  (0.999 and 1.002) and OpenRLHF.
  """
  rho = _geometric(old_logps, sampler_logps, mask)
  return _kept((rho >= low) & (rho <= high), mask)


def k3_reject(old_logps: jax.Array, sampler_logps: jax.Array, mask: jax.Array,
              *, top: float = .01):
  """Keeps completions whose mean of rho - log rho - 1 is at most `top`.

  verl's seq_mean_k3; it estimates KL(sampler || trainer) in nats a token.
  """
  gap = _bounded(_gap(old_logps, sampler_logps, mask))
  return _kept(gaps.mean(jnp.expm1(gap) - gap, mask) <= top, mask)


def token_veto(old_logps: jax.Array, sampler_logps: jax.Array, mask: jax.Array,
               *, floor: float = 1e-4):
  """Drops a whole completion that has a token with rho below `floor`.

  Such a token is one that the trainer would hardly ever have drawn.
  """
  # Outside the mask rho is 1, which no floor is above.
  rho = jnp.exp(_bounded(_gap(old_logps, sampler_logps, mask)))
  return _kept(rho.min(-1, keepdims=True) >= floor, mask)


def batch_mean(weights: jax.Array, mask: jax.Array, over: str) -> jax.Array:
  """Mean weight [], by which normalised weights are divided.

  Over 'tokens'; or over 'completions', for weights that are one a completion
  (verl's rollout_is_batch_normalize). 1 where there is nothing, or nothing left
  of it.

  Raises:
    ValueError: `over` is neither.
  """
  if over == 'tokens':
    total, count = jnp.where(mask, weights, 0).sum(), mask.sum()
  elif over == 'completions':
    total, count = gaps.mean(weights, mask).sum(), mask.any(-1).sum()
  else:
    raise ValueError(f'over {over!r} is neither tokens nor completions')
  mean = total / jnp.maximum(count, 1)
  return jnp.where(mean > 1e-8, mean, 1.)


def report(weights: jax.Array, cut: jax.Array, mask: jax.Array
           ) -> dict[str, metrics.Mean]:
  """What a correction did, by metric name.

  The effective sample size is (sum w)^2 / (n sum w^2) of the tokens given here:
  1 where all weigh the same. Of micro-batches it becomes their mean.
  """
  count = mask.sum().astype(jnp.float32)
  def over_tokens(values):
    return metrics.Mean(jnp.where(mask, values, 0.).sum(), count)
  total = jnp.where(mask, weights, 0).sum()
  square = jnp.where(mask, weights**2, 0).sum()
  # total**2 / square is n times the size, and so its own total over tokens.
  effective = total**2 / jnp.maximum(square, jnp.finfo(jnp.float32).tiny)
  return {
      'rollout/correction': metrics.Mean(total, count),
      'rollout/correction_cut': over_tokens(cut.astype(jnp.float32)),
      'rollout/correction_rejected': over_tokens(
          (weights == 0).astype(jnp.float32)),
      'rollout/correction_sample_size': metrics.Mean(effective, count),
  }


def _gap(old_logps, sampler_logps, mask):
  """log rho [P, G, T], 0 outside the mask; not yet bounded."""
  return jax.lax.stop_gradient(gaps.log_ratio(old_logps, sampler_logps, mask))


def _bounded(gap):
  return jnp.clip(gap, -_BOUND, _BOUND)


def _product(old_logps, sampler_logps, mask):
  gap = _gap(old_logps, sampler_logps, mask)
  return jnp.exp(_bounded(gap.sum(-1, keepdims=True)))


def _geometric(old_logps, sampler_logps, mask):
  gap = _gap(old_logps, sampler_logps, mask)
  return jnp.exp(_bounded(gaps.mean(gap, mask)))


def _truncated(rho, mask, floor, cap):
  weights = jnp.clip(rho, floor, cap)
  return jnp.where(mask, weights, 0), mask & (weights != rho)


def _banded(rho, mask, low, high):
  inside = (rho >= low) & (rho <= high)
  return jnp.where(mask & inside, rho, 0), mask & ~inside


def _kept(keep, mask):
  return jnp.where(mask & keep, 1., 0.), mask & ~keep
