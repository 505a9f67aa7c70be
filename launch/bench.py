"""Times a GRPO step and its parts, beside what this machine can do at most.

  python launch/bench.py --preset=cpu_yardstick [--json] [--repeats=3]

Encode, prefill, decode, score and update as programs of their own, and the
whole step as the trainer runs it: prompts, samples, rewards of no work, the
reference's scores, the update. Utilisation is against ceilings measured in the
same run, and so is the estimate of the step by `roofline` beside it.
`--against=PRESET` also times that preset's step and compares; `--dry_run` makes
no array: it compiles what would run and tells its memory; `--record` keeps the
step's seconds in launch/measured.json. Timings say little on a machine that
does something else.
"""

import argparse
import contextlib
import datetime
import json
import operator
import os
import pathlib
import statistics
import sys
import tempfile
import zlib

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
from launch import bench_ceilings
from launch import bench_counts
from launch import bench_estimate
from launch import bench_parts
from launch import bench_presets
from launch import bench_report
from launch import roofline
from medrl import build
from medrl import costs
from medrl import params as params_lib


def steps(bench, repeats: int):
  """Some whole steps behind one that warms up.

  Returns:
    the trainer, seconds (those of the best step by part, and the median),
    metrics of the last step with `written`, a checksum of each completion of
    the first one, and the seconds of compiles within the counted steps.
  """
  spent = []
  bench, _, _ = bench_parts.step(bench)
  tokens = np.asarray(bench.last[1].rollout.tokens)
  # By completion: prompts may be shared, or not.
  written = [zlib.crc32(one.tobytes())
             for one in tokens.reshape(-1, tokens.shape[-1])]
  with bench_ceilings.compiles() as late:
    for _ in range(repeats):
      bench, times, out = bench_parts.step(bench)
      spent.append(times)
  best = min(spent, key=lambda times: times['whole'])
  median = statistics.median(times['whole'] for times in spent)
  return (bench, {'best': best, 'median_s': median},
          out | {'written': written}, late)


def real_shapes(bench) -> bench_counts.Shapes:
  """What the last step had, without padding."""
  rollout = bench.last[1].rollout
  patches = sum(int((p.window > 0).sum())
                for p in rollout.prompt.media.values())
  prompts, group, _ = rollout.tokens.shape
  slots = bench.session.run.config.rollout.slots or prompts * group
  return bench_counts.Shapes(
      prompts=prompts, group=group,
      prompt_tokens=int(rollout.prompt.mask.sum()), patches=patches,
      completion_tokens=int(rollout.action_mask.sum()),
      iterations=round(float(rollout.capacity.sum()) / slots))


def measure(name: str, repeats: int, workdir: pathlib.Path) -> dict:
  """All figures of a preset; see `bench_report` for what they mean."""
  session = bench_parts.open_session(name, workdir)
  run = session.run
  with build.scoring(run.config, {}) as scorer:
    with bench_ceilings.compiles() as seconds:
      bench = bench_parts.make(session, scorer)
    bench, whole, out, late = steps(bench, repeats)
  peak = bench_ceilings.peak_bytes()
  shapes = real_shapes(bench)
  head = (min(shapes.completion_tokens, 2048), run.model.text.hidden,
          run.model.text.vocab)
  # Before the parts and behind them, as a machine's rate wanders.
  first = bench_ceilings.measure(head, run.dtype, repeats)
  curves = bench_ceilings.curves(run.dtype, repeats)
  facts = bench_estimate.programs(bench, shapes.iterations)
  bench, parts = bench_parts.time_parts(bench, repeats)
  second = bench_ceilings.measure(head, run.dtype, repeats)
  curves = bench_ceilings.better(
      curves, bench_ceilings.curves(run.dtype, repeats))
  ceilings = {n: max(rate, second[n]) for n, rate in first.items()}
  return summary(name, bench, whole, out) | bench_estimate.estimate(
      facts, ceilings, curves, whole['best']) | {
      'padding': bench_report.padding(bench.last[1].rollout,
                                      bench.last[1].source),
      'ceilings': ceilings,
      'parts': bench_report.parts(run, shapes, parts, ceilings),
      'floor': bench_report.floor(run, shapes, whole, ceilings),
      'compiles': {'count': len(seconds), 'seconds': sum(seconds),
                   'in_steps': len(late)},
      'peak_bytes': peak}


