"""The table of published sizes on TPU slices: what fits, holds and sends.

  python launch/compile_table.py --out=runs/table [--rows=qwen2_5_vl_7b,v5e]

Each row is a process of `launch/compile.py` for `experiments/pod.py`, the two
largest programs of it and new sampling weights. What is in --out already is not
compiled again. No best meshes or batches: `compile.py --search` looks for such.
"""

import argparse
from collections.abc import Iterator
import json
import logging
import pathlib
import subprocess
import sys
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
from medrl import accelerators

ROOT = pathlib.Path(__file__).parents[1]
MICROBATCHES = 8   # of one prompt for each part of the mesh
# Sampling holds all weights on the chips of a tensor group, which are on one
# host of four: what that leaves no room for needs larger chips, not more.
SLICES = ('v5e:8x8', 'v6e:8x8', 'v5p:4x4x4')
LARGER = {'v5e:8x8': 'v5e:16x16', 'v6e:8x8': 'v6e:16x16',
          'v5p:4x4x4': 'v5p:4x4x4'}
MODELS = {'qwen2_5_vl_3b': (2, False), 'qwen2_5_vl_7b': (4, False),
          'qwen2_5_vl_32b': (4, True), 'qwen2_5_vl_72b': (4, True)}
PROGRAMS = ('weigh', 'sample', 'update')


class Row(NamedTuple):
  """A model on a slice."""
  model: str
  topology: str
  tensor: int

  @property
  def name(self) -> str:
    return f'{self.model}-{self.topology.replace(":", "-")}'

  @property
  def flags(self) -> list[str]:
    """What differs from the config."""
    parts = accelerators.count(self.topology) // self.tensor
    prompts = MICROBATCHES * parts
    changed = {'mesh.tensor': self.tensor, 'rl.microbatches': MICROBATCHES,
               'rollout.prompts': prompts, 'rollout.resident': prompts,
               'rollout.slots': 4 * prompts, 'rollout.chunk': 4 * parts}
    return [f'--config.{key}={value}' for key, value in changed.items()]


def rows(wanted=()) -> Iterator[Row]:
  """All rows whose model and topology hold all of the words."""
  for model, (tensor, larger) in MODELS.items():
    for topology in SLICES:
      row = Row(model, LARGER[topology] if larger else topology, tensor)
      if all(word in row.name for word in wanted):
        yield row


def compiled(row: Row, out: pathlib.Path) -> dict:
  """The result of a row, from its file or from a compile.

  Raises:
    RuntimeError: the script failed for another reason than a chip's memory.
  """
  path = out / f'{row.name}.json'
  if not path.exists():
    command = [
        sys.executable, str(ROOT / 'launch' / 'compile.py'), '--json',
        f'--config={ROOT / "experiments" / "pod.py"}',
        f'--topology={row.topology}', f'--model={row.model}',
        *row.flags, f'--programs={",".join(PROGRAMS)}']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode > 1 or not done.stdout:
      raise RuntimeError(f'{" ".join(command)} ended with {done.returncode}: '
                         f'{done.stderr[-2000:]}')
    path.write_text(done.stdout.splitlines()[-1])
  return json.loads(path.read_text())


def line(found: dict) -> str:
  """A row of the table: prompts and completions, GB of the fullest moment and
  which it is, GB sent in an update and for new sampling weights."""
  programs, batch = found['programs'], found['batch']
  def needed(name):
    return programs[name]['bytes_per_chip'] + programs[name]['held_beside']
  fullest = max(programs, key=needed)
  sent = {name: sum(one['collective_bytes'].values()) / 1e9
          for name, one in programs.items() if 'collective_bytes' in one}
  mesh = ' x '.join(f'{axis} {size}' for axis, size in found['mesh'].items()
                    if size > 1)
  return '| ' + ' | '.join((
      found['model'].removeprefix('qwen2_5_vl_'), found['topology'], mesh,
      f'{batch["prompts"]} x {batch["group"]}',
      f'{needed(fullest) / 1e9:.1f} of {found["chip_bytes"] / 1e9:.0f} '
      f'({fullest})' + ('' if found['fits'] else ', does not fit'),
      *(f'{sent[name]:.1f}' if name in sent else '-' for name in PROGRAMS)
  )) + ' |'


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, required=True,
                      help='a folder that keeps results')
  parser.add_argument('--rows', default='', help='words, separated by commas, '
                      'that a model or topology must have')
  flags = parser.parse_args(argv)
  flags.out.mkdir(parents=True, exist_ok=True)
  lines = ['| model | slice | mesh | prompts x group | GB a chip, at the '
           'fullest | GB sent: ' + ' | '.join(PROGRAMS) + ' |',
           '|---|---|---|---|---|---|---|---|']
  for row in rows(tuple(filter(None, flags.rows.split(',')))):
    logging.info('%s', row.name)
    lines.append(line(compiled(row, flags.out)))
    (flags.out / 'table.md').write_text('\n'.join(lines) + '\n')
  print('\n'.join(lines))


if __name__ == '__main__':
  logging.basicConfig(level=logging.INFO)
  main()
