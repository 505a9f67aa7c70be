"""Refilled slots: the same completions whatever the schedule, and their limits.

Against the sampler in lockstep, and against draws from plain full forwards in
which nothing is shared or cached.
"""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import base
from medrl import sharding
from medrl.models import qwen2_5_vl
from medrl.rollout import sampler
from medrl.rollout import sampling
from medrl.rollout import slots
from medrl.rollout import stops
from tests import elsewhere
from tests.oracles import toy

PROMPTS = [toy.prompt(i, [(56, 84), (28, 28)][:i % 3], 3 + i) for i in range(8)]
NUMBERS = np.arange(8, dtype=np.int32) * 5 + 2
BANNED = (toy.START, toy.END, toy.IMAGE, toy.VIDEO)
# A sixth of the ids stop, so that completions end at all lengths.
OPTIONS = sampling.Options(group=3, length=10, stop=tuple(range(30, 60)),
                           banned=BANNED)
TOLERANCE = 1e-5   # float32: another order of the same sums
SAME = ('tokens', 'action_mask', 'token_mask', 'positions', 'finished')
CLOSE = ('logps', 'drawn_logps', 'entropy')
scored = jax.jit(toy.plain, static_argnums=(1, 3, 4))
KEY = jax.random.key(3)


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(rollout, params, batch, options, numbers=NUMBERS, *limits):
  with jax.default_matmul_precision('highest'):
    return rollout(qwen2_5_vl, toy.CONFIG, params, batch, KEY, numbers, options,
                   *limits)


@functools.partial(jax.jit, static_argnums=2)
def redrawn(logits, uniform, options, seen=None):
  """Draws from logits [..., V], -inf where banned."""
  return sampling.draw(jnp.maximum(logits, -1e30), uniform, options, seen)


@pytest.fixture(scope='module')
def params():
  return toy.params(0)


@pytest.fixture(scope='module')
def batch():
  return toy.batch(PROMPTS)


@pytest.fixture(scope='module')
def lockstep(params, batch):
  return jax.tree.map(np.asarray, run(sampler.rollout, params, batch, OPTIONS))


