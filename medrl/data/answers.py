"""Cells to answers of each type that `types.Record` knows, save options.

What is no answer of its type is `Unusable`, with the cell in its text. Which
option is right is read by `medrl.data.gold`.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

from medrl import types
from medrl.data import encodings
from medrl.rewards.parse import dates
from medrl.rewards.parse import quantity

_POLAR = {
    'yes': ('yes', 'true', '是', '是的', '对', '正确'),
    'no': ('no', 'false', '否', '不是', '不对', '错', '错误'),
    'maybe': ('maybe',)}
# CheXpert's four states of a finding: 1, 0, -1 and blank, which is not 0.
_STATES = {1.: 'positive', 0.: 'negative', -1.: 'uncertain'}
OPTION_TYPES = ('choice', 'choices', 'ordinal')


def polar(value: Any) -> str:
  """'yes', 'no' or 'maybe' for a cell that is such a word, else ''."""
  text = encodings.plain(str(value))
  return next((name for name, words in _POLAR.items() if text in words), '')


def typed(value: Any, kind: str, *, order: str = 'mdy', separator: str = ';',
          unit: str = '') -> Any:
  """A cell as an answer of a type.

  'N/A' is kept as the answer of a question that has none, of all types but
  text.

  Args:
    value: a cell that is not empty.
    kind: an answer type that is none of `OPTION_TYPES`.
    order: 'mdy' or 'dmy', of a date in numbers.
    separator: between labels that stand in one text.
    unit: of a quantity or dimensions.

  Raises:
    Unusable: the cell is no such answer.
  """
  if isinstance(value, str):
    value = encodings.bounded(value.strip())
  if value == types.UNANSWERABLE and kind != 'text':
    return value
  reader = _READERS.get(kind)
  if kind == 'date':
    found = _date(value, order)
  elif kind == 'labels':
    found = _labels(value, separator)
  elif kind in ('quantity', 'dimensions'):
    found = _measured(value, kind, unit)
  elif reader:
    found = reader(value)
  else:
    raise ValueError(f'answer type {kind!r} has no reader here')
  if found is None:
    raise encodings.Unusable('answer not of its type',
                             f'{encodings.short(value)} as {kind}')
  return found


def states(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
  """Findings of columns with 1, 0, -1 and blanks (Irvin et al. 2019).

  Raises:
    Unusable: a cell is none of these.
  """
  found = {}
  for name in names:
    cell = row.get(name)
    if encodings.absent(cell):
      found[name] = 'not mentioned'
      continue
    found[name] = _STATES.get(_float(cell), '')
    if not found[name]:
      raise encodings.Unusable(
          'answer not of its type', f'{name} is {encodings.short(cell)}; '
          f'expected 1, 0, -1 or a blank')
  return found


def _float(value: Any) -> float | None:
  if isinstance(value, bool) or not isinstance(value, (int, float, str)):
    return None
  try:
    number = float(value)
  except (ValueError, OverflowError):
    return None
  return number if math.isfinite(number) else None


def _int(value: Any) -> int | None:
  number = _float(value)
  return int(number) if number is not None and number.is_integer() else None


def _yesno(value: Any) -> str | None:
  word = polar(value)
  return word if word in ('yes', 'no') else None


def _date(value: Any, order: str) -> str | None:
  found = dates.date(str(value), order)
  return found.value if found else None


def _duration(value: Any) -> tuple[int, int] | None:
  if isinstance(value, (list, tuple)):
    parts = [_int(part) for part in value]
    whole = len(parts) == 2 and all(p is not None and p >= 0 for p in parts)
    return tuple(parts) if whole else None
  found = dates.duration(str(value))
  return found.value if found else None


def _measured(value: Any, kind: str, unit: str) -> Any:
  if not unit:
    raise encodings.Unusable('no unit', f'for a {kind}')
  if isinstance(value, str):
    try:
      found = getattr(quantity, kind)(value, unit)
    except ValueError as error:
      raise encodings.Unusable('unit unknown', str(error)) from None
    value = found.value if found else None
  if kind == 'quantity' or value is None:
    return _float(value)
  return _numbers(value) or None


def _labels(value: Any, separator: str) -> list[str] | None:
  parts = value.split(separator) if isinstance(value, str) else value
  if not isinstance(parts, (list, tuple)) or not all(
      isinstance(part, str) for part in parts):
    return None
  return [part.strip() for part in parts if part.strip()]


def _states(value: Any) -> dict[str, str] | None:
  if isinstance(value, str):
    value = encodings.parsed(value)
  good = isinstance(value, Mapping) and all(
      state in types.STATES for state in value.values())
  return dict(value) if good else None


def _numbers(value: Any) -> list[float] | None:
  if not isinstance(value, (list, tuple)):
    return None
  numbers = [_float(part) for part in value]
  return None if None in numbers else numbers


def _box(value: Any) -> list[float] | None:
  if isinstance(value, str):
    value = encodings.parsed(value)
  box = _numbers(value)
  good = box and len(box) == 4 and box[0] < box[2] and box[1] < box[3]
  return box if good else None


def _boxes(value: Any) -> list[list[float]] | None:
  if isinstance(value, str):
    value = encodings.parsed(value)
  if not isinstance(value, (list, tuple)):
    return None
  boxes = [_box(part) for part in value]
  return None if None in boxes else boxes


def _text(value: Any) -> str | None:
  good = isinstance(value, (str, int, float)) and not isinstance(value, bool)
  return str(value).strip() if good else None


_READERS: dict[str, Callable[[Any], Any]] = {
    'yesno': _yesno, 'yesnomaybe': lambda value: polar(value) or None,
    'int': _int, 'float': _float, 'interval': _float, 'duration': _duration,
    'states': _states, 'box': _box, 'boxes': _boxes, 'text': _text}
