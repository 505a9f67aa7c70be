"""Rules about one short free text against one reference.

Neither meaning nor synonyms are judged, and no report-level scores are here;
BLEU, chrF, ROUGE and METEOR are in `lexical`.
"""

import collections
from collections.abc import Callable
import re

from medrl import types
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

# A Chinese character is a word, as there are no spaces to tell words by.
_HAN = '\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'
_WORD = re.compile(rf'[{_HAN}]|[^\W{_HAN}]+')
_EDGES = '.,;:!?"\'()[]{}'
_ARTICLES = ('a', 'an', 'the')
# So many words are a sentence, and no list of all that might be asked for.
_SENTENCE = 20
# Times the words of the reference. Excess does not lower recall, so a short
# list is one too.
_LONGEST, _LISTED = 5.0, 3.0


def words(text: str) -> list[str]:
  """Returns the runs of letters and digits of the normalised text."""
  return _WORD.findall(spans.normalise(text))


def exact(value: str, target: str) -> float:
  """Returns 1.0 iff the normalised texts are equal."""
  return float(spans.normalise(value) == spans.normalise(target))


def normalised(value: str, target: str) -> float:
  """Returns 1.0 iff the texts are equal but for punctuation and articles.

  Punctuation at the ends of words goes, hyphens between words are spaces;
  signs stay ('ER-'). 'the' goes everywhere, 'a' and 'an' at the start only:
  the rule of SQuAD, to drop them all, makes 'hepatitis A' hepatitis.
  """
  return float(_bare(value) == _bare(target))


def _bare(text: str) -> list[str]:
  joined = re.sub(r'(?<=\w)-(?=[^\W\d])', ' ', spans.normalise(text))
  found = [w for w in (w.strip(_EDGES) for w in joined.split()) if w]
  if len(found) > 1 and found[0] in _ARTICLES:
    found = found[1:]
  return [w for w in found if w != 'the'] or found


def f1(value: str, target: str) -> float:
  """Returns the F1 of word multisets, as in SQuAD (arXiv 1606.05250, 6.1).

  Words are runs of letters and digits of the normalised texts; articles stay.
  Repeats count once per occurrence in both. 0 where either has no word.
  """
  found, wanted = (collections.Counter(words(t)) for t in (value, target))
  shared = (found & wanted).total()
  if not shared:
    return 0.0
  return 2.0 * shared / (found.total() + wanted.total())


def recall(value: str, target: str) -> float:
  """Returns the share of the reference's distinct words that are said.

  The recall of the exact match of VQA graders (correct from 0.75 on in
  MedRegA). Nothing said in excess costs, so that a list of all words that an
  answer may hold earns 1: `score` bounds the length therefore, short or long.
  """
  found, wanted = set(words(value)), set(words(target))
  return len(found & wanted) / len(wanted) if wanted else 0.0


def ems(value: str, target: str) -> float:
  """Returns Med-U1's EMS (arXiv 2506.12307) as a share.

  That is |distinct reference words that are said| / |all words said|, articles
  aside: in spite of its name a precision, which one right word maximises. The
  paper's code has it from 0 to 100 and adds it to a BLEU from 0 to 1, so that
  its threshold of 45 means another thing for each; here all are in [0, 1].
  """
  said = [w for w in words(value) if w not in _ARTICLES]
  wanted = set(words(target)).difference(_ARTICLES)
  return len(wanted.intersection(said)) / len(said) if said else 0.0


METRICS: dict[str, Callable[[str, str], float]] = {
    'exact': exact, 'normalised': normalised, 'f1': f1, 'recall': recall,
    'ems': ems}


def reference(record: types.Record) -> str:
  """Returns the text that an answer is compared with.

  Raises:
    ValueError: the record's answer is no string (also where it is hidden).
  """
  if not isinstance(record.answer, str):
    raise ValueError(f'record {record.id!r}: answer {record.answer!r} is no '
                     'string; a reward about texts needs one')
  if record.answer_type == 'choice':
    return record.options[record.answer]
  return record.answer


def reached(value: float, threshold: float) -> float:
  """Returns 1.0 iff `value` >= `threshold`, or `value` where that is 0."""
  return float(value >= threshold) if threshold else value


@lift.per_completion
def score(record: types.Record, text: str, *, metric: str = 'f1',
          threshold: float = 0.0, longest: float | None = None
          ) -> float | None:
  """Rewards the text of the answer block, in [0, 1].

  As a reward, called with (record, completions, context).

  Args:
    record: its answer is a string; of a choice, the option's text counts.
    text: a completion; unparsed without an answer block that holds something.
    metric: one of `METRICS`.
    threshold: the least value that earns 1, all below earning 0; 0 for the
      value itself.
    longest: an answer of more words than `longest` times the reference's earns
      0, by recall always, by the other metrics where it has more than 20;
      None for 3 by recall and else 5 (all proposed), 0 for no bound. Within it
      a list earns recall still: of three words, for a reference of one.

  Raises:
    ValueError: the metric is unknown, or the record's answer is no string.
  """
  if metric not in METRICS:
    raise ValueError(f'metric {metric!r}: expected one of {list(METRICS)}')
  target = reference(record)
  block = blocks.answer(text)
  if block is None or not spans.normalise(block.value):
    return None
  listed = metric == 'recall'
  if longest is None:
    longest = _LISTED if listed else _LONGEST
  limit = max(0 if listed else _SENTENCE, longest * len(words(target)))
  if longest and len(words(block.value)) > limit:
    return 0.0
  return reached(METRICS[metric](block.value, target), threshold)
