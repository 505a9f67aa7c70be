"""Rewards for reasoning: its steps, its evidence, their truth and worth.

What these see is the think block; the answer is judged elsewhere. All of them
can be earned by text that is beside the point, so they go with a reward for the
answer (a gate, or a small weight).
"""

from collections.abc import Mapping, Sequence
import math
import re
from typing import Any

from medrl import types
from medrl.rewards import answer
from medrl.rewards import cues
from medrl.rewards import findings
from medrl.rewards import graded
from medrl.rewards import lexicon as lexicon_lib
from medrl.rewards import lift
from medrl.rewards import phrases
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

_NUMBER = re.compile(r'[-+\u2212]?\d{1,12}(?:[.,]\d{1,6})?')
_NOT = re.compile(r"(?i)\bnot\b|n['\u2019]t\b")
# How far behind its name a measurement's value may stand, in characters.
_REACH = 40


def steps(text: str) -> list[spans.Parsed]:
  """Returns the numbered steps of the think block, spans in `text`."""
  return blocks.steps(text) if blocks.think(text) else []


def meta(record: types.Record, key: str, kind: type) -> Any:
  """Returns `record.meta[key]`, or an empty `kind` where there is none.

  Raises:
    ValueError: it is no `kind` (one of Mapping, Sequence and str).
  """
  empty = {Mapping: {}, Sequence: (), str: ''}[kind]
  value = record.meta.get(key, empty)
  if not isinstance(value, kind) or isinstance(value, str) and kind is not str:
    raise ValueError(f'record {record.id!r}: meta[{key!r}] is a '
                     f'{type(value).__name__}; expected a {kind.__name__}')
  return value


@graded.per_completion
def evidence(record: types.Record, completion: types.Completion, *,
             key: str = 'evidence') -> graded.Grade:
  """Rewards the evidence phrases stated in their step, in [0, 1].

  r_EDER of ECG-R1 (arXiv 2602.04279): the mean over the steps that have gold
  phrases of the share found in the text of the step of that number, as
  substrings whatever their case. A missing step earns 0; of two steps with one
  number the last counts. Unparsed without a think block or without steps. Spans
  are the phrases found, worth their share of the reward.

  A substring is found in a denial too ('no ST elevation'), and a step that
  lists every phrase there is finds them all.

  Args:
    record: with meta[key], step number -> phrases; without any phrase all
      completions earn 0.
    completion: with "Step 1: ..." in its think block.
    key: of the phrases.
  """
  gold = {int(k): [str(p) for p in v if str(p).strip()]
          for k, v in meta(record, key, Mapping).items()}
  gold = {k: v for k, v in gold.items() if v}
  known = {_number(s): s for s in steps(completion.text)}
  if not known:
    return graded.Grade(None)
  total, marks = 0.0, []
  for number, wanted in gold.items():
    step = known.get(number)
    if step is None:
      continue
    worth = 1.0 / (len(gold) * len(wanted))
    for phrase in wanted:
      match = re.search(re.escape(phrase), step.value, re.IGNORECASE)
      if match:
        total += worth
        at = step.span[0]
        marks.append((at + match.start(), at + match.end(), worth))
  return graded.Grade(min(total, 1.0), tuple(marks))


def _number(step: spans.Parsed) -> int:
  found = re.search(r'\d{1,6}', str(step.how))
  return int(found[0]) if found else -1


@graded.per_completion
def step_count(record: types.Record, completion: types.Completion, *,
               key: str = 'template', slack: float = 1.5, words: int = 5,
               likeness: float = 0.8) -> graded.Grade:
  """Rewards as many steps as the template has, in [0, 1].

  PQtR of CardiacMind (arXiv 2601.08440), proposed (the paper's own was not
  found). With rho = steps / template's steps: rho up to 1; 1 up to `slack`;
  max(0, 1 - (rho - slack)) above. Steps of fewer than `words` words do not
  count, nor do those whose words have a Jaccard above `likeness` with an
  earlier one. Spans are the steps: those that count share the reward, the
  others are worth 0. Unparsed without steps. Says nothing about what the steps
  say: see `coverage`.

  Args:
    record: with meta[key], a sequence with an item for each step; without one
      all completions earn 0.
    completion: with numbered steps in its think block.
    key: of the template.
    slack: how many times the template's steps are still in full.
    words: fewest words of a step.
    likeness: highest Jaccard of two steps.
  """
  wanted = len(meta(record, key, Sequence))
  found = steps(completion.text)
  if not found:
    return graded.Grade(None)
  if not wanted:
    return graded.Grade(0.0)
  # Beyond this the reward is 0, and comparing all pairs would be quadratic.
  most = int(wanted * (slack + 1)) + 1
  kept, seen = [], []
  for step in found:
    said = frozenset(phrases.words(step.value)[0])
    if len(kept) < most and len(step.value.split()) >= words and not any(
        len(said & other) > likeness * len(said | other) for other in seen):
      seen.append(said)
      kept.append(step)
  rho = len(kept) / wanted
  value = min(rho, 1.0) if rho <= slack else max(0.0, 1.0 - (rho - slack))
  share = value / max(len(kept), 1)
  marks = tuple((*s.span, share if s in kept else 0.0) for s in found)
  return graded.Grade(value, marks)


