"""Options of published question sets, in one form: letter -> text, in order.

Ten encodings are read: columns of four families (`A`, `Choice A`, `option_A`,
`opa`), a mapping, a list, a list of {letter, content} or {key, value}, the
repr of a Python list, JSON, and options inside a text. What can be read in
two ways is `Unusable`, never guessed. Nothing is evaluated. Which of the
options is right is read by `gold`, and files by the readers.
"""

import ast
from collections.abc import Mapping, Sequence
import json
import math
import re
import string
from typing import Any
import unicodedata

from medrl import lookup

LETTERS = string.ascii_uppercase
FAMILIES = ('{}', 'Choice {}', 'option_{}', 'op{}')
ENCODINGS = ('auto', 'mapping', 'list', 'pairs', 'literal', 'json', 'joined',
             'inline')
# A patient's note has some 20,000 characters; more is no cell of a question.
MAX_TEXT = 200_000
MAX_DEPTH = 32
_PAIRS = (('letter', 'content'), ('key', 'value'))
_STYLES = {
    '(A)': re.compile(r'(?<!\w)\(([A-Z])\)'),
    'A)': re.compile(r'(?<![\w(])([A-Z])\)'),
    'A.': re.compile(r'(?<![\w(.])([A-Z])[.、](?![A-Z]\b)'),
    'A:': re.compile(r'(?<![\w(])([A-Z]):')}
_HEADER = re.compile(r'(?:answer choices|choices|options|选项)\s*:', re.I)
_PREFIX = re.compile(r'[(（]?\s*([A-Za-zＡ-Ｚ])\s*[)）:：.．、]\s*')
# Full-width ASCII to ASCII, character by character, so that places agree.
_NARROW = {wide: wide - 0xfee0 for wide in range(0xff01, 0xff5f)}
# A quote that is never closed runs to the end, so that no text is read twice.
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*('|\\?\Z)|\"(?:\\.|[^\"\\])*(\"|\\?\Z)",
                     re.S)
# What is left of a literal of lists, dicts and tuples once strings are an S.
_LITERAL = re.compile(
    r'(?:[\[\](){},:\s]|S(?!\s*S)|(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?'
    r'(?![\w.+-])|None\b|True\b|False\b)*')


class Unusable(ValueError):
  """A row that makes no record.

  `reason` is one of few and is counted; the text says more, for a person.
  """

  def __init__(self, reason: str, detail: str = ''):
    super().__init__(f'{reason}: {detail}' if detail else reason)
    self.reason = reason


def short(value: Any, limit: int = 80) -> str:
  """A value as an error message shows it: its repr, cut."""
  text = repr(value[:limit * 2] if isinstance(value, (str, bytes)) else value)
  return text if len(text) <= limit else f'{text[:limit]}..'


def absent(value: Any, blanks: Sequence[str] = ()) -> bool:
  """Whether a cell is empty: None, nan, white space, 'nan' or in `blanks`."""
  if isinstance(value, str):
    text = value.strip()
    return not text or text == 'nan' or text in blanks
  return value is None or (isinstance(value, float) and math.isnan(value))


def plain(text: str) -> str:
  """Folds width, case and white space and drops a full stop at the end."""
  text = ' '.join(unicodedata.normalize('NFKC', text).casefold().split())
  return text.rstrip('.。').rstrip()


def options(value: Any, encoding: str = 'auto',
            blanks: Sequence[str] = ()) -> dict[str, str]:
  """The options in a cell.

  'auto' goes by the value: a mapping, a list (of mappings: 'pairs'), and of
  strings those that begin with a bracket ('json', else 'literal'), those with
  a ' | ' ('joined'), all others ('inline'). A letter before every text that
  says its own place ('A: x', 'B: y') is cut off.

  Args:
    value: a cell.
    encoding: one of `ENCODINGS`.
    blanks: texts that stand for no option, such as '-'.

  Returns:
    letter -> text, sorted by letter; at least two.

  Raises:
    Unusable: the value does not hold options so, or holds them in two ways.
    ValueError: the encoding is unknown.
  """
  if encoding not in ENCODINGS:
    raise ValueError(f'options encoding {encoding!r}; '
                     f'{lookup.nearest(encoding, list(ENCODINGS))}')
  if isinstance(value, str):
    value, encoding = _text_options(value, encoding)
  elif encoding in ('literal', 'json', 'joined', 'inline'):
    raise Unusable('options unreadable', f'{short(value)}, expected text')
  if isinstance(value, Mapping) and encoding in ('auto', 'mapping'):
    return _finished([(_letter(k), v) for k, v in value.items()], blanks)
  if isinstance(value, (list, tuple)) and encoding in ('auto', 'list', 'pairs'):
    if encoding == 'auto' and all(isinstance(v, Mapping) for v in value):
      encoding = 'pairs'
    return _finished([_pair(item) for item in value] if encoding == 'pairs'
                     else _placed(value), blanks)
  raise Unusable('options unreadable', f'{short(value)} as {encoding!r}')


