"""What a state costs: dtype and place of moments, and memory taken over.

Adam itself is worked out by hand in test_state; here it is compared with that
of optax, and what saves memory with what does not.
"""

import json
import types
import warnings

import jax
from jax.experimental import topologies
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from medrl import metrics
from medrl import params as params_lib
from medrl import sharding
from medrl.trainers import moments
from medrl.trainers import state as state_lib
from medrl.trainers import update
from tests import elsewhere

Spec = params_lib.Spec
SPECS = {'embed': Spec((16, 8), ('vocab', 'embed'), scale=1.),
         'layers': {'up': Spec((3, 8, 16), ('layers', 'embed', 'mlp'),
                               scale=.3),
                    'norm': Spec((3, 8), ('layers', 'norm'), 'ones')}}
RULES = {'vocab': 'tensor', 'embed': 'fsdp', 'mlp': 'tensor', 'layers': '',
         'norm': ''}
SMALL = 256   # elements whose moments are followed
SIZE = sum(np.prod(s.shape) for s in jax.tree.leaves(SPECS))


def options(**changed):
  return ml_collections.ConfigDict(dict(
      learning_rate=0.01, schedule='constant', warmup=0, b1=0.9, b2=0.98,
      eps=1e-8, moment_dtype='float32', weight_decay=0.1,
      clip_norm=1.0) | changed)


def loss(trained, frozen, part):
  """Squared outputs of a residual stack, the mean over rows."""
  del frozen
  def layer(x, w):
    return x + jnp.tanh(x * w['norm'] @ w['up']) @ w['up'].T, None
  x = jax.lax.scan(layer, part @ trained['embed'], trained['layers'])[0]
  found = metrics.Mean(jnp.sum(x ** 2), jnp.float32(len(x)))
  return found, {'loss/total': found}, {}


def program(mesh, optim, offload=(), plan=(1, 1, 1), params=None):
  """A fresh state, and the jitted step that takes its memory."""
  tx = state_lib.optimizer(optim, 9, SPECS)
  laid = state_lib.shardings(mesh, SPECS, RULES, (), tx, offload)
  if params is None:
    params = params_lib.init(jax.random.key(0), SPECS)
  state = state_lib.create(params, 0, (), tx, laid, jnp.float32)
  rate = state_lib.schedule(optim, 9)
  step = jax.jit(lambda s, b: update.step(s, b, loss, tx, rate, plan),
                 donate_argnums=0,
                 out_shardings=(laid, sharding.replicated(mesh)))
  return state, step


def batch(bad=False):
  x = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
  if bad:
    x[1] = np.nan
  return x


@pytest.mark.parametrize('value, share', [
    (1., 0.), (1 + 2 ** -7 * .25, .25), (-3 - 2 ** -6 * .5, .5), (0., 0.),
    (1e-30, None)])
def test_stochastic_rounding_takes_a_neighbour_and_is_right_on_average(
    value, share):
  bits = jnp.arange(2 ** 16, dtype=jnp.uint32)
  x = jnp.full(bits.shape, value, jnp.float32)
  got = np.float64(moments.stochastic_round(x, bits))
  assert len(set(got)) <= 2
  # Every draw once, so the mean is exact but for float32's own last bits.
  np.testing.assert_allclose(got.mean(), np.float32(value), rtol=2e-7)
  if share is not None:
    up = np.mean(np.abs(got) > abs(np.float32(value)))
    assert up == share or set(got) == {value}


