"""Weights of tokens by how uncertain the policy was when it wrote them.

Each is `(entropy, mask, *, options) -> weights [P, G, T]` float32, 0 outside
the mask. They multiply every term of the loss and never the count of tokens, so
a token of weight 0 still counts in a mean. Not here: weights for the mismatch
of sampler and trainer, and what rewards say of a token.
"""

import chex
import jax
import jax.numpy as jnp


def uniform(entropy: jax.Array, mask: jax.Array) -> jax.Array:
  """1 for every token."""
  chex.assert_equal_shape([entropy, mask])
  return mask.astype(jnp.float32)


def forks(entropy: jax.Array, mask: jax.Array, *, share: float = .2,
          over: str = 'completion') -> jax.Array:
  """1 for the `share` of tokens with the highest entropy, 0 for the others.

  The bound is the 1 - `share` quantile, interpolated linearly; tokens at the
  bound are kept, so that all are where entropies are equal. A completion of one
  token keeps it.

  Args:
    entropy: float32 [P, G, T], nats; what is outside the mask is not read.
    mask: bool [P, G, T].
    share: in (0, 1].
    over: quantiles of each 'completion', as SPINE (arXiv 2511.17938; 0.2); or
      of the whole 'batch', as 'Beyond the 80/20 Rule' (arXiv 2506.01939; 0.2)
      and TRL's top_entropy_quantile, which weighs the policy's term alone.

  Raises:
    ValueError: an option is out of range.
  """
  if not 0 < share <= 1 or over not in ('completion', 'batch'):
    raise ValueError(f'share {share!r} must be in (0, 1] and over {over!r} '
                     f'completion or batch')
  chex.assert_equal_shape([entropy, mask])
  shape = mask.shape
  if over == 'batch':
    entropy, mask = entropy.reshape(-1), mask.reshape(-1)
  bound = _quantile(entropy, mask, 1 - share)
  return (mask & (entropy >= bound)).astype(jnp.float32).reshape(shape)


def _quantile(values, mask, share):
  """Quantile of the masked values along the last axis, kept as an axis of 1."""
  ordered = jnp.sort(jnp.where(mask, values, jnp.inf), axis=-1)
  count = mask.sum(-1, keepdims=True)
  place = share * jnp.maximum(count - 1, 0).astype(jnp.float32)
  low = jnp.floor(place).astype(jnp.int32)
  high = jnp.minimum(low + 1, jnp.maximum(count - 1, 0))
  below = jnp.take_along_axis(ordered, low, axis=-1)
  above = jnp.take_along_axis(ordered, high, axis=-1)
  # inf - inf where nothing is there, which `mask` hides from the caller.
  return below + (place - low) * (above - below)
