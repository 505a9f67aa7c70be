"""Rewards of a completion's length in tokens; oracle of `array.budget`.

A length is that of `Completion.ids`: what the policy wrote, without the token
that ended it. Whether the answer is right makes no difference here: where it
should, as in L1's maximum, gate the reward (`gates`).
"""

from collections.abc import Callable, Mapping
import math
from typing import Any

from medrl import types


def ids_of(completion: types.Completion) -> tuple[int, ...]:
  """Returns the token ids of a completion.

  Raises:
    ValueError: it has text and no ids; text alone has no length in tokens.
  """
  if completion.text and not completion.ids:
    raise ValueError(
        f'a completion of {len(completion.text)} characters has no token ids '
        '(ids=()); this reward counts tokens, so give it sampled completions')
  return completion.ids


def exact(record: types.Record, completions: list[types.Completion],
          context: Mapping[str, Any], *, budget: int = 0,
          scale: float = 1500.0) -> types.Score:
  """Rewards a length near the budget: clip(1 - |n - L| / scale, -1, 1).

  Med-U1 (arXiv 2506.12307; code), where n = budget and L = tokens. L1's exact
  budget (arXiv 2503.04697) is the same up to a constant that no group notices,
  with scale = 1 / 0.0003, as long as |n - L| <= 2 scale.

  Args:
    record: `meta['budget']` is its budget in tokens, unless `budget` is given.
    completions: with `ids`.
    context: not looked at.
    budget: tokens, for all records; 0 takes the record's.
    scale: tokens off the budget that cost 1.

  Returns:
    values in [-1, 1].

  Raises:
    ValueError: there is no budget, or it is not positive and finite; a
      completion has text but no ids; or `scale` is not positive.
  """
  del context
  positive(scale=scale)
  n = _budget(record, budget)
  return _scored('exact', completions, lambda size: _clip(
      1.0 - abs(n - size) / scale))


exact.array_form = 'medrl.rewards.array.budget.exact'


def maximum(record: types.Record, completions: list[types.Completion],
            context: Mapping[str, Any], *, budget: int = 0,
            scale: float = 500.0, centre: float = 0.0,
            low: float = -1.0) -> types.Score:
  """Rewards staying below the budget: clip((n - L) / scale + centre, low, 1).

  The defaults are Med-U1's (arXiv 2506.12307; code). L1's maximum (arXiv
  2503.04697, eq. 2) has scale = 1 / 0.0003, centre = 0.5, low = 0, and counts
  for right answers only (`gates.product`).

  Args:
    record: as in `exact`.
    completions: with `ids`.
    context: not looked at.
    budget: as in `exact`.
    scale: tokens below the budget that earn 1.
    centre: what using the whole budget earns.
    low: what is earned at least, below 1.

  Returns:
    values in [low, 1].

  Raises:
    ValueError: as in `exact`, or `low` is not below 1.
  """
  del context
  positive(scale=scale, span=1.0 - low)
  n = _budget(record, budget)
  return _scored('maximum', completions, lambda size: _clip(
      (n - size) / scale + centre, low))


maximum.array_form = 'medrl.rewards.array.budget.maximum'


def signed(record: types.Record, completions: list[types.Completion],
           context: Mapping[str, Any], *, exact_scale: float = 1500.0,
           maximum_scale: float = 500.0) -> types.Score:
  """Applies the kind of budget that the record asks for, as Med-U1 mixes them.

  `record.meta['budget']` is n > 1 for `exact`, -n < -1 for `maximum`, and -1
  or absent for none, which earns 0.

  Returns:
    values in [-1, 1].

  Raises:
    ValueError: the budget is neither above 1, below -1 nor -1, or not a finite
      number; else as in `exact`.
  """
  n = record.meta['budget'] if 'budget' in record.meta else -1
  if not _number(n) or -1 < n <= 1:
    raise ValueError(f'record {record.id!r}: budget {n!r}; expected n > 1 '
                     '(exact), -n < -1 (at most n) or -1 (none)')
  positive(exact_scale=exact_scale, maximum_scale=maximum_scale)
  if n == -1:
    return _scored('signed', completions, lambda size: 0.0)
  if n > 0:
    total = exact(record, completions, context, budget=n,
                  scale=exact_scale).total
  else:
    total = maximum(record, completions, context, budget=-n,
                    scale=maximum_scale).total
  return types.Score(total, {'signed': total})


