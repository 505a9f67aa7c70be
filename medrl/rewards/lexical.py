"""BLEU, chrF, ROUGE and METEOR of one text against one reference.

Overlap of words and characters, and no more: 'no effusion' and 'effusion' are
near each other here. sacrebleu and rouge-score compute what is named after
them; METEOR is our own, as the package that has it needs WordNet.
"""

from collections.abc import Sequence
import functools
import itertools
import re
from typing import Any

from medrl import types
from medrl.rewards import lift
from medrl.rewards import text as text_rules
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

METRICS = ('bleu', 'bleu1', 'bleu2', 'bleu3', 'bleu4', 'chrf', 'chrf++',
           'rouge1', 'rouge2', 'rougeL', 'meteor', 'merge')
# ROUGE-L takes time with the product of both lengths.
_WORDS, _CHARACTERS = 1000, 8000
_ALPHA, _BETA, _GAMMA = 0.9, 3.0, 0.5
_HAN = re.compile('[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]')
_MISSING = ('{name} is needed for this metric; install with: '
            'pip install -r launch/requirements-rewards.txt')


def bleu(value: str, target: str, order: int = 4) -> float:
  """Returns sacrebleu's sentence BLEU (Papineni 2002) / 100, in [0, 1].

  Orders up to `order` with exponential smoothing, effective order (a text of
  two words has no 3-grams), brevity penalty, and the tokenizer '13a', or 'zh'
  where either text has a Chinese character.

  Raises:
    ImportError: sacrebleu is not installed.
  """
  return _unit(_bleu(value, target, order).score / 100.0)


def chrf(value: str, target: str, word_order: int = 0) -> float:
  """Returns sacrebleu's sentence chrF (Popovic 2015) / 100, in [0, 1].

  The F2 of character 1- to 6-grams; with `word_order` 2 it is chrF++.

  Raises:
    ImportError: sacrebleu is not installed.
  """
  return _unit(_chrf(word_order).sentence_score(value, [target]).score / 100.0)


def rouge(value: str, target: str, kind: str = 'rougeL') -> float:
  """Returns the F1 of ROUGE-1, ROUGE-2 or ROUGE-L (Lin 2004), in [0, 1].

  By rouge-score, unstemmed. Its own tokenizer keeps ASCII letters and digits
  only, so that for other texts the words are those of `text.words`.

  Raises:
    ImportError: rouge-score is not installed.
  """
  ascii_only = value.isascii() and target.isascii()
  score = _rouge(kind, ascii_only).score(target, value)
  return _unit(score[kind].fmeasure)


def meteor(value: str, target: str) -> float:
  """Returns METEOR with exact and stemmed matches, in [0, 1].

  Lavie and Agarwal 2007: with m matched words, P = m / |value|,
  R = m / |target|, F = P R / (0.9 P + 0.1 R), and c stretches of matches that
  are adjacent in both texts, F (1 - 0.5 (c / m)^3). Words are matched once,
  first as they are, then by Porter's stem, each to the last one left, from
  the end, as nltk does it; there are no synonyms.

  Raises:
    ImportError: nltk is not installed.
  """
  said, wanted = text_rules.words(value), text_rules.words(target)
  matches = sorted(_matches(said, wanted))
  if not matches:
    return 0.0
  count = len(matches)
  precision, recall = count / len(said), count / len(wanted)
  mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
  chunks = 1 + sum((a[0] + 1, a[1] + 1) != b
                   for a, b in itertools.pairwise(matches))
  return mean * (1.0 - _GAMMA * (chunks / count) ** _BETA)


def merge(value: str, target: str) -> float:
  """Returns Med-U1's mean of EMS and BLEU, both in [0, 1].

  BLEU is there the mean of the 1-, 2- and 3-gram precisions, smoothed, without
  brevity penalty. The paper's code (arXiv 2506.12307) takes EMS from 0 to 100
  instead, so that its threshold of 45 asks for an EMS of about 90; here 0.45
  is 0.45 of both.

  Raises:
    ImportError: sacrebleu is not installed.
  """
  precisions = _bleu(value, target, 3).precisions
  return (text_rules.ems(value, target)
          + _unit(sum(precisions) / 300.0)) / 2.0


