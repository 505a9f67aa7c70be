"""A sweep's folder -> one table and one page, at any time, from it alone.

  python launch/sweep_report.py --workdir=runs/s [--baseline=...] [--rope=0.01]

Writes table.csv, table.json and table.html into the folder. They depend on what
the runs wrote and on nothing else, no time and no folder's name, so the tables
of two sweeps can be compared byte for byte. Not here: the page (sweep_page),
what the numbers mean (sweep_stats).
"""

import argparse
from collections.abc import Mapping, Sequence
import csv
import io
import json
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
from launch import sweep_page
from launch import sweep_points
from launch import sweep_read
from launch import sweep_stats

COLUMNS = ('status', 'seeds', 'mean', 'low', 'high', 'difference',
           'difference_low', 'difference_high', 'pairs', 'verdict')


def table(workdir, *, metric: str = '', baseline: str = '', rope: float = 0.,
          larger: bool = True) -> dict[str, Any]:
  """Everything the table says, as plain JSON; numbers that there are not are
  None.

  Args:
    workdir: of the sweep.
    metric: whose last value a run is judged by; '' for the study's
      `checkpoint.metric`.
    baseline: a point's name, or a part of it that only one has; '' for the
      first point.
    rope: half the width of the region of practical equivalence.
    larger: whether larger values are better.

  Returns:
    `config`, `metric`, `rope`, `larger`, `baseline`, `keys` (those of the
    configs that differ) and `rows`: of each point its name, `values` by key,
    `runs` by seed and COLUMNS.

  Raises:
    ValueError: no sweep, no such baseline, or a negative rope.
  """
  if not rope >= 0:
    raise ValueError(f'--rope={rope} is half a width; it cannot be negative')
  plan = sweep_read.read_plan(workdir)
  metric = metric or plan['metric']
  points, seeds = plan['points'], plan['seeds']
  if not points:
    raise ValueError(f'{workdir} has no points yet')
  found = {point['name']: {
      seed: _run(sweep_points.run_folder(workdir, point['name'], seed), metric)
      for seed in seeds} for point in points}
  first = choose(baseline, [point['name'] for point in points])
  keys, values = _differences(plan, found)
  rows = []
  for name, runs in found.items():
    gain = sweep_stats.difference(_values(runs), _values(found[first]))
    told = sweep_stats.verdict(gain, rope, larger) if gain.n else ''
    if name == first:
      gain, told = sweep_stats.estimate([]), 'baseline'
    rows.append({'point': name, 'values': values[name], **_summary(runs),
                 **_numbers('difference', gain), 'pairs': gain.n,
                 'verdict': told})
  return {'config': plan['config'], 'metric': metric, 'rope': rope,
          'larger': larger, 'baseline': first, 'keys': keys, 'rows': rows}


def choose(asked: str, names: Sequence[str]) -> str:
  """The point that a --baseline means, by default the first.

  Raises:
    ValueError: none or several fit.
  """
  if not asked:
    return names[0]
  matching = [name for name in names if asked in name]
  if asked in names:
    matching = [asked]
  if len(matching) != 1:
    raise ValueError(f'--baseline={asked!r} fits {len(matching)} points; give '
                     f'one of: {", ".join(matching or names)}')
  return matching[0]


def csv_text(found: Mapping[str, Any]) -> str:
  """The table for programs: one line a point, numbers in full."""
  out = io.StringIO()
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(['point', *found['keys'], *COLUMNS])
  for row in found['rows']:
    values = (sweep_page.written(row['values'][key]) for key in found['keys'])
    cells = [row['point'], *values, *(row[column] for column in COLUMNS)]
    writer.writerow(['' if cell is None else
                     repr(cell) if isinstance(cell, float) else cell
                     for cell in cells])
  return out.getvalue()


