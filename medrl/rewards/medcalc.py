"""MedCalc-Bench's rules: what is right depends on the calculator (its id).

The rules are those of ncbi-nlp/MedCalc-Bench, where an answer that cannot be
read is unparsed instead of wrong, and a duration may be given in days. The
values are taken from the record; nothing is computed from the note.
"""

from collections.abc import Mapping
import datetime
import re
from typing import Any

from medrl import types
from medrl.rewards import abstain
from medrl.rewards import dates
from medrl.rewards import lift
from medrl.rewards import number
from medrl.rewards.parse import blocks
from medrl.rewards.parse import dates as date_parsers
from medrl.rewards.parse import number as numbers
from medrl.rewards.parse import spans

DATES = frozenset({13, 68})
DURATIONS = frozenset({69})
# Scores: the answer rounded to a whole number is the reference.
WHOLE = frozenset({4, 15, 16, 17, 18, 20, 21, 25, 27, 28, 29, 32, 33, 36, 43,
                   45, 48, 51})
# Equations: from the record's lower limit to its upper one.
DECIMAL = frozenset({2, 3, *range(5, 12), 19, 22, 23, 24, 26, 30, 31, 38, 39,
                     40, 44, 46, 49, *range(56, 68)})


def answer_type(calculator: int) -> str:
  """Returns the answer type of a calculator's questions.

  Raises:
    ValueError: there is no calculator of this id.
  """
  for kind, ids in (('date', DATES), ('duration', DURATIONS), ('int', WHOLE),
                    ('interval', DECIMAL)):
    if calculator in ids:
      return kind
  known = sorted(DATES | DURATIONS | WHOLE | DECIMAL)
  raise ValueError(f'calculator {calculator!r}: expected one of {known}')


def fields(calculator: int | str, answer: str, low: str,
           high: str) -> dict[str, Any]:
  """Returns `answer_type`, `answer` and `meta` of a `Record` for a row.

  Args:
    calculator: its id.
    answer: as published: '25.238', '09/23/2014', "('14 weeks', '1 days')", or
      the days alone of a duration, as the corrected labels have them; 'N/A'
      where the note lacks the data.
    low: lower limit, as published; not looked at but for equations.
    high: upper limit.

  Raises:
    ValueError: the calculator is unknown, or the row does not fit it.
  """
  calculator = int(calculator)
  kind = answer_type(calculator)
  meta: dict[str, Any] = {'calculator': calculator}
  if answer == types.UNANSWERABLE:
    value = types.UNANSWERABLE
  elif kind == 'date':
    month, day, year = map(int, answer.split('/'))
    value = datetime.date(year, month, day).isoformat()
  elif kind == 'duration':
    value = _duration(answer)
  else:
    value = float(answer)
    if kind == 'int' and value.is_integer():
      value = int(value)
    elif kind == 'int':
      raise ValueError(f'answer {answer!r} of calculator {calculator}: '
                       'expected a whole number')
    else:
      meta['limits'] = (float(low), float(high))
  return {'answer_type': kind, 'answer': value, 'meta': meta}


def _duration(answer: str) -> tuple[int, int]:
  found = re.fullmatch(r"\('(\d+) weeks?', '(\d+) days?'\)", answer.strip())
  return ((int(found[1]), int(found[2])) if found
          else divmod(int(answer), 7))


@lift.per_completion
def score(record: types.Record, text: str, *,
          abstained: float = 0.0) -> float | None:
  """Rewards the answer to a MedCalc question: 1.0 or 0.0, or `abstained`.

  Dates (13, 68) are equal, month first; durations (69) have as many days;
  scores round to the reference; equations lie within the limits. Where the
  reference is 'N/A', to abstain ('N/A', 'cannot be calculated', ..) is right
  and any value is wrong. As a reward, called with (record, completions,
  context).

  Args:
    record: its answer and meta ('calculator', 'limits') are as of `fields`.
    text: a completion; unparsed unless its answer block holds one value of the
      calculator's kind, or abstains.
    abstained: what an abstention earns where there is an answer.

  Raises:
    ValueError: the record's answer is hidden, or its calculator unknown.
  """
  if record.answer is None or 'calculator' not in record.meta:
    raise ValueError(
        f'record {record.id!r}: answer {record.answer!r}, meta '
        f'{sorted(record.meta)}; medcalc.score needs both, see medcalc.fields')
  kind = answer_type(int(record.meta['calculator']))
  block = blocks.answer(text)
  if block is None:
    return None
  gone = record.answer == types.UNANSWERABLE
  if abstain.found(block.value):
    return 1.0 if gone else abstained
  found = _read(block.value, kind)
  if found is None:
    return None
  return 0.0 if gone else _right(found.value, record.answer, record.meta, kind)


def _read(content: str, kind: str) -> spans.Parsed | None:
  if kind == 'date':
    return date_parsers.date(content, 'mdy')
  if kind == 'duration':
    return date_parsers.duration(content)
  return numbers.number(content)


def _right(value: Any, target: Any, meta: Mapping[str, Any],
           kind: str) -> float:
  if kind == 'date':
    return float(value == target)
  if kind == 'duration':
    return float(dates.total_days(value) == dates.total_days(target))
  if kind == 'int':
    return number.rounded(value, target)
  return number.inside(value, *meta['limits'])
