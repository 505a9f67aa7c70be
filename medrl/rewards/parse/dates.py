"""Reads dates and gestational durations.

Computes no differences between dates and guesses no century.
"""

from collections.abc import Iterator
import datetime
import re

from medrl.rewards.parse import number as numbers
from medrl.rewards.parse import spans

_MONTHS = ('january', 'february', 'march', 'april', 'may', 'june', 'july',
           'august', 'september', 'october', 'november', 'december')
_YEAR = r'(?P<year>[0-9]{4})'
_NUMBER = r'[0-9]{1,2}'
_ORDINAL = r'(?:st|nd|rd|th)?'
_FRONT = r'(?<![A-Za-z0-9_/.,])(?<![A-Za-z0-9_]-)'
_BACK = r'(?![A-Za-z0-9_/]|[-.,][0-9])'
_ISO = re.compile(
    rf'{_FRONT}{_YEAR}(?P<sep>[-/.])(?P<month>{_NUMBER})(?P=sep)'
    rf'(?P<day>{_NUMBER})(?:T[0-9:.]{{4,15}}Z?)?{_BACK}')
_CHINESE = re.compile(
    rf'(?<![0-9]){_YEAR}\s?年\s?(?P<month>{_NUMBER})\s?月\s?(?P<day>{_NUMBER})'
    r'\s?[日号]')
_PARTS = re.compile(
    rf'{_FRONT}(?P<a>{_NUMBER})(?P<sep>[-/.])(?P<b>{_NUMBER})(?P=sep){_YEAR}'
    rf'{_BACK}')
_NAME_FIRST = re.compile(
    rf'(?<![A-Za-z])(?P<name>[A-Za-z]{{3,9}})\.?\s{{1,3}}(?P<day>{_NUMBER})'
    rf'{_ORDINAL}\s?,?\s{{0,3}}(?<=[\s,]){_YEAR}{_BACK}')
_DAY_FIRST = re.compile(
    rf'{_FRONT}(?P<day>{_NUMBER}){_ORDINAL}[\s-]{{0,3}}(?:of\s{{1,3}})?'
    rf'(?P<name>[A-Za-z]{{3,9}})\.?[\s,-]{{0,3}}{_YEAR}{_BACK}')
_OTHER = re.compile(
    r'(?i)(?<![a-z])(?:before|after|until|since|not|by)\s{1,3}\Z|不是\Z')

_WEEK = r'\s{0,2}(?:weeks?|wks?|w|周|星期)(?![A-Za-z])'
_DAY = r'\s{0,2}(?:days?|d|天|日)(?![A-Za-z])'
_BARE = r'(?<![0-9.,/+−–-])(?<![A-Za-z])'
_DURATION = re.compile(
    rf'(?i){_BARE}(?:'
    rf'(?P<w1>[0-9]{{1,3}})\s?\+\s?(?P<d1>[0-6])(?:/7)?(?![0-9.,])(?:{_WEEK})?'
    rf'|(?P<w2>[0-9]{{1,3}})\s{{1,2}}(?P<d2>[0-6])/7(?:{_WEEK})'
    rf'|(?P<w3>[0-9]{{1,4}})(?:\s{{0,2}}(?:weeks?|wks?|w|周|星期)(?![A-Za-vx-z]))'
    rf"(?:[\s,'\"+]{{0,4}}(?:and\s{{1,2}})?['\"]?(?P<d3>[0-9]{{1,4}}){_DAY})?"
    rf'|(?P<d4>[0-9]{{1,5}}){_DAY}'
    rf'|(?<=\()(?P<w5>[0-9]{{1,3}})\s?,\s?(?P<d5>[0-6])(?=\)))')


def date(content: str, order: str = 'mdy',
         which: str = 'only') -> spans.Parsed | None:
  """Returns the one distinct date in `content` as ISO text, 'YYYY-MM-DD'.

  Takes ISO dates, month names, 年月日, and three numbers with a year of four
  digits last, read in `order`; where only the other order is a date, as in
  '25/12/2020', that one. Dates that do not exist, years of two digits, and
  dates that are bounds ('before ..') or denied are unparsed.

  Args:
    content: of an answer block.
    order: 'mdy' or 'dmy', for three numbers.
    which: 'only', or the 'first' or 'last' of several.

  Raises:
    ValueError: `order` or `which` is another word.
  """
  if order not in ('mdy', 'dmy'):
    raise ValueError(f"order={order!r}: expected 'mdy' or 'dmy'")
  text = spans.clean(content)
  found = sorted(_dates(text, order), key=lambda f: f.span)
  if any(f.value is None for f in found[:spans.MAX_CANDIDATES]):
    return None
  return spans.pick(found, which)


def _dates(text: str, order: str) -> Iterator[spans.Parsed]:
  """Yields everything that is written like a date; value None if it is none."""
  for pattern, how in ((_ISO, 'iso'), (_CHINESE, 'chinese'), (_PARTS, order),
                       (_NAME_FIRST, 'name'), (_DAY_FIRST, 'name')):
    for match in pattern.finditer(text):
      parts = match.groupdict()
      if how == 'name' and _month(parts['name']) is None:
        continue
      value = _parts(parts, order)
      if _OTHER.search(text, max(0, match.start() - 12), match.start()):
        value = None
      yield spans.Parsed(value, match.span(), how)


def _parts(parts: dict[str, str], order: str) -> str | None:
  """Returns ISO text for a match's groups, None if there is no such day."""
  year = int(parts['year'])
  if 'name' in parts:
    return _iso(year, _month(parts['name']), int(parts['day']))
  if 'a' not in parts:
    return _iso(year, int(parts['month']), int(parts['day']))
  a, b = int(parts['a']), int(parts['b'])
  if order == 'dmy':
    a, b = b, a
  return _iso(year, a, b) or _iso(year, b, a)


def _month(name: str) -> int | None:
  """Returns the number of a month from three letters of its name or more."""
  for number, month in enumerate(_MONTHS, 1):
    if month.startswith(name.lower()):
      return number
  return None


def _iso(year: int, month: int, day: int) -> str | None:
  try:
    return datetime.date(year, month, day).isoformat()
  except ValueError:
    return None


def duration(content: str, which: str = 'only') -> spans.Parsed | None:
  """Returns the one distinct (weeks, days) in `content`, days below 7.

  Takes '39 weeks 2 days', '39w2d', '39+2', '39 2/7 weeks', '(39, 2)', weeks or
  days alone, and MedCalc's "('39 weeks', '2 days')"; days carry into weeks. A
  number without a unit, parts of a week, ranges, bounds and texts with other
  numbers are unparsed.

  Raises:
    ValueError: `which` is none of 'only', 'first', 'last'.
  """
  text = spans.clean(content)
  found, read = [], 0
  for match in _DURATION.finditer(text):
    if len(found) > spans.MAX_CANDIDATES or numbers.bound(
        text, match.start(), match.end()):
      return None
    parts = {key[0]: int(digits) for key, digits in match.groupdict().items()
             if digits}
    read += sum(map(str.isdigit, match[0]))
    total = 7 * parts.get('w', 0) + parts.get('d', 0)
    found.append(spans.Parsed(divmod(total, 7), match.span(), 'duration'))
  # 'between 38 and 39 weeks', 'week 39 day 2': a number is left over.
  return spans.pick(found, which) if read == sum(
      map(str.isdigit, text)) else None
