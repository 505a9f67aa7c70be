"""Which reader gets a file, what it is asked, and what comes back."""

import gzip
import io
import pathlib
import shutil
import subprocess
import sys
import zlib

import numpy as np
from PIL import Image
import pytest

from medrl import types
from medrl.media import image
from medrl.media import medium
from medrl.media import video

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)


@pytest.fixture
def real():
  if not DATA.exists():
    pytest.skip('no ../shared/data beside the repository')
  return DATA


def saved(picture, kind, **options):
  stream = io.BytesIO()
  picture.save(stream, format=kind, **options)
  return stream.getvalue()


def nifti(version=1, order='<'):
  """A header of 4 x 5 x 6 voxels of 8 bits with its voxels, by the standard."""
  nibabel = pytest.importorskip('nibabel')
  kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
  voxels = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
  made = kind(voxels, np.eye(4))
  made.header.set_data_dtype(np.uint8)
  if order == '>':
    made = kind(voxels, np.eye(4), made.header.as_byteswapped('>'))
  return made.to_bytes()


def npy(array):
  stream = io.BytesIO()
  np.save(stream, array)
  return stream.getvalue()


@pytest.mark.parametrize('name', ['a.jpg', 'a', 'a.dcm', 'a.nii.gz', 'a.hea',
                                  'a.mp4', 'a.npy'])
@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP', 'WEBP'])
def test_pictures_of_any_name(tmp_path, kind, name):
  data = saved(Image.fromarray(RGB), kind, **(
      {'lossless': True} if kind == 'WEBP' else {}))
  (tmp_path / name).write_bytes(data)
  for got in (medium.load(name, str(tmp_path)), medium.decode(data, name)):
    np.testing.assert_array_equal(got, RGB)


def test_a_real_picture_has_its_options(real):
  path = sorted((real / 'busi' / 'images').iterdir())[0]
  got = medium.load(path.name, str(path.parent))
  np.testing.assert_array_equal(got, image.load(path.name, str(path.parent)))
  pages = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
  data = saved(pages[0], 'TIFF', save_all=True, append_images=pages[1:])
  np.testing.assert_array_equal(medium.decode(data, 'a', page=1), RGB[::-1])


@pytest.mark.parametrize('name', ['a.gif', 'a', 'a.png', 'a.npy'])
def test_animations(tmp_path, name):
  pytest.importorskip('av')
  frames = [Image.fromarray(np.full((6, 8, 3), 90 * i, np.uint8))
            for i in range(3)]
  data = saved(frames[0], 'GIF', save_all=True, append_images=frames[1:],
               duration=100)
  (tmp_path / name).write_bytes(data)
  for got in (medium.load(name, str(tmp_path)),
              medium.decode(data, name, times=[0, .1, .2])):
    assert isinstance(got, types.Clip) and got.frames.shape == (3, 6, 8, 3)
    np.testing.assert_allclose(got.times, [0, .1, .2])
    np.testing.assert_allclose(got.frames[:, 0, 0, 0], [0, 90, 180], atol=2)


@pytest.mark.parametrize('pack', [bytes, gzip.compress])
@pytest.mark.parametrize('name', ['a.nii', 'a', 'a.png', 'a.dcm', 'a.gz'])
def test_volumes(tmp_path, pack, name):
  for data in (nifti(), nifti(2), nifti(order='>'), npy(
      np.arange(120.).reshape(4, 5, 6))):
    (tmp_path / name).write_bytes(pack(data))
    # The first two axes of the array of a .npy file are not known.
    options = {'axes': 'SAR'} if data[1:6] == b'NUMPY' else {}
    for got in (medium.load(name, str(tmp_path), count=2, **options),
                medium.decode(pack(data), name, count=2, **options)):
      assert len(got) == 2 and all(p.dtype == np.uint8 for p in got)
      assert all(p.ndim == 3 and p.shape[2] == 3 for p in got)


