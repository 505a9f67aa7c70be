"""Times speculative decoding: tokens guessed from what stood there before.

  python launch/bench_draft.py [--start=runs/chest] [--draft=4] [--ngram=3]

Reports on phantoms, by a tiny policy that is taught to write them first (some
two minutes on two cores), or the answers of the policy of a run's folder to
its held-out records. The same batch is sampled with drafts and without, greedy
and at temperature 1, with few decode slots and with many: checking a draft
costs little where few slots leave the machine waiting for memory, and its whole
price where it multiplies all the time. All tokens must be identical. Timings
say little on a busy machine; both ways take turns.
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile
import time

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
from experiments import base
from medrl import build
from medrl import feed
from medrl import params as params_lib
from medrl.data import batching
from medrl.data import pipeline
from medrl.evals import inspect
from medrl.evals import run as evals
from medrl.trainers import sft

TURNS = 3
FEW = 4   # decode slots of a part of the mesh


def reports(steps: int, **changed):
  """The config under which a policy learns to write reports.

  Args:
    steps: supervised ones.
    **changed: by dotted key, dots as `__`.
  """
  c = base.get_config()
  c.data.options = dict(seed=0, count=2048, tasks=('report',), permute=False)
  c.data.buckets = ((64, 64),)
  c.processor.vocab = 320   # a few words and the bytes
  c.sft.update(dict(steps=steps, prompts=16, length=96))
  c.rollout.length = 96
  c.rollout.update(dict(prompts=16, group=4))
  c.eval.update(dict(every=10 ** 6, sampled=False, prompts=16,
                     options=dict(count=64)))
  c.checkpoint.every = 10 ** 6
  c.log.update(dict(tensorboard=False, progress=False))
  c.update_from_flattened_dict(
      {key.replace('__', '.'): value for key, value in changed.items()})
  return c


def taught(config, folder: pathlib.Path) -> pathlib.Path:
  """A run's folder with a policy that was trained for `config.sft.steps`."""
  sft.train(config, folder)
  build.write_config(config, folder)
  return folder


def opened(folder: pathlib.Path):
  """(run, sampling weights) of the newest policy of a run's folder."""
  run = build.run(inspect.read_config(folder), folder)
  params, _ = evals.load_policy(run, folder / 'checkpoints')
  weigh, _ = evals.sampling_weights(run, params_lib.abstract(run.specs))
  return run, weigh(params)


def prompts(run: build.Run):
  """The first held-out prompts of a run, on the device, and their number."""
  batches = pipeline.evaluation_batches(
      feed.evaluation(run.config), build.encoder(run),
      build.settings(run, run.config.rollout.prompts))
  batch = next(iter(batches))[0]
  return run.crossing.up((batch, evals.numbers(run, len(batch.ids))))


def samplers(run: build.Run, weights, given, temperature: float, ways):
  """Calls without an argument that sample the prompts, one of each way.

  Args:
    run: the run.
    weights: from `opened`.
    given: from `prompts`.
    temperature: 0 is greedy.
    ways: fields of `sampling.Options` that differ.
  """
  batch, numbers = given
  shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      weights)
  key, step = jax.random.key(run.config.seed), np.int32(0)
  plain = build.sampling_options(run, run.config.rollout.group, temperature)
  def call(way):
    programs = evals.samplers(run, shapes, len(numbers),
                              dataclasses.replace(plain, **way), 'sample')
    program = programs[batching.bucket_of(batch)]
    return lambda: program(weights, batch, key, step, numbers)
  return [call(way) for way in ways]


def same(one, other) -> int:
  """How many tokens two rollouts have, which must be the same.

  Raises:
    ValueError: they are not.
  """
  for name in ('tokens', 'token_mask', 'finished'):
    differ = np.asarray(getattr(one, name) != getattr(other, name))
    if differ.any():
      rows = differ.reshape(*one.finished.shape, -1).any(-1)
      raise ValueError(f'{name} of {rows.sum()} of {rows.size} completions '
                       f'differ with a draft; expected the same')
  return int(one.token_mask.sum())


def compare(run: build.Run, weights, given, temperature: float, how) -> dict:
  """Figures of sampling with drafts against sampling without.

  Args:
    run, weights, given, temperature: as for `samplers`.
    how: dict of `slots`, `draft` and `ngram`.
  """
  calls = samplers(run, weights, given, temperature, [{**how, 'draft': 0}, how])
  plain, drafted = (jax.block_until_ready(call()) for call in calls)
  tokens = same(plain, drafted)
  best = [float('inf')] * 2
  for _ in range(TURNS):
    for i, call in enumerate(calls):
      begun = time.perf_counter()
      jax.block_until_ready(call())
      best[i] = min(best[i], time.perf_counter() - begun)
  iterations = [int(round(float(out.capacity.sum()) / how['slots']))
                for out in (plain, drafted)]
  return {'tokens': tokens, 'iterations': iterations,
          'tokens_per_pass': tokens / int(drafted.passes.sum()),
          'finished': float(drafted.finished.mean()),
          'plain_s': best[0], 'draft_s': best[1],
          'speed_up': best[0] / best[1]}


def main(arguments=None) -> list[dict]:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--start', type=pathlib.Path)
  parser.add_argument('--draft', type=int, default=4)
  parser.add_argument('--ngram', type=int, default=3)
  parser.add_argument('--steps', type=int, default=150)
  args = parser.parse_args(arguments)
  out = []
  with tempfile.TemporaryDirectory() as scratch:
    folder = args.start or taught(reports(args.steps), pathlib.Path(scratch))
    run, weights = opened(folder)
    given = prompts(run)
    rollout = run.config.rollout
    every = rollout.prompts * rollout.group
    for slots in sorted({FEW * build.parts(run.mesh), every}):
      for temperature in (0., 1.):
        how = dict(slots=slots, draft=args.draft, ngram=args.ngram)
        found = compare(run, weights, given, temperature, how)
        out.append(how | {'temperature': temperature} | found)
        print(_line(out[-1]), flush=True)
  return out


def _line(found: dict) -> str:
  before, after = found['iterations']
  return (f'{found["slots"]:4d} slots, temperature {found["temperature"]:g}, '
          f'draft {found["draft"]}: {found["tokens"]} tokens, all the same, '
          f'{found["tokens_per_pass"]:.2f} a pass, {before} -> {after} '
          f'iterations; {found["plain_s"]:.3f} -> {found["draft_s"]:.3f} s, '
          f'{found["speed_up"]:.2f} times as fast')


if __name__ == '__main__':
  main()
