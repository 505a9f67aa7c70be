"""Halves of a state, schedules and AdamW, against numbers worked out by hand.
"""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from medrl import params as params_lib
from medrl import sharding
from medrl.trainers import state

Spec = params_lib.Spec
SPECS = {'vision': {'patch': Spec((2, 3), ('patch', 'embed')),
                    'norm': Spec((3,), ('norm',), 'ones')},
         'visions': Spec((3,), ('norm',), 'ones'),
         'embed': Spec((3, 2), ('vocab', 'embed'))}


def options(**changed):
  return ml_collections.ConfigDict(dict(
      learning_rate=0.1, schedule='constant', warmup=0, b1=0.9, b2=0.98,
      eps=1e-8, moment_dtype='float32', weight_decay=0.0,
      clip_norm=1.0) | changed)


def test_halves_are_cut_at_whole_names_and_join_again():
  tree = params_lib.init(jax.random.key(0), SPECS)
  trained, frozen = state.split(tree, ('vision',))
  assert set(trained) == {'visions', 'embed'} and set(frozen) == {'vision'}
  jax.tree.map(np.testing.assert_array_equal, state.merge(trained, frozen),
               tree)
  part, rest = state.split(tree, ('vision/norm', 'embed'))
  assert set(part['vision']) == {'patch'}
  assert set(rest) == {'vision', 'embed'} and set(rest['vision']) == {'norm'}


def test_freezing_what_is_not_there_is_refused():
  with pytest.raises(ValueError, match="'visio', but the parameters are.*"
                     "vision/norm"):
    state.split(SPECS, ('visio',))


@pytest.mark.parametrize('changed, steps, rates', [
    (dict(warmup=3), 9, [.025, .05, .075, .1, .1, .1]),
    (dict(warmup=0), 9, [.1, .1]),
    # Two updates leave room for one of warm-up.
    (dict(warmup=10), 2, [.05, .1]),
    # cos(pi k / 4) over the four updates behind the warm-up.
    (dict(warmup=1, schedule='cosine'), 5,
     [.05, .1, .0853553, .05, .0146447, 0.])])
def test_learning_rates_longhand(changed, steps, rates):
  rate = state.schedule(options(**changed), steps)
  got = [float(rate(i)) for i in range(len(rates))]
  np.testing.assert_allclose(got, rates, atol=1e-7)


def test_an_unknown_schedule_is_refused():
  with pytest.raises(ValueError, match="'linear' is not constant or cosine"):
    state.schedule(options(schedule='linear'), 5)


@pytest.mark.parametrize('scale', [0.05, 10.])
def test_adamw_longhand_decays_matrices_alone_and_clips_the_whole(scale):
  # Loshchilov & Hutter, arXiv 1711.05101, algorithm 2.
  specs = {'w': Spec((2, 2), ('embed', 'mlp')),
           'norm': Spec((2,), ('norm',), 'ones'),
           'bias': Spec((2,), ('mlp',), 'zeros')}
  tx = state.optimizer(options(weight_decay=0.5), 10, specs)
  start = {'w': np.array([[1., -2.], [3., 4.]]), 'norm': np.array([1., 2.]),
           'bias': np.array([-1., 1.])}
  # Eight elements of one size: their norm is scale * sqrt(8), clipped to 1.
  grads = jax.tree.map(lambda x: scale * np.sign(x), start)
  held = tx.init(jax.tree.map(jnp.float32, start))
  now = jax.tree.map(jnp.float32, start)
  for part in (1., .5):
    updates, held = tx.update(
        jax.tree.map(lambda g, p=part: jnp.float32(p * g), grads), held,
        now)
    now = jax.tree.map(jnp.add, now, updates)
  sizes = [min(g, 1 / np.sqrt(8)) for g in (scale, scale / 2)]
  for name, value in start.items():
    decay = 0.5 if name == 'w' else 0.
    want = value
    m = v = 0.
    for t, size in enumerate(sizes, 1):
      g = size * np.sign(value)
      m, v = .9 * m + .1 * g, .98 * v + .02 * g * g
      step = (m / (1 - .9 ** t)) / (np.sqrt(v / (1 - .98 ** t)) + 1e-8)
      want = want - .1 * (step + decay * want)
    np.testing.assert_allclose(now[name], want, rtol=1e-5)


def test_a_bfloat16_master_is_refused():
  laid, tx = layout(())
  tree = params_lib.init(jax.random.key(0), SPECS, jnp.bfloat16)
  with pytest.raises(ValueError, match='bfloat16; it needs a float32 master'):
    state.create(tree, 0, (), tx, laid, jnp.bfloat16)


def layout(freeze):
  tx = state.optimizer(options(), 4, state.split(SPECS, freeze)[0])
  rules = dict.fromkeys(('patch', 'embed', 'norm', 'vocab'), '')
  return state.shardings(sharding.make_mesh(), SPECS, rules, freeze, tx), tx


def test_nothing_frozen_has_a_moment_and_it_takes_the_compute_dtype():
  laid, tx = layout(('vision',))
  tree = params_lib.init(jax.random.key(0), SPECS)
  made = state.create(tree, 5, ('vision',), tx, laid, jnp.bfloat16)
  assert made.frozen['vision']['norm'].dtype == jnp.bfloat16
  moments = [x.shape for x in jax.tree.leaves(made.opt_state) if x.shape]
  # Two moments of each trained parameter.
  assert sorted(moments) == sorted([(3,), (3, 2)] * 2)
  assert int(made.step) == 0
  assert jax.random.key_data(made.key).tolist() == jax.random.key_data(
      jax.random.key(5)).tolist()
  again = state.abstract(made)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), again) == jax.tree.map(
      lambda x: (x.shape, x.dtype), made)
