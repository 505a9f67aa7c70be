"""Rewards made from the agreement of a prompt's completions, without a label.

Agreement is not correctness: a group that is wrong together is paid in full.
Every reward here gets a record without answer, demonstration and meta.
"""

import collections
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from medrl import types
from medrl.rewards import answer
from medrl.rewards import lift


@lift.declare(label_free=True)
def majority(record: types.Record, completions: list[types.Completion],
             context: Mapping[str, Any]) -> types.Score:
  """Returns each completion's mean agreement with the G - 1 others, in [0, 1].

  For discrete answers this is the share of the others with the same parsed
  answer (the leave-one-out form of the vote of TTRL, arXiv 2504.16084, in
  which no completion votes for itself); boxes agree by IoU. An unparsed answer
  agrees with nothing and earns 0; so does a lone completion.
  """
  del context
  values = [answer.prediction(record, c.text) for c in completions]
  total = []
  for i, value in enumerate(values):
    shares = [
        0.0 if value is None or other is None
        else answer.agreement(record, value, other)
        for j, other in enumerate(values) if j != i]
    total.append(sum(shares) / max(len(shares), 1))
  return _scored('majority', total, values, len(values))


majority.array_form = 'medrl.rewards.array.votes.majority'


@lift.declare(label_free=True)
def pseudo_label(record: types.Record, completions: list[types.Completion],
                 context: Mapping[str, Any], *, keep: int = 0,
                 leave_one_out: bool = False) -> types.Score:
  """Rewards agreement with the group's most frequent answer, in [0, 1].

  TTRL (arXiv 2504.16084; code): all completions vote, the unparsed do not, and
  the first `keep` are trained on. Votes are counted by the canonical answer,
  and the reward is each answer's agreement with the label so found. Of answers
  with equally many votes each is the label in turn and the mean is earned, so
  one of k tied discrete answers earns 1 / k; TTRL's code takes the one that
  came first, which depends on the order of the group.

  Args:
    record: without its answer.
    completions: all G that vote.
    context: not looked at.
    keep: completions from the first on that stay valid, to be trained on
      (TTRL: 32 of 64); 0 keeps all. The values do not depend on the order of
      the group, which are kept does.
    leave_one_out: no completion votes for itself (the option of SPINE, arXiv
      2511.17938, whose reward else is TTRL's). Where no other has an answer,
      the reward is 0.

  Raises:
    ValueError: keep < 0.
  """
  del context
  if keep < 0:
    raise ValueError(f'keep = {keep!r}: expected a number of completions, or 0 '
                     'for all')
  values = [answer.prediction(record, c.text) for c in completions]
  votes = collections.Counter(v for v in values if v is not None)
  total = []
  for value in values:
    if value is None:
      total.append(0.0)
      continue
    labels = leaders(votes - collections.Counter([value])
                     if leave_one_out else votes)
    shares = [answer.agreement(record, value, label) for label in labels]
    total.append(sum(shares) / max(len(shares), 1))
  return _scored('pseudo_label', total, values, keep or len(values))


pseudo_label.array_form = 'medrl.rewards.array.votes.pseudo_label'


def leaders(votes: Mapping[Hashable, int]) -> list[Hashable]:
  """Returns the answers that have the most votes; [] where there are none."""
  top = max(votes.values(), default=0)
  return [value for value, count in votes.items() if count == top]


def codes(values: Sequence[Hashable | None]) -> list[int]:
  """Returns an integer for each answer, equal for equal ones, -1 for None.

  What `array.votes` takes: codes have a meaning within one prompt only.
  """
  known: dict[Hashable, int] = {}
  return [-1 if v is None else known.setdefault(v, len(known)) for v in values]


def _scored(name: str, total: list[float], values: list[Any],
            keep: int) -> types.Score:
  earned = tuple(total)
  return types.Score(
      total=earned, parts={name: earned},
      parsed=tuple(v is not None for v in values),
      valid=tuple(i < keep for i in range(len(values))))