@graded.per_completion
def coverage(record: types.Record, completion: types.Completion, *,
             views: str = 'views', measurements: str = 'measurements',
             known: tuple[str, ...] = (), tolerance: float = 0.05
             ) -> graded.Grade:
  """Rewards steps that use the views and measurements supplied, in [0, 1].

  PQlR of CardiacMind (arXiv 2601.08440), proposed (the paper's own was not
  found): 0.5 |views cited| / |views| + 0.5 |measurements cited with a value
  within `tolerance`| / |measurements|, less 1 / |views| for each step that
  cites a view that was not supplied; not below 0. Where the record has no views
  or no measurements, the other half counts in full; with neither all earn 0. A
  measurement's value is the first number behind its name in the step; one that
  is wrong anywhere is not cited. Unparsed without steps. Spans are the
  citations: what each is worth, or costs. Naming everything in one step earns
  it all; `step_count` is the counterweight.

  What is said not to be there ('no PLAX was given', 'EF is not 55') is neither
  cited nor costs anything; by rules over words, see `cues.unsupplied`.

  Args:
    record: with meta[views], names, and meta[measurements], name -> number.
    completion: with numbered steps in its think block.
    views: key of the views.
    measurements: key of the measurements.
    known: all views there are, to tell those that were not supplied.
    tolerance: relative.

  Raises:
    ValueError: a name holds no word, or a measurement is no finite number.
  """
  supplied = [str(v) for v in meta(record, views, Sequence)]
  values = _values(record, measurements)
  tree = _names(supplied, values, known, (
      f'record {record.id!r}: meta[{views!r}]',
      f'record {record.id!r}: meta[{measurements!r}]'))
  found = steps(completion.text)
  if not found:
    return graded.Grade(None)
  half = 0.5 if supplied and values else 1.0
  cited, wrong, marks, cost = {}, set(), [], 0.0
  for step in found:
    strange = False
    for start, end, hits in _cited(step.value, tree):
      for kind, name in hits:
        at = start + step.span[0], end + step.span[0]
        near = kind == 'value' and _near(step.value, end, values[name],
                                         tolerance)
        if kind == 'other':
          strange = True
          marks.append((*at, -1.0 / max(len(supplied), 1)))
        elif kind == 'view' or near:
          cited.setdefault((kind, name), at)
        elif near is False:
          wrong.add(name)
    cost += strange / max(len(supplied), 1)
  total = -cost
  for (kind, name), at in cited.items():
    if name not in wrong or kind == 'view':
      worth = half / len(supplied if kind == 'view' else values)
      total += worth
      marks.append((*at, worth))
  return graded.Grade(min(max(total, 0.0), 1.0), tuple(marks))


def _values(record: types.Record, key: str) -> dict[str, float]:
  """The record's measurements, name -> finite number."""
  out = {}
  for name, value in meta(record, key, Mapping).items():
    try:
      out[str(name)] = float(value)
    except (TypeError, ValueError):
      out[str(name)] = math.nan
    if not math.isfinite(out[str(name)]):
      raise ValueError(f'record {record.id!r}: meta[{key!r}] has {value!r} for '
                       f'{name!r}; expected a finite number')
  return out


def _names(supplied: Sequence[str], values: Mapping[str, float],
           known: Sequence[str], places: tuple[str, str]) -> dict[str, Any]:
  """A tree of the names that a step may cite; `places` say whose they are."""
  for place, names in zip((*places, 'the option known'),
                          (supplied, values, known)):
    for name in names:
      if not _same(name):
        raise ValueError(f'{place} holds {name!r}, which has no letter or '
                         'digit to look for; name it as reasoning would')
  own = {_same(v) for v in supplied}
  return phrases.table([
      *((v, ('view', _same(v))) for v in supplied),
      *((v, ('other', _same(v))) for v in known if _same(v) not in own),
      *((m, ('value', m)) for m in values)])


