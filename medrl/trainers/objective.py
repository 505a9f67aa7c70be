"""Losses of arrays: the words of a config put together. No model is here."""

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from medrl import metrics
from medrl import types

Mean = metrics.Mean


@dataclasses.dataclass(frozen=True)
class Objective:
  """The words of a GRPO-family loss; see `rl/recipes.py`.

  `on_policy` says that a rollout gets one update, so the old log-probs are the
  new ones and need no pass of their own.
  """
  ratio: Callable
  surrogate: Callable
  reduce: Callable
  kl: Callable
  low: float
  high: float
  kl_weight: float
  length: int
  on_policy: bool


def rl_loss(objective: Objective, logps, entropy, batch: types.TrainBatch):
  """The objective on arrays.

  Args:
    objective: static words.
    logps, entropy: [P, G, T] of the policy being updated.
    batch: advantages, old and reference log-probs.

  Returns:
    Mean of the loss, dict of Means, dict of maxima.
  """
  mask = batch.rollout.action_mask
  old = batch.old_logps
  if objective.on_policy:
    old = jax.lax.stop_gradient(logps)
  ratio = objective.ratio(logps, old, mask)
  losses, clipped = objective.surrogate(
      ratio, batch.advantages, logps, low=objective.low, high=objective.high)
  def reduce(x):
    return objective.reduce(x, mask, batch.weights, length=objective.length)
  policy = reduce(losses)
  count = jnp.sum(mask).astype(jnp.float32)
  def over_tokens(x):
    return Mean(jnp.sum(jnp.where(mask, x, 0.)), count)
  gap = jnp.abs(old - batch.rollout.logps)
  means = {'loss/policy': policy,
           'policy/clip_fraction': over_tokens(clipped.astype(jnp.float32)),
           'policy/entropy': over_tokens(entropy),
           'rollout/logp_gap': over_tokens(gap)}
  total = policy.total
  if objective.kl_weight:
    divergence = objective.kl(logps, batch.ref_logps)
    kl = reduce(divergence)
    kl = Mean(objective.kl_weight * kl.total, kl.weight)
    total = total + kl.total
    means |= {'loss/kl': kl, 'policy/kl_ref': over_tokens(divergence)}
  loss = Mean(total, policy.weight)
  maxima = {'policy/ratio_max': jnp.max(jnp.where(mask, ratio, 0.)),
            'rollout/logp_gap_max': jnp.max(jnp.where(mask, gap, 0.))}
  return loss, means | {'loss/total': loss}, maxima


def sft_loss(logps, entropy, mask):
  """Cross-entropy of demonstration tokens, per token."""
  count = jnp.sum(mask).astype(jnp.float32)
  loss = Mean(-jnp.sum(logps), count)
  return loss, {'loss/sft': loss, 'loss/total': loss,
                'policy/entropy': Mean(jnp.sum(entropy), count)}, {}
