"""Folders of runs and sweeps -> one table: what differs, how far, what came.

  python launch/collect.py runs/a runs/sweep [--metric=reward/total]
    [--csv=all.csv] [--json=all.json] [--markdown=all.md]

Prints Markdown where no file is asked for. A run is any folder with a
config.json, at whatever depth; runs that a sweep planned and has not begun are
there too, as missing. Not here: means, intervals and verdicts (sweep_report).
"""

import argparse
from collections.abc import Sequence
import csv
import json
import os
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
from launch import sweep_page
from launch import sweep_points
from launch import sweep_read
from launch import sweep_report


def gather(folders: Sequence[str], metrics: Sequence[str] = ()
           ) -> list[dict[str, Any]]:
  """One dict a run: `run` (its folder), `status`, `step`, `config` (the keys
  that are not the same in all), `result` and `metrics` (last values).

  Raises:
    ValueError: a folder is not there or holds no run.
  """
  found = {}
  for folder in folders:
    runs = sweep_read.find_runs(folder)
    if not runs:
      raise ValueError(f'{folder} holds no run: no config.json and no '
                       f'{sweep_read.PLAN} in it or below it')
    found |= {os.path.normpath(run): sweep_read.read(run) for run in runs}
  begun = [run.config for run in found.values() if run.config]
  keys = sweep_read.differing(begun)
  # Where a run was, its own result repeats.
  return [{'run': name, 'status': run.status, 'step': run.step,
           'config': {key: run.config.get(key) for key in keys},
           'result': {k: v for k, v in run.result.items() if k != 'workdir'},
           'metrics': {m: sweep_read.value(name, m) for m in metrics}}
          for name, run in sorted(found.items())]


def columns(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list]]:
  """Rows as a header and lines; a value that there is not is None."""
  groups = [(part, sorted({key for row in rows for key in row[part]}))
            for part in ('config', 'result', 'metrics')]
  header = ['run', 'status', 'step', *(key for _, keys in groups
                                       for key in keys)]
  return header, [[row['run'], row['status'], row['step'],
                   *(row[part].get(key) for part, keys in groups
                     for key in keys)] for row in rows]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
  """The table for people: keys by their last parts, four digits."""
  header, lines = columns(rows)
  short = sweep_points.shortened(header)
  def cell(value):
    if value is None:
      return ''
    if isinstance(value, float):
      return sweep_page.number(value)
    return sweep_page.written(value)
  return sweep_report.markdown([short[name] for name in header],
                               [list(map(cell, line)) for line in lines])


def write_csv(path, rows: Sequence[dict[str, Any]]) -> None:
  """The table for programs: whole keys, numbers in full."""
  header, lines = columns(rows)
  with open(path, 'w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(header)
    for line in lines:
      writer.writerow(['' if value is None else sweep_page.written(value)
                       for value in line])


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('folders', nargs='+', help='of runs or sweeps')
  parser.add_argument('--metric', action='append', default=[],
                      help='also the last value of this; may be repeated')
  for kind in ('csv', 'json', 'markdown'):
    parser.add_argument(f'--{kind}', default='', help='a file to write')
  args = parser.parse_args(argv)
  try:
    rows = gather(args.folders, args.metric)
    if args.csv:
      write_csv(args.csv, rows)
    if args.json:
      pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + '\n')
    if args.markdown:
      pathlib.Path(args.markdown).write_text(markdown(rows) + '\n')
    if not (args.csv or args.json or args.markdown):
      print(markdown(rows))
  except (ValueError, OSError) as error:
    sys.exit(f'{type(error).__name__}: {error}')


if __name__ == '__main__':
  main()
