"""Rewards made from the agreement of a prompt's completions, without a label.

Agreement is not correctness: a group that is wrong together is paid in full.
"""

from collections.abc import Mapping
from typing import Any

from medrl import types
from medrl.rewards import answer
from medrl.rewards import lift


@lift.declare(label_free=True)
def majority(record: types.Record, completions: list[types.Completion],
             context: Mapping[str, Any]) -> types.Score:
  """Returns each completion's mean agreement with the G - 1 others.

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
  return types.Score(
      total=tuple(total), parts={'majority': tuple(total)},
      parsed=tuple(v is not None for v in values),
      valid=(True,) * len(values))
