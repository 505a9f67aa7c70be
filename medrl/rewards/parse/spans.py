"""What a reading is, and the text helpers that every parser shares.

Reads no particular kind of answer but free text.
"""

from collections.abc import Sequence
import dataclasses
import re
from typing import Any
import unicodedata

# Longer literals are noise; int() also refuses digit strings above 4300.
MAX_DIGITS = 40
# More candidates than this are no answer, and reading them all takes time.
MAX_CANDIDATES = 100

# Zeros of the digits that stand in medical text: Arabic-Indic, Persian,
# Devanagari, Bengali, Thai. Full-width ones come with their letters.
_ZEROS = (0x660, 0x6f0, 0x966, 0x9e6, 0xe50)
_FOLDED = (
    {wide: wide - 0xfee0 for wide in range(0xff01, 0xff5f)}
    | {zero + i: 0x30 + i for zero in _ZEROS for i in range(10)}
    | str.maketrans('。、\u3000【】“”‘’\u066b\u066cµ', '.,  :""\'\'.,μ'))
_BLANKED = str.maketrans('*_`$"', '     ')
_LATEX = re.compile(
    r'\\(?:[,;:! ]|(?:text|mathrm|mathbf|operatorname)\s?\{|(?P<sign>times|cdot'
    r'|mu|pm|le|leq|ge|geq|approx|%)(?![A-Za-z])[ ]?)|~(?=[A-Za-z\\])'
    r'|\^\{?(?P<degree>\\circ)\}?|(?<=[A-Za-z²³])\}')
_SIGNS = {'times': '×', 'cdot': '·', 'mu': 'μ', 'pm': '±', 'le': '≤',
          'leq': '≤', 'ge': '≥', 'geq': '≥', 'approx': '≈',
          '\\circ': '°', '%': '%'}


@dataclasses.dataclass(frozen=True)
class Parsed:
  """A reading: its canonical value, where it stands, and by which rule.

  `span` is the half-open character range in the text the parser was given.
  """
  value: Any
  span: tuple[int, int]
  how: str


def normalise(text: str) -> str:
  """Folds case, width and white space, and drops punctuation at the ends.

  Signs and comparisons stay: 'ER+' and 'ER-' are different answers.
  """
  folded = unicodedata.normalize('NFKC', text).casefold()
  return ' '.join(folded.split()).strip(' .,;:!?"\'')


def fold(text: str) -> str:
  """Makes full-width signs, foreign digits and quotes ASCII, one for one.

  Spans in the result are spans in `text`, which NFKC does not promise.
  """
  return text if text.isascii() else text.translate(_FOLDED)


def clean(text: str) -> str:
  """Folds, and blanks emphasis, code, mathematics and double quotes."""
  return fold(text).translate(_BLANKED)


def plain(text: str) -> str:
  """Folds, and turns LaTeX of numbers and units into signs and blanks.

  One for one, as `fold`: a command is blanks and its sign.
  """
  def sign(match: re.Match) -> str:
    found = _SIGNS.get(match['sign'] or match['degree'], ' ')
    return found.rjust(len(match[0]))
  return _LATEX.sub(sign, fold(text))


def shifted(parsed: Parsed, offset: int) -> Parsed:
  """Returns `parsed` with its span moved by `offset` characters."""
  start, end = parsed.span
  return dataclasses.replace(parsed, span=(start + offset, end + offset))


def pick(found: Sequence[Parsed], which: str) -> Parsed | None:
  """Returns one of the readings, in the order they stand in the text.

  Args:
    found: at most `MAX_CANDIDATES` of them; more are none.
    which: 'first', 'last', or 'only', which is None unless all values agree.

  Raises:
    ValueError: `which` is another word.
  """
  if which not in ('only', 'first', 'last'):
    raise ValueError(
        f"which={which!r}: expected 'only', 'first' or 'last'")
  if not found or len(found) > MAX_CANDIDATES:
    return None
  if which == 'only' and any(f.value != found[0].value for f in found):
    return None
  return found[-1 if which == 'last' else 0]


def text(content: str) -> Parsed | None:
  """Returns the normalised content; None if nothing but punctuation is left."""
  value = normalise(content)
  return Parsed(value, stripped(content), 'text') if value else None


def stripped(content: str) -> tuple[int, int]:
  """Returns the span of `content` without white space at its ends."""
  start = len(content) - len(content.lstrip())
  return start, max(start, len(content.rstrip()))
