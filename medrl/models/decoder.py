"""The text decoder: grouped-query attention, rotary positions, SwiGLU.

One `forward` serves prefill (no cache), scoring of G completions against a
shared prompt (a cache with the prompt only) and decoding (a cache with room for
the completions). It takes embeddings and gives hidden states; the families add
embedding tables, towers and names.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import params as params_lib
from medrl.models import attention
from medrl.models import group_mask
from medrl.models import remat
from medrl.models import rope

Spec = params_lib.Spec


def as_it_lies(x):
  """Leaves to the compiler which device has which part of an activation."""
  return x


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the decoder; names as in the published config files."""
  hidden: int
  layers: int
  heads: int
  kv_heads: int
  ffn: int
  vocab: int
  tied: bool
  rope_theta: float
  mrope_section: tuple[int, int, int]
  eps: float = 1e-6
  remat: str = 'none'   # what a layer keeps for its gradient: remat.NAMES
  rows: Any = group_mask.PlainRows()   # how whole rows attend; or splash.Rows
  pin: Callable = as_it_lies   # or sharding.Rows: rows stay on their devices

  @property
  def head_dim(self) -> int:
    return self.hidden // self.heads

  def __post_init__(self):
    if self.hidden % self.heads or self.heads % self.kv_heads:
      raise ValueError(
          f'hidden {self.hidden} must be a multiple of heads {self.heads}, and '
          f'heads of kv_heads {self.kv_heads}')
    remat.check(self.remat)


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


def specs(c: Config):
  """Parameter declarations of the layers and the final norm."""
  l, d, f, w = c.layers, c.hidden, c.ffn, c.head_dim
  def heads(n):
    name = 'heads' if n == c.heads else 'kv_heads'
    return {
        'weight': Spec((l, d, n, w), ('layers', 'embed', name, 'head_dim'),
                       scale=d ** -0.5),
        'bias': Spec((l, n, w), ('layers', name, 'head_dim'), 'zeros'),
    }
  def norm(*lead):
    axes = ('layers', 'norm')[1 - len(lead):]
    return Spec((*lead, d), axes, 'ones')
  return {
      'layers': {
          'query': heads(c.heads),
          'key': heads(c.kv_heads),
          'value': heads(c.kv_heads),
          'out': Spec((l, c.heads, w, d),
                      ('layers', 'heads', 'head_dim', 'embed'),
                      scale=(2 * l * d) ** -0.5),
          'gate': Spec((l, d, f), ('layers', 'embed', 'mlp'), scale=d ** -0.5),
          'up': Spec((l, d, f), ('layers', 'embed', 'mlp'), scale=d ** -0.5),
          'down': Spec((l, f, d), ('layers', 'mlp', 'embed'),
                       scale=(2 * l * f) ** -0.5),
          'attention_norm': norm(l),
          'mlp_norm': norm(l),
      },
      'norm': norm(),
  }


def rms_norm(x, weight, eps: float):
  """Root-mean-square norm (Zhang & Sennrich 2019), in float32."""
  y = x.astype(jnp.float32)
  y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)
  return (y * weight.astype(jnp.float32)).astype(x.dtype)


def linear(x, weight, inputs: int = 1):
  """Contracts the last `inputs` axes of `x` with the first ones of `weight`.

  As one plain matrix product of [rows, in] and [in, out]: with several row axes
  XLA's CPU compiler makes a gradient of the weight that is five times slower.
  """
  rows, outputs = x.shape[:x.ndim - inputs], weight.shape[inputs:]
  fan_in = math.prod(weight.shape[:inputs])
  flat = x.reshape(-1, fan_in) @ weight.reshape(fan_in, -1)
  return flat.reshape(*rows, *outputs)


def init_cache(c: Config, prefilled: Cache, group: int, room: int) -> Cache:
  """Gives a prefilled cache room for `room` tokens of `group` completions."""
  prompts = prefilled.prompt_mask.shape[0]
  keys, values = (empty(c, x, prompts, group, room)
                  for x in (prefilled.prompt_keys, prefilled.prompt_values))
  return prefilled._replace(
      keys=keys, values=values, mask=jnp.zeros((prompts, group, room), bool),
      length=jnp.zeros((), jnp.int32))


def init_slots(c: Config, sizes: tuple[int, int, int, int, int],
               kept: str, dtype) -> Cache:
  """An empty cache for `slots` completions of any of `rows` prompts.

  Args:
    c: sizes.
    sizes: (P, rows, S, slots, C): P parts of a mesh that share nothing.
    kept: 'int8', or the name of a dtype; '' is `dtype`.
    dtype: the compute dtype.
  """
  parts, rows, length, slots, room = sizes
  like = jnp.zeros(0, kept or dtype)
  if kept == 'int8':
    like = attention.Int8(None, None)
  prompts, own = (parts, rows, length), (parts, slots, room)
  return Cache(
      empty(c, like, *prompts), empty(c, like, *prompts),
      jnp.zeros(prompts, bool), empty(c, like, *own), empty(c, like, *own),
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
      jax.tree.map(lambda h, n: put(h, n, 1), held, stored(held, new))
      for held, new in ((cache.prompt_keys, prefilled.prompt_keys),
                        (cache.prompt_values, prefilled.prompt_values)))
  return cache._replace(
      prompt_keys=keys, prompt_values=values,
      prompt_mask=put(cache.prompt_mask, prefilled.prompt_mask, 0))


