"""Reads yes, no, maybe, true and false out of text, as words.

Does not judge what was asked: whether 'no effusion' means yes to "is it
normal?" is not for a parser to say.
"""

import bisect
from collections.abc import Iterator, Mapping
import itertools
import re
from typing import NamedTuple

from medrl.rewards.parse import spans

_YES = {'yes': 'yes'} | dict.fromkeys(
    ('是', '是的', '对', '对的', '没错', '正确', '正确的', '有', '有的', '存在'),
    'yes')
_NO = {'no': 'no'} | dict.fromkeys(
    ('否', '不', '不是', '不是的', '不对', '错', '错误', '错误的', '不正确', '没有',
     '无', '不存在'), 'no')
_MAYBE = dict.fromkeys(('maybe', '可能', '也许', '不确定'), 'maybe')
_TRUTH = {'true': 'true', 'false': 'false'} | dict.fromkeys(
    ('正确', '正确的', '对', '真', '是真的'), 'true') | dict.fromkeys(
        ('错误', '错误的', '不正确', '错', '不对', '假', '是假的'), 'false')

_WORD = re.compile(r'(?<![^\W一-鿿])(?ai:yes|no|maybe|true|false)(?![^\W一-鿿])')
_CLAUSE = re.compile(r'[^,.;!?\n()\[\]{}/|]+')
_CUE = re.compile(r'\s*(?:(?:最终|正确)?答案|回答|结论)(?:\s*(?::|是:?|为:?))\s*')
# A word that stands alone ends there or goes on with a reason; 'no effusion'
# and 'true lumen' are one expression.
_ALONE = re.compile(
    r"[^\S\n]*(?:\Z|\n|(?!-\w|\.?\s*\d)[^\w\s]|(?i:because|since|as|due)\b)")
_TAKEN_BACK = re.compile(
    r"(?i)[^\S\n]{0,3}(?:\?|(?:is|isn't|was|wasn't|are|would|can|cannot)\b)")
_NEGATION = re.compile(
    r"(?i)\b(?:not|never|neither|nor|cannot|maybe|perhaps|possibly)\b|n't\b")
_ANNOUNCED = re.compile(
    r'(?i)\b(?:answer|conclusion)\s?(?:is|:)\s{0,3}:?\s{0,3}\Z')
_BREAK = re.compile(r'[.;!?\n]')


class _Word(NamedTuple):
  """A word that may answer, and what tells against it."""
  value: str
  span: tuple[int, int]
  glued: bool     # 'no effusion': belongs to the next word
  void: bool      # 'yes?', 'yes is wrong'
  denied: bool    # 'not yes'


def yesno(content: str, which: str = 'only') -> spans.Parsed | None:
  """Returns 'yes' or 'no', read as words: 'normal' and 'know' are neither.

  A 'no' before a word ('no effusion') is a determiner and answers nothing, as
  the question may have been whether the image is normal. An answer that leads
  ('Yes, there is no effusion') or is announced ('answer: ..') may stand beside
  determiners; elsewhere it must be the only yes or no, with no negation before
  it in its sentence. What
  is denied is unparsed, not turned round. Chinese words (是, 不是, 没有) must be
  a clause by themselves.

  Args:
    content: of an answer block.
    which: 'only', or the 'first' or 'last' word that is an answer by itself.

  Raises:
    ValueError: `which` is another word.
  """
  return _read(content, _YES | _NO, which)


def yesnomaybe(content: str, which: str = 'only') -> spans.Parsed | None:
  """Returns 'yes', 'no' or 'maybe' (PubMedQA); see `yesno`.

  'maybe' before a word is an adverb and answers nothing.
  """
  return _read(content, _YES | _NO | _MAYBE, which)


def truth(content: str, which: str = 'only') -> spans.Parsed | None:
  """Returns 'true' or 'false'; see `yesno`. 'T' and 'F' count alone.

  'false positive' and 'true lumen' are medical terms and answer nothing.
  """
  letter = re.fullmatch(r'[\s(\']*([TF])[\s).\']*', spans.clean(content))
  if letter:
    value = 'true' if letter[1] == 'T' else 'false'
    return spans.Parsed(value, letter.span(1), 'letter')
  return _read(content, _TRUTH, which)


def _read(content: str, values: Mapping[str, str],
          which: str) -> spans.Parsed | None:
  clean = spans.clean(content)
  words = list(itertools.islice(_words(clean, values),
                                spans.MAX_CANDIDATES + 1))
  if len(words) > spans.MAX_CANDIDATES:
    return None
  words.sort(key=lambda word: word.span)
  if which != 'only':
    return spans.pick([spans.Parsed(w.value, w.span, which) for w in words
                       if not (w.glued or w.void or w.denied)], which)
  answers = [w for w in words if not w.glued]
  if (len({w.value for w in answers}) != 1
      or any(w.void or w.denied for w in answers)):
    return None
  first = answers[0]
  start = first.span[0]
  leads = not any(c.isalnum() for c in clean[:start]) or bool(
      _ANNOUNCED.search(clean[max(0, start - 24):start]))
  if not leads and len(answers) < len(words):
    return None
  return spans.Parsed(first.value, first.span, 'leading' if leads else 'only')


def _words(clean: str, values: Mapping[str, str]) -> Iterator[_Word]:
  """Yields the English words and the Chinese clauses that have a value."""
  negations = [m.start() for m in _NEGATION.finditer(clean)]
  breaks = [m.start() for m in _BREAK.finditer(clean)]
  for match in _WORD.finditer(clean):
    value = values.get(match[0].lower())
    if value is None:
      continue
    glued = value != 'yes' and not _ALONE.match(clean, match.end())
    index = bisect.bisect_left(breaks, match.start())
    sentence = breaks[index - 1] if index else 0
    near = bisect.bisect_left(negations, sentence)
    yield _Word(value, match.span(), glued,
                bool(_TAKEN_BACK.match(clean, match.end())),
                near < len(negations) and negations[near] < match.start())
  if clean.isascii():
    return
  for match in _CLAUSE.finditer(clean):
    cue = _CUE.match(clean, *match.span())
    start = cue.end() if cue else match.start()
    clause = clean[start:match.end()]
    value = values.get(clause.strip())
    if value is not None and not clause.isascii():
      start += len(clause) - len(clause.lstrip())
      asked = clean[match.end():match.end() + 1] == '?'
      yield _Word(value, (start, start + len(clause.strip())), False, asked,
                  False)
