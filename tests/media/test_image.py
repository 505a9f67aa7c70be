"""Image files against arrays written by hand, and every refusal."""

import functools
import io
import struct
import warnings
import zlib

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


@pytest.mark.parametrize('name', ['a.png', 'a.tiff', 'a.webp'])
@pytest.mark.parametrize('value', range(1, 9))
def test_every_orientation(tmp_path, name, value):
  # Exif 2.3, tag 274: where row 0 and column 0 of the file are shown.
  rows, columns = [
      ('top', 'left'), ('top', 'right'), ('bottom', 'right'),
      ('bottom', 'left'), ('left', 'top'), ('right', 'top'),
      ('right', 'bottom'), ('left', 'bottom')][value - 1]
  want = RGB if rows in ('top', 'bottom') else RGB.swapaxes(0, 1)
  want = want[::-1] if 'bottom' in (rows, columns) else want
  want = want[:, ::-1] if 'right' in (rows, columns) else want
  exif = Image.Exif()
  exif[0x0112] = value
  options = {'lossless': True} if name == 'a.webp' else {}
  got = save(tmp_path, Image.fromarray(RGB), name, exif=exif, **options)
  np.testing.assert_array_equal(got, want)


def png(pixels, colour):
  """A PNG of 16 bits a sample, after the standard; Pillow writes grey only."""
  def chunk(kind, body):
    check = struct.pack('>I', zlib.crc32(kind + body))
    return struct.pack('>I', len(body)) + kind + body + check
  height, width = pixels.shape[:2]
  rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
  return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack(
      '>2I5B', width, height, 16, colour, 0, 0, 0))
      + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def test_colours_of_16_bits_keep_the_upper_8():
  deep = RNG.integers(0, 1 << 16, (6, 9, 4)).astype(np.uint16)
  got = image.decode(png(deep[..., :3], 2), 'a')
  np.testing.assert_array_equal(got, deep[..., :3] >> 8)
  got = image.decode(png(deep, 6), 'a')
  np.testing.assert_allclose(
      got, (deep[..., :3] / 256) * (deep[..., 3:] / 65535), atol=2)


def tiff(pixels, **tags):
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, format='tiff', tiffinfo=tags)
  return stream.getvalue()


def test_white_may_be_zero():
  grey = RNG.integers(0, 4096, (6, 9)).astype(np.uint16)
  grey[0, :2] = 0, 4095
  plain = image.decode(tiff(grey), 'a').astype(int)
  data = tiff(grey)
  entry = struct.pack('<2HI', 262, 3, 1)   # PhotometricInterpretation, a short
  start = data.index(entry) + len(entry)
  assert data[start] == 1
  inverted = image.decode(data[:start] + b'\0' + data[start + 1:], 'a')
  np.testing.assert_allclose(inverted, 255 - plain, atol=1)
  assert inverted[0, 0, 0] == 255 and inverted[0, 1, 0] == 0


def test_pages(tmp_path):
  frames = [Image.fromarray(RGB + np.uint8(i)) for i in range(3)]
  for name, options in (('a.tiff', {}), ('a.webp', {'lossless': True}),
                        ('a.png', {})):
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:],
                   **options)
    for i in (2, 0, 1):
      got = image.load(name, str(tmp_path), page=i)
      np.testing.assert_array_equal(got, RGB + np.uint8(i))
    for page in (3, -1, True, '1', 1.):
      with pytest.raises(ValueError, match='pages 0 to 2, not'):
        image.load(name, str(tmp_path), page=page)
  frames[0].save(tmp_path / 'a.jpg')
  with pytest.raises(ValueError, match='pages 0 to 0, not 1'):
    image.load('a.jpg', str(tmp_path), page=1)


def test_modes(tmp_path):
  grey = RGB[..., 0]
  got = save(tmp_path, Image.fromarray(grey), 'grey.png')
  np.testing.assert_array_equal(got, np.stack([grey] * 3, -1))

  palette = Image.fromarray(RGB).quantize(8)
  got = save(tmp_path, palette, 'palette.png')
  np.testing.assert_array_equal(got, np.asarray(palette.convert('RGB')))
  got = save(tmp_path, palette, 'clear.png', transparency=3)
  want = np.asarray(palette.convert('RGB')).copy()
  want[np.asarray(palette) == 3] = 0
  np.testing.assert_array_equal(got, want)
  got = save(tmp_path, Image.fromarray(grey > 99), 'bits.png')
  np.testing.assert_array_equal(got[..., 0], 255 * (grey > 99))

  alpha = RNG.integers(0, 256, (6, 9, 1), np.uint8)
  got = save(tmp_path, Image.fromarray(np.concatenate([RGB, alpha], -1)),
             'alpha.png')
  np.testing.assert_allclose(got, RGB * (alpha / 255), atol=1)

  both = Image.fromarray(np.stack([grey, alpha[..., 0]], -1), 'LA')
  got = save(tmp_path, both, 'both.png')
  np.testing.assert_allclose(got[..., 1], grey * (alpha[..., 0] / 255), atol=1)

  inks = RNG.integers(0, 256, (6, 9, 4), np.uint8)
  got = save(tmp_path, Image.fromarray(inks, 'CMYK'), 'inks.tiff')
  paper = (255. - inks[..., :3]) * (255. - inks[..., 3:]) / 255
  np.testing.assert_allclose(got, paper, atol=1)

  for wide in (np.float32(RNG.normal(0, 40, (6, 9))),
               RNG.integers(-2**31, 2**31, (6, 9)).astype(np.int32)):
    got = save(tmp_path, Image.fromarray(wide), 'wide.tiff')
    low, high = float(wide.min()), float(wide.max())
    np.testing.assert_allclose(
        got[..., 2], (wide.astype(float) - low) / (high - low) * 255, atol=.51)

  deep = RNG.integers(500, 4000, (6, 9)).astype(np.uint16)
  deep[0, :2] = 500, 4000
  for name in ('deep.png', 'deep.tiff'):
    got = save(tmp_path, Image.fromarray(deep), name)
    np.testing.assert_allclose(got[..., 1], (deep - 500.) / 3500 * 255,
                               atol=.51)
  flat = Image.fromarray(np.full((2, 2), 700, np.uint16))
  assert not save(tmp_path, flat, 'flat.png').any()


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


