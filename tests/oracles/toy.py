"""Small models without torch, prompts with images, and plain scoring.

`plain` shares no prompt and uses no cache: it is what the faster paths must
equal. Nothing here is compared; the tests do that.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medrl import types
from medrl.models import decoder
from medrl.models import qwen2_5_vl
from medrl.models import vit_qwen
from medrl.processors import qwen_patches
from medrl.processors import qwen_vl

VOCAB, START, END, IMAGE, VIDEO = 200, 3, 4, 5, 6
LAYOUT = types.Layout(14, 2, 2, 112, 28 * 28, 10 ** 7, {})
CONFIG = qwen2_5_vl.Config(
    decoder.Config(32, 2, 4, 2, 48, VOCAB, False, 1e4, (1, 1, 2)),
    vit_qwen.Config(2, 16, 2, 24, 32, (1,)))


class Prompt(NamedTuple):
  """Ids of one prompt, and patches and grids of its images and clips.

  A clip has a grid of several patches in time, which are a tick apart.
  """
  ids: np.ndarray
  images: list[tuple[np.ndarray, qwen_vl.Grid]]


def params(seed: int, config=CONFIG):
  """Random values for every parameter, norms and biases too."""
  rng = np.random.default_rng(seed)
  def leaf(spec):
    mean = float(spec.init == 'ones')
    std = spec.scale if spec.init == 'normal' else 0.3
    return rng.normal(mean, std, spec.shape).astype(np.float32)
  tree = jax.tree.map(leaf, qwen2_5_vl.specs(config))
  tree['embed'] *= 10  # else the words would drown in the layers' biases
  return tree


def prompt(seed: int, sizes=(), words: int = 4) -> Prompt:
  """Random ids around random images of the `sizes` (height, width)."""
  rng = np.random.default_rng(seed)
  text = lambda: list(rng.integers(10, VOCAB, words))
  ids, images = text(), []
  for size in sizes:
    patches = qwen_patches.patchify(
        rng.integers(0, 256, (*size, 3), dtype=np.uint8), LAYOUT)
    images.append(patches)
    ids += [START, *[IMAGE] * (len(patches[0]) // 4), END, *text()]
  return Prompt(np.array(ids, np.int32), images)


def clip_prompt(seed: int, frames: int, size) -> Prompt:
  """Random ids around a random image and a random clip of one size."""
  rng = np.random.default_rng(seed)
  before = prompt(seed, [size])
  clip = types.Clip(rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8),
                    np.arange(frames) / 4)
  values, grid, _ = qwen_patches.patchify_clip(clip, LAYOUT)
  ids = [*before.ids, START, *[VIDEO] * (len(values) // 4), END,
         *rng.integers(10, VOCAB, 5)]
  return Prompt(np.array(ids, np.int32), [*before.images, (values, grid)])


def padded(x, length: int, value=0):
  """`x` with its first axis filled up to `length`."""
  widths = [(0, length - len(x))] + [(0, 0)] * (np.ndim(x) - 1)
  return np.pad(x, widths, constant_values=value)


def batch(prompts: list[Prompt]) -> types.Batch:
  """Our inputs: padded at the right to the longest, media to the largest."""
  length = max(len(p.ids) for p in prompts)
  soft = [IMAGE, VIDEO]
  packed = [qwen_patches.pack(p.images, LAYOUT,
                              np.flatnonzero(np.isin(p.ids, soft)), length)
            for p in prompts if p.images]
  media = {}
  if packed:
    room = max(len(p.window) for p in packed)
    nothing = types.Patches(*(x[:0] for x in packed[0]))
    rest = iter(packed)
    rows = [next(rest) if p.images else nothing for p in prompts]
    rows = [row._replace(values=np.broadcast_to(
        row.values, (len(row.values), 2, 588)).reshape(-1, 1176))
            for row in rows]
    media['image'] = types.Patches(*(
        np.stack([padded(getattr(row, name), room // 4 if name == 'slot'
                          else room, length if name == 'slot' else 0)
                  for row in rows]) for name in types.Patches._fields))
  where = [qwen_vl.positions(p.ids, [g for _, g in p.images], soft, 2,
                             [np.arange(g[0]) for _, g in p.images])
           for p in prompts]
  return types.Batch(
      np.stack([padded(p.ids, length) for p in prompts]),
      np.stack([padded(x, length) for x in where]),
      np.stack([padded(np.ones(len(p.ids), bool), length) for p in prompts]),
      media)


def prefill(params, config, batch: types.Batch):
  """Hidden states [P, S, D] and the cache of the prompts."""
  soft = qwen2_5_vl.encode(params, config, batch.media)
  hidden, cache, _ = qwen2_5_vl.forward(
      params, config, batch.ids[:, None], batch.positions[:, None],
      batch.mask[:, None], soft=soft)
  return hidden[:, 0], cache


def log_softmax(params, config, hidden, banned=(), normalised=True):
  """Log-probs (or logits) [..., V] that `hidden` [..., D] gives."""
  logits = hidden @ qwen2_5_vl.head(params, config)
  if banned:
    logits = logits.at[..., jnp.array(banned)].set(-jnp.inf)
  return jax.nn.log_softmax(logits) if normalised else logits


def plain(params, config, rollout: types.Rollout, banned=(), normalised=True):
  """Log-probs [P, G, T, V] before each token, by one long sequence a member.

  Every member repeats its prompt and images, and there is no cache.
  """
  with jax.default_matmul_precision('highest'):
    p, g, t = rollout.tokens.shape
    each = lambda x: jnp.repeat(x, g, axis=0)
    flat = lambda x: x.reshape(p * g, *x.shape[2:])
    prompt = jax.tree.map(each, rollout.prompt)
    join = lambda a, b: jnp.concatenate([a, flat(b)], axis=1)
    mask = join(prompt.mask, rollout.token_mask)
    length = prompt.ids.shape[1]
    # The slot of padding is the length, which is now a longer one.
    media = {name: m._replace(slot=jnp.where(m.slot < length, m.slot,
                                             length + t))
             for name, m in prompt.media.items()}
    hidden, _ = prefill(params, config, types.Batch(
        join(prompt.ids, rollout.tokens),
        join(prompt.positions, rollout.positions), mask, media))
    # A token follows the last one before it that is there.
    place = jnp.where(mask, jnp.arange(mask.shape[1]), 0)
    before = jax.lax.cummax(place, axis=1)[:, length - 1:-1]
    hidden = jnp.take_along_axis(hidden, before[..., None], axis=1)
    return log_softmax(params, config, hidden, banned, normalised).reshape(
        p, g, t, -1)


def shared(params, config, rollout: types.Rollout):
  """Log-probs [P, G, T, V] before each token, the prompt encoded once.

  Completions have no holes: pads only at the right.
  """
  with jax.default_matmul_precision('highest'):
    hidden, cache = prefill(params, config, rollout.prompt)
    mask = rollout.prompt.mask
    last = jnp.max(jnp.where(mask, jnp.arange(mask.shape[1]), 0), axis=1)
    first = jnp.take_along_axis(hidden, last[:, None, None], axis=1)
    own, _, _ = qwen2_5_vl.forward(
        params, config, rollout.tokens, rollout.positions, rollout.token_mask,
        cache=cache)
    first = jnp.broadcast_to(first[:, None], own[:, :, :1].shape)
    hidden = jnp.concatenate([first, own[:, :, :-1]], axis=2)
    return log_softmax(params, config, hidden)


def chosen(logps, tokens, mask):
  """Of each token, from [..., V]; 0 where the mask is False."""
  picked = jnp.take_along_axis(logps, tokens[..., None], axis=-1)[..., 0]
  return jnp.where(mask, picked, 0.)


def rollout(batch: types.Batch, tokens, mask) -> types.Rollout:
  """Given tokens [P, G, T] after the prompts, as a rollout."""
  reach = np.where(batch.mask[..., None], batch.positions, -1).max((1, 2))
  count = np.maximum(np.cumsum(mask, axis=-1) - 1, 0)
  positions = np.repeat((reach[:, None, None] + 1 + count)[..., None], 3, -1)
  zeros = np.zeros(tokens.shape, np.float32)
  return types.Rollout(batch, tokens, mask, mask, positions.astype(np.int32),
                       zeros, zeros, zeros, np.ones(tokens.shape[:2], bool),
                       mask.sum(-1), np.ones(len(tokens), np.float32),
                       zeros[..., None][..., :0])
