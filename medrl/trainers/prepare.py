"""Rewards -> what an update takes: the program between rollout and update."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import build
from medrl import lookup
from medrl import metrics
from medrl import sharding
from medrl import types
from medrl.rewards.array import budget
from medrl.rewards.array import combine
from medrl.rl import advantages
from medrl.rl import corrections
from medrl.rl import words as words_lib
from medrl.trainers import objective as objective_lib
from medrl.trainers import scoring
from medrl.trainers import state as state_lib
from medrl.trainers import update

_KL_IN = ('loss', 'score', 'return', 'token')


class Scores(NamedTuple):
  """What rewards say of a batch, as arrays."""
  total: Any    # float32 [P, G]
  valid: Any    # bool [P, G]
  credit: Any   # float32 [P, G, T], NaN where no span says anything; None
                # where no token gets credit of its own
  parts: Mapping[str, Any] = {}   # float32 [P, G] of each of `part_names`
  clip_scale: Any = None   # float32 [P, G], and of the KL, from the config's
  kl_scale: Any = None     # rl.per_sample; None where that is ''


def part_names(config) -> tuple[str, ...]:
  """Terms of text whose values `Scores.parts` has to hold: those of a weight
  other than 0 where the advantage needs parts, else none.

  Terms of token ids alone are not among them: they are computed here.
  """
  if 'parts' not in _needs(config):
    return ()
  terms, _ = build.split_rewards(config)
  return tuple(sorted(n for n, term in terms.items() if term['weight']))


def expected(config, place) -> Scores:
  """The `Scores` of a run without its values, to compile for.

  Args:
    config: the run's.
    place: `(dtype, *sizes) -> ` an abstract array [P, G, *sizes].
  """
  def number(*sizes):
    return place(jnp.float32, *sizes)
  credit = number(config.rollout.length) if config.rl.credit_weight else None
  scale = number() if config.rl.per_sample else None
  return Scores(number(), place(bool), credit,
                {name: number() for name in part_names(config)}, scale, scale)


def advantage(config):
  """The advantage that `config.rl` names, `(scores, info) -> [P, G, T]`.

  One that needs parts weighs them as the config's rewards do, where its options
  say nothing else.
  """
  rl = words_lib.laid(config.rl)
  options = rl.options.advantage
  if 'parts' in _needs(config) and 'weights' not in options:
    with options.unlocked():
      options.weights = {n: t.weight for n, t in config.rewards.items()}
  return words_lib.bind(rl, 'advantage')


def objective(config) -> objective_lib.Objective:
  """The loss that `config.rl` spells.

  Raises:
    ValueError: a word or an option that is not there, or two that do not go
      together.
  """
  rl = words_lib.laid(config.rl)
  _check(rl, config.teachers)
  def optional(word):
    return words_lib.bind(rl, word) if words_lib.named(rl, word) else None
  # Weights that are normalised need the old log-probs of the whole batch.
  on_policy = (rl.epochs * rl.minibatches == 1 and rl.old_logps == 'scored'
               and rl.normalise_correction == 'none')
  return objective_lib.Objective(
      words_lib.bind(rl, 'ratio'),
      words_lib.bind(rl, 'surrogate', ('low', 'high')),
      words_lib.bind(rl, 'reduce', ('length',)), optional('kl'), rl.clip_low,
      rl.clip_high, rl.kl_weight, config.rollout.length, on_policy,
      kl_in=rl.kl_in, old=rl.old_logps, drawn=rl.drawn_logps,
      correction=optional('correction'), rejection=optional('rejection'),
      normalise=rl.normalise_correction, drop=rl.drop_rejected,
      token_weights=optional('token_weights'),
      entropy_weight=rl.entropy_weight, distill=optional('distill'),
      distill_weight=rl.distill_weight,
      teachers=tuple((n, t.weight) for n, t in config.teachers.items()))


def prepare(trained, frozen, reference, rollout: types.Rollout, scores: Scores,
            teachers=None, source=None, *, scorer, words, rl, advantage,
            score_ids):
  """Rewards -> what the update takes: advantages, old and reference log-probs.

  Args:
    trained, frozen, reference: parameters; the last may be {}.
    rollout: of the policy.
    scores: of its completions.
    teachers: name -> parameters, of each of `words.teachers`, if one is
      distilled.
    source: packed rows, or None; see `scoring.policy_logps`.
    scorer, words, rl, advantage: static; `rl` is the config's.
    score_ids: from `id_rewards`.

  Returns:
    TrainBatch, the values [P, G] of the terms computed here by name, and
    metrics.
  """
  more, parts = score_ids(rollout)
  scores = scores._replace(total=scores.total + more,
                           parts={**scores.parts, **parts})

  def in_parts(params):
    """Scores in the micro-batches of the update, which fit the memory."""
    params = sharding.to_device(params)
    split = rl.minibatches, rl.microbatches
    return update.rejoined(jax.lax.map(
        lambda part: scoring.policy_logps(scorer, params, *part,
                                          entropy=False)[0],
        update.parted((rollout, source), *split)), *split)

  mask = rollout.action_mask
  zeros, ones = jnp.zeros_like(rollout.logps), jnp.ones_like(scores.total)
  old = zeros
  if words.old == 'sampler':
    old = objective_lib.sampler_logps(words, rollout)
  elif not words.on_policy:
    old = in_parts(state_lib.merge(trained, frozen))
  weights = (mask & scores.valid[..., None]).astype(jnp.float32)
  if words.token_weights:
    weights *= words.token_weights(rollout.entropy, mask)
  batch = types.TrainBatch(
      rollout, advantages=zeros, weights=weights, old_logps=old,
      ref_logps=in_parts(reference) if words.kl_weight else zeros,
      teacher_logps=(mixture(words.teachers, {
          name: in_parts(params) for name, params in teachers.items()})
                     if words.distill_weight else zeros),
      clip_scale=ones if scores.clip_scale is None else scores.clip_scale,
      kl_scale=ones if scores.kl_scale is None else scores.kl_scale,
      source=source)
  gain, shown = _gain(words, rl, advantage, scores, batch)
  return (batch._replace(advantages=gain), parts,
          rollout_metrics(rollout, scores, parts) | shown)


def _gain(words, rl, advantage, scores: Scores, batch: types.TrainBatch):
  """Advantages [P, G, T], with the KL that is in the reward; and metrics."""
  rollout, mask = batch.rollout, batch.rollout.action_mask
  total, penalty, shown = scores.total, None, {}
  if words.kl_weight and words.kl_in != 'loss':
    # Where there are no old log-probs the sampler's are those of the policy.
    policy = rollout.logps if words.on_policy else batch.old_logps
    divergence = jnp.where(mask, words.kl(policy, batch.ref_logps), 0.)
    penalty = words.kl_weight * batch.kl_scale[..., None] * divergence
    shown = _means(mask, {'policy/kl_ref': divergence,
                          'reward/kl': penalty})
    if words.kl_in == 'score':
      total, penalty = total - penalty.sum(-1), None
    elif words.kl_in == 'return':
      penalty = jax.lax.cumsum(penalty, axis=2, reverse=True)
  info = advantages.Info(mask, scores.valid, rollout.entropy, rollout.logps,
                         scores.parts, penalty)
  gain = advantage(total, info)
  if words.normalise != 'none':
    # Surrogates are linear in the advantage, so it may carry the divisor.
    factor, _ = objective_lib.corrected(words, batch.old_logps, rollout)
    gain /= corrections.batch_mean(factor, mask, words.normalise)
  if rl.credit_weight:
    gain += rl.credit_weight * advantages.span_credit(scores.credit, info)
  return gain, shown


def mixture(teachers, logps):
  """Log-probs [P, G, T] of the teachers' weighted mixture, token by token.

  Args:
    teachers: (name, weight) of each; weights are normalised.
    logps: name -> [P, G, T].
  """
  whole = sum(weight for _, weight in teachers)
  return jax.nn.logsumexp(jnp.stack(
      [jnp.log(weight / whole) + logps[name] for name, weight in teachers]),
                          axis=0)


def _needs(config) -> tuple[str, ...]:
  """What the advantage's function says that it needs."""
  name = words_lib.laid(config.rl).advantage
  return getattr(lookup.resolve(name), 'needs', ())


