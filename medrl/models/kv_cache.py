"""Keys and values of prompts and of their completions, and who attends to them.

Those of a prompt are stored once for all its completions, and where a mesh has
a `sequence` each device has a part of them: what attends to them sums maxima,
masses and outputs over the devices. Those of a completion are whole. What makes
keys and values is the decoder's.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import sharding
from medrl.models import attention


class Cache(NamedTuple):
  """Keys and values of prompts, stored once per group, and of completions.

  R is 1 where each group has a row of its own, and else the number of prompts
  that the completions of a row belong to, which `forward` is then told by a
  grid. `keys` and `values` are None while only prompts are held. All four may
  be `attention.Int8`.
  """
  prompt_keys: Any     # [L, P, R, S, K, d]
  prompt_values: Any   # [L, P, R, S, K, d]
  prompt_mask: Any     # bool [P, R, S]
  keys: Any = None     # [L, P, G, C, K, d]
  values: Any = None   # [L, P, G, C, K, d]
  mask: Any = None     # bool [P, G, C], or None where slots have no gaps
  length: Any = None   # int32: slots of C written so far, [] in lockstep with a
                       # mask, else [P, G]
  column: Any = None   # int32 []: the slot of C that all write to next, round
                       # and round, or None where each writes behind its own


def init_cache(c, prefilled: Cache, group: int, room: int) -> Cache:
  """Gives a prefilled cache room for `room` tokens of `group` completions.

  Args:
    c: a `decoder.Config`.
    prefilled: of prompts, one a row.
    group, room: completions of each, and their tokens.
  """
  prompts = prefilled.prompt_mask.shape[0]
  keys, values = (_empty(c, x, prompts, group, room)
                  for x in (prefilled.prompt_keys, prefilled.prompt_values))
  return prefilled._replace(
      keys=keys, values=values, mask=jnp.zeros((prompts, group, room), bool),
      length=jnp.zeros((), jnp.int32))


def init_slots(c, sizes: tuple[int, int, int, int, int],
               kept: str, dtype) -> Cache:
  """An empty cache for `slots` completions of any of `rows` prompts.

  Args:
    c: a `decoder.Config`.
    sizes: (P, rows, S, slots, C): P parts of a mesh that share nothing.
    kept: 'int8', or the name of a dtype; '' is `dtype`.
    dtype: the compute dtype.
  """
  parts, rows, length, slots, room = sizes
  like = jnp.zeros(0, kept or dtype)
  if kept == 'int8':
    like = attention.Int8(None, None)
  prompts, own = (parts, rows, length), (parts, slots, room)
  def prompt_part():
    return jax.tree.map(lambda x: c.pin.split(x, 3, rows=1),
                        _empty(c, like, *prompts))
  return Cache(
      prompt_part(), prompt_part(), jnp.zeros(prompts, bool),
      _empty(c, like, *own), _empty(c, like, *own),
      None, jnp.zeros((parts, slots), jnp.int32))


def share(cache: Cache, parts: int) -> Cache:
  """Prompts one a row -> the prompts of `parts` rows, which a place tells
  apart."""
  def split(x, lead):
    return x.reshape(*x.shape[:lead], parts, -1, *x.shape[lead + 2:])
  keys, values = (jax.tree.map(lambda x: split(x, 1), x)
                  for x in (cache.prompt_keys, cache.prompt_values))
  return Cache(keys, values, split(cache.prompt_mask, 0))


def admit(cache: Cache, prefilled: Cache, rows) -> Cache:
  """Puts prompts into the rows of a cache from `init_slots`.

  Args:
    cache: with P parts of R rows.
    prefilled: of P x n prompts, one a row.
    rows: int32 [P, n]; R drops a prompt.
  """
  parts, count = rows.shape
  def put(held, new, lead):
    # [L, P n, 1, S, ...] -> [L, P, n, S, ...]
    new = new.reshape(*new.shape[:lead], parts, count, *new.shape[lead + 2:])
    at = lead + 1
    window = tuple(i for i in range(held.ndim) if i not in (lead, at))
    numbers = jax.lax.ScatterDimensionNumbers(
        update_window_dims=window, inserted_window_dims=(at,),
        scatter_dims_to_operand_dims=(at,), operand_batching_dims=(lead,),
        scatter_indices_batching_dims=(0,))
    return jax.lax.scatter(held, rows[..., None], new, numbers,
                           unique_indices=True,
                           mode=jax.lax.GatherScatterMode.FILL_OR_DROP)
  keys, values = (
      jax.tree.map(lambda h, n: put(h, n, 1), held, _stored(held, new))
      for held, new in ((cache.prompt_keys, prefilled.prompt_keys),
                        (cache.prompt_values, prefilled.prompt_values)))
  return cache._replace(
      prompt_keys=keys, prompt_values=values,
      prompt_mask=put(cache.prompt_mask, prefilled.prompt_mask, 0))


def _empty(c, like, *lead: int):
  """Zeros [L, *lead, K, d] in the form of the keys `like`."""
  shape = (c.layers, *lead, c.kv_heads, c.head_dim)
  if isinstance(like, attention.Int8):
    return attention.Int8(jnp.zeros(shape, jnp.int8),
                          jnp.zeros(shape[:-1], jnp.float32))
  return jnp.zeros(shape, like.dtype)


def _stored(like, new):
  """Keys or values `new` in the form in which `like` holds them."""
  if isinstance(like, attention.Int8):
    return attention.quantise(new)
  return new.astype(like.dtype)


def _write(stack, index, cache: Cache, new):
  """Puts [P, G, T, ...] into layer `index` of [L, P, G, C, ...] behind what the
  cache has; what does not fit is dropped where its `length` is [P, G]."""
  length = cache.length if cache.column is None else cache.column
  # At one place for all: a TPU makes a loop of a scatter, and lays out all
  # layers anew behind it.
  if not length.ndim:
    at = (index, 0, 0, length, *[0] * (new.ndim - 3))
    return jax.lax.dynamic_update_slice(stack, new[None], at)
  # By batch axes and not by index, so that a mesh over P and G moves nothing.
  numbers = jax.lax.ScatterDimensionNumbers(
      update_window_dims=tuple(range(3, new.ndim)),
      inserted_window_dims=(0, 3), scatter_dims_to_operand_dims=(0, 3),
      operand_batching_dims=(1, 2), scatter_indices_batching_dims=(0, 1))
  slots = length[..., None] + jnp.arange(new.shape[2])
  places = jnp.stack([jnp.broadcast_to(index, slots.shape), slots], axis=-1)
  return jax.lax.scatter(stack, places, new, numbers,
                         indices_are_sorted=True, unique_indices=True,
                         mode=jax.lax.GatherScatterMode.FILL_OR_DROP)


def own_mask(cache: Cache, mask, segments):
  """What tokens see of their own completion, bool [P, G, T, C], and the mask of
  a cache in lockstep with them in it."""
  if cache.keys is None:
    seen = attention.causal(mask)
    if segments is not None:
      seen &= segments[..., :, None] == segments[..., None, :]
    return seen, None
  length = mask.shape[2]
  if cache.mask is not None:
    filled = jax.lax.dynamic_update_slice(cache.mask, mask,
                                          (0, 0, cache.length))
    return attention.causal(filled, cache.length, length), filled
  room = jax.tree.leaves(cache.keys)[0].shape[3]
  slots = jnp.arange(room)
  if cache.column is not None:   # one token, and as many before it as there are
    age = (cache.column - slots) % room
    return (age <= cache.length[..., None])[..., None, :], None
  last = cache.length[..., None] + jnp.arange(length)
  return slots <= last[..., None], None


def reader(pin: sharding.Rows, cache: Cache, own, place, columns: int):
  """What attends to a cache, in the layers of a decoder.

  Args:
    pin: what lies on which device.
    cache: with the keys of prompts at least.
    own: from `own_mask`.
    place, columns: as of `decoder.forward`.

  Returns:
    `(queries, keys, values, kept, index, prompt) -> (output, kept)`: of layer
    `index`, whose keys and values of the prompts are `prompt`; `kept` are those
    of completions, of all layers, and None where there is no room.
  """
  grid = None
  if place is not None:
    grid = attention.grid(place, cache.prompt_mask.shape[1], columns)

  def seen_prompt(held):
    keys, values = jax.tree.map(lambda x: pin.split(x, 2), held)
    if grid is not None:
      return attention.Gridded(keys, values, cache.prompt_mask, grid)
    return attention.Segment(keys, values, cache.prompt_mask[:, :, None])

  def attend(query, key, value, kept, index, prompt):
    if kept is not None:
      # Written in place: the stack is carried, so decoding moves one token's
      # keys a step rather than the whole cache.
      kept = tuple(
          jax.tree.map(lambda s, n: _write(s, index, cache, n), held,
                       _stored(held, new))
          for held, new in zip(kept, (key, value)))
      key, value = jax.tree.map(
          lambda s: jax.lax.dynamic_index_in_dim(s, index, keepdims=False),
          kept)
    return attention.attend(query, [
        seen_prompt(prompt), attention.Segment(key, value, own)]), kept
  return attend
