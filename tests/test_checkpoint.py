"""Round trips, other meshes, damage and kills: what a run must survive."""

import gc
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
from typing import Any

import flax.struct
import jax
from jax.experimental import mesh_utils
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medrl import checkpoint

ROOT = pathlib.Path(__file__).parents[1]
METRIC = 'eval/heldout_greedy/accuracy'


@flax.struct.dataclass
class State:
  trained: Any
  frozen: Any
  opt_state: Any
  step: Any
  key: Any


def make_state(step):
  """A state whose every array depends on `step`, on one device."""
  rng = np.random.default_rng(step)
  trained = {'decoder': {
      'attention': {'q': jnp.asarray(rng.normal(size=(2, 16, 24)), 'float32')},
      'norm': jnp.asarray(rng.normal(size=16), 'bfloat16')}}
  optimiser = optax.adamw(1e-3)
  gradient = jax.tree.map(jnp.ones_like, trained)
  _, opt_state = optimiser.update(gradient, optimiser.init(trained), trained)
  return State(trained, {}, opt_state, jnp.int32(step), jax.random.key(step))


def sharded(state, shape):
  """`state` with wide arrays over a mesh ('a', 'b'), the others copied."""
  mesh = jax.sharding.Mesh(mesh_utils.create_device_mesh(shape), ('a', 'b'))
  def place(x):
    spec = (None, 'a', 'b')[:x.ndim] if x.ndim == 3 else ()
    return jax.device_put(x, jax.NamedSharding(mesh, jax.P(*spec)))
  return jax.tree.map(place, state)


def abstract(state):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=x.sharding), state)


def assert_same(got, want):
  def bits(x):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x = jax.random.key_data(x)
    return np.asarray(x)
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(bits(a), bits(b))


def open_manager(folder, **options):
  return checkpoint.open_manager(folder, **{
      'keep_last': 2, 'keep_best': 1, 'best_metric': METRIC, **options})


def write(folder, steps, **options):
  manager = open_manager(folder, **options)
  for step in steps:
    checkpoint.save(manager, step, make_state(step), {'seen': step},
                    {METRIC: -abs(step - 2)})
  manager.close()


def start(call, devices):
  """Starts `call` of this module in a fresh process with that many devices."""
  env = dict(os.environ, JAX_PLATFORMS='cpu',
             XLA_FLAGS=f'--xla_force_host_platform_device_count={devices}')
  return subprocess.Popen(
      [sys.executable, '-c', f'from tests import test_checkpoint as t; {call}'],
      cwd=ROOT, env=env, text=True, stderr=subprocess.PIPE)


def finish(process, code=0):
  _, errors = process.communicate(timeout=100)
  assert process.returncode == code, errors[-3000:]


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp('written') / 'run'
  write(folder, (1, 2))
  return folder


@pytest.mark.parametrize('asynchronous', [True, False])
def test_round_trip_is_exact_and_keeps_typed_keys(tmp_path, asynchronous):
  manager = open_manager(tmp_path, asynchronous=asynchronous)
  assert checkpoint.restore(manager, abstract(make_state(1))) is None
  state = make_state(1).replace(key=jax.random.key(3, impl='rbg'))
  data = {'iterator': {'files': ['a', 1, None]}, 'seen': 5}
  checkpoint.save(manager, 1, state, data)
  step, got, got_data = checkpoint.restore(manager, abstract(state))
  assert (step, got_data) == (1, data)
  assert_same(got, state)
  assert jax.random.key_impl(got.key) == jax.random.key_impl(state.key)
  manager.close()


def test_the_caller_may_change_everything_once_save_returns(tmp_path):
  manager = open_manager(tmp_path)
  state, data = make_state(1), {'carry': [1]}
  change = jax.jit(lambda s: s.replace(
      trained=jax.tree.map(lambda x: x * 0, s.trained)), donate_argnums=0)
  want = abstract(state)
  checkpoint.save(manager, 1, state, data)
  data['carry'].append(2)
  change(state)
  _, got, got_data = checkpoint.restore(manager, want)
  assert_same(got, make_state(1))
  assert got_data == {'carry': [1]}
  manager.close()


