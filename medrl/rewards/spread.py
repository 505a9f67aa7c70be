"""DARE's reward: how a group's answers are spread, and how sure they were.

No label is seen. Single majorities are in `vote`.
"""

from collections.abc import Hashable, Mapping, Sequence
import math
from typing import Any

from medrl import types
from medrl.rewards import answer
from medrl.rewards import lift

# So that answers exactly at the threshold survive in every precision.
SLACK = 1e-5


@lift.declare(label_free=True, needs=('token_entropy',))
def distribution(record: types.Record, completions: list[types.Completion],
                 context: Mapping[str, Any], *, alpha: float = 0.2,
                 prune: float = -1.0, effective: float = 50.0,
                 epsilon: float = 0.01, over: str = 'answers',
                 leave_one_out: bool = False) -> types.Score:
  """Returns R = p + alpha b of each answer (DARE, arXiv 2601.21804).

  Of M parsed answers, n(y) read y, and u(y) is the mean over them of the mean
  token entropy in nats:

    p(y) = [n(y) / (u(y) + epsilon)] / sum over answers of the same
    survivors: p(y) >= prune, and p renormalised over them
    b(y) = (1 - n(y) / M') (1 - u(y)), M' = parsed answers that survived

  What is unparsed or pruned earns 0 and stays in the group. The formulas are
  the paper's; alpha, prune, effective and pruned = 0 are proposed and epsilon
  is ours: the paper's own were not found.

  Args:
    record: without its answer.
    completions: with the signal 'token_entropy' where an answer was parsed.
    context: not looked at.
    alpha: weight of the bonus, in [0, 1].
    prune: the least p; negative for 1 / M from M = 16 on and 0.05 below.
    effective: u is divided by log(effective) and clipped to [0, 1]; 0 takes
      nats as printed, where an answer above 1 nat loses by its bonus.
    epsilon: positive; the larger, the less certainty counts.
    over: what survivors are normalised over: 'answers', distinct ones, or
      'rollouts' as printed, where a frequent answer counts once a rollout.
    leave_one_out: each completion is judged by the others' p, b, n, u and M;
      an answer that no other gave earns 0.

  Returns:
    values in [0, 1 + alpha]; below 0 only with effective = 0.

  Raises:
    ValueError: an option is out of range, or an answer has no entropies, or
      not finite ones.
  """
  del context
  check_options(alpha, effective, epsilon, over)
  values = [answer.prediction(record, c.text) for c in completions]
  entropies = [0.0 if v is None else _mean_entropy(c)
               for v, c in zip(values, completions)]
  options = (alpha, prune, effective, epsilon, over)
  whole = _rewards(values, entropies, *options)
  total = []
  for i, value in enumerate(values):
    table = whole
    if leave_one_out:
      table = _rewards(values[:i] + values[i + 1:],
                       entropies[:i] + entropies[i + 1:], *options)
    total.append(table[value] if value in table else 0.0)
  earned = tuple(total)
  return types.Score(
      earned, {'distribution': earned},
      tuple(v is not None for v in values), (True,) * len(values))


distribution.array_form = 'medrl.rewards.array.votes.distribution'


def check_options(alpha: float, effective: float, epsilon: float,
                  over: str) -> None:
  """Raises ValueError where an option of `distribution` is out of range."""
  if (not 0 <= alpha <= 1 or not epsilon > 0
      or not (effective == 0 or effective > 1)
      or over not in ('answers', 'rollouts')):
    raise ValueError(
        f'alpha {alpha!r}, effective {effective!r}, epsilon {epsilon!r}, over '
        f"{over!r}: expected [0, 1], 0 or above 1, positive, and 'answers' or "
        "'rollouts'")


def threshold(prune: float, answers: int) -> float:
  """Returns the least p of an answer that survives among `answers` parsed."""
  if prune >= 0:
    return prune
  return 1 / answers if answers >= 16 else 0.05


def _mean_entropy(completion: types.Completion) -> float:
  if 'token_entropy' not in completion.signals:
    raise ValueError("a completion has no signal 'token_entropy'; it has "
                     f'{sorted(completion.signals)!r}')
  values = [float(v) for v in completion.signals['token_entropy']]
  mean = math.fsum(values) / len(values) if values else math.nan
  if not math.isfinite(mean):
    raise ValueError(f'the mean entropy of {len(values)} tokens is {mean!r}; '
                     'expected a finite number of nats')
  return max(mean, 0.0)   # rounding goes below


def _rewards(values: Sequence[Hashable | None], entropies: Sequence[float],
             alpha: float, prune: float, effective: float, epsilon: float,
             over: str) -> dict[Hashable, float]:
  """Surviving answer -> reward."""
  members: dict[Hashable, list[float]] = {}
  for value, entropy in zip(values, entropies):
    if value is not None:
      members.setdefault(value, []).append(entropy)
  if not members:
    return {}
  count = {y: len(e) for y, e in members.items()}
  unsure = {y: math.fsum(e) / len(e) for y, e in members.items()}
  if effective:
    unsure = {y: min(u / math.log(effective), 1.0) for y, u in unsure.items()}
  mass = {y: n / (unsure[y] + epsilon) for y, n in count.items()}
  whole = math.fsum(mass.values())
  least = threshold(prune, sum(count.values())) * (1 - SLACK)
  share = {y: m / whole for y, m in mass.items() if m / whole >= least}
  rest = math.fsum(p * (count[y] if over == 'rollouts' else 1)
                   for y, p in share.items())
  survivors = sum(count[y] for y in share)
  return {y: p / rest + alpha * (1 - count[y] / survivors) * (1 - unsure[y])
          for y, p in share.items()}
