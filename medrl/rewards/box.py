"""Rules about boxes (x1, y1, x2, y2) in pixels, and rewards made of them.

`array.box` and `array.match` are the same over arrays. How boxes are read is
not decided here: see `parse.boxes`. A box without area overlaps nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import optimize

from medrl import types
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import boxes as parser
from medrl.rewards.parse import spans

Box = Sequence[float]

COUNTS = ('max', 'mean')
MAX_BOXES = 1000   # bounds the matching; more than that are unparsed


def _area(b: Box) -> float:
  return max(b[2] - b[0], 0.0) * max(b[3] - b[1], 0.0)


def _real(a: Box, b: Box) -> bool:
  return _area(a) > 0 and _area(b) > 0


def _overlap(a: Box, b: Box) -> float:
  return _area((max(a[0], b[0]), max(a[1], b[1]),
                min(a[2], b[2]), min(a[3], b[3])))


def _hull(a: Box, b: Box) -> Box:
  return (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


def iou(a: Box, b: Box) -> float:
  """Returns intersection over union, in [0, 1]; 0 if either has no area."""
  if not _real(a, b):
    return 0.0
  shared = _overlap(a, b)
  return shared / (_area(a) + _area(b) - shared)


def giou(a: Box, b: Box) -> float:
  """Returns the generalised IoU, in (-1, 1]; 0 if either has no area.

  IoU - (|C| - |a or b|) / |C|, where C is the smallest box around both
  (arXiv 1902.09630, algorithm 1).
  """
  if not _real(a, b):
    return 0.0
  union = _area(a) + _area(b) - _overlap(a, b)
  hull = _area(_hull(a, b))
  return iou(a, b) - (hull - union) / hull


def diou(a: Box, b: Box) -> float:
  """Returns the distance IoU, in (-1, 1]; 0 if either has no area.

  IoU - d^2 / c^2, where d is the distance of the centres and c the diagonal of
  the smallest box around both (arXiv 1911.08287, equation 7).
  """
  if not _real(a, b):
    return 0.0
  hull = _hull(a, b)
  apart = sum((a[i] + a[i + 2] - b[i] - b[i + 2]) ** 2 for i in (0, 1)) / 4
  return iou(a, b) - apart / sum((hull[i + 2] - hull[i]) ** 2 for i in (0, 1))


def centre_hit(a: Box, b: Box) -> float:
  """Returns 1.0 iff the centre of `a` lies in `b`, sides included.

  0 if either has no area. The size of `a` does not count.
  """
  x, y = (a[0] + a[2]) / 2, (a[1] + a[3]) / 2
  inside = b[0] <= x <= b[2] and b[1] <= y <= b[3]
  return float(inside and _real(a, b))


def unit_giou(a: Box, b: Box) -> float:
  """Returns (1 + GIoU) / 2, in [0, 1]; 0 if either has no area."""
  return (1.0 + giou(a, b)) / 2.0 if _real(a, b) else 0.0


def unit_diou(a: Box, b: Box) -> float:
  """Returns (1 + DIoU) / 2, in [0, 1]; 0 if either has no area."""
  return (1.0 + diou(a, b)) / 2.0 if _real(a, b) else 0.0


# As rewards, all from 0 to 1: below 0 no answer would beat a bad one.
PAIRS: dict[str, Callable[[Box, Box], float]] = {
    'iou': iou, 'giou': unit_giou, 'diou': unit_diou, 'centre': centre_hit}


def pair(metric: str, threshold: float = 0.0) -> Callable[[Any, Any], float]:
  """Returns the similarity of a predicted and a right box, in [0, 1].

  Args:
    metric: 'iou', 'centre', or 'giou' and 'diou' as (1 + value) / 2; by these
      two the whole image earns 1/2 and more of anything within it.
    threshold: the least value that earns 1, all below earning 0 (accuracy at a
      threshold); 0 for the value itself.

  Raises:
    ValueError: the metric is unknown.
  """
  if metric not in PAIRS:
    raise ValueError(f'metric {metric!r}: expected one of {list(PAIRS)}')
  rule = PAIRS[metric]
  if not threshold:
    return rule
  return lambda a, b: float(rule(a, b) >= threshold)


def matched(predicted: Sequence[Any], gold: Sequence[Any],
            pair: Callable[[Any, Any], float], over: str = 'max',
            penalty: float = 0.0) -> float:
  """Returns the best one-to-one sum of `pair` over the count, in [0, 1].

  The matching is optimal (Hungarian). Dividing by the larger count makes both
  missed and invented boxes cost. Two empty lists agree: 1.0; one empty: 0.0.

  Args:
    predicted: boxes that were read, or anything else that `pair` takes.
    gold: the right ones.
    pair: similarity of two of them, in [0, 1].
    over: 'max' divides by the larger count; 'mean' by the mean of both, which
      is the F1 of detection where `pair` has a threshold. It is of the best
      matching; MedRegA's (arXiv 2410.18387) is of that of the highest IoU.
    penalty: taken off for each box missing or in excess, down to 0.

  Raises:
    ValueError: `over` is unknown.
  """
  _check(over)
  if not predicted or not gold:
    return float(not predicted and not gold)
  value = np.array([[pair(p, g) for g in gold] for p in predicted])
  rows, columns = optimize.linear_sum_assignment(value, maximize=True)
  counts = len(predicted), len(gold)
  count = max(counts) if over == 'max' else sum(counts) / 2
  found = float(value[rows, columns].sum()) / count
  return max(found - penalty * abs(counts[0] - counts[1]), 0.0)


def _check(over: str):
  if over not in COUNTS:
    raise ValueError(f'over {over!r}: expected one of {COUNTS}')


def labelled(
    pair: Callable[[Box, Box], float]) -> Callable[[Any, Any], float]:
  """Returns `pair` for (label, box); boxes with different labels share 0."""
  return lambda a, b: pair(a[1], b[1]) if a[0] == b[0] else 0.0


def size(record: types.Record) -> tuple[float, float]:
  """Returns `meta['width']` and `meta['height']` of the image in pixels.

  Raises:
    ValueError: they are missing or not above 0.
  """
  found = record.meta.get('width', 0), record.meta.get('height', 0)
  if min(found) <= 0:
    raise ValueError(
        f'record {record.id!r}: meta has width and height {found!r}; a frame '
        "other than 'pixel', or to clamp, needs meta['width'] and "
        "meta['height'] of the first image in pixels")
  return found


def scale(record: types.Record, frame: str) -> tuple[float, float]:
  """Returns how many pixels a step of `frame` is, across and down.

  Args:
    record: holds the image's size, see `size`; not needed for 'pixel'.
    frame: 'pixel', 'unit' (0 to 1), '999', '1000' or '224'; the image's width
      and height have this number as their length.

  Raises:
    ValueError: the frame is unknown, or the record has no size.
  """
  if frame == 'pixel':
    return 1.0, 1.0
  if frame not in parser.FRAMES:
    raise ValueError(f'frame {frame!r}: expected one of {list(parser.FRAMES)}')
  width, height = size(record)
  return width / parser.FRAMES[frame], height / parser.FRAMES[frame]


def _gold(record: types.Record) -> list[tuple[str, Box]]:
  """Returns (label, box) of the right boxes, '' where they have no labels."""
  if record.answer_type not in ('box', 'boxes') or record.answer is None:
    raise ValueError(f'record {record.id!r}: answer {record.answer!r} of type '
                     f'{record.answer_type!r}; box.score needs a box or boxes')
  if record.answer == types.UNANSWERABLE:
    return []
  if record.answer_type == 'box':
    return [('', record.answer)]
  labels = record.meta.get('labels', [''] * len(record.answer))
  if len(labels) != len(record.answer):
    raise ValueError(f"record {record.id!r}: meta['labels'] has {len(labels)} "
                     f'names for {len(record.answer)} boxes; expected one each')
  return [(spans.normalise(label), b)
          for label, b in zip(labels, record.answer)]


def _read(content: str, record: types.Record,
          frame: str) -> list[tuple[str, Box]] | None:
  """Returns (label, box) of the boxes said, in pixels, as `_gold` does."""
  image = None if frame == 'pixel' else size(record)
  if record.answer_type == 'box':
    found = parser.box(content, frame, size=image)
    return found and [('', found.value)]
  if 'labels' in record.meta:
    found = parser.labelled(content, frame, image)
    return found and [(spans.normalise(name), b) for name, b in found.value]
  found = parser.boxes(content, frame, image)
  return found and [('', b) for b in found.value]


@lift.per_completion
def score(record: types.Record, text: str, *, metric: str = 'iou',
          threshold: float = 0.0, over: str = 'max', penalty: float = 0.0,
          frame: str = 'pixel', clamp: bool = False) -> float | None:
  """Rewards one box, or many by `matched`, in [0, 1].

  Boxes of a record with `meta['labels']`, a name for each, must be named too,
  and only those of one name are matched. MedMO's r_box (arXiv 2602.06965;
  proposed, the paper's own was not found) is metric 'giou', frame '1000' and
  clamp, but that reversed corners are unparsed here and not sorted. As a
  reward, called with (record, completions, context).

  Args:
    record: answer type box or boxes.
    text: a completion; unparsed unless its answer block holds boxes.
    metric: see `pair`.
    threshold: see `pair`.
    over: see `matched`.
    penalty: see `matched`.
    frame: in which the completion's boxes are written; see `scale`.
    clamp: cuts them at the sides of the image first.

  Raises:
    ValueError: the record's answer is no box or is hidden, its size is needed
      and missing, or an option is unknown.
  """
  # What raises does so for every text, not only for those with boxes.
  _check(over)
  rule = labelled(pair(metric, threshold))
  scale(record, frame)
  limits = 2 * size(record) if clamp else ()
  gold = _gold(record)
  block = blocks.answer(text)
  said = block and _read(block.value, record, frame)
  if said is None or len(said) > MAX_BOXES:
    return None
  if record.answer == types.UNANSWERABLE:
    return 0.0
  if clamp:
    said = [(name, [min(max(v, 0.0), limit) for v, limit in zip(b, limits)])
            for name, b in said]
  return matched(said, gold, rule, over, penalty)
