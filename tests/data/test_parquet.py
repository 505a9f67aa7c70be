import pickle
import sys

import numpy as np
import pytest

from medrl import lookup
from medrl.data import parquet
from tests.records import build

NAMES = ['red', 'green', 'blue']


def write(root, kind, cells, groups=None):
  build.table(root / 'a.parquet', {
      'schema': {'question': 'string', 'image': kind},
      'rows': [{'question': f'q{i}', 'image': cell}
               for i, cell in enumerate(cells)]}, row_group_size=groups)


def read(root, **image):
  fields = {'images': {'column': 'image', 'kind': 'embedded', **image}}
  return list(parquet.records(root, 'test', file={'test': 'a.parquet'},
                              fields=fields))


def load(root, medium):
  medium = pickle.loads(pickle.dumps(medium))
  return lookup.resolve(medium.loader)(medium.path, root, **medium.options)


def shown(root, record):
  colours = {(255, 0, 0): 'red', (0, 128, 0): 'green', (0, 0, 255): 'blue'}
  return [colours[tuple(load(root, m)[0, 0])] for m in record.media]


@pytest.mark.parametrize('kind, cell', [
    ('image', lambda n: {'bytes': f'png:{n}', 'path': None}),
    ({'bytes': 'binary'}, lambda n: {'bytes': f'png:{n}'}),
    ('binary', lambda n: f'png:{n}'),
    (['image'], lambda n: [{'bytes': f'png:{n}', 'path': 'x.png'}]),
    (['binary'], lambda n: [f'png:{n}'])])
@pytest.mark.parametrize('groups', [None, 2])
def test_images_of_each_kind_in_rows(tmp_path, kind, cell, groups):
  write(tmp_path, kind, [cell(name) for name in NAMES], groups)
  assert [shown(tmp_path, r) for r in read(tmp_path)] == [[n] for n in NAMES]


def test_lists_of_different_length(tmp_path):
  write(tmp_path, ['image'], [
      [{'bytes': 'png:red', 'path': None}], None, [],
      [{'bytes': 'png:blue', 'path': None}, {'bytes': 'png:red',
                                             'path': None}]], 2)
  assert [shown(tmp_path, r) for r in read(tmp_path, optional=True)] == [
      ['red'], [], [], ['blue', 'red']]
  with pytest.raises(ValueError, match='a.parquet:2: no image'):
    read(tmp_path)


def test_a_path_where_there_are_no_bytes(tmp_path):
  (tmp_path / 'x').mkdir()
  (tmp_path / 'x/a.png').write_bytes(build.png('blue'))
  write(tmp_path, 'image', [{'bytes': None, 'path': 'x/a.png'},
                            {'bytes': None, 'path': '../a.png'},
                            {'bytes': None, 'path': None}])
  records = read(tmp_path)
  assert shown(tmp_path, records[0]) == ['blue']
  for record, words in zip(records[1:], ('outside', "expected bytes, or a")):
    with pytest.raises(ValueError, match=words):
      load(tmp_path, record.media[0])


def test_bytes_are_not_read_to_list_rows(tmp_path):
  write(tmp_path, 'image', [{'bytes': 'png:red', 'path': None}])
  table = parquet._open(tmp_path / 'a.parquet')
  assert parquet._leaves(table) == ['question', 'image.path']
  row, = parquet.rows(tmp_path, 'a.parquet')
  assert row.values == {'question': 'q0', 'image': {'path': None}}


def test_a_file_that_changes_is_read_again(tmp_path):
  write(tmp_path, 'binary', ['png:red'])
  record, = read(tmp_path)
  assert shown(tmp_path, record) == ['red']
  write(tmp_path, 'binary', ['png:blue'])
  assert shown(tmp_path, record) == ['blue']


@pytest.mark.parametrize('options, words', [
    (dict(column='image', row=7), 'has rows 0 to 0, not 7'),
    (dict(column='image', row=-1), 'not -1'),
    (dict(column='image', row=0, index=3), "expected bytes"),
    (dict(column='image', row=0), 'image')])
def test_options_and_bytes_that_are_no_image(tmp_path, options, words):
  write(tmp_path, ['binary'], [[b'no image']])
  with pytest.raises(ValueError, match=words):
    parquet.load_image('a.parquet', tmp_path, **options)


def test_an_unknown_column(tmp_path):
  write(tmp_path, 'binary', ['png:red'])
  with pytest.raises(ValueError, match='parquet'):
    parquet.load_image('a.parquet', tmp_path, column='imag', row=0)


@pytest.mark.parametrize('content', [b'', b'PAR1', b'no parquet' * 9])
def test_what_is_no_parquet(tmp_path, content):
  (tmp_path / 'a.parquet').write_bytes(content)
  with pytest.raises(ValueError, match='cannot be read as parquet'):
    read(tmp_path)


def test_damage_inside(tmp_path):
  write(tmp_path, 'binary', ['png:red'] * 200)
  path = tmp_path / 'a.parquet'
  data = bytearray(path.read_bytes())
  data[20:400] = bytes(380)
  path.write_bytes(data)
  with pytest.raises(ValueError, match='a.parquet.* read as parquet'):
    for record in read(tmp_path):
      load(tmp_path, record.media[0])


def test_the_package_to_install_is_named(tmp_path, monkeypatch):
  write(tmp_path, 'binary', ['png:red'])
  monkeypatch.setitem(sys.modules, 'pyarrow', None)
  with pytest.raises(ImportError, match='requirements-readers.txt'):
    read(tmp_path)


def test_numpy_never_unpickles():
  """No reader of sets runs or unpickles what it reads."""
  for name in ('cells', 'encodings', 'fields', 'gold', 'parquet', 'reading',
               'sharegpt', 'swift', 'tabular', 'tsv', 'verl'):
    module = sys.modules.get(f'medrl.data.{name}') or lookup.resolve(
        f'medrl.data.{name}')
    text = open(module.__file__, encoding='utf-8').read()
    for word in (' eval(', ' exec(', 'pickle', 'yaml', 'allow_pickle'):
      assert word not in text.replace('unpickle', ''), (name, word)
  assert np is not None
