"""Rules about points (x, y) in pixels, such as landmarks, and their reward.

`array.match` has the same over arrays. No point type of answer is assumed: the
right points stand in `meta['points']` of a record.
"""

from collections.abc import Sequence
import math
import re

from medrl import types
from medrl.rewards import box
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

Point = Sequence[float]

METRICS = ('success', 'linear')
UNITS = ('mm', 'px')
MAX_POINTS = 1000   # bounds the matching
SLACK = 1e-9   # (3, 4) times 0.1 mm is 0.5 mm away, and not 0.5000000000000001

# No image has this many pixels a side, and beyond it digits are lost.
_MAX_COORDINATE = 1e6
_COORDINATE = re.compile(
    r'[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?', re.ASCII)
_INNERMOST = {'[': re.compile(r'\[([^\[\]]*)\]'),
              '(': re.compile(r'\(([^()]*)\)')}


def read(content: str) -> spans.Parsed | None:
  """Returns all points ((x, y), ..) in their order; '[]' is no point.

  Written as '[12, 34]', '[[12, 34], [5, 6]]', '{"point_2d": [12, 34]}' or,
  where there is no square bracket, '(12, 34), (5, 6)'. Every innermost bracket
  must hold two finite numbers: to drop a bad point would move the others up.
  More than `MAX_POINTS` are unparsed.
  """
  content = spans.fold(content)
  opening = '[' if '[' in content else '('
  closing = ')' if opening == '(' else ']'
  count = content.count(opening)
  if not count or content.count(closing) != count:
    return None
  found = [_numbers(inside)
           for inside in _INNERMOST[opening].findall(content)
           if inside.strip()]
  if len(found) > MAX_POINTS or None in found or (
      not found and ''.join(content.split()) != '[]'):
    return None
  span = content.index(opening), content.rindex(closing) + 1
  return spans.Parsed(tuple(found), span, 'points')


def _numbers(inside: str) -> tuple[float, float] | None:
  parts = [part.strip() for part in inside.split(',', 2)]
  if len(parts) != 2 or not all(
      len(p) <= spans.MAX_DIGITS and _COORDINATE.fullmatch(p) for p in parts):
    return None
  x, y = (float(p) for p in parts)
  return None if max(abs(x), abs(y)) > _MAX_COORDINATE else (x, y)


def error(a: Point, b: Point, spacing: Point = (1.0, 1.0)) -> float:
  """Returns the radial error, the Euclidean distance of two points.

  Args:
    a: point in pixels.
    b: point in pixels.
    spacing: mm a pixel, across and down; (1, 1) leaves it in pixels.
  """
  return math.hypot((a[0] - b[0]) * spacing[0], (a[1] - b[1]) * spacing[1])


def mean_radial_error(predicted: Sequence[Point], gold: Sequence[Point],
                      spacing: Point = (1.0, 1.0)) -> float:
  """Returns the mean `error` of the i-th point against the i-th.

  Raises:
    ValueError: there are none, or not as many of each.
  """
  if not gold or len(predicted) != len(gold):
    raise ValueError(f'{len(predicted)} points for {len(gold)}; a mean radial '
                     'error needs as many, and one at least')
  return sum(error(p, g, spacing)
             for p, g in zip(predicted, gold)) / len(gold)


def near(distance: float, threshold: float, metric: str = 'success') -> float:
  """Returns what a radial error is worth, in [0, 1].

  'success' is 1 up to the threshold, included, and 0 beyond it: their mean is
  the success detection rate of the cephalometric challenges (2, 2.5, 3 and
  4 mm; Wang et al. 2016, doi 10.1016/j.media.2016.02.004). 'linear' falls from
  1 at no error to 0 at the threshold.

  Raises:
    ValueError: the metric is unknown.
  """
  if metric not in METRICS:
    raise ValueError(f'metric {metric!r}: expected one of {METRICS}')
  if metric == 'success':
    return float(distance <= threshold * (1 + SLACK))
  return max(1.0 - distance / threshold, 0.0)


def agreement(predicted: Sequence[Point], gold: Sequence[Point],
              spacing: Point = (1.0, 1.0), *, threshold: float = 2.0,
              metric: str = 'success', ordered: bool = True) -> float:
  """Returns the sum of `near` over the larger count, in [0, 1].

  Ordered points are compared one by one from the first, others by the best
  one-to-one matching. Two empty lists agree: 1.0; one empty: 0.0. Points on a
  grid do not pay, as each one in excess counts.

  Raises:
    ValueError: the metric is unknown.
  """
  def pair(p: Point, g: Point) -> float:
    return near(error(p, g, spacing), threshold, metric)

  if not ordered or not predicted or not gold:
    return box.matched(predicted, gold, pair)
  return (sum(pair(p, g) for p, g in zip(predicted, gold))
          / max(len(predicted), len(gold)))


def spacing(record: types.Record) -> tuple[float, float]:
  """Returns `meta['spacing']` as mm a pixel, across and down.

  Raises:
    ValueError: it is missing, or neither a number above 0 nor two.
  """
  found = record.meta.get('spacing')
  pair = (found, found) if isinstance(found, (int, float)) else found
  if pair is None or len(pair) != 2 or not all(
      math.isfinite(v) and v > 0 for v in pair):
    raise ValueError(f'record {record.id!r}: meta has spacing {found!r}; '
                     "unit 'mm' needs meta['spacing'] in mm a pixel, a number "
                     "or (across, down); unit 'px' needs none")
  return tuple(pair)


@lift.per_completion
def score(record: types.Record, text: str, *, threshold: float = 2.0,
          unit: str = 'mm', metric: str = 'success', ordered: bool = True,
          frame: str = 'pixel') -> float | None:
  """Rewards one point or several by `agreement`, in [0, 1].

  As a reward, called with (record, completions, context).

  Args:
    record: `meta['points']` is a list of the right (x, y) in pixels of the
      first image; `meta['spacing']` serves unit 'mm'.
    text: a completion; unparsed unless its answer block holds points.
    threshold: distance in `unit`, above 0.
    unit: 'mm' or 'px'.
    metric: see `near`.
    ordered: whether the i-th point is meant to be the i-th.
    frame: in which the completion's points are written; see `box.scale`.

  Raises:
    ValueError: the record lacks points, spacing or size, or an option does not
      fit.
  """
  if unit not in UNITS or metric not in METRICS or not threshold > 0:
    raise ValueError(f'unit {unit!r}, metric {metric!r}, threshold '
                     f'{threshold!r}: expected one of {UNITS}, one of '
                     f'{METRICS}, and a number above 0')
  gold = record.meta.get('points')
  if gold is None or any(len(point) != 2 for point in gold):
    raise ValueError(f"record {record.id!r}: meta has points {gold!r}; "
                     "points.score needs meta['points'] = [[x, y], ..]")
  step = spacing(record) if unit == 'mm' else (1.0, 1.0)
  across, down = box.scale(record, frame)
  block = blocks.answer(text)
  found = block and read(block.value)
  if found is None:
    return None
  said = [(x * across, y * down) for x, y in found.value]
  return agreement(said, gold, step, threshold=threshold, metric=metric,
                   ordered=ordered)
