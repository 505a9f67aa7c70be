"""Rewards -> what an update takes: the program between rollout and update."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import build
from medrl import lookup
from medrl import metrics
from medrl import types
from medrl.rewards.array import budget
from medrl.rewards.array import combine
from medrl.rl import advantages
from medrl.trainers import objective as objective_lib
from medrl.trainers import scoring
from medrl.trainers import state as state_lib
from medrl.trainers import update


class Scores(NamedTuple):
  """What rewards say of a batch, as arrays."""
  total: Any    # float32 [P, G]
  valid: Any    # bool [P, G]
  credit: Any   # float32 [P, G, T], NaN where no span says anything; None
                # where no token gets credit of its own


def objective(config) -> objective_lib.Objective:
  """The loss that `config.rl` spells."""
  rl = config.rl
  return objective_lib.Objective(
      lookup.resolve(rl.ratio), lookup.resolve(rl.surrogate),
      lookup.resolve(rl.reduce), lookup.resolve(rl.kl), rl.clip_low,
      rl.clip_high, rl.kl_weight, config.rollout.length,
      on_policy=rl.epochs * rl.minibatches == 1)


def prepare(trained, frozen, reference, rollout: types.Rollout, scores: Scores,
            *, scorer, words, rl, advantage, score_ids):
  """Rewards -> what the update takes: advantages, old and reference log-probs.

  Args:
    trained, frozen, reference: parameters; the last may be {}.
    rollout: of the policy.
    scores: of its completions.
    scorer, words, rl, advantage: static; `rl` is the config's.
    score_ids: from `id_rewards`.

  Returns:
    TrainBatch, the values [P, G] of the terms computed here by name, and
    metrics.
  """
  more, parts = score_ids(rollout)
  scores = scores._replace(total=scores.total + more)

  def in_parts(params):
    """Scores in the micro-batches of the update, which fit the memory."""
    parts = update.microbatched(rollout, rl.microbatches)
    return update.rejoined(jax.lax.map(
        lambda part: scoring.policy_logps(scorer, params, part)[0], parts))

  mask = rollout.action_mask
  zeros = jnp.zeros_like(rollout.logps)
  old = zeros if words.on_policy else in_parts(
      state_lib.merge(trained, frozen))
  info = advantages.Info(mask, scores.valid, rollout.entropy, rollout.logps)
  gain = advantage(scores.total, info)
  if rl.credit_weight:
    gain += rl.credit_weight * advantages.span_credit(scores.credit, info)
  ones = jnp.ones_like(scores.total)
  batch = types.TrainBatch(
      rollout, advantages=gain,
      weights=(mask & scores.valid[..., None]).astype(jnp.float32),
      old_logps=old, ref_logps=in_parts(reference) if rl.kl_weight else zeros,
      teacher_logps=zeros, clip_scale=ones, kl_scale=ones)
  return batch, parts, rollout_metrics(rollout, scores, parts)


def id_rewards(run: build.Run):
  """`rollout -> (weighted sum, {term: values})`, of terms of token ids alone.

  Values are [P, G]; the sum is 0 where the config has no such term.
  """
  _, terms = build.split_rewards(run.config)
  if not terms:
    return lambda rollout: (0., {})
  score = combine.build(terms, jnp, fori=jax.lax.fori_loop)

  def of_rollout(rollout):
    there = budget.written(rollout.tokens, rollout.action_mask, jnp,
                           stop=run.stop)
    ids, lengths = combine.packed(rollout.tokens, there, jnp)
    return score({'ids': ids, 'lengths': lengths})

  return of_rollout


def rollout_metrics(rollout: types.Rollout, scores: Scores, parts):
  """Means over a rollout, by metric name."""
  mask, valid = rollout.action_mask, scores.valid
  count = jnp.sum(mask).astype(jnp.float32)
  members = jnp.float32(mask.shape[0] * mask.shape[1])
  known = jnp.sum(valid).astype(jnp.float32)
  return {
      'reward/total': metrics.Mean(
          jnp.sum(jnp.where(valid, scores.total, 0.)), known),
      'data/uniform_groups': metrics.Mean(
          jnp.sum(advantages.uniform_groups(scores.total, valid)),
          jnp.float32(mask.shape[0])),
      'rollout/length': metrics.Mean(count, members),
      'rollout/finished': metrics.Mean(jnp.sum(rollout.finished), members),
      'rollout/entropy': metrics.Mean(jnp.sum(rollout.entropy), count),
      **{f'reward/part/{name}': metrics.Mean(jnp.sum(values), members)
         for name, values in parts.items()},
  }
