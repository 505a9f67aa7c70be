"""Makes a reward of a rule that also says which characters earned its value.

The counterpart of `lift.per_completion` for rules with parts and spans, and for
rules that read more of a completion than its text.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

from medrl import types
from medrl.rewards import lift

Spans = tuple[tuple[int, int, float], ...]


class Grade(NamedTuple):
  """What a rule says of one completion.

  `value` is None where nothing could be read (unparsed). `spans` holds
  (start, end, value) in characters of the completion's text; `parts` further
  numbers, of the same names for every completion.
  """
  value: float | None
  spans: Spans = ()
  parts: Mapping[str, float] = {}


def per_completion(rule: Callable[..., Grade]) -> types.Reward:
  """Lifts `rule(record, completion, **options) -> Grade` to G completions.

  An unparsed completion earns 0 and is False in `Score.parsed`.
  """
  @functools.wraps(rule)
  def reward(record: types.Record, completions: list[types.Completion],
             context: Mapping[str, Any], **options) -> types.Score:
    del context  # a rule about one completion depends on nothing else
    return score(rule.__name__,
                 [rule(record, c, **options) for c in completions])

  return lift.single(reward, rule)


def score(name: str, grades: list[Grade]) -> types.Score:
  """Returns the Score of one prompt's grades; `name` is the main part's."""
  total = tuple(0.0 if g.value is None else float(g.value) for g in grades)
  others = sorted({part for g in grades for part in g.parts})
  return types.Score(
      total=total,
      parts={name: total, **{
          part: tuple(float(g.parts.get(part, 0.0)) for g in grades)
          for part in others}},
      parsed=tuple(g.value is not None for g in grades),
      valid=(True,) * len(grades),
      spans=tuple(tuple(sorted(g.spans)) for g in grades))


def moved(spans: Spans, offset: int) -> Spans:
  """Returns the spans of a piece of text in the whole text."""
  return tuple((a + offset, b + offset, value) for a, b, value in spans)
