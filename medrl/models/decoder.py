"""The text decoder: grouped-query attention, rotary positions, SwiGLU.

One `forward` serves prefill (no cache), scoring of G completions against a
shared prompt (a cache with the prompt only) and decoding (a cache with room for
the completions). It takes embeddings and gives hidden states; the families add
embedding tables, towers and names.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import params as params_lib
from medrl.models import attention
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
  remat: str = 'none'   # 'none', or 'full': recompute a layer when going back

  @property
  def head_dim(self) -> int:
    return self.hidden // self.heads

  def __post_init__(self):
    if self.hidden % self.heads or self.heads % self.kv_heads:
      raise ValueError(
          f'hidden {self.hidden} must be a multiple of heads {self.heads}, and '
          f'heads of kv_heads {self.kv_heads}')
    if self.remat not in ('none', 'full'):
      raise ValueError(f'remat {self.remat!r} is not none or full')


class Cache(NamedTuple):
  """Keys and values of a prompt, stored once per group, and of completions.

  `keys` and `values` are None while only the prompt is held.
  """
  prompt_keys: Any     # [L, P, S, K, d]
  prompt_values: Any   # [L, P, S, K, d]
  prompt_mask: Any     # bool [P, S]
  keys: Any = None     # [L, P, G, C, K, d]
  values: Any = None   # [L, P, G, C, K, d]
  mask: Any = None     # bool [P, G, C]
  length: Any = None   # int32 []: slots of C written so far, in lockstep


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
  shape = (c.layers, prompts, group, room, c.kv_heads, c.head_dim)
  empty = jnp.zeros(shape, prefilled.prompt_keys.dtype)
  return prefilled._replace(
      keys=empty, values=empty, mask=jnp.zeros((prompts, group, room), bool),
      length=jnp.zeros((), jnp.int32))


def forward(params, c: Config, x, positions, mask, cache: Cache | None = None,
            segments=None):
  """Runs the layers over tokens, after whatever the cache holds.

  Args:
    params: tree of `specs(c)`, in the compute dtype.
    c: sizes.
    x: [P, G, T, D] embeddings; G is 1 where there is no cache.
    positions: int32 [P, G, T, 3].
    mask: bool [P, G, T], False on pads, which nothing sees.
    cache: None, the prompt's, or one with room from `init_cache`.
    segments: None, or int32 [P, G, T] without a cache: tokens of one segment
      see each other alone.

  Returns:
    hidden [P, G, T, D] after the final norm, and the cache: the prompt's own
    where there was none, with T more tokens where there was room.
  """
  cos, sin = rope.multimodal(positions, c.head_dim, c.rope_theta,
                             c.mrope_section)
  room = cache is not None and cache.keys is not None
  if room:
    filled = jax.lax.dynamic_update_slice(cache.mask, mask,
                                          (0, 0, cache.length))
    own = attention.causal(filled, cache.length, x.shape[2])
  else:
    own = attention.causal(mask)
    if segments is not None:
      own &= segments[..., :, None] == segments[..., None, :]

  def layer(carry, scanned):
    x, stack = carry
    w, index, prompt = scanned
    y = rms_norm(x, w['attention_norm'], c.eps)
    query, key, value = (
        linear(y, w[name]['weight']) + w[name]['bias']
        for name in ('query', 'key', 'value'))
    query, key = rope.rotate(query, cos, sin), rope.rotate(key, cos, sin)
    if room:
      # Written in place: the stack is carried, so decoding moves one token's
      # keys a step rather than the whole cache.
      at = (index, 0, 0, cache.length, 0, 0)
      stack = tuple(jax.lax.dynamic_update_slice(s, new[None].astype(s.dtype),
                                                 at)
                    for s, new in zip(stack, (key, value)))
      held = [jax.lax.dynamic_index_in_dim(s, index, keepdims=False)
              for s in stack]
      seen = [attention.Segment(*held, own)]
    else:
      seen = [attention.Segment(key, value, own)]
    if prompt is not None:
      seen.insert(0, attention.Segment(
          prompt[0][:, None], prompt[1][:, None],
          cache.prompt_mask[:, None, None, :]))
    y = attention.attend(query, seen)
    x = x + linear(y, w['out'], inputs=2)
    y = rms_norm(x, w['mlp_norm'], c.eps)
    y = jax.nn.silu(linear(y, w['gate'])) * linear(y, w['up'])
    x = x + linear(y, w['down'])
    return (x, stack), (key[:, 0], value[:, 0]) if cache is None else None

  body = jax.checkpoint(layer) if c.remat == 'full' else layer
  prompt = None if cache is None else (cache.prompt_keys, cache.prompt_values)
  stack = (cache.keys, cache.values) if room else None
  (x, stack), kept = jax.lax.scan(
      body, (x, stack), (params['layers'], jnp.arange(c.layers), prompt))
  hidden = rms_norm(x, params['norm'], c.eps)
  if cache is None:
    return hidden, Cache(*kept, mask[:, 0])
  if room:
    return hidden, cache._replace(keys=stack[0], values=stack[1], mask=filled,
                                  length=cache.length + x.shape[2])
  return hidden, cache
