"""Penalties for saying the same again; oracle of `array.repetition`.

Repetition of meaning in other words is not seen.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any

import numpy as np

from medrl import types
from medrl.rewards import budget
from medrl.rewards import lift

# Scripts without spaces count by the character, or a whole paragraph of them
# would be one word and never repeat.
_WORD = re.compile(r'[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]'
                   r'|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+')
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def share(items: Sequence[Any], n: int) -> float:
  """Returns the share of n-grams that stood there before, in [0, 1).

  1 - distinct / total; 0 where there are fewer than n items.
  """
  total = len(items) - n + 1
  if total < 2:
    return 0.0
  if _distinct_hashes(items, n) == total:   # as in almost every text
    return 0.0
  return 1.0 - len(set(zip(*(items[k:] for k in range(n))))) / total


def _distinct_hashes(items: Sequence[Any], n: int) -> int:
  """A lower bound of the number of distinct n-grams, found in no time.

  Which bound depends on Python's seed of `hash`; what is made of it does not.
  """
  values = np.fromiter(map(hash, items), np.int64, len(items)).view(np.uint64)
  values = values * _MULTIPLIER
  values ^= values >> np.uint64(29)
  total = len(items) - n + 1
  hashes = np.zeros(total, np.uint64)
  for k in range(n):
    hashes *= _MULTIPLIER
    hashes += values[k:k + total]
  hashes.sort()
  return 1 + int(np.count_nonzero(hashes[1:] != hashes[:-1]))


@lift.per_completion
def words(record: types.Record, text: str, *, n: int = 20) -> float:
  """Returns minus the share of repeated n-grams of words, in (-1, 0].

  -(1 - distinct / total), 0 below n words; with weight 2 this is R_rep of
  Perception-R1 (arXiv 2506.07218; code). Words lie between white space, case
  folded; Chinese and Japanese characters are words of their own. A text
  without spaces in another script is one word, so prefer `tokens`.

  Raises:
    ValueError: n < 1.
  """
  del record
  _check(n)
  folded = text.casefold()
  # The same words, and four times as fast.
  found = folded.split() if folded.isascii() else _WORD.findall(folded)
  return -share(found, n)


def tokens(record: types.Record, completions: list[types.Completion],
           context: Mapping[str, Any], *, n: int = 20) -> types.Score:
  """Returns minus the share of repeated n-grams of token ids, in (-1, 0].

  As `words`, over `Completion.ids`.

  Raises:
    ValueError: n < 1, or a completion has text and no ids.
  """
  del record, context
  _check(n)
  total = tuple(-share(budget.ids_of(c), n) for c in completions)
  return types.Score(total, {'tokens': total})


tokens.array_form = 'medrl.rewards.array.repetition.tokens'


def _check(n: int) -> None:
  if n < 1:
    raise ValueError(f'n = {n!r}: an n-gram has at least one item')
