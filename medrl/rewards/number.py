"""Rules about one number, and rewards made of them.

`array.interval` is the same over arrays. How a number is read is not decided
here: see `parse.number` and `parse.quantity`.
"""

from collections.abc import Mapping, Sequence
import math

from medrl import types
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import number as numbers
from medrl.rewards.parse import quantity
from medrl.rewards.parse import spans

# Lets '0.315' pass as 0.3 with rel 0.05, though the floats differ by 1.3e-17
# more than allowed; it is also the meaning of equality without a tolerance.
SLACK = 1e-9


def read(record: types.Record, content: str) -> spans.Parsed | None:
  """Returns the one number of an answer, in the record's unit if it has one."""
  if record.unit:
    return quantity.quantity(content, record.unit)
  return numbers.number(content)


def within(value: float, target: float,
           tolerance: Mapping[str, float]) -> float:
  """Returns 1.0 iff |value - target| <= max(rel |target|, abs), ends included.

  Args:
    value: a finite or non-finite number; the latter is never within.
    target: the right number.
    tolerance: 'rel' (a share of the target) and 'abs' (in the target's unit);
      both absent means equal to a relative 1e-9.
  """
  if not (math.isfinite(value) and math.isfinite(target)):
    return 0.0
  limit = max(tolerance.get('rel', 0.0) * abs(target),
              tolerance.get('abs', 0.0))
  return float(abs(value - target) <= limit + SLACK * abs(target))


def inside(value: float, low: float, high: float) -> float:
  """Returns 1.0 iff low <= value <= high, ends included; never for NaN.

  The ends give way by a relative 1e-9, as printed limits are rounded.
  """
  if not math.isfinite(value):
    return 0.0
  return float(low - SLACK * abs(low) <= value <= high + SLACK * abs(high))


def rounded(value: float, target: float) -> float:
  """Returns 1.0 iff `value` rounds to the whole number `target`.

  A half goes to the even neighbour, as `round` in MedCalc-Bench's own grader
  has it: 2.5 is 2, and 3.5 is 4.
  """
  if not math.isfinite(value):
    return 0.0
  return float(round(value) == target)


def all_within(values: Sequence[float], targets: Sequence[float],
               tolerance: Mapping[str, float]) -> float:
  """Returns 1.0 iff there are as many values as targets, each `within`.

  Both are sorted first: '3 x 2 cm' and '2 x 3 cm' are one size.
  """
  if len(values) != len(targets):
    return 0.0
  return float(all(within(v, t, tolerance)
                   for v, t in zip(sorted(values), sorted(targets))))


@lift.per_completion
def score(record: types.Record, text: str, *, rel: float = 0.0,
          abs_: float = 0.0, whole: bool = False) -> float | None:
  """Rewards a number: 1.0 or 0.0.

  Right is what lies in `meta['limits']` (answer type interval), and otherwise
  what is within the wider of the record's tolerance and the one given here.
  As a reward, called with (record, completions, context).

  Args:
    record: its answer is a number, in `record.unit` if there is one. No
      number is right where it is `types.UNANSWERABLE`.
    text: a completion; unparsed unless its answer block holds one number.
    rel: tolerance as a share of the answer.
    abs_: tolerance in the answer's unit.
    whole: the number read is first rounded to a whole one, by `round`.

  Raises:
    ValueError: the record's answer is no number.
  """
  target = record.answer
  known = target != types.UNANSWERABLE
  if known and (isinstance(target, bool)
                or not isinstance(target, (int, float))):
    raise ValueError(f'record {record.id!r}: answer {target!r} is no number; '
                     'give number.score records with numbers for answers')
  block = blocks.answer(text)
  found = block and read(record, block.value)
  if found is None:
    return None
  if not known:
    return 0.0
  value = round(found.value) if whole else found.value
  if record.answer_type == 'interval':
    return inside(value, *record.meta['limits'])
  return within(value, target, {
      'rel': max(rel, record.tolerance.get('rel', 0.0)),
      'abs': max(abs_, record.tolerance.get('abs', 0.0))})
