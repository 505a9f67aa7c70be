"""Reads an answer out of text, or says that there is none.

Each parser takes the content of an answer block and returns a `Parsed` or
None. None is an outcome of its own: two readings that disagree, a truncated
list or a letter inside prose are unparsed, never guessed. Any string is read
without an exception. This file does not know the right answer and scores
nothing.
"""

import collections
from collections.abc import Iterator, Mapping
import dataclasses
import math
import re
from typing import Any
import unicodedata

# Longer literals are noise; int() also refuses digit strings above 4300.
MAX_DIGITS = 40
# No image has this many pixels a side; beyond it areas lose their precision.
MAX_COORDINATE = 1e6

# Blanked, not removed, so that spans stay those of the original text.
_MARKUP = str.maketrans('*_`$"（）：。，', '     ():.,')
_LETTER = re.compile(
    r'\s*(?:(?i:option|choice)\s+)?(?:[(\[]\s*)?(?P<key>[A-Za-z0-9]{1,2})(?!\w)'
    r'\s*(?P<close>[)\]]?)\s*(?P<stop>[.:]?)')
_REASON = re.compile(r'\s*,?\s*(?:because|since|due|as|given|for)\b')
_PREDICATE = re.compile(r"\s*(?:is|isn't|are|was|or|and|nor|not|can|cannot)\b")
# An 'A' or 'I' before a small letter is an article or a pronoun.
_OTHER = re.compile(r'(?<!\w)(?![AI]\s+[a-z])([A-Z0-9])(?!\w)')
_BOXED = re.compile(r'\\boxed\s*\{\s*(?:\\text\w*\s*\{)?([^{}]*)\}')
_CUE = re.compile(
    r'(?i)\b(?:answer|option|choice)\s*(?:is|:|=|(?:would|should)\s+be)'
    r'\s*:?\s*')
_POLAR = re.compile(r'(?<!\w)((?ai:yes|no))(?!\w)')
_ALONE = re.compile(r'[^\S\n]*(?:\Z|\n|(?!-\w|\.?\s*\d)[^\w\s])')
_NEGATION = re.compile(r"(?i)\b(?:not|never|neither|nor|cannot)\b|n['’]t\b")
_NUMBER = re.compile(
    r'(?P<bound>[<>\u2264\u2265]\s*)?'
    r'(?<![A-Za-z0-9_.,^])(?<![^\W\d_][-/^])'
    r'(?P<sign>[-+\u2212\u2013]?)'
    r'(?P<digits>[0-9][0-9.,\u00a0\u2009\u202f]*|\.[0-9]+)'
    r'(?:[eE](?P<e>[-+\u2212]?[0-9]+)'
    r'|\s*[x×*·]\s*10\s*\^\s*\{?(?P<power>[-+\u2212]?[0-9]+)\}?)?'
    r'(?P<percent>\s*(?:%|(?i:percent)\b))?')
# '10^9' alone, '1_000', '5x10 mm', '39w2d': more than the number before it.
_GOES_ON = re.compile(r'[_^]|[.,][0-9]|x[0-9]|[A-Za-z]+[0-9]+[A-Za-z]')
_ENGLISH = re.compile(
    r'[1-9]\d{0,2}(?P<sep>[,\u00a0\u2009\u202f])\d{3}(?:(?P=sep)\d{3})*'
    r'(?:\.\d+)?')
_EUROPEAN = re.compile(r'[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})')
_PLAIN = re.compile(r'\d+(?:[.,]\d+)?|\.\d+')
_COORDINATE = re.compile(r'[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d{1,3})?', re.ASCII)


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


def answer_block(text: str) -> Parsed | None:
  """Returns the content of the last `<answer>...</answer>`, over lines.

  A last block that was opened and not closed is None even when an earlier one
  is complete: the writer had not finished answering.
  """
  opened = text.rfind('<answer>')
  if opened < 0:
    return None
  start = opened + len('<answer>')
  end = text.find('</answer>', start)
  if end < 0:
    return None
  return Parsed(text[start:end], (start, end), 'answer block')


def text(content: str) -> Parsed | None:
  """Returns the normalised content; None if nothing but punctuation is left."""
  value = normalise(content)
  return Parsed(value, _stripped(content), 'text') if value else None


