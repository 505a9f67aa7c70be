"""Tables for `parse.boxes`, and frames converted to pixels."""

import json
import pathlib

import pytest

from medrl.rewards.parse import boxes
from tests.rewards.parse import cases_boxes as cases
from tests.rewards.parse import readings

SHARED = pathlib.Path(__file__).parents[4] / 'shared' / 'data'


@pytest.mark.parametrize('text, frame, expected, why', cases.BOXES)
def test_boxes(text, frame, expected, why):
  assert readings.value(boxes.boxes(text, frame), text) == expected, why


@pytest.mark.parametrize('text, expected, why', cases.LABELLED)
def test_labelled(text, expected, why):
  assert readings.value(boxes.labelled(text), text) == expected, why


@pytest.mark.parametrize('text, expected', [
    ('[[1,2,3,4]]', (1, 2, 3, 4)), ('[1,2,3,4] [1,2,3,4]', (1, 2, 3, 4)),
    ('[1,2,3,4] [1,2,3,5]', None), ('[]', None)])
def test_box_is_the_only_one(text, expected):
  assert readings.value(boxes.box(text), text) == expected


def test_first_and_last():
  text = '[1,2,3,4] [1,2,3,5]'
  assert boxes.box(text, which='first').value == (1, 2, 3, 4)
  assert boxes.box(text, which='last').value == (1, 2, 3, 5)
  assert boxes.box(text + ' [5,1,1,1]', which='first') is None


@pytest.mark.parametrize('frame, text', [
    ('pixel', '[32, 120, 160, 240]'), ('unit', '[0.1, 0.5, 0.5, 1]'),
    ('999', '[99.9, 499.5, 499.5, 999]'), ('1000', '[100, 500, 500, 1000]'),
    ('224', '[22.4, 112, 112, 224]')])
def test_frames_convert_to_pixels(frame, text):
  found = boxes.box(text, frame, size=(320, 240))
  assert found.value == pytest.approx((32, 120, 160, 240))


def test_an_unknown_frame_is_an_error():
  with pytest.raises(ValueError, match="frame '512'"):
    boxes.boxes('[]', '512')


def test_real_boxes_in_every_form():
  path = SHARED / 'bccd' / 'annotations.jsonl'
  if not path.exists():
    pytest.skip('bccd is not on this machine')
  rows = [json.loads(line) for line in path.read_text().splitlines()][:50]
  for row in rows:
    objects = [(o['label'], tuple(o['box'])) for o in row['objects']
               if o['box'][0] < o['box'][2] and o['box'][1] < o['box'][3]]
    corners = [list(box) for _, box in objects]
    tokens = ''.join('<|box_start|>({},{}),({},{})<|box_end|>'.format(*c)
                     for c in corners)
    for form in (str(corners), f'<box>{corners}</box>', tokens):
      assert boxes.boxes(form).value == tuple(map(tuple, corners))
    form = json.dumps([{'bbox_2d': b, 'label': n} for n, b in objects])
    assert boxes.labelled(form).value == tuple(objects)
    form = ' '.join(f'<ref>{n}</ref><box>[{list(b)}]</box>' for n, b in objects)
    assert boxes.labelled(form).value == tuple(objects)
