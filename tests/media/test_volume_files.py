"""NIfTI and .npy volumes against nibabel, the table of truth, and damage."""

import gzip
import io
import json
import os
import pathlib
import sys

import nibabel
import numpy as np
import pytest

from medrl.media import files
from medrl.media import volume
from medrl.media import volume_arrays
from medrl.media import volume_files

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'nifti'
ROWS = ([json.loads(line) for line in open(DATA / 'index.jsonl')]
        if (DATA / 'index.jsonl').exists() else [])
RNG = np.random.default_rng(0)
AFFINE = np.array([[-2., 0, 0, 30], [0, 3, 0, -40], [0, 0, 4, 5], [0, 0, 0, 1]])


def write(folder, array, name='a.nii', kind=nibabel.Nifti1Image, change=None):
  head = kind.header_class(endianness='>' if array.dtype.byteorder == '>'
                           else '<')
  image = kind(array, AFFINE, head, dtype=array.dtype)
  if change:
    change(image.header)
  nibabel.save(image, folder / name)
  return volume_files.open_volume(name, str(folder))


def open_npy(folder, array, **options):
  np.save(folder / 'a.npy', array)
  return volume_files.open_volume('a.npy', str(folder),
                                  volume_files.Opening(**options))


@pytest.mark.skipif(not ROWS, reason='shared/data/nifti is not here')
@pytest.mark.parametrize('row', ROWS, ids=lambda row: row['file'])
def test_table_of_truth(row):
  opened = volume_files.open_volume(row['file'], str(DATA))
  several = len(row['shape']) == 4
  assert [*opened.shape, len(opened.times)][:3 + several] == row['shape']
  np.testing.assert_allclose(opened.spacing, row['zooms'][:3], atol=6e-5)
  np.testing.assert_allclose(opened.affine, row['affine'], atol=6e-6)
  assert opened.orientation == row['axcodes']
  if several:
    assert opened.times[1] == row['zooms'][3]
  whole = opened.read(time=slice(None))
  figures = whole.min(), whole.max(), whole.mean(dtype=np.float64)
  np.testing.assert_allclose(figures, [row['min'], row['max'], row['mean']],
                             atol=6e-4)
  image = nibabel.load(DATA / row['file'])
  expected = np.asarray(image.dataobj).reshape(whole.shape)
  np.testing.assert_allclose(whole, expected, rtol=2e-7, atol=1e-5)
  rng = np.random.default_rng(1)
  for _ in range(3):   # lazy equals eager
    box = [np.sort(rng.integers(0, n, 4)) for n in whole.shape]
    np.testing.assert_array_equal(opened.read(box[:3], box[3]),
                                  whole[np.ix_(*box)])
  turned = volume.canonical(opened)
  truth = nibabel.as_closest_canonical(image)
  np.testing.assert_allclose(turned.affine, truth.affine)
  plane = [0, turned.shape[2] // 2]
  expected = np.asarray(truth.dataobj).reshape(*turned.shape, -1)
  np.testing.assert_allclose(
      turned.read((slice(None), slice(None), plane)), expected[:, :, plane, 0],
      rtol=2e-7, atol=1e-5)


@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz'])
@pytest.mark.parametrize('kind', [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize('dtype', [
    'u1', 'i2', '>i2', 'u2', '>f4', 'f8', 'i4', 'u8'])
def test_types_and_byte_orders(tmp_path, name, kind, dtype):
  array = (RNG.integers(0, 120, (5, 6, 7, 2)) - 3).astype(dtype)
  opened = write(tmp_path, array, name, kind)
  np.testing.assert_array_equal(opened.read(time=[0, 1]), array)
  assert opened.read().dtype == np.dtype(dtype).newbyteorder('=')
  data = (tmp_path / name).read_bytes()
  np.testing.assert_array_equal(
      volume_files.open_bytes(data, 'record 1').read((1, [2, 4], 3), 1),
      array[..., 1][np.ix_([1], [2, 4], [3])])


@pytest.mark.parametrize('stored, expected', [
    ('i2', 'f4'), ('u1', 'f4'), ('f4', 'f4'), ('i4', 'f8'), ('f8', 'f8')])
def test_slope_and_intercept(tmp_path, stored, expected):
  array = RNG.integers(0, 100, (4, 5, 6)).astype(stored)
  write(tmp_path, array)
  data = bytearray((tmp_path / 'a.nii').read_bytes())
  data[112:120] = np.array([1.5, -1024], '<f4').tobytes()
  (tmp_path / 'a.nii').write_bytes(data)
  got = volume_files.open_volume('a.nii', str(tmp_path)).read()
  assert got.dtype == expected
  np.testing.assert_array_equal(got, array * 1.5 - 1024)
  np.testing.assert_array_equal(
      got, nibabel.load(tmp_path / 'a.nii').get_fdata())


def test_colours(tmp_path):
  values = RNG.integers(0, 256, (4, 5, 6, 3), np.uint8)
  packed = np.ascontiguousarray(values).view(
      [('R', 'u1'), ('G', 'u1'), ('B', 'u1')])[..., 0]
  opened = write(tmp_path, packed, 'a.nii.gz')
  assert opened.colour
  np.testing.assert_array_equal(opened.read(), values)
  np.testing.assert_array_equal(opened.read((2, [1, 3], 4)),
                                values[2:3, [1, 3], 4:5])


@pytest.mark.parametrize('space, time, millimetres, second', [
    ('mm', 'sec', 1., .5), ('meter', 'msec', 1000., .0005),
    ('micron', 'usec', 1e-3, 5e-7), ('unknown', 'unknown', 1., 1.),
    ('mm', 'hz', 1., 1.)])
def test_units(tmp_path, space, time, millimetres, second):
  def change(header):
    header.set_xyzt_units(space, time)
    header['pixdim'][4] = .5
  opened = write(tmp_path, np.zeros((2, 2, 2, 3), np.uint8), change=change)
  np.testing.assert_allclose(opened.spacing, np.array([2, 3, 4]) * millimetres)
  np.testing.assert_allclose(opened.times, np.arange(3) * second)


@pytest.mark.parametrize('shape', [(5, 6), (5, 6, 1), (5, 6, 4, 1, 1)])
def test_fewer_and_more_dimensions(tmp_path, shape):
  array = RNG.integers(0, 9, shape).astype(np.uint8)
  opened = write(tmp_path, array)
  np.testing.assert_array_equal(opened.read(),
                                array.reshape((*shape, 1)[:3]))


class Counting(io.BytesIO):
  """Bytes that count how many of them are read."""

  def __init__(self, data, counts):
    super().__init__(data)
    self.counts = counts

  def read(self, size=-1):
    data = super().read(size)
    self.counts.append(len(data))
    return data


@pytest.mark.parametrize('indices', [
    ([3], slice(None), slice(None)), (slice(None), [3, 4, 9], slice(None)),
    (slice(None), slice(None), [3, 9]), (3, 4, slice(5, 7))])
def test_blocks_read_what_is_asked(indices):
  """Rows of a C-ordered array: whole rows of 64 bytes, and no others."""
  array = RNG.integers(0, 256, (10, 20, 64), np.uint8)
  counts = []
  taken = [np.atleast_1d(np.arange(n)[i]) for i, n in
           zip(indices, array.shape)]
  got = volume_arrays.read_blocks(Counting(b'head' + array.tobytes(), counts),
                                  4, array.dtype, array.shape, taken)
  np.testing.assert_array_equal(got, array[np.ix_(*taken)])
  assert sum(counts) == 64 * len(taken[0]) * len(taken[1])


def test_a_packed_volume_is_unpacked_as_far_as_needed(tmp_path, monkeypatch):
  array = RNG.integers(0, 256, (64, 64, 400), np.uint8)
  write(tmp_path, array, 'a.nii.gz')
  data, counts = (tmp_path / 'a.nii.gz').read_bytes(), []
  monkeypatch.setattr(volume_files.io, 'BytesIO',
                      lambda data: Counting(data, counts))
  opened = volume_files.open_bytes(data, 'record 1')
  np.testing.assert_array_equal(
      opened.read((slice(None), slice(None), [2, 39]))[..., 1], array[..., 39])
  assert sum(counts) < len(data) * .12 + 4 * 8192


def test_large_rows_are_read_in_blocks(monkeypatch):
  monkeypatch.setattr(volume_arrays, 'BLOCK_BYTES', 100)
  array = RNG.integers(0, 999, (3, 40, 16)).astype('>i2')
  counts = []
  indices = [np.arange(3), np.arange(40), np.array([1, 7])]
  got = volume_arrays.read_blocks(Counting(array.tobytes(), counts), 0,
                                  array.dtype, array.shape, indices)
  np.testing.assert_array_equal(got, array[:, :, [1, 7]])
  assert max(counts) <= 100


@pytest.mark.parametrize('axes, turn', [
    ('SPL', lambda a: a.transpose(2, 1, 0)[::-1, ::-1]),
    ('RAS', lambda a: a), ('LPS', lambda a: a[::-1, ::-1]),
    ('IRA', lambda a: a.transpose(1, 2, 0)[:, :, ::-1])])
@pytest.mark.parametrize('order', 'CF')
def test_npy_axes(tmp_path, axes, turn, order):
  array = np.asarray(RNG.integers(-99, 99, (4, 5, 6)), 'i2', order=order)
  opened = open_npy(tmp_path, array, axes=axes, spacing=(2., 3., 4.))
  assert opened.orientation == axes and opened.spacing == (2., 3., 4.)
  np.testing.assert_array_equal(opened.read(), array)
  np.testing.assert_array_equal(volume.canonical(opened).read(), turn(array))


def test_npy_defaults_time_and_channels(tmp_path):
  array = RNG.integers(0, 99, (3, 2, 4, 5, 6)).astype(np.float32)
  opened = open_npy(tmp_path, array, channel=1)
  assert opened.orientation == 'SPL' and opened.times == (0., 1., 2.)
  np.testing.assert_array_equal(opened.read(time=[2]),
                                array[2:, 1].transpose(1, 2, 3, 0))
  opened = open_npy(tmp_path, array[:, 0], spacing=(.04, 5., 1., 2.))
  assert opened.spacing == (5., 1., 2.) and opened.times == (0., .04, .08)
  colours = RNG.integers(0, 256, (4, 5, 6, 4), np.uint8)
  opened = open_npy(tmp_path, colours, axes='SPLC')
  assert opened.colour
  np.testing.assert_array_equal(opened.read((3, slice(None), 2)),
                                colours[3:, :, 2:3, :3])


def test_npy_sidecar(tmp_path):
  (tmp_path / 'a.json').write_text(
      '{"axes": "LAS", "spacing": [1, 2, 3], "Modality": "MR"}')
  array = np.zeros((4, 5, 6), np.uint8)
  opened = open_npy(tmp_path, array)
  assert opened.orientation == 'LAS' and opened.spacing == (1., 2., 3.)
  assert open_npy(tmp_path, array, axes='RAS').orientation == 'RAS'
  (tmp_path / 'a.json').unlink()
  outside = tmp_path.parent / f'{tmp_path.name}.json'
  outside.write_text('{"axes": "LAS"}')
  (tmp_path / 'a.json').symlink_to(outside)
  with pytest.raises(ValueError, match='outside'):
    open_npy(tmp_path, array)


@pytest.mark.parametrize('options, message', [
    ({'axes': 'SPLT'}, 'letter for each'), ({'axes': 'SSP'}, 'letter for each'),
    ({'axes': 'SPX'}, 'letter for each'), ({'spacing': (1., 2.)}, 'three'),
    ({'spacing': (1., 2., 0.)}, 'positive'), ({'spacing': ('a', 1, 1)}, 'posi'),
    ({'channel': 1}, 'channel 1 of 1'), ({'level': 0}, "level=0 is not one of"),
    ({'min_side': 9}, 'min_side=9'), ({'axes': 3}, 'no way to open'),
    ({'level': 'a'}, 'no way to open'), ({'level': -2}, 'no way to open')])
def test_npy_options(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    open_npy(tmp_path, np.zeros((4, 5, 6)), **options)


@pytest.mark.parametrize('array', [
    np.array([[[{}]]], object), np.zeros((2, 2, 2), complex),
    np.zeros((2, 2, 2), 'M8[s]'), np.zeros((2, 2, 2), [('a', 'u1')]),
    np.zeros((2, 2)), np.zeros((0, 2, 2)), np.array(3.)])
def test_npy_of_other_things(tmp_path, array):
  np.save(tmp_path / 'a.npy', array, allow_pickle=True)
  with pytest.raises(ValueError, match='cannot be read as a volume'):
    volume_files.open_volume('a.npy', str(tmp_path))


def header(**fields):
  made = nibabel.Nifti1Header()
  made.set_data_shape((4, 5, 6))
  made['vox_offset'], made['magic'] = 352, b'n+1'
  made['pixdim'][:4] = 1
  for name, value in fields.items():
    made[name] = value
  return made.binaryblock + bytes(4)


def lying(**fields):
  return header(**fields) + bytes(4 * 5 * 6 * 4)


@pytest.mark.parametrize('name, data', {
    'empty': b'', 'text': b'a volume', 'short': header()[:200],
    'no voxels': header(), 'cut': lying(datatype=16)[:-1],
    'pair': lying(magic=b'ni1'), 'datatype': lying(datatype=77),
    'complex': lying(datatype=32),
    'huge': lying(dim=[3] + [32767] * 3 + [1] * 4),
    'negative': lying(dim=[3, -4, 5, 6, 1, 1, 1, 1]),
    'vector': lying(dim=[5, 2, 2, 2, 1, 3, 1, 1]),
    'offset': lying(vox_offset=1e30), 'before': lying(vox_offset=-352),
    'nan offset': lying(vox_offset=np.nan),
    'singular': lying(sform_code=1, srow_x=[0, 0, 0, 0]),
    'nan affine': lying(sform_code=1, srow_x=[np.nan, 0, 0, 0]),
    'gzip of nothing': gzip.compress(b''), 'not gzip': b'\x1f\x8b' + bytes(50),
    'gzip cut': gzip.compress(lying(datatype=16))[:40],
    'gzip of less': gzip.compress(lying(datatype=16)[:-9]),
    'gzip that cannot hold it': gzip.compress(
        header(dim=[3, 4000, 4000, 4000, 1, 1, 1, 1])),
    'npy cut': b'\x93NUMPY\1\0\x76\0' + b"{'descr'",
    'npy of another version': b'\x93NUMPY\7\0\x76\0',
    'npy huge': b'\x93NUMPY\1\0\x50\0' + (
        b"{'descr':'|u1','fortran_order':False,'shape':(9999,9999,9999)}"
    ).ljust(0x4f) + b'\n',
    'npy negative': b'\x93NUMPY\1\0\x50\0' + (
        b"{'descr':'|u1','fortran_order':False,'shape':(-1,-1,1)}"
    ).ljust(0x4f) + b'\n',
}.items(), ids=lambda x: x if isinstance(x, str) else '')
def test_damage_is_one_clear_error(tmp_path, name, data):
  for suffix in ('.nii', '.nii.gz', '.npy'):
    (tmp_path / f'a{suffix}').write_bytes(data)
    with pytest.raises(files.Undecodable, match=f'a{suffix}.* as a volume'):
      volume_files.open_volume(f'a{suffix}', str(tmp_path)).read()


def test_what_a_file_unpacks_to_is_bounded(monkeypatch):
  monkeypatch.setattr(volume_files, 'MAX_UNPACKED', 1 << 20)
  data = gzip.compress(header(dim=[3, 128, 128, 128, 1, 1, 1, 1])
                       + bytes(4 * 128 ** 3))
  with pytest.raises(ValueError, match='may unpack to, 1048576'):
    volume_files.open_bytes(data, 'record 1')


def test_flipped_bits_never_crash(tmp_path):
  array = RNG.integers(0, 99, (6, 7, 8)).astype(np.int16)
  write(tmp_path, array)
  clean, rng = (tmp_path / 'a.nii').read_bytes(), np.random.default_rng(3)
  for _ in range(300):
    data = bytearray(clean)
    for at in rng.integers(0, 352, 3):
      data[at] ^= 1 << int(rng.integers(8))
    try:
      volume_files.open_bytes(bytes(data), 'record 1').read()
    except ValueError as error:
      assert 'record 1' in str(error)


def test_paths_stay_below_the_root(tmp_path):
  root = tmp_path / 'root'
  root.mkdir()
  write(tmp_path, np.zeros((2, 2, 2), np.uint8))
  (root / 'a.nii').symlink_to(tmp_path / 'a.nii')
  (root / 'folder').symlink_to(tmp_path)
  for path in ('a.nii', '../a.nii', 'folder', str(tmp_path), 'folder/a.nii'):
    with pytest.raises(ValueError, match='outside the data root'):
      volume_files.open_volume(path, str(root))
  with pytest.raises(FileNotFoundError):
    volume_files.open_volume('b.nii', str(root))


def test_options_of_other_kinds_are_refused(tmp_path):
  write(tmp_path, np.zeros((2, 2, 2), np.uint8))
  with pytest.raises(ValueError, match="axes='RAS' is not one of NIfTI"):
    volume_files.open_volume('a.nii', str(tmp_path),
                             volume_files.Opening(axes='RAS'))


def test_without_nibabel(tmp_path, monkeypatch):
  write(tmp_path, np.zeros((2, 2, 2), np.uint8))
  monkeypatch.setitem(sys.modules, 'nibabel', None)
  monkeypatch.delitem(sys.modules, 'medrl.media.volume_nifti')
  monkeypatch.delattr('medrl.media.volume_nifti')
  with pytest.raises(ImportError, match='requirements-media.txt'):
    volume_files.open_volume('a.nii', str(tmp_path))


def test_files_are_closed(tmp_path):
  opened = write(tmp_path, np.zeros((2, 2, 2), np.uint8), 'a.nii.gz')
  before = len(os.listdir('/proc/self/fd'))
  for _ in range(5):
    opened.read()
  assert len(os.listdir('/proc/self/fd')) == before
