"""Renders the job files of one experiment for one cluster, and submits them.

  python launch/submit.py --target=launch/targets/slurm.yaml \
    --config=experiments/x.py --workdir=gs://bucket/x [--config.X=...] \
    [--name=NAME] [--out=FOLDER] [--dry_run]
  python launch/submit.py --target=launch/targets/slurm_sweep.yaml --sweep \
    --config=experiments/x.py --workdir=... --grid 'rl.clip_high=0.2,0.28'

Every flag that is not listed here goes to medrl.main; with --sweep, and a
target that says `share: sweep`, to launch/sweep.py, of which each node takes a
share. `--dry_run` prints files and command, and runs nothing.

Not here: queues, machines, restarts. Engines that exist do that
(launch/engines/, one module each); a target file names one, by the name of its
module or the import path of another that has
`Target`, `render(job) -> {file: text}` and `command(job, folder) -> [words]`.
"""

import argparse
import dataclasses
import pathlib
import re
import shlex
import subprocess
import sys
import typing

from absl import flags as absl_flags
from ml_collections import config_flags
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# pylint: disable=wrong-import-position
from launch import submit_job
from medrl import lookup

_SHARES = ('run', 'sweep')


def engine(name: str):
  """The module of an engine, by its name in launch/engines or import path.

  Raises:
    ValueError: nothing of that name, with the nearest; or no engine.
  """
  known = sorted(p.stem for p in (ROOT / 'launch/engines').glob('[a-z]*.py'))
  try:
    module = lookup.resolve(f'launch.engines.{name}' if name in known else name)
  except ValueError as error:
    raise ValueError(f'engine {name!r}: {lookup.nearest(name, known)} As an '
                     f'import path: {error}') from error
  for part in ('Target', 'render', 'command'):
    if not hasattr(module, part):
      raise ValueError(f'engine {name!r} has no {part}; see launch/engines')
  return module


def _value(key: str, value, kind):
  """`value` as the field of that type takes it; lists become tuples."""
  if typing.get_origin(kind) is tuple:
    if not isinstance(value, list) or not all(
        isinstance(v, str) for v in value):
      raise ValueError(f'target key {key!r} is {value!r}, expected a list of '
                       f'texts')
    return tuple(value)
  if type(value) is not kind:  # a bool is an int to isinstance
    raise ValueError(
        f'target key {key!r} is {value!r} ({type(value).__name__}), expected '
        f'{kind.__name__}' + ('; put it in quotes' if kind is str else ''))
  return value


def read_target(path: str):
  """Reads a target file.

  Returns:
    the engine's module, its Target with the file's values, and whether its
    nodes share a sweep.

  Raises:
    ValueError: unknown, missing or wrong keys.
    OSError: the file cannot be read.
  """
  try:
    given = yaml.safe_load(pathlib.Path(path).read_text(encoding='utf-8'))
  except yaml.YAMLError as error:
    raise ValueError(f'{path} is no YAML: {error}') from error
  if not isinstance(given, dict) or not isinstance(given.get('engine'), str):
    raise ValueError(f'{path}: expected keys and values, one of them '
                     f'`engine: NAME`')
  module = engine(given.pop('engine'))
  share = given.pop('share', 'run')
  if share not in _SHARES:
    raise ValueError(f'{path}: share {share!r} is none of {_SHARES}')
  fields = {f.name: f for f in dataclasses.fields(module.Target)}
  for key in given:
    if key not in fields:
      raise ValueError(f'{path}: unknown key {key!r}; '
                       + lookup.nearest(str(key), ['engine', 'share', *fields]))
  missing = [f.name for f in fields.values() if f.name not in given
             and dataclasses.MISSING is f.default is f.default_factory]
  if missing:
    raise ValueError(f'{path}: {", ".join(missing)} missing; '
                     f'{module.__name__} says what they are')
  values = {k: _value(k, v, fields[k].type) for k, v in given.items()}
  return module, module.Target(**values), share == 'sweep'


