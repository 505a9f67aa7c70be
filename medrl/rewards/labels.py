"""Rules about sets of labels, and about findings with one of four states.

A label is a name compared letter by letter once normalised; what is a synonym
of what, and what a report says, are not known here.
"""

from collections.abc import Collection, Mapping
import json
import math
import re
from typing import Any

from medrl import types
from medrl.rewards import abstain
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

METRICS = ('exact', 'jaccard', 'f1')
_NONE = ('none', 'no label', 'no labels', 'empty', '无')
_STOPS = str.maketrans('；，、：', ';,,:')
# Besides what `spans.normalise` drops: emphasis and code.
_EDGES = ' .,;:!?"\'*_`$'
_AND = re.compile(r'(?i) (?:and|&) ')
_LED = re.compile(r'(?i)and\s')
_BOTH = re.compile(r'(?i)both\s')
_DENIES = re.compile(r'(?i)(?:no|not|without|neither|absent)\b')
# What is left of a second answer, or of one in a form that is not read.
_UNREAD = re.compile(
    r'(?i)```|\\boxed|[{}]|\["|\banswers?(?:\s?[:=]|\s(?:is|are)\b)|答案')
_BULLET = re.compile(r'(?:[-•·]|\d{1,2}[.)])\s+')
_STATES = {
    'positive': ('positive', 'present', 'yes', '1', '1.0', '阳性'),
    'negative': ('negative', 'absent', 'no', '0', '0.0', '阴性'),
    'uncertain': ('uncertain', 'possible', 'equivocal', '-1', '-1.0', '不确定'),
    'not mentioned': ('not mentioned', 'unmentioned', 'blank', 'nan', 'null',
                      '未提及')}
_STATE = {word: state for state, words in _STATES.items() for word in words}


def agreement(value: Collection[Any], target: Collection[Any],
              metric: str = 'jaccard') -> float:
  """Returns how far two sets agree, in [0, 1]; two empty ones agree fully.

  'exact' is equality, 'jaccard' |both| / |either| (the accuracy of ECG-R1,
  arXiv 2602.04279), 'f1' 2 |both| / (|one| + |other|). Naming every label
  earns what the share of right ones among all is worth, no more.

  Raises:
    ValueError: the metric is unknown.
  """
  if metric not in METRICS:
    raise ValueError(f'metric {metric!r}: expected one of {METRICS}')
  value, target = set(value), set(target)
  if value == target:
    return 1.0
  if metric == 'exact':
    return 0.0
  both = len(value & target)
  if metric == 'jaccard':
    return both / len(value | target)
  return 2.0 * both / (len(value) + len(target))


def names(labels: Collection[str]) -> tuple[str, ...]:
  """Returns the labels normalised, without emphasis, once each and sorted."""
  return tuple(sorted({_plain(label) for label in labels}))


def read(content: str) -> spans.Parsed | None:
  """Returns the labels an answer names, as `names` has them.

  They are a JSON list, or parts between semicolons, else lines, else commas
  and 'and'; 'none' and '[]' are no label. A name with a comma or an 'and' in it
  can therefore be told from two only between semicolons, on lines or in JSON:
  'skin and bone' by itself is two. 'no edema and effusion' is left whole, as
  both are denied. What announces the list (see `abstain.announced`), an empty
  part, a bullet and emphasis are passed over; empty content, and what holds
  more than one list or box, is unparsed.
  """
  text = abstain.announced(content)
  if text.startswith('['):
    found = _json(text)
    if not isinstance(found, list) or not all(
        isinstance(v, str) and _plain(v) for v in found):
      return None
    return spans.Parsed(names(found), spans.stripped(content), 'json')
  found = {_plain(part) for part in _parts(text)} - {''}
  if not found:
    return None
  if len(found) == 1 and not found.isdisjoint(_NONE):
    found = ()
  return spans.Parsed(tuple(sorted(found)), spans.stripped(content), 'list')