signed.array_form = 'medrl.rewards.array.budget.signed'


def overlong(record: types.Record, completions: list[types.Completion],
             context: Mapping[str, Any], *, limit: int, buffer: int,
             low: float = -1.0) -> types.Score:
  """Soft over-long penalty: clip((limit - buffer - L) / buffer, low, 0).

  DAPO (arXiv 2503.14476, eq. 13): 0 up to limit - buffer, -1 at the limit.
  Beyond the limit peers differ: at -1 as here (TRL), without end (verl), which
  is `low=-inf`. Its factor is the term's weight.

  Args:
    record: not looked at.
    completions: with `ids`.
    context: not looked at.
    limit: tokens.
    buffer: tokens before the limit over which the penalty grows.
    low: the largest penalty, below 0.

  Returns:
    values in [low, 0].

  Raises:
    ValueError: not 0 < buffer <= limit, `low` is not below 0, or a completion
      has text but no ids.
  """
  del record, context
  positive(limit=limit, buffer=buffer, room=limit - buffer + 1, span=-low)
  return _scored('overlong', completions, lambda size: _clip(
      (limit - buffer - size) / buffer, low, 0.0))


overlong.array_form = 'medrl.rewards.array.budget.overlong'


def cosine(record: types.Record, completions: list[types.Completion],
           context: Mapping[str, Any], *, start: int = 8192,
           limit: int = 16384, most: float = 0.5) -> types.Score:
  """Over-length penalty -most (1 - cos(pi x)) / 2, x from `start` to `limit`.

  x = clip((L - start) / (limit - start), 0, 1). WiNGPT-3.0 (arXiv 2505.17387)
  says 'cosine penalty up to 0.5 above 8K' only: the form and `limit` are
  proposed; the paper's own were not found. It penalises wrong answers too.

  Args:
    record: not looked at.
    completions: with `ids`.
    context: not looked at.
    start: tokens up to which nothing is lost.
    limit: tokens at which all of it is lost.
    most: the largest penalty, positive.

  Returns:
    values in [-most, 0].

  Raises:
    ValueError: not 0 <= start < limit, `most` is not positive, or a completion
      has text but no ids.
  """
  del record, context
  positive(start=start + 1, range=limit - start, most=most)

  def penalty(size: int) -> float:
    share = _clip((size - start) / (limit - start), 0.0)
    return -most * (1.0 - math.cos(math.pi * share)) / 2.0

  return _scored('cosine', completions, penalty)


cosine.array_form = 'medrl.rewards.array.budget.cosine'


def _scored(name: str, completions: list[types.Completion],
            rule: Callable[[int], float]) -> types.Score:
  total = tuple(rule(len(ids_of(c))) for c in completions)
  return types.Score(total, {name: total})


def _clip(value: float, low: float = -1.0, high: float = 1.0) -> float:
  return min(max(value, low), high)


def _number(value: Any) -> bool:
  return (isinstance(value, (int, float)) and not isinstance(value, bool)
          and math.isfinite(value))


def _budget(record: types.Record, budget: float) -> float:
  if not budget:
    if 'budget' not in record.meta:
      raise ValueError(
          f'record {record.id!r} has no budget: give it as meta["budget"], in '
          'tokens, or as the option budget')
    budget = record.meta['budget']
  if not _number(budget) or budget <= 0:
    raise ValueError(f'record {record.id!r}: budget {budget!r}; expected a '
                     'positive number of tokens')
  return budget


def positive(**values: float) -> None:
  """Raises ValueError where a value is not above 0, naming it."""
  for name, value in values.items():
    if not value > 0:
      raise ValueError(f'{name} = {value!r} of a length reward is not above 0')