@pytest.mark.parametrize('name', ['CT_small.dcm', 'a', 'a.png', 'a.nii'])
def test_dicom_files(real, tmp_path, name):
  pytest.importorskip('pydicom')
  source = real / 'dicom' / 'files' / 'CT_small.dcm'
  shutil.copy(source, tmp_path / name)
  for got in (medium.load(name, str(tmp_path), window='bone'),
              medium.decode(source.read_bytes(), name, window='bone')):
    assert got.shape == (128, 128, 3) and got.dtype == np.uint8


def test_a_dicom_file_without_its_preamble(real, tmp_path):
  pytest.importorskip('pydicom')
  data = (real / 'dicom' / 'files' / 'CT_small.dcm').read_bytes()
  for name, bare in (('a', data[132:]), ('a.dcm', data[132:])):
    (tmp_path / name).write_bytes(bare)
    try:
      assert medium.load(name, str(tmp_path)).shape == (128, 128, 3)
    except ValueError as error:   # what the reader makes of it is its affair
      assert 'DICOM' in str(error)


def test_folders(real, tmp_path):
  pytest.importorskip('pydicom')
  series = medium.load('dicom/series/98892001/CT5N', str(real))
  assert len(series) == 5
  clip = medium.load('video_us_cine/us_cine_a', str(real), count=3,
                     pattern='frame_*.jpg', interval_s=1 / 30)
  np.testing.assert_array_equal(clip.frames, video.load_frames(
      'video_us_cine/us_cine_a', str(real), count=3, pattern='frame_*.jpg',
      interval_s=1 / 30).frames)
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'texts').mkdir()
  (tmp_path / 'texts' / 'note.txt').write_text('no picture')
  for name in ('empty', 'texts'):
    with pytest.raises(ValueError, match='neither DICOM files'):
      medium.load(name, str(tmp_path))
  with pytest.raises(FileNotFoundError, match='no file'):
    medium.load('nothing', str(tmp_path))


def test_zarr(tmp_path):
  tensorstore = pytest.importorskip('tensorstore')
  for name in ('a.zarr', 'folder'):
    made = tensorstore.open({
        'driver': 'zarr', 'kvstore': {
            'driver': 'file', 'path': str(tmp_path / name)},
        'metadata': {'shape': [4, 5, 6], 'dtype': '<i2', 'chunks': [2, 5, 6]}},
        create=True).result()
    made[...] = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    got = medium.load(name, str(tmp_path), axes='SAR', count=2)
    assert len(got) == 2 and got[0].dtype == np.uint8


def test_ecgs_are_drawn_or_given(real):
  pytest.importorskip('wfdb')
  root = str(real / 'ecg' / 'wfdb')
  signal = medium.load('ptbxl_00001_lr.hea', root, as_signal=True)
  assert isinstance(signal, types.Signal)
  assert signal.values.shape == (12, 1000) and signal.rate == 100
  drawn = medium.stills(medium.load('ptbxl_00001_lr.hea', root,
                                    as_signal=False))
  assert len(drawn) == 1 and drawn[0].shape[2] == 3
  with pytest.raises(ValueError, match="as_signal 'yes'"):
    medium.load('ptbxl_00001_lr.hea', root, as_signal='yes')


def test_waveforms_in_dicom(real):
  pytest.importorskip('pydicom')
  found = [p for p in sorted((real / 'dicom' / 'files').iterdir())
           if medium.WAVEFORM in p.read_bytes()[:medium.HEAD_BYTES]]
  assert found, 'the truth table has a waveform'
  for path in found:
    got = medium.load(path.name, str(path.parent), as_signal=True)
    assert isinstance(got, types.Signal) and got.values.ndim == 2
    drawn = medium.decode(path.read_bytes(), 'embedded')
    assert len(medium.stills(drawn)) == 1


def test_archives(tmp_path):
  np.savez(tmp_path / 'm.npz', train_images=RGB[None])
  got = medium.load('m.npz', str(tmp_path), key='train_images', index=0)
  np.testing.assert_array_equal(got, RGB)
  with pytest.raises(ValueError, match="load_npz, which needs the option 'key' "
                     "and 'index'"):
    medium.load('m.npz', str(tmp_path))
  with pytest.raises(ValueError, match='cannot be embedded'):
    medium.decode((tmp_path / 'm.npz').read_bytes(), 'm.npz')


