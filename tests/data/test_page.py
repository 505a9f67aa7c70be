"""The page of media and readers says what the code says."""

import importlib
import inspect
import pathlib
import pkgutil
import re

import pytest

from medrl import data
from medrl import lookup
from medrl.media import medium
from medrl.media import windows

PAGE = (pathlib.Path(data.__file__).parent / 'DATA.md').read_text()


def options(name):
  """Option names of a loader, in order."""
  if name == 'medrl.media.ecg_paper.load':
    return (list(inspect.signature(lookup.resolve(
        'medrl.media.ecg_paper.draw')).parameters)[1:]
            + options('medrl.media.ecg.load'))
  return list(inspect.signature(lookup.resolve(name)).parameters)[2:]


def test_every_loader_with_its_options():
  pytest.importorskip('pydicom')
  rows = dict(re.findall(r'\| `((?:\w+\.)load\w*)` \| ([^|]*?) \|', PAGE))
  assert {f'medrl.media.{name}' for name in rows} == set(
      medium.LOADERS.values())
  for name, said in rows.items():
    assert said.split(', ') == options(f'medrl.media.{name}'), name


def test_every_records_function():
  found = set()
  for module in pkgutil.iter_modules(data.__path__):
    loaded = importlib.import_module(f'medrl.data.{module.name}')
    for name in vars(loaded):
      function = getattr(loaded, name)
      if name.endswith('records') and callable(function) and list(
          inspect.signature(function).parameters)[:2] == ['root', 'split']:
        found.add(f'{module.name}.{name}')
  assert set(re.findall(r'`(\w+\.\w*records)`', PAGE)) == found


def test_every_window():
  listed = re.search(r'Windows by name: ([\w,\s]+);', PAGE)[1]
  assert listed.replace('\n', ' ').split(', ') == list(windows.NAMED)
