r"""Runs a study at many settings and seeds, and says which are better.

  python launch/sweep.py --config=experiments/x.py --workdir=runs/s --seeds=3 \
    --grid 'reward.format.weight=0,0.5,1' --grid 'rl.clip_high=0.2,0.28'
  ... --random 'rl.optim.learning_rate=log:1e-5,1e-3' --points=20
  ... --list                      points of the study's own `sweep()`
  ... --random ... --trials=12    Optuna chooses; poor trials are ended early

Each point and seed is a `python -m medrl.main` of its own; what stands behind a
lone -- is handed to each. The same command goes on where it was: finished runs
are skipped, killed ones resume, failed ones are tried once more; with more
values or seeds the sweep is extended. `--shard=i/n` is one host's share.
Workers without one share all: on a node with several GPUs start one for each,
as `CUDA_VISIBLE_DEVICES=0 python launch/sweep.py ...`. Ends with the table
(sweep_report).

Exit status: 0 all finished; 1 something failed or is not there yet; 128 + the
signal that stopped it. This process starts no accelerator.
"""

import argparse
from collections.abc import Callable, Sequence
import functools
import logging
import pathlib
import shlex
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
from launch import sweep_points
from launch import sweep_read
from launch import sweep_report
from launch import sweep_run
from launch import sweep_search
from launch import sweep_values
from medrl import metrics

PROGRAM = (sys.executable, '-m', 'medrl.main')


def parser() -> argparse.ArgumentParser:
  """The flags."""
  out = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  sweep_report.add_flags(out)
  add = out.add_argument
  add('--config', default='', help='the study, with its switch')
  add('--grid', action='append', default=[], metavar='KEY=A,B',
      help='all of these values, with all others')
  add('--random', action='append', default=[], metavar='KEY=A,B',
      help='one of these, or of log:A,B or uniform:A,B')
  add('--points', default=10, type=int, help='how many at random')
  add('--sweep_seed', default=0, type=int, help='of draws and of the search')
  add('--list', action='store_true', help='the points of the study\'s sweep()')
  add('--set', action='append', default=[], metavar='KEY=VALUE', dest='fixed',
      help='the same for all points')
  add('--seeds', default=1, type=int, help='runs of each point: seeds 0, 1, ..')
  add('--trials', default=0, type=int,
      help='search with Optuna until so many have ended')
  add('--pruner', default='median', choices=sweep_search.PRUNERS)
  add('--shard', default='0/1', metavar='I/N', help='this host\'s share')
  add('--parallel', default=1, type=int, help='runs at once on this host')
  add('--dry_run', action='store_true', help='list the runs\' commands')
  add('--report', action='store_true', help='only make the table again')
  return out


def points(args: argparse.Namespace, study: sweep_values.Study
           ) -> list[sweep_points.Point]:
  """The points that the flags ask for."""
  sources = [sweep_points.grid(study, args.grid)]
  if args.random:
    sources.append(sweep_points.draws(study, args.random, args.points,
                                      args.sweep_seed))
  if args.list:
    sources.append(sweep_points.listed(study))
  return sweep_points.named(sweep_points.combine(*sources))


def plan_of(args: argparse.Namespace, study: sweep_values.Study, found,
            space: dict[str, Any]) -> dict[str, Any]:
  """What points.json says of the sweep, as plain JSON."""
  search = {}
  if args.trials:
    # Trials that were judged by something else would not be comparable.
    search = {'space': space, 'seed': args.sweep_seed, 'pruner': args.pruner,
              'metric': _metric(args, study), 'minimise': args.minimise}
  return sweep_points.plain({
      'config': study.path, 'fixed': study.fixed,
      'metric': _metric(args, study), 'search': search,
      'seeds': list(range(args.seeds)),
      'points': [{'name': point.name, 'overrides': dict(point.overrides)}
                 for point in found]})


