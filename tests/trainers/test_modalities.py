"""Films, a volume, a loop, an ECG and text in one stream of batches."""

import collections
import pathlib

import pytest

from medrl import build
from medrl.data import inspect
from medrl.trainers import grpo
from tests.trainers import real_kinds
from tests.trainers import small

for _package in ('nibabel', 'pydicom', 'wfdb'):
  pytest.importorskip(_package)

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
real = pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')


def config(**changed):
  c = small.config(
      data__root=str(DATA), data__buckets=((320, 640),), rl__steps=2,
      processor__max_pixels=112 * 112, rollout__prompts=10,
      data__on_bad='skip', **changed)
  c.data.mixture = {name: {**part, 'weight': 1.} for name, part
                    in real_kinds.PARTS.items()}
  # Parts of one file are told apart by what is read of it, not by the file.
  c.data.overlap = dict(action='refuse', checks=('subject', 'text'))
  c.eval.options = {'film': {'limit': 2}, 'text': {'limit': 2}}
  return c


@real
def test_a_run_on_real_files_of_every_kind(tmp_path):
  c = config()
  grpo.train(c, tmp_path)
  lines = small.logged(tmp_path)
  assert lines[2]['data/seen'] == 20
  assert not any(name.startswith('data/bad/') for name in lines[2])
  drawn = collections.Counter()
  run = build.run(c, tmp_path)
  from medrl import feed
  sources = feed.training(c)
  assert {s.name for s in sources} == set(real_kinds.PARTS)
  encode = build.encoder(run)
  for source in sources:
    example = encode(source.records[0], source.root)
    drawn[source.name] = len(example.media.get('image', ((),))[0])
  # Patches in rows of a window: a film 64, a strip, four slices, four frames.
  assert drawn['text'] == 0 and drawn['film'] == 64
  assert drawn['volume'] >= 3 * 16 and drawn['cine'] >= 2 * 16
  assert drawn['ecg'] >= 16


@real
def test_its_contact_sheet(tmp_path, capsys):
  import json
  code = inspect.main([
      'medrl.data.joined.records', '--root', str(DATA), '--options',
      json.dumps({'parts': real_kinds.PARTS}), '--split', 'train',
      '--limit', '12', '--opened', '12', '--out', str(tmp_path)])
  assert code == 0
  shown = capsys.readouterr().out
  for task in ('plane', 'frames', 'rate'):
    assert task in shown
  sheet, = tmp_path.glob('*.html')
  assert sheet.read_text().count('<img') >= 12
