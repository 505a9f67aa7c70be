"""Damaged and hostile media files, made from real ones, always the same.

`everything` writes them below a root and says what must come of each:
'error', a clear refusal; 'good', what it shows; 'any', one of both.
"""

import dataclasses
import gzip
import io
import json
import pathlib
import pickle
import shutil
import struct
from typing import Any
import zipfile
import zlib

import numpy as np
from PIL import Image

FLIPS = 5        # files with flipped bits, of each source
PARTS = (.03, .3, .6, .9)


@dataclasses.dataclass(frozen=True)
class Case:
  """A file or folder `path` below the root, and what must come of it."""
  path: str
  want: str
  options: dict[str, Any] = dataclasses.field(default_factory=dict)


class Canary:
  """Pickled, it creates a file when it is unpickled."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return open, (self.path, 'w')


def put(root: pathlib.Path, path: str, data: bytes, want: str,
        **options) -> Case:
  full = root / path
  full.parent.mkdir(parents=True, exist_ok=True)
  full.write_bytes(data)
  return Case(path, want, options)


def saved(picture, kind: str, **options) -> bytes:
  stream = io.BytesIO()
  picture.save(stream, format=kind, **options)
  return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
  stream = io.BytesIO()
  np.save(stream, array)
  return stream.getvalue()


def film(frames, container: str = 'mp4', codec: str = 'mpeg4') -> bytes:
  import av
  stream = io.BytesIO()
  with av.open(stream, 'w', format=container) as out:
    track = out.add_stream(codec, rate=25)
    track.height, track.width = frames[0].shape[:2]
    track.pix_fmt = 'yuv420p'
    for pixels in frames:
      out.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
    out.mux(track.encode(None))
  return stream.getvalue()


def sources(data: pathlib.Path) -> dict[str, tuple[bytes, dict]]:
  """Whole files, by name, and the options to read them with."""
  from medrl.media import image
  photo = data / 'busi' / 'images' / 'benign_1.jpg'
  pixels = image.load(photo.name, str(photo.parent))
  picture = Image.fromarray(pixels)
  deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
  cine = data / 'video_us_cine' / 'us_cine_a'
  frames = [image.load(f'frame_{i:03}.jpg', str(cine)) for i in range(0, 30, 3)]
  found = {
      'a.jpg': photo.read_bytes(),
      'progressive.jpg': saved(picture, 'JPEG', progressive=True),
      'a.png': saved(picture, 'PNG'), 'deep.png': saved(deep, 'PNG'),
      'a.tiff': saved(picture, 'TIFF'),
      'lzw.tiff': saved(picture, 'TIFF', compression='tiff_lzw'),
      'a.webp': saved(picture, 'WEBP'),
      'lossless.webp': saved(picture, 'WEBP', lossless=True),
      'a.bmp': saved(picture, 'BMP'),
      'a.mp4': film(frames), 'a.avi': film(frames, 'avi'),
      'a.mkv': film(frames, 'matroska'),
      'a.gif': saved(picture.quantize(16), 'GIF'),
  }
  found = {name: (body, {}) for name, body in found.items()}
  volume = np.stack([frame[..., 0] for frame in frames])
  found['a.npy'] = npy(volume), {'axes': 'SAR'}
  stream = io.BytesIO()
  np.savez_compressed(stream, images=volume)
  found['a.npz'] = stream.getvalue(), {'key': 'images', 'index': 3}
  for name in ('anatomical.nii', 'example4d.nii.gz'):
    found[name] = (data / 'nifti' / name).read_bytes(), {}
  for name in ('CT_small.dcm', 'MR_small_RLE.dcm', 'MR_small_bigendian.dcm',
               'J2K_pixelrep_mismatch.dcm', 'examples_ybr_color.dcm',
               'JPGLosslessP14SV1_1s_1f_8b.dcm', 'emri_small.dcm',
               'waveform_ecg.dcm'):
    found[name] = (data / 'dicom' / 'files' / name).read_bytes(), {}
  return found


def flipped(data: bytes, seed: int, first: int | None = None) -> bytes:
  """`data` with 1 to 8 bits turned over, among its first bytes if given."""
  rng = np.random.default_rng(seed)
  damaged = bytearray(data)
  for place in rng.integers(0, min(first or len(data), len(data)),
                            rng.integers(1, 9)):
    damaged[place] ^= 1 << int(rng.integers(8))
  return bytes(damaged)


def of_each_kind(root: pathlib.Path, found) -> list[Case]:
  """Truncations, flips, wrong and missing suffixes of every source."""
  cases = []
  for name, (body, options) in found.items():
    def add(folder, data, want, as_name=name, options=options):
      cases.append(put(root, f'{folder}/{as_name}', data, want, **options))
    add('whole', body, 'good')
    for part in PARTS:
      add(f'cut{part}', body[:int(len(body) * part)], 'error')
    add('cut by a byte', body[:-1], 'any')
    add('longer', body + b'\0' * 100, 'any')
    add('empty', b'', 'error')
    add('zeros', bytes(len(body)), 'error')
    add('text', b'this is a text, whatever it is called\n' * 9, 'error')
    for seed in range(FLIPS):
      add(f'flip{seed}', flipped(body, seed), 'any')
      add(f'flip head{seed}', flipped(body, seed, 400), 'any')
    for other in ('b.jpg', 'b.dcm', 'b.nii.gz', 'b.mp4', 'b'):
      # An archive is told from others by its first bytes as well.
      add(f'called {other}/{name}', body, 'good', other)
  return cases


def pictures(root: pathlib.Path) -> list[Case]:
  """Pictures whose headers claim 100,000 x 100,000 pixels, or the like."""
  small = Image.new('RGB', (8, 8))
  png = bytearray(saved(small, 'PNG'))
  png[16:24] = struct.pack('>2I', 100_000, 100_000)
  png[29:33] = struct.pack('>I', zlib.crc32(png[12:29]))
  bmp = bytearray(saved(small, 'BMP'))
  bmp[18:26] = struct.pack('<2i', 100_000, 100_000)
  jpeg = bytearray(saved(small, 'JPEG'))
  at = jpeg.index(b'\xff\xc0') + 5
  jpeg[at:at + 4] = struct.pack('>2H', 65_500, 65_500)
  webp = bytearray(saved(small, 'WEBP', lossless=True))
  webp[21:25] = struct.pack('<I', 16_383 | 16_383 << 14)
  wide = bytearray(saved(Image.new('RGBA', (8, 8)), 'WEBP', exif=b'Exif\0\0'))
  if wide[12:16] == b'VP8X':
    wide[24:30] = b'\x9f\x86\1' * 2
  gif = bytearray(saved(small, 'GIF'))
  gif[6:10] = b'\xff' * 4
  text = zlib.compress(bytes(200 << 20))
  chunk = struct.pack('>I', len(text) + 3) + b'zTXta\0\0' + text
  chunk += struct.pack('>I', zlib.crc32(chunk[4:]))
  note = saved(small, 'PNG')
  loop = bytearray(saved(small, 'TIFF'))
  first, = struct.unpack_from('<I', loop, 4)
  count, = struct.unpack_from('<H', loop, first)
  struct.pack_into('<I', loop, first + 2 + 12 * count, first)   # next is itself
  put_ = lambda name, data, want='error', **options: put(
      root, f'bombs/{name}', bytes(data), want, **options)
  return [
      put_('a.png', png), put_('a.bmp', bmp), put_('a.jpg', jpeg),
      put_('a.webp', webp), put_('wide.webp', wide), put_('a.gif', gif),
      put_('a.tiff', tiff(100_000, 100_000)),
      put_('tile.tiff', tiff(2_000_000_000, 1)),
      put_('text.png', note[:33] + chunk + note[33:], 'any'),
      put_('loop.tiff', loop, page=1)]


def tiff(width: int, height: int) -> bytes:
  """A TIFF of one strip that is not there."""
  tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8),
          (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1),
          (278, 4, 1, height), (279, 4, 1, width * height & 0xffffffff)]
  return (b'II*\0' + struct.pack('<IH', 8, len(tags))
          + b''.join(struct.pack('<2H2I', *tag) for tag in tags) + bytes(4))


def packed(size: int, start: bytes = b'') -> bytes:
  """Gzip of `start` and zeros, `size` bytes in all, made in little memory."""
  squeeze = zlib.compressobj(9, wbits=31)
  parts = [squeeze.compress(start)]
  for _ in range(size - len(start) >> 20):
    parts.append(squeeze.compress(bytes(1 << 20)))
  return b''.join(parts) + squeeze.flush()


def nifti_header(shape, offset: float = 352., kind: int = 16) -> bytes:
  """NIfTI-1, float32 by default."""
  head = bytearray(352)
  struct.pack_into('<i', head, 0, 348)
  struct.pack_into('<8h', head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
  struct.pack_into('<2h', head, 70, kind, 32 if kind == 16 else 8)
  struct.pack_into('<8f', head, 76, 1, *[1] * 7)
  struct.pack_into('<3f', head, 108, offset, 1, 0)
  head[344:348] = b'n+1\0'
  return bytes(head)


def volumes(root: pathlib.Path, data: pathlib.Path) -> list[Case]:
  """NIfTI files that claim terabytes, or unpack to gigabytes."""
  huge = nifti_header((30_000, 30_000, 30_000))
  second = bytearray((540).to_bytes(4, 'little') + b'n+2\0\r\n\x1a\n'
                     + bytes(532))
  struct.pack_into('<2h', second, 12, 16, 32)
  struct.pack_into('<8q', second, 16, 3, 1 << 40, 1 << 40, 1 << 40, 1, 1, 1, 1)
  struct.pack_into('<8d', second, 104, *[1.] * 8)
  struct.pack_into('<q', second, 168, 544)
  far = nifti_header((4, 4, 4), offset=1e15)
  add = lambda name, body, want='error', **options: put(
      root, f'volumes/{name}', body, want, **options)
  pair = (data / 'nifti' / 'anatomical.nii').read_bytes()
  return [
      add('huge.nii', huge + bytes(1000)),
      add('huge.nii.gz', gzip.compress(huge + bytes(1000))),
      add('huge2.nii', bytes(second) + bytes(1000)),
      add('far.nii', far + bytes(1000)),
      add('far.nii.gz', gzip.compress(far + bytes(1000))),
      add('nowhere.nii', nifti_header((4, 4, 4), offset=float('nan'))
          + bytes(300)),
      add('before.nii', nifti_header((4, 4, 4), offset=-400.) + bytes(300)),
      add('negative.nii', nifti_header((-4, 4, 4)) + bytes(300)),
      add('none.nii', nifti_header((0, 4, 4)) + bytes(300)),
      add('eight.nii', nifti_header((4,) * 7)[:40] + b'\x09\0'
          + nifti_header((4,) * 7)[42:] + bytes(1 << 16)),
      add('kind.nii', nifti_header((4, 4, 4), kind=1234) + bytes(300)),
      add('complex.nii', nifti_header((4, 4, 4), kind=32) + bytes(600)),
      # Two gigabytes of zeros behind what is read, and before it.
      add('bomb.nii.gz', packed(2 << 30, nifti_header((4, 4, 4))
                                + bytes(300)), 'any'),
      add('far bomb.nii.gz', packed(2 << 30, nifti_header(
          (4, 4, 4), offset=float(1 << 30)) + bytes(300)), 'any'),
      add('grey bomb.nii.gz', packed(2 << 30, nifti_header(
          (1024, 1024, 2047), kind=2)), 'any', count=1),
      add('plain bomb.gz', packed(1 << 30)),
      add('pair.nii', pair[:344] + b'ni1\0' + pair[348:])]


def npy_header(text: str, version: int = 1, length: int | None = None) -> bytes:
  body = text.encode()
  size = len(body) if length is None else length
  return (b'\x93NUMPY' + bytes([version, 0])
          + struct.pack('<H' if version == 1 else '<I', size) + body)


def arrays(root: pathlib.Path, canary: pathlib.Path) -> list[Case]:
  """Headers of .npy that claim too much, hold code, or are none."""
  said = "{{'descr': {}, 'fortran_order': False, 'shape': {}}}\n".format
  objects = npy(np.zeros(2))[:0] + npy_header(said("'|O'", '(2,)'))
  objects += pickle.dumps(Canary(canary))
  add = lambda name, body, **options: put(
      root, f'arrays/{name}', body, 'error', **({'axes': 'SAR'} | options))
  stream = io.BytesIO()
  np.savez(stream, images=np.zeros((2, 4, 4), np.uint8))
  pack = {'key': 'images', 'index': 0}
  return [
      add('huge.npy', npy_header(said("'<f4'", '(1000000,) * 3')) + bytes(100)),
      add('large.npy', npy_header(said("'<f4'", str((10**6,) * 3)))
          + bytes(100)),
      add('wraps.npy', npy_header(said("'|u1'", str((2**32, 2**32, 2))))
          + bytes(100)),
      add('negative.npy', npy_header(said("'|u1'", '(-4, -4, 4)'))
          + bytes(100)),
      add('long.npy', npy_header(said("'|u1'", '(4, 4, 4)'), 2, 0xfffffff0)),
      add('text.npy', npy_header('(' * 9000)),
      add('deep.npy', npy_header('-' * 9000 + '1')),
      add('code.npy', npy_header(f"__import__('os').mkdir({str(canary)!r})")),
      add('objects.npy', objects),
      add('pickled.npy', pickle.dumps(Canary(canary))),
      add('fields.npy', npy_header(said("[('a', '|O')]", '(2,)'))
          + pickle.dumps(Canary(canary))),
      add('words.npy', npy(np.full((4, 4, 4), 'text'))),
      add('one.npy', npy(np.zeros(()))), add('none.npy', npy(np.zeros((0, 4, 4)))),
      add('nan.npy', npy(np.full((4, 4, 4), np.nan))),
      add('objects.npz', archive('images.npy', objects), **{'axes': ''} | pack),
  ] if False else [
      *_arrays(add, said, objects, canary),
      put(root, 'arrays/objects.npz', archive('images.npy', objects), 'error',
          **pack),
      put(root, 'arrays/large.npz', archive('images.npy', npy_header(
          said("'|u1'", str((10**6,) * 3))) + bytes(99)), 'error', **pack),
      put(root, 'arrays/bomb.npz', zip_bomb(4 << 30), 'error', **pack),
      put(root, 'arrays/liar.npz', zip_bomb(1 << 20, claim=1 << 10), 'error',
          **pack),
      put(root, 'arrays/climbs.npz', archive('../../images.npy', npy(
          np.zeros((2, 4, 4), np.uint8))), 'error', **pack)]
