"""A study that the tests of sweeps run, and its stand-in for a trainer.

  python tests/launch/sweep_study.py --config=... --workdir=... --config.x=...

takes the place of `python -m medrl.main`: it writes a run's files in moments,
goes on from those that are there, and saves on SIGTERM. Not an experiment.
"""

import json
import os
import pathlib
import signal
import sys
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

# pylint: disable=wrong-import-position
from experiments import base
from launch import sweep_values
from medrl.rewards import lift

METRIC = 'eval/heldout_greedy/accuracy'
FAILS = 0.99    # a weight of the reward for form at which the trainer raises
STEPS = 4       # at each of which the run is evaluated, as before the first


def get_config(arg=''):
  c = base.get_config('runlocal')
  c.data.options.update(dict(count=16, tasks=('side', 'diameter')))
  c.data.buckets = ((64, 64),)
  c.rl.steps = STEPS
  c.checkpoint.metric = METRIC
  c.eval.update(dict(every=1, sampled=False))
  c.log.update(dict(progress=False, tensorboard=False))
  if arg == 'tiny':   # trained for real
    c.processor.vocab = 512
    c.data.buckets = ((96, 64),)
    # An untrained policy gets no answer right, but these differ.
    c.rewards.answer.fn = 'tests.launch.sweep_study.digits'
    c.rewards.format.fn = 'tests.launch.sweep_study.vowels'
    c.rollout.update(dict(prompts=2, group=4, length=6))
    c.rl.optim.update(dict(learning_rate=1e-3, warmup=0))
    c.sft.steps = 0
  return c


def share(text: str, letters: str) -> float:
  return sum(text.count(letter) for letter in letters) / (len(text) + 1)


@lift.per_completion
def digits(record, text):
  del record
  return share(text, '0123456789')


@lift.per_completion
def vowels(record, text):
  del record
  return share(text, 'aeiou')


def sweep():
  """Points that are no grid."""
  yield {'reward.format.weight': 0, 'rl.clip_high': .2}
  yield {'reward.format.weight': .5, 'rl.clip_high': .28}
  yield {'reward.format.weight': 1, 'data.buckets': ((64, 64), (128, 64))}


def accuracy(config, step: int) -> float:
  """What a run is pretended to reach: known, and different for each seed."""
  weight = config['rewards.format.weight']
  return (weight + .1 * (config['rl.clip_high'] or 0.)) * step / STEPS + (
      .01 * config['seed'] * (1 + weight))


def train(config, workdir, hold_s: float = 0., asked=lambda: False) -> int:
  """A trainer of moments, by flat config; returns the exit status."""
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / 'config.json').write_text(json.dumps(config))
  if config['rewards.format.weight'] == FAILS:
    print('first words\n' * 50 + 'ValueError: this weight is refused')
    return 1
  log = workdir / 'metrics.jsonl'
  done = len(log.read_text().splitlines()) if log.exists() else 0
  for step in range(done, STEPS + 1):
    with open(log, 'a', encoding='utf-8') as file:
      file.write(json.dumps({'step': step, METRIC: accuracy(config, step),
                             'time/step': time.monotonic()}) + '\n')
    time.sleep(hold_s)
    if asked():
      return 0
  (workdir / 'result.json').write_text(json.dumps(
      {'accuracy_after_rl': accuracy(config, STEPS), 'workdir': str(workdir)}))
  return 0


def config_of(command) -> tuple[dict, str]:
  """The flat config and the workdir that a run's flags give."""
  flags = dict(a.removeprefix('--').split('=', 1) for a in command
               if a.startswith('--'))
  given = [f'{key.removeprefix("config.")}={text}'
           for key, text in flags.items() if key.startswith('config.')]
  seed = [text for text in given if text.startswith('seed=')]
  study = sweep_values.load(flags['config'], sorted({*given} - {*seed}))
  return ({**study.default, 'seed': int(seed[0].partition('=')[2])},
          flags['workdir'])


def here(job, lock):
  """Starts nothing: the run has ended when this returns."""
  del lock
  code = train(*config_of(job.command))
  return types.SimpleNamespace(poll=lambda: code, send_signal=None)


def main():
  asked = []
  signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
  sys.exit(train(*config_of(sys.argv),
                 float(os.environ.get('SWEEP_HOLD_S', '0')),
                 lambda: bool(asked)))


if __name__ == '__main__':
  main()