def test_newest_and_best_stay_even_across_a_restart(tmp_path):
  write(tmp_path, (1, 2, 3, 4))
  assert checkpoint.steps(tmp_path) == [2, 3, 4]
  manager = open_manager(tmp_path)
  checkpoint.save(manager, 5, make_state(5), {})  # not evaluated
  checkpoint.save(manager, 6, make_state(6), {}, {METRIC: float('nan')})
  checkpoint.wait(manager)
  assert checkpoint.steps(tmp_path) == [2, 5, 6]
  assert checkpoint.best_step(tmp_path, METRIC) == 2
  assert checkpoint.best_step(tmp_path, 'eval/other/accuracy') is None
  with pytest.raises(ValueError, match=r'already has step 6.*\[2, 5, 6\]'):
    checkpoint.save(manager, 6, make_state(6), {})
  manager.close()


def damage(folder, pattern, how):
  """Damages the largest file that matches, as a full disk or a loss would."""
  path = max((p for p in folder.glob(pattern) if p.is_file()),
             key=lambda p: p.stat().st_size)
  if how == 'gone':
    path.unlink()
  else:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize('how', [
    'cut', pytest.param('gone', marks=pytest.mark.slow)])
@pytest.mark.parametrize('pattern', [
    'state/ocdbt.process_0/d/*', 'state/manifest.ocdbt', 'state/_METADATA',
    'state/array_metadatas/*', 'data/metadata'])
# Orbax leaves coroutines behind, unread, when one of a step's arrays fails.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning',
                            'ignore:coroutine:RuntimeWarning')
def test_damage_falls_back_by_one_step(written, tmp_path, caplog, pattern, how):
  folder = shutil.copytree(written, tmp_path / 'run')
  damage(folder / '2', pattern, how)
  manager = open_manager(folder)
  step, state, data = checkpoint.restore(manager, abstract(make_state(0)))
  assert (step, data) == (1, {'seen': 1})
  assert_same(state, make_state(1))
  assert 'step 2' in caplog.text and 'does not restore' in caplog.text
  # The run reaches step 2 again and must be able to save it.
  checkpoint.save(manager, 2, make_state(2), {'seen': 2})
  step, state, _ = checkpoint.restore(manager, abstract(make_state(0)))
  assert step == 2 and (folder / '2.damaged').exists()
  assert_same(state, make_state(2))
  manager.close()
  gc.collect()  # those coroutines, while their complaints are filtered


def test_damaged_metrics_cost_only_the_ranking(written, tmp_path, caplog):
  folder = shutil.copytree(written, tmp_path / 'run')
  damage(folder / '2', 'metrics/metrics', 'cut')
  manager = open_manager(folder)
  assert checkpoint.restore(manager, abstract(make_state(0)))[0] == 2
  assert checkpoint.best_step(folder, METRIC) == 1
  assert 'metrics/metrics' in caplog.text
  for step in (3, 4):
    checkpoint.save(manager, step, make_state(step), {}, {METRIC: -5})
  checkpoint.wait(manager)
  assert checkpoint.steps(folder) == [1, 3, 4]
  manager.close()


def test_errors_say_what_there_is(written, tmp_path):
  folder = shutil.copytree(written, tmp_path / 'run')
  manager = open_manager(folder)
  with pytest.raises(ValueError, match=r'no step 7; it has \[1, 2\]'):
    checkpoint.restore(manager, abstract(make_state(0)), step=7)
  # A wrong config fits no step: nothing is set aside.
  state = make_state(0)
  other = state.replace(trained={'decoder': {}})
  with pytest.raises(ValueError, match=r'(?s)\[1, 2\].*step 2.*step 1'):
    checkpoint.restore(manager, abstract(other))
  damage(folder / '2', 'data/metadata', 'cut')
  with pytest.raises(ValueError, match='(?s)JSON.*step 2|step 2.*JSON'):
    checkpoint.restore(manager, abstract(state), step=2)
  assert checkpoint.steps(folder) == [1, 2]
  with pytest.raises(ValueError, match=r'no step 7; it has \[1, 2\]'):
    checkpoint.restore_params(folder, 7)
  with pytest.raises(ValueError, match="did you mean 'trained'"):
    checkpoint.restore_params(folder, subtree='traind')
  with pytest.raises(ValueError, match="mean 'trained/decoder/attention/q'"):
    checkpoint.open_array(folder, 1, 'trained/decoder/attention/k')
  manager.close()


