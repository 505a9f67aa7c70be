"""Policy losses in three words: a ratio, a surrogate and a reduction.

All take arrays [P, G, T] (any leading axes will do) and are written so that a
token outside the mask changes neither value nor gradient, whatever it holds.
Not here: advantages, the KL term, and anything that knows a model or a config.

Contracts:
  ratio      `(logps, old_logps, mask) -> ratio [P, G, T]`
  surrogate  `(ratio, advantages, logps, *, low, high) -> (loss, clipped)`
  reduction  `(losses, mask, weights=None, *, length=None) -> Mean`

A reduction returns (total, weight). Totals and weights summed over
micro-batches give the unsplit loss exactly; an average of averages does not.
"""

import chex
import jax
import jax.numpy as jnp

from medrl import metrics

# Bounds of log ratios, so that exp stays finite: verl's.
_TOKEN_BOUND = 20.0
_SEQUENCE_BOUND = 10.0


def token_ratio(logps: jax.Array, old_logps: jax.Array,
                mask: jax.Array) -> jax.Array:
  """exp(logp - old logp) of each token, 1 outside the mask.

  The log ratio is clamped to +-20 first, beyond which no gradient flows.
  """
  gap = _log_ratio(logps, old_logps, mask)
  return jnp.exp(jnp.clip(gap, -_TOKEN_BOUND, _TOKEN_BOUND))


def sequence_ratio(logps: jax.Array, old_logps: jax.Array,
                   mask: jax.Array) -> jax.Array:
  """exp of a completion's mean log ratio, given to each of its tokens: GSPO.

  Token form: its value is the sequence's ratio s, its gradient s * d logp of
  the token alone, so that advantages may differ between tokens. The log is
  clamped to at most 10. Group Sequence Policy Optimization, arXiv 2507.18071,
  equations 7 and 14.
  """
  gap = _log_ratio(logps, old_logps, mask)
  length = jnp.maximum(mask.sum(-1, keepdims=True), 1)
  mean = jax.lax.stop_gradient(gap.sum(-1, keepdims=True) / length)
  straight = gap - jax.lax.stop_gradient(gap)
  return jnp.exp(jnp.minimum(straight + mean, _SEQUENCE_BOUND))


def clip(ratio: jax.Array, advantages: jax.Array, logps: jax.Array, *,
         low: float, high: float) -> tuple[jax.Array, jax.Array]:
  """-min(r A, clip(r, 1 - low, 1 + high) A): PPO, arXiv 1707.06347, eq. 7.

  DAPO (arXiv 2503.14476, eq. 10) sets `high` above `low`. `logps` is not read;
  surrogates share one signature. `clipped` is True where the clipped term is
  the smaller one, thus where the token has no gradient.
  """
  chex.assert_equal_shape([ratio, advantages, logps])
  free = ratio * advantages
  bound = jnp.clip(ratio, 1 - low, 1 + high) * advantages
  return -jnp.minimum(free, bound), bound < free


def cispo(ratio: jax.Array, advantages: jax.Array, logps: jax.Array, *,
          low: float, high: float) -> tuple[jax.Array, jax.Array]:
  """-sg[clip(r, 1 - low, 1 + high)] A logp: MiniMax-M1, arXiv 2506.13585.

  No token loses its gradient; `low` of 1 or more sets no lower bound.
  `clipped` is True where the weight was capped.
  """
  chex.assert_equal_shape([ratio, advantages, logps])
  weight = jax.lax.stop_gradient(jnp.clip(ratio, 1 - low, 1 + high))
  clipped = (ratio < 1 - low) | (ratio > 1 + high)
  return -weight * advantages * logps, clipped


def token_mean(losses: jax.Array, mask: jax.Array,
               weights: jax.Array | None = None, *,
               length: int | None = None) -> metrics.Mean:
  """Mean over all tokens of the batch: DAPO. `length` is not read.

  `weights` [P, G, T] multiply the losses and never the count of tokens, here
  and in the other reductions.
  """
  del length
  return metrics.Mean(_masked(losses, mask, weights).sum(),
                      mask.sum().astype(jnp.float32))


def sequence_mean(losses: jax.Array, mask: jax.Array,
                  weights: jax.Array | None = None, *,
                  length: int | None = None) -> metrics.Mean:
  """Mean over completions of their token means: GRPO. `length` is not read.

  A completion without a token in the mask is not counted.
  """
  del length
  count = mask.sum(-1).astype(jnp.float32)
  means = _masked(losses, mask, weights).sum(-1) / jnp.maximum(count, 1)
  return metrics.Mean(means.sum(), (count > 0).sum().astype(jnp.float32))


def fixed_length(losses: jax.Array, mask: jax.Array,
                 weights: jax.Array | None = None, *,
                 length: int | None = None) -> metrics.Mean:
  """Mean over completions of sum / `length`: Dr. GRPO, arXiv 2503.20783.

  `length` is a constant, usually the generation budget in tokens, so that a
  token weighs the same in short and long completions. A completion without a
  token in the mask (a padding row) is not counted.

  Raises:
    ValueError: `length` is missing or not positive.
  """
  if length is None or length <= 0:
    raise ValueError(f'length {length!r}: fixed_length divides by a positive '
                     f'number of tokens; give the generation budget')
  counted = mask.any(-1).sum().astype(jnp.float32)
  return metrics.Mean(_masked(losses, mask, weights).sum() / length, counted)


def _log_ratio(logps, old_logps, mask):
  chex.assert_equal_shape([logps, old_logps, mask])
  # Masked before the subtraction: inf - inf outside the mask is then harmless
  # in the gradient too.
  return (jnp.where(mask, logps, 0)
          - jax.lax.stop_gradient(jnp.where(mask, old_logps, 0)))


def _masked(losses, mask, weights):
  chex.assert_equal_shape([losses, mask])
  if weights is not None:
    chex.assert_equal_shape([losses, weights])
    losses = losses * weights
  return jnp.where(mask, losses, 0).astype(jnp.float32)
