"""Completions beside their prompt, behind it, and packed: the same numbers.

Against `toy.plain`, in which nothing is shared and nothing cached, and whole
steps against steps without packing. What the packing may do is in test_rows.
"""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import base
from medrl import metrics
from medrl import sharding
from medrl import types
from medrl.models import qwen2_5_vl
from medrl.rl import logps
from medrl.trainers import objective
from medrl.trainers import rows
from medrl.trainers import scoring
from medrl.trainers import state as state_lib
from medrl.trainers import update
from tests import elsewhere
from tests.oracles import toy
from tests.trainers import small
from tests.trainers import test_update

BANNED = (toy.START, toy.END, toy.IMAGE, toy.VIDEO)
TOLERANCE = 1e-5   # float32: another order of the same sums
LENGTH = 6
SIZES = [[(112, 84), (56, 56)], [], [(56, 56), (28, 84), (28, 28)], [(84, 56)]]


def ragged(prompts: int, group: int) -> types.Rollout:
  """Prompts of unequal length and up to three images; completions are full,
  short and empty, some with holes, some with words that are not the policy's.
  """
  rng = np.random.default_rng(group)
  batch = toy.batch([toy.prompt(i, SIZES[i % len(SIZES)], words=3 + i)
                     for i in range(prompts)])
  shape = (prompts, group, LENGTH)
  there = np.arange(LENGTH) < rng.integers(1, LENGTH + 1, (prompts, group, 1))
  there &= rng.random(shape) < rng.choice([1., .7], (prompts, group, 1))
  there[0, 0], there[1, -1] = [True, False, False, True, True, False], False
  tokens = rng.integers(10, toy.VOCAB, shape).astype(np.int32)
  out = toy.rollout(batch, tokens, there)
  return out._replace(action_mask=there & (rng.random(shape) < .8))


def scorer(config=toy.CONFIG, **changed) -> scoring.Scorer:
  return scoring.Scorer(qwen2_5_vl, config, jnp.float32, 64, BANNED,
                        logps.token_logps, **changed)


def plain(params, rollout):
  """Log-prob and entropy [P, G, T] over the ids that are not banned."""
  logits = toy.plain(params, toy.CONFIG, rollout, normalised=False)
  kept = np.setdiff1d(np.arange(toy.VOCAB), BANNED)
  found = jax.nn.log_softmax(logits[..., kept])
  entropy = -jnp.sum(jnp.exp(found) * found, axis=-1)
  column = jnp.searchsorted(jnp.asarray(kept), rollout.tokens)
  return (toy.chosen(found, column, rollout.action_mask),
          jnp.where(rollout.action_mask, entropy, 0.))


@functools.partial(jax.jit, static_argnums=0)
def measured(score, params, *given):
  """Log-probs and entropies, and the gradient of a weighted sum of both: the
  norm of each tensor."""
  def total(params):
    found = score(params, *given)
    rng = np.random.default_rng(5)
    weights = [rng.normal(size=x.shape).astype(np.float32) for x in found]
    return sum(jnp.sum(w * x) for w, x in zip(weights, found)), found
  with jax.default_matmul_precision('highest'):
    grads, found = jax.grad(total, has_aux=True)(params)
  return found, jax.tree.map(jnp.linalg.norm, grads)


@functools.cache
def wanted(group):
  return measured(plain, toy.params(0), ragged(4, group))


def source(rollout, parts: int):
  """Rows of two completions' room, as many as are needed."""
  split = rows.Split(parts, 1, 1)
  found = rows.plan(rollout.token_mask, 2 * LENGTH, range(parts, 99, parts),
                    split)
  assert found.size < rollout.tokens.size or rollout.tokens.shape[1] == 1
  return found


@pytest.mark.parametrize('layout, group', [
    *itertools.product(['behind', 'packed'], [1, 3, 8]), ('beside', 3),
    ('2 parts', 3)])
def test_ac1_forward_and_gradient_equal_plain_sequences(layout, group):
  rollout = ragged(4, group)
  if layout in ('beside', 'behind'):
    given, how = (rollout,), scorer(layout=layout)
  else:
    parts = 1 if layout == 'packed' else 2
    given, how = (rollout, source(rollout, parts)), scorer(parts=parts)
  got, norms = measured(functools.partial(scoring.policy_logps, how),
                        toy.params(0), *given)
  want, plain_norms = wanted(group)
  mask = rollout.action_mask
  for one, other in zip(got, want):
    np.testing.assert_allclose(one, other, atol=TOLERANCE)
    assert (np.asarray(other)[mask] != 0).all()
    assert not np.asarray(one)[~mask].any()
  paths = jax.tree_util.tree_leaves_with_path(plain_norms)
  for (path, b), a in zip(paths, jax.tree.leaves(norms), strict=True):
    assert b > 1e-4, path   # nothing agrees by being zero
    assert abs(a / b - 1) <= TOLERANCE, (path, a, b)


