"""Patches and windows against transformers, stills and clips."""

import dataclasses

import numpy as np
from PIL import Image
import pytest
import torch
from transformers import vision_utils
from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as hf

from medrl import types
from medrl.processors import qwen_patches

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711])


def noise(height, width, seed=0):
  draw = np.random.default_rng(seed)
  return draw.integers(0, 256, (height, width, 3), np.uint8)


def test_smart_resize_equals_transformers(layout):
  draw = np.random.default_rng(0)
  sizes = np.exp(draw.uniform(0, np.log(6000), (2000, 2))).astype(int)
  for height, width in sizes.tolist():
    least, most = draw.choice([3136, 50_000, 10 ** 6, 4 * 10 ** 6], 2)
    own = dataclasses.replace(layout, min_pixels=int(min(least, most)),
                              max_pixels=int(max(least, most)))
    try:
      want = hf.smart_resize(height, width, 28, own.min_pixels, own.max_pixels)
    except ValueError:
      with pytest.raises(ValueError, match=f'{height} x {width}'):
        qwen_patches.smart_resize(height, width, own)
      continue
    assert qwen_patches.smart_resize(height, width, own) == want


@pytest.mark.parametrize('picture', [
    *[Image.fromarray(noise(*size)) for size in (
        (8, 8), (27, 29), (28, 28), (112, 113), (600, 480), (1300, 2000),
        (10, 1999), (3000, 16))],
    Image.fromarray(noise(300, 200)[..., 0]),
    Image.fromarray(np.dstack([noise(90, 70), np.full((90, 70, 1), 255, 'u1')]))
], ids=lambda p: f'{p.mode}-{p.height}x{p.width}')
def test_patchify_equals_transformers(picture, layout):
  want = hf.Qwen2VLImageProcessorPil(
      size={'shortest_edge': layout.min_pixels,
            'longest_edge': layout.max_pixels})(picture, return_tensors='np')
  values, grid = qwen_patches.patchify(np.asarray(picture.convert('RGB')),
                                       layout)
  assert grid == tuple(want['image_grid_thw'][0])
  raw = want['pixel_values'].reshape(len(values), 3, -1)
  raw = (raw * CLIP_STD[:, None] + CLIP_MEAN[:, None]) * 255
  # The published patch repeats a still in both frames; `pack` does.
  raw = raw.reshape(-1, 3, 2, 14 * 14).transpose(0, 2, 3, 1)
  assert values.shape == (len(raw), 1, 588)
  assert np.abs(values - raw.reshape(len(raw), 2, 588)).max() < 1e-3


def random_images(draw, count):
  images = []
  for _ in range(count):
    rows, columns = (2 * draw.integers(1, 14, 2)).tolist()
    shape = rows * columns, draw.choice([1, 2]), 588
    images.append((draw.integers(0, 256, shape, np.uint8), (1, rows, columns)))
  return images


def both(values):
  return np.repeat(values, 2 // values.shape[1], axis=1).reshape(
      len(values), -1)


