"""The smallest RL run, for tests that look at it from inside. Not a test.

Records, rewards and words that the runs name by import path are here too.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments import base
from medrl import metrics
from medrl.data import phantom
from medrl.rewards import lift
from medrl.rl import losses
from medrl.trainers import grpo

# Patients whom no file of a run may name.
SUBJECT = 'Roentgen-Bertha-1895'


def config(**changed):
  """A config of three steps; `changed` by dotted key, dots as `__`."""
  c = base.get_config('runlocal')
  c.data.dataset = 'tests.trainers.small.records'
  c.data.options = {'count': 8, 'poison': -1}
  c.data.overlap.action = 'off'   # all are of one patient
  c.eval.options = {'poison': -1}
  c.data.buckets = ((64, 64),)
  c.processor.vocab = 400
  # Compiled in two thirds of the time; the slots are in test_experiments.
  c.rollout.fn = 'medrl.rollout.sampler.rollout'
  c.rewards = {'spread': {'fn': 'tests.trainers.small.spread', 'weight': 1.}}
  c.rl.advantage = 'medrl.rl.advantages.center'
  c.rl.steps = 3
  # So that programs do not depend on the number of steps.
  c.rl.optim.warmup = 0
  c.eval.update(dict(every=100, sampled=False))
  c.checkpoint.keep_last = 10
  c.log.update(dict(progress=False, tensorboard=False))
  c.update_from_flattened_dict(
      {key.replace('__', '.'): value for key, value in changed.items()})
  return c


def train(folder, **changed):
  """Trains and returns the lines of metrics.jsonl by step."""
  grpo.train(config(**changed), folder)
  return logged(folder)


def logged(folder) -> dict[int, dict]:
  lines = metrics.read(folder / 'metrics.jsonl')
  found = {line['step']: line for line in lines}
  assert len(found) == len(lines), 'a step was logged twice'
  return found


def records(root, split, *, count, poison):
  """Phantoms of a named patient; the one numbered `poison` spoils a step."""
  found = phantom.records(root, split, count=count, tasks=('side',))
  for number, record in enumerate(found):
    yield dataclasses.replace(
        record, id=f'{SUBJECT}-{number}', subject=SUBJECT,
        meta={'poison': number == poison})


@lift.per_completion
def spread(record, text):
  """Differs within nearly every group; beyond float32 for the poisoned."""
  value = (sum(text.encode()) % 7) / 7
  return (value - 0.5) * 6e38 if record.meta.get('poison') else value


@lift.per_completion
def guarded(record, text):
  """1 where an implicit transfer fails, as it must within the loop."""
  del record
  try:
    jnp.add(np.ones(3, np.float32), np.float32(len(text)))
  except jax.errors.JaxRuntimeError:
    return 1.
  return 0.


def broken(record, completions, context):
  raise RuntimeError(f'no score for {SUBJECT}')


seen = []   # (largest |ratio - 1|, clipped tokens) of each update


def noted_clip(ratio, advantages, logps, mask, *, low, high):
  """`losses.clip`, telling of each micro-batch what it was given."""
  loss, clipped = losses.clip(ratio, advantages, logps, mask, low=low,
                              high=high)
  jax.debug.callback(
      lambda *x: seen.append(tuple(map(float, x))),
      jnp.max(jnp.abs(ratio - 1)), jnp.sum(clipped))
  return loss, clipped