def text(found: Mapping[str, Any]) -> str:
  """The table for people, in Markdown."""
  short = sweep_points.shortened(found['keys'])
  header = [*short.values(), 'status', 'seeds', 'mean', '95 % interval',
            'minus baseline', '95 % interval', 'verdict']
  rows = [[
      *(sweep_page.written(row['values'][key]) for key in short),
      row['status'], str(row['seeds']), sweep_page.number(row['mean']),
      sweep_page.interval(row['low'], row['high']),
      sweep_page.number(row['difference'], signed=True),
      sweep_page.interval(row['difference_low'], row['difference_high']),
      row['verdict']] for row in found['rows']]
  return markdown(header, rows)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table whose columns line up."""
  cells = [[cell.replace('|', '\\|') for cell in line]
           for line in (header, *rows)]
  widths = [max(map(len, column)) for column in zip(*cells)]
  lines = ['| ' + ' | '.join(map(str.ljust, line, widths)) + ' |'
           for line in cells]
  return '\n'.join([lines[0], '|' + '|'.join('-' * (w + 2) for w in widths)
                    + '|', *lines[1:]])


def write(workdir, found: Mapping[str, Any]) -> None:
  """table.csv, table.json and table.html, each by rename."""
  for name, content in (
      ('table.csv', csv_text(found)),
      ('table.json', json.dumps(found, indent=1) + '\n'),
      ('table.html', sweep_page.page(found))):
    sweep_read.write_text(pathlib.Path(workdir) / name, content)


def add_flags(parser: argparse.ArgumentParser) -> None:
  """The flags of a table, which sweep.py has too."""
  parser.add_argument('--workdir', required=True, help='folder of the sweep')
  parser.add_argument('--metric', default='', help='whose last value counts; '
                      'by default the study\'s checkpoint.metric')
  parser.add_argument('--baseline', default='', help='name of a point, or a '
                      'part of it; by default the first point')
  parser.add_argument('--rope', default=.01, type=float, help='a difference '
                      'from the baseline that does not matter, at most')
  parser.add_argument('--minimise', action='store_true',
                      help='smaller values of the metric are better')


def report(args: argparse.Namespace) -> dict[str, Any]:
  """Writes the table that the flags ask for, prints it, and returns it."""
  found = table(args.workdir, metric=args.metric, baseline=args.baseline,
                rope=args.rope, larger=not args.minimise)
  write(args.workdir, found)
  print(f'{found["metric"]}, against {found["baseline"]}, of no matter within '
        f'{found["rope"]:g}; {pathlib.Path(args.workdir) / "table.html"}\n')
  print(text(found))
  return found


def _run(folder: pathlib.Path, metric: str) -> dict[str, Any]:
  """Status, step, config and value, the last of a finished run alone."""
  found = sweep_read.read(folder)
  value = None
  if found.status == 'finished':
    value = sweep_read.value(folder, metric)
  return {**found._asdict(), 'value': value}


def _summary(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
  """What a point's row says of its own runs."""
  mean = sweep_stats.estimate(list(_values(runs).values()))
  return {'runs': {str(seed): {part: run[part] for part in
                               ('status', 'step', 'value')}
                   for seed, run in runs.items()},
          'status': _status([run['status'] for run in runs.values()]),
          'seeds': mean.n, **_numbers('', mean)}


def _values(runs: Mapping[int, Mapping[str, Any]]) -> dict[int, float]:
  return {seed: run['value'] for seed, run in runs.items()
          if run['value'] is not None}


def _differences(plan, found):
  """Keys that differ between points, and each point's value of them.

  What was swept, and whatever else is not the same in the configs that the
  runs wrote, as a recipe's words.
  """
  laid = {}
  for point in plan['points']:
    configs = [run['config'] for run in found[point['name']].values()
               if run['config']]
    laid[point['name']] = {**(configs[0] if configs else {}),
                           **point['overrides']}
  swept = {key for point in plan['points'] for key in point['overrides']}
  # A run that has not begun has no config to differ.
  begun = [config for name, config in laid.items()
           if any(run['config'] for run in found[name].values())]
  rest = sweep_read.differing(begun, leave={'seed', *swept})
  keys = [*sorted(swept), *rest]
  return keys, {name: {key: config.get(key) for key in keys}
                for name, config in laid.items()}


def _status(found: Sequence[str]) -> str:
  """'finished', or how many runs are what."""
  if len(set(found)) == 1:
    return found[0]
  return ', '.join(f'{found.count(status)} {status}'
                   for status in sweep_read.STATUSES if status in found)


def _numbers(prefix: str, found: sweep_stats.Estimate) -> dict[str, Any]:
  numbers = (found.value, found.low, found.high)
  names = ((prefix, f'{prefix}_low', f'{prefix}_high') if prefix
           else ('mean', 'low', 'high'))
  return {name: None if number != number else number
          for name, number in zip(names, numbers)}


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add_flags(parser)
  try:
    report(parser.parse_args(argv))
  except (ValueError, OSError) as error:
    sys.exit(f'{type(error).__name__}: {error}')


if __name__ == '__main__':
  main()