@pytest.mark.parametrize('seed', range(30))
def test_pack_equals_transformers_windows(seed, layout):
  draw = np.random.default_rng(seed)
  images = random_images(draw, draw.integers(1, 5))
  units = sum(len(values) for values, _ in images) // 4
  slots = np.sort(draw.choice(5 * units, units, replace=False))
  got = qwen_patches.pack(images, layout, slots, 5 * units)
  own = got.window > 0
  assert len(own) <= 2 * 4 * units + 64 and len(own) % 64 == 0
  for leaf in (got.values.reshape(len(own), -1), got.coords, got.window,
               got.image):
    assert not leaf[~own].any() and len(leaf) == len(own)
  np.testing.assert_array_equal(own, got.image > 0)

  # Each unit once: sorted by slot, all is in the order of transformers.
  order = np.argsort(got.slot, kind='stable')
  np.testing.assert_array_equal(got.slot[order][:units], slots)
  assert (got.slot[order][units:] == 5 * units).all()
  patch = (order[:units, None] * 4 + np.arange(4)).ravel()
  frames = max(v.shape[1] for v, _ in images)   # one where all are stills
  np.testing.assert_array_equal(both(got.values[patch]),
                                np.concatenate([both(v) for v, _ in images]))
  assert got.values.shape[1:] == (frames, 588)
  grids = torch.tensor([grid for _, grid in images])
  np.testing.assert_array_equal(
      got.coords[patch], vision_utils.get_vision_position_ids(grids, 2))
  sizes = [len(values) for values, _ in images]
  np.testing.assert_array_equal(
      got.image[patch], np.repeat(np.arange(len(images)) + 1, sizes))

  # The windows are the same sets of units, and each lies in one row.
  index, edges = vision_utils.get_vision_window_index(grids, 2, 112, 14)
  want = {frozenset(index[a // 4:b // 4].tolist())
          for a, b in zip(edges, edges[1:])}
  window = got.window[patch][::4]
  assert (got.window[patch].reshape(-1, 4) == window[:, None]).all()
  assert want == {frozenset(np.flatnonzero(window == w).tolist())
                  for w in set(window.tolist())}
  for w in set(window.tolist()):
    places = np.flatnonzero(got.window == w)
    assert len(set((places // 64).tolist())) == 1
    assert (np.diff(places) == 1).all()
    assert (np.diff(got.slot[places[::4] // 4]) > 0).all()


def test_pack_fills_a_row_with_two_half_windows(layout):
  images = [(np.ones((4 * 24, 1, 588), np.uint8), (1, 8, 12))] * 2
  got = qwen_patches.pack(images, layout, range(48), 48)
  assert len(got.window) == 3 * 64 and (got.window > 0).all()


def test_pack_refuses(layout):
  values, grid = qwen_patches.patchify(noise(56, 56), layout)
  with pytest.raises(ValueError, match='3 slots for 4 units'):
    qwen_patches.pack([(values, grid)], layout, range(3), 9)
  with pytest.raises(ValueError, match='not made of 2 x 2 units'):
    qwen_patches.pack([(values, (1, 3, 4))], layout, range(4), 9)
  odd = dataclasses.replace(layout, window=70)
  with pytest.raises(ValueError, match='not a multiple'):
    qwen_patches.pack([(values, grid)], odd, range(4), 9)


@pytest.mark.parametrize('count', [1, 2, 5])
def test_a_clip_is_cut_as_published(count, layout):
  """The reshape and the transpose of transformers' video processor."""
  frames = np.stack([noise(60, 90, seed) for seed in range(count)])
  times = np.arange(count) / 3
  values, grid, ticks = qwen_patches.patchify_clip(
      types.Clip(frames, times), layout)
  h, w = qwen_patches.smart_resize(60, 90, layout)
  sized = np.stack([np.asarray(Image.fromarray(f).resize((w, h), Image.BICUBIC))
                    for f in (*frames, *frames[-1:].repeat(count % 2, 0))])
  down, across = h // 28, w // 28
  assert grid == (-(-count // 2), 2 * down, 2 * across)
  want = sized.transpose(0, 3, 1, 2).reshape(
      grid[0], 2, 3, down, 2, 14, across, 2, 14)
  want = want.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
  # Ours with channels innermost.
  want = want.reshape(len(values), 3, 2 * 196).swapaxes(1, 2)
  np.testing.assert_array_equal(both(values), want.reshape(len(values), -1))
  # Two positions a second: frames 0, 2, 4 are at 0, 2/3 and 4/3 s.
  assert ticks.tolist() == [0, 1, 2][:grid[0]]


def test_frames_that_are_alike_are_a_still(layout):
  still, _ = qwen_patches.patchify(noise(56, 84), layout)
  clip = types.Clip(np.stack([noise(56, 84)] * 2), np.array([0., .5]))
  values, grid, _ = qwen_patches.patchify_clip(clip, layout)
  np.testing.assert_array_equal(both(values), both(still))
  assert grid == (1, 4, 6)


def test_a_clip_without_frames_or_times(layout):
  frames = np.zeros((2, 28, 28, 3), np.uint8)
  for clip in types.Clip(frames[:0], np.zeros(0)), types.Clip(frames, [0.]):
    with pytest.raises(ValueError, match='one time each'):
      qwen_patches.patchify_clip(clip, layout)
