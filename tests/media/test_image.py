"""Image files against arrays written by hand, and every refusal."""

import io

import numpy as np
from PIL import Image
import pytest

from medrl.media import image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)


def save(folder, picture, name, **options):
  picture.save(folder / name, **options)
  return image.load(name, str(folder))


@pytest.mark.parametrize('name, options', [
    ('a.png', {}), ('a.bmp', {}), ('a.tiff', {}),
    ('a.webp', {'lossless': True})])
def test_lossless_formats_are_exact(tmp_path, name, options):
  got = save(tmp_path, Image.fromarray(RGB), name, **options)
  assert got.dtype == np.uint8
  np.testing.assert_array_equal(got, RGB)


def test_jpeg_and_orientation(tmp_path):
  smooth = np.repeat(np.linspace(0, 255, 32).astype(np.uint8), 16 * 3)
  smooth = smooth.reshape(32, 16, 3)
  exif = Image.Exif()
  exif[0x0112] = 6  # shown turned by 90 degrees clockwise
  got = save(tmp_path, Image.fromarray(smooth), 'a.jpg', exif=exif, quality=95)
  assert got.shape == (16, 32, 3)
  assert np.abs(got - np.rot90(smooth, -1).astype(int)).max() <= 4


def test_modes(tmp_path):
  grey = RGB[..., 0]
  got = save(tmp_path, Image.fromarray(grey), 'grey.png')
  np.testing.assert_array_equal(got, np.stack([grey] * 3, -1))

  palette = Image.fromarray(RGB).quantize(8)
  got = save(tmp_path, palette, 'palette.png')
  np.testing.assert_array_equal(got, np.asarray(palette.convert('RGB')))

  alpha = RNG.integers(0, 256, (6, 9, 1), np.uint8)
  got = save(tmp_path, Image.fromarray(np.concatenate([RGB, alpha], -1)),
             'alpha.png')
  np.testing.assert_allclose(got, RGB * (alpha / 255), atol=1)

  deep = RNG.integers(500, 4000, (6, 9)).astype(np.uint16)
  deep[0, :2] = 500, 4000
  for name in ('deep.png', 'deep.tiff'):
    got = save(tmp_path, Image.fromarray(deep), name)
    np.testing.assert_allclose(got[..., 1], (deep - 500.) / 3500 * 255,
                               atol=.51)
  flat = Image.fromarray(np.full((2, 2), 700, np.uint16))
  assert not save(tmp_path, flat, 'flat.png').any()


def test_paths_stay_below_the_root(tmp_path):
  root, outside = tmp_path / 'root', tmp_path / 'out.png'
  (root / 'in').mkdir(parents=True)
  Image.fromarray(RGB).save(outside)
  Image.fromarray(RGB).save(root / 'a.png')
  (root / 'link.png').symlink_to(outside)
  (root / 'loop.png').symlink_to(root / 'loop.png')
  for good in ('a.png', 'in/../a.png', str(root / 'a.png')):
    np.testing.assert_array_equal(image.load(good, str(root)), RGB)
  for bad in ('../out.png', str(outside), 'link.png', 'in/../../out.png'):
    with pytest.raises(ValueError, match='outside the data root'):
      image.load(bad, str(root))
  for bad in ('loop.png', 'a\0.png', 'a' * 5000):
    with pytest.raises((ValueError, FileNotFoundError)):
      image.load(bad, str(root))
  with pytest.raises(FileNotFoundError, match='root / path') as caught:
    image.load('b.png', str(root))
  assert str(root) in str(caught.value)
  with pytest.raises(FileNotFoundError):
    image.load('in', str(root))


@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.webp', 'a.bmp',
                                  'a.tiff'])
def test_damaged_files_are_named(tmp_path, name):
  stream = io.BytesIO()
  large = RNG.integers(0, 256, (64, 64, 3), np.uint8)
  kind = image.Image.registered_extensions()[name[1:]]
  Image.fromarray(large).save(stream, format=kind)
  data = stream.getvalue()
  for part in (data[:len(data) // 2], data[:9], b'', b'no image at all'):
    (tmp_path / name).write_bytes(part)
    with pytest.raises(ValueError, match=name):
      image.load(name, str(tmp_path))


def test_bombs_and_other_formats_are_refused(tmp_path, monkeypatch):
  big = Image.new('1', (10_000, 8_001))
  with pytest.raises(ValueError, match='more than 80000000 pixels'):
    save(tmp_path, big, 'big.png')
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)  # what Pillow refuses
  with pytest.raises(ValueError, match='DecompressionBomb'):
    image.load('big.png', str(tmp_path))
  with pytest.raises(ValueError, match='cannot be read'):
    save(tmp_path, Image.fromarray(RGB[:3, :3]), 'a.gif')


def test_archives(tmp_path):
  grey = RNG.integers(0, 256, (3, 28, 28), np.uint8)
  colour = RNG.integers(0, 256, (2, 28, 28, 3), np.uint8)
  np.savez(tmp_path / 'm.npz', train_images=grey, test_images=colour,
           label=np.zeros(3, int))
  read = lambda **options: image.load_npz('m.npz', str(tmp_path), **options)
  np.testing.assert_array_equal(read(key='train_images', index=2),
                                np.stack([grey[2]] * 3, -1))
  got = read(key='test_images', index=1)
  np.testing.assert_array_equal(got, colour[1])
  got[:] = 0  # what the caller does to it must not reach the cache
  np.testing.assert_array_equal(read(key='test_images', index=1), colour[1])
  want = Image.fromarray(grey[0]).resize((112, 112), Image.BICUBIC)
  np.testing.assert_array_equal(
      read(key='train_images', index=0, size=112)[..., 2], np.asarray(want))
  for options, words in [
      ({'key': 'val_images', 'index': 0}, 'train_images'),
      ({'key': 'label', 'index': 0}, 'expected uint8'),
      ({'key': 'train_images', 'index': 3}, '0 to 2, not 3'),
      ({'key': 'train_images', 'index': -1}, 'not -1')]:
    with pytest.raises(ValueError, match=words):
      read(**options)


def test_archives_that_are_none(tmp_path):
  np.savez(tmp_path / 'objects.npz', a=np.array([{}], object))
  np.save(tmp_path / 'single.npy', RGB)
  (tmp_path / 'text.npz').write_bytes(b'PK not a zip')
  for name in ('objects.npz', 'single.npy', 'text.npz'):
    with pytest.raises(ValueError, match=name):
      image.load_npz(name, str(tmp_path), key='a', index=0)
