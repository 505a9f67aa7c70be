"""The page that lists every reward says of each what the code says.

Names, options, signals, hidden labels and array forms; formulas and prose are
for a reader to check.
"""

import importlib
import inspect
import pathlib
import pkgutil
import re

import pytest

from medrl import lookup
from medrl import rewards
from tests.rewards.suites import test_cheating as cheating

ROOT = 'medrl.rewards.'
HERE = pathlib.Path(__file__).parent
PAGE = (pathlib.Path(rewards.__file__).parent / 'REWARDS.md').read_text(
    encoding='utf-8')
NAMES = ['record', 'completions', 'context']


def found():
  """Name without `ROOT` -> reward, of all modules but parsers and arrays."""
  out = {}
  for module in pkgutil.walk_packages(rewards.__path__, ROOT):
    if module.name.startswith((f'{ROOT}parse', f'{ROOT}array')):
      continue
    loaded = importlib.import_module(module.name)
    for name, fn in inspect.getmembers(loaded, inspect.isfunction):
      if (fn.__module__ == module.name and not name.startswith('_')
          and list(inspect.signature(fn).parameters)[:3] == NAMES):
        out[f'{module.name}.{name}'.removeprefix(ROOT)] = fn
  return out


def rows(second):
  """Rows of the tables whose second column is `second`, as header -> cell."""
  header, out = None, []
  for line in PAGE.splitlines():
    cells = [c.strip() for c in re.split(r'(?<!\\)\|', line)[1:-1]]
    if not line.startswith('|'):
      header = None
    elif header is None:
      header = cells
    elif header[1] == second and set(line) != set('|-'):
      assert len(cells) == len(header) and all(cells), line
      out.append(dict(zip(header, cells)))
  return out


def quoted(cell):
  """What stands in a cell between backticks, in order; [] for '-'."""
  assert ('`' in cell) != (cell == '-'), cell
  return re.findall('`([^`]*)`', cell)


def named(row):
  name, = quoted(row['Reward'])
  return name


REWARDS = found()
ROWS = {named(row): row for row in rows('Options')}


def test_each_reward_has_one_row_and_no_other_has():
  assert len(REWARDS) > 50 and 'compat.medevalkit.score' in REWARDS
  assert sorted(map(named, rows('Options'))) == sorted(REWARDS)


@pytest.mark.parametrize('name', ROWS)
def test_what_a_row_says(name):
  row, fn = ROWS[name], lookup.resolve(ROOT + name)
  module = inspect.getmodule(fn)
  options = list(inspect.signature(fn).parameters.values())[3:]
  told = [option.partition('=')[::2] for option in quoted(row['Options'])]
  assert [key for key, _ in told] == [p.name for p in options]
  for (key, value), option in zip(told, options):
    if option.default is option.empty:
      assert not value, key
    elif value.isupper():   # a constant, where its value is long
      assert getattr(module, value) == option.default, key
    else:
      assert value == repr(option.default), key
  hidden = getattr(fn, 'label_free', False)
  assert tuple(quoted(row['Needs'])) == getattr(fn, 'needs', ())
  assert row['Label-free'] == ('yes' if hidden else 'no')
  assert row['Gold'] == 'none' or not hidden
  form = getattr(fn, 'array_form', None)
  assert row['Device'] == (f'`{form.removeprefix(ROOT)}`' if form else 'text')
  assert form is None or callable(lookup.resolve(form))


def test_every_reward_was_cheated_and_the_place_exists():
  tried = rows('Tried')
  assert {named(row) for row in tried} == set(REWARDS)
  tests = {path.stem for path in HERE.rglob('test_*.py')}
  assert {row['Where'] for row in tried} <= tests | {'docstring'}


def test_the_rewards_of_the_blind_suite_are_named():
  listed = PAGE.partition('**The blind suite**')[2].partition('\n\n')[0]
  tried = [getattr(entry, 'values', entry)[0] for entry in cheating.REWARDS]
  assert [n for n in quoted(listed) if n in REWARDS] == list(
      dict.fromkeys(tried))
