import base64
import json

import pytest

from medrl.data import swift
from medrl.data import tabular
from tests.records import build


def read(root, row, **options):
  (root / 'a.jsonl').write_text(json.dumps(row) + '\n')
  record, = swift.records(root, 'train', file={'train': 'a.jsonl'}, **options)
  return record


def row(text, reply='ok', **more):
  return dict(messages=[dict(role='user', content=text),
                        dict(role='assistant', content=reply)], **more)


@pytest.mark.parametrize('images', [
    'a.png', ['a.png'], [{'path': 'a.png'}],
    [{'path': 'a.png', 'bytes': None}]])
def test_images_as_text_list_or_dicts(tmp_path, images):
  record = read(tmp_path, row('<image>q', images=images))
  assert [m.path for m in record.media] == ['a.png']


def test_an_image_in_the_row(tmp_path):
  image = 'data:image/png;base64,' + base64.b64encode(
      build.png('red')).decode()
  medium = read(tmp_path, row('<image>q', images=[image])).media[0]
  assert medium.loader == 'medrl.data.tabular.load_image'
  assert tabular.load_image(medium.path, tmp_path, **medium.options)[0, 0, 0]


def test_signals_videos_and_images_in_their_order(tmp_path):
  record = read(tmp_path, row(
      '<video><ecg><image>q', images=['a.png'], videos=['v.mp4'],
      objects={'ecg': ['x/1']}), ecg='ecgs/{}.hea')
  assert [m.path for m in record.media] == ['v.mp4', 'ecgs/x/1.hea', 'a.png']


@pytest.mark.parametrize('text, objects', [
    ('<ecg><image>q', {}), ('<image>q', {'ecg': ['1']}), ('<ecg>q', None)])
def test_what_is_missing_must_be_missing_in_the_text(tmp_path, text, objects):
  with pytest.raises(ValueError, match='placeholders and media differ'):
    read(tmp_path, row(text, images=['a.png'], objects=objects))


def test_names_and_boxes_fill_the_text_in_order(tmp_path):
  record = read(tmp_path, row(
      'Where are <ref-object> and <ref-object>?', '<bbox>, <bbox>',
      objects={'ref': ['a', 'b'], 'bbox': [[1, 2, 3, 4], [5.5, 6, 7, 8]]}))
  assert record.question == 'Where are a and b?'
  assert record.answer == '[1, 2, 3, 4], [5.5, 6, 7, 8]'


@pytest.mark.parametrize('objects', [
    {'ref': ['a']}, {'ref': ['a', 'b'], 'bbox': [[1]]}, {'ref': ['a'] * 3}])
def test_as_many_objects_as_places(tmp_path, objects):
  with pytest.raises(ValueError, match='objects and places differ'):
    read(tmp_path, row('<ref-object> <ref-object>', objects=objects))


def test_labels_in_the_tag_of_a_solution(tmp_path):
  record = read(tmp_path, row('q', solution='<|answer|>a; b<|/answer|> more'),
                fields=dict(answer={'column': 'solution', 'tag': 'answer'},
                            answer_type='labels'))
  assert record.answer == ['a', 'b']