@pytest.mark.parametrize('data, name, words', [
    (b'', 'a.png', "'a.png' is empty"), (b'', 'a', 'is empty'),
    (b'no picture', 'a.png', 'cannot be read as an image'),
    (b'no film', 'a.mp4', 'cannot be read as a video'),
    (b'no film', 'a.xyz', r"begins with b'no film'.*\.nii\.gz"),
    (b'%PDF-1.7', 'report.pdf', 'PDF'),
    # No time in it: it names the test, alike in all processes.
    (gzip.compress(b'a text', mtime=0), 'a.nii.gz', 'gzip, but of no NIfTI'),
    (gzip.compress(RGB.tobytes(), mtime=0), 'a.nii.gz',
     'gzip, but of no NIfTI'),
    (b'\x1f\x8b' + bytes(40), 'a.gz', 'damaged gzip'),
    (zlib.compress(RGB), 'a', 'no kind')])
def test_what_is_of_no_kind(tmp_path, data, name, words):
  (tmp_path / name).write_bytes(data)
  for call in (lambda: medium.load(name, str(tmp_path)),
               lambda: medium.decode(data, name)):
    with pytest.raises(ValueError, match=words):
      call()


@pytest.mark.parametrize('options, words', [
    ({'pgae': 1}, "read by medrl.media.image.load, which has no option "
     "'pgae'; did you mean 'page'"),
    ({'window': 'lung'}, "no option 'window'; it has: page"),
    ({'as_signal': True}, "no option 'as_signal'"), ({'path': 'b'}, "'path'"),
    ({'root': '/'}, "no option 'root'")])
def test_options_of_another_reader(tmp_path, options, words):
  Image.fromarray(RGB).save(tmp_path / 'a.png')
  with pytest.raises(ValueError, match=words):
    medium.load('a.png', str(tmp_path), **options)


def test_links_in_folders_stay_below_the_root(tmp_path):
  (tmp_path / 'root' / 'clip').mkdir(parents=True)
  Image.fromarray(RGB).save(tmp_path / 'out.png')
  (tmp_path / 'root' / 'clip' / '0.png').symlink_to(tmp_path / 'out.png')
  with pytest.raises(ValueError, match='outside the data root'):
    medium.load('clip', str(tmp_path / 'root'), pattern='*.png', interval_s=1.)


def test_stills():
  clip = types.Clip(np.stack([RGB, RGB]), np.arange(2.))
  signal = types.Signal(np.zeros((1, 9), np.float32), 10., ('I',))
  for loaded, count in ((RGB, 1), ((RGB, RGB), 2), (clip, 2), (signal, 0),
                        ((RGB, clip), 3), ((), 0)):
    got = medium.stills(loaded)
    assert isinstance(got, list) and len(got) == count
    assert all((picture == RGB).all() for picture in got)
  for wrong in (RGB[0], RGB.astype(float), [RGB], None, RGB[..., :1]):
    with pytest.raises(TypeError, match='not what a loader returns'):
      medium.stills(wrong)


def test_packages_are_imported_when_needed(tmp_path):
  Image.fromarray(RGB).save(tmp_path / 'a.png')
  code = ('import sys\nfrom medrl.media import medium\n'
          f'medium.load("a.png", {str(tmp_path)!r})\n'
          'for name in ("av", "pydicom", "nibabel", "wfdb", "tensorstore",'
          ' "scipy"):\n  assert name not in sys.modules, name')
  subprocess.run([sys.executable, '-c', code], check=True,
                 cwd=pathlib.Path(__file__).parents[2])


def test_a_missing_package_is_named(tmp_path):
  (tmp_path / 'a.gif').write_bytes(b'GIF89a' + bytes(40))
  code = ('import sys\nsys.modules["av"] = None\n'
          'from medrl.media import medium\n'
          f'try:\n  medium.load("a.gif", {str(tmp_path)!r})\n'
          'except ImportError as error:\n'
          '  assert "launch/requirements-media.txt" in str(error), error\n'
          'else:\n  raise AssertionError("read without PyAV")')
  subprocess.run([sys.executable, '-c', code], check=True,
                 cwd=pathlib.Path(__file__).parents[2])
