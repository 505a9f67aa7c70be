"""Imports only point down, and host code loads no jax."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LAYERS = {
    'main': 12, 'trainers': 11, 'evals': 10, 'costs': 9, 'build': 8,
    'vocabulary': 7, 'feed': 6, 'data': 5,
    'models': 4, 'processors': 4, 'media': 4, 'rewards': 4, 'tools': 4,
    'rl': 4, 'rollout': 4,
    'claims': 4, 'hosts': 3, 'sharding': 3, 'accelerators': 3,
    'params': 2, 'checkpoint': 2, 'metrics': 1, 'hparams': 1,
    'types': 0, 'lookup': 0, 'paths': 0,
}
NO_JAX = ('rewards', 'tools', 'media', 'processors', 'types', 'lookup',
          'metrics', 'hparams', 'paths')
OUTSIDE = ('experiments', 'launch', 'notebooks', 'tests')


def imports(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def test_imports_point_down():
  wrong = []
  for path in sorted((ROOT / 'medrl').rglob('*.py')):
    parts = path.relative_to(ROOT / 'medrl').with_suffix('').parts
    if parts == ('__init__',):
      continue
    own = parts[0]
    assert own in LAYERS, f'{path}: give {own!r} a layer'
    for name in imports(path):
      top, *rest = name.split('.')
      if top in OUTSIDE:
        wrong.append(f'{path}: imports {name}')
      if top != 'medrl' or not rest or rest[0] == own:
        continue
      if LAYERS[rest[0]] >= LAYERS[own]:
        wrong.append(f'{path}: {own} imports {name}')
  assert not wrong, '\n'.join(wrong)


def test_experiments_import_only_ml_collections_and_each_other():
  for path in sorted((ROOT / 'experiments').glob('*.py')):
    if path.name.startswith('ablate'):  # scripts, not configs
      continue
    for name in imports(path):
      assert name.split('.')[0] in ('ml_collections', 'experiments'), (
          f'{path}: imports {name}; a config names code as text')


@pytest.mark.parametrize('part', NO_JAX)
def test_host_code_loads_no_jax(part):
  source = ROOT / 'medrl' / part
  files = [source.with_suffix('.py')] if not source.is_dir() else sorted(
      source.rglob('*.py'))
  modules = ['.'.join(f.relative_to(ROOT).with_suffix('').parts)
             for f in files if f.name != '__init__.py']
  code = ('import importlib, sys\n'
          f'for m in {modules!r}: importlib.import_module(m)\n'
          'assert "jax" not in sys.modules, "jax was loaded"')
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)