def empty(c: Config, like, *lead: int):
  """Zeros [L, *lead, K, d] in the form of the keys `like`."""
  shape = (c.layers, *lead, c.kv_heads, c.head_dim)
  if isinstance(like, attention.Int8):
    return attention.Int8(jnp.zeros(shape, jnp.int8),
                          jnp.zeros(shape[:-1], jnp.float32))
  return jnp.zeros(shape, like.dtype)


def stored(like, new):
  """Keys or values `new` in the form in which `like` holds them."""
  if isinstance(like, attention.Int8):
    return attention.quantise(new)
  return new.astype(like.dtype)


def _write(stack, index, length, new):
  """Puts [P, G, T, ...] into layer `index` of [L, P, G, C, ...] from slot
  `length` on; what does not fit is dropped where `length` is [P, G]."""
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


def forward(params, c: Config, x, positions, mask, cache: Cache | None = None,
            segments=None, groups=None, place=None, columns: int = 0):
  """Runs the layers over tokens, after whatever the cache holds.

  Args:
    params: tree of `specs(c)`, in the compute dtype.
    c: sizes.
    x: [P, G, T, D] embeddings; G is 1 where there is no cache.
    positions: int32 [P, G, T, 3].
    mask: bool [P, G, T], False on pads, which nothing sees.
    cache: None, the prompts', or one with room from `init_cache`.
    segments: None, or int32 [P, G, T] where there is no room: tokens of one
      segment see each other alone, besides their prompt.
    groups: None, or static (S, T, G) without a cache: rows are prompts with
      their completions behind them, see `group_mask`.
    place, columns: where the completions of a row belong to several of a
      cache's R prompts, int32 [P, G, T] has r * columns + c for a token that
      sees prompt r, each place once, and R * columns for one that sees none.

  Returns:
    hidden [P, G, T, D] after the final norm, and the cache: the prompt's own
    where there was none, with T more tokens where there was room.
  """
  cos, sin = rope.multimodal(positions, c.head_dim, c.rope_theta,
                             c.mrope_section)
  room = cache is not None and cache.keys is not None
  filled = None
  if room and cache.mask is None:
    last = cache.length[..., None] + jnp.arange(x.shape[2])
    slots = jnp.arange(jax.tree.leaves(cache.keys)[0].shape[3])
    own = slots <= last[..., None]
  elif room:
    filled = jax.lax.dynamic_update_slice(cache.mask, mask,
                                          (0, 0, cache.length))
    own = attention.causal(filled, cache.length, x.shape[2])
  elif cache is not None:
    own = attention.causal(mask)
    if segments is not None:
      own &= segments[..., :, None] == segments[..., None, :]

  if place is not None:
    grid = attention.grid(place, cache.prompt_mask.shape[1], columns)

  def seen_prompt(keys, values):
    if place is not None:
      return attention.Gridded(keys, values, cache.prompt_mask, grid)
    return attention.Segment(keys, values, cache.prompt_mask[:, :, None])

  def layer(carry, scanned):
    x, stack = carry
    w, index, prompt = scanned
    x = c.pin(x)
    y = rms_norm(x, w['attention_norm'], c.eps)
    query, key, value = (
        linear(y, w[name]['weight']) + w[name]['bias']
        for name in ('query', 'key', 'value'))
    query, key = rope.rotate(query, cos, sin), rope.rotate(key, cos, sin)
    query, key, value = (remat.mark(y, 'query_key_value')
                         for y in (query, key, value))
    if room:
      # Written in place: the stack is carried, so decoding moves one token's
      # keys a step rather than the whole cache.
      stack = tuple(
          jax.tree.map(lambda s, n: _write(s, index, cache.length, n), held,
                       stored(held, new))
          for held, new in zip(stack, (key, value)))
      seen = [attention.Segment(*jax.tree.map(
          lambda s: jax.lax.dynamic_index_in_dim(s, index, keepdims=False),
          stack), own)]
    elif cache is not None:
      seen = [attention.Segment(key, value, own)]
    if cache is None:
      rows = None if segments is None else segments[:, 0]
      y = c.rows(query[:, 0], key[:, 0], value[:, 0], mask[:, 0], groups,
                 rows)[:, None]
    else:
      y = attention.attend(query, [seen_prompt(*prompt), *seen])
    y = remat.mark(y, 'attention')
    x = c.pin(x + linear(y, w['out'], inputs=2))
    x = remat.mark(x, 'mlp_input')
    y = rms_norm(x, w['mlp_norm'], c.eps)
    y = jax.nn.silu(linear(y, w['gate'])) * linear(y, w['up'])
    x = x + linear(y, w['down'])
    return (x, stack), (key, value) if cache is None else None

  body = remat.wrap(layer, c.remat)
  prompt = None if cache is None else (cache.prompt_keys, cache.prompt_values)
  stack = (cache.keys, cache.values) if room else None
  (x, stack), kept = jax.lax.scan(
      body, (x, stack), (params['layers'], jnp.arange(c.layers), prompt))
  hidden = rms_norm(c.pin(x), params['norm'], c.eps)
  if cache is None:
    return hidden, Cache(*kept, mask)
  if room:
    return hidden, cache._replace(keys=stack[0], values=stack[1], mask=filled,
                                  length=cache.length + x.shape[2])
  return hidden, cache
