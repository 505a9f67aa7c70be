"""Rules about boxes (x1, y1, x2, y2) in pixels; oracle of `array.box`.

Does not read text: see `parse.box`. A box without area overlaps nothing.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize

Box = Sequence[float]


def _area(b: Box) -> float:
  return max(b[2] - b[0], 0.0) * max(b[3] - b[1], 0.0)


def _overlap(a: Box, b: Box) -> float:
  return _area((max(a[0], b[0]), max(a[1], b[1]),
                min(a[2], b[2]), min(a[3], b[3])))


def iou(a: Box, b: Box) -> float:
  """Returns intersection over union, in [0, 1]; 0 if either has no area."""
  if not (_area(a) > 0 and _area(b) > 0):
    return 0.0
  shared = _overlap(a, b)
  return shared / (_area(a) + _area(b) - shared)


def giou(a: Box, b: Box) -> float:
  """Returns the generalised IoU, in (-1, 1]; 0 if either has no area.

  IoU - (|C| - |a or b|) / |C|, where C is the smallest box around both
  (arXiv 1902.09630, algorithm 1).
  """
  if not (_area(a) > 0 and _area(b) > 0):
    return 0.0
  union = _area(a) + _area(b) - _overlap(a, b)
  hull = _area((min(a[0], b[0]), min(a[1], b[1]),
                max(a[2], b[2]), max(a[3], b[3])))
  return iou(a, b) - (hull - union) / hull


def matched(predicted: Sequence[Box], gold: Sequence[Box],
            pair: Callable[[Box, Box], float]) -> float:
  """Returns the best one-to-one sum of `pair` over the larger of the counts.

  The matching is optimal (Hungarian). Dividing by the larger count makes both
  missed and invented boxes cost. Two empty lists agree: 1.0; one empty: 0.0.

  Args:
    predicted: boxes that were read.
    gold: the right boxes.
    pair: similarity of two boxes, in [0, 1].
  """
  if not predicted or not gold:
    return float(not predicted and not gold)
  value = np.array([[pair(p, g) for g in gold] for p in predicted])
  rows, columns = optimize.linear_sum_assignment(value, maximize=True)
  return float(value[rows, columns].sum()) / max(len(predicted), len(gold))