def check_config(study: str, flags) -> None:
  """Reads the study with its overrides, as it will be read on the cluster.

  Raises:
    ValueError: no such study or key, or a value of another type.
  """
  words = ['submit', f'--config={study}',
           *(f for f in flags if f.startswith('--config.'))]
  values = absl_flags.FlagValues()
  config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=words)
  try:
    values(words)
    # Of a file that is not there, the first field tells.
    values['config'].value.trainer
  except (AttributeError, KeyError, OSError, absl_flags.Error) as error:
    raise ValueError(f'{shlex.join(words[1:])}: {error}') from error


def job_name(study: str, workdir: str) -> str:
  """A name for queues, of the study's and the folder's: a DNS label."""
  stem = pathlib.PurePath(study.partition(':')[0]).stem
  text = f'{stem}-{workdir.rstrip("/").rpartition("/")[2]}'.lower()
  name = re.sub('[^a-z0-9]+', '-', text).strip('-')[:40].strip('-')
  return name if name[:1].isalpha() else f'medrl-{name}'[:40].strip('-')


def parse(argv):
  """Our flags, and those to pass on."""
  parser = argparse.ArgumentParser(
      prog='launch/submit.py', description=__doc__, allow_abbrev=False,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--target', required=True, help='a YAML file')
  parser.add_argument('--config', required=True, help='a study')
  parser.add_argument('--workdir', required=True, help='where results go; '
                      'all nodes must see it')
  parser.add_argument('--name', help='of the job; from study and workdir')
  parser.add_argument('--out', help='folder of the rendered files; '
                      'runs/launch/NAME')
  parser.add_argument('--sweep', action='store_true', help='the other flags '
                      'are those of launch/sweep.py')
  parser.add_argument('--dry_run', action='store_true')
  # argparse would swallow the mark behind which flags are for a sweep's runs.
  argv = list(sys.argv[1:] if argv is None else argv)
  cut = argv.index('--') if '--' in argv else len(argv)
  args, rest = parser.parse_known_args(argv[:cut])
  return args, rest + argv[cut:]


def plan(argv):
  """Flags -> the engine's module, the job, and where its files go.

  Raises:
    ValueError: a flag, a target or a config that cannot be.
  """
  args, rest = parse(argv)
  flags = (f'--config={args.config}', f'--workdir={args.workdir}', *rest)
  for flag in flags:
    # No format that a job passes through carries these safely.
    if not flag.isprintable():
      raise ValueError(f'{flag!r} has a line break or a control character')
  module, target, shared = read_target(args.target)
  if args.sweep != shared:
    raise ValueError(f'{args.target} says share: {_SHARES[shared]}, which goes '
                     f'with{"" if shared else "out"} --sweep')
  check_config(args.config, rest)
  name = args.name or job_name(args.config, args.workdir)
  if not re.fullmatch('[a-z]([-a-z0-9]{0,38}[a-z0-9])?', name):
    raise ValueError(f'--name={name}: expected up to 40 of a-z, 0-9 and -, '
                     f'first a letter')
  folder = pathlib.Path(args.out or ROOT / 'runs' / 'launch' / name).absolute()
  return module, submit_job.Job(name, target, flags, shared), folder, args


def main(argv=None) -> int:
  """Renders and submits; returns the engine's exit status."""
  module, job, folder, args = plan(argv)
  files = module.render(job)
  command = module.command(job, folder)
  for name, text in files.items():
    if args.dry_run:
      print(f'--- {folder / name}\n{text}', end='')
    else:
      folder.mkdir(parents=True, exist_ok=True)
      (folder / name).write_text(text, encoding='utf-8')
  print(f'$ {shlex.join(command)}', flush=True)
  if args.dry_run:
    return 0
  try:
    return subprocess.run(command, cwd=ROOT, check=False).returncode
  except FileNotFoundError as error:
    raise ValueError(f'{command[0]} is not on PATH; the files are in {folder}, '
                     f'ready for a machine that has it') from error


if __name__ == '__main__':
  try:
    sys.exit(main())
  except (ValueError, OSError) as e:
    sys.exit(f'{type(e).__name__}: {e}')
