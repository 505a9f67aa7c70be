"""Reads the one number of a text, or the interval that it gives.

Converts no units (see `quantity`) and reads no number words.
"""

from collections.abc import Sequence
import math
import re
from typing import NamedTuple
import unicodedata

from medrl.rewards.parse import spans

_SUPERSCRIPT = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻−', '0123456789+--')
_NUMERAL = re.compile(
    r'(?<![A-Za-z0-9_.,^\\%°])(?P<sign>[-+\u2212\u2013]?)(?:'
    r'\\[dt]?frac\{(?P<over>[0-9]{1,4})\}\{(?P<under>[0-9]{1,4})\}'
    r'|(?P<units>[0-9]{1,3})?\s?(?P<vulgar>[¼-¾⅐-⅞])'
    r'|(?:(?P<whole>[0-9]{1,3})\s)?(?P<top>[0-9]{1,3})\s?/\s?'
    r'(?P<low>[0-9]{1,4})(?![0-9^_]|[/.,][0-9])'
    r'|(?P<digits>[0-9][0-9.,\u00a0\u2009\u202f]*|\.[0-9]+)'
    r'(?:[eE](?P<e>[-+\u2212]?[0-9]+)'
    r'|[^\S\n]{0,8}[x×*·][^\S\n]{0,8}10(?:\s?\^\s?\{?'
    r'(?P<power>[-+\u2212]?[0-9]+)\}?|(?P<raised>[⁺⁻]?[⁰¹²³⁴-⁹]+)))?)'
    r'(?P<percent>[^\S\n]{0,3}(?:%|(?i:per\s?cent)\b))?')
_MARKS = '.,\u00a0\u2009\u202f'
_ENGLISH = re.compile(
    r'[1-9]\d{0,2}(?P<sep>[,\u00a0\u2009\u202f])\d{3}(?:(?P=sep)\d{3})*'
    r'(?:\.\d+)?')
_EUROPEAN = re.compile(r'[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})')
_PLAIN = re.compile(r'\d+(?:[.,]\d+)?|\.\d+')
# '10^9' alone, '1_000', '5x10 mm', '39w2d', '5²', '5k', '5 million', '5万'.
_GOES_ON = re.compile(
    r'[_^‰²³¹⁰⁴-⁹]|[.,][0-9]|x[0-9]|[A-Za-z]+[0-9]+[A-Za-z]|[kKM](?![A-Za-z])'
    r'|\s?(?:(?i:hundred|thousand|million|billion)|[万亿]|[百千](?![分克米卡]))')
# The digits of 'T2-3', 'COVID-19' and 'mL/min/1.73', but not of '5mm-7mm'.
_NAME = re.compile(
    r'(?:(?<![0-9.A-Za-zμ])[A-Za-zμ]{1,30}|[A-Za-z][0-9.,]{1,8})[-/^–]\Z')
_BEFORE = re.compile(
    r'(?i)(?:(?P<below><=?|=<|≤|(?<![a-z])(?:(?:less|fewer|lower|smaller) than'
    r'|up to|under|below|at most|within|maximum(?: of)?|not? (?:more|larger'
    r'|greater|bigger) than|not exceeding)|不超过|不大于|不多于|最多|至多|小于'
    r'|少于|低于)|(?P<above>>=?|=>|≥|(?<![a-z])(?:over|above|at least'
    r'|(?:more|greater|larger|higher|bigger) than|minimum(?: of)?'
    r'|not? (?:less|fewer|smaller) than)|不少于|不小于|不低于|至少|最少|大于'
    r"|超过|多于|高于)|(?P<denied>(?<![a-z])(?:not|never)|n't|不是))"
    r'\s{0,3}(?:(?:about|approximately|~|≈)\s{0,3})?\Z')
_BEHIND = re.compile(
    r'(?i)[^\S\n]{0,2}(?:'
    r'(?P<below>or (?:less|fewer|lower|smaller|below)|以下|以内)'
    r'|(?P<above>\+(?!\s?[0-9/-])|or (?:more|greater|higher|larger|above)|以上))')
_UNIT = r'(?:\s?[A-Za-zμ%°][A-Za-z%/^0-9]{0,11})?\s{0,3}'
_GAP = re.compile(
    _UNIT + r'(?:(?P<to>-|–|—|~|to|至|到)|(?P<pm>±|\+/-?)|(?P<and>and|,))'
    r'\s{0,3}')


class Numeral(NamedTuple):
  """A number in a text.

  `value` is None where digits stand that are no number. `bound` is '' or what
  is said about it: 'below', 'above' or 'denied'.
  """
  value: int | float | None
  start: int
  end: int
  how: str    # 'number', 'percent' or 'fraction'
  bound: str


