"""Two small real runs, trained once a test process and scored.

They have learnt nothing: what is tested on them is what is done with a run.
"""

import atexit
import functools
import pathlib
import shutil
import tempfile

from experiments import phantom
from medrl import build
from medrl.evals import run as evals
from medrl.rewards import lift
from medrl.trainers import grpo


@lift.per_completion
def variety(record, text):
  """A reward that an untrained policy gets now and then, so that it moves."""
  del record
  return (sum(text.encode()) % 7) / 7


def config(seed=0):
  """A cold start and RL of two steps each on side and box questions."""
  c = phantom.get_config('runlocal')
  c.seed = seed
  c.data.options.update(count=16, tasks=('side', 'box'))
  c.rewards.variety = dict(fn='tests.evals.small_run.variety', weight=1.0)
  c.eval.options.count = 6
  c.eval.sampled = False
  # Compiled in two thirds of the time.
  c.rollout.fn = 'medrl.rollout.sampler.rollout'
  c.rl.optim.warmup = c.sft.optim.warmup = 0
  c.log.progress = c.log.tensorboard = False
  return c


@functools.cache
def workdirs() -> tuple[pathlib.Path, pathlib.Path]:
  """Runs of two seeds, scored on the test split."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix='medrl_small_run_'))
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return tuple(_trained(seed, folder / f'seed{seed}') for seed in (0, 1))


def _trained(seed, workdir):
  c = config(seed)
  build.write_config(c, workdir)
  grpo.train(c, workdir)
  c.data.split = 'test'
  evals.evaluate(c, workdir)
  return workdir