def summary(name: str, bench, whole, out) -> dict:
  """What a step was, how long it took and what it gave."""
  run, shapes = bench.session.run, real_shapes(bench)
  tokens, samples = shapes.completion_tokens, shapes.prompts * shapes.group
  best = whole['best']['whole']
  return {
      'preset': name,
      'device': jax.devices()[0].device_kind,
      'load': os.getloadavg()[0],
      'parameters': params_lib.count(run.specs),
      'dtype': str(run.dtype),
      'shapes': {
          'prompts': shapes.prompts, 'group': shapes.group,
          'new_tokens': run.config.rollout.length,
          'vocab': run.model.text.vocab, 'beta': run.config.rl.kl_weight,
          'prompt_tokens': shapes.prompt_tokens / shapes.prompts,
          'patches': shapes.patches / shapes.prompts},
      'whole_step_s': best,
      'whole_step_median_s': whole['median_s'],
      'loop_s': {n: s for n, s in whole['best'].items() if n != 'whole'},
      'sampled_tokens': tokens,
      'written': out['written'],
      'samples_per_s': samples / best,
      'tokens_per_s': (tokens + shapes.prompt_tokens) / best,
      'slot_utilisation': tokens / float(bench.last[1].rollout.capacity.sum()),
      'loss': bench_report.mean(out['loss/total']),
      'logp_gap': bench_report.mean(out['rollout/logp_gap'])}


def dry_run(name: str, workdir: pathlib.Path) -> dict:
  """Compiles a preset's programs for shapes alone, and tells their memory."""
  session = bench_parts.open_session(name, workdir)
  programs = bench_parts.compiled(session, *bench_parts.abstract(session))
  return {'preset': name, 'parameters': params_lib.count(session.run.specs),
          'memory_plan': costs.memory(session.run),
          'programs': {name: bench_report.memory(program)
                       for name, of in programs.items()
                       for program in of.values()}}


def against(result: dict, name: str, repeats: int, workdir: pathlib.Path
            ) -> dict:
  """The step of another preset, compared with a result."""
  session = bench_parts.open_session(name, workdir)
  with build.scoring(session.run.config, {}) as scorer:
    bench = bench_parts.make(session, scorer)
    bench, whole, out, _ = steps(bench, repeats)
  other = summary(name, bench, whole, out)
  return other | {
      'speed_up': result['samples_per_s'] / other['samples_per_s'],
      'same_completions': sum(
          map(operator.eq, result['written'], other['written']))}


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--preset', default='cpu_yardstick')
  parser.add_argument('--json', action='store_true',
                      help='print one line of JSON')
  parser.add_argument('--repeats', default=3, type=int)
  parser.add_argument('--against', default='',
                      help='a preset whose step is timed too')
  parser.add_argument('--dry_run', action='store_true')
  parser.add_argument('--record', action='store_true',
                      help='keep the step in launch/measured.json')
  flags = parser.parse_args(argv)
  bench_presets.find(flags.preset)
  if bench_presets.find(flags.preset)['platform'] == 'gpu':
    # Before jax starts the device: its own share is three quarters.
    os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.95')
  with contextlib.ExitStack() as stack:
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if flags.dry_run:
      result = dry_run(flags.preset, folder / 'run')
    else:
      bench_presets.check(flags.preset, jax.default_backend())
      result = measure(flags.preset, flags.repeats, folder / 'run')
      if flags.against:
        result['against'] = against(result, flags.against, flags.repeats,
                                    folder / 'against')
      if flags.record:
        roofline.record(bench_estimate.run(
            result, f'python launch/bench.py --preset={flags.preset} '
            f'--repeats={flags.repeats}', f'{datetime.date.today()}'))
  print(json.dumps(result) if flags.json else bench_report.text(result))


if __name__ == '__main__':
  main()
