"""Losses of arrays: the words of a config put together. No model is here."""

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from medrl import metrics
from medrl import types
from medrl.rl import corrections
from medrl.rl import losses as losses_lib

Mean = metrics.Mean


@dataclasses.dataclass(frozen=True)
class Objective:
  """The words of a GRPO-family loss; see `rl/recipes.py`.

  `on_policy` says that a rollout gets one update, so the old log-probs are the
  new ones and need no pass of their own: what an older policy or another
  engine has to do with the rollout is then for the correction to say.
  Functions have their options. None, or a weight of 0, leaves a term out.
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
  kl_in: str = 'loss'           # or score, return, token: see `prepare`
  old: str = 'scored'           # or 'sampler': the rollout's own log-probs
  drawn: bool = False           # these are of what was drawn from
  correction: Callable | None = None
  rejection: Callable | None = None
  normalise: str = 'none'       # see `prepare`
  drop: bool = False            # the rejected leave the denominators
  token_weights: Callable | None = None
  entropy_weight: float = 0.
  distill: Callable | None = None
  distill_weight: float = 0.
  teachers: tuple[tuple[str, float], ...] = ()   # (name, weight)

  @property
  def corrects(self) -> bool:
    return bool(self.correction or self.rejection)


def sampler_logps(objective: Objective, rollout: types.Rollout):
  """Log-probs [P, G, T] of the behaviour that the objective compares with."""
  return rollout.drawn_logps if objective.drawn else rollout.logps


def corrected(objective: Objective, logps, rollout: types.Rollout):
  """Weights [P, G, T] for the policy loss, and where they were cut.

  Args:
    objective: with a correction, a rejection or both.
    logps: of the trainer, [P, G, T].
    rollout: of the sampler.
  """
  mask = rollout.action_mask
  weights, cut = mask.astype(jnp.float32), jnp.zeros(mask.shape, bool)
  for word in (objective.correction, objective.rejection):
    if word:
      more, where = word(logps, sampler_logps(objective, rollout), mask)
      weights, cut = weights * more, cut | where
  return weights, cut


def rl_loss(objective: Objective, logps, entropy, batch: types.TrainBatch):
  """The objective on arrays.

  Args:
    objective: static words.
    logps, entropy: [P, G, T] of the policy being updated.
    batch: advantages, old, reference and teacher log-probs.

  Returns:
    Mean of the loss, dict of Means, dict of maxima.
  """
  mask, weights = batch.rollout.action_mask, batch.weights
  # Whatever stands outside the mask, inf too, has no part in any gradient.
  logps = jnp.where(mask, logps, 0.)
  held = jax.lax.stop_gradient(logps)
  old = held if objective.on_policy else batch.old_logps
  scored = held if objective.old == 'sampler' else old
  means, kept = {}, mask
  if objective.corrects:
    factor, cut = corrected(objective, scored, batch.rollout)
    means, weights = corrections.report(factor, cut, mask), weights * factor
    kept = mask & (factor > 0) if objective.drop else mask
  def reduce(x, weights=batch.weights):
    return objective.reduce(x, kept, weights, length=objective.length)

  ratio = objective.ratio(logps, old, mask)
  scale = batch.clip_scale[..., None]
  losses, clipped = objective.surrogate(
      ratio, batch.advantages, logps, mask, low=objective.low * scale,
      high=objective.high * scale)
  terms = {'loss/policy': reduce(losses, weights)}
  if objective.entropy_weight:
    terms['loss/entropy'] = reduce(-objective.entropy_weight * entropy)
  more, seen = _divergences(objective, logps, old, batch, reduce)
  terms |= more
  loss = Mean(sum(term.total for term in terms.values()),
              terms['loss/policy'].weight)

  count = jnp.sum(mask).astype(jnp.float32)
  gap = jnp.abs(scored - batch.rollout.logps)
  seen |= {'policy/clip_fraction': clipped.astype(jnp.float32),
           'policy/entropy': entropy, 'rollout/logp_gap': gap}
  means |= {name: Mean(jnp.sum(jnp.where(mask, x, 0.)), count)
            for name, x in seen.items()}
  maxima = {'policy/ratio_max': jnp.max(jnp.where(mask, ratio, 0.)),
            'rollout/logp_gap_max': jnp.max(jnp.where(mask, gap, 0.))}
  return loss, means | terms | {'loss/total': loss}, maxima


def _divergences(objective, logps, old, batch, reduce):
  """Terms that pull towards other policies, and what to show of each token."""
  mask, terms, seen = batch.rollout.action_mask, {}, {}
  if objective.kl_weight and objective.kl_in == 'loss':
    divergence = objective.kl(logps, jnp.where(mask, batch.ref_logps, 0.))
    weight = objective.kl_weight * batch.kl_scale[..., None]
    terms['loss/kl'] = reduce(weight * divergence)
    seen['policy/kl_ref'] = divergence
  if objective.distill_weight:
    # Of tokens whatever the ratio's word is: it says who drew them.
    ratio = losses_lib.token_ratio(logps, old, mask)
    losses = objective.distill(ratio, logps, batch.teacher_logps, mask)
    terms['loss/distill'] = reduce(objective.distill_weight * losses)
    seen['policy/kl_teacher'] = logps - batch.teacher_logps
  return terms, seen


def sft_loss(logps, entropy, mask):
  """Cross-entropy of demonstration tokens, per token."""
  count = jnp.sum(mask).astype(jnp.float32)
  loss = Mean(-jnp.sum(logps), count)
  return loss, {'loss/sft': loss, 'loss/total': loss,
                'policy/entropy': Mean(jnp.sum(entropy), count)}, {}
