"""One update: what it must not depend on, and steps that it must not take.

Losses are checked in tests/rl, the loop in test_grpo.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from experiments import base
from medrl import metrics
from medrl import params as params_lib
from medrl import sharding
from medrl import types
from medrl.models import qwen2_5_vl
from medrl.rl import kl
from medrl.rl import logps
from medrl.rl import losses
from medrl.trainers import objective
from medrl.trainers import scoring
from medrl.trainers import state as state_lib
from medrl.trainers import update
from tests import elsewhere
from tests.oracles import toy

# Axes divide by what each mesh splits them into.
CONFIG = dataclasses.replace(
    toy.CONFIG,
    text=dataclasses.replace(toy.CONFIG.text, hidden=64, heads=8, kv_heads=4,
                             ffn=64),
    vision=dataclasses.replace(toy.CONFIG.vision, hidden=32, heads=4, ffn=32,
                               out=64))
MESHES = [(8, 1, 1, 1), (1, 8, 1, 1), (2, 2, 1, 2)]
WORDS = objective.Objective(
    losses.token_ratio, losses.clip, losses.token_mean, kl.k3, low=0.2,
    high=0.28, kl_weight=0.1, length=6, on_policy=False)


def train_batch() -> types.TrainBatch:
  """8 prompts of text and of one or two images, 2 ragged completions each."""
  rng = np.random.default_rng(0)
  sizes = [(), [(112, 84)], [(56, 56), (28, 84)], [], [(140, 56)], (),
           [(28, 28)], [(84, 112)]]
  batch = toy.batch([toy.prompt(i, s, words=3 + i)
                     for i, s in enumerate(sizes)])
  shape = (8, 2, 6)
  tokens = rng.integers(10, toy.VOCAB, shape).astype(np.int32)
  mask = np.arange(6) < rng.integers(1, 7, (8, 2, 1))
  def drawn(scale):
    return (scale * rng.normal(size=shape)).astype(np.float32)
  # Ratios on both sides of the clip, and a reference further off.
  old = -np.log(toy.VOCAB) + drawn(0.3)
  return types.TrainBatch(toy.rollout(batch, tokens, mask), drawn(1.),
                          mask.astype(np.float32), old, old + drawn(0.3),
                          np.zeros_like(old), *np.ones((2, *mask.shape[:2]),
                                                       np.float32))


def norms(mesh, microbatches: int) -> dict[str, float]:
  """Loss and the norm of each tensor's gradient, on a mesh."""
  scorer = scoring.Scorer(qwen2_5_vl, CONFIG, jnp.float32, 64, (toy.IMAGE,),
                         logps.token_logps)
  specs = qwen2_5_vl.specs(CONFIG)
  laid = sharding.of_specs(mesh, specs, dict(base.get_config().sharding))
  params = jax.device_put(toy.params(0, CONFIG), laid)
  batch = jax.device_put(train_batch(), sharding.batch(mesh))

  def loss(trained, part):
    found = scoring.policy_logps(scorer, trained, part.rollout)
    return objective.rl_loss(WORDS, *found, part)

  @jax.jit
  def measure(params, batch):
    grads, means, _ = update.gradient(loss, params, batch, microbatches)
    total = means['loss/total']
    return total.total / total.weight, jax.tree.map(jnp.linalg.norm, grads)

  with jax.default_matmul_precision('highest'):
    total, found = measure(params, batch)
  return {'loss': float(total)} | {
      jax.tree_util.keystr(path): float(norm)
      for path, norm in jax.tree_util.tree_leaves_with_path(found)}


def print_norms():
  """On 8 fake devices; what the subprocess of the test below runs."""
  print(json.dumps([norms(sharding.make_mesh(*sizes), count)
                    for sizes, count in zip(MESHES, (1, 1, 2))]))


def test_ac6_loss_and_gradients_depend_on_no_microbatch_and_no_mesh():
  process = elsewhere.begin(__name__, 'print_norms()', elsewhere.fake_devices())
  one = sharding.make_mesh(devices=jax.devices()[:1])
  want = norms(one, 1)
  found = {'4 micro-batches': norms(one, 4)}
  found |= dict(zip(map(str, MESHES), elsewhere.end(process), strict=True))
  assert min(want.values()) > 1e-6, want   # nothing agrees by being zero
  for name, got in found.items():
    gaps = {k: abs(got[k] / want[k] - 1) for k in want}
    worst = max(gaps, key=gaps.get)
    assert gaps[worst] <= 1e-5, (name, worst, gaps[worst])


SPECS = {'w': params_lib.Spec((3,), ('embed',))}
OPTIONS = ml_collections.ConfigDict(dict(
    learning_rate=0.1, schedule='constant', warmup=0, b1=0.9, b2=0.98,
    eps=1e-8, moment_dtype='float32', weight_decay=0.0, clip_norm=100.0))


def fresh(tx):
  trained = {'w': jnp.array([1., -2., 0.5])}
  return state_lib.TrainState(trained, {}, tx.init(trained),
                              jnp.zeros((), jnp.int32), jax.random.key(0))


def squared(trained, frozen, part):
  """Squared errors of rows that weigh differently, as ragged ones do."""
  del frozen
  x, y, weight = part
  loss = metrics.Mean(jnp.sum(weight * (x @ trained['w'] - y) ** 2),
                      jnp.sum(weight))
  return loss, {'loss/total': loss}, {}


def rows(bad=False):
  rng = np.random.default_rng(1)
  x, y = rng.normal(size=(8, 3)), rng.normal(size=8)
  weight = np.arange(1., 9.)
  if bad:
    y[1] = np.inf
  return tuple(np.float32(a) for a in (x, y, weight))


@pytest.mark.parametrize('bad', [False, True])
def test_a_step_of_several_updates_is_those_updates_one_after_another(bad):
  tx = state_lib.optimizer(OPTIONS, 4, SPECS)
  run = jax.jit(lambda s, b: update.step(
      s, b, squared, tx, state_lib.schedule(OPTIONS, 4), (2, 2, 2)))
  state, values = run(fresh(tx), rows(bad))
  w, held = np.array([1., -2., 0.5]), tx.init(fresh(tx).trained)
  means = []
  for _ in range(2):
    for part in range(2):
      x, y, weight = (a[part::2] for a in rows(bad))
      means.append(np.sum(weight * (x @ w - y) ** 2))
      grad = 2 * (weight * (x @ w - y)) @ x / weight.sum()
      if np.isfinite(grad).all():   # else neither weights nor moments move
        change, held = tx.update({'w': jnp.float32(grad)}, held,
                                 {'w': jnp.float32(w)})
        w = w + np.asarray(change['w'])
  np.testing.assert_allclose(state.trained['w'], w, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4),
               state.opt_state, held)
  assert values['optim/skipped'] == (2 if bad else 0)
  assert state.step == 1
  # Of a step's loss the metric is the mean over all its updates' rows.
  total = values['loss/total']
  assert float(total.weight) == 2 * 36
  np.testing.assert_allclose(total.total, np.sum(means), rtol=1e-5)


def test_microbatches_take_every_nth_row_and_come_back():
  tree = {'a': jnp.arange(12).reshape(6, 2)}
  parts = update.microbatched(tree, 3)['a']
  np.testing.assert_array_equal(parts[1], tree['a'][1::3])
  parts = update.parted(tree, 3, 2)['a']
  again = update.microbatched(update.microbatched(tree, 3)['a'][1], 2)
  np.testing.assert_array_equal(parts[2:4], again)
  np.testing.assert_array_equal(update.rejoined({'a': parts}, 3, 2)['a'],
                                tree['a'])
