"""Rewards made of other rewards by other means than a sum: gates and products.

  config.rewards.morphology = dict(
      fn='medrl.rewards.gates.gated', weight=0.5, options=dict(
          when=dict(fn='medrl.rewards.taxonomy.score'), least=0.5,
          then=dict(fn='medrl.rewards.labels.score')))

A term inside is {'fn': dotted name, 'options': mapping}, or the name alone. It
fails, hides the label and asks for signals as it would outside (`compose`).
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

from medrl import lookup
from medrl import types
from medrl.rewards import compose

Term = str | Mapping[str, Any]


def gated(record: types.Record, completions: list[types.Completion],
          context: Mapping[str, Any], *, when: Term, then: Term,
          least: float = 1.0, otherwise: float = 0.0) -> types.Score:
  """Returns `then` where `when` is at least `least`, and `otherwise` elsewhere.

  A bonus for right answers only has `answer.score` as `when` (VLM-R^3, arXiv
  2505.16192, for regions; Ophiuchus, arXiv 2512.14157, for tools). One that
  counts in the right branch of the taxonomy only has least = 0.5 (MAVIC of
  DermoGPT, arXiv 2601.01868: proposed; the paper's own was not found).

  Returns:
    values in the range of `then` and `otherwise`; spans where the gate is open.
  """
  gate, bonus = _scores([when, then], record, completions, context)
  is_open = [value >= least for value in gate.total]
  total = tuple(b if o else float(otherwise)
                for b, o in zip(bonus.total, is_open))
  return _joined('gated', total, [gate, bonus], tuple(
      spans if o else () for spans, o in zip(bonus.spans, is_open)))


def every(record: types.Record, completions: list[types.Completion],
          context: Mapping[str, Any], *, terms: Sequence[Term],
          least: float = 1.0) -> types.Score:
  """Returns 1.0 where each of `terms` is at least `least`, else 0.0.

  The hard AND of format and answer of Vision-R1 (arXiv 2503.06749).

  Raises:
    ValueError: there are no terms.
  """
  scores = _scores(terms, record, completions, context)
  total = tuple(float(all(v >= least for v in values))
                for values in zip(*(s.total for s in scores)))
  return _joined('every', total, scores, ((),) * len(total))


def product(record: types.Record, completions: list[types.Completion],
            context: Mapping[str, Any], *, terms: Sequence[Term]
            ) -> types.Score:
  """Returns the product of `terms`, as of a reward and a format of 0 or 1.

  The guard proposed for CAPO (arXiv 2506.12849), so that malformed text earns
  nothing. Two negative values make a positive one, so all but one of the terms
  should be 0 or above. A stretch of text (`Score.spans`) is multiplied by the
  other terms.

  Raises:
    ValueError: there are no terms.
  """
  scores = _scores(terms, record, completions, context)
  columns = list(zip(*(s.total for s in scores)))
  spans = tuple(
      tuple((start, end, value * math.prod(column[:k] + column[k + 1:]))
            for k, score in enumerate(scores)
            for start, end, value in score.spans[i])
      for i, column in enumerate(columns))
  return _joined('product', tuple(map(math.prod, columns)), scores, spans)


def inner(options: Mapping[str, Any]) -> list[Term]:
  """Returns the terms inside a gate with these options."""
  return ([options[k] for k in ('when', 'then') if k in options]
          + list(options['terms'] if 'terms' in options else ()))


gated.inner = every.inner = product.inner = inner
gated.array_form = 'medrl.rewards.array.combine.gated'
every.array_form = 'medrl.rewards.array.combine.every'
product.array_form = 'medrl.rewards.array.combine.product'


def spec(term: Term) -> dict[str, Any]:
  """Returns a term inside a gate as `compose` takes it.

  Raises:
    ValueError: it has a weight, which would be lost in a gate.
  """
  out = {'fn': term} if isinstance(term, str) else dict(term)
  if 'weight' in out:
    raise ValueError(f'term {out!r} in a gate has a weight; weigh the gate')
  return out | {'weight': 1.0}


def _scores(terms: Sequence[Term], record: types.Record,
            completions: list[types.Completion], context: Mapping[str, Any],
            resolve: Callable[[str], Any] = lookup.resolve
            ) -> list[types.Score]:
  if not terms or isinstance(terms, (str, Mapping)):
    raise ValueError(f'terms {terms!r}: expected a list of at least one term')
  return [compose.build({'term': spec(term)}, resolve)(
      record, completions, context) for term in terms]


def _joined(name: str, total: tuple[float, ...], scores: list[types.Score],
            spans: tuple) -> types.Score:
  members = range(len(total))
  return types.Score(
      total, {name: total},
      parsed=tuple(all(s.parsed[i] for s in scores) for i in members),
      valid=tuple(all(s.valid[i] for s in scores) for i in members),
      errors=sum(s.errors for s in scores), spans=spans)
