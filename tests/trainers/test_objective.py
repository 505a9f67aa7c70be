"""The words put together, and what is prepared for them, without a model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import base
from medrl import metrics
from medrl import types
from medrl.rl import corrections
from medrl.rl import distill
from medrl.rl import kl
from medrl.rl import losses
from medrl.rl import weights
from medrl.trainers import objective
from medrl.trainers import prepare
from medrl.trainers import scoring

SHAPE = (4, 2, 5)
PLAIN = objective.Objective(
    losses.token_ratio, losses.clip, losses.token_mean, kl.k3, low=.2, high=.28,
    kl_weight=0., length=5, on_policy=False)
EVERYTHING = dataclasses.replace(
    PLAIN, kl_weight=.1, correction=corrections.token_tis,
    rejection=functools.partial(corrections.k3_reject, top=.1), drop=True,
    entropy_weight=.01, distill=distill.forward, distill_weight=.3)


def drawn(seed=0):
  """A batch of ragged completions, one empty, one of a failed reward."""
  rng = np.random.default_rng(seed)
  def numbers(scale=.4, mean=-1.):
    return rng.normal(mean, scale, SHAPE).astype(np.float32)
  mask = np.arange(5) < rng.integers(1, 6, (4, 2, 1))
  mask[1, 1] = False
  mask[0, 0] = [True, False, True, False, False]
  known = {name: np.zeros(SHAPE[:2]) for name in types.Rollout._fields}
  rollout = types.Rollout(**known | {
      'prompt': None, 'tokens': np.zeros(SHAPE, np.int32), 'action_mask': mask,
      'token_mask': mask, 'logps': numbers(), 'drawn_logps': numbers(),
      'entropy': np.abs(numbers())})
  valid = np.ones(SHAPE[:2], bool)
  valid[2, 1] = False
  return types.TrainBatch(
      rollout, numbers(1., 0.), np.float32(mask & valid[..., None]), numbers(),
      numbers(), numbers(), rng.random(SHAPE[:2]).astype(np.float32),
      rng.random(SHAPE[:2]).astype(np.float32))


def policy(seed=1):
  rng = np.random.default_rng(seed)
  return (rng.normal(-1, .4, SHAPE).astype(np.float32),
          rng.random(SHAPE).astype(np.float32))


def value(words, batch=None, logps=None, jitted=False):
  """The loss and every metric as numbers."""
  batch, (own, entropy) = batch or drawn(), policy()
  call = functools.partial(objective.rl_loss, words)
  loss, means, maxima = (jax.jit(call) if jitted else call)(
      own if logps is None else logps, entropy, batch)
  metrics.check({**means, **maxima})
  found = {name: metrics.value(mean) for name, mean in means.items()}
  return metrics.value(loss), found, maxima


@pytest.mark.parametrize('jitted', [False, True])
def test_the_loss_is_longhand_with_a_range_and_a_kl_for_each_completion(jitted):
  batch, (logps, entropy) = drawn(), policy()
  mask = batch.rollout.action_mask
  found, means, maxima = value(dataclasses.replace(PLAIN, kl_weight=.1), batch,
                               jitted=jitted)
  r = np.exp(logps - batch.old_logps)
  scale, strength = (x[..., None] for x in (batch.clip_scale, batch.kl_scale))
  a = batch.advantages
  bound = np.clip(r, 1 - .2 * scale, 1 + .28 * scale)
  surrogate = -np.minimum(r * a, bound * a)
  x = batch.ref_logps - logps
  divergence = np.exp(x) - x - 1
  count, kept = mask.sum(), batch.weights * mask
  own = (kept * surrogate).sum() / count
  pull = .1 * (kept * strength * divergence).sum() / count
  np.testing.assert_allclose(found, own + pull, rtol=1e-4)
  np.testing.assert_allclose(
      [means[name] for name in ('loss/policy', 'loss/kl', 'loss/total',
                                'policy/kl_ref', 'policy/entropy',
                                'rollout/logp_gap')],
      [own, pull, own + pull, divergence[mask].mean(), entropy[mask].mean(),
       np.abs(batch.old_logps - batch.rollout.logps)[mask].mean()], rtol=1e-4)
  np.testing.assert_allclose(maxima['policy/ratio_max'], r[mask].max(),
                             rtol=1e-5)


def test_a_correction_weighs_the_policys_term_alone():
  batch = drawn()
  mask, words = batch.rollout.action_mask, dataclasses.replace(
      PLAIN, kl_weight=.1, correction=corrections.token_tis)
  _, means, _ = value(words, batch)
  _, plain, _ = value(dataclasses.replace(PLAIN, kl_weight=.1), batch)
  rho = np.exp(batch.old_logps - batch.rollout.logps)
  weighed = batch._replace(advantages=batch.advantages * np.minimum(rho, 2))
  _, by_hand, _ = value(PLAIN, weighed)
  assert means['loss/kl'] == plain['loss/kl']
  np.testing.assert_allclose(means['loss/policy'], by_hand['loss/policy'],
                             rtol=1e-5)
  np.testing.assert_allclose(means['rollout/correction'],
                             np.minimum(rho, 2)[mask].mean(), rtol=1e-5)
  np.testing.assert_allclose(means['rollout/correction_cut'],
                             (rho > 2)[mask].mean(), rtol=1e-5)
  # Against what was drawn from, where the config says so.
  other = dataclasses.replace(words, drawn=True)
  swapped = batch._replace(rollout=batch.rollout._replace(
      logps=batch.rollout.drawn_logps))
  assert value(other, batch)[0] == pytest.approx(value(words, swapped)[0])


def test_on_policy_old_is_new_and_the_correction_is_of_it():
  batch, (logps, _) = drawn(), policy()
  mask = batch.rollout.action_mask
  words = dataclasses.replace(PLAIN, on_policy=True,
                              correction=corrections.token_tis)
  _, means, maxima = value(words, batch)
  assert maxima['policy/ratio_max'] == 1 and means['policy/clip_fraction'] == 0
  weight = np.minimum(np.exp(logps - batch.rollout.logps), 2)
  expected = -(batch.weights * weight * batch.advantages)[mask].sum()
  np.testing.assert_allclose(means['loss/policy'], expected / mask.sum(),
                             rtol=1e-5)


def test_with_the_samplers_old_log_probs_the_ratio_is_to_them():
  """And a rejection is of the newest policy, as nothing else was scored."""
  batch, (logps, _) = drawn(), policy()
  rollout = batch.rollout
  batch = batch._replace(old_logps=rollout.logps)
  words = dataclasses.replace(PLAIN, old='sampler',
                              rejection=corrections.token_reject)
  _, means, maxima = value(words, batch)
  r = np.exp(logps - rollout.logps)
  mask = rollout.action_mask
  np.testing.assert_allclose(maxima['policy/ratio_max'], r[mask].max(),
                             rtol=1e-5)
  out = (r < .5) | (r > 2)
  np.testing.assert_allclose(means['rollout/correction_rejected'],
                             out[mask].mean(), rtol=1e-5)
  np.testing.assert_allclose(means['rollout/logp_gap'],
                             np.abs(logps - rollout.logps)[mask].mean(),
                             rtol=1e-5)


@pytest.mark.parametrize('reduce', ['token_mean', 'sequence_mean'])
def test_rejected_tokens_weigh_0_or_leave_the_denominators(reduce):
  batch = drawn(3)
  words = dataclasses.replace(
      PLAIN, kl_weight=.1, rejection=corrections.token_reject,
      reduce=getattr(losses, reduce))
  rho = np.exp(batch.old_logps - batch.rollout.logps)
  kept = batch.rollout.action_mask & (rho >= .5) & (rho <= 2)
  assert kept.sum() < batch.rollout.action_mask.sum()
  zero = batch._replace(advantages=np.where(kept, batch.advantages, 0))
  plain = dataclasses.replace(words, rejection=None)
  assert value(words, batch)[0] == pytest.approx(value(plain, zero)[0])
  # The ratio's word still sees the whole completion; a token's does not.
  removed = batch._replace(rollout=batch.rollout._replace(action_mask=kept))
  assert value(dataclasses.replace(words, drop=True), batch)[
      0] == pytest.approx(value(plain, removed)[0])


def test_an_entropy_bonus_and_a_teacher_are_terms_of_their_own():
  batch, (logps, entropy) = drawn(), policy()
  mask, kept = batch.rollout.action_mask, batch.weights
  words = dataclasses.replace(PLAIN, entropy_weight=.01,
                              distill=distill.reverse, distill_weight=.3)
  found, means, _ = value(words, batch)
  ratio = np.exp(logps - batch.old_logps)
  gap = logps - batch.teacher_logps
  terms = {'loss/policy': value(PLAIN, batch)[0],
           'loss/entropy': -.01 * (kept * entropy)[mask].sum() / mask.sum(),
           'loss/distill': .3 * (kept * ratio * gap)[mask].sum() / mask.sum()}
  for name, term in terms.items():
    np.testing.assert_allclose(means[name], term, rtol=1e-5)
  np.testing.assert_allclose(found, sum(terms.values()), rtol=1e-5)
  np.testing.assert_allclose(means['policy/kl_teacher'], gap[mask].mean(),
                             rtol=1e-4)


def gradient(words, batch, logps, entropy):
  def total(logps, entropy):
    loss, _, _ = objective.rl_loss(words, logps, entropy, batch)
    return loss.total, loss.weight
  found, weight = jax.jit(jax.grad(total, (0, 1), has_aux=True))(logps, entropy)
  return jax.tree.map(np.asarray, found), float(weight)


@pytest.mark.parametrize('words', [
    EVERYTHING, dataclasses.replace(EVERYTHING, on_policy=True,
                                    reduce=losses.sequence_mean)])
def test_micro_batches_give_the_unsplit_gradient_and_metrics(words):
  batch, (logps, entropy) = drawn(), policy()
  whole, weight = gradient(words, batch, logps, entropy)
  parts = []
  for rows in ([0], [1, 2, 3]):
    part = jax.tree.map(lambda x: x[np.array(rows)], batch)
    parts.append(gradient(words, part, logps[rows], entropy[rows]))
  assert weight == sum(w for _, w in parts) > 0
  for i in range(2):
    joined = np.concatenate([found[i] for found, _ in parts])
    np.testing.assert_allclose(whole[i], joined, rtol=1e-5, atol=1e-7)


def test_garbage_outside_the_mask_and_extremes_within_it():
  batch, (logps, entropy) = drawn(), policy()
  mask = batch.rollout.action_mask
  # A KL without a clamp is infinite where a reference has no probability.
  words = dataclasses.replace(EVERYTHING, kl=functools.partial(
      kl.k3, bound=np.inf, top=np.inf))
  clean, _ = gradient(words, batch, logps, entropy)
  def spoilt(x, how):
    return np.where(mask, x, how).astype(np.float32)
  inf = np.inf
  dirty = batch._replace(
      rollout=batch.rollout._replace(logps=spoilt(batch.rollout.logps, inf)),
      **{name: spoilt(getattr(batch, name), -inf) for name in (
          'old_logps', 'ref_logps', 'teacher_logps')})
  found, _ = gradient(words, dirty, spoilt(logps, -inf), entropy)
  jax.tree.map(np.testing.assert_array_equal, found, clean)
  hard = np.where(mask & (np.arange(5) % 2 == 0), -inf, logps)
  for batch in (drawn(), drawn()._replace(old_logps=np.float32(hard)),
                jax.tree.map(lambda x: x & False if x.dtype == bool else x,
                             drawn())):   # not one token
    for policy_logps in (np.float32(hard), logps, np.full_like(logps, -1e30)):
      found, _ = gradient(EVERYTHING, batch, policy_logps, entropy)
      assert all(np.isfinite(x).all() for x in found)


# What is prepared: `scoring` is replaced by log-probs that parameters add to.

def config(**changed):
  c = base.get_config('runlocal')
  c.rewards = {'right': {'fn': 'medrl.rewards.answer.score', 'weight': 1.},
               'form': {'fn': 'medrl.rewards.format.tags', 'weight': .5}}
  with c.rl.unlocked():
    c.rl.update(changed)
  return c


def scores(valid, **more):
  rng = np.random.default_rng(7)
  return prepare.Scores(rng.normal(size=valid.shape).astype(np.float32), valid,
                        None, **more)


def prepared(monkeypatch, c, scored=None, teachers=None):
  monkeypatch.setattr(
      scoring, 'policy_logps', lambda scorer, params, part, source, entropy: (
          part.logps + params['shift'], None))
  rollout = jax.tree.map(jnp.asarray, drawn().rollout)
  shift = {'a': {'shift': jnp.float32(.1)}, 'reference': {
      'shift': jnp.float32(.5)}}
  trained = {'shift': jnp.float32(.3)}
  scored = scored or scores(np.ones(SHAPE[:2], bool))
  call = functools.partial(
      prepare.prepare, scorer=None, words=prepare.objective(c), rl=c.rl,
      advantage=prepare.advantage(c), score_ids=lambda rollout: (0., {}))
  batch, _, means = jax.jit(call)(trained, {}, shift['reference'], rollout,
                                  scored, teachers)
  metrics.check(means)
  return batch, means


def test_log_probs_are_scored_only_where_they_are_read(monkeypatch):
  rollout = drawn().rollout
  batch, _ = prepared(monkeypatch, config())
  for name in ('old_logps', 'ref_logps', 'teacher_logps'):
    assert not np.asarray(getattr(batch, name)).any()
  np.testing.assert_array_equal(batch.clip_scale, 1)
  c = config(minibatches=2, microbatches=2, kl_weight=.1)
  batch, _ = prepared(monkeypatch, c)
  np.testing.assert_allclose(batch.old_logps, rollout.logps + .3, rtol=1e-6)
  np.testing.assert_allclose(batch.ref_logps, rollout.logps + .5, rtol=1e-6)
  for drawn_from in (False, True):
    batch, _ = prepared(monkeypatch, config(old_logps='sampler',
                                            drawn_logps=drawn_from))
    np.testing.assert_array_equal(
        batch.old_logps, rollout.drawn_logps if drawn_from else rollout.logps)


def test_teachers_are_mixed_by_their_weights(monkeypatch):
  c = config(distill='medrl.rl.distill.reverse', distill_weight=1.)
  c.teachers = {'a': {'weight': 3.}, 'b': {'weight': 1.}}
  shift = {'a': {'shift': jnp.float32(.1)}, 'b': {'shift': jnp.float32(-.7)}}
  batch, _ = prepared(monkeypatch, c, teachers=shift)
  mixed = np.log(.75 * np.exp(.1) + .25 * np.exp(-.7))
  np.testing.assert_allclose(batch.teacher_logps,
                             drawn().rollout.logps + mixed, rtol=1e-5)


@pytest.mark.parametrize('minibatches', [1, 2])
@pytest.mark.parametrize('where', ['score', 'return', 'token'])
def test_a_kl_in_the_reward(monkeypatch, where, minibatches):
  """Of .01 times the k1 of each token; on policy the sampler's is its own."""
  c = config(kl='medrl.rl.kl.k1', kl_weight=.01, kl_in=where,
             minibatches=minibatches,
             advantage='medrl.rl.advantages.leave_one_out')
  scored = scores(np.ones(SHAPE[:2], bool), kl_scale=drawn().kl_scale,
                  clip_scale=drawn().clip_scale)
  batch, means = prepared(monkeypatch, c, scored)
  mask = drawn().rollout.action_mask
  k1 = (0. if minibatches == 1 else .3) - .5
  cost = mask * .01 * k1 * drawn().kl_scale[..., None]
  total = scored.total - (cost.sum(-1) if where == 'score' else 0)
  gain = (total - total[:, ::-1])[..., None]
  if where == 'return':
    gain = gain - np.cumsum(cost[..., ::-1], -1)[..., ::-1]
  elif where == 'token':
    gain = gain - cost
  np.testing.assert_allclose(batch.advantages, np.where(mask, gain, 0),
                             rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(batch.kl_scale, drawn().kl_scale)
  assert metrics.value(means['reward/kl']) == pytest.approx(
      cost.sum() / mask.sum(), rel=1e-4)
  loss = value(prepare.objective(c), jax.tree.map(np.asarray, batch))[1]
  assert 'loss/kl' not in loss


def test_parts_are_normalised_with_the_weights_of_the_rewards(monkeypatch):
  c = config(advantage='medrl.rl.advantages.per_part')
  assert prepare.part_names(c) == ('form', 'right')
  assert prepare.part_names(config()) == ()
  rng = np.random.default_rng(3)
  parts = {n: rng.normal(size=SHAPE[:2]).astype(np.float32)
           for n in ('form', 'right')}
  scored = scores(np.ones(SHAPE[:2], bool), parts=parts)
  batch, _ = prepared(monkeypatch, c, scored)
  signs = {n: np.sign(x - x[:, ::-1]) / 2**.5 for n, x in parts.items()}
  summed = (signs['right'] + .5 * signs['form'])[..., None]
  mask = drawn().rollout.action_mask
  values = np.broadcast_to(summed, SHAPE)[mask]
  expected = (summed - values.mean()) / values.std(ddof=1)
  np.testing.assert_allclose(batch.advantages, np.where(mask, expected, 0),
                             rtol=1e-3, atol=1e-5)


def test_weights_of_tokens_and_of_what_has_no_reward(monkeypatch):
  valid = np.ones(SHAPE[:2], bool)
  valid[3] = False
  rollout = drawn().rollout
  batch, _ = prepared(monkeypatch, config(), scores(valid))
  np.testing.assert_array_equal(
      batch.weights, rollout.action_mask & valid[..., None])
  c = config(token_weights='medrl.rl.weights.forks',
             options={'token_weights': {'share': .5}})
  batch, _ = prepared(monkeypatch, c, scores(valid))
  forks = weights.forks(rollout.entropy, rollout.action_mask, share=.5)
  np.testing.assert_array_equal(batch.weights, forks * valid[..., None])


def test_normalised_weights_have_a_mean_of_1_over_the_whole_batch(monkeypatch):
  plain = config(correction='medrl.rl.corrections.token_tis', minibatches=2)
  c = config(correction='medrl.rl.corrections.token_tis',
             normalise_correction='tokens')
  assert not prepare.objective(c).on_policy
  batch, _ = prepared(monkeypatch, plain)
  divided, _ = prepared(monkeypatch, c)
  mask = drawn().rollout.action_mask
  weight = min(np.exp(.3), 2)   # of every token, as the scorer's gap
  np.testing.assert_allclose(divided.advantages, batch.advantages / weight,
                             rtol=1e-5)
  assert mask.any()


def test_a_config_says_which_arrays_a_run_takes():
  def place(dtype, *sizes):
    return jax.ShapeDtypeStruct((4, 2, *sizes), dtype)
  plain = prepare.expected(config(), place)
  assert plain.credit is None and plain.parts == {} and plain.kl_scale is None
  full = prepare.expected(
      config(advantage='medrl.rl.advantages.per_part', credit_weight=.1,
             per_sample='some.where'), place)
  assert full.credit.shape == (4, 2, 8) and full.clip_scale.shape == (4, 2)
  assert sorted(full.parts) == ['form', 'right']


def test_every_update_but_a_rollouts_only_one_scores_old_log_probs():
  assert prepare.objective(config()).on_policy
  for changed in ({'epochs': 2}, {'minibatches': 2}, {'old_logps': 'sampler'}):
    assert not prepare.objective(config(**changed)).on_policy


@pytest.mark.parametrize('changed, says', [
    ({'kl_in': 'rewards'}, "rl.kl_in 'rewards' is none of loss, score"),
    ({'old_logps': 'none'}, 'rl.old_logps'),
    ({'normalise_correction': 'tokens'}, 'there is none'),
    ({'normalise_correction': 'batch'}, 'none, tokens, completions'),
    ({'kl': 'none', 'kl_weight': .1}, 'rl.kl_weight 0.1 without rl.kl'),
    ({'distill_weight': .1}, 'config.teachers'),
    ({'recipe': 'dapoo'}, "did you mean 'dapo'"),
    ({'options': {'reduce': {'length': 3}}},
     "rl.options.reduce.*no option 'length'")])
def test_words_that_do_not_go_together_are_told(changed, says):
  with pytest.raises(ValueError, match=says):
    prepare.objective(config(**changed))