def number(content: str, which: str = 'only') -> spans.Parsed | None:
  """Returns the one distinct number in `content`: an int if written as one.

  Takes '1,234.5', '1.234,5', '12,5', '-3', '1e-3', '4.5 x 10^9/L', '12 mm',
  '3 1/2' and foreign digits; a comma before exactly three digits separates
  thousands, unless a zero leads. '50%' is 50 (how = 'percent'): the question
  says which unit it wants. A fraction (how = 'fraction') is below one and has
  a denominator of at most 100, as '120/80' is a pressure. Digits of names and
  units ('CO2', 'COVID-19', 'mL/min/1.73 m2') are not numbers. Ranges, bounds
  ('<5', 'up to 3', '5+'), dates, durations ('39w2d'), what is denied and what
  is not finite are unparsed.

  Args:
    content: of an answer block.
    which: 'only', or the 'first' or 'last' of several numbers; those that are
      bounds or unreadable are passed over.

  Raises:
    ValueError: `which` is another word.
  """
  text = spans.plain(content)
  found = []
  for n in scan(text):
    if n.value is None or n.bound or _GOES_ON.match(text, n.end):
      if which == 'only':
        return None
      continue
    found.append(spans.Parsed(n.value, (n.start, n.end), n.how))
  return spans.pick(found, which)


def interval(content: str) -> spans.Parsed | None:
  """Returns (low, high) of the one interval in `content`, as floats.

  Takes '2-4', '2 cm to 4 cm', 'between 2 and 4', '[2, 4]', '5 ± 1', and, with
  an infinite other end, bounds: 'up to 3', '<5', 'at least 5', '5+'. Whether a
  bound itself belongs to it is not told apart. A number is (n, n), with how =
  'number'. Units are passed over; `quantity.interval` converts them.
  """
  text = spans.plain(content)
  found = scan(text)
  if any(_GOES_ON.match(text, n.end) for n in found):
    return None
  return between(found, text)


def scan(text: str) -> list[Numeral]:
  """Returns the numbers of a folded text; too many of them are one unread."""
  found = []
  for count, match in enumerate(_NUMERAL.finditer(text)):
    if count >= spans.MAX_CANDIDATES:
      return [Numeral(None, 0, 0, 'too many', '')]
    start = match.start()
    if _NAME.search(text, max(0, start - 32), start):
      continue
    value, how = _value(match)
    if match['percent']:
      how = 'percent'
    end = match.end()
    if match['digits'] and match.end('digits') == end:
      end -= len(match['digits']) - len(match['digits'].rstrip(_MARKS))
    found.append(Numeral(value, start, end, how, bound(text, start, end)))
  return found


def bound(text: str, start: int, end: int) -> str:
  """Returns 'below', 'above', 'denied' or '' for what stands at a range."""
  told = _BEFORE.search(text[max(0, start - 32):start]) or _BEHIND.match(
      text, end)
  return told.lastgroup if told else ''


def between(numerals: Sequence[Numeral], text: str) -> spans.Parsed | None:
  """Returns the (low, high) that one or two numbers of a text make."""
  if not 1 <= len(numerals) <= 2 or any(
      n.value is None or n.bound == 'denied' for n in numerals):
    return None
  first, last = numerals[0], numerals[-1]
  span, a, b = (first.start, last.end), float(first.value), float(last.value)
  if len(numerals) == 1:
    low = -math.inf if first.bound == 'below' else a
    high = math.inf if first.bound == 'above' else a
    return spans.Parsed((low, high), span, first.bound or 'number')
  gap = _GAP.fullmatch(text, first.end, last.start)
  opened = text[max(0, first.start - 12):first.start].rstrip().lower()
  if not gap or first.bound or last.bound:
    return None
  if gap['pm']:
    return spans.Parsed((a - abs(b), a + abs(b)), span, 'spread')
  closed = text[last.end:].lstrip()[:1] in (']', ')')
  pair = opened.endswith('between') if gap['and'] == 'and' else (
      opened.endswith(('[', '(')) and closed)
  if a > b or (gap['and'] and not pair):
    return None
  return spans.Parsed((a, b), span, 'range')


def _value(match: re.Match) -> tuple[int | float | None, str]:
  """Returns the value of a numeral, None if it is none, and its kind."""
  sign = -1 if match['sign'] in ('-', '\u2212', '\u2013') else 1
  if match['digits'] is None:
    value = _fraction(match)
    return (None if value is None else sign * value), 'fraction'
  digits = match['digits'].rstrip(_MARKS)
  exponent = match['e'] or match['power'] or match['raised'] or ''
  exponent = exponent.translate(_SUPERSCRIPT)
  if len(digits) + len(exponent) > spans.MAX_DIGITS:
    return None, 'number'
  if _ENGLISH.fullmatch(digits):
    digits = re.sub(r'[^0-9.]', '', digits)
  elif _EUROPEAN.fullmatch(digits):
    digits = digits.replace('.', '').replace(',', '.')
  elif _PLAIN.fullmatch(digits):
    digits = digits.replace(',', '.')
  else:
    return None, 'number'
  if digits.isdigit() and not exponent:
    return sign * int(digits), 'number'
  value = float(f'{digits}e{exponent or 0}')
  return (sign * value if math.isfinite(value) else None), 'number'


def _fraction(match: re.Match) -> float | None:
  if match['vulgar']:
    return int(match['units'] or 0) + unicodedata.numeric(match['vulgar'])
  if match['under']:
    top, low = int(match['over']), int(match['under'])
    return top / low if low else None
  top, low = int(match['top']), int(match['low'])
  if not 0 < top < low <= 100:
    return None
  return int(match['whole'] or 0) + top / low
