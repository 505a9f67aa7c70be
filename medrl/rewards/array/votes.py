"""Agreement within groups of answers [P, G], over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracles
are `medrl.rewards.vote` and `medrl.rewards.spread`, for answers that are equal
or not: boxes, and numbers with a tolerance, have no array form. Answers are
codes that mean something within a prompt only (`vote.codes`), -1 for unparsed.
"""

import math
from typing import Any

from medrl.rewards import spread as oracle


def majority(answers: Any, xp: Any) -> Any:
  """Returns the share of the G - 1 others with the same answer, [P, G]."""
  others = max(answers.shape[-1] - 1, 1)
  return xp.where(answers >= 0, _same(answers).sum(-1) - 1, 0) * 1.0 / others


def pseudo_label(answers: Any, xp: Any, *, keep: int = 0,
                 leave_one_out: bool = False) -> Any:
  """Returns agreement with the most frequent answer, [P, G]; 1 / k of k tied.

  Args:
    answers: int [P, G].
    xp: the array namespace.
    keep: changes no value; `kept` is what it leaves valid.
    leave_one_out: no completion votes for itself.
  """
  del keep
  same = _same(answers)
  votes = same.sum(-1)
  parsed = answers >= 0
  if not leave_one_out:
    top = votes.max(-1, keepdims=True)
    first = parsed & (votes == top)
    # Each of the k answers is counted once by each of its `top` voters.
    tied = xp.maximum(first.sum(-1, keepdims=True), 1)
    return xp.where(first, top, 0) / tied
  # [P, G, H]: the votes that the answer of h has when g does not vote.
  left = votes[..., None, :] - same
  voter = parsed[..., None, :] & ~_self(answers, xp)
  top = xp.where(voter, left, 0).max(-1)
  tied = (voter & (left == top[..., None])).sum(-1)
  right = parsed & (top > 0) & (votes - 1 == top)
  return xp.where(right, top, 0) / xp.maximum(tied, 1)


def kept(answers: Any, xp: Any, *, keep: int = 0) -> Any:
  """Returns bool [P, G]: the first `keep` completions, or all for 0."""
  size = answers.shape[-1]
  return xp.broadcast_to(xp.arange(size) < (keep or size), answers.shape)


def distribution(answers: Any, entropy: Any, xp: Any, *, alpha: float = 0.2,
                 prune: float = -1.0, effective: float = 50.0,
                 epsilon: float = 0.01, over: str = 'answers',
                 leave_one_out: bool = False) -> Any:
  """Returns DARE's reward (arXiv 2601.21804), [P, G]; see the oracle.

  Args:
    answers: int [P, G].
    entropy: mean token entropy in nats [P, G]; not read where unparsed.
    xp: the array namespace.
    alpha, prune, effective, epsilon, over, leave_one_out: as in the oracle.

  Raises:
    ValueError: an option is out of range.
  """
  oracle.check_options(alpha, effective, epsilon, over)
  parsed = answers >= 0
  same = _same(answers)
  entropy = xp.where(parsed, xp.maximum(entropy, 0.0), 0.0)
  votes, total = same.sum(-1), (same * entropy[..., None, :]).sum(-1)
  options = (alpha, prune, effective, epsilon, over)
  if not leave_one_out:
    return _spread(votes, total, parsed, options, xp)
  # [P, G, H]: the answer of h, as it is when g is not there.
  voter = parsed[..., None, :] & ~_self(answers, xp)
  left = xp.where(voter, votes[..., None, :] - same, 0)
  sums = total[..., None, :] - same * entropy[..., None]
  value = xp.where(voter, _spread(left, sums, voter, options, xp), 0.0)
  mine = same & voter
  # All others with my answer have one value; the mean of them is that value.
  return xp.where(mine, value, 0.0).sum(-1) / xp.maximum(mine.sum(-1), 1)


def _spread(votes: Any, total: Any, voter: Any, options: tuple, xp: Any) -> Any:
  """[..., H] rewards of answers with these votes and sums of entropies."""
  alpha, prune, effective, epsilon, over = options
  votes = xp.where(voter, votes, 0)
  one = xp.maximum(votes, 1) * 1.0
  unsure = xp.where(voter, total / one, 0.0)
  if effective:
    unsure = xp.clip(unsure / math.log(effective), 0.0, 1.0)
  mass = votes / (unsure + epsilon)
  # Each answer stands there once a voter, and counts once.
  whole = xp.maximum((mass / one).sum(-1, keepdims=True), 1e-30)
  share = mass / whole
  parsed = voter.sum(-1, keepdims=True)
  least = prune if prune >= 0 else xp.where(
      parsed >= 16, 1.0 / xp.maximum(parsed, 1), 0.05)
  alive = voter & (share >= least * (1 - oracle.SLACK))
  weight = xp.where(alive, share, 0.0)
  rest = (weight if over == 'rollouts' else weight / one).sum(
      -1, keepdims=True)
  survivors = alive.sum(-1, keepdims=True)
  bonus = (1.0 - votes / xp.maximum(survivors, 1)) * (1.0 - unsure)
  return xp.where(alive, share / xp.where(rest > 0, rest, 1.0) + alpha * bonus,
                  0.0)


def _same(answers: Any) -> Any:
  """bool [P, G, G]: which completions have the same answer, and have one."""
  return ((answers[..., :, None] == answers[..., None, :])
          & (answers >= 0)[..., None])


def _self(answers: Any, xp: Any) -> Any:
  return xp.eye(answers.shape[-1], dtype=bool)
