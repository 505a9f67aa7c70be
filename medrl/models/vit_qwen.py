"""The vision tower of Qwen2.5-VL: patches in, soft tokens out.

Window attention in all blocks but a few, 2-D rotary positions, RMSNorm and
SwiGLU, a merger of 2 x 2 patches (Bai et al. 2025, Qwen2.5-VL, section 2.1).
The processor packs whole windows into rows, so a row of `window**2` patches is
attended with a mask and little padding; nothing is permuted on the device.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from medrl import params as params_lib
from medrl import sharding
from medrl import types
from medrl.models import attention
from medrl.models import decoder
from medrl.models import group_mask
from medrl.models import remat
from medrl.models import rope

Spec = params_lib.Spec
EPS = 1e-6
# CLIP's channel statistics, which Qwen2-VL and Qwen2.5-VL normalise by.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the tower; `out` is the decoder's width."""
  depth: int
  hidden: int
  heads: int
  ffn: int
  out: int
  full_blocks: tuple[int, ...]
  patch: int = 14
  temporal: int = 2
  merge: int = 2
  window: int = 112
  tokens_per_second: float = 2.
  remat: str = 'none'
  rows: Any = group_mask.PlainRows()   # how the full blocks attend
  pin: sharding.Rows = sharding.Rows()   # what lies on which device

  @property
  def patch_values(self) -> int:
    return 3 * self.temporal * self.patch ** 2

  @property
  def row(self) -> int:
    """Patches of one full attention window."""
    return (self.window // self.patch) ** 2


def specs(c: Config):
  """Parameter declarations; the blocks are stacked for a scan."""
  d, width = c.hidden, c.hidden // c.heads
  embed, mlp = ('vision_embed', d), ('vision_mlp', c.ffn)
  heads = (('vision_heads', c.heads), ('head_dim', width))
  merged = d * c.merge ** 2
  small = (2 * c.depth) ** -0.5   # keeps the residual stream's scale at start

  def linear(inputs, outputs, lead=(('layers', c.depth),), gain=1.):
    def spec(pairs, *start):
      return Spec(tuple(n for _, n in pairs), tuple(a for a, _ in pairs),
                  *start)
    fan_in = math.prod(n for _, n in inputs)
    return {'weight': spec((*lead, *inputs, *outputs), 'normal',
                           gain * fan_in ** -0.5),
            'bias': spec((*lead, *outputs), 'zeros')}

  def norm():
    return Spec((c.depth, d), ('layers', 'norm'), 'ones')

  return {
      'patch': Spec((c.patch_values, d), ('patch', 'vision_embed'),
                    scale=c.patch_values ** -0.5),
      'blocks': {
          'qkv': linear([embed], [('qkv', 3), *heads]),
          'out': linear(heads, [embed], gain=small),
          'gate': linear([embed], [mlp]),
          'up': linear([embed], [mlp]),
          'down': linear([mlp], [embed], gain=small),
          'norm1': norm(),
          'norm2': norm(),
      },
      'merger': {
          'norm': Spec((d,), ('norm',), 'ones'),
          'hidden': linear([('vision_merged', merged)],
                           [('vision_mlp', merged)], lead=()),
          'out': linear([('vision_mlp', merged)], [('embed', c.out)], lead=()),
      },
  }


def normalise(c: Config, values):
  """Raw patch values 0..255 [..., patch_values] to the checkpoint's scale.

  Channels are innermost, as `types.Patches` has them.
  """
  pixels = c.patch_values // 3
  mean, std = (jnp.tile(jnp.array(x), pixels) for x in (MEAN, STD))
  return (values.astype(jnp.float32) / 255 - mean) / std


def patch_weight(c: Config, weight):
  """The patch embedding [patch_values, D] in the order of `types.Patches`.

  The checkpoint's is channel, frame, row, column.
  """
  split = weight.reshape(3, c.temporal, c.patch, c.patch, -1)
  return split.transpose(1, 2, 3, 0, 4).reshape(weight.shape)


def encode(params, c: Config, patches: types.Patches, dtype):
  """Soft tokens of the packed images of P prompts.

  Args:
    params: tree of `specs(c)`, in the compute dtype.
    c: sizes.
    patches: leaves with a leading P; see `types.Patches`. `values` may be
      floating, and the result is differentiable in them.
    dtype: compute dtype.

  Returns:
    [P, U, out]; rows of padding hold finite values that nothing uses.
  """
  p, n = patches.window.shape
  times = decoder.product(c.pin)
  cos, sin = rope.planar(patches.coords, c.hidden // c.heads)
  x = times(normalise(c, patches.values).astype(dtype),
            patch_weight(c, params['patch']))
  # In the shape [prompts, rows, queries, keys] that `attend` takes.
  window = patches.window.reshape(p, n // c.row, c.row)
  windowed = (window[..., :, None] == window[..., None, :]) & (
      window > 0)[..., None, :]

  def within_windows(q, k, v):
    split = (p, n // c.row, c.row, *q.shape[-2:])
    out = attention.attend(q.reshape(split), [attention.Segment(
        k.reshape(split), v.reshape(split), windowed)])
    return out.reshape(q.shape)

  def within_images(q, k, v):
    return c.rows(q, k, v, patches.image > 0, segments=patches.image,
                  ordered=False)

  def block(x, scanned):
    w, full = scanned
    x = c.pin(x, 1)
    y = decoder.rms_norm(x, w['norm1'], EPS)
    # One by one: the three as one product cannot stay split by heads.
    q, k, v = (times(y, w['qkv']['weight'][:, i]) + w['qkv']['bias'][i]
               for i in range(3))
    q, k = rope.rotate(q, cos, sin), rope.rotate(k, cos, sin)
    q, k, v = (remat.mark(y, 'query_key_value') for y in (q, k, v))
    y = jax.lax.cond(full, within_images, within_windows, q, k, v)
    y = remat.mark(y, 'attention')
    x = x + times(y, w['out']['weight'], inputs=2) + w['out']['bias']
    x = remat.mark(c.pin(x, 1), 'mlp_input')
    y = decoder.rms_norm(x, w['norm2'], EPS)
    gate, up = (times(y, w[m]['weight']) + w[m]['bias']
                for m in ('gate', 'up'))
    y = jax.nn.silu(gate) * up
    return x + times(y, w['down']['weight']) + w['down']['bias'], None

  full = jnp.array([i in c.full_blocks for i in range(c.depth)])
  body = remat.wrap(block, c.remat)
  x, _ = jax.lax.scan(body, x, (params['blocks'], full))
  w = params['merger']
  x = decoder.rms_norm(c.pin(x, 1), w['norm'], EPS)
  x = c.pin.split(x.reshape(p, n // c.merge ** 2, -1), 1)
  x = jax.nn.gelu(times(x, w['hidden']['weight']) + w['hidden']['bias'],
                  approximate=False)
  x = times(c.pin.split(x, 1), w['out']['weight']) + w['out']['bias']
  return c.pin.split(x, 1)
