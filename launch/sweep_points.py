"""What a sweep asks for -> points: named sets of overrides, and commands.

Not here: keys and values (sweep_values), starting anything (sweep_run), what
came of it (sweep_read).
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import hashlib
import importlib.util
import itertools
import json
import pathlib
import re
from typing import Any

from launch import sweep_values

# Draws of --random that give no new point, after which nothing new is expected.
_PATIENCE = 1000


@dataclasses.dataclass(frozen=True)
class Point:
  """A set of overrides, and the folder that its runs go to."""
  name: str
  overrides: Mapping[str, Any]


def grid(study: sweep_values.Study, texts: Iterable[str]
         ) -> list[dict[str, Any]]:
  """Every combination of 'key=a,b' texts; the last key changes fastest."""
  found = [sweep_values.choices(study, text) for text in texts]
  keys = [key for key, _ in found]
  if len(set(keys)) < len(keys):
    raise ValueError(f'a key is swept twice: {sorted(keys)}; give all of its '
                     f'values at once')
  return [dict(zip(keys, values))
          for values in itertools.product(*(values for _, values in found))]


def draws(study: sweep_values.Study, texts: Iterable[str], count: int, seed: int
          ) -> list[dict[str, Any]]:
  """`count` different points at random.

  Each value depends on the seed, its key and the number of the draw alone: more
  points, or another key, leave the others as they were.

  Raises:
    ValueError: there are fewer than `count` points.
  """
  within = sweep_values.spaces(study, texts)
  out, seen = [], set()
  for number in itertools.count():
    point = {key: sweep_values.draw(values, f'{seed}/{number}/{key}')
             for key, values in within.items()}
    if digest(point) not in seen:
      seen.add(digest(point))
      out.append(point)
    if len(out) == count:
      return out
    if number > count + _PATIENCE:
      raise ValueError(f'{count} different points were asked for, {len(out)} '
                       f'were found in {number} draws; give fewer --points')


def listed(study: sweep_values.Study) -> list[dict[str, Any]]:
  """The points of the study's own `sweep()`: dicts of overrides."""
  path = study.path.partition(':')[0]
  spec = importlib.util.spec_from_file_location('swept_study', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, 'sweep'):
    raise ValueError(f'{path} has no function sweep(); expected one that gives '
                     f'dicts of overrides, as {{"rl.clip_high": 0.2}}')
  texts = [{sweep_values.swept_key(study, key): sweep_values.text_of(value)
            for key, value in row.items()} for row in module.sweep()]
  return [{key: sweep_values.parse(study, key, text)
           for key, text in row.items()} for row in texts]


def combine(*sources: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Every combination of a point of each source."""
  out = []
  for parts in itertools.product(*sources):
    point = {}
    for part in parts:
      twice = sorted(point.keys() & part.keys())
      if twice:
        raise ValueError(f'{twice} are swept in two ways; give each key once')
      point |= part
    out.append(point)
  return out


def named(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
  """Points of overrides.

  A name is readable, holds no character that a shell or a path would mind, and
  depends on its overrides and on which keys are swept, not on other values.

  Raises:
    ValueError: two points are the same.
  """
  short = shortened({key for row in rows for key in row})
  points = [Point(name(row, short), dict(row)) for row in rows]
  names = [point.name for point in points]
  for point in names:
    if names.count(point) > 1:
      raise ValueError(f'the point {point} comes twice')
  return points


def name(overrides: Mapping[str, Any], short: Mapping[str, str]) -> str:
  """'format.weight=1,rl.clip_high=0.2-0a1b2c3d', or 'default-...' for none."""
  pairs = ','.join(f'{short[key]}={_slug(value)}'
                   for key, value in sorted(overrides.items()))
  return f'{pairs[:120] or "default"}-{digest(overrides)}'


def shortened(keys: Iterable[str]) -> dict[str, str]:
  """Key -> its last two parts, or as many as tell it from the others."""
  keys, out = sorted(keys), {}
  for key in keys:
    parts = key.split('.')
    for start in reversed(range(max(1, len(parts) - 1))):
      tail = '.'.join(parts[start:])
      if sum(f'.{other}'.endswith(f'.{tail}') for other in keys) == 1:
        break
    out[key] = tail
  return out


def digest(overrides: Mapping[str, Any]) -> str:
  """Eight letters of what the overrides are."""
  text = json.dumps(overrides, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def plain(value: Any) -> Any:
  """A value as JSON gives it back: tuples are lists."""
  return json.loads(json.dumps(value))


def run_folder(workdir, point: str, seed: int) -> pathlib.Path:
  """Where a point's run with a seed goes."""
  return pathlib.Path(workdir) / point / f'seed{seed}'


def command(program: Sequence[str], study: sweep_values.Study,
            extra: Sequence[str], folder, overrides: Mapping[str, Any]
            ) -> list[str]:
  """The process of one run, as a list of arguments for no shell."""
  laid = {**study.fixed, **overrides}
  return [*program, f'--config={study.path}', f'--workdir={folder}',
          *(f'--config.{key}={sweep_values.text_of(value)}'
            for key, value in laid.items()), *extra]


def _slug(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.4g}'
  text = str(value)
  if re.fullmatch(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)+', text):
    text = text.rpartition('.')[2]   # the last word of an import path
  return re.sub(r'[^\w.+-]+', '_', text).strip('_') or 'none'
