"""A checkpoint outlives the mesh that wrote it: AC10 of the first issue."""

import jax
import numpy as np
import pytest

from medrl import build
from medrl import checkpoint
from medrl.evals import run as evals
from tests.trainers import runs
from tests.trainers import study

# A learning rate that does not depend on the number of steps.
FLAGS = ('--config.sft.steps=0', '--config.rl.minibatches=1',
         '--config.rl.kl_weight=0.0', '--config.rl.optim.warmup=0',
         '--config.rl.optim.schedule=constant', '--config.data.workers=0',
         '--config.checkpoint.every=1')
# (devices, mesh) of a run that goes a step on each.
MESHES = [(8, dict(data=2, fsdp=2, tensor=2)),
          (4, dict(data=1, fsdp=4, tensor=1)),
          (1, dict(data=1, fsdp=1, tensor=1))]


def start(folder, devices, mesh, steps):
  sizes = [f'--config.mesh.{axis}={size}' for axis, size in mesh.items()]
  return runs.train(folder, *FLAGS, *sizes, f'--config.rl.steps={steps}',
                    devices=devices)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """A run on one device, and one of as many steps on three meshes in turn."""
  top = tmp_path_factory.mktemp('meshes')
  still, moved = top / 'still/run', top / 'moved/run'
  alone = start(still, *MESHES[-1], len(MESHES))
  try:
    for steps, mesh in enumerate(MESHES, 1):
      output = runs.finish(start(moved, *mesh, steps))
      assert steps == 1 or f'going on from step {steps - 1}' in output
  finally:
    runs.finish(alone)
  return still, moved


@pytest.mark.slow
def test_a_run_goes_on_on_any_mesh(folders):
  want, found = (runs.logged(folder)['metrics'] for folder in folders)
  assert [r['step'] for r in found] == [0, 1, 2, 3]
  # Each of three runs had a last step, which alone is evaluated.
  found = [{k: v for k, v in got.items() if k in row}
           for got, row in zip(found, want)]
  runs.close(found, want, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('step', [1, 2, 3])
def test_its_policy_alone_loads_on_one_device(folders, step):
  folder = folders[1]
  run = build.run(study.get_config(), folder)
  assert run.mesh.size == 1
  params, found = evals.load_policy(run, folder / 'checkpoints', step)
  assert found == step
  stored = checkpoint.restore_policy(folder / 'checkpoints', step)
  jax.tree.map(np.testing.assert_array_equal, params, stored)
  norm = np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64))
                     for leaf in jax.tree.leaves(stored)))
  logged = runs.logged(folder)['metrics'][step]['optim/param_norm']
  assert norm == pytest.approx(logged, rel=1e-6)
