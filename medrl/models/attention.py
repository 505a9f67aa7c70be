"""Attention over several key segments with one joint softmax.

A segment is (keys, values, allowed). A group's prompt is one segment, shared by
its completions and stored once; a completion's own tokens are another. Plain
XLA, exact in value and gradient; faster back ends come behind `attend`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# Finite, so that a query which may see nothing (a pad) gives an average rather
# than nan, and so does its gradient.
NEVER = -1e30


class Segment(NamedTuple):
  """Keys that queries may see. A is G, or 1 where the group shares them."""
  keys: Any      # [P, A, C, K, d]
  values: Any    # [P, A, C, K, d]
  allowed: Any   # bool, broadcastable to [P, G, T, C]


def attend(queries, segments: list[Segment]):
  """Softmax attention of `queries` over all segments at once.

  Args:
    queries: [P, G, T, H, d]; H is a multiple of the segments' K (grouped
      queries: Ainslie et al. 2023).
    segments: what may be seen.

  Returns:
    [P, G, T, H, d] in the dtype of the queries; softmax in float32.
  """
  p, g, t, heads, width = queries.shape
  kv_heads = segments[0].keys.shape[3]
  grouped = queries.reshape(p, g, t, kv_heads, heads // kv_heads, width)
  grouped = grouped * width ** -0.5
  scores = []
  for keys, _, allowed in segments:
    if keys.shape[1] == 1:
      s = jnp.einsum('pgtkrd,pckd->pgkrtc', grouped, keys[:, 0],
                     preferred_element_type=jnp.float32)
    else:
      s = jnp.einsum('pgtkrd,pgckd->pgkrtc', grouped, keys,
                     preferred_element_type=jnp.float32)
    scores.append(jnp.where(allowed[:, :, None, None], s, NEVER))
  weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1)
  out = 0.
  start = 0
  for keys, values, _ in segments:
    part = weights[..., start:start + keys.shape[2]].astype(queries.dtype)
    start += keys.shape[2]
    if keys.shape[1] == 1:
      out += jnp.einsum('pgkrtc,pckd->pgtkrd', part, values[:, 0],
                        preferred_element_type=jnp.float32)
    else:
      out += jnp.einsum('pgkrtc,pgckd->pgtkrd', part, values,
                        preferred_element_type=jnp.float32)
  return out.reshape(p, g, t, heads, width).astype(queries.dtype)


def causal(mask, offset=0, length: int = 0):
  """Which of `length` slots each of T tokens may see.

  Args:
    mask: bool [..., C], slots that hold a token.
    offset: slot of the first token.
    length: T; by default C.

  Returns:
    bool [..., T, C].
  """
  slots = jnp.arange(mask.shape[-1])
  tokens = offset + jnp.arange(length or mask.shape[-1])
  return mask[..., None, :] & (slots <= tokens[:, None])
