"""Several processes of `jax.distributed` do what one does."""

import json
import signal
import socket
import time
import types

import jax
import numpy as np
import pytest

from experiments import base
from medrl import hosts
from medrl import metrics
from medrl import sharding
from medrl.models import qwen2_5_vl
from medrl.rl import logps
from medrl.trainers import objective
from medrl.trainers import scoring
from medrl.trainers import state as state_lib
from medrl.trainers import update
from tests.oracles import toy
from tests.trainers import runs
from tests.trainers import test_update



def free_port() -> int:
  with socket.socket() as found:
    found.bind(('localhost', 0))
    return found.getsockname()[1]


def updates(mesh):
  """A state split over the mesh, and the jitted update of it by RL."""
  config = base.get_config()
  optim = config.rl.optim
  specs = qwen2_5_vl.specs(test_update.CONFIG)
  tx = state_lib.optimizer(optim, 3, specs)
  laid = state_lib.shardings(mesh, specs, dict(config.sharding), (), tx)
  params = jax.tree.map(
      lambda x, s: jax.make_array_from_callback(x.shape, s, lambda i: x[i]),
      toy.params(0, test_update.CONFIG), laid.trained)
  scorer = scoring.Scorer(qwen2_5_vl, test_update.CONFIG, np.float32, 64,
                         (toy.IMAGE,), logps.token_logps)

  def loss(trained, frozen, part):
    found = scoring.policy_logps(scorer, trained, part.rollout)
    return objective.rl_loss(test_update.WORDS, *found, part)

  def step(state, batch):
    return update.step(state, batch, loss, tx, state_lib.schedule(optim, 3),
                       (1, 1, 2))

  state = state_lib.create(params, 0, (), tx, laid, np.float32)
  whole = sharding.replicated(mesh)
  return state, jax.jit(step, out_shardings=(laid, whole))


def replay(port: int, count: int, process: int) -> None:
  """Three updates on recorded tokens over all devices; prints the losses.

  Parameters are split over the processes, and each has its share of the rows.
  """
  if count > 1:
    hosts.join(f'localhost:{port}', (count, process), 30, 900)
  mesh = sharding.make_mesh(data=1, fsdp=4, tensor=2)
  crossing = sharding.Crossing(mesh)
  share = 8 // jax.process_count()
  mine = slice(share * jax.process_index(), share * (jax.process_index() + 1))
  batch = crossing.up(jax.tree.map(lambda x: x[mine],
                                   test_update.train_batch()))
  losses = []
  with jax.default_matmul_precision('highest'):
    state, step = updates(mesh)
    for _ in range(3):
      state, out = step(state, batch)
      out = crossing.fetch(out)
      losses.append([metrics.value(out['loss/total']),
                     float(out['optim/grad_norm'])])
  print(json.dumps(losses))


