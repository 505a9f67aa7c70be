"""Pixels to the patches of Qwen2.5-VL: resized, cut, packed by window.

Pixels stay uint8: the model normalises them. Images are packed by attention
window, so that the device permutes nothing. A clip is patches in time too:
each holds `temporal` frames and counts as an image, as attention never looks
across time in this tower. No text, and no padding to a bucket.
"""

from collections.abc import Sequence
import functools
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from medrl import types

# Of Qwen2-VL's smart_resize: beyond it a side would be a patch or two wide.
MAX_ASPECT = 200

Grid = tuple[int, int, int]  # patches in time, down, across


def smart_resize(height: int, width: int,
                 layout: types.Layout) -> tuple[int, int]:
  """The size an image is resized to (Wang et al. 2024, Qwen2-VL, section 2.1).

  Sides are rounded to multiples of `patch * merge`, then scaled so that the
  area lies in the layout's bounds (one multiple is the least side, even where
  that exceeds them).

  Raises:
    ValueError: a side of zero, or an aspect ratio above `MAX_ASPECT`.
  """
  if min(height, width) < 1:
    raise ValueError(f'an image of {height} x {width} pixels is empty')
  if max(height, width) > MAX_ASPECT * min(height, width):
    raise ValueError(f'an image of {height} x {width} pixels has a side more '
                     f'than {MAX_ASPECT} times the other; cut it beforehand')
  unit = layout.patch * layout.merge
  h, w = round(height / unit) * unit, round(width / unit) * unit
  if h * w > layout.max_pixels:
    beta = math.sqrt(height * width / layout.max_pixels)
    h = max(unit, math.floor(height / beta / unit) * unit)
    w = max(unit, math.floor(width / beta / unit) * unit)
  elif h * w < layout.min_pixels:
    beta = math.sqrt(layout.min_pixels / (height * width))
    h = math.ceil(height * beta / unit) * unit
    w = math.ceil(width * beta / unit) * unit
  return h, w


def patchify(image: np.ndarray,
             layout: types.Layout) -> tuple[np.ndarray, Grid]:
  """Resizes an image and cuts it into patches, unit by unit.

  Args:
    image: uint8 [h, w, 3].
    layout: of the family.

  Returns:
    uint8 [n, 1, patch * patch * 3] with the patches of a unit as neighbours and
    units in raster order, and the grid (1, rows, columns) in patches.

  Raises:
    ValueError: not a uint8 [h, w, 3], or see `smart_resize`.
  """
  cut, rows, columns = _cut(image, layout)
  return cut[:, None], (1, rows, columns)