def check(args: argparse.Namespace, extra: Sequence[str]) -> None:
  """Refuses flags that do not fit together, before anything is read."""
  if not args.config:
    raise ValueError('--config is missing; name the study, as '
                     '--config=experiments/phantom.py')
  for flag, number in (('seeds', args.seeds), ('points', args.points),
                       ('parallel', args.parallel)):
    if number < 1:
      raise ValueError(f'--{flag}={number} must be at least 1')
  if args.trials and (args.list or args.seeds > 1 or args.shard != '0/1'):
    raise ValueError('--trials has one seed, no --list and no --shard: start '
                     'as many workers as you like by the same command, and '
                     'run the best points over seeds afterwards')
  if args.trials and not args.grid + args.random:
    raise ValueError('--trials needs what to search, as --random '
                     '\'rl.optim.learning_rate=log:1e-5,1e-3\'')
  if not args.rope >= 0:
    raise ValueError(f'--rope={args.rope} is half a width; it cannot be '
                     f'negative')
  if '/' in args.metric:   # else it is one of result.json
    metrics.check([args.metric])
  for flag in extra:
    if flag.startswith(('--config', '--workdir')):
      raise ValueError(f'{flag} behind --; the sweep sets these itself, use '
                       f'--set KEY=VALUE')


def work(args: argparse.Namespace, study: sweep_values.Study, command,
         asked: Callable[[], int], starter) -> bool:
  """Runs this worker's share; whether nothing of it is left or failed."""
  workdir = pathlib.Path(args.workdir)
  if args.trials:
    space = sweep_values.spaces(study, args.grid + args.random)
    plan = plan_of(args, study, (), space)
    search = sweep_search.Plan(
        study, workdir, space, args.trials, args.sweep_seed, args.pruner,
        plan['metric'], not args.minimise, command)
    sweep_search.load()   # says that it is missing before a folder is made
    _record(workdir, plan)
    return sweep_search.search(search, args.parallel, asked, starter)
  found = points(args, study)
  # Said now, and not when all has run.
  sweep_report.choose(args.baseline, [point.name for point in found])
  plan = plan_of(args, study, found, {})
  mine = sweep_run.shard(jobs(args, found, command), args.shard)
  _record(workdir, plan)
  ended = sweep_run.run_all(mine, args.parallel, asked, starter)
  return set(ended.values()) <= {'finished', 'pruned'}


def jobs(args: argparse.Namespace, found: Sequence[sweep_points.Point], command
         ) -> list[sweep_run.Job]:
  """Every point with every seed."""
  out = []
  for point in found:
    for seed in range(args.seeds):
      folder = sweep_points.run_folder(args.workdir, point.name, seed)
      out.append(sweep_run.Job(folder, command(
          folder, {**point.overrides, 'seed': seed})))
  return out


def dry_run(args: argparse.Namespace, study: sweep_values.Study, command
            ) -> None:
  """Prints each run's status and command; of a search its space."""
  if args.trials:
    for key, values in sweep_values.spaces(
        study, args.grid + args.random).items():
      print(f'{key}: {values}')
    return
  for job in sweep_run.shard(jobs(args, points(args, study), command),
                             args.shard):
    print(f'# {sweep_read.status(job.folder)}\n{shlex.join(job.command)}')


def run(args: argparse.Namespace, extra: Sequence[str], program: Sequence[str],
        starter) -> int:
  """The command; returns its exit status."""
  if args.report:
    sweep_report.report(args)
    return 0
  check(args, extra)
  study = sweep_values.load(args.config, args.fixed)
  make = functools.partial(sweep_points.command, program, study, extra)
  if args.dry_run:
    dry_run(args, study, make)
    return 0
  with sweep_run.stop_requests() as asked:
    whole = work(args, study, make, asked, starter)
    sweep_report.report(args)
    stopped = asked()
  return 128 + stopped if stopped else int(not whole)


def _metric(args: argparse.Namespace, study: sweep_values.Study) -> str:
  return args.metric or study.default['checkpoint.metric']


def _record(workdir: pathlib.Path, plan: dict[str, Any]) -> None:
  with sweep_run.locked(workdir / 'points.lock'):
    sweep_read.record_plan(workdir, plan)


def main(argv: Sequence[str] | None = None, program: Sequence[str] = PROGRAM,
         starter=sweep_run.start) -> int:
  """Runs the command line.

  Args:
    argv: arguments, by default the process's own.
    program: what each run's flags are given to.
    starter: (job, lock) -> its process.
  """
  logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')
  arguments = list(sys.argv[1:] if argv is None else argv)
  cut = arguments.index('--') if '--' in arguments else len(arguments)
  args, extra = parser().parse_args(arguments[:cut]), arguments[cut + 1:]
  try:
    return run(args, extra, program, starter)
  except (ValueError, OSError) as error:
    sys.exit(f'{type(error).__name__}: {error}')


if __name__ == '__main__':
  sys.exit(main())