@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.webp', 'a.tiff'])
def test_the_first_bytes_decide(tmp_path, name):
  Image.fromarray(RGB).save(tmp_path / 'a.bmp')
  (tmp_path / 'a.bmp').rename(tmp_path / name)
  got = image.load(name, str(tmp_path))
  np.testing.assert_array_equal(got, RGB)
  with pytest.raises(ValueError, match='read-only'):
    got[0] = 0


def claimed(kind, width, height):
  """The bytes of a small picture whose header claims another size."""
  stream = io.BytesIO()
  options = {'exact': True, 'lossless': kind == 'webp'} if (
      kind.startswith('webp')) else {}
  Image.new('RGB', (8, 8)).save(stream, format=kind[:4], **options)
  data = bytearray(stream.getvalue())
  if kind == 'png':
    data[16:24] = struct.pack('>2I', width, height)
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
  elif kind == 'bmp':
    data[18:26] = struct.pack('<2i', width, height)
  elif kind == 'jpeg':
    at = data.index(b'\xff\xc0') + 5
    data[at:at + 4] = struct.pack('>2H', height, width)
  elif kind == 'tiff':
    for tag, value in ((256, width), (257, height)):
      at = next(data.index(head) for head in (
          struct.pack('<2HI', tag, t, 1) for t in (3, 4)) if head in data)
      data[at:at + 12] = struct.pack('<2H2I', tag, 4, 1, value)
  elif kind == 'webp':
    data[21:25] = struct.pack('<I', width - 1 | height - 1 << 14)
  else:
    data[26:30] = struct.pack('<2H', width, height)
  return bytes(data)


@pytest.mark.parametrize('kind, width, height', [
    ('png', 100_000, 100_000), ('tiff', 100_000, 100_000),
    ('bmp', 100_000, 100_000), ('jpeg', 65_000, 65_000),
    ('webp', 16_000, 16_000), ('webp lossy', 16_000, 16_000),
    ('png', 9_000, 9_000), ('tiff', 9_500, 9_500)])
def test_bombs_are_refused_by_their_header(kind, width, height):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert image.decode(claimed(kind, 8, 8), 'ok').shape == (8, 8, 3)
    with pytest.raises(ValueError, match='more than 80000000 pixels'):
      image.decode(claimed(kind, width, height), 'bomb')


def test_large_pictures_need_no_setting_of_pillow(tmp_path, monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 20)  # a warning from here on
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert save(tmp_path, Image.fromarray(RGB[:5, :6]), 'a.png').shape == (
        5, 6, 3)


def test_other_formats_are_refused(tmp_path):
  with pytest.raises(ValueError, match='expected JPEG'):
    save(tmp_path, Image.fromarray(RGB[:3, :3]), 'a.gif')
  with pytest.raises(ValueError, match='it is empty'):
    image.decode(b'', 'a')
  with pytest.raises(ValueError, match='expected JPEG'):
    image.decode(b'BMI,age\n21.5,40\n', 'a.csv')


def test_archives(tmp_path):
  grey = RNG.integers(0, 256, (3, 28, 28), np.uint8)
  colour = RNG.integers(0, 256, (2, 28, 28, 3), np.uint8)
  np.savez(tmp_path / 'm.npz', train_images=grey, test_images=colour,
           label=np.zeros(3, int))
  read = functools.partial(image.load_npz, 'm.npz', str(tmp_path))
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


def test_an_archive_that_unpacks_to_too_much(tmp_path, monkeypatch):
  np.savez_compressed(tmp_path / 'm.npz', a=np.zeros((9, 100, 100), np.uint8))
  monkeypatch.setattr(image, 'MAX_ARRAY_BYTES', 90_000)
  with pytest.raises(ValueError, match='90128 bytes unpacked'):
    image.load_npz('m.npz', str(tmp_path), key='a', index=0)


def test_archives_that_are_none(tmp_path):
  np.savez(tmp_path / 'objects.npz', a=np.array([{}], object))
  np.save(tmp_path / 'single.npy', RGB)
  (tmp_path / 'text.npz').write_bytes(b'PK not a zip')
  for name in ('objects.npz', 'single.npy', 'text.npz'):
    with pytest.raises(ValueError, match=name):
      image.load_npz(name, str(tmp_path), key='a', index=0)