def write_on_eight(folder):
  assert jax.device_count() == 8
  manager = open_manager(folder)
  state = sharded(make_state(3), (8, 1))
  checkpoint.save(manager, 3, state, {'seen': 3})
  want = abstract(sharded(make_state(0), (2, 4)))
  _, got, _ = checkpoint.restore(manager, want)
  q = got.trained['decoder']['attention']['q']
  assert q.sharding == want.trained['decoder']['attention']['q'].sharding
  assert q.addressable_shards[0].data.shape == (2, 8, 6)
  assert_same(got, make_state(3))
  manager.close()
  # The digest is of values, so it is the same for each layout.
  assert checkpoint.save_frozen(folder, state.trained) == (
      checkpoint.save_frozen(folder, make_state(3).trained))


def read_on_one(folder):
  assert jax.device_count() == 1
  want = make_state(3)
  assert_same(checkpoint.restore_params(folder), want.trained)
  moments = checkpoint.restore_params(folder, 3, subtree='opt_state')
  assert_same(moments['0']['mu'], want.opt_state[0].mu)
  q = checkpoint.open_array(folder, 3, 'trained/decoder/attention/q')
  np.testing.assert_array_equal(
      q[1].read().result(), want.trained['decoder']['attention']['q'][1])
  manager = open_manager(folder)
  _, got, data = checkpoint.restore(manager, abstract(make_state(0)))
  assert_same(got, want)
  assert data == {'seen': 3}
  manager.close()


def test_eight_devices_write_and_one_reads(tmp_path):
  folder = str(tmp_path)
  for call, devices in ((f't.write_on_eight({folder!r})', 8),
                        (f't.read_on_one({folder!r})', 1)):
    finish(start(call, devices))


def one_of_two(folder, index, port):
  jax.distributed.initialize(f'localhost:{port}', 2, index)
  sharding = jax.NamedSharding(jax.make_mesh((2,), ('a',)), jax.P('a'))
  def state(step):
    values = np.random.default_rng(step).random((64, 64), np.float32)
    return {'trained': jax.make_array_from_callback(
        values.shape, sharding, lambda place: values[place])}
  manager = open_manager(folder)
  for step in (1, 2):
    checkpoint.save(manager, step, state(step), {'seen': step})
  checkpoint.wait(manager)
  multihost_utils.sync_global_devices('written')
  if index == 0:
    damage(pathlib.Path(folder) / '2', 'state/ocdbt.process_1/d/*', 'cut')
  multihost_utils.sync_global_devices('damaged')
  step, got, data = checkpoint.restore(manager, abstract(state(0)))
  assert (step, data) == (1, {'seen': 1})
  assert_same([got['trained'].addressable_data(0)],
              [state(1)['trained'].addressable_data(0)])
  digest = checkpoint.save_frozen(folder, state(1))
  checkpoint.restore_frozen(folder, abstract(state(0)), digest)
  manager.close()


def test_processes_agree_when_one_of_them_meets_damage(tmp_path):
  with socket.create_server(('localhost', 0)) as free:
    port = free.getsockname()[1]
  processes = [start(f't.one_of_two({str(tmp_path)!r}, {i}, {port})', 1)
               for i in range(2)]
  for process in processes:
    finish(process)


def test_params_are_read_without_the_optimiser(written, monkeypatch):
  names = set()
  original = checkpoint._open
  monkeypatch.setattr(checkpoint, '_open', lambda state, name, driver: (
      names.add(name), original(state, name, driver))[1])
  assert_same(checkpoint.restore_params(written, 2), make_state(2).trained)
  assert names == {'trained.decoder.attention.q', 'trained.decoder.norm'}


def test_a_policy_is_what_was_trained_and_what_was_frozen(tmp_path):
  trained, frozen = make_state(1).trained, {'decoder': {
      'attention': {'k': jnp.ones(3)}}, 'vision': {'norm': jnp.zeros(2)}}
  manager = open_manager(tmp_path)
  digest = checkpoint.save_frozen(tmp_path, frozen)
  checkpoint.save(manager, 1, {'trained': trained}, {'frozen': digest})
  checkpoint.save(manager, 2, {'trained': trained}, {'frozen': ''})
  checkpoint.wait(manager)
  assert_same(checkpoint.restore_policy(tmp_path, 2), trained)
  decoder = trained['decoder']
  assert_same(checkpoint.restore_policy(tmp_path, 1), {
      'decoder': {'attention': {'q': decoder['attention']['q'],
                                'k': jnp.ones(3)}, 'norm': decoder['norm']},
      'vision': {'norm': jnp.zeros(2)}})
  manager.close()