def test_a_prompt_has_one_process():
  devices = [types.SimpleNamespace(process_index=i // 2) for i in range(4)]
  with pytest.raises(ValueError, match='tensor=4 spans several processes'):
    sharding.make_mesh(tensor=4, devices=devices)


@pytest.mark.slow
def test_ac3_processes_replay_the_losses_of_one(tmp_path):
  """Two and four, over the same eight devices."""
  code = 'from tests.trainers import test_processes as t; t.replay'
  found = {}
  for count in (1, 2, 4):
    port = free_port()
    started = [runs.start(tmp_path / f'{count}.{i}', '-c',
                          f'{code}({port}, {count}, {i})', devices=8 // count)
               for i in range(count)]
    found[count] = [json.loads(runs.finish(p).splitlines()[-1])
                    for p in started]
  want, = found[1]
  assert len({loss for loss, _ in want}) == 3
  for got in (*found[2], *found[4]):
    print('largest relative difference', np.max(np.abs(
        np.array(got) / np.array(want) - 1)))
    np.testing.assert_allclose(got, want, rtol=1e-5)


# Without warm-up, as its rate knows the last step.
FLAGS = ('--config.data.workers=0', '--config.mesh.fsdp=4',
         '--config.rl.optim.warmup=0', '--config.hosts.meet_s=900',
         '--config.log.rollouts_per_step=4')


def together(folder, count, *flags, envs=()):
  """Starts the processes of one run, which have four devices in all."""
  port = free_port()
  place = (f'--coordinator=localhost:{port}', f'--processes={count}')
  if count == 1:
    return [runs.train(folder, *FLAGS, *flags, devices=4)]
  envs = dict(envs)
  return [runs.train(folder, *FLAGS, *flags, *place, f'--process={i}',
                     devices=4 // count, **envs.get(i, {}))
          for i in range(count)]


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """Folder of the run that one process does, without a break."""
  folder = tmp_path_factory.mktemp('alone') / 'run'
  run, = together(folder, 1)
  runs.finish(run)
  return folder


def check(folder, alone):
  """Each step once and equal but for rounding, and the tokens equal."""
  want, found = runs.logged(alone), runs.logged(folder)
  for name in ('sft/metrics', 'metrics'):
    runs.close(found[name], want[name], 1e-5)
  written = {}
  for row in want['rollouts']:
    written.setdefault((row['step'], row['record']), row)
  # Process 0 logs the prompts that it holds.
  assert {row['step'] for row in found['rollouts']} == set(range(1, 7))
  for row in found['rollouts']:
    other = written[row['step'], row['record']]
    assert ([c['ids'] for c in row['completions']]
            == [c['ids'] for c in other['completions']]), row['step']


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 4])
def test_ac3_processes_sample_the_tokens_of_one(tmp_path, alone, count):
  for process in together(tmp_path / 'run', count):
    runs.finish(process)
  check(tmp_path / 'run', alone)


def hold_of(mark, answer):
  return {'MEDRL_HOLD': f'reward@{answer}', 'MEDRL_HOLD_MARK': str(mark)}


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 4])
def test_ac3_killing_one_ends_all_and_half_as_many_go_on(tmp_path, alone,
                                                         count):
  folder, mark = tmp_path / 'run', tmp_path / 'mark'
  each = 8 // count   # answers of a process in a step
  for victim, answer, resumed in ((count - 1, 2 * each + 1, ''),
                                  (0, 2 * each + 1, 'from step 2')):
    started = together(folder, count, envs={victim: hold_of(mark, answer)})
    runs.wait_for(started[victim], mark)
    runs.kill(started[victim])
    mark.unlink()
    clock = time.monotonic()
    others = [p for i, p in enumerate(started) if i != victim]
    codes = [p.wait(runs.TIMEOUT) for p in others]
    took = time.monotonic() - clock
    print(f'{count} processes: {took:.0f} s after the end of process {victim} '
          f'the others ended with {codes}')
    assert took < 60 and all(codes)
    for process in others:
      text = process.log.read_text()
      assert resumed in text
      # XLA itself ends a process that has lost the coordinator.
      assert ('leader (usually slice 0 task 0)' in text if not victim else
              f'process {victim} (pid {started[victim].pid} on ' in text)
  for half in together(folder, count // 2):
    assert 'going on from step 4' in runs.finish(half)
  check(folder, alone)


@pytest.mark.slow
def test_ac4_sigterm_to_one_of_two_stops_both(tmp_path, alone):
  folder, mark = tmp_path / 'run', tmp_path / 'mark'
  pair = together(folder, 2, envs={1: hold_of(mark, 9)})
  runs.wait_for(pair[1], mark)
  pair[1].send_signal(signal.SIGTERM)   # one alone, and all must agree
  mark.unlink()
  for process in pair:
    text = runs.finish(process, 0)
    assert 'stopped by SIGTERM and saved' in text
  assert (folder / 'checkpoints/3').is_dir()   # which is none of every second
  assert not (folder / 'result.json').exists()
  outputs = [runs.finish(p) for p in together(folder, 2)]
  assert 'going on from step 3' in outputs[0]
  assert ['accuracy_after_rl' in o for o in outputs] == [True, False]
  check(folder, alone)
  # Scored by two and by one.
  scores = []
  for count in (2, 1):
    for process in together(folder, count, '--eval_only'):
      runs.finish(process)
    scores.append(json.loads((folder / 'eval.json').read_text()))
  assert scores[0] == scores[1]
