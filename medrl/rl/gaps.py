"""Differences of log-probs that stay numbers, and means over a completion.

A log-prob of -inf counts as -1e9: its difference to any other is one that exp
sends to 0 or that a clamp bounds, and two of them are equal. NaN stays NaN, so
that a policy that broke is seen. No loss and no bound of a ratio is here.
"""

import chex
import jax
import jax.numpy as jnp

_LOWEST = -1e9


def known(logps: jax.Array, mask: jax.Array | None = None) -> jax.Array:
  """Log-probs without -inf, and 0 outside the mask if there is one."""
  if mask is not None:
    chex.assert_equal_shape([logps, mask])
    logps = jnp.where(mask, logps, 0)
  return jnp.maximum(logps, _LOWEST)


def log_ratio(logps: jax.Array, others: jax.Array,
              mask: jax.Array | None = None) -> jax.Array:
  """logps - sg[others], 0 outside the mask."""
  chex.assert_equal_shape([logps, others])
  # Masked before the subtraction: inf - inf outside the mask is then harmless
  # in the gradient too.
  return known(logps, mask) - jax.lax.stop_gradient(known(others, mask))


def mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean over the tokens of each completion, [..., 1]; 0 of none."""
  count = jnp.maximum(mask.sum(-1, keepdims=True), 1)
  return jnp.where(mask, values, 0).sum(-1, keepdims=True) / count
