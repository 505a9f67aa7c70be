"""Advantages: rewards of a group of completions -> a number for each token.

Every advantage is a function `(scores [P, G] float32, info, *, options) ->
[P, G, T] float32`, zero on tokens the policy did not write and on completions
without a reward. One that reads `info.parts` says so: `needs = ('parts',)`.

Not here: rewards, masks that depend on the reward (overlong, refill) and
weights for the mismatch of sampler and trainer.

At the extremes: a group whose rewards are all equal, and one with a single
valid completion (unless `single` is 'raw'), gives 0 exactly; a completion
without tokens has no token to give a value to. A score that is NaN and yet
valid is not hidden: its group, or where statistics are over the batch the whole
batch, becomes NaN.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp


class Info(NamedTuple):
  """What an advantage may look at besides the scores.

  `mask` bool [P, G, T]: tokens the policy wrote. `valid` bool [P, G]: False
  where the reward could not be computed; such a completion is left out of its
  group's statistics and its score may be any number, NaN too. `entropy` (nats)
  and `logps` float32 [P, G, T] are the sampler's.

  `parts` holds the reward's terms before weighting, name -> float32 [P, G].
  `penalty` float32 [P, G, T], or None, is taken from the value of each token (a
  KL in the reward), before what is normalised over the batch is normalised.
  """
  mask: jax.Array
  valid: jax.Array
  entropy: jax.Array
  logps: jax.Array
  parts: Mapping[str, Any] = {}
  penalty: Any = None


def group_norm(scores: jax.Array, info: Info, *, eps: float = 1e-6,
               ddof: int = 1, eps_where: str = 'always', single: str = 'zero',
               leave_out: str = 'none') -> jax.Array:
  """(r - mean) / (std + eps) in each group: GRPO.

  DeepSeekMath, arXiv 2402.03300, section 4.1.2.

  Args:
    scores: float32 [P, G].
    info: mask and validity.
    eps: 1e-6 in verl, EasyR1 and NeMo RL, 1e-4 in TRL, 1e-9 in OpenRLHF, 1e-8
      in TRL's asynchronous worker.
    ddof: 1 for the sample's deviation (nearly all), 0 for the population's
      (TRL's asynchronous worker).
    eps_where: 'always'; or 'positive', which leaves a difference undivided
      where the deviation is 0 (NeMo RL).
    single: of a group with one valid completion, 'zero'; or 'raw', its reward
      over 1 + eps (verl).
    leave_out: a completion counts in both statistics, 'none'; not in its own
      mean, 'mean'; in neither, 'both' (NeMo RL). The others' deviation may be 0
      where a completion differs from them, so 'both' asks for 'positive'.

  Raises:
    ValueError: an option is none of those.
  """
  _check(eps_where=(eps_where, ('always', 'positive')),
         single=(single, ('zero', 'raw')),
         leave_out=(leave_out, ('none', 'mean', 'both')))
  if (leave_out, eps_where) == ('both', 'always'):
    raise ValueError("leave_out 'both' with eps_where 'always' divides by eps "
                     "where the others agree; give eps_where='positive'")
  values = _normed(scores, info, eps, ddof, eps_where, leave_out)
  return _spread(_alone(values, scores, info, single, 1 + eps), info)


def center(scores: jax.Array, info: Info, *, single: str = 'zero') -> jax.Array:
  """r - mean in each group: Dr. GRPO, arXiv 2503.20783, section 3.2.

  Not dividing by the standard deviation keeps groups that are nearly all right
  or all wrong from weighing more than the others. A group of one gives 0, or
  where `single` is 'raw' its reward (verl).
  """
  _check(single=(single, ('zero', 'raw')))
  values = _settled(_centred(scores, info)[0], scores, info)
  return _spread(_alone(values, scores, info, single), info)


def leave_one_out(scores: jax.Array, info: Info) -> jax.Array:
  """r minus the mean of the group's others: RLOO, arXiv 2402.14740, eq. 8.

  Equals n / (n - 1) * (r - mean); a group of one gives 0.
  """
  centred, count = _centred(scores, info)
  scale = count / jnp.maximum(count - 1, 1)
  return _spread(_settled(centred * scale[:, None], scores, info), info)


def opo(scores: jax.Array, info: Info, *, single: str = 'zero') -> jax.Array:
  """r - sum(length r) / sum(length) in each group: OPO, arXiv 2505.23585.

  The baseline of least variance if a token's gradient is as large as any
  other's. A group of one gives 0, or where `single` is 'raw' its reward (verl).
  """
  _check(single=(single, ('zero', 'raw')))
  length = jnp.where(info.valid, info.mask.sum(-1), 0).astype(jnp.float32)
  known = jnp.where(info.valid, scores, 0).astype(jnp.float32)
  baseline = (length * known).sum(-1) / jnp.maximum(length.sum(-1), 1)
  values = _settled(known - baseline[:, None], scores, info)
  return _spread(_alone(values, scores, info, single), info)


def whiten(scores: jax.Array, info: Info, *, baseline: str = 'none',
           ddof: int = 1, eps: float = 1e-8, eps_how: str = 'add',
           single: str = 'zero') -> jax.Array:
  """Returns of all tokens of the batch, to mean 0 and deviation 1.

  REINFORCE++, arXiv 2501.03262: a token's return is its completion's reward
  less `info.penalty`. All returns equal give 0.

  Args:
    scores: float32 [P, G].
    info: mask, validity and penalty.
    baseline: 'none'; or 'group' for REINFORCE++-baseline, less the group's
      mean.
    ddof: 1 as verl, 0 as OpenRLHF and NeMo RL.
    eps: of the variance.
    eps_how: 'add' to it as verl; 'floor' bounds it from below as OpenRLHF and
      NeMo RL.
    single: see `group_norm`, for the baseline.
  """
  _check(baseline=(baseline, ('none', 'group')),
         eps_how=(eps_how, ('add', 'floor')), single=(single, ('zero', 'raw')))
  values = jnp.where(info.valid, scores, 0).astype(jnp.float32)
  if baseline == 'group':
    values = _settled(_centred(scores, info)[0], scores, info)
    values = _alone(values, scores, info, single)
  there = info.mask & info.valid[..., None]
  centred, variance = _standard(_spread(values, info), there, ddof)
  variance = variance + eps if eps_how == 'add' else jnp.maximum(variance, eps)
  return centred / jnp.sqrt(variance)


def per_part(scores: jax.Array, info: Info, *,
             weights: Mapping[str, float] | None = None, eps: float = 1e-6,
             ddof: int = 1, over: str = 'tokens',
             batch_eps: float = 1e-8) -> jax.Array:
  """Each reward term normalised in its group, summed, then over the batch.

  GDPO, arXiv 2601.05242: a term of wide range does not drown the others. The
  scores themselves are not read. Terms that are equal in a group give 0 there.

  Args:
    scores: float32 [P, G].
    info: mask, validity and parts.
    weights: name -> weight in the sum; of terms that it leaves out 1.
    eps, ddof: as in `group_norm`, for the terms.
    over: statistics of the batch are over 'tokens', where long completions
      count more (verl), or over 'completions' (NeMo RL, TRL).
    batch_eps: added to the batch's deviation: 1e-4 in TRL.

  Raises:
    ValueError: there are no parts.
  """
  del scores
  _check(over=(over, ('tokens', 'completions')))
  if not info.parts:
    raise ValueError('per_part normalises the terms of the reward, and there '
                     'are none; take group_norm')
  weights = weights or {}
  values = sum(weights.get(name, 1.) * _normed(part, info, eps, ddof)
               for name, part in info.parts.items())
  if over == 'completions':
    centred, variance = _standard(values, info.valid, ddof)
    return _spread(centred / (jnp.sqrt(variance) + batch_eps), info)
  there = info.mask & info.valid[..., None]
  centred, variance = _standard(_spread(values, info), there, ddof)
  return centred / (jnp.sqrt(variance) + batch_eps)


per_part.needs = ('parts',)


def span_credit(credit: jax.Array, info: Info, *,
                eps: float = 1e-6) -> jax.Array:
  """Rewards of stretches of text, normalised over their group: [P, G, T].

  As the process supervision of DeepSeekMath, arXiv 2402.03300, section 4.1.3,
  with two differences: a token gets the reward of the stretch it stands in, not
  of those that follow; mean and (sample) deviation are over tokens.

  Args:
    credit: float32 [P, G, T], NaN where no stretch is; those get 0.
    info: mask and validity.
    eps: added to the deviation; equal rewards give 0.
  """
  chex.assert_equal_shape([credit, info.mask])
  said = ~jnp.isnan(credit) & info.mask & info.valid[..., None]
  count = said.sum((1, 2), keepdims=True).astype(jnp.float32)
  known = jnp.where(said, credit, 0)
  mean = known.sum((1, 2), keepdims=True) / jnp.maximum(count, 1)
  centred = jnp.where(said, known - mean, 0)
  variance = (centred**2).sum((1, 2), keepdims=True) / jnp.maximum(count - 1, 1)
  # The mean of equal floats may differ from them in the last bit.
  top = jnp.where(said, credit, -jnp.inf).max((1, 2), keepdims=True)
  bottom = jnp.where(said, credit, jnp.inf).min((1, 2), keepdims=True)
  return jnp.where(top > bottom, centred / (jnp.sqrt(variance) + eps), 0)


def uniform_groups(scores: jax.Array, valid: jax.Array) -> jax.Array:
  """bool [P]: groups that teach nothing, as all their valid rewards are equal.

  A group with fewer than two valid completions is one of them.
  """
  chex.assert_rank([scores, valid], 2)
  chex.assert_equal_shape([scores, valid])
  top = jnp.where(valid, scores, -jnp.inf).max(-1)
  bottom = jnp.where(valid, scores, jnp.inf).min(-1)
  # `top < bottom` where nothing is valid; NaN compares False and so stays seen.
  return top <= bottom


def _check(**options):
  for name, (value, known) in options.items():
    if value not in known:
      raise ValueError(f'{name} {value!r} is none of {", ".join(known)}')


def _normed(scores, info, eps, ddof, eps_where='always', leave_out='none'):
  """[P, G] of `group_norm`, 0 for invalid ones and in uniform groups."""
  centred, count = _centred(scores, info)
  variance = (centred**2).sum(-1) / jnp.maximum(count - ddof, 1)
  deviation = jnp.sqrt(variance)[:, None]
  if leave_out != 'none':
    centred, others = _against_others(scores, info, ddof)
    deviation = others if leave_out == 'both' else deviation
  scale = deviation + eps
  if eps_where == 'positive':
    scale = jnp.where(deviation > 0, scale, 1)
  return _settled(centred / scale, scores, info)


def _centred(scores, info):
  """Scores [P, G] less their group's mean, 0 where invalid; and the count."""
  chex.assert_rank([scores, info.mask], [2, 3])
  chex.assert_equal_shape([scores, info.valid])
  count = info.valid.sum(-1).astype(jnp.float32)
  known = jnp.where(info.valid, scores, 0).astype(jnp.float32)
  mean = known.sum(-1) / jnp.maximum(count, 1)
  return jnp.where(info.valid, known - mean[:, None], 0), count


def _against_others(scores, info, ddof):
  """Scores less the mean of the group's others, and the others' deviation."""
  others = info.valid[:, None] & ~jnp.eye(scores.shape[1], dtype=bool)
  known = jnp.where(info.valid, scores, 0).astype(jnp.float32)
  theirs = jnp.where(others, known[:, None], 0)
  count = others.sum(-1).astype(jnp.float32)
  mean = theirs.sum(-1) / jnp.maximum(count, 1)
  away = jnp.where(others, theirs - mean[..., None], 0)
  variance = (away**2).sum(-1) / jnp.maximum(count - ddof, 1)
  top = jnp.where(others, theirs, -jnp.inf).max(-1)
  bottom = jnp.where(others, theirs, jnp.inf).min(-1)
  centred = jnp.where(info.valid & (count > 0), known - mean, 0)
  return centred, jnp.where(top > bottom, jnp.sqrt(variance), 0)


def _settled(values, scores, info):
  """Values [P, G], 0 for invalid completions and in uniform groups."""
  # The mean of equal floats may differ from them in the last bit, which
  # dividing by a tiny standard deviation would blow up.
  uniform = uniform_groups(scores, info.valid)
  return jnp.where(info.valid & ~uniform[:, None], values, 0)


def _alone(values, scores, info, single, scale=1.):
  """Values, with the reward itself where it is the only one of its group."""
  if single == 'zero':
    return values
  alone = info.valid & (info.valid.sum(-1, keepdims=True) == 1)
  return jnp.where(alone, scores / scale, values)


def _spread(values, info):
  """Each token's value [P, G, T]: its completion's, less the penalty."""
  chex.assert_equal_shape_prefix([values, info.mask], 2)
  values = values[..., None]
  if info.penalty is not None:
    values = values - info.penalty
  return jnp.where(info.mask & info.valid[..., None], values, 0)


def _standard(values, there, ddof):
  """Values less their mean over all that is there, and the variance."""
  count = there.sum().astype(jnp.float32)
  values = jnp.where(there, values, 0)
  centred = jnp.where(there, values - values.sum() / jnp.maximum(count, 1), 0)
  variance = (centred**2).sum() / jnp.maximum(count - ddof, 1)
  # Rounding is not to be taken for a difference between equal values.
  top = jnp.where(there, values, -jnp.inf).max()
  bottom = jnp.where(there, values, jnp.inf).min()
  return jnp.where(top <= bottom, 0, centred), variance
