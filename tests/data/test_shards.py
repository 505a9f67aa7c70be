"""Packing and reading back, damage, and what a shard may not name."""

import dataclasses
import json
import pathlib
import pickle

import grain
import numpy as np
from PIL import Image
import pytest

from launch import pack_records
from medrl import types
from medrl.data import jsonl
from medrl.data import phantom
from medrl.data import shards
from medrl.media import files
from medrl.media import medium

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'


@pytest.fixture
def root(tmp_path):
  rng = np.random.default_rng(0)
  lines = []
  for i in range(7):
    picture = rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / f'{i}.png')
    lines.append({'id': f'r{i}', 'images': [f'{i}.png'] * (i % 3),
                  'question': 'Is it?', 'answer': 'yes', 'subject': f'p{i}',
                  'answer_type': 'yesno', 'meta': {'n': i}})
  (tmp_path / 'all.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  return tmp_path


def options(**more):
  return json.dumps({'file': 'all.jsonl', 'validation': 0, 'test': 0} | more)


def packed(root, per_shard=3):
  pack_records.main([
      'medrl.data.jsonl.records', f'--root={root}', f'--options={options()}',
      f'--out={root}/packed', f'--per_shard={per_shard}'])
  return shards.records(str(root), 'train', folder='packed')


def test_what_comes_back_is_what_went_in(root):
  found = packed(root)
  plain = jsonl.read(str(root), 'all.jsonl')
  assert len(found) == 7 and len(list(found)) == 7
  for a, b in zip(found, plain):
    assert dataclasses.replace(a, media=()) == dataclasses.replace(b, media=())
    assert len(a.media) == len(b.media)
    for x, y in zip(a.media, b.media):
      assert x.path.endswith('.arrayrecord')
      np.testing.assert_array_equal(
          shards.load(x.path, str(root), **x.options),
          medium.load(y.path, str(root)))
  # It travels to workers, and the files it came from are not needed.
  for picture in root.glob('*.png'):
    picture.unlink()
  again = pickle.loads(pickle.dumps(found))
  last = again[-1]
  assert last == found[6] and last.id == 'r6'
  with pytest.raises(IndexError):
    again[7]
  source = grain.MapDataset.source(again)
  assert [source[i].id for i in range(7)] == [f'r{i}' for i in range(7)]


def test_packing_goes_on_where_it_stopped(root, capsys):
  found = list(jsonl.read(str(root), 'all.jsonl'))
  folder = root / 'packed' / 'train'
  steps = shards.pack(found, str(root), folder, 3)
  next(steps)
  next(steps)   # stopped before the third
  assert not (folder / shards.INDEX).exists()
  with pytest.raises(FileNotFoundError):
    shards.records(str(root), 'train', folder='packed')
  (folder / '00002-of-00003.tmp').write_bytes(b'half')
  packed(root)
  assert capsys.readouterr().out.count('was there') == 2
  names = sorted(p.name for p in folder.iterdir())
  assert [n for n in names if n.endswith('.arrayrecord')] == [
      f'0000{i}-of-00003.arrayrecord' for i in range(3)]
  pack_records.main(['x', f'--out={root}/packed', '--verify'])
  assert '7 records' in capsys.readouterr().out


def test_other_records_do_not_mix(root):
  found = list(jsonl.read(str(root), 'all.jsonl'))
  next(shards.pack(found, str(root), root / 'packed', 3))
  with pytest.raises(ValueError, match='other records'):
    list(shards.pack(found[::-1], str(root), root / 'packed', 3))


def test_damage_is_found(root):
  packed(root, per_shard=7)
  path, = (root / 'packed' / 'train').glob('*.arrayrecord')
  data = bytearray(path.read_bytes())
  place = data.index(b'"r3"')
  data[place + 1] ^= 1
  path.write_bytes(data)
  found = shards.records(str(root), 'train', folder='packed')
  assert found[2].id == 'r2' and found[4].id == 'r4'
  with pytest.raises(files.Undecodable, match='hash mismatch'):
    found[3]
  with pytest.raises(ValueError, match='not as it was packed'):
    shards.records(str(root), 'train', folder='packed', verify=True)
  path.write_bytes(data[:-1])
  with pytest.raises(ValueError, match='not as it was packed'):
    shards.records(str(root), 'train', folder='packed')


@pytest.mark.parametrize('loader', ['os.system', 'medrl.lookup.resolve'])
def test_a_shard_names_no_other_code(root, loader):
  record = types.Record('r', '?', 'yes', 'yesno',
                        media=(types.Media('echo', loader),))
  with pytest.raises(ValueError, match='since it is data'):
    shards.encode(record, str(root))
  # Nor one that somebody else wrote.
  good = types.Record('r', '?', 'yes', 'yesno', media=(types.Media('0.png'),))
  data = shards.encode(good, str(root)).replace(
      b'medrl.media.medium.load', loader.ljust(23).encode())
  with pytest.raises(ValueError, match='since it is data'):
    shards._record(data, 'x', 0)


def test_what_is_drawn_stays_a_reference():
  record, = phantom.records('', 'train', count=1, tasks=('side',))
  found = shards._record(shards.encode(record, '.'), 'x', 0)
  assert found == dataclasses.replace(found, media=record.media)


def test_what_json_cannot_hold_is_told(root):
  record = types.Record('r', '?', 'yes', 'yesno', meta={'x': float('nan')})
  with pytest.raises(ValueError, match="'r' cannot be packed"):
    shards.encode(record, str(root))


@pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')
def test_dicom_is_embedded_and_a_series_is_not(tmp_path):
  pytest.importorskip('pydicom')
  film = types.Record('r', '?', 'yes', 'yesno', media=(
      types.Media('dicom/files/CT_small.dcm'),))
  data = shards.encode(film, str(DATA))
  assert len(data) > (DATA / 'dicom/files/CT_small.dcm').stat().st_size
  assert shards._record(data, 's', 4).media[0].options == {
      'record': 4, 'item': 0}
  series = sorted(p for p in (DATA / 'dicom/series').iterdir())[0]
  found = types.Record('r', '?', 'yes', 'yesno', media=(
      types.Media(f'dicom/series/{series.name}'),))
  assert len(shards.encode(found, str(DATA))) < 2000
