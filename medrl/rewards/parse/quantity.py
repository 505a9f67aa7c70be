"""Reads numbers with units, in the unit that the question asks for.

Which units there are and how they convert is the affair of `units`.
"""

import itertools
import re
from typing import NamedTuple

from medrl.rewards.parse import number as numbers
from medrl.rewards.parse import spans
from medrl.rewards.parse import units

_TIMES = re.compile(r'(?<=[0-9\smM米])[xX*](?=\s?[0-9.])')
_JOINED = re.compile(r'\s*(?:[-–—~x×*±/]|\+/?-|to|by|至|到)\s*')
_AND = re.compile(r'\s*(?:and\s*)?')
# The only units that add up when one follows another: '5 ft 3 in'.
_SUMS = (('foot', 'inch'), ('pound', 'ounce'), ('year', 'month'),
         ('month', 'day'), ('week', 'day'), ('day', 'hour'), ('hour', 'minute'),
         ('minute', 'second'))


class _Measure(NamedTuple):
  """A number with its unit, None where none is written, and their range."""
  value: float
  unit: units.Unit | None
  start: int
  end: int
  bound: str


def quantity(content: str, unit: str,
             which: str = 'only') -> spans.Parsed | None:
  """Returns the one distinct quantity in `content`, as a float in `unit`.

  '2 cm' is 20 in 'mm'; without a unit a number is taken in the one asked for
  (how = 'bare', else 'unit'), but not beside numbers that have one. '5 ft 3 in'
  is one quantity. Another dimension, a word that is no unit, a bound, a range,
  a size ('3 x 2 cm') and two values are unparsed.

  Args:
    content: of an answer block.
    unit: 'mm', 'mg/dL', '10^9/L', ..; see `units`.
    which: 'only', or the 'first' or 'last' of several.

  Raises:
    ValueError: `unit` or `which` is unknown.
    ImportError: a conversion is needed and pint is not installed.
  """
  wanted = units.parse(unit)
  text = spans.plain(content)
  found = _measures(text, wanted)
  # '10 ± 1 cm' is no 10 mm said twice, nor is '20-2 cm'.
  if (not found or any(m.bound for m in found)
      or len({m.unit is None for m in found}) > 1
      or any(_JOINED.fullmatch(text, a.end, b.start)
             for a, b in itertools.pairwise(found))):
    return None
  return spans.pick([spans.Parsed(value, (m.start, m.end),
                                  'unit' if m.unit else 'bare')
                     for m, value in _sums(text, found, wanted)], which)


def interval(content: str, unit: str) -> spans.Parsed | None:
  """Returns (low, high) in `unit` of the one interval in `content`.

  As `number.interval`; a unit behind the second number counts for both. Raises
  as `quantity` does.
  """
  wanted = units.parse(unit)
  text = spans.plain(content)
  found = _measures(text, wanted)
  if not found or len(found) > 2:
    return None
  last = found[-1].unit or wanted
  return numbers.between(
      [numbers.Numeral(units.convert(m.value, m.unit or last, wanted), m.start,
                       m.end, 'number', m.bound) for m in found], text)


def dimensions(content: str, unit: str) -> spans.Parsed | None:
  """Returns the sides of the one size in `content`, in `unit`, descending.

  One to three positive floats. '3 x 2 cm', '30x13 mm', '3 cm by 20 mm'; a unit
  counts for the sides before it that have none. Raises as `quantity` does.
  """
  wanted = units.parse(unit)
  text = _TIMES.sub('×', spans.plain(content))
  found = _measures(text, wanted)
  if not found or any(m.bound or m.value <= 0 for m in found):
    return None
  groups = [[found[0]]]
  for before, measure in itertools.pairwise(found):
    gap = text[before.end:measure.start].strip().lower()
    if gap in ('×', 'by'):
      groups[-1].append(measure)
    else:
      groups.append([measure])
  sizes = []
  for group in groups:
    sides = _sides(group, wanted)
    if sides is None:
      return None
    sizes.append(spans.Parsed(sides, (group[0].start, group[-1].end), 'size'))
  return spans.pick(sizes, 'only')


def _sides(group: list[_Measure],
           wanted: units.Unit) -> tuple[float, ...] | None:
  """Returns the sides of one size, sorted; None if their units are unclear."""
  if len(group) > 3 or (not group[-1].unit and any(m.unit for m in group)):
    return None
  sides, unit = [], wanted
  for measure in reversed(group):
    unit = measure.unit or unit
    sides.append(units.convert(measure.value, unit, wanted))
  return None if None in sides else tuple(sorted(sides, reverse=True))


def _measures(text: str, wanted: units.Unit) -> list[_Measure] | None:
  """Returns every number with its unit; None if one cannot be read."""
  found, end = [], 0
  for n in numbers.scan(text):
    if n.start < end:
      continue  # a digit of the unit before: '10^9/L'
    if n.value is None:
      return None
    unit, end = units.read(text, n.end)
    if n.how == 'percent':
      unit, end = units.parse('%'), n.end
    if unit is None and end > n.end:
      return None
    if unit and units.convert(1.0, unit, wanted) is None:
      return None
    bound = n.bound or numbers.bound(text, n.start, end)
    found.append(_Measure(float(n.value), unit, n.start, end, bound))
  return found


def _sums(text: str, found: list[_Measure],
          wanted: units.Unit) -> list[tuple[_Measure, float]]:
  """Returns measures with their values in `wanted`; '5 ft 3 in' is one."""
  out: list[tuple[_Measure, float]] = []
  for measure in found:
    value = units.convert(measure.value, measure.unit or wanted, wanted)
    if value is None:
      return []
    if out and _adds(text, out[-1][0], measure):
      before, total = out.pop()
      value += total
      measure = measure._replace(start=before.start)
    out.append((measure, value))
  return out


def _adds(text: str, a: _Measure, b: _Measure) -> bool:
  """Whether `b` is the smaller unit's part of `a`."""
  if not a.unit or not b.unit:
    return False
  names = *a.unit.powers, *b.unit.powers
  return (tuple(name for name, _ in names) in _SUMS
          and all(power == 1 for _, power in names)
          and bool(_AND.fullmatch(text, a.end, b.start)))
