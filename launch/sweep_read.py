"""What the folders of runs and sweeps hold: status, step, config, values.

It reads, and writes only the few notes that a sweep keeps beside its runs:
`points.json` of the sweep, and of a run what failed or was pruned. Not here:
starting runs (sweep_run), tables (sweep_report).
"""

from collections.abc import Mapping, Sequence
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

from launch import sweep_points
from medrl import lookup
from medrl import metrics

PLAN = 'points.json'
# finished: its result is there. stopped: begun, and the same command goes on.
STATUSES = ('finished', 'pruned', 'failed', 'stopped', 'missing')


class Found(NamedTuple):
  """One run: what is known without running anything."""
  status: str
  step: int | None              # of the last logged line
  config: Mapping[str, Any]     # flat, {} where none was written
  result: Mapping[str, Any]     # of result.json, {} where there is none


def read_json(path) -> Any:
  """The content of a JSON file; None where it is absent or torn."""
  try:
    return json.loads(pathlib.Path(path).read_text())
  except (FileNotFoundError, NotADirectoryError, ValueError):
    return None


def write_json(path, content: Any, mode: int = 0o666) -> None:
  """As `write_text`, of JSON."""
  write_text(path, json.dumps(content, indent=1) + '\n', mode)


def write_text(path, text: str, mode: int = 0o666) -> None:
  """Writes by rename, so that readers see the old or the new."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  scratch = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode),
            'w', encoding='utf-8') as file:
    file.write(text)
  os.replace(scratch, path)


def note(folder, kind: str) -> pathlib.Path:
  """A file beside a run's folder: its 'log', 'lock', 'failed' or 'pruned'."""
  folder = pathlib.Path(folder)
  return folder.with_name(f'{folder.name}.{kind}')


def status(folder) -> str:
  """One of STATUSES."""
  folder = pathlib.Path(folder)
  if read_json(folder / 'result.json') is not None:
    return 'finished'
  for kind in ('pruned', 'failed'):
    if note(folder, kind).exists():
      return kind
  return 'stopped' if folder.is_dir() else 'missing'


def read(folder) -> Found:
  """What a run's folder holds; all but the status may be empty."""
  folder = pathlib.Path(folder)
  rows = logged(folder)
  config = read_json(folder / 'config.json') or {}
  result = read_json(folder / 'result.json') or {}
  return Found(status(folder), rows[-1]['step'] if rows else None,
               lookup.flat(config), result)


def logged(folder) -> list[dict[str, Any]]:
  """The whole lines of a run's metrics.jsonl; [] where there is none."""
  path = pathlib.Path(folder) / 'metrics.jsonl'
  return metrics.read(path) if path.exists() else []


def curve(folder, metric: str) -> list[tuple[int, float]]:
  """(step, value) of each line that has the metric."""
  return [(row['step'], float(row[metric])) for row in logged(folder)
          if metric in row]


def value(folder, metric: str) -> float | None:
  """The metric's last value in the log, or else in result.json.

  None where there is none, or none that is finite.
  """
  found = curve(folder, metric)
  result = read_json(pathlib.Path(folder) / 'result.json') or {}
  number = found[-1][1] if found else result.get(metric)
  is_number = isinstance(number, (int, float)) and math.isfinite(number)
  return float(number) if is_number else None


def read_plan(workdir) -> dict[str, Any]:
  """A sweep's plan; points of a search are found in their own folders.

  Raises:
    ValueError: the folder is no sweep's.
  """
  workdir = pathlib.Path(workdir)
  plan = read_json(workdir / PLAN)
  if plan is None:
    raise ValueError(f'{workdir} has no {PLAN}; it is not the --workdir of a '
                     f'sweep')
  trials = [read_json(path) for path in workdir.glob('*/point.json')]
  trials = sorted(filter(None, trials), key=lambda point: point['name'])
  return {**plan, 'points': [*plan['points'], *trials]}


def record_plan(workdir, plan: Mapping[str, Any]) -> None:
  """Writes a sweep's plan, or checks that it is the one there, or more of it.

  The caller holds a lock, as several shards may begin at once.

  Args:
    workdir: of the sweep.
    plan: `config`, `fixed`, `metric`, `search`, `seeds` and `points`, each
      point a dict of `name` and `overrides`; plain JSON.

  Raises:
    ValueError: another sweep is in the folder; the difference is named.
  """
  path = pathlib.Path(workdir) / PLAN
  if path.exists():
    before = read_json(path)
    if before is None:
      raise ValueError(f'{path} is torn; remove it, the same command writes it '
                       f'again')
    _check_extends(path, before, plan)
    if before == plan:
      return
  write_json(path, plan)


def _check_extends(path, before, plan) -> None:
  for part in ('config', 'fixed', 'search'):
    if before[part] != plan[part]:
      raise ValueError(f'{path} is of another sweep: its {part} is '
                       f'{before[part]!r}, not {plan[part]!r}; give another '
                       f'--workdir')
  for part in ('seeds', 'points'):
    gone = [old for old in before[part] if old not in plan[part]]
    if gone:
      raise ValueError(f'{path} has {part} that this sweep lacks, such as '
                       f'{gone[0]!r}; a sweep may only be extended, so give '
                       f'all of the former too, or another --workdir')


def find_runs(folder) -> list[pathlib.Path]:
  """Folders of runs at or below a folder, those that a sweep lacks included.

  A run is what has a config.json; what lies within one is its own.
  """
  folder, found = pathlib.Path(folder), set()
  for root, below, files in os.walk(folder):
    root = pathlib.Path(root)
    if PLAN in files:
      plan = read_plan(root)
      found |= {sweep_points.run_folder(root, point['name'], seed)
                for point in plan['points'] for seed in plan['seeds']}
    if 'config.json' in files:
      found.add(root)
      below.clear()
  return sorted(found)


def differing(configs: Sequence[Mapping[str, Any]], leave=()) -> list[str]:
  """Keys that are not the same in all flat configs, but for those to leave."""
  keys = sorted({key for config in configs for key in config} - set(leave))
  return [key for key in keys
          if len({json.dumps(c.get(key, '(absent)')) for c in configs}) > 1]
