"""What an unparsed completion is paid, where a wrong answer can cost.

Elsewhere it earns 0, which is the least there is to earn.
"""

import dataclasses

from medrl import types


def unparsed(score: types.Score, part: str, value: float) -> types.Score:
  """Returns `score` with `value` for what is unparsed, in total and `part`.

  So that garbling does not beat a wrong answer. `Score.parsed` stays False.
  """
  total = tuple(t if p else float(value)
                for t, p in zip(score.total, score.parsed))
  return dataclasses.replace(score, total=total,
                             parts={**score.parts, part: total})