def check_same(got, want):
  for name in SAME:
    np.testing.assert_array_equal(getattr(got, name), getattr(want, name), name)
  for name in CLOSE:
    np.testing.assert_allclose(getattr(got, name), getattr(want, name),
                               atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize('schedule', [
    dict(), dict(slots=5), dict(slots=4, resident=4, chunk=2),
    dict(slots=6, resident=4, chunk=2, parts=2), dict(slots=3, draft=2)])
def test_no_schedule_changes_what_is_written(params, batch, lockstep, schedule):
  options = dataclasses.replace(OPTIONS, **schedule)
  got = run(slots.rollout, params, batch, options)
  check_same(got, lockstep)
  if 'draft' not in schedule:   # each token is an iteration
    np.testing.assert_array_equal(got.passes, lockstep.token_mask.sum(-1))
  use = got.passes.sum() / got.capacity.sum()
  assert use <= 1
  if schedule == dict(slots=5):
    # All slots work until none waits; the last may then idle for a length.
    work = got.passes.sum() / 5
    assert got.capacity.sum() / 5 <= work + OPTIONS.length


@pytest.mark.parametrize('group', [1, 3, 8])
def test_ac1_draws_equal_those_from_plain_forwards(params, batch, group):
  options = dataclasses.replace(OPTIONS, group=group, slots=5)
  got = run(slots.rollout, params, batch, options)
  logits = scored(params, toy.CONFIG, got, BANNED, False)
  keys = sampler.member_keys(KEY, NUMBERS, group)
  def uniform(key, places):
    return jax.vmap(lambda at: jax.random.uniform(jax.random.fold_in(key, at))
                    )(places)
  drawn = jax.vmap(jax.vmap(uniform))(keys, got.positions[..., 0])
  again = redrawn(logits, drawn, options)
  mask = np.asarray(got.action_mask)
  assert mask.any(-1).all() and mask.sum() > 8 * group
  np.testing.assert_array_equal(np.asarray(again.token)[mask],
                                np.asarray(got.tokens)[mask])
  np.testing.assert_allclose(np.asarray(got.logps)[mask],
                             np.asarray(again.logp)[mask], atol=TOLERANCE)


def on_eight():
  """What the subprocess of the test below prints: how far from one device."""
  mesh = sharding.make_mesh(2, 2, 1, 2)
  rules = {k: '' if v == 'fsdp' else v
           for k, v in base.get_config().sharding.items()}
  laid = sharding.of_specs(mesh, qwen2_5_vl.specs(toy.CONFIG), rules)
  rows = sharding.batch(mesh)
  params, batch = toy.params(0), toy.batch(PROMPTS)
  options = dataclasses.replace(OPTIONS, parts=4, slots=8, resident=4, chunk=4)
  program = jax.jit(
      lambda *x: slots.rollout(qwen2_5_vl, toy.CONFIG, *x, options),
      out_shardings=rows)
  with jax.default_matmul_precision('highest'):
    got = program(jax.device_put(params, laid), jax.device_put(batch, rows),
                  KEY, jax.device_put(NUMBERS, rows))
  want = run(sampler.rollout, params, batch, OPTIONS)
  gaps = {n: float(np.abs(np.asarray(getattr(got, n), np.float32)
                          - np.asarray(getattr(want, n))).max())
          for n in SAME + CLOSE}
  print(json.dumps(gaps))


def test_ac1_eight_devices_write_what_one_does():
  gaps = elsewhere.printed(__name__, 'on_eight()', elsewhere.fake_devices())
  assert not any(gaps[n] for n in SAME), gaps
  assert max(gaps[n] for n in CLOSE) <= TOLERANCE, gaps


def test_budgets_and_forced_tokens(params, batch, lockstep):
  """A forced beginning is not the policy's; what follows it is drawn as if the
  policy had begun so itself."""
  rng = np.random.default_rng(0)
  count = rng.integers(0, 5, (8, 3)).astype(np.int32)
  forced = rng.integers(60, toy.VOCAB, (8, 3, 4)).astype(np.int32)
  forced[0, 0] = 31   # a stop id, which ends nothing where it is forced
  count[0, 0] = 4
  budget = rng.integers(1, 11, (8, 3)).astype(np.int32)
  limits = slots.Limits(budget=budget, forced=forced, forced_count=count)
  options = dataclasses.replace(OPTIONS, slots=7)
  got = jax.tree.map(np.asarray, run(slots.rollout, params, batch, options,
                                     NUMBERS, limits))
  drafted = run(slots.rollout, params, batch,
                dataclasses.replace(options, draft=3), NUMBERS, limits)
  check_same(drafted, got)
  assert drafted.passes.sum() < got.passes.sum()
  for i in np.ndindex(8, 3):
    n = got.token_mask[i].sum()
    held = min(count[i], budget[i])
    np.testing.assert_array_equal(got.tokens[i][:held], forced[i][:held])
    assert not got.action_mask[i][:held].any()
    assert got.action_mask[i][held:n].all() and n <= budget[i]
    stopped = n > held and got.tokens[i][n - 1] in OPTIONS.stop
    assert got.finished[i] == stopped and (stopped or n == budget[i])
    if not held:   # as without limits, until the budget ends it
      np.testing.assert_array_equal(got.tokens[i][:n],
                                    lockstep.tokens[i][:n])
  want = scored(params, toy.CONFIG, got, BANNED)
  np.testing.assert_allclose(
      got.logps, toy.chosen(want, got.tokens, got.action_mask), atol=TOLERANCE)


def test_stop_strings_captures_and_penalty(params, batch):
  """Against the words on full forwards of what was written."""
  names = [bytes([97 + i % 26, 97 + i // 26]) for i in range(toy.VOCAB)]
  limits = slots.Limits(stops=stops.build(['ab', 'cc', 'xdy'], names))
  options = dataclasses.replace(
      OPTIONS, slots=7, stop=(0,), stop_strings=('ab', 'cc', 'xdy'),
      capture=(40, 70), repetition_penalty=1.3, draft=1)
  got = jax.tree.map(np.asarray, run(slots.rollout, params, batch, options,
                                     NUMBERS, limits))
  logps = np.asarray(scored(params, toy.CONFIG, got, BANNED))
  mask = got.action_mask
  np.testing.assert_allclose(got.captured[mask], logps[..., [40, 70]][mask],
                             atol=TOLERANCE)
  ended = 0
  for p, g in np.ndindex(8, 3):
    n = mask[p, g].sum()
    text = b''.join(names[i] for i in got.tokens[p, g, :n])
    found = [text.find(s) + len(s) for s in (b'ab', b'cc', b'xdy')
             if s in text]
    ended += bool(found)
    if found:   # in its last token
      assert 2 * (n - 1) < min(found) <= 2 * n and got.finished[p, g]
    else:
      assert n == OPTIONS.length or got.tokens[p, g, n - 1] == 0
  assert 0 < ended < 24
  logits = scored(params, toy.CONFIG, got, BANNED, False)
  seen = np.zeros((*mask.shape, toy.VOCAB), bool)
  for p, g, t in np.argwhere(mask):
    seen[p, g, t, PROMPTS[p].ids] = True
    seen[p, g, t, got.tokens[p, g, :t]] = True
  again = redrawn(logits, np.full(mask.shape, 0.5, np.float32), options, seen)
  there = jnp.take_along_axis(jnp.asarray(seen), got.tokens[..., None], -1)
  chosen = jnp.take_along_axis(logits, got.tokens[..., None], -1)
  penalised = jnp.where(seen, jnp.where(logits > 0, logits / 1.3, logits * 1.3),
                        logits)
  own = jnp.where(there, jnp.where(chosen > 0, chosen / 1.3, chosen * 1.3),
                  chosen)[..., 0] - jax.nn.logsumexp(penalised, axis=-1)
  np.testing.assert_allclose(got.drawn_logps[mask], own[mask], atol=TOLERANCE)
  np.testing.assert_allclose(got.entropy[mask], again.entropy[mask],
                             atol=TOLERANCE)


@pytest.mark.parametrize('kept', ['bfloat16', 'int8'])
def test_keys_may_be_kept_in_fewer_bits(params, batch, kept):
  """Greedy, so that a changed digit changes a token only where two are close;
  eight bits of mantissa or of a row's largest are a relative error of 1/256."""
  options = dataclasses.replace(OPTIONS, temperature=0., stop=(1,), slots=7)
  want = run(slots.rollout, params, batch, options)
  got = run(slots.rollout, params, batch,
            dataclasses.replace(options, kv=kept))
  first = np.asarray(abs(got.logps - want.logps))[:, :, 1]
  assert 1e-6 < first.max() < 0.2
  assert (got.tokens == want.tokens).mean() > 0.7


@pytest.mark.parametrize('draft', [0, 2])
def test_keys_are_written_at_one_place_but_with_drafts(params, batch, draft):
  """A TPU makes a loop of a scatter, and copies all layers behind it."""
  options = dataclasses.replace(OPTIONS, slots=4, draft=draft)
  trace = str(jax.make_jaxpr(lambda params, batch: slots.rollout(
      qwen2_5_vl, toy.CONFIG, params, batch, KEY, NUMBERS, options))(
          params, batch))
  text = toy.CONFIG.text
  kept = f'{text.layers},1,4,{options.length},{text.kv_heads},{text.head_dim}'
  found = {how for how in ('scatter', 'dynamic_update_slice')
           if f'[{kept}] = {how}' in trace}
  assert found == {'scatter' if draft else 'dynamic_update_slice'}


def test_what_does_not_divide_is_named(params, batch):
  for wrong in (dict(parts=3), dict(parts=2, slots=5)):
    with pytest.raises(ValueError, match='does not divide over the'):
      run(slots.rollout, params, batch, dataclasses.replace(OPTIONS, **wrong))
