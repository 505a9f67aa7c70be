import base64
import csv
import logging
import pickle

import numpy as np
import pytest

from medrl import lookup
from medrl.data import tsv
from tests.records import build

IMAGES = {name: base64.b64encode(build.png(name)).decode()
          for name in ('red', 'green', 'blue')}
COLOURS = {'red': (255, 0, 0), 'green': (0, 128, 0), 'blue': (0, 0, 255)}


def write(root, *rows):
  with (root / 'a.tsv').open('w', newline='', encoding='utf-8-sig') as stream:
    csv.writer(stream, delimiter='\t').writerows(rows)   # ends lines in \r\n


def read(root, fields=(), **options):
  return list(tsv.records(root, 'test', file={'test': 'a.tsv'}, fields=fields,
                          **options))


def colours(root, record):
  found = []
  for medium in pickle.loads(pickle.dumps(record.media)):
    pixels = lookup.resolve(medium.loader)(medium.path, root, **medium.options)
    found += [n for n, c in COLOURS.items() if np.array_equal(pixels[0, 0], c)]
  return found


def test_images_by_index_and_in_lists(tmp_path):
  """References go forwards, backwards and to lists, past quoted line ends."""
  write(tmp_path, ['index', 'question', 'image'],
        [0, 'one\nline\t"more"', IMAGES['red']], [1, 'é\u2028x', '2'],
        [2, 'q', repr([IMAGES['green'], IMAGES['blue']])], [3, 'q', '0'],
        [4, 'q', f'["{IMAGES["blue"]}"]'])
  found = read(tmp_path)
  assert [colours(tmp_path, record) for record in found] == [
      ['red'], ['green', 'blue'], ['green', 'blue'], ['red'], ['blue']]
  assert [r.question for r in found[:2]] == ['one\nline\t"more"', 'é\u2028x']


def test_columns_say_the_field_map():
  assert tsv.defaults(['index', 'image', 'question', 'A', 'B', 'answer']) == {
      'id': 'index', 'question': 'question', 'meta': [],
      'options': {'columns': '{}'}, 'answer': 'answer',
      'images': {'column': 'image', 'kind': 'base64'}}
  assert tsv.defaults(['index', 'image_path', 'hint', 'question', 'category',
                       'l2-category', 'split', 'patient_id']) == {
      'id': 'index', 'question': '{hint}\n{question}', 'task': 'category',
      'images': 'image_path', 'meta': ['category', 'l2-category']}


def test_a_test_split_without_answers(tmp_path):
  write(tmp_path, ['index', 'question', 'image', 'A', 'B'],
        [0, 'q', IMAGES['red'], 'x', 'y'])
  record, = read(tmp_path)
  assert record.answer is None and record.answer_type == 'choice'


def test_two_columns_of_images(tmp_path):
  """MedQ-Bench's pairs."""
  write(tmp_path, ['index', 'question', 'image_a', 'image_b'],
        [0, 'q', IMAGES['red'], IMAGES['blue']])
  record, = read(tmp_path, {'images': {'columns': ['image_a', 'image_b'],
                                       'kind': 'base64'}, 'meta': []})
  assert colours(tmp_path, record) == ['red', 'blue']


def test_rows_without_an_image_are_counted(tmp_path, caplog):
  write(tmp_path, ['index', 'question', 'image'], [0, 'q', ''], [1, 'q', '7'],
        [2, 'q', IMAGES['red']], [3, 'q'], [4, '', IMAGES['red']])
  with caplog.at_level(logging.WARNING):
    found = read(tmp_path, on_bad='skip')
  assert [record.id for record in found] == ['2']
  for reason in ('1 no image', '1 image of no row', '1 row of another length',
                 '1 no question'):
    assert reason in caplog.text


@pytest.mark.parametrize('image, words', [
    ('x' * 100, 'is read'), ('?' * 100, 'no base64'),
    (base64.b64encode(build.bomb()).decode(), 'pixels'),
    ('A' * 5_000_000, 'is read')])
def test_what_is_no_image(tmp_path, image, words):
  write(tmp_path, ['index', 'question', 'image'], [0, 'q', image])
  medium = read(tmp_path)[0].media[0]
  with pytest.raises(ValueError, match=words) as caught:
    lookup.resolve(medium.loader)(medium.path, tmp_path, **medium.options)
  assert 'a.tsv' in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize('options', [
    dict(offset=0, length=5, column=2), dict(offset=10**9, length=5, column=2),
    dict(offset=28, length=10**6, column=9),
    dict(offset=28, length=10**6, column=2, index=3)])
def test_options_that_name_no_image(tmp_path, options):
  write(tmp_path, ['index', 'question', 'image'], [0, 'q', IMAGES['red']])
  with pytest.raises(ValueError, match='a.tsv'):
    tsv.load_image('a.tsv', tmp_path, **options)


def test_an_empty_file(tmp_path):
  (tmp_path / 'a.tsv').write_text('')
  with pytest.raises(ValueError, match='names in the first line'):
    read(tmp_path)