def read_states(content: str) -> spans.Parsed | None:
  """Returns the findings an answer mentions, sorted (name, state) pairs.

  Written as a JSON object or as 'edema: positive; effusion: uncertain' (parts
  as in `read`; also CheXpert's 1, 0 and -1). What is called 'not mentioned' is
  left out, as what is not named is: neither is ever 'negative'. A part without
  a state, or a finding with two, leaves all unparsed.
  """
  text = abstain.announced(content)
  if text.startswith('{'):
    found = _json(text)
    if not isinstance(found, tuple):
      return None
    pairs = [(name, 'null' if v is None else str(v)) for name, v in found]
    how = 'json'
  else:
    parts = [part for part in _parts(text) if _plain(part)]
    if not parts or any(':' not in p for p in parts):
      return None
    pairs = [tuple(p.rsplit(':', 1)) for p in parts]
    how = 'list'
  states = {}
  for name, word in pairs:
    name, state = _plain(name), _STATE.get(_plain(word))
    if not name or state is None or states.setdefault(name, state) != state:
      return None
  return spans.Parsed(mentioned(states), spans.stripped(content), how)


def mentioned(states: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
  """Returns the (name, state) pairs of all findings but those not mentioned.

  Raises:
    ValueError: a state is none of `types.STATES`.
  """
  for name, value in states.items():
    if value not in types.STATES:
      raise ValueError(f'finding {name!r}: state {value!r}; expected one of '
                       f'{types.STATES}; see labels.state')
  return tuple(sorted((_plain(name), value)
                      for name, value in states.items()
                      if value != 'not mentioned'))


def state(value: float | str | None) -> str:
  """Returns the state of a CheXpert cell: 1, 0, -1, or blank (also NaN).

  Raises:
    ValueError: it is none of these.
  """
  named = {1.0: 'positive', 0.0: 'negative', -1.0: 'uncertain'}
  try:
    number = float('nan' if value in (None, '') else value)
    return 'not mentioned' if math.isnan(number) else named[number]
  except (KeyError, ValueError) as error:
    raise ValueError(
        f'label {value!r}: expected 1, 0, -1 or a blank') from error


def pairs(answer: Any) -> tuple[tuple[str, str], ...]:
  """Returns states as `mentioned` has them, of a mapping or of pairs."""
  return mentioned(dict(answer))


@lift.per_completion
def score(record: types.Record, text: str, *,
          metric: str = 'jaccard') -> float | None:
  """Rewards labels (answer type labels) or states by `agreement`, in [0, 1].

  Of states, (finding, state) pairs are compared, those not mentioned aside: a
  wrong state costs as a missing finding and one in excess do, and silence
  about what the label is silent about earns nothing. As a reward, called with
  (record, completions, context).

  Raises:
    ValueError: the record has another answer type, its answer is hidden, or
      the metric is unknown.
  """
  kind = record.answer_type
  if kind not in ('labels', 'states') or record.answer is None:
    raise ValueError(f'record {record.id!r}: answer {record.answer!r} of type '
                     f'{kind!r}; labels.score needs labels or states')
  block = blocks.answer(text)
  if block is None:
    return None
  found = (read if kind == 'labels' else read_states)(block.value)
  if found is None:
    return None
  if record.answer == types.UNANSWERABLE:
    return 0.0
  gold = (names if kind == 'labels' else pairs)(record.answer)
  return agreement(found.value, gold, metric)


def _plain(name: str) -> str:
  return spans.normalise(name).strip(_EDGES)


def _json(text: str) -> Any:
  """Returns the JSON value, an object as its pairs (a key may stand twice).

  None if it is no JSON; deep nesting exhausts the stack.
  """
  try:
    return json.loads(text, object_pairs_hook=tuple)
  except (ValueError, RecursionError):
    return None


def _parts(text: str) -> list[str]:
  """Returns the parts of a list, [] if it is not one; some may be empty."""
  if _UNREAD.search(text):
    return []
  plain = text.translate(_STOPS)
  mark = next((m for m in (';', '\n') if m in plain.strip()), ',')
  if mark == ';':
    plain = plain.replace('\n', ';')
  parts = []
  for part in plain.split(mark):
    part = part.strip(' \t*_`')
    if not part:
      continue
    part = _BULLET.sub('', part, count=1) if _BULLET.match(part) else part
    part = _LED.sub('', part, count=1) if _LED.match(part) else part
    parts += _joined(part) if mark == ',' else [part]
  return parts


def _joined(part: str) -> list[str]:
  """Splits at each 'and' if that joins two names or two states."""
  found = _AND.split(' '.join(part.split()))
  stated = [':' in name for name in found]
  denied = [bool(_DENIES.match(name)) for name in found]
  # A name with an 'and' and its state; 'no' denies what follows 'and', too.
  if not all(stated) and (any(stated) or any(
      a and not b for a, b in zip(denied, denied[1:]))):
    return [part]
  if len(found) > 1:
    found[0] = _BOTH.sub('', found[0], count=1)
  return found
