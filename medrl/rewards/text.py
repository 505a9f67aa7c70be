"""Rules about one short free text against one reference.

Neither meaning nor synonyms are judged, and no report-level scores are here.
"""

import collections
import re

from medrl.rewards import parse


def exact(value: str, target: str) -> float:
  """Returns 1.0 iff the normalised texts are equal."""
  return float(parse.normalise(value) == parse.normalise(target))


def f1(value: str, target: str) -> float:
  """Returns the F1 of word multisets, as in SQuAD (arXiv 1606.05250, 6.1).

  Words are runs of letters and digits of the normalised texts; articles stay.
  Repeats count once per occurrence in both. 0 where either has no word.
  """
  found, wanted = (
      collections.Counter(re.findall(r'\w+', parse.normalise(t)))
      for t in (value, target))
  shared = (found & wanted).total()
  if not shared:
    return 0.0
  return 2.0 * shared / (found.total() + wanted.total())
