"""Records and images to the inputs of Qwen2.5-VL, and sampled ids to text.

Pixels stay uint8: the model normalises them. Images are packed by attention
window, so that the device permutes nothing. Videos are not handled, and nothing
is padded or cut to a bucket here.
"""

from collections.abc import Sequence
import math

import numpy as np
from PIL import Image

from medrl import types
from medrl.processors import template
from medrl.processors import text as text_lib

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
    uint8 [n, 3 * temporal * patch * patch] with the patches of a unit as
    neighbours and units in raster order, and the grid (1, rows, columns) in
    patches. The still image fills all `temporal` frames.

  Raises:
    ValueError: not a uint8 [h, w, 3], or see `smart_resize`.
  """
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(f'an image is {image.dtype} {list(image.shape)}; expected '
                     f'uint8 [h, w, 3]')
  patch, merge = layout.patch, layout.merge
  h, w = smart_resize(*image.shape[:2], layout)
  resized = np.asarray(Image.fromarray(image).resize(
      (w, h), Image.Resampling.BICUBIC))
  rows, columns = h // patch, w // patch
  cut = resized.reshape(rows // merge, merge, patch,
                        columns // merge, merge, patch, 3)
  cut = cut.transpose(0, 3, 1, 4, 6, 2, 5)  # unit, patch in it, channel, pixel
  cut = cut.reshape(rows * columns, 3, 1, patch * patch)
  values = np.repeat(cut, layout.temporal, axis=2)
  return values.reshape(rows * columns, -1), (1, rows, columns)


def _units(grid: Grid, merge: int) -> tuple[int, int]:
  """Soft tokens down and across; refuses what is not one whole frame."""
  t, rows, columns = grid
  if t != 1:
    raise ValueError(f'grid {grid} has {t} temporal patches; only still images '
                     f'(1) are supported, so pass a video as frames')
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


def pack(images: Sequence[tuple[np.ndarray, Grid]], layout: types.Layout,
         slots: Sequence[int], length: int) -> types.Patches:
  """Packs the images of a prompt by attention window; see `types.Patches`.

  Args:
    images: at least one `patchify` result, in prompt order.
    layout: of the family.
    slots: int [u], the place in the prompt of each unit: images in order, units
      of an image in raster order.
    length: S, the slot that padding gets.

  Raises:
    ValueError: a video, a layout whose window is not made of units, or slots
      that do not match the units.
  """
  merge = layout.merge
  if layout.window % (layout.patch * merge):
    raise ValueError(f'window {layout.window} is not a multiple of patch * '
                     f'merge = {layout.patch * merge}')
  side = layout.window // layout.patch // merge
  window, image, corner = [], [], []
  for number, (_, grid) in enumerate(images, start=1):
    down, across = _units(grid, merge)
    first = window[-1].max() + 1 if window else 0
    window.append(_windows(down, across, side) + first)
    image.append(np.full(down * across, number))
    corner.append(np.indices((down, across)).reshape(2, -1).T * merge)
  window, image, corner = map(np.concatenate, (window, image, corner))
  if len(slots) != len(window):
    raise ValueError(f'{len(slots)} slots for {len(window)} units of '
                     f'{len(images)} images')
  unit = _place(window, side ** 2)
  pad = unit < 0
  in_unit = np.indices((merge, merge)).reshape(2, -1).T
  values = np.concatenate([v for v, _ in images])
  values = values.reshape(len(window), merge ** 2, -1)[unit]
  values[pad] = 0
  spread = lambda of_unit: np.repeat(
      np.where(pad, 0, of_unit[unit]), merge ** 2).astype(np.int32)
  coords = np.where(pad[:, None, None], 0, corner[unit][:, None] + in_unit)
  return types.Patches(
      values=values.reshape(-1, values.shape[-1]),
      coords=coords.reshape(-1, 2).astype(np.int32),
      window=spread(window + 1),
      image=spread(image),
      slot=np.where(pad, length, np.asarray(slots)[unit]).astype(np.int32))


def positions(ids: Sequence[int], grids: Sequence[Grid], image_pad: int,
              merge: int) -> np.ndarray:
  """Multimodal rotary positions (Wang et al. 2024, Qwen2-VL, section 2.1).

  Text counts up by one in all three axes; an image's soft tokens share the time
  at which it begins and count rows and columns from there; text goes on after
  the larger of its sides.

  Args:
    ids: of the prompt, [S].
    grids: of its images in order, in patches.
    image_pad: the id that stands for a soft token.
    merge: patches a side of a soft token.

  Returns:
    int32 [S, 3]: temporal, row, column.

  Raises:
    ValueError: the image tokens do not match the grids.
  """
  ids = np.asarray(ids)
  pads = np.flatnonzero(ids == image_pad)
  units = [_units(grid, merge) for grid in grids]
  needed = sum(down * across for down, across in units)
  if len(pads) != needed:
    raise ValueError(f'{len(pads)} image tokens in the prompt; its '
                     f'{len(grids)} images need {needed}')
  # A text token advances by 1. An image advances by its longer side, all of it
  # counted at its last token.
  advance = (ids != image_pad).astype(np.int32)
  offset = np.zeros((len(ids), 3), np.int32)
  done = 0
  for down, across in units:
    own = pads[done:done + down * across]
    offset[own, 1:] = np.indices((down, across)).reshape(2, -1).T
    advance[own[-1]] = max(down, across)
    done += down * across
  return offset + (np.cumsum(advance) - advance)[:, None].astype(np.int32)


def _tokenise(parts: Sequence[tuple[str, bool]], grids: Sequence[Grid],
              tokenizer: text_lib.Tokenizer,
              layout: types.Layout) -> np.ndarray:
  """Ids of the segments, each image token repeated as its image needs."""
  pad = tokenizer.id(layout.specials['image_pad'])
  ids = [i for text, markup in parts
         for i in tokenizer.encode(text, specials=markup)]
  if ids.count(pad) != len(grids):
    raise ValueError(f'the prompt has {ids.count(pad)} image tokens for '
                     f'{len(grids)} images; is one in the system turn?')
  counts = iter([math.prod(_units(grid, layout.merge)) for grid in grids])
  repeats = [next(counts) if i == pad else 1 for i in ids]
  return np.repeat(np.array(ids, np.int32), repeats)


def encode(record: types.Record, images: Sequence[np.ndarray],
           tokenizer: text_lib.Tokenizer, layout: types.Layout,
           prompt: template.Prompt) -> types.Example:
  """Renders, tokenises and packs one record; media are never cut.

  Args:
    record: to be asked.
    images: uint8 [h, w, 3] each, in the record's order.
    tokenizer: of the checkpoint.
    layout: of the family.
    prompt: what is said around the record.

  Returns:
    An Example whose `media` has 'image' when there are images.

  Raises:
    ValueError: an image or text that cannot be encoded, with the record's id.
  """
  try:
    patches = [patchify(image, layout) for image in images]
    grids = [grid for _, grid in patches]
    parts = template.segments(record, len(images), prompt)
    ids = _tokenise(parts, grids, tokenizer, layout)
    pad = tokenizer.id(layout.specials['image_pad'])
    media = {}
    if patches:
      slots = np.flatnonzero(ids == pad)
      media['image'] = pack(patches, layout, slots, len(ids))
    target = []
    if record.demonstration:
      target = [*tokenizer.encode(record.demonstration),
                tokenizer.id(layout.specials['im_end'])]
  except ValueError as error:
    raise ValueError(f'record {record.id!r}: {error}') from error
  return types.Example(
      record=record, ids=ids, media=media,
      positions=positions(ids, grids, pad, layout.merge),
      target=np.array(target, np.int32),
      prompt=''.join(text for text, _ in parts))


def decode(ids: Sequence[int], tokenizer: text_lib.Tokenizer,
           stop_ids: Sequence[int]) -> types.Completion:
  """A completion from sampled ids, cut before the first stop id."""
  ids = [int(i) for i in ids]
  end = next((n for n, i in enumerate(ids) if i in stop_ids), len(ids))
  finish = 'stop' if end < len(ids) else 'length'
  text, spans = tokenizer.spans(ids[:end])
  return types.Completion(text=text, ids=tuple(ids[:end]), spans=tuple(spans),
                          finish=finish)


def bucket_need(example: types.Example,
                layout: types.Layout) -> tuple[int, int]:
  """The prompt length S and the patches N that a bucket must hold."""
  del layout  # asked for by families whose patches are packed per batch
  patches = example.media['image'].window if 'image' in example.media else ()
  return len(example.ids), len(patches)