def _stripped(content: str) -> tuple[int, int]:
  """Returns the span of `content` without white space at its ends."""
  return len(content) - len(content.lstrip()), len(content.rstrip())


def choice(content: str, options: Mapping[str, str]) -> Parsed | None:
  """Returns the key of the option that `content` names.

  Read in this order: `\\boxed{..}`, a cue ('answer is ..', 'answer: ..'), the
  whole content; each as a letter ('B', '(b)', 'B.', 'B)'), a letter and text
  ('B: benign') or exactly one option's text. A letter beats an equal option
  text ('A' where option B reads 'A'), since prompts ask for letters. A letter
  is never picked out of prose, where 'A' is an article, 'I' a pronoun and
  'hepatitis C' a disease; a letter with another option's text is a
  contradiction, and cues that disagree leave the content unparsed.
  """
  clean = content.translate(_MARKUP)
  for how, pieces in _marked(clean):
    found = {}
    for piece, shift in pieces:
      option = _option(piece, options)
      if option is None:
        # 'benign. The margins ..'; not for letters, as in 'E. coli'.
        sentence = _option(piece.partition('. ')[0], options)
        option = sentence if sentence and sentence.how == 'text' else None
      if option:
        found[option.value] = (option.span[0] + shift, option.span[1] + shift)
    if len(found) > 1:
      return None
    for value, span in found.items():
      return Parsed(value, span, how)
  return _option(clean, options)


def _marked(clean: str) -> Iterator[tuple[str, list[tuple[str, int]]]]:
  """Yields how an answer is announced, and the pieces so announced."""
  yield 'boxed', [(m[1], m.start(1)) for m in _BOXED.finditer(clean)]
  cues = list(_CUE.finditer(clean))
  ends = [m.start() for m in cues[1:]] + [len(clean)]
  yield 'cue', [(clean[m.end():end].partition('\n')[0], m.end())
                for m, end in zip(cues, ends)]


def _option(piece: str, options: Mapping[str, str]) -> Parsed | None:
  """Reads a piece of text that holds one answer and nothing before it."""
  plain = _plain(piece)
  match = _LETTER.match(piece)
  keys = {key.upper(): key for key in options}
  key = keys.get(match['key'].upper()) if match else None
  if key is not None and not _plain(piece[match.end():]):
    return Parsed(key, match.span('key'), 'letter')
  same = [k for k, v in options.items() if plain and _plain(v) == plain]
  if len(same) == 1:
    return Parsed(same[0], _stripped(piece), 'text')
  if key is None or same or not _names(match, piece, key, options):
    return None
  return Parsed(key, match.span('key'), 'letter')


def _names(match: re.Match, piece: str, key: str,
           options: Mapping[str, str]) -> bool:
  """Whether the letter at the start of a longer piece names an option."""
  rest = piece[match.end():]
  if _starts(rest, options[key]):
    # What its own text does not explain is a list of options or a second one.
    return not _letters(rest, options, key) - _letters(
        options[key], options, key)
  if any(_starts(rest, v) for k, v in options.items() if k != key):
    return False
  if match['key'] != key and not match['close']:
    return False  # 'a benign lesion'
  if not match['stop'] and not match['close']:
    return bool(_REASON.match(rest))
  if match['stop'] == '.' and rest.lstrip()[:1].islower():
    return False  # 'E. coli'
  if _PREDICATE.match(rest):
    return False  # '(A) is wrong'
  return not _letters(rest, options, key)


def _letters(rest: str, options: Mapping[str, str],
             key: str) -> collections.Counter[str]:
  """Counts the other options' letters that stand alone in `rest`."""
  return collections.Counter(
      letter for letter in _OTHER.findall(rest)
      if letter != key and letter in options)


def _plain(piece: str) -> str:
  return normalise(piece.translate(_MARKUP))


def _starts(rest: str, option: str) -> bool:
  """Whether `rest` is `option`, perhaps in brackets, and what follows it."""
  rest, option = re.sub(r'^\s*[-–—]\s', '', rest).strip(), _plain(option)
  return bool(option) and any(
      text.startswith(option) and not text[len(option):][:1].isalnum()
      for text in (_plain(rest), _plain(rest.removeprefix('('))))


