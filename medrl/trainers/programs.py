"""The compiled programs of an RL step: sample, prepare, update.

What they compute, the config's words say. No loop and no files are here.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import build
from medrl import lookup
from medrl import metrics
from medrl import sharding
from medrl import types
from medrl.evals import run as evals
from medrl.rewards.array import budget
from medrl.rewards.array import combine
from medrl.rl import advantages
from medrl.trainers import session as session_lib
from medrl.trainers import signals
from medrl.trainers import state as state_lib
from medrl.trainers import update


class Scores(NamedTuple):
  """What rewards say of a batch, as arrays."""
  total: Any    # float32 [P, G]
  valid: Any    # bool [P, G]
  credit: Any   # float32 [P, G, T], NaN where no span says anything; None
                # where no token gets credit of its own


def objective(config) -> update.Objective:
  """The loss that `config.rl` spells."""
  rl = config.rl
  return update.Objective(
      lookup.resolve(rl.ratio), lookup.resolve(rl.surrogate),
      lookup.resolve(rl.reduce), lookup.resolve(rl.kl), rl.clip_low,
      rl.clip_high, rl.kl_weight, config.rollout.length,
      on_policy=rl.epochs * rl.minibatches == 1)


def compile_programs(session, state, reference):
  """Name -> bucket -> program: sample, prepare and update.

  Args:
    session: the open session.
    state: whose shapes and shardings the programs take.
    reference: parameters of the reference policy, or {}.
  """
  run = session.run
  config, rl = run.config, run.config.rl
  words, scorer = objective(config), session_lib.scorer(run)

  def loss(trained, frozen, batch):
    logps, entropy = update.policy_logps(
        scorer, state_lib.merge(trained, frozen), batch.rollout)
    return update.rl_loss(words, logps, entropy, batch)

  def step(state, batch):
    return update.step(state, batch, loss, session.tx, session.rate,
                       (rl.epochs, rl.minibatches, rl.microbatches))

  rows = sharding.batch(run.mesh)
  whole = sharding.replicated(run.mesh)
  prepared = jax.jit(
      functools.partial(prepare, scorer=scorer, words=words, rl=rl,
                        advantage=lookup.resolve(rl.advantage),
                        score_ids=id_rewards(run)),
      out_shardings=(rows, rows, whole))
  step = jax.jit(step, donate_argnums=0, out_shardings=(session.laid, whole))
  prompts, group = config.rollout.prompts, config.rollout.group
  options = build.sampling_options(run, group, config.rollout.temperature)
  sample = evals.samplers(run, session.weights, prompts, options, 'sample')
  held = state_lib.abstract(state)
  reference = state_lib.abstract(reference)
  def place(dtype, *more):
    return jax.ShapeDtypeStruct((prompts, group, *more), dtype, sharding=rows)
  scores = Scores(place(jnp.float32), place(bool),
                  place(jnp.float32, config.rollout.length)
                  if rl.credit_weight else None)
  out = {'sample': sample, 'prepare': {}, 'update': {}}
  for bucket, program in sample.items():
    rollout = laid_out(program, rows)
    out['prepare'][bucket] = build.compile_ahead(
        f'prepare {bucket}', prepared, held.trained, held.frozen, reference,
        rollout, scores)
    batch = out['prepare'][bucket].out_info[0]
    out['update'][bucket] = build.compile_ahead(
        f'update {bucket}', step, held, laid_out(batch, rows))
  return out


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
        lambda part: update.policy_logps(scorer, params, part)[0], parts))

  mask = rollout.action_mask
  zeros = jnp.zeros_like(rollout.logps)
  old = zeros if words.on_policy else in_parts(
      state_lib.merge(trained, frozen))
  info = advantages.Info(mask, scores.valid, rollout.entropy, rollout.logps)
  gain = advantage(scores.total, info)
  if rl.credit_weight:
    gain += rl.credit_weight * advantages.span_credit(scores.credit, info)
  batch = types.TrainBatch(
      rollout, gain, (mask & scores.valid[..., None]).astype(jnp.float32), old,
      in_parts(reference) if rl.kl_weight else zeros)
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


def tools(session, sample) -> list[signals.Tools]:
  """What signals are made from, for each bucket of the sampling programs."""
  rows = sharding.batch(session.run.mesh)
  return [signals.Tools(session.run, session.weights, laid_out(program, rows),
                        bucket) for bucket, program in sample.items()]


def laid_out(result, rows):
  """Abstract outputs of a compiled program, split by row."""
  info = result.out_info if hasattr(result, 'out_info') else result
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), info)
