"""Several processes of `jax.distributed` do what one does."""

import json
import signal
import socket
import types

import jax
import numpy as np
import pytest

from experiments import base
from medrl import metrics
from medrl import sharding
from medrl.models import qwen2_5_vl
from medrl.rl import logps
from medrl.trainers import session
from medrl.trainers import objective
from medrl.trainers import scoring
from medrl.trainers import state as state_lib
from medrl.trainers import update
from tests.oracles import toy
from tests.trainers import runs
from tests.trainers import test_update

COUNT = 2


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


def replay(port: int, process: int) -> None:
  """Three updates on recorded tokens over all devices; prints the losses.

  Parameters are split over the processes, and each has its share of the rows.
  """
  if port:
    jax.distributed.initialize(f'localhost:{port}', COUNT, process)
  mesh = sharding.make_mesh(data=1, fsdp=2, tensor=2)
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
def test_ac11_two_processes_replay_the_losses_of_one(tmp_path):
  code = 'from tests.trainers import test_processes as t; t.replay'
  port = free_port()
  one = runs.start(tmp_path / 'one', '-c', f'{code}(0, 0)', devices=4)
  two = [runs.start(tmp_path / f'two{i}', '-c', f'{code}({port}, {i})',
                    devices=2) for i in range(COUNT)]
  want, *found = [json.loads(runs.finish(p).splitlines()[-1])
                  for p in (one, *two)]
  assert len({loss for loss, _ in want}) == 3
  for got in found:
    np.testing.assert_allclose(got, want, rtol=1e-5)


def together(folder, *flags, envs=({}, {})):
  """Starts the two processes of one run, two devices each."""
  port = free_port()
  return [runs.train(folder, *flags, f'--coordinator=localhost:{port}',
                     f'--processes={COUNT}', f'--process={i}', devices=2,
                     **envs[i]) for i in range(COUNT)]


@pytest.mark.slow
def test_a_run_of_two_processes(tmp_path):
  """Equals that of one on as many devices, though one is stopped, both go on,
  and the last step is taken by one process alone."""
  flags = ('--config.data.workers=0', '--config.mesh.fsdp=2',
           '--config.eval.every=4',
           '--config.rl.optim.warmup=0')   # its rate knows the last step
  steps = '--config.rl.steps={}'.format
  alone = runs.train(tmp_path / 'one/run', *flags, steps(5), devices=4)
  runs.finish(alone)
  folder, mark = tmp_path / 'two/run', tmp_path / 'mark'
  hold = {'MEDRL_HOLD': 'reward@9', 'MEDRL_HOLD_MARK': str(mark)}
  pair = together(folder, *flags, steps(4), envs=({}, hold))
  runs.wait_for(pair[1], mark)
  pair[1].send_signal(signal.SIGTERM)   # one alone, and all must agree
  mark.unlink()
  for process in pair:
    runs.finish(process, session.STOPPED)
  outputs = [runs.finish(p) for p in together(folder, *flags, steps(4))]
  assert 'going on from step 3' in outputs[0]
  assert ['accuracy_after_rl' in o for o in outputs] == [True, False]
  last = runs.train(folder, *flags, steps(5), devices=4)
  assert 'going on from step 4' in runs.finish(last)
  want, found = runs.logged(tmp_path / 'one/run'), runs.logged(folder)
  assert [r['step'] for r in found['metrics']] == [0, 1, 2, 3, 4, 5]
  for name in ('sft/metrics', 'metrics'):
    runs.close(found[name], want[name], 1e-5)
