"""Question texts of two sets that are the same but for their dress.

Case, punctuation, white space, forms of Unicode and the order of options do not
count; nearness is the Jaccard index of word trigrams. It knows no synonyms and
no other language, and reads no media.
"""

from collections.abc import Sequence
import collections
import math
import re
import unicodedata

from medrl import types

_GRAM = 3
# '-5' is another number than '5', while 'X-ray' is an 'X ray'.
_MINUS = re.compile(r'(?<!\w)[-\u2212](?=\d)')


def normalised(records: Sequence[types.Record]) -> list[str]:
  """Question and options of each record as plain words; '' where none is left.

  Letters, digits, their marks and mathematical signs stay, in the form NFKC
  and without case; options are sorted.
  """
  texts = [[r.question, *r.options.values()] for r in records]
  folded = [[_MINUS.sub(' \u2212', unicodedata.normalize('NFKC', t).casefold())
             for t in parts] for parts in texts]
  used = set().union(*(t for parts in folded for t in parts))
  # One table for all characters that occur, as a look at each is slow.
  table = {ord(c): ' ' for c in used
           if unicodedata.category(c)[0] not in 'LNMS' and c != '%'}
  found = []
  for question, *options in folded:
    plain = [' '.join(t.translate(table).split()) for t in (question, *options)]
    found.append(' | '.join([plain[0], *sorted(plain[1:])]) if any(plain)
                 else '')
  return found


def near(first: Sequence[str], second: Sequence[str], jaccard: float
         ) -> list[tuple[int, int]]:
  """Pairs (i, j) of texts whose trigrams have at least this Jaccard index.

  Exact: two sets that near share one of the rarest members of either, as many
  as `_prefix` says (prefix filtering; Chaudhuri, Ganti, Kaushik, "A primitive
  operator for similarity joins in data cleaning", 2006), so only texts that do
  are compared.

  Raises:
    ValueError: an index that is not in 0..1, without 0.
  """
  if not 0 < jaccard <= 1:
    raise ValueError(f'jaccard {jaccard}; expected more than 0, at most 1')
  sets = [[_grams(text) for text in texts] for texts in (first, second)]
  counts = collections.Counter(g for side in sets for s in side for g in s)
  index = collections.defaultdict(list)
  for j, grams in enumerate(sets[1]):
    for gram in _prefix(grams, counts, jaccard):
      index[gram].append(j)
  found = []
  for i, grams in enumerate(sets[0]):
    close = {j for gram in _prefix(grams, counts, jaccard)
             for j in index.get(gram, ())}
    for j in sorted(close):
      both = len(grams & sets[1][j])
      if both >= jaccard * (len(grams) + len(sets[1][j]) - both):
        found.append((i, j))
  return found


def _grams(text: str) -> frozenset[tuple[str, ...]]:
  words = text.split()
  return frozenset(tuple(words[i:i + _GRAM])
                   for i in range(max(len(words) - _GRAM + 1, bool(words))))


def _prefix(grams, counts, jaccard: float) -> list[tuple[str, ...]]:
  """The rarest members, one more than may be missing from the other set."""
  missing = len(grams) - math.ceil(jaccard * len(grams) - 1e-9)
  return sorted(grams, key=lambda g: (counts[g], g))[:missing + 1]
