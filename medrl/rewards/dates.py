"""Rules about calendar dates and about durations in weeks and days.

How they are read is not decided here: see `parse.dates`.
"""

from collections.abc import Sequence
import datetime

from medrl import types
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import dates


def apart(value: str, target: str) -> int:
  """Returns how many days two dates 'YYYY-MM-DD' are apart, 0 or more.

  Raises:
    ValueError: one of them is not such a date.
  """
  first, second = map(datetime.date.fromisoformat, (value, target))
  return abs((first - second).days)


def total_days(duration: Sequence[int]) -> int:
  """Returns the days of (weeks, days), so that 1 week 7 days is 2 weeks."""
  weeks, days = duration
  return 7 * weeks + days


@lift.per_completion
def score(record: types.Record, text: str, *, days: int = 0,
          order: str = 'mdy') -> float | None:
  """Rewards a date or a duration: 1.0 if at most `days` off, else 0.0.

  As a reward, called with (record, completions, context).

  Args:
    record: of answer type date ('YYYY-MM-DD') or duration ((weeks, days)).
    text: a completion; unparsed unless its answer block holds one of that kind.
    days: how far off still counts; 0 is MedCalc-Bench's rule.
    order: how '03/04/2020' is read, 'mdy' or 'dmy'.

  Raises:
    ValueError: the record has another answer type, or its answer is hidden.
  """
  if record.answer_type not in ('date', 'duration') or record.answer is None:
    raise ValueError(
        f'record {record.id!r}: answer {record.answer!r} of type '
        f'{record.answer_type!r}; dates.score needs a date or a duration')
  block = blocks.answer(text)
  if block is None:
    return None
  calendar = record.answer_type == 'date'
  found = (dates.date(block.value, order) if calendar
           else dates.duration(block.value))
  if found is None:
    return None
  if record.answer == types.UNANSWERABLE:
    return 0.0
  far = (apart(found.value, record.answer) if calendar
         else abs(total_days(found.value) - total_days(record.answer)))
  return float(far <= days)