def save_and_die(folder):
  write(folder, (1,))
  manager = open_manager(folder)
  # Random floats do not compress, so the write outlasts the return of save.
  big = np.random.default_rng(0).random((64, 1024, 256), np.float32)
  state = make_state(2)
  checkpoint.save(manager, 2, state.replace(
      trained={**state.trained, 'big': jnp.asarray(big)}), {'seen': 2})
  os.kill(os.getpid(), signal.SIGKILL)


def test_kill_within_an_asynchronous_save_leaves_the_step_before(tmp_path):
  finish(start(f't.save_and_die({str(tmp_path)!r})', 1), -signal.SIGKILL)
  assert [p for p in tmp_path.iterdir() if 'tmp' in p.name], 'was not within'
  assert checkpoint.steps(tmp_path) == [1]
  manager = open_manager(tmp_path)
  step, state, data = checkpoint.restore(manager, abstract(make_state(0)))
  assert (step, data) == (1, {'seen': 1})
  assert_same(state, make_state(1))
  checkpoint.save(manager, 3, make_state(3), {'seen': 3})
  manager.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['1', '3']


def test_frozen_weights_are_stored_once_and_verified(tmp_path):
  frozen = make_state(1).trained
  digest = checkpoint.save_frozen(tmp_path, frozen)
  file = max((tmp_path / 'frozen').rglob('d/*'), key=lambda p: p.stat().st_size)
  before = file.stat().st_mtime_ns
  assert checkpoint.save_frozen(tmp_path, frozen) == digest
  assert file.stat().st_mtime_ns == before
  assert_same(checkpoint.restore_frozen(tmp_path, abstract(frozen), digest),
              frozen)
  with pytest.raises(ValueError, match='without a single array'):
    checkpoint.save_frozen(tmp_path, {})
  norm = frozen['decoder']['norm']
  for other in ({'decoder': {**frozen['decoder'], 'norm': -norm}},
                {'decoder': {**frozen['decoder'], 'norm': norm[None]}},
                {'coder': frozen['decoder']}):
    assert checkpoint.save_frozen(tmp_path / 'other', other) != digest
  with pytest.raises(ValueError, match=f"no 'abc'.*{digest}"):
    checkpoint.restore_frozen(tmp_path, abstract(frozen), 'abc')
  # Files that Orbax reads well and that hold other weights.
  changed = jax.tree.map(lambda x: x + 1, frozen)
  other = checkpoint.save_frozen(tmp_path, changed)
  shutil.rmtree(tmp_path / 'frozen' / digest)
  (tmp_path / 'frozen' / other).rename(tmp_path / 'frozen' / digest)
  with pytest.raises(ValueError, match=f'digest {other}'):
    checkpoint.restore_frozen(tmp_path, abstract(frozen), digest)


@pytest.mark.parametrize('error, says', [
    (ValueError('UNKNOWN: write [OS error 28: No space left on device]'),
     'No space left on device'),
    (OSError(30, 'Read-only file system'), 'Read-only file system'),
    (ValueError('UNAVAILABLE: bucket'), 'ValueError: UNAVAILABLE: bucket')])
def test_a_save_that_fails_says_what_is_left(written, monkeypatch, error, says):
  """Whatever its type was: none of them is the config's fault."""
  manager = open_manager(written)
  def fail(*arguments, **options):
    raise error
  monkeypatch.setattr(manager, 'save', fail)
  with pytest.raises(OSError) as found:
    checkpoint.save(manager, 3, make_state(3), {})
  assert f'({says})' in str(found.value)
  assert 'Whole are the steps [1, 2]' in str(found.value)
  manager.close()


@pytest.mark.parametrize('folder, place', [
    ('/r/checkpoints', '/r/checkpoints/frozen'),
    # There Orbax removes from its own folder what has no mark of success.
    ('gs://b/r/checkpoints', 'gs://b/r/frozen')])
def test_where_frozen_weights_lie(folder, place):
  assert str(checkpoint._frozen(folder)) == place