def yesno(content: str) -> Parsed | None:
  """Returns 'yes' or 'no', read as words: 'normal' and 'know' are neither.

  A 'no' before a word ('no effusion') is a determiner and answers nothing, as
  the question may have been whether the image is normal. An answer that leads
  ('Yes, there is no effusion') may be followed by determiners; elsewhere it
  must be the only yes or no, with no negation before it.
  """
  clean = content.translate(_MARKUP)
  words = list(_POLAR.finditer(clean))
  answers = [m for m in words
             if m[1].lower() == 'yes' or _ALONE.match(clean, m.end())]
  if len({m[1].lower() for m in answers}) != 1:
    return None
  first = answers[0]
  before = clean[:first.start()]
  leads = not any(c.isalnum() for c in before)
  if not leads and (len(answers) < len(words) or _NEGATION.search(before)):
    return None
  return Parsed(first[1].lower(), first.span(), 'leading' if leads else 'only')


def number(content: str) -> Parsed | None:
  """Returns the one distinct number in `content`: an int if written as one.

  Takes '1,234.5', '1.234,5', '12,5', '-3', '1e-3', '4.5 x 10^9/L', '12 mm';
  a comma before exactly three digits separates thousands, unless a zero leads.
  '50%' is 50 (how = 'percent'): the question says which unit it wants. Digits
  of names and units ('CO2', 'COVID-19', 'mL/min/1.73 m2') are not numbers.
  Ranges, bounds ('<5'), fractions, dates, durations ('39w2d') and what is not
  finite are unparsed.
  """
  found = {}
  for match in _NUMBER.finditer(content):
    value = _value(match)
    if value is None or match['bound'] or _GOES_ON.match(content, match.end()):
      return None
    found.setdefault(value, match)
  if len(found) != 1:
    return None
  (value, match), = found.items()
  how = 'percent' if match['percent'] else 'number'
  return Parsed(value, match.span(), how)


def _value(match: re.Match) -> int | float | None:
  digits = match['digits'].rstrip('.,\u00a0\u2009\u202f')
  exponent = (match['e'] or match['power'] or '').replace('\u2212', '-')
  if len(digits) + len(exponent) > MAX_DIGITS:
    return None
  if _ENGLISH.fullmatch(digits):
    digits = re.sub(r'[^0-9.]', '', digits)
  elif _EUROPEAN.fullmatch(digits):
    digits = digits.replace('.', '').replace(',', '.')
  elif _PLAIN.fullmatch(digits):
    digits = digits.replace(',', '.')
  else:
    return None
  sign = -1 if match['sign'] in ('-', '\u2212', '\u2013') else 1
  if digits.isdigit() and not exponent:
    return sign * int(digits)
  value = float(f'{digits}e{exponent or 0}')
  return sign * value if math.isfinite(value) else None


def box(content: str) -> Parsed | None:
  """Returns the one distinct box (x1, y1, x2, y2), in pixels."""
  found = boxes(content)
  if found is None or len(set(found.value)) != 1:
    return None
  return Parsed(found.value[0], found.span, 'box')


def boxes(content: str) -> Parsed | None:
  """Returns all boxes, each (x1, y1, x2, y2) in pixels; '[]' is no box.

  Every innermost bracket must hold four finite numbers with x1 < x2 and
  y1 < y2: dropping a bad box would let a writer add boxes at no cost. Prose,
  nesting, and JSON objects around the brackets are ignored.
  """
  if not content.count('[') or content.count('[') != content.count(']'):
    return None
  found = []
  for match in re.finditer(r'\[([^\[\]]*)\]', content):
    if match[1].strip():
      found.append(_corners(match[1]))
  if None in found or (not found and ''.join(content.split()) != '[]'):
    return None
  span = content.index('['), content.rindex(']') + 1
  return Parsed(tuple(found), span, 'boxes')


def _corners(inside: str) -> tuple[float, ...] | None:
  parts = [part.strip() for part in inside.split(',')]
  if len(parts) != 4 or not all(
      len(p) <= MAX_DIGITS and _COORDINATE.fullmatch(p) for p in parts):
    return None
  x1, y1, x2, y2 = corners = tuple(float(p) for p in parts)
  if x2 <= x1 or y2 <= y1 or max(map(abs, corners)) > MAX_COORDINATE:
    return None
  return corners