@pytest.mark.parametrize('value', [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_what_it_is(value):
  got = moments.stochastic_round(jnp.float32(value), jnp.uint32(2 ** 16 - 1))
  np.testing.assert_array_equal(np.float32(got), np.float32(value))


def test_float32_moments_are_those_of_optax():
  optim = options()
  mine = state_lib.optimizer(optim, 9, SPECS)
  theirs = optax.chain(optax.clip_by_global_norm(1.), optax.adamw(
      state_lib.schedule(optim, 9), .9, .98, 1e-8, weight_decay=.1,
      mask=jax.tree.map(lambda s: s.init == 'normal', SPECS)))
  params = params_lib.init(jax.random.key(0), SPECS)
  held = [tx.init(params) for tx in (mine, theirs)]
  # Checkpoints of one are checkpoints of the other.
  assert jax.tree.structure(held[0]) == jax.tree.structure(held[1])
  for i in range(4):
    grads = params_lib.init(jax.random.key(i), SPECS)
    (got, held[0]), (want, held[1]) = (
        tx.update(grads, state, params)
        for tx, state in zip((mine, theirs), held))
    for pair in ((got, want), held):
      # The same float32 operations, in another order within a rounding.
      jax.tree.map(lambda a, b: np.testing.assert_allclose(
          a, b, rtol=1e-6, atol=1e-9), *pair)


def second_moment(dtype, b2, nearest, monkeypatch):
  """v of some elements after gradients that fell tenfold for a while."""
  if nearest:
    monkeypatch.setattr(moments, 'stochastic_round',
                        lambda x, bits: x.astype(jnp.bfloat16))
  tx = moments.adam(options(moment_dtype=dtype, b2=b2),
                    {'w': Spec((SMALL,), ('mlp',))})

  def one(state, key):
    key, scale = key
    grads = {'w': scale * jax.random.normal(jax.random.key(key), SMALL)}
    return tx.update(grads, state)[1], None

  count = round(2 / (1 - b2))
  scales = jnp.repeat(jnp.array([1., .1]), count)
  state = tx.init({'w': jnp.zeros(SMALL)})
  return jax.lax.scan(one, state, (jnp.arange(2 * count), scales))[0].nu['w']


@pytest.mark.parametrize('b2', [.98, .999])
def test_bfloat16_second_moments_fall_when_gradients_do(b2, monkeypatch):
  want = np.float64(second_moment('float32', b2, False, monkeypatch))
  got = second_moment('bfloat16', b2, False, monkeypatch)
  assert got.dtype == jnp.bfloat16
  ratio = np.float64(got) / want
  # A rounding is at most 2^-7 off and is forgotten at b2 a step: independent
  # ones add up to 2^-7 / sqrt(3 (1 - b2^2)), twice that while v falls.
  noise = 2 * 2 ** -7 / np.sqrt(3 * (1 - b2 ** 2))
  assert ratio.std() < noise, (ratio.std(), noise)
  assert abs(ratio.mean() - 1) < 5 * noise / np.sqrt(SMALL)
  # To the nearest they stay up where they were, at this b2 at least.
  if b2 == .999:
    near = second_moment('bfloat16', b2, True, monkeypatch)
    assert np.mean(np.float64(near) / want) > 2


@pytest.mark.parametrize('b2', [.98, .999])
def test_a_net_learns_with_bfloat16_moments_as_with_float32_ones(b2):
  specs = {k: Spec(s, ('embed', 'mlp'), scale=.2)
           for k, s in dict(a=(16, 32), b=(32, 32), c=(32, 4)).items()}
  def net(w, x):
    return jnp.tanh(jnp.tanh(x @ w['a']) @ w['b']) @ w['c']
  start, teacher = (params_lib.init(jax.random.key(i), specs) for i in (0, 9))

  def run(dtype):
    tx = state_lib.optimizer(
        options(moment_dtype=dtype, b2=b2, learning_rate=3e-3, clip_norm=1e3,
                weight_decay=0.), 300, specs)
    def wrong(w, x):
      return jnp.mean((net(w, x) - net(teacher, x)) ** 2)
    def one(carry, i):
      w, held = carry
      x = jax.random.normal(jax.random.key(i), (64, 16))
      value, grads = jax.value_and_grad(wrong)(w, x)
      updates, held = tx.update(grads, held, w)
      return (optax.apply_updates(w, updates), held), value
    (w, _), values = jax.lax.scan(one, (start, tx.init(start)),
                                  jnp.arange(300))
    return w, values

  (want, losses), (got, values) = run('float32'), run('bfloat16')
  def apart(a, b):
    return float(optax.tree.norm(jax.tree.map(jnp.subtract, a, b)))
  assert losses[-20:].mean() < losses[0] / 4   # it moved at all
  # Of the way gone; v's noise (above) times half, and steps partly average.
  assert apart(got, want) < .02 * apart(want, start)
  np.testing.assert_allclose(values[-20:].mean(), losses[-20:].mean(),
                             rtol=.02)


def same(a, b):
  def leaf(x, y):
    assert x.dtype == y.dtype
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
  jax.tree.map(leaf, a, b)


def kinds(tree) -> set[str]:
  return {x.sharding.memory_kind for x in jax.tree.leaves(tree)}


@pytest.mark.parametrize('bad', [False, True])
@pytest.mark.parametrize('plan', [(1, 1, 2), (2, 2, 1)])
@pytest.mark.parametrize('dtype', moments.DTYPES)
def test_moments_on_the_host_change_no_number(dtype, plan, bad):
  mesh, found = sharding.make_mesh(), []
  for offload in ((), ('moments',)):
    state, step = program(mesh, options(moment_dtype=dtype), offload, plan)
    for _ in range(2):
      state, values = step(state, batch(bad))
    adam = state.opt_state[1][0]
    assert adam.nu['embed'].dtype == dtype
    assert kinds((adam.mu, adam.nu)) == {
        sharding.HOST if offload else 'device'}
    assert kinds((state.trained, adam.count, state.step)) == {'device'}
    found.append((state, values))
  same(*found)
  skipped = plan[0] * (1 if plan[1] > 1 else plan[1])
  assert values['optim/skipped'] == (skipped if bad else 0)
  assert int(adam.count) == 2 * (plan[0] * plan[1] - (bad and skipped))


@pytest.mark.parametrize('dtype', moments.DTYPES)
@pytest.mark.parametrize('offload', [(), ('moments',)])
def test_an_update_takes_the_memory_of_its_state(dtype, offload):
  with warnings.catch_warnings():
    warnings.simplefilter('error')   # of buffers that were not taken over
    state, step = program(sharding.make_mesh(), options(moment_dtype=dtype),
                          offload)
    memory = step.lower(state, batch()).compile().memory_analysis()
    size = SIZE * (4 + 2 * jnp.dtype(dtype).itemsize)
    # Two counters and a key beside.
    assert 0 <= memory.alias_size_in_bytes - size <= 64
    old = state
    step(state, batch())
  assert all(x.is_deleted() for x in jax.tree.leaves(old))


def test_a_state_is_made_around_its_parameters_without_a_copy():
  mesh = sharding.make_mesh()
  laid = sharding.of_specs(mesh, SPECS, RULES)
  params = jax.device_put(params_lib.init(jax.random.key(0), SPECS), laid)
  state, _ = program(mesh, options(), params=params)
  def places(tree):
    return [x.addressable_data(0).unsafe_buffer_pointer()
            for x in jax.tree.leaves(tree)]
  assert places(state.trained) == places(params)


def test_a_dtype_that_moments_cannot_have_is_refused():
  with pytest.raises(ValueError, match="'float16' is not float32 or bfloat16"):
    moments.adam(options(moment_dtype='float16'), SPECS)


def test_what_cannot_be_offloaded_is_refused():
  with pytest.raises(ValueError, match="'moment'; it may name reference, mom"):
    program(sharding.make_mesh(), options(), ('moment',))


def test_devices_without_host_memory_are_refused():
  device = types.SimpleNamespace(platform='npu', addressable_memories=lambda: [
      types.SimpleNamespace(kind='device')])
  laid = types.SimpleNamespace(mesh=types.SimpleNamespace(
      devices=np.array([device])))
  with pytest.raises(ValueError, match=r"npu has the memories \['device'\] and "
                     r"not 'pinned_host'; set config.model.offload=\(\)"):
    sharding.to_host({'w': laid})


def print_draws():
  """Moments after two updates on 8 fake devices; what a subprocess runs."""
  out = []
  for mesh in (sharding.make_mesh(data=1, fsdp=4, tensor=2),
               sharding.make_mesh(devices=jax.devices()[:1])):
    tx = moments.adam(options(moment_dtype='bfloat16'), SPECS)
    laid = sharding.of_specs(mesh, SPECS, RULES)
    held = sharding.like_params(
        mesh, jax.eval_shape(tx.init, params_lib.abstract(SPECS)), laid)
    state = jax.jit(tx.init, out_shardings=held)(
        params_lib.init(jax.random.key(0), SPECS))
    for i in range(2):
      # Drawn elsewhere, so that both meshes have the very same gradients.
      grads = jax.device_put(params_lib.init(jax.random.key(i), SPECS), laid)
      _, state = jax.jit(tx.update, out_shardings=(laid, held))(grads, state)
    out.append([np.asarray(x, np.float32).tolist()
                for x in jax.tree.leaves((state.mu, state.nu))])
  print(json.dumps(out))


def test_draws_do_not_depend_on_the_mesh():
  split, whole = elsewhere.printed(__name__, 'print_draws()',
                                   elsewhere.fake_devices())
  assert split == whole


def print_tpu():
  """What an update of this state needs of 8 chips, compiled for them."""
  devices = topologies.get_topology_desc(
      platform='tpu', topology_name='v5e:2x4').devices
  mesh = sharding.make_mesh(data=1, fsdp=4, tensor=2, devices=devices)
  specs = {'embed': Spec((256, 512), ('vocab', 'embed')),
           'layers': {'up': Spec((8, 512, 1024), ('layers', 'embed', 'mlp')),
                      'norm': Spec((8, 512), ('layers', 'norm'), 'ones')}}
  out = []
  for dtype, offload in (('float32', ()), ('float32', ('moments',)),
                         ('bfloat16', ('moments',))):
    optim = options(moment_dtype=dtype)
    tx = state_lib.optimizer(optim, 9, specs)
    laid = state_lib.shardings(mesh, specs, RULES, (), tx, offload)
    shapes = jax.eval_shape(lambda tx=tx: state_lib.TrainState(
        params_lib.init(jax.random.key(0), specs), {},
        tx.init(params_lib.init(jax.random.key(0), specs)),
        jnp.zeros((), jnp.int32), jax.random.key(0)))
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=s), shapes, laid)
    rows = jax.ShapeDtypeStruct((8, 256), jnp.float32,
                                sharding=sharding.batch(mesh))
    step = jax.jit(lambda s, b, tx=tx, optim=optim: update.step(
        s, b, loss, tx, state_lib.schedule(optim, 9), (1, 1, 1)),
                   donate_argnums=0,
                   out_shardings=(laid, sharding.replicated(mesh)))
    found = step.lower(state, rows).compile().memory_analysis()
    held = sum(np.prod(s.shard_shape(x.shape)) for x, s in zip(
        jax.tree.leaves(shapes.trained), jax.tree.leaves(laid.trained)))
    out.append([int(held), found.argument_size_in_bytes,
                found.host_argument_size_in_bytes,
                found.host_alias_size_in_bytes, found.temp_size_in_bytes])
  print(json.dumps(out))


def test_on_a_tpu_moments_on_the_host_leave_the_devices():
  here, away, short = elsewhere.printed(__name__, 'print_tpu()',
                                        elsewhere.tpu())
  count = here[0]
  assert here[2] == 0
  for found, size in ((away, 8), (short, 4)):
    # All arrays are whole tiles here but the norms, which are padded.
    assert found[2] == pytest.approx(size * count, rel=.02)
    assert found[3] == pytest.approx(found[2], rel=.01)   # updated in place
    assert here[1] - found[1] == pytest.approx(8 * count, rel=.02)
    # They come a layer at a time: beside the gradients a few layers' worth.
    assert found[4] < 4 * count + 3 * 8 * count / 8