def columns(row: Mapping[str, Any], pattern: str | Sequence[str] = 'auto',
            blanks: Sequence[str] = ()) -> dict[str, str]:
  """The options in columns, one each, named by `pattern`.

  Args:
    row: column -> cell.
    pattern: a name with {} for the letter ('Choice {}'), which may be small in
      the column's name; 'auto' for the one of `FAMILIES` of which the row has
      the first two columns; or the columns' names, in order.
    blanks: texts that stand for no option.

  Returns:
    letter -> text; empty and missing columns are left out, and letters kept.

  Raises:
    Unusable: no family, several, or fewer than two options.
    ValueError: a pattern without {}.
  """
  if pattern == 'auto':
    found = [family for family in FAMILIES
             if _column(row, family, 'A') and _column(row, family, 'B')]
    if len(found) != 1:
      raise Unusable('no options', f'columns {short(list(row), 300)}; expected '
                     f'those of one of {FAMILIES}, found {found}')
    pattern, = found
  if not isinstance(pattern, str):
    return _finished(_placed([row.get(name) for name in pattern]), blanks)
  if '{}' not in pattern:
    raise ValueError(f"options columns {pattern!r}; expected a name with {{}} "
                     f"for the letter, such as 'Choice {{}}'")
  names = [(letter, _column(row, pattern, letter)) for letter in LETTERS]
  return _finished([(letter, row[name]) for letter, name in names if name],
                   blanks)


def inline(text: str, style: str = 'auto',
           until: str = '') -> tuple[str, dict[str, str]]:
  """A question without the options inside it, and these.

  Options are marked '(A)', 'A)', 'A.' or 'A:', behind the last 'Answer
  Choices:', 'Options:' or '选项：' if there is one. Of one style the letters
  must run A, B, C.. with none twice; two styles that do so are `Unusable`.

  Args:
    text: of the question.
    style: '(A)', 'A)', 'A.' or 'A:'; 'auto' tries each.
    until: where the options end, such as 'Answer with'; '' for the text's end.

  Raises:
    Unusable: no options, or options in two styles or out of order.
    ValueError: the style is unknown.
  """
  if style != 'auto' and style not in _STYLES:
    raise ValueError(f'style {style!r}; expected auto, {", ".join(_STYLES)}')
  bounded(text)
  narrow = text.translate(_NARROW)
  headers = list(_HEADER.finditer(narrow))
  start = headers[-1].end() if headers else 0
  end = narrow.find(until, start) if until else -1
  end = len(text) if end < 0 else end
  found = {}
  for name in _STYLES if style == 'auto' else (style,):
    marks = list(_STYLES[name].finditer(narrow, start, end))
    letters = ''.join(m[1] for m in marks)
    if len(letters) > 1 and letters == LETTERS[:len(letters)]:
      found[name] = marks
  if len(found) != 1:
    raise Unusable('no options', f'{short(text, 200)}; expected options A, B.. '
                   f'in one style, found {list(found)}')
  marks, = found.values()
  stops = [m.start() for m in marks[1:]] + [end]
  pairs = [(m[1], text[m.end():stop].strip().rstrip(',;，；|').rstrip())
           for m, stop in zip(marks, stops)]
  stem = text[:headers[-1].start() if headers else marks[0].start()]
  return stem.strip(), _finished(pairs, ())


