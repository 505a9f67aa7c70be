"""Every miniature of a published layout reads as its `layout.json` says."""

import json
import logging
import pickle

from PIL import Image
import numpy as np
import pytest

from medrl import lookup
from tests.records import build


@pytest.mark.parametrize('name', build.LAYOUTS)
def test_layout(name, tmp_path, caplog):
  layout = build.make(name, tmp_path)
  read = lookup.resolve(layout['reader'] + '.records')
  with caplog.at_level(logging.WARNING):
    found = list(read(tmp_path, layout['split'], **layout['options']))
  assert len(found) == len(layout['expect'])
  for record, expected in zip(found, layout['expect']):
    seen = {part: getattr(record, part) for part in expected
            if part not in ('media', 'colour')}
    # Through JSON, as tuples are lists there.
    assert json.loads(json.dumps(seen)) == {
        part: expected[part] for part in seen}
    assert len(record.media) == expected.get('media', len(record.media))
    loaded = [lookup.resolve(m.loader)(m.path, tmp_path, **m.options)
              for m in pickle.loads(pickle.dumps(record.media))
              if not m.path.endswith(('.mp4', '.hea'))]
    for medium in loaded:
      assert medium.shape == (12, 16, 3) and medium.dtype == np.uint8
    if 'colour' in expected:
      assert (loaded[0] == expected['colour']).all()
  known = layout['options'].get('fields', {}).get('verified', True)
  assert ('known from a description' in caplog.text) == (not known)


def test_ecg_as_a_signal(tmp_path):
  layout = build.make('ecg_r1', tmp_path)
  layout['options']['ecg'] = {'format': layout['options']['ecg'],
                              'options': {'as_signal': True}}
  read = lookup.resolve(layout['reader'] + '.records')
  medium = list(read(tmp_path, 'train', **layout['options']))[1].media[0]
  signal = lookup.resolve(medium.loader)(medium.path, tmp_path,
                                         **medium.options)
  assert signal.leads == ('I', 'II') and signal.rate == 500
  assert signal.values[0, 3] == pytest.approx(.006)   # 1000 units a mV


@pytest.mark.parametrize('name', build.LAYOUTS)
def test_a_source_or_a_warning_stands_beside_each(name):
  folder = build.FOLDER / name
  text = (folder / 'README.md').read_text()
  layout = json.loads((folder / 'layout.json').read_text('utf-8'))
  if layout['options'].get('fields', {}).get('verified', True):
    for word in '- repository: ', '- commit: ', 'path':
      assert word in text
  else:
    assert '- verified: no' in text


def test_images_are_lazy(tmp_path):
  """Records are made without opening an image."""
  layout = build.make('llava', tmp_path)
  for path in layout['images']:
    (tmp_path / path).write_bytes(b'no image')
  read = lookup.resolve(layout['reader'] + '.records')
  record = next(read(tmp_path, 'train', **layout['options']))
  medium = record.media[0]
  with pytest.raises(ValueError, match='image'):
    lookup.resolve(medium.loader)(medium.path, tmp_path, **medium.options)


def test_pixels_are_those_that_pillow_reads(tmp_path):
  layout = build.make('vqa_rad', tmp_path)
  noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
  Image.fromarray(noise).save(tmp_path / 'noise.png')
  content = {'schema': {'image': 'image', 'question': 'string',
                        'answer': 'string'},
             'rows': [{'image': {'bytes': (tmp_path / 'noise.png').read_bytes(),
                                 'path': None},
                       'question': 'q', 'answer': 'yes'}]}
  build.table(tmp_path / 'data' / 'test-00000-of-00001.parquet', content)
  read = lookup.resolve(layout['reader'] + '.records')
  medium = next(read(tmp_path, 'test', **layout['options'])).media[0]
  loaded = lookup.resolve(medium.loader)(medium.path, tmp_path,
                                         **medium.options)
  assert (loaded == noise).all()
