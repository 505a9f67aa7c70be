"""Words, sentences and the longest listed phrases of a text, with their spans.

Knows no language beyond plurals, and no meaning: see `findings` for that.
"""

from collections.abc import Iterable, Iterator, Mapping
import functools
import re
from typing import Any

# A range ('50-69') is one word, so that its unit follows it directly.
_WORD = re.compile(
    r"\d+(?:\.\d+)?(?: ?(?:-|\u2013|to) ?\d+(?:\.\d+)?)?|"
    r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|[.,;:!?()%<>\u2264\u2265\[\]]|\w")
_END = re.compile(r'[.!?;\n]')
_ABBREVIATIONS = frozenset(('dr', 'mr', 'mrs', 'ms', 'vs', 'ca', 'approx'))
_MARK = '\0'

Words = list[str]
Spans = list[tuple[int, int]]
Match = tuple[int, int, Any]


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
  """Returns the word in small letters, without the ending of a plural."""
  word = word.lower().replace('\u2019', "'")
  if len(word) < 4 or word.endswith(('ss', 'us', 'is')):
    return word
  for ending, instead in (('ies', 'y'), ('oses', 'osis'), ('tases', 'tasis'),
                          ('thoraces', 'thorax'), ('sses', 'ss'), ('s', '')):
    if word.endswith(ending):
      return word[:-len(ending)] + instead
  return word


def words(text: str, start: int = 0, end: int | None = None
          ) -> tuple[Words, Spans]:
  """Returns the stems and spans of the words and marks of `text[start:end]`.

  Hyphens and slashes only separate: 'air-space' is two words.
  """
  found = list(_WORD.finditer(text, start, len(text) if end is None else end))
  return [stem(m[0]) for m in found], [m.span() for m in found]


def sentences(text: str) -> Iterator[tuple[int, int]]:
  """Yields the spans of sentences, which cover the text.

  A point between digits or after an abbreviation ends none, nor does a mark in
  front of everything ('? pneumothorax'). A line break ends one if the next line
  is empty or does not begin with a small letter: reports wrap their lines.
  """
  start = 0
  for match in _END.finditer(text):
    at = match.start()
    if _ends(text, start, at):
      yield start, at + 1
      start = at + 1
  if start < len(text):
    yield start, len(text)


def _ends(text: str, start: int, at: int) -> bool:
  mark, after = text[at], text[at + 1:at + 2]
  if mark == '\n':
    following = text[at + 1:at + 40].lstrip(' \t')[:1]
    return not following.islower()
  if mark == '?':
    # Looks back a little only, as a text may hold 64 k marks.
    return bool(text[max(start, at - 40):at].strip())
  if mark == '.':
    if after.isdigit() and text[max(start, at - 1):at].isdigit():
      return False
    before = text[max(start, at - 8):at]
    last = before[len(before.rstrip('abcdefghijklmnopqrstuvwxyz'
                                    'ABCDEFGHIJKLMNOPQRSTUVWXYZ')):]
    return last.lower() not in _ABBREVIATIONS
  return True


def table(phrases: Iterable[tuple[str, Any]]) -> dict[str, Any]:
  """Returns a tree of words for `matches`; equal phrases gather their values.

  Raises:
    ValueError: a phrase has no word.
  """
  root = {}
  for phrase, value in phrases:
    node = root
    for word in words(phrase)[0]:
      node = node.setdefault(word, {})
    if node is root:
      raise ValueError(f'phrase {phrase!r} holds no word to look for')
    values = node.setdefault(_MARK, [])
    if value not in values:  # singular and plural are one
      values.append(value)
  return root


def matches(found: Words, tree: Mapping[str, Any]) -> list[Match]:
  """Returns (first word, word after the last, values) of the phrases found.

  The longest phrase wins from left to right and none overlap, so 'no change'
  hides 'no', and 'pericardial effusion' hides 'effusion'. Linear in the text.
  """
  out = []
  skip = 0
  for i, word in enumerate(found):
    if i < skip or word not in tree:
      continue
    node, j = tree[word], i + 1
    values, end = node.get(_MARK), j
    while j < len(found) and found[j] in node:
      node, j = node[found[j]], j + 1
      if _MARK in node:
        values, end = node[_MARK], j
    if values is not None:
      out.append((i, end, values))
      skip = end
  return out


def find(text: str, tree: Mapping[str, Any]) -> list[tuple[int, int, Any]]:
  """Returns (start, end, values) in characters of the phrases in `text`."""
  found, spans = words(text)
  return [(spans[a][0], spans[b - 1][1], values)
          for a, b, values in matches(found, tree)]
