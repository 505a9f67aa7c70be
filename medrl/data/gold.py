"""Which options are right, from the nine ways in which it is published.

A letter; an index from 0 (from 1 where declared); an option's text; a list of
letters; 'A: text'; 'A) text'; '<answer> C </answer>'; 'B,E,F'. It grades no
completion (see `medrl.rewards`) and reads no file.
"""

from collections.abc import Callable, Mapping
import re
from typing import Any
import unicodedata

from medrl import lookup
from medrl.data import encodings

ENCODINGS = ('auto', 'letter', 'index0', 'index1', 'text', 'letters', 'colon',
             'paren', 'tag', 'commas')
_SPLIT = re.compile(r'[,，、;；]')
_LED = {'colon': re.compile(r'\s*([A-Z])\s*[:：]\s*(.*)', re.S),
        'paren': re.compile(r'\s*[(（]?([A-Z])[)）.．、](.*)', re.S)}
Keys = frozenset[str]


def keys(value: Any, options: Mapping[str, str], encoding: str = 'auto',
         several: bool = False) -> tuple[str, ...]:
  """The right options' keys.

  'auto' takes every reading but 'index1' and wants exactly one result of
  them: 'B' among {A: B, B: A} is a letter and a text, hence `Unusable`, and so
  is '2' where an option other than the third is the text '2'. A list is read
  item by item.

  Args:
    value: a cell.
    options: letter -> text; an index counts letters from A, whether or not
      one is left out.
    encoding: one of `ENCODINGS`; 'letters' is a list, or letters in
      alphabetical order without anything between ('ABD').
    several: whether more than one may be right; if not, readings of several
      are none.

  Returns:
    keys of `options`, in their order.

  Raises:
    Unusable: none or several results, or several keys where one is wanted.
    ValueError: the encoding is unknown.
  """
  if encoding not in ENCODINGS:
    raise ValueError(f'answer encoding {encoding!r}; '
                     f'{lookup.nearest(encoding, list(ENCODINGS))}')
  if encodings.absent(value) or isinstance(value, (list, tuple)) and not value:
    raise encodings.Unusable('no answer')
  if isinstance(value, float) and value.is_integer():
    value = int(value)   # a column of integers with a blank is one of floats
  if isinstance(value, (list, tuple)):
    each = 'letter' if encoding == 'letters' else encoding
    found = {key for item in value for key in keys(item, options, each)}
    return _checked(frozenset(found), value, options, several)
  if isinstance(value, bool) or not isinstance(value, (int, str)):
    raise encodings.Unusable('answer not among the options',
                             encodings.short(value))
  if isinstance(value, str):
    encodings.bounded(value)
  return _checked(_read(value, options, encoding, several), value, options,
                  several)


def _read(value: int | str, options: Mapping[str, str], encoding: str,
          several: bool) -> Keys:
  if encoding != 'auto':
    return _READERS[encoding](value, options)
  tag = _READERS['tag'](value, options)
  if tag:
    return tag
  found = {name: read(value, options) for name, read in _READERS.items()
           if name not in ('tag', 'index1')}
  results = {got for got in found.values() if got}
  if not several:
    results = {got for got in results if len(got) == 1} or results
  if len(results) > 1:
    raise encodings.Unusable(
        'ambiguous answer', f'{encodings.short(value)} reads as '
        + ', '.join(f'{n} {sorted(k)}' for n, k in found.items() if k)
        + '; declare its encoding')
  return results.pop() if results else frozenset()


def _checked(found: Keys, value: Any, options: Mapping[str, str],
             several: bool) -> tuple[str, ...]:
  if not found:
    raise encodings.Unusable(
        'answer not among the options',
        f'{encodings.short(value)}, options {encodings.short(dict(options))}')
  if len(found) > 1 and not several:
    raise encodings.Unusable('several answers to a single choice',
                             encodings.short(value))
  return tuple(key for key in options if key in found)


def _one_letter(value: int | str, options: Mapping[str, str]) -> Keys:
  text = unicodedata.normalize('NFKC', str(value)).strip().strip('().:、')
  return frozenset({text.strip().upper()} & set(options))


def _index(first: int) -> Callable[[int | str, Mapping[str, str]], Keys]:
  def read(value, options):
    text = str(value).strip()
    if not re.fullmatch(r'[0-9]{1,2}', text):
      return frozenset()
    place = int(text) - first
    letter = encodings.LETTERS[place:place + 1] if place >= 0 else ''
    return frozenset({letter} & set(options))
  return read


def _text(value: int | str, options: Mapping[str, str]) -> Keys:
  """The one option of this text: as it is, else with case and width folded."""
  text = str(value).strip()
  for fold in str, encodings.plain:
    found = [key for key, option in options.items()
             if fold(option) == fold(text)]
    if len(found) > 1:
      raise encodings.Unusable(
          'ambiguous answer',
          f'{encodings.short(text)} is the text of options {found}')
    if found:
      return frozenset(found)
  return frozenset()


def _letters(value: int | str, options: Mapping[str, str]) -> Keys:
  text = unicodedata.normalize('NFKC', str(value)).strip()
  rising = all(a < b for a, b in zip(text, text[1:]))
  good = rising and set(text) <= set(options)
  return frozenset(text if good else ())


def _led(name: str) -> Callable[[int | str, Mapping[str, str]], Keys]:
  def read(value, options):
    """The letter, if what follows is the text of its option."""
    match = _LED[name].fullmatch(unicodedata.normalize('NFKC', str(value)))
    if not match or match[1] not in options:
      return frozenset()
    same = encodings.plain(match[2]) == encodings.plain(options[match[1]])
    return frozenset({match[1]} if same else ())
  return read


def _tagged(value: int | str, options: Mapping[str, str]) -> Keys:
  found = encodings.tagged(str(value), 'answer')
  return frozenset(keys(found, options, several=True) if found else ())


def _commas(value: int | str, options: Mapping[str, str]) -> Keys:
  parts = [part for part in _SPLIT.split(str(value)) if part.strip()]
  found = [_one_letter(part, options) or _text(part, options) for part in parts]
  return frozenset().union(*found) if all(found) else frozenset()


_READERS = {
    'letter': _one_letter, 'index0': _index(0), 'index1': _index(1),
    'text': _text, 'letters': _letters, 'colon': _led('colon'),
    'paren': _led('paren'), 'tag': _tagged, 'commas': _commas}