def _cited(text: str, tree: Mapping[str, Any]) -> list[tuple[int, int, Any]]:
  """(start, end, values) of the names in a step that it does not deny."""
  words, places = phrases.words(text)
  found = phrases.matches(words, tree)
  denied = cues.unsupplied(words, [(a, b) for a, b, _ in found])
  return [(places[a][0], places[b - 1][1], hits)
          for (a, b, hits), gone in zip(found, denied) if not gone]


def _same(name: str) -> str:
  return ' '.join(w for w in phrases.words(name)[0] if w[0].isalnum())


def _near(text: str, end: int, value: float, tolerance: float) -> bool | None:
  """Whether the first number behind `end` is near; None if there is none."""
  match = _NUMBER.search(text, end, end + _REACH)
  if match is None or text[match.end():match.end() + 1].isdigit():
    return None  # there is none, or it goes on beyond the reach
  if _NOT.search(text, end, match.start()):
    return None  # 'EF is not 55'
  said = float(match[0].replace('\u2212', '-').replace(',', '.'))
  return abs(said - value) <= tolerance * abs(value) + 1e-9


@graded.per_completion
def factual(record: types.Record, completion: types.Completion, *,
            key: str = 'report', lexicon: str = 'chexpert') -> graded.Grade:
  """Rewards reasoning that agrees with the report, in [0, 1].

  ChestX-Reasoner's r_proc (arXiv 2504.20930), proposed (the paper's own was not
  found): the share of the think block's findings whose state is the report's;
  what the report does not mention is negative there. Derived findings do not
  count. 0 without findings; 0 for all completions without a report. Spans are
  the evidence: 1 where it agrees, else -1. Unparsed without a think block.

  It is a precision: a list of denials of rare findings earns all of it.
  """
  think = blocks.think(completion.text)
  if think is None:
    return graded.Grade(None)
  told = meta(record, key, str)
  if not told.strip():
    return graded.Grade(0.0)
  book = lexicon_lib.load(lexicon)
  gold = findings.states(told, lexicon)
  said = {k: v for k, v in findings.extract(think.value, lexicon).items()
          if k != book.none}
  right = {k: v.state == gold.get(k, 'negative') for k, v in said.items()}
  marks = {}
  for name, label in said.items():
    for at in label.spans:
      marks.setdefault(at, []).append(1.0 if right[name] else -1.0)
  value = sum(right.values()) / len(right) if right else 0.0
  return graded.Grade(value, graded.moved(
      tuple((*at, sum(v) / len(v)) for at, v in marks.items()), think.span[0]))


@lift.declare(needs=('continuations',))
@graded.per_completion
def step_values(record: types.Record, completion: types.Completion, *,
                reduce: str = 'mean', before: float = 0.0,
                right: float = 0.5) -> graded.Grade:
  """Rewards steps from which answers turn out right, in [0, 1].

  MICS (arXiv 2506.16962): the value of a prefix is the share of its
  continuations that are right; the reward is the mean over prefixes or the last
  one's. Spans are the steps between prefixes, worth the difference of value to
  the prefix before, in [-1, 1] (its use in RL is proposed). Unparsed without
  continuations.

  Reads the signal `continuations`: {'end': characters of the prefix, 'texts':
  completions that begin with it}, several.

  Args:
    record: with an answer.
    completion: with the signal.
    reduce: 'mean' or 'last'.
    before: value of having written nothing, for the first difference.
    right: least agreement of a right answer (those of boxes are graded).

  Raises:
    ValueError: the signal is missing, malformed, or `reduce` is unknown.
  """
  if reduce not in ('mean', 'last'):
    raise ValueError(f"reduce {reduce!r}: expected 'mean' or 'last'")
  if 'continuations' not in completion.signals:
    raise ValueError(f'record {record.id!r}: the signal continuations is '
                     f'missing; there are {sorted(completion.signals)}')
  found = sorted(completion.signals['continuations'] or (),
                 key=lambda c: c['end'])
  values, marks, last, start = [], [], before, 0
  for item in found:
    end, texts = item['end'], item['texts']
    if not 0 <= end <= len(completion.text):
      raise ValueError(f'a prefix of {end} characters of a text of '
                       f'{len(completion.text)}')
    if not texts:
      continue
    value = sum((answer.correct(record, t) or 0.0) >= right
                for t in texts) / len(texts)
    values.append(value)
    if end > start:
      marks.append((start, end, value - last))
    last, start = value, max(start, end)
  if not values:
    return graded.Grade(None)
  return graded.Grade(values[-1] if reduce == 'last'
                      else sum(values) / len(values), tuple(marks))
