"""Tables and visits of a patient as text: units always, blanks never.

Values are declared by `Column`s. Dates become offsets in days, so none is
written; what stands in columns of text is written as it is. Files are read
elsewhere (`tabular`), images of several studies are `studies`.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

from medrl.data import studies

KINDS = ('number', 'text', 'code', 'date', 'yesno')
STYLES = ('markdown', 'lines')
ORIGINS = ('first', 'last')
UNITLESS = 'no unit'
# More digits than a laboratory gives, fewer than the noise of a float has.
SIGNIFICANT = 6
MAX_TEXT = 200   # characters of a cell
MAX_ITEMS = 30   # of a list in a cell
# A result beyond what was measured: '<5', '>= 1000'.
_BOUND = re.compile(
    r'([<>≤≥]=?)\s{0,3}([-+]?(?:\d{1,20}\.?\d{0,20}|\.\d{1,20}))')
# A bar in a cell, with what would take back its escape.
_BAR = re.compile(r'(\\*)\|')
_YES = {True: 'yes', False: 'no'}


@dataclasses.dataclass(frozen=True)
class Column:
  """What a key of the rows holds.

    number  a number, or a bound such as '<5'; in `unit`, which is needed:
            UNITLESS where there is none (pH). From `low` to `high` is normal;
            what lies outside is marked H or L
    text    words
    code    a code of `texts` (code -> what it means), written with its meaning
    date    a date as in `studies.moment`, written as days from the origin
    yesno   True or False

  A value may also be a list of such, as are codes of a visit.
  """
  name: str
  unit: str = ''
  kind: str = 'text'
  low: float | None = None
  high: float | None = None
  texts: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.kind not in KINDS:
      raise ValueError(f'column {self.name!r} of kind {self.kind!r}; expected '
                       f'one of {", ".join(KINDS)}')
    if (self.kind == 'number') != bool(self.unit):
      raise ValueError(f'column {self.name!r} of kind {self.kind!r} with unit '
                       f'{self.unit!r}; numbers and nothing else need one, '
                       f'{UNITLESS!r} where there is none')
    limits = [v for v in (self.low, self.high) if v is not None]
    if limits and self.kind != 'number' or limits != sorted(limits):
      raise ValueError(f'column {self.name!r} of kind {self.kind!r} with '
                       f'limits {self.low}, {self.high}; expected low <= high, '
                       'of numbers only')


@dataclasses.dataclass(frozen=True)
class Visit:
  """What was recorded on a date (see `studies.moment`), by name of a column."""
  date: studies.Date = dataclasses.field(repr=False)
  values: Mapping[str, Any] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class _How:
  """How cells are written: the mark of what is missing, dates, units or not."""
  missing: str
  told: Callable[[Any], str]
  units: bool


def number(value: float) -> str:
  """A number as people write it: integers whole, else six digits at most.

  Zeros at the end go, noise of floats goes (0.1 + 0.2 is 0.3), and there is no
  exponent from 1e-9 to 1e15.

  Raises:
    ValueError: not finite.
  """
  if not math.isfinite(value):
    raise ValueError(f'number {value}: expected a finite one')
  if value == int(value) and abs(value) < 1e15:
    return str(int(value))
  size = math.floor(math.log10(abs(value)))
  if not -9 <= size < 15:
    return f'{value:.{SIGNIFICANT}g}'
  text = f'{value:.{max(SIGNIFICANT - 1 - size, 0)}f}'
  return text.rstrip('0').rstrip('.') if '.' in text else text


def render_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column],
                 *, missing: str = 'not recorded', style: str = 'markdown',
                 limit: int = 50, origin: studies.Date = '') -> str:
  """Rows as a table, in their order.

  Args:
    rows: column name -> value. What is absent, None, nan or '' is missing;
      keys without a column are left out.
    columns: in their order.
    missing: what is written for it.
    style: 'markdown', with units and normal ranges in the head; or 'lines', a
      row each, with units by the values and the ranges in a line before them.
    limit: of rows; the others are counted in a last line.
    origin: the date from which offsets of columns of dates are told.

  Raises:
    ValueError: an unknown style, no columns, an empty `missing`, a value that
      is not of its column's kind, or dates without an origin.
  """
  if style not in STYLES or not columns or not missing.strip() or limit < 0:
    raise ValueError(
        f'style {style!r}, {len(columns)} columns, missing {missing!r}, limit '
        f'{limit}; expected one of {", ".join(STYLES)}, one column or more, a '
        'word, and 0 or more')
  start = studies.moment(origin)
  if start is None and any(column.kind == 'date' for column in columns):
    raise ValueError('a column of dates, of which only days from an origin are '
                     'written; give an origin')
  how = _How(missing, lambda date: studies.offset_text(studies.days_between(
      start, studies.moment(date))), style == 'lines')
  write = _cell if style == 'markdown' else _named
  cells = [[write(row.get(column.name), column, how) for column in columns]
           for row in rows[:limit]]
  lines = _markdown(cells, columns) if style == 'markdown' else (
      _normal(columns) + ['; '.join(row) for row in cells])
  if len(rows) > limit:
    lines.append(_further(len(rows) - limit, 'row'))
  return '\n'.join(lines if rows else [*lines, 'No rows recorded.'])


def _markdown(cells: list[list[str]], columns: Sequence[Column]) -> list[str]:
  heads = []
  for column in columns:
    normal = _range(column)
    inside = '; '.join(filter(None, (
        column.unit, normal and f'normal {normal}')))
    heads.append(f'{column.name} ({inside})' if inside else column.name)
  rows = [heads, ['---'] * len(columns), *cells]
  return ['| ' + ' | '.join(_BAR.sub(r'\1\1\|', cell) for cell in row)
          + ' |' for row in rows]


def render_visits(visits: Sequence[Visit], columns: Sequence[Column], *,
                  missing: str = 'not recorded', limit: int = 20,
                  origin: str = 'last') -> str:
  """Visits in time order, a line for every column of each.

  Times are days from the first or the last visit that has a date. Visits of one
  moment stay in the order given, and so do those without a date, which come
  before all others. Columns of dates are told from the same origin.

  Args:
    visits: of one patient, in any order.
    columns: all are written for each visit, also where nothing was recorded.
    missing: what is written there.
    limit: of visits; the earliest are left out, which the first line says.
    origin: 'first' or 'last'.

  Raises:
    ValueError: an unknown origin, or see `render_table`.
  """
  if origin not in ORIGINS or not columns or not missing.strip() or limit < 1:
    raise ValueError(
        f'origin {origin!r}, {len(columns)} columns, missing {missing!r}, limit'
        f' {limit}; expected one of {", ".join(ORIGINS)}, one column or more, a'
        ' word, and 1 or more')
  timed = sorted(((studies.moment(v.date), v) for v in visits), key=lambda pair:
                 -math.inf if pair[0] is None else pair[0])
  dated = [when for when, _ in timed if when is not None]
  start = (dated[0 if origin == 'first' else -1]) if dated else None
  how = _How(missing, lambda date: _when(start, studies.moment(date), origin),
             True)
  lines = _normal(columns)
  if len(timed) > limit:
    lines.append(_further(len(timed) - limit, 'earlier visit'))
  for place, (when, visit) in list(enumerate(timed, 1))[-limit:]:
    lines.append(f'Visit {place}, {_when(start, when, origin)}:')
    lines += ['- ' + _named(visit.values.get(column.name), column, how)
              for column in columns]
  return '\n'.join(lines if visits else ['No visits recorded.'])


def _when(start: float | None, when: float | None, origin: str) -> str:
  days = studies.days_between(start, when)
  if days is None:
    return studies.UNDATED
  if not days:
    return f'day of the {origin} visit'
  side = 'before' if days < 0 else 'after'
  return f'{abs(days)} day{"s" * (abs(days) > 1)} {side} the {origin} visit'


def _further(count: int, what: str) -> str:
  kind = what if 'earlier' in what else f'further {what}'
  return f'... {count} {kind}{"s" * (count > 1)}'


def _normal(columns: Sequence[Column]) -> list[str]:
  """The line of normal ranges, if there are any."""
  ranges = [f'{c.name} {_range(c)}' + (
      f' {c.unit}' if c.unit != UNITLESS else '') for c in columns if _range(c)]
  return [f'Normal: {"; ".join(ranges)}.'] if ranges else []


def _range(column: Column) -> str:
  low, high = (None if v is None else number(v)
               for v in (column.low, column.high))
  if low is None and high is None:
    return ''
  if low is None:
    return f'up to {high}'
  return f'from {low}' if high is None else f'{low} to {high}'


def _named(value: Any, column: Column, how: _How) -> str:
  """'name: value unit (H)', the unit also where no value has it."""
  cell, unit = _cell(value, column, how), column.unit
  if unit in ('', UNITLESS) or unit in cell:
    return f'{column.name}: {cell}'
  return f'{column.name} ({unit}): {cell}'


def _cell(value: Any, column: Column, how: _How) -> str:
  if isinstance(value, (list, tuple)):
    cells = [_cell(one, column, how) for one in value[:MAX_ITEMS]]
    if len(value) > MAX_ITEMS:
      cells.append(_further(len(value) - MAX_ITEMS, 'value'))
    return '; '.join(cells) or how.missing
  if value is None or value != value or (
      isinstance(value, str) and not value.strip()):
    return how.missing
  if column.kind == 'number':
    return _measured(value, column, how.units)
  if column.kind == 'date':
    return how.told(value)
  if column.kind == 'yesno':
    if value not in (True, False):
      raise ValueError(f'column {column.name!r}: {str(value)[:40]!r} is '
                       'neither True nor False')
    return _YES[bool(value)]
  text = ' '.join(str(value).split())
  if len(text) > MAX_TEXT:
    text = f'{text[:MAX_TEXT]}... {len(text) - MAX_TEXT} further characters'
  if column.kind == 'code':
    return f'{text} ({column.texts.get(text, "meaning not recorded")})'
  return text


def _measured(value: Any, column: Column, unit: bool) -> str:
  """A number, or a bound, with H or L where it lies outside of the normal."""
  sign, bare = '', value
  if isinstance(value, str):
    bound = _BOUND.fullmatch(value.strip())
    sign, bare = (bound[1], bound[2]) if bound else ('', value)
  try:
    if isinstance(bare, bool):
      raise ValueError
    bare = bare if isinstance(bare, int) else float(bare)
    text = sign + number(bare)
  except (TypeError, ValueError, OverflowError):
    raise ValueError(f'column {column.name!r}: {str(value)[:40]!r} is no '
                     'number; expected one, or a bound such as <5') from None
  if unit and column.unit != UNITLESS:
    text = f'{text} {column.unit}'
  return text + _flag(sign, bare, column)


def _flag(sign: str, value: float, column: Column) -> str:
  """' (H)' or ' (L)'; of a bound only where all that it allows is outside."""
  low, high = column.low, column.high
  if high is not None and sign[:1] not in ('<', '≤') and (
      value > high or sign == '>' and value == high):
    return ' (H)'
  if low is not None and sign[:1] not in ('>', '≥') and (
      value < low or sign == '<' and value == low):
    return ' (L)'
  return ''