def measure(value: str, target: str, metric: str) -> float:
  """Returns one of `METRICS` of the first 1,000 words (8,000 characters).

  Raises:
    ValueError: the metric is unknown.
    ImportError: its package is not installed.
  """
  if metric not in METRICS:
    raise ValueError(f'metric {metric!r}: expected one of {METRICS}')
  value, target = _cut(value), _cut(target)
  if not value or not target:
    return 0.0
  if metric.startswith('bleu'):
    return bleu(value, target, int(metric[4:] or 4))
  if metric.startswith('chrf'):
    return chrf(value, target, 2 if metric == 'chrf++' else 0)
  if metric.startswith('rouge'):
    return rouge(value, target, metric)
  return (meteor if metric == 'meteor' else merge)(value, target)


@lift.per_completion
def score(record: types.Record, text: str, *, metric: str = 'rougeL',
          threshold: float = 0.0, lowercase: bool = True) -> float | None:
  """Rewards the text of the answer block, in [0, 1].

  As a reward, called with (record, completions, context).

  Args:
    record: its answer is a string; of a choice, the option's text counts.
    text: a completion; unparsed without an answer block that holds something.
    metric: one of `METRICS`.
    threshold: the least value that earns 1, all below earning 0; 0 for the
      value itself.
    lowercase: whether case is folded first (ROUGE and METEOR always do).

  Raises:
    ValueError: the metric is unknown, or the record's answer is no string.
    ImportError: the metric's package is not installed.
  """
  target = text_rules.reference(record)
  block = blocks.answer(text)
  if block is None or not spans.normalise(block.value):
    return None
  value = block.value
  if lowercase:
    value, target = value.lower(), target.lower()
  return text_rules.reached(measure(value, target, metric), threshold)


def _matches(said: Sequence[str],
             wanted: Sequence[str]) -> list[tuple[int, int]]:
  """Returns (place in `said`, place in `wanted`) of each matched word."""
  pairs = []
  left = range(len(said))
  places = range(len(wanted))
  for key in (str, _stem):
    ends = {}
    for place in places:
      ends.setdefault(key(wanted[place]), []).append(place)
    unmatched, used = [], set()
    for i in reversed(left):
      stack = ends.get(key(said[i]))
      if stack:
        pairs.append((i, stack.pop()))
        used.add(pairs[-1][1])
      else:
        unmatched.append(i)
    left = unmatched[::-1]
    places = [p for p in places if p not in used]
  return pairs


@functools.lru_cache(maxsize=65536)
def _stem(word: str) -> str:
  # Porter's steps take time with the square of a word's length.
  return _stemmer().stem(word) if len(word) <= 40 else word


@functools.cache
def _stemmer() -> Any:
  try:
    from nltk.stem import porter  # pylint: disable=import-outside-toplevel
  except ImportError as error:
    raise ImportError(_MISSING.format(name='nltk')) from error
  return porter.PorterStemmer()


def _bleu(value: str, target: str, order: int) -> Any:
  chinese = _HAN.search(value) or _HAN.search(target)
  return _bleu_scorer(order, 'zh' if chinese else '13a').sentence_score(
      value, [target])


@functools.cache
def _bleu_scorer(order: int, tokenize: str) -> Any:
  return _sacrebleu().BLEU(max_ngram_order=order, tokenize=tokenize,
                           smooth_method='exp', effective_order=True)


@functools.cache
def _chrf(word_order: int) -> Any:
  return _sacrebleu().CHRF(word_order=word_order)


def _sacrebleu() -> Any:
  try:
    from sacrebleu import metrics  # pylint: disable=import-outside-toplevel
  except ImportError as error:
    raise ImportError(_MISSING.format(name='sacrebleu')) from error
  return metrics


@functools.cache
def _rouge(kind: str, ascii_only: bool) -> Any:
  try:
    # pylint: disable=import-outside-toplevel
    from rouge_score import rouge_scorer
    from rouge_score import tokenize
    from rouge_score import tokenizers
  except ImportError as error:
    raise ImportError(_MISSING.format(name='rouge-score')) from error

  class Words(tokenizers.Tokenizer):
    """The package's own words, or those of `text.words`, up to a number."""

    def tokenize(self, text: str) -> list[str]:
      words = (tokenize.tokenize(text, None) if ascii_only
               else text_rules.words(text))
      return words[:_WORDS]

  return rouge_scorer.RougeScorer([kind], tokenizer=Words())


def _unit(value: float) -> float:
  """Takes back what rounding adds: 100.00000000000004 % is 1."""
  return min(max(value, 0.0), 1.0)


def _cut(text: str) -> str:
  return ' '.join(text[:_CHARACTERS].split(maxsplit=_WORDS)[:_WORDS])
