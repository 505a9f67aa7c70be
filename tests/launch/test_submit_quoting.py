"""Whatever a flag's text is, a node's program gets it as one argument.

The rendered scripts are run, with stand-ins for docker, srun and our own
programs that write down what they were given.
"""

import os
import pathlib
import re
import stat
import subprocess

import pytest
import yaml

from launch import submit
from launch import submit_job

HOSTILE = (
    'a b', " it's ", '"q"', '$HOME', '${IFS}', '$(touch pwned)',
    '`touch pwned`', '; touch pwned', '&& touch pwned #', "'; touch pwned; '",
    '| cat', '> pwned', '* ? [a-z]', '~', '!!', '\\', 'x\\', '\\n', '$$',
    '$$(HOME)', '$(HOME)', '%j', '{{ x }}', '{a,b}', '#', '- a: b', 'é', '')
FLAGS = ('--config=experiments/chest.py',
         "--workdir=gs://b/it's $(touch pwned)",
         *(f'--config.processor.user={text}' for text in HOSTILE))
TARGETS = sorted(p.stem
                 for p in (submit.ROOT / 'launch/targets').glob('*.yaml'))
RECORD = 'printf "%s\\0" "$@" > "$ROOT/given"\n'


def kubernetes(text, names):
  """A container's word as kubelet hands it on: $$ is $, $(NAME) a variable."""
  return re.sub(r'\$\$|\$\(([^)]*)\)', lambda m: '$' if m[0] == '$$' else
                names.get(m[1], m[0]), text)


@pytest.fixture
def root(tmp_path, monkeypatch):
  """A repository whose programs write down what they are given."""
  (tmp_path / 'launch').mkdir()
  (tmp_path / 'bin').mkdir()
  (tmp_path / '.venv/bin').mkdir(parents=True)
  (tmp_path / '.venv/bin/activate').write_text('')
  (tmp_path / 'launch/run.sh').write_text(RECORD)
  (tmp_path / 'launch/setup.sh').write_text('setup() { :; }; accelerate() { '
                                            ':; }\n')
  stand_ins = {
      'docker': f'[ "$1" = run ] || exit 0\nshift\nwhile [ "${{1#--}}" != "$1" '
                f']; do shift; done\nshift\n{RECORD}',
      'srun': 'shift; exec "$@"\n',
      'python': f'shift\n{RECORD}',
      'gcloud': '', 'git': '', 'pip': '', 'uv': 'echo python\n',
  }
  for name, text in stand_ins.items():
    path = tmp_path / 'bin' / name
    path.write_text('#!/usr/bin/env bash\n' + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
  monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
  for name, value in dict(
      ROOT=tmp_path, SKYPILOT_NODE_IPS='10.0.0.1\n10.0.0.2', SLURM_PROCID='3',
      SKYPILOT_NODE_RANK='1', SKYPILOT_NUM_NODES='2', SLURM_NTASKS='4',
      SLICE='5', MEGASCALE_SLICE_ID='5').items():
    monkeypatch.setenv(name, str(value))
  return tmp_path


def job(target, flags=FLAGS):
  module, values, sweep = submit.read_target(
      f'{submit.ROOT}/launch/targets/{target}.yaml')
  return module, submit_job.Job('a', values, tuple(flags), sweep)


def words(target, flags=FLAGS):
  """What a node starts, as its engine hands it over."""
  module, made = job(target, flags)
  files = module.render(made)
  if 'jobset.yaml' in files:
    spec = yaml.safe_load(files['jobset.yaml'])['spec']['replicatedJobs'][0]
    pod = spec['template']['spec']['template']['spec']
    return [kubernetes(word, {'HOME': '/root'})
            for word in pod['containers'][0]['command']]
  if 'task.yaml' in files:
    return ['bash', '-c', yaml.safe_load(files['task.yaml'])['run']]
  if 'command.sh' in files:
    line, = (word.removeprefix('--command=')
             for word in module.command(made, pathlib.Path('out'))
             if word.startswith('--command='))
    # As xpk's template has it.
    return ['bash', '-c', kubernetes(
        f'({line}) & PID=$$!;\nwait $$PID;\nexit $$?', {'HOME': '/root'})]
  (text,) = files.values()
  return ['bash', '-c', text.replace('cd /opt/medrl', ':')]


def given(root, target, flags):
  subprocess.run(words(target, flags), cwd=root, check=True)
  assert not list(root.rglob('pwned'))
  return (root / 'given').read_text().split('\0')[:-1]


@pytest.mark.parametrize('target', [t for t in TARGETS if '_sweep' not in t])
def test_flags_of_a_run(root, target):
  seen = given(root, target, FLAGS)
  own = seen[:-len(FLAGS)]
  assert tuple(seen[-len(FLAGS):]) == FLAGS
  if target == 'skypilot':
    assert own == ['--accelerator=cuda13', '--coordinator=10.0.0.1:8476',
                   '--processes=2', '--process=1']
  elif target == 'slurm':
    assert own == ['--accelerator=cuda12', '--coordinator=auto']
  else:
    # A mesh knows of slices; a user's own word on it comes later, and counts.
    slices = [] if target == 'tpu_vm' else ['--config.mesh.slices=2']
    assert own == ['--accelerator=tpu', '--coordinator=auto', *slices]


@pytest.mark.parametrize('target, shard, accelerator', [
    ('jobset_sweep', '5/8', 'tpu'), ('slurm_sweep', '3/4', 'cuda12')])
def test_flags_of_a_sweep(root, target, shard, accelerator):
  flags = (FLAGS[0], '--workdir=/runs/a', '--set', 'processor.user=$(HOME) "x',
           '--', '--dry_run')
  assert given(root, target, flags) == [
      f'--shard={shard}', *flags[:-1], f'--accelerator={accelerator}',
      '--dry_run']
  # A search is shared by its journal.
  search = (*flags[:-2], '--trials=12')
  assert given(root, target, search) == [
      *search, '--', f'--accelerator={accelerator}']


def test_slurm_requeues_what_was_stopped(root):
  for status, asked in ((0, False), (1, False), (143, True)):
    (root / 'launch/run.sh').write_text(f'exit {status}\n')
    (root / 'bin/scontrol').write_text('#!/bin/sh\necho "$@" > "$ROOT/asked"\n')
    (root / 'bin/scontrol').chmod(0o755)
    ran = subprocess.run(words('slurm'), cwd=root, check=False,
                         env=os.environ | {'SLURM_JOB_ID': '77'})
    assert ran.returncode == status
    assert (root / 'asked').exists() == asked
  assert (root / 'asked').read_text() == 'requeue 77\n'
