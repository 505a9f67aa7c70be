"""Attention over several sets of keys with one joint softmax.

A set is (keys, values, who sees what). A group's prompt is one, shared by its
completions and stored once; a completion's own tokens are another. Each gives
its own softmax and log-sum-exp, by which they merge: exact in value and in
gradient, which it is not with `jax.nn.dot_product_attention`, whose log-sum-exp
has none. Plain XLA; for whole rows on a TPU see `splash`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# Finite, so that a query which may see nothing (a pad) gives an average rather
# than nan, and so does its gradient.
NEVER = -1e30


class Int8(NamedTuple):
  """Rows of 8-bit integers, each with the number that one step stands for."""
  values: Any   # int8 [..., d]
  scale: Any    # float32 [...]


class Segment(NamedTuple):
  """Keys that queries may see. A is G, or 1 where the group shares them.

  `keys` and `values` are [P, A, C, K, d], or `Int8` of that; `allowed` is bool,
  broadcastable to [P, G, T, C].
  """
  keys: Any
  values: Any
  allowed: Any


class Grid(NamedTuple):
  """Which of R key sets each of G x T queries sees, where groups are not rows.

  Queries are laid out as [R, Q], those of a key set in its row, so that keys
  are read once for all of them. `place` int32 [P, G, T] is a query's place in
  R x Q, none twice, and R x Q where it sees nothing; `filled` int32 [P, R, Q]
  is the inverse: the query in each place, G x T in an empty one.
  """
  place: Any
  filled: Any


class Gridded(NamedTuple):
  """Keys [P, R, S, K, d] (or `Int8`) that queries see by a `Grid`; `allowed`
  bool [P, R, S]."""
  keys: Any
  values: Any
  allowed: Any
  grid: Grid


def grid(place, sets: int, columns: int) -> Grid:
  """The `Grid` of given places [P, G, T] in `sets` x `columns`."""
  prompts = place.shape[0]
  flat = place.reshape(prompts, -1)
  queries = jnp.broadcast_to(jnp.arange(flat.shape[1], dtype=jnp.int32),
                             flat.shape)
  empty = jnp.full((prompts, sets * columns), flat.shape[1], jnp.int32)
  filled = jax.vmap(lambda e, at, q: e.at[at].set(q, mode='drop'))(
      empty, flat, queries)
  return Grid(place, filled.reshape(prompts, sets, columns))


def quantise(x) -> Int8:
  """[..., d] to 8 bits, symmetric, with a scale per row: its largest is 127."""
  x = x.astype(jnp.float32)
  top = jnp.max(jnp.abs(x), axis=-1)
  scale = jnp.where(top > 0, top, 1.) / 127
  return Int8(jnp.round(x / scale[..., None]).astype(jnp.int8), scale)


def attend(queries, segments: list):
  """Softmax attention of `queries` over all segments at once.

  Args:
    queries: [P, G, T, H, d]; H is a multiple of the segments' K (grouped
      queries: Ainslie et al. 2023).
    segments: what may be seen, each a `Segment` or a `Gridded`.

  Returns:
    [P, G, T, H, d] in the dtype of the queries; softmax in float32.
  """
  scaled = queries * queries.shape[-1] ** -0.5
  parts = [_gridded(scaled, s) if isinstance(s, Gridded) else _part(scaled, s)
           for s in segments]
  if len(parts) == 1:
    return parts[0][0].astype(queries.dtype)
  weights = jax.nn.softmax(jnp.stack([mass for _, mass in parts]), axis=0)
  out = sum(w[..., None] * part for w, (part, _) in zip(weights, parts))
  return out.astype(queries.dtype)


def _part(queries, segment: Segment):
  """Attention over one segment, float32 [P, G, T, H, d], and its log-sum-exp
  [P, G, T, H]."""
  p, g, t, heads, width = queries.shape
  keys, key_scale = _plain(segment.keys)
  values, value_scale = _plain(segment.values)
  kv_heads = keys.shape[3]
  grouped = queries.reshape(p, g, t, kv_heads, heads // kv_heads, width)
  own = 'g'
  if keys.shape[1] != g:   # the group shares them
    own, keys, values = '', keys[:, 0], values[:, 0]
  scores = jnp.einsum(f'pgtkrd,p{own}ckd->pgkrtc', grouped,
                      keys.astype(queries.dtype),
                      preferred_element_type=jnp.float32)
  if key_scale is not None:
    # A step's size is one number a key: cheaper here than on the keys.
    scores *= jnp.moveaxis(key_scale, -1, -2)[:, :, :, None, None]
  scores = jnp.where(segment.allowed[:, :, None, None], scores, NEVER)
  top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
  weights = jnp.exp(scores - top)
  mass = jnp.sum(weights, axis=-1)
  if value_scale is not None:
    weights *= jnp.moveaxis(value_scale, -1, -2)[:, :, :, None, None]
  out = jnp.einsum(f'pgkrtc,p{own}ckd->pgtkrd', weights.astype(queries.dtype),
                   values.astype(queries.dtype),
                   preferred_element_type=jnp.float32)
  def by_token(x):
    return jnp.moveaxis(x, -1, 2)   # [P, G, K, r, T] -> [P, G, T, K, r]
  out = out / by_token(mass)[..., None]
  total = by_token(top[..., 0] + jnp.log(mass))
  return (out.reshape(p, g, t, heads, width), total.reshape(p, g, t, heads))


def _gridded(queries, segment: Gridded):
  """As `_part`, for keys that are seen by a grid."""
  p, g, t, heads, width = queries.shape
  place, filled = segment.grid
  _, sets, columns = filled.shape
  flat = queries.reshape(p, g * t, heads, width)
  laid = jax.vmap(lambda x, at: x.at[at].get(mode='fill', fill_value=0))(
      flat, filled.reshape(p, -1))
  out, mass = _part(laid.reshape(p, sets, columns, heads, width), Segment(
      segment.keys, segment.values, segment.allowed[:, :, None]))
  def back(x, fill):
    x = x.reshape(p, sets * columns, *x.shape[3:])
    x = jax.vmap(lambda x, at: x.at[at].get(mode='fill', fill_value=fill))(
        x, place.reshape(p, -1))
    return x.reshape(p, g, t, *x.shape[2:])
  return back(out, 0), back(mass, NEVER)


def _plain(x):
  return (x.values, x.scale) if isinstance(x, Int8) else (x, None)


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
