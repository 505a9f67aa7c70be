"""Rules about binary masks of an image, and the reward made of them.

Masks are bool [height, width]; they are written as COCO run lengths or as
polygons. The right mask stands in `meta['mask']` of the record and nowhere
else is one looked for: not in the completion, its signals, the context or the
images. Files are not read here.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any

import numpy as np

from medrl import types
from medrl.rewards import box
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import structured

METRICS = ('dice', 'iou')
# Bound the work that one answer can ask for; outlines need far less.
MAX_VERTICES = 2000
MAX_COVER = 16
MAX_COORDINATE = 1e6


def iou(a: np.ndarray, b: np.ndarray) -> float:
  """Returns |both| / |either|, in [0, 1]; two empty masks agree: 1.

  MedPLIB (of the MeCoVQA benchmark) counts two empty ones as 0.

  Raises:
    ValueError: the shapes differ.
  """
  both, sum_ = _counts(a, b)
  return both / (sum_ - both) if sum_ else 1.0


def dice(a: np.ndarray, b: np.ndarray) -> float:
  """Returns 2 |both| / (|a| + |b|), in [0, 1]; two empty masks agree: 1.

  Raises:
    ValueError: the shapes differ.
  """
  both, sum_ = _counts(a, b)
  return 2.0 * both / sum_ if sum_ else 1.0


def _counts(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
  if a.shape != b.shape:
    raise ValueError(f'masks of shapes {a.shape} and {b.shape}; expected one '
                     'shape')
  a, b = a.astype(bool, copy=False), b.astype(bool, copy=False)
  return (int(np.count_nonzero(a & b)),
          int(np.count_nonzero(a)) + int(np.count_nonzero(b)))


def from_runs(runs: Sequence[int], shape: tuple[int, int]) -> np.ndarray | None:
  """Returns the mask of COCO's uncompressed run lengths, or None.

  Args:
    runs: lengths of runs of 0 and of 1 in turn, down the columns, from 0.
    shape: (height, width); None is returned where the runs do not fill it.
  """
  area = shape[0] * shape[1]
  if not all(type(run) is int and 0 <= run <= area for run in runs):
    return None
  if sum(runs) != area:
    return None
  values = np.arange(len(runs)) % 2 == 1
  flat = np.repeat(values, np.array(runs, np.int64))
  return flat.reshape(shape[1], shape[0]).T


def to_runs(mask: np.ndarray) -> list[int]:
  """Returns the COCO run lengths of a bool mask [height, width]."""
  flat = np.asarray(mask, bool).T.ravel()
  edges = np.flatnonzero(np.diff(flat)) + 1
  first = [0] if flat.size and flat[0] else []
  return first + np.diff([0, *edges, flat.size]).tolist()


def unpacked(text: str) -> list[int] | None:
  """Returns the run lengths in COCO's compressed string, or None.

  A character is 48 plus six bits: five of the number, least first, and one
  that says it goes on. From the fourth on, runs are differences to the run
  two before.
  """
  runs, value, shift = [], 0, 0
  for character in text:
    bits = ord(character) - 48
    if not 0 <= bits < 64 or shift > 60:
      return None
    value |= (bits & 31) << shift
    shift += 5
    if bits & 32:
      continue
    if bits & 16:
      value -= 1 << shift
    runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    value, shift = 0, 0
  return None if shift else runs


def from_polygons(polygons: Sequence[Any], shape: tuple[int, int],
                  step: tuple[float, float] = (1.0, 1.0)) -> np.ndarray | None:
  """Returns the pixels whose centres lie inside any polygon, or None.

  A pixel's centre is at its place plus 1/2, a polygon's inside is by the
  even-odd rule, and what lies outside the image is cut. COCO's own rasteriser
  rounds outlines, so it may differ in pixels that touch one.

  Args:
    polygons: each [x1, y1, x2, y2, ..] or [[x1, y1], ..]; None is returned
      unless all have three finite corners or more, `MAX_VERTICES` at most
      together, and their extents cover the image at most `MAX_COVER` times.
    shape: (height, width).
    step: pixels across and down that 1 in a polygon is.
  """
  outlines = [_outline(polygon) for polygon in polygons]
  if any(o is None for o in outlines) or (
      sum(len(o) for o in outlines) > MAX_VERTICES):
    return None
  outlines = [o * step for o in outlines]
  extents = [_extent(o, shape) for o in outlines]
  if sum((bottom - top) * (right - left) for left, top, right, bottom
         in extents) > MAX_COVER * shape[0] * shape[1]:
    return None
  mask = np.zeros(shape, bool)
  for outline, (left, top, right, bottom) in zip(outlines, extents):
    mask[top:bottom, left:right] |= _inside(
        outline - (left, top), (bottom - top, right - left))
  return mask


def _extent(outline: np.ndarray,
            shape: tuple[int, int]) -> tuple[int, int, int, int]:
  """Returns left, top, right and bottom in whole pixels of the image."""
  limits = shape[::-1]
  low = np.clip(np.floor(outline.min(0)), 0, limits).astype(int)
  high = np.clip(np.ceil(outline.max(0)), 0, limits).astype(int)
  return (*low.tolist(), *high.tolist())


def _outline(polygon: Any) -> np.ndarray | None:
  """Returns the corners [n, 2], or None."""
  if not isinstance(polygon, (list, tuple)):
    return None
  if polygon and isinstance(polygon[0], (list, tuple)):
    if not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in polygon):
      return None
    polygon = [value for point in polygon for value in point]
  if len(polygon) < 6 or len(polygon) % 2 or not all(
      type(v) in (int, float) and abs(v) <= MAX_COORDINATE
      for v in polygon):
    return None
  return np.array(polygon, float).reshape(-1, 2)


def _inside(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """Returns the even-odd interior: a crossed side flips all to its right."""
  height, width = shape
  flips = np.zeros((height, width + 1), bool)
  for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, axis=0)):
    low, high = min(y1, y2), max(y1, y2)
    # Rows with low <= centre < high: a corner is crossed once, by one side.
    first, last = math.ceil(low - 0.5), math.ceil(high - 0.5)
    rows = np.arange(max(first, 0), min(last, height))
    if not rows.size:
      continue
    at = x1 + (rows + 0.5 - y1) * ((x2 - x1) / (y2 - y1))
    column = np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)
    flips[rows, column] ^= True  # a side crosses a row once
  return np.logical_xor.accumulate(flips, axis=1)[:, :width]


def decoded(value: Any, shape: tuple[int, int],
            step: tuple[float, float] = (1.0, 1.0)) -> np.ndarray | None:
  """Returns the mask that a JSON value writes for an image, or None.

  Args:
    value: {'counts': run lengths or COCO's string, 'size': [height, width]},
      where a size must be the image's; a list of polygons, or one polygon.
      [] is the empty mask.
    shape: (height, width) of the image. It is never taken from `value`, by
      which a writer could ask for any amount of memory.
    step: pixels across and down that 1 in a polygon is.
  """
  if isinstance(value, Mapping):
    size, runs = value.get('size', shape), value.get('counts')
    if not isinstance(size, (list, tuple)) or list(size) != list(shape):
      return None
    if isinstance(runs, bytes):
      runs = runs.decode('latin-1')
    runs = unpacked(runs) if isinstance(runs, str) else runs
    return from_runs(runs, shape) if isinstance(runs, (list, tuple)) else None
  if not isinstance(value, (list, tuple)):
    return None
  if value and not all(isinstance(v, (list, tuple)) and len(v) != 2
                       for v in value):
    value = [value]  # [x1, y1, ..] or [[x1, y1], ..]: one polygon
  return from_polygons(value, shape, step)


def gold(record: types.Record) -> np.ndarray:
  """Returns the right mask, `meta['mask']` as `decoded` reads it.

  Raises:
    ValueError: the record has no mask or size, or they do not fit.
  """
  width, height = (int(v) for v in box.size(record))
  mask = decoded(record.meta.get('mask'), (height, width))
  if mask is None:
    raise ValueError(
        f"record {record.id!r}: meta['mask'] cannot be read for {width} x "
        f"{height} pixels; masks.score needs {{'counts': ..}} or polygons of "
        f'at most {MAX_VERTICES} corners')
  return mask


@lift.per_completion
def score(record: types.Record, text: str, *, metric: str = 'dice',
          steps: Sequence[tuple[float, float]] = (),
          frame: str = 'pixel') -> float | None:
  """Rewards a mask, in [0, 1], or with 0 or a value of `steps`.

  The answer block holds JSON as `decoded` takes it; anything else is unparsed.
  As a reward, called with (record, completions, context).

  Args:
    record: `meta['mask']`, `meta['width']` and `meta['height']`; see `gold`.
    text: a completion.
    metric: 'dice' or 'iou'.
    steps: (above, value) pairs in any order; of those whose `above` the metric
      exceeds, the one with the greatest `above` is paid, or 0 without one.
      Ophiuchus (arXiv 2512.14157) pays ((0.5, 1), (0.7, 2), (0.8, 3)) by IoU.
      () pays the metric itself. A value below 0 makes the range reach below 0,
      and then an unparsed answer, which earns 0, beats such a mask.
    frame: in which polygons are written; see `box.scale`.

  Raises:
    ValueError: the record has no mask or size, or an option is unknown.
  """
  if metric not in METRICS:
    raise ValueError(f'metric {metric!r}: expected one of {METRICS}')
  right, step = gold(record), box.scale(record, frame)
  block = blocks.answer(text)
  said = block and decoded(_json(block.value), right.shape, step)
  if said is None:
    return None
  value = (dice if metric == 'dice' else iou)(said, right)
  if not steps:
    return value
  reached = [tuple(pair) for pair in steps if value > pair[0]]
  return max(reached)[1] if reached else 0.0


def _json(content: str) -> Any:
  """Returns the strict JSON value, fenced or not, or None."""
  bare = content.strip().removeprefix('```json').removeprefix('```')
  try:
    return structured.strict(bare.removesuffix('```').strip())
  except ValueError:
    return None
