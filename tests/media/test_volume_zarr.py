"""Zarr and OME-Zarr written by TensorStore, what a read costs, and damage."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorstore

from medrl.media import files
from medrl.media import volume
from medrl.media import volume_files

RNG = np.random.default_rng(0)
ARRAY = RNG.integers(-999, 999, (9, 10, 11)).astype(np.int16)
ROOT = pathlib.Path(__file__).parents[2]


def create(folder, shape, chunks, version=3, dtype='int16', shard=None,
           names=None):
  """A Zarr array of `version`, uncompressed, with nothing written."""
  if version == 2:
    metadata = {'shape': shape, 'chunks': chunks, 'compressor': None,
                'dtype': np.dtype(dtype).str}
  else:
    plain = {'name': 'bytes', 'configuration': {'endian': 'little'}}
    sharding = {'name': 'sharding_indexed', 'configuration': {
        'chunk_shape': chunks, 'codecs': [plain],
        'index_codecs': [plain, {'name': 'crc32c'}]}}
    metadata = {'shape': shape, 'data_type': dtype,
                'chunk_grid': {'name': 'regular', 'configuration': {
                    'chunk_shape': shard or chunks}},
                'codecs': [sharding if shard else plain]}
    metadata |= {'dimension_names': names} if names else {}
  return tensorstore.open({
      'driver': 'zarr' if version == 2 else 'zarr3',
      'kvstore': {'driver': 'file', 'path': f'{folder}/'},
      'metadata': metadata, 'create': True}).result()


def write(folder, array, **options):
  chunks = options.pop('chunks', [4, 5, 6])
  store = create(folder, list(array.shape), chunks, dtype=array.dtype.name,
                 **options)
  store.write(array).result()


def load(root, name='a.zarr', **options):
  return volume_files.open_volume(name, str(root),
                                  volume_files.Opening(**options))


def bytes_read():
  found = tensorstore.experimental_collect_matching_metrics(
      '/tensorstore/kvstore/file/bytes_read')
  return found[0]['values'][0]['value'] if found else 0


@pytest.mark.parametrize('options', [
    {'version': 2}, {'version': 3},
    {'version': 3, 'shard': [8, 10, 12], 'chunks': [4, 5, 6]}])
def test_versions(tmp_path, options):
  write(tmp_path / 'a.zarr', ARRAY, **options)
  opened = load(tmp_path, spacing=(3., 2., 2.))
  assert opened.shape == (9, 10, 11) and opened.orientation == 'SPL'
  assert opened.spacing == (3., 2., 2.)
  np.testing.assert_array_equal(opened.read(), ARRAY)
  for _ in range(20):
    box = [np.sort(RNG.integers(0, n, 3)) for n in ARRAY.shape]
    np.testing.assert_array_equal(opened.read(box), ARRAY[np.ix_(*box)])
  np.testing.assert_array_equal(volume.canonical(opened).read(),
                                ARRAY.transpose(2, 1, 0)[::-1, ::-1])


def test_names_of_dimensions_and_axes(tmp_path):
  write(tmp_path / 'a.zarr', ARRAY, names=['x', 'y', 'z'])
  assert load(tmp_path).orientation == 'LPS'
  assert load(tmp_path, axes='RAS').orientation == 'RAS'
  write(tmp_path / 'b.zarr', ARRAY, names=['a', 'y', 'z'])
  assert load(tmp_path, 'b.zarr').orientation == 'SPL'


def pyramid(folder, version, axes, sizes, scales, shared=()):
  """Levels 0, 1, .. below a group; level i is full of i."""
  levels = []
  for i, (size, scale) in enumerate(zip(sizes, scales)):
    store = create(folder / f's{i}', size, [2] * len(size),
                   version=2 if version < '0.5' else 3)
    store.write(np.full(size, i, np.int16)).result()
    levels.append({'path': f's{i}', 'coordinateTransformations': [
        {'type': 'scale', 'scale': scale},
        {'type': 'translation', 'translation': [.5] * len(scale)}]})
  scales = [{'type': 'scale', 'scale': shared}] if shared else []
  found = {'multiscales': [{'version': version, 'axes': axes,
                            'datasets': levels,
                            'coordinateTransformations': scales}]}
  if version < '0.5':
    (folder / '.zgroup').write_text('{"zarr_format": 2}')
    (folder / '.zattrs').write_text(json.dumps(found))
  else:
    (folder / 'zarr.json').write_text(json.dumps({
        'zarr_format': 3, 'node_type': 'group', 'attributes': {'ome': found}}))


def space(name, unit='millimeter', **more):
  return {'name': name, 'type': 'space', 'unit': unit, **more}


@pytest.mark.parametrize('version', ['0.4', '0.5'])
def test_pyramid(tmp_path, version):
  axes = [{'name': 't', 'type': 'time', 'unit': 'millisecond'},
          {'name': 'c', 'type': 'channel'}, space('z', 'micrometer'),
          space('y'), space('x')]
  pyramid(tmp_path / 'a.zarr', version, axes,
          [[3, 2, 4, 8, 6], [3, 2, 2, 4, 3]],
          [[1, 1, 2500, .5, .5], [1, 1, 5000, 1, 1]], [40, 1, 1, 1, 1])
  opened = load(tmp_path)
  assert opened.shape == (4, 8, 6) and opened.orientation == 'SPL'
  np.testing.assert_allclose(opened.spacing, (2.5, .5, .5))
  np.testing.assert_allclose(opened.times, (0., .04, .08))
  assert not opened.read(time=2).any()
  for options in ({'level': 1}, {'min_side': 3}, {'min_side': 1}):
    coarse = load(tmp_path, channel=1, **options)
    assert coarse.shape == (2, 4, 3) and (coarse.read(time=0) == 1).all()
    np.testing.assert_allclose(coarse.spacing, (5, 1, 1))
  for options in ({'min_side': 4}, {'min_side': 99}, {'level': 0}):
    assert load(tmp_path, **options).shape == (4, 8, 6)
  with pytest.raises(ValueError, match='level 2 is none of its 2 levels'):
    load(tmp_path, level=2)


def test_older_and_newer_axes(tmp_path):
  pyramid(tmp_path / 'a.zarr', '0.3', ['x', 'y', 'z'], [[4, 5, 6]], [[1, 1, 2]])
  assert load(tmp_path).orientation == 'LPS'
  pyramid(tmp_path / 'b.zarr', '0.2', None, [[1, 1, 4, 5, 6]], [[1] * 5])
  assert load(tmp_path, 'b.zarr').shape == (4, 5, 6)
  turned = [space(name, orientation={'type': 'anatomical', 'value': value})
            for name, value in (('z', 'superior-to-inferior'),
                                ('y', 'posterior-to-anterior'),
                                ('x', 'left-to-right'))]
  pyramid(tmp_path / 'c.zarr', '0.5', turned, [[4, 5, 6]], [[1, 1, 1]])
  assert load(tmp_path, 'c.zarr').orientation == 'IAR'


def test_each_chunk_is_read_once(tmp_path):
  array = np.ones((64, 32, 32), np.int16)
  write(tmp_path / 'a.zarr', array, chunks=[8, 16, 16])
  opened = volume.canonical(load(tmp_path))
  before = bytes_read()
  # Slices 1 to 7 lie in one layer of chunks, 40 in another.
  volume.planes(opened, 'axial', [1, 40, 7, 3, 1])
  assert bytes_read() - before == 2 * 8 * 32 * 32 * 2
  before = bytes_read()
  opened.read((3, 4, 5))
  assert bytes_read() - before == 8 * 16 * 16 * 2


def test_missing_chunks_are_the_fill_value(tmp_path):
  create(tmp_path / 'a.zarr', [4, 4, 4], [2, 2, 2])
  assert not load(tmp_path).read().any()


@pytest.mark.parametrize('version', [2, 3])
def test_nothing_outside_the_root_is_opened(tmp_path, version):
  root = tmp_path / 'root'
  root.mkdir()
  write(tmp_path / 'out.zarr', ARRAY, version=version)
  chunk = '0.0.0' if version == 2 else 'c/0/0/0'
  for name, inside in (('a', chunk), ('b', chunk.partition('/')[0])):
    write(root / f'{name}.zarr', ARRAY, version=version)
    target = root / f'{name}.zarr' / inside
    moved = tmp_path / f'{name} of {version}'
    target.rename(moved)
    target.symlink_to(moved)
    with pytest.raises(files.Undecodable, match='out of the data root'):
      load(root, f'{name}.zarr')
  (root / 'c.zarr').symlink_to(tmp_path / 'out.zarr')
  with pytest.raises(files.OutsideRoot):
    load(root, 'c.zarr')
  # Links that stay inside are followed.
  write(root / 'd.zarr', ARRAY, version=version)
  target = root / 'd.zarr' / chunk
  target.rename(root / 'elsewhere')
  target.symlink_to(root / 'elsewhere')
  np.testing.assert_array_equal(load(root, 'd.zarr').read(), ARRAY)


@pytest.mark.parametrize('path', ['../out.zarr', 'gone', '/etc', ['s0'], ''])
def test_levels_outside_the_root(tmp_path, path):
  root = tmp_path / 'root'
  write(tmp_path / 'out.zarr', ARRAY)
  pyramid(root / 'a.zarr', '0.5', ['z', 'y', 'x'], [[4, 5, 6]], [[1, 1, 1]])
  metadata = root / 'a.zarr' / 'zarr.json'
  metadata.write_text(metadata.read_text().replace('"s0"', json.dumps(
      path.replace('..', '../..') if isinstance(path, str) else path)))
  with pytest.raises(files.Undecodable):
    load(root).read()


def change_metadata(folder, **changes):
  name = folder / '.zarray'
  name.write_text(json.dumps(json.loads(name.read_text()) | changes))


def damaged_by(kind, folder):
  chunk, metadata = folder / '0.0.0', folder / '.zarray'
  if kind == 'pipe':
    chunk.unlink()
    os.mkfifo(chunk)
  elif kind == 'short':
    chunk.write_bytes(chunk.read_bytes()[:-1])
  elif kind == 'long':
    os.truncate(chunk, 1 << 40)   # sparse
  elif kind == 'packed':
    change_metadata(folder, compressor={'id': 'zlib', 'level': 1})
  elif kind == 'chunks':
    change_metadata(folder, chunks=[1 << 16] * 3)
  elif kind == 'shape':
    change_metadata(folder, shape=[1 << 40] * 3)
  elif kind == 'long shape':
    change_metadata(folder, shape=[1 << 20, 10, 11], chunks=[1, 10, 11])
  elif kind == 'type':
    change_metadata(folder, dtype='<c8')
  elif kind == 'rank':
    change_metadata(folder, shape=[9, 10], chunks=[4, 5])
  elif kind == 'deep':
    metadata.write_text('[' * 100_000)
  elif kind == 'list':
    metadata.write_text('[]')
  elif kind == 'attributes':
    (folder / '.zattrs').write_text('{"multiscales": 3}')
  elif kind == 'none':
    metadata.unlink()


@pytest.mark.parametrize('kind', [
    'pipe', 'short', 'long', 'packed', 'chunks', 'shape',
    'long shape', 'type', 'rank', 'deep', 'list', 'attributes', 'none'])
def test_damage_is_one_clear_error(tmp_path, kind):
  write(tmp_path / 'a.zarr', ARRAY, version=2)
  damaged_by(kind, tmp_path / 'a.zarr')
  with pytest.raises(files.Undecodable, match='a.zarr.* as a Zarr volume'):
    load(tmp_path).read()


@pytest.fixture
def large(tmp_path):
  """A folder that is emptied at once; pytest keeps those of three runs."""
  yield tmp_path
  shutil.rmtree(tmp_path / 'a.zarr')


# Loads 16 slices in a fresh process; prints the bytes that TensorStore read
# and the growth of the peak of resident memory, which is of this process alone
# (that of getrusage starts with the parent's).
MEASURED = '''
import json, sys
import tensorstore
from medrl.media import slices, volume_zarr

def memory(name):
  with open('/proc/self/status') as lines:
    return next(int(l.split()[1]) << 10 for l in lines if l.startswith(name))

before = memory('VmRSS')
images = slices.load('a.zarr', sys.argv[1], **json.loads(sys.argv[2]))
peak = memory('VmHWM')
read = tensorstore.experimental_collect_matching_metrics(
    '/tensorstore/kvstore/file/bytes_read')[0]['values'][0]['value']
print(json.dumps({'slices': len(images), 'read': read, 'grown': peak - before,
                  'jax': 'jax' in sys.modules}))
'''


def measure(root, **options):
  stored = sum(f.stat().st_size for f in root.rglob('*') if f.is_file())
  done = subprocess.run(
      [sys.executable, '-c', MEASURED, str(root), json.dumps(options)],
      capture_output=True, text=True, check=True, cwd=ROOT)
  found = json.loads(done.stdout)
  print(f'{stored / 2**20:.0f} MiB stored, {found["slices"]} slices: '
        f'{found["read"] / 2**20:.1f} MiB read ({found["read"] / stored:.2%}), '
        f'{found["grown"] / 2**20:.0f} MiB of memory')
  return stored, found


def fill(folder, shape, chunks, **options):
  """Noise in every chunk, uncompressed, so that stored bytes are all there."""
  store = create(folder, shape, chunks, dtype='uint16', **options)
  thick = (options.get('shard') or chunks)[0]
  noise = RNG.integers(0, 1 << 16, [thick, *shape[1:]], np.uint16)
  for z in range(0, shape[0], thick):
    noise[:, 0, 0] = z
    store[z:z + thick].write(noise).result()


@pytest.mark.skipif(not pathlib.Path('/proc/self/status').exists(),
                    reason='peak memory is read from /proc')
@pytest.mark.parametrize('options', [
    {'chunks': [2, 128, 128], 'version': 2},
    {'chunks': [2, 128, 128], 'shard': [64, 256, 256]}])
def test_cost_of_sixteen_slices(large, options):
  """256 MiB, as the full size below."""
  fill(large / 'a.zarr', [2048, 256, 256], **options)
  stored, found = measure(large, count=16)
  assert stored >= 256 << 20 and found['slices'] == 16
  assert found['read'] < .05 * stored
  assert found['grown'] < 100 << 20 and not found['jax']


@pytest.mark.slow
@pytest.mark.parametrize('options', [
    {'chunks': [1, 1024, 1024], 'version': 2},
    {'chunks': [4, 256, 256], 'version': 2},
    {'chunks': [4, 256, 256], 'shard': [64, 512, 512]}])
def test_cost_of_sixteen_slices_of_four_gibibytes(large, options):
  fill(large / 'a.zarr', [2048, 1024, 1024], **options)
  stored, found = measure(large, count=16)
  assert stored >= 4 << 30 and found['slices'] == 16
  assert found['read'] < .05 * stored
  assert found['grown'] < 300 << 20
