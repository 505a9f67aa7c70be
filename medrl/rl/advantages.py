"""Advantages: rewards of a group of completions -> a number for each token.

Every advantage is a function `(scores [P, G] float32, info) -> [P, G, T]
float32`, zero on tokens the policy did not write and on completions without a
reward. Not here: rewards, masks that depend on the reward (overlong, refill)
and weights for the mismatch of sampler and trainer.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Info(NamedTuple):
  """What an advantage may look at besides the scores.

  `mask` bool [P, G, T]: tokens the policy wrote. `valid` bool [P, G]: False
  where the reward could not be computed; such a completion is left out of its
  group's statistics and its score may be any number, NaN too. `entropy` (nats)
  and `logps` float32 [P, G, T] are the sampler's.
  """
  mask: jax.Array
  valid: jax.Array
  entropy: jax.Array
  logps: jax.Array


def group_norm(scores: jax.Array, info: Info, *,
               eps: float = 1e-6) -> jax.Array:
  """(r - mean) / (std + eps) in each group: GRPO.

  The standard deviation is the sample one (n - 1), as in verl (eps 1e-6) and
  TRL (eps 1e-4); other code takes the population's (n) or an eps of 1e-8. A
  group of one, or one whose rewards are all equal, gives 0.
  DeepSeekMath, arXiv 2402.03300, section 4.1.2.
  """
  centred, count = _centred(scores, info)
  variance = (centred**2).sum(-1) / jnp.maximum(count - 1, 1)
  std = jnp.sqrt(variance)[:, None]
  return _spread(centred / (std + eps), scores, info)


def center(scores: jax.Array, info: Info) -> jax.Array:
  """r - mean in each group: Dr. GRPO, arXiv 2503.20783, section 3.2.

  Not dividing by the standard deviation keeps groups that are nearly all right
  or all wrong from weighing more than the others.
  """
  centred, _ = _centred(scores, info)
  return _spread(centred, scores, info)


def leave_one_out(scores: jax.Array, info: Info) -> jax.Array:
  """r minus the mean of the group's others: RLOO, arXiv 2402.14740, eq. 8.

  Equals n / (n - 1) * (r - mean); a group of one gives 0.
  """
  centred, count = _centred(scores, info)
  scale = count / jnp.maximum(count - 1, 1)
  return _spread(centred * scale[:, None], scores, info)


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


def _centred(scores, info):
  """Scores [P, G] less their group's mean, 0 where invalid; and the count."""
  chex.assert_rank([scores, info.mask], [2, 3])
  chex.assert_equal_shape([scores, info.valid])
  count = info.valid.sum(-1).astype(jnp.float32)
  known = jnp.where(info.valid, scores, 0).astype(jnp.float32)
  mean = known.sum(-1) / jnp.maximum(count, 1)
  return jnp.where(info.valid, known - mean[:, None], 0), count


def _spread(values, scores, info):
  """Gives each token the policy wrote its completion's value: [P, G, T]."""
  chex.assert_equal_shape_prefix([values, info.mask], 2)
  # The mean of equal floats may differ from them in the last bit, which
  # dividing by a tiny standard deviation would blow up.
  uniform = uniform_groups(scores, info.valid)
  values = jnp.where(info.valid & ~uniform[:, None], values, 0)
  return jnp.where(info.mask, values[..., None], 0)