def _check(rl, teachers):
  """Raises ValueError where words do not go together."""
  for field, value, known in (
      ('kl_in', rl.kl_in, _KL_IN), ('old_logps', rl.old_logps,
                                    ('scored', 'sampler')),
      ('normalise_correction', rl.normalise_correction,
       ('none', 'tokens', 'completions'))):
    if value not in known:
      raise ValueError(f'rl.{field} {value!r} is none of {", ".join(known)}')
  corrects = any(words_lib.named(rl, w) for w in ('correction', 'rejection'))
  if rl.normalise_correction != 'none' and (
      not corrects or rl.old_logps == 'sampler'):
    raise ValueError('rl.normalise_correction divides the weights of a '
                     'correction of scored log-probs, and there is none; give '
                     "'none', or rl.correction and rl.old_logps='scored'")
  if rl.kl_weight and not words_lib.named(rl, 'kl'):
    raise ValueError(f'rl.kl_weight {rl.kl_weight} without rl.kl')
  if rl.distill_weight and not (words_lib.named(rl, 'distill') and teachers):
    raise ValueError(f'rl.distill_weight {rl.distill_weight} asks for '
                     f'rl.distill (such as medrl.rl.distill.reverse) and for '
                     f'one of config.teachers')


def _means(mask, values):
  """Mean over the tokens of the mask, by name."""
  count = jnp.sum(mask).astype(jnp.float32)
  return {name: metrics.Mean(jnp.sum(jnp.where(mask, x, 0.)), count)
          for name, x in values.items()}


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
      'rollout/slot_use': metrics.Mean(jnp.sum(rollout.passes),
                                       jnp.sum(rollout.capacity)),
      'rollout/tokens_per_pass': metrics.Mean(
          jnp.sum(rollout.token_mask), jnp.sum(rollout.passes)),
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