def _cut(image: np.ndarray,
         layout: types.Layout) -> tuple[np.ndarray, int, int]:
  """uint8 [n, patch * patch * 3] of one frame, and its rows and columns."""
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(f'an image is {image.dtype} {list(image.shape)}; expected '
                     f'uint8 [h, w, 3]')
  patch, merge = layout.patch, layout.merge
  h, w = smart_resize(*image.shape[:2], layout)
  if (h, w) != image.shape[:2]:
    image = np.asarray(Image.fromarray(image).resize(
        (w, h), Image.Resampling.BICUBIC))
  rows, columns = h // patch, w // patch
  # A row of a patch is moved as a whole, which is five times as fast as moving
  # its bytes; so channels stay innermost, and the device orders the weight.
  pieces = np.ascontiguousarray(image).reshape(h, -1).view(f'V{3 * patch}')
  pieces = pieces.reshape(rows // merge, merge, patch, columns // merge, merge)
  pieces = np.ascontiguousarray(pieces.transpose(0, 3, 1, 4, 2))
  return pieces.view(np.uint8).reshape(rows * columns, -1), rows, columns


def patchify_clip(clip: types.Clip, layout: types.Layout
                  ) -> tuple[np.ndarray, Grid, np.ndarray]:
  """Resizes a clip's frames and cuts them into patches of `temporal` frames.

  The last frame is repeated to fill its patch, as in transformers. The bounds
  of the layout hold for each frame.

  Args:
    clip: frames uint8 [n, h, w, 3] with their times.
    layout: of the family.

  Returns:
    uint8 [n, temporal, patch * patch * 3], as of `patchify` and time before
    rows; the grid (patches in time, rows, columns); and the ticks int [patches
    in time]: `tokens_per_second` times the seconds from the first frame to the
    first of each patch, rounded down (Bai et al. 2025, Qwen2.5-VL, section
    2.1.2).

  Raises:
    ValueError: no frame, not as many times, or see `patchify`.
  """
  frames, times = np.asarray(clip.frames), np.asarray(clip.times, float)
  if not len(frames) or times.shape != frames.shape[:1]:
    raise ValueError(f'a clip has {len(frames)} frames and times '
                     f'{list(times.shape)}; expected one time each, and one or '
                     f'more frames')
  each = layout.temporal
  last = np.repeat(frames[-1:], -len(frames) % each, axis=0)
  cut = [_cut(frame, layout) for frame in (*frames, *last)]
  _, rows, columns = cut[0]
  values = np.stack([patches for patches, _, _ in cut])
  values = values.reshape(-1, each, *values.shape[1:])
  values = values.swapaxes(1, 2)   # time, patch, frame
  grid = (len(values), rows, columns)
  # A third of a second is not a binary fraction, and 0.99999 is no tick less.
  ticks = np.floor((times[::each] - times[0]) * layout.tokens_per_second + 1e-6)
  return values.reshape(-1, *values.shape[2:]), grid, ticks.astype(int)


def units(grid: Grid, merge: int) -> tuple[int, int]:
  """Soft tokens down and across, of each patch in time.

  Raises:
    ValueError: the grid is not made of whole units.
  """
  _, rows, columns = grid
  if rows % merge or columns % merge:
    raise ValueError(f'grid {grid} is not made of {merge} x {merge} units')
  return rows // merge, columns // merge


def _windows(down: int, across: int, side: int) -> np.ndarray:
  """Attention window of each unit of an image in raster order, from 0.

  Windows start at the top left and the last ones are partial, as in
  transformers' `get_vision_window_index`.
  """
  row, column = np.indices((down, across)) // side
  return (row * math.ceil(across / side) + column).ravel()


def _first_fit(sizes: np.ndarray, room: int) -> tuple[np.ndarray, int]:
  """First-fit-decreasing: the row of each window, and the number of rows.

  At most one row is half empty or more, so padding at most doubles.
  """
  rows = np.zeros(len(sizes), int)
  order = np.argsort(-sizes, kind='stable')
  full = int((sizes == room).sum())  # these fill a row each: nothing to search
  rows[order[:full]] = np.arange(full)
  left: list[int] = []
  for window in order[full:]:
    size = sizes[window]
    row = next((r for r, free in enumerate(left) if free >= size), len(left))
    if row == len(left):
      left.append(room)
    left[row] -= size
    rows[window] = full + row
  return rows, full + len(left)


def _place(window: np.ndarray, room: int) -> np.ndarray:
  """Puts whole windows into rows of `room` units.

  Args:
    window: int [u], the window of each unit, from 0 without gaps.
    room: units a row holds.

  Returns:
    int [rows * room]: the unit at each place, -1 for padding. Units of a window
    are neighbours in their own order.
  """
  rows, count = _first_fit(np.bincount(window), room)
  row = rows[window]
  order = np.lexsort((window, row))  # stable: units keep their order
  row = row[order]
  start = np.searchsorted(row, np.arange(count))
  placed = np.full(count * room, -1)
  placed[row * room + np.arange(len(row)) - start[row]] = order
  return placed


def _placed(values: Sequence[np.ndarray], unit: np.ndarray,
            merge: int) -> np.ndarray:
  """uint8 [N, frames, patch * patch * 3]: units in their places, zeros in
  padding; one frame where there are stills alone."""
  frames = max(v.shape[1] for v in values)
  values = [np.broadcast_to(v, (len(v), frames, v.shape[2])) for v in values]
  whole = np.concatenate(values) if len(values) > 1 else values[0]
  by_unit = whole.reshape(-1, merge ** 2 * whole[0].size)
  moved = np.take(by_unit, np.maximum(unit, 0), axis=0)
  moved[unit < 0] = 0
  return moved.reshape(-1, *whole.shape[1:])


def pack(images: Sequence[tuple[np.ndarray, Grid]], layout: types.Layout,
         slots: Sequence[int], length: int) -> types.Patches:
  """Packs the images of a prompt by attention window; see `types.Patches`.

  Args:
    images: at least one `patchify` result, or the values and grid of a clip, in
      prompt order.
    layout: of the family.
    slots: int [u], the place in the prompt of each unit: images in order, units
      of an image in raster order, those of a clip time by time.
    length: S, the slot that padding gets.

  Raises:
    ValueError: a layout whose window is not made of units, or slots that do not
      match the units.
  """
  merge = layout.merge
  plan = _plan(tuple(grid for _, grid in images), layout.window, layout.patch,
               merge)
  if len(slots) != plan.count:
    raise ValueError(f'{len(slots)} slots for {plan.count} units of '
                     f'{len(images)} images')
  return types.Patches(
      _placed([v for v, _ in images], plan.unit, merge), plan.coords,
      plan.window, plan.image,
      np.where(plan.unit < 0, length,
               np.asarray(slots)[plan.unit]).astype(np.int32))


class _Plan(NamedTuple):
  """Where patches go, whatever is in them; arrays as of `types.Patches`."""
  count: int            # units
  unit: np.ndarray      # the unit at each place, -1 for padding
  coords: np.ndarray
  window: np.ndarray
  image: np.ndarray


@functools.lru_cache(maxsize=256)   # images of a data set have few sizes
def _plan(grids: tuple[Grid, ...], window_side: int, patch: int,
          merge: int) -> _Plan:
  if window_side % (patch * merge):
    raise ValueError(f'window {window_side} is not a multiple of patch * '
                     f'merge = {patch * merge}')
  side = window_side // patch // merge
  window, image, corner = [], [], []
  stills = [grid for grid in grids for _ in range(grid[0])]
  for number, grid in enumerate(stills, start=1):
    down, across = units(grid, merge)
    first = window[-1].max() + 1 if window else 0
    window.append(_windows(down, across, side) + first)
    image.append(np.full(down * across, number))
    corner.append(np.indices((down, across)).reshape(2, -1).T * merge)
  window, image, corner = map(np.concatenate, (window, image, corner))
  unit = _place(window, side ** 2)
  pad = unit < 0
  in_unit = np.indices((merge, merge)).reshape(2, -1).T
  def spread(of_unit):
    return np.repeat(np.where(pad, 0, of_unit[unit]),
                     merge ** 2).astype(np.int32)
  coords = np.where(pad[:, None, None], 0, corner[unit][:, None] + in_unit)
  plan = _Plan(len(window), unit, coords.reshape(-1, 2).astype(np.int32),
               spread(window + 1), spread(image))
  for array in plan[1:]:
    array.flags.writeable = False   # it is given out again and again
  return plan
