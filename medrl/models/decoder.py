"""The text decoder: grouped-query attention, rotary positions, SwiGLU.

One `forward` serves prefill (no cache), scoring of G completions against a
shared prompt (a cache with the prompt only) and decoding (a cache with room for
the completions). It takes embeddings and gives hidden states; the families add
embedding tables, towers and names.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from medrl import params as params_lib
from medrl import sharding
from medrl.models import group_mask
from medrl.models import kv_cache
from medrl.models import remat
from medrl.models import rope

Spec = params_lib.Spec


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
  pin: sharding.Rows = sharding.Rows()   # what lies on which device

  @property
  def head_dim(self) -> int:
    return self.hidden // self.heads

  def __post_init__(self):
    if self.hidden % self.heads or self.heads % self.kv_heads:
      raise ValueError(
          f'hidden {self.hidden} must be a multiple of heads {self.heads}, and '
          f'heads of kv_heads {self.kv_heads}')
    remat.check(self.remat)


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


def apart(x, weight, inputs: int = 1):
  """As `linear`, with the row axes as they are: rows whose tokens lie on
  several devices cannot become one axis without moving."""
  axes = tuple(range(x.ndim - inputs, x.ndim)), tuple(range(inputs))
  return jax.lax.dot_general(x, weight, (axes, ((), ())))


def product(pin: sharding.Rows) -> Callable:
  """The product for prompts, whose tokens may be split over devices."""
  return linear if pin.parts == 1 else apart


def forward(params, c: Config, x, positions, mask,
            cache: kv_cache.Cache | None = None, segments=None, groups=None,
            place=None, columns: int = 0):
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
  # Without a cache tokens may lie on several devices, completions do not.
  long, times, stack, prompt = 2, product(c.pin), None, None
  if cache is not None:
    long, times, prompt = 0, linear, (cache.prompt_keys, cache.prompt_values)
    own, filled = kv_cache.own_mask(cache, mask, segments)
    attend = kv_cache.reader(c.pin, cache, own, place, columns)
    if cache.keys is not None:
      stack = cache.keys, cache.values

  def layer(carry, scanned):
    x, stack = carry
    w, index, prompt = scanned
    x = c.pin(x, long)
    y = rms_norm(x, w['attention_norm'], c.eps)
    query, key, value = (
        times(y, w[name]['weight']) + w[name]['bias']
        for name in ('query', 'key', 'value'))
    query, key = rope.rotate(query, cos, sin), rope.rotate(key, cos, sin)
    query, key, value = (remat.mark(y, 'query_key_value')
                         for y in (query, key, value))
    if cache is None:
      key, value = (c.pin.split(y, long) for y in (key, value))
      y = c.rows(query[:, 0], key[:, 0], value[:, 0], mask[:, 0], groups,
                 None if segments is None else segments[:, 0])[:, None]
    else:
      y, stack = attend(query, key, value, stack, index, prompt)
    y = remat.mark(y, 'attention')
    x = c.pin(x + times(y, w['out'], inputs=2), long)
    x = remat.mark(x, 'mlp_input')
    y = rms_norm(x, w['mlp_norm'], c.eps)
    y = jax.nn.silu(times(y, w['gate'])) * times(y, w['up'])
    x = x + times(y, w['down'])
    return (x, stack), (key, value) if cache is None else None

  (x, stack), kept = jax.lax.scan(
      remat.wrap(layer, c.remat), (x, stack),
      (params['layers'], jnp.arange(c.layers), prompt))
  hidden = rms_norm(c.pin(x, long), params['norm'], c.eps)
  if cache is None:
    return hidden, kv_cache.Cache(*kept, mask)
  if stack is not None:
    cache = cache._replace(keys=stack[0], values=stack[1], mask=filled,
                           length=cache.length + x.shape[2])
  return hidden, cache
