"""The container's recipe, read: there is nothing here to build it with."""

import fnmatch
import pathlib
import re
import shlex

from launch import submit_job

ROOT = pathlib.Path(__file__).parents[2]
RECIPE = ROOT / 'launch' / 'Dockerfile'


def steps():
  """(instruction, the rest) of each step, comments and line ends removed."""
  text = re.sub(r'^\s*#.*\n', '', RECIPE.read_text(), flags=re.MULTILINE)
  for line in text.replace('\\\n', ' ').splitlines():
    name, _, rest = line.strip().partition(' ')
    if name:
      yield name, rest.strip()


def test_every_step_is_one():
  names = [name for name, _ in steps()]
  assert set(names) <= {'ARG', 'FROM', 'SHELL', 'RUN', 'WORKDIR', 'COPY', 'ENV',
                        'USER', 'ENTRYPOINT'}
  assert names[:2] == ['ARG', 'FROM'] and names.count('FROM') == 1


def test_it_names_no_version_but_that_of_setup():
  found = re.findall(r'\d+\.\d+[.\d]*', '\n'.join(r for _, r in steps()))
  least = re.search(r'sys\.version_info < \((\d+), (\d+)\)',
                    (ROOT / 'launch/setup.sh').read_text())
  assert found == ['.'.join(least.groups())]
  assert ('FROM', 'python:${PYTHON}-slim') in list(steps())


def test_it_installs_the_very_lists():
  run = ' '.join(rest for name, rest in steps() if name == 'RUN')
  assert 'setup $LISTS; accelerate "$ACCELERATOR"' in run
  assert ('ARG', f'LISTS="{" ".join(submit_job.LISTS)}"') in list(steps())
  assert 'pip' not in run


def test_the_process_is_not_root_and_is_run_sh():
  order = [(name, rest) for name, rest in steps()
           if name in ('USER', 'ENTRYPOINT')]
  assert order == [('USER', '$USER'),
                   ('ENTRYPOINT', '["bash", "launch/run.sh"]')]
  assert ('ARG', 'USER=medrl') in list(steps())
  assert any('useradd' in rest and rest.endswith('medrl')
             for name, rest in steps() if name == 'RUN')


def test_it_is_given_code_and_nothing_else():
  lines = (ROOT / 'launch/Dockerfile.dockerignore').read_text().splitlines()
  rules = [line for line in lines if line and not line.startswith('#')]
  allowed = [rule[1:] for rule in rules if rule.startswith('!')]
  assert rules[0] == '*'
  for name, rest in steps():
    if name == 'COPY':
      *sources, _ = shlex.split(rest)
      for source in sources:
        assert list(ROOT.glob(source)), f'{source} is not there'
        assert source.split('/')[0] in allowed
  assert {'.git', 'runs', '.venv', 'tests', '..'}.isdisjoint(allowed)
  assert any(fnmatch.fnmatch('medrl/__pycache__', rule) for rule in rules)