def test_a_layout_that_is_not_there_is_told():
  with pytest.raises(ValueError, match="'between' is not beside or behind"):
    scorer(layout='between')


PLAN = (1, 2, 2)   # epochs, mini-batches, micro-batches
OPTIONS = test_update.OPTIONS.copy_and_resolve_references()
OPTIONS.learning_rate = 1e-3
CONFIG = test_update.CONFIG


def stepped(mesh, packed: bool) -> dict[str, float]:
  """Metrics of one step, and the norm of each parameter behind it."""
  parts = mesh.shape['data'] * mesh.shape['fsdp']
  how = scorer(CONFIG, parts=parts)
  rng = np.random.default_rng(1)
  rollout = ragged(16, 3)
  def drawn(scale):
    return (scale * rng.normal(size=rollout.tokens.shape)).astype(np.float32)
  old = -np.log(toy.VOCAB) + drawn(0.3)
  batch = types.TrainBatch(
      rollout, drawn(1.), rollout.action_mask.astype(np.float32), old,
      old + drawn(0.3), np.zeros_like(old),
      *np.ones((2, *old.shape[:2]), np.float32))
  if packed:
    split = rows.Split(parts, *PLAN[1:])
    found = rows.plan(rollout.token_mask, 2 * LENGTH, (16, 32), split)
    assert found.size < rollout.tokens.size * 1.4
    batch = batch._replace(source=found)

  def loss(trained, frozen, part):
    del frozen
    found = scoring.policy_logps(how, trained, part.rollout, part.source)
    return objective.rl_loss(test_update.WORDS, *found, part)

  specs = qwen2_5_vl.specs(CONFIG)
  tx = state_lib.optimizer(OPTIONS, 9, specs)
  laid = state_lib.shardings(mesh, specs, dict(base.get_config().sharding), (),
                             tx)
  state = state_lib.create(toy.params(0, CONFIG), 0, (), tx, laid, jnp.float32)

  @jax.jit
  def step(state, batch):
    state, values = update.step(state, batch, loss, tx,
                                state_lib.schedule(OPTIONS, 9), PLAN)
    return jax.tree.map(jnp.linalg.norm, state.trained), values

  with jax.default_matmul_precision('highest'):
    norms, values = step(state, jax.device_put(batch, sharding.batch(mesh)))
  norms = jax.tree_util.tree_leaves_with_path(norms)
  return {jax.tree_util.keystr(path): float(x) for path, x in norms} | {
      name: metrics.value(x) if isinstance(x, metrics.Mean) else float(x)
      for name, x in values.items()}


def print_step():
  """On 8 fake devices; what the subprocess of the test below runs."""
  print(json.dumps(stepped(sharding.make_mesh(2, 2, 1, 2), True)))


@pytest.mark.slow
def test_ac1_a_packed_step_is_the_step_on_one_device_and_on_eight():
  process = elsewhere.begin(__name__, 'print_step()', elsewhere.fake_devices())
  one = sharding.make_mesh(devices=jax.devices()[:1])
  want, found = stepped(one, False), {'1': stepped(one, True)}
  found['8'] = elsewhere.end(process)
  assert want['optim/grad_norm'] > 1e-2 and not want['optim/skipped']
  for devices, got in found.items():
    assert got.keys() == want.keys()
    for name, value in want.items():
      assert got[name] == pytest.approx(value, rel=TOLERANCE, abs=1e-7), (
          devices, name)


def records(root, split, **options):
  """Those of `small`, with budgets of 1 to 6 tokens."""
  for number, record in enumerate(small.records(root, split, **options)):
    meta = {**record.meta, 'tokens': 1 + number % 6}
    yield dataclasses.replace(record, meta=meta)


@pytest.mark.slow
def test_ac1_a_run_with_packing_is_the_run_without(tmp_path, caplog):
  """Old and reference log-probs, and two updates a step, from packed rows."""
  found = {}
  for packed in (False, True):
    folder, changed = tmp_path / str(packed), {}
    if packed:
      # The four completions of a mini-batch always fit.
      changed['rl__pack'] = dict(tokens=24, rows=(2,))
    with caplog.at_level('INFO'):
      found[packed] = small.train(
          folder, rl__steps=2, rl__minibatches=2, rl__kl_weight=0.1,
          model__reference_dtype='float32', model__freeze=('vision',),
          data__dataset='tests.trainers.test_layouts.records',
          rollout__budget='tokens',
          rollout__fn='medrl.rollout.slots.rollout', **changed)
  assert 'compiled update (64, 64) in 2 rows' in caplog.text
  padding = 'data/padding_completion'
  assert sorted(found[True]) == [0, 1, 2]
  for step, line in found[False].items():
    other = found[True][step]
    assert line.keys() == other.keys()
    for name, value in line.items():
      if not name.startswith('time/') and name != padding:
        # Gaps of 1e-7 have no digit in common.
        assert other[name] == pytest.approx(value, rel=TOLERANCE, abs=1e-6), (
            step, name)
    if step:
      assert other[padding] < line[padding]