def parsed(text: str, encoding: str = 'auto') -> Any:
  """The value of JSON or of a Python literal; 'auto' tries them in this order.

  Raises:
    Unusable: it is neither, is too long or too deeply nested, or has strings
      without a comma between, as NumPy prints arrays, which would be joined.
  """
  bounded(text)
  if encoding in ('auto', 'json'):
    try:
      if _depth(text) <= 2 * MAX_DEPTH:
        return json.loads(text)
    except ValueError:
      pass
  if encoding in ('auto', 'literal'):
    bare = _QUOTED.sub(
        lambda m: 'S' if (m[1] or m[2]) in ("'", '"') else '!', text)
    if _LITERAL.fullmatch(bare) and _depth(bare) <= MAX_DEPTH:
      try:
        return ast.literal_eval(text.strip())
      except (ValueError, SyntaxError, TypeError):
        pass
  raise Unusable('text unreadable', f'{short(text)}, expected JSON or a Python '
                 f'literal (encoding {encoding!r}), nested {MAX_DEPTH} deep at '
                 'most, with commas')


def bounded(text: str) -> str:
  """The text; Unusable if it is longer than a cell of a question can be."""
  if len(text) > MAX_TEXT:
    raise Unusable('cell too long',
                   f'{len(text)} characters, at most {MAX_TEXT} are read')
  return text


def tagged(text: str, name: str) -> str | None:
  """What stands in the one <name>..</name> or <|name|>..<|/name|>, or None."""
  opened = re.compile(rf'<\|?{re.escape(name)}\|?>', re.I)
  marks = list(opened.finditer(bounded(text)))
  if len(marks) != 1:
    return None
  closed = re.compile(rf'<\|?[/\\]{re.escape(name)}\|?>', re.I)
  end = closed.search(text, marks[0].end())
  return text[marks[0].end():end.start()].strip() if end else None


def _text_options(text: str, encoding: str) -> tuple[Any, str]:
  """Options in text as a mapping or list, and the encoding to go on with."""
  bounded(text)
  bracket = text.lstrip()[:1] in ('[', '{', '(') and not _STYLES['(A)'].match(
      text.lstrip().translate(_NARROW))
  if encoding in ('json', 'literal') or encoding == 'auto' and bracket:
    return parsed(text, encoding), 'auto'
  if encoding == 'joined' or encoding == 'auto' and ' | ' in text:
    return text.replace('｜', '|').split('|'), 'list'
  if encoding in ('auto', 'inline'):
    stem, found = inline(text)
    if stem and encoding == 'auto':
      raise Unusable('options unreadable',
                     f'{short(stem)} stands before the options')
    return found, 'mapping'
  raise Unusable('options unreadable', f'{short(text)} as {encoding!r}')


def _column(row: Mapping[str, Any], pattern: str, letter: str) -> str:
  names = pattern.replace('{}', letter), pattern.replace('{}', letter.lower())
  return next((name for name in names if name in row), '')


def _letter(key: Any) -> str:
  text = unicodedata.normalize('NFKC', str(key)).strip().upper().strip('().:、')
  if len(text) != 1 or text not in LETTERS:
    raise Unusable('options unreadable',
                   f'{short(key)} is no letter of an option')
  return text


def _pair(item: Any) -> tuple[str, Any]:
  for letter, content in _PAIRS:
    if isinstance(item, Mapping) and letter in item and content in item:
      return _letter(item[letter]), item[content]
  raise Unusable('options unreadable',
                 f'{short(item)}; expected the keys of one of {_PAIRS}')


def _placed(texts: Sequence[Any]) -> list[tuple[str, Any]]:
  if len(texts) > len(LETTERS):
    raise Unusable('options unreadable', f'{len(texts)} options; at most 26')
  return list(zip(LETTERS, texts))


def _finished(pairs: list[tuple[str, Any]],
              blanks: Sequence[str]) -> dict[str, str]:
  found = {}
  for letter, text in pairs:
    if isinstance(text, (Mapping, list, tuple, bytes)):
      raise Unusable('options unreadable', f'{short(text)} is no text')
    if absent(text, blanks):
      continue
    if letter in found:
      raise Unusable('options unreadable', f'letter {letter} stands twice')
    found[letter] = bounded(str(text).strip())
  if len(found) < 2:
    raise Unusable('fewer than two options', short(found))
  heads = {letter: _PREFIX.match(text) for letter, text in found.items()}
  if all(head and unicodedata.normalize('NFKC', head[1]) == letter
         and head.end() < len(found[letter]) for letter, head in heads.items()):
    found = {k: text[heads[k].end():].strip() for k, text in found.items()}
  return dict(sorted(found.items()))


def _depth(text: str) -> int:
  depth = deepest = 0
  for mark in re.findall(r'[\[\](){}]', text):
    depth += 1 if mark in '[({' else -1
    deepest = max(deepest, depth)
  return deepest
