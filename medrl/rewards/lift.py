"""Makes a reward of a rule about one answer, and declares what a reward asks.

Not the place where rewards are weighed and summed: see `compose`.
"""

from collections.abc import Callable, Mapping
import functools
import inspect
from typing import Any

from medrl import types

Rule = Callable[..., float | None]


def per_completion(rule: Rule) -> types.Reward:
  """Lifts `rule(record, text, **options) -> float` to the G completions.

  A rule returns None where it found no answer: the reward is then 0 and
  `Score.parsed` is False. Options of the rule are options of the reward.
  """
  @functools.wraps(rule)
  def reward(record: types.Record, completions: list[types.Completion],
             context: Mapping[str, Any], **options) -> types.Score:
    del context  # a rule about one answer depends on nothing else
    values = [rule(record, c.text, **options) for c in completions]
    total = tuple(0.0 if v is None else float(v) for v in values)
    return types.Score(
        total=total, parts={rule.__name__: total},
        parsed=tuple(v is not None for v in values),
        valid=(True,) * len(values))

  return single(reward, rule)


def single(reward: types.Reward, rule: Callable[..., Any]) -> types.Reward:
  """Marks a reward as that of a rule about one completion, and returns it.

  It shows the rule's options as its own, which `compose` checks; and a worker
  pool may send it one completion, of which it gets the text alone unless it
  needs signals.
  """
  options = [p for p in inspect.signature(rule).parameters.values()
             if p.kind is p.KEYWORD_ONLY]
  names = ('record', 'completions', 'context')
  reward.per_completion = True
  reward.__signature__ = inspect.Signature(
      [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD)
       for n in names] + options)
  return reward


def declare(label_free: bool = False,
            needs: tuple[str, ...] = ()) -> Callable[[Any], Any]:
  """Decorator that sets the two attributes `compose` reads off a reward.

  Args:
    label_free: the reward must not see the label; `compose` then hides it.
    needs: names of the signals to be computed into `Completion.signals`.
  """
  def mark(reward):
    reward.label_free = label_free
    reward.needs = tuple(needs)
    return reward
  return mark
