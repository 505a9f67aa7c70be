"""Media files made to do harm: to fill the memory, to run, to read elsewhere.

Nothing here is executed by a reader that is right; `Canary` shows it if so.
"""

import functools
import gzip
import io
import json
import pathlib
import pickle
import shutil
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from tests.media import damage

SMALL = Image.new('RGB', (8, 8))


class Canary:
  """Pickled, it creates a file when it is unpickled."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return open, (self.path, 'w')


def tiff(width: int, height: int) -> bytes:
  """A TIFF of one strip that is not there."""
  tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8),
          (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1),
          (278, 4, 1, height), (279, 4, 1, width * height & 0xffffffff)]
  return (b'II*\0' + struct.pack('<IH', 8, len(tags))
          + b''.join(struct.pack('<2H2I', *tag) for tag in tags) + bytes(4))


def pictures(root: pathlib.Path) -> list[damage.Case]:
  """Pictures whose headers claim 100,000 x 100,000 pixels, or the like."""
  png = bytearray(damage.saved(SMALL, 'PNG'))
  png[16:24] = struct.pack('>2I', 100_000, 100_000)
  png[29:33] = struct.pack('>I', zlib.crc32(png[12:29]))
  bmp = bytearray(damage.saved(SMALL, 'BMP'))
  bmp[18:26] = struct.pack('<2i', 100_000, 100_000)
  jpeg = bytearray(damage.saved(SMALL, 'JPEG'))
  at = jpeg.index(b'\xff\xc0') + 5
  jpeg[at:at + 4] = struct.pack('>2H', 65_500, 65_500)
  webp = bytearray(damage.saved(SMALL, 'WEBP', lossless=True))
  webp[21:25] = struct.pack('<I', 16_383 | 16_383 << 14)
  wide = bytearray(damage.saved(SMALL, 'WEBP', exif=b'Exif\0\0II*\0'))
  assert wide[12:16] == b'VP8X'
  wide[24:30] = b'\x9f\x86\1' * 2
  gif = bytearray(damage.saved(SMALL, 'GIF'))
  gif[6:10] = b'\xff' * 4
  text = zlib.compress(bytes(20 << 20))
  chunk = struct.pack('>I', len(text) + 3) + b'zTXta\0\0' + text
  chunk += struct.pack('>I', zlib.crc32(chunk[4:]))
  note = damage.saved(SMALL, 'PNG')
  loop = bytearray(damage.saved(SMALL, 'TIFF'))
  first, = struct.unpack_from('<I', loop, 4)
  count, = struct.unpack_from('<H', loop, first)
  struct.pack_into('<I', loop, first + 2 + 12 * count, first)   # next is itself
  made = {'a.png': png, 'a.bmp': bmp, 'a.jpg': jpeg, 'a.webp': webp,
          'wide.webp': wide, 'a.gif': gif, 'a.tiff': tiff(100_000, 100_000),
          'line.tiff': tiff(2_000_000_000, 1)}
  return [*(damage.put(root, f'pictures/{name}', bytes(data), 'error')
            for name, data in made.items()),
          damage.put(root, 'pictures/text.png', note[:33] + chunk + note[33:],
                     'any'),
          damage.put(root, 'pictures/loop.tiff', bytes(loop), 'error', page=1)]


def packed(size: int, start: bytes = b'') -> bytes:
  """Gzip of `start` and of some `size` zeros: one member a MiB (RFC 1952)."""
  return gzip.compress(start + bytes(4096)) + gzip.compress(
      bytes(1 << 20)) * (size >> 20)


def nifti(shape, offset: float = 352., kind: int = 16) -> bytes:
  """A header of NIfTI-1, of float32 by default."""
  head = bytearray(352)
  struct.pack_into('<i', head, 0, 348)
  struct.pack_into('<8h', head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
  struct.pack_into('<2h', head, 70, kind, 32 if kind == 16 else 8)
  struct.pack_into('<8f', head, 76, 1, *[1] * 7)
  struct.pack_into('<3f', head, 108, offset, 1, 0)
  head[344:348] = b'n+1\0'
  return bytes(head)


def volumes(root: pathlib.Path) -> list[damage.Case]:
  """NIfTI files that claim terabytes, or unpack to gigabytes."""
  second = bytearray(struct.pack('<i', 540) + b'n+2\0\r\n\x1a\n' + bytes(532))
  struct.pack_into('<2h', second, 12, 16, 32)
  struct.pack_into('<8q', second, 16, 3, *[1 << 40] * 3, *[1] * 4)
  struct.pack_into('<8d', second, 104, *[1.] * 8)
  struct.pack_into('<q', second, 168, 544)
  small = 4, 4, 4
  bad = {
      'huge.nii': nifti((30_000,) * 3),
      'huge2.nii': bytes(second),
      'far.nii': nifti(small, offset=1e15),
      'nowhere.nii': nifti(small, offset=float('nan')),
      'before.nii': nifti(small, offset=-400.),
      'negative.nii': nifti((-4, 4, 4)), 'none.nii': nifti((0, 4, 4)),
      'nine.nii': nifti(small)[:40] + b'\x09\0' + nifti(small)[42:],
      'kind.nii': nifti(small, kind=1234),
      'complex.nii': nifti(small, kind=32),
      'pair.nii': nifti(small)[:344] + b'ni1\0' + bytes(4)}
  cases = []
  for name, head in bad.items():
    data = head + bytes(5000)
    cases += [damage.put(root, f'volumes/{name}', data, 'error'),
              damage.put(root, f'volumes/{name}.gz', gzip.compress(data),
                         'error')]
  # Two gigabytes of zeros: behind the voxels, before them, and as voxels.
  for name, head in (('bomb behind', nifti(small)),
                     ('bomb before', nifti(small, offset=float(1 << 30))),
                     ('bomb voxels', nifti((1024, 1024, 2047), kind=2))):
    cases.append(damage.put(root, f'volumes/{name}.nii.gz', packed(
        2 << 30, head), 'any', count=1))
  return cases + [damage.put(root, 'volumes/no volume.gz', packed(1 << 30),
                             'error')]


def npy(descr: str, shape: str, version: int = 1,
        length: int | None = None) -> bytes:
  """A header of .npy that says so, or says that it is so long."""
  return npy_text(f"{{'descr': {descr}, 'fortran_order': False, "
                  f"'shape': {shape}}}\n", version, length)


def npy_text(text: str, version: int = 1, length: int | None = None) -> bytes:
  size = len(text) if length is None else length
  return (b'\x93NUMPY' + bytes([version, 0])
          + struct.pack('<H' if version == 1 else '<I', size) + text.encode())


def arrays(root: pathlib.Path, canary: pathlib.Path) -> list[damage.Case]:
  """Headers of .npy that claim too much, hold code, or are none."""
  code = pickle.dumps(Canary(canary))
  large, small = str((10**6,) * 3), '(4, 4, 4)'
  bad = {
      'huge': npy("'<f4'", large), 'sum': npy("'<f4'", '(1000000,) * 3'),
      'wraps': npy("'|u1'", str((2**32, 2**32, 2))),
      'negative': npy("'|u1'", '(-4, -4, 4)'),
      'long': npy("'|u1'", small, 2, 0xfffffff0),
      'brackets': npy_text('(' * 9000), 'signs': npy_text('-' * 9000 + '1'),
      'code': npy_text(f"__import__('os').mkdir({str(canary)!r})"),
      'objects': npy("'|O'", '(2,)') + code, 'pickled': code,
      'fields': npy("[('a', '|O')]", '(2,)') + code,
      'words': damage.npy(np.full((4, 4, 4), 'text')),
      'one': damage.npy(np.zeros(())), 'none': damage.npy(np.zeros((0, 4, 4)))}
  cases = [damage.put(root, f'arrays/{name}.npy', data + bytes(100), 'error',
                      axes='SAR') for name, data in bad.items()]
  packs = {
      'objects': archive('images.npy', bad['objects']),
      'large': archive('images.npy', bad['huge'] + bytes(99)),
      'bomb': archive('images.npy', damage.npy(
          np.zeros((2, 4, 4), np.uint8)), claim=8 << 30),
      'liar': archive('images.npy', npy("'|u1'", '(900, 1000, 1000)')
                      + bytes(8 << 20), claim=1 << 10),
      'climbs': archive('../../images.npy', damage.npy(
          np.zeros((2, 4, 4), np.uint8)))}
  return cases + [
      damage.put(root, f'arrays/{name}.npz', data, 'error', key='images',
                 index=0) for name, data in packs.items()]


def archive(name: str, body: bytes, claim: int | None = None) -> bytes:
  """A zip archive of one file, which claims to be so large unpacked."""
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, 'w', zipfile.ZIP_DEFLATED) as made:
    made.writestr(name, body)
    if claim is not None:
      made.infolist()[0].file_size = claim
  return stream.getvalue()


def dicoms(root: pathlib.Path, data: pathlib.Path) -> list[damage.Case]:
  """DICOM files that claim more pixels than they hold, or unpack to much."""
  import pydicom
  add = functools.partial(_dicom, root, data / 'dicom' / 'files')
  cases = [
      add('rows', 'CT_small.dcm', Rows=65_535, Columns=65_535),
      add('frames', 'CT_small.dcm', NumberOfFrames=999_999_999),
      add('no frames', 'CT_small.dcm', 'any', NumberOfFrames=0),
      add('minus frames', 'CT_small.dcm', 'any', NumberOfFrames=-5),
      add('no rows', 'CT_small.dcm', Rows=0),
      add('bits', 'CT_small.dcm', BitsAllocated=7),
      add('samples', 'CT_small.dcm', SamplesPerPixel=60_000),
      add('rle', 'MR_small_RLE.dcm', Rows=60_000, Columns=60_000),
      add('jpeg', 'examples_ybr_color.dcm', Rows=65_000, Columns=65_000),
      add('jpeg frames', 'examples_ybr_color.dcm', NumberOfFrames=10**9),
      add('lossless', 'JPGLosslessP14SV1_1s_1f_8b.dcm', Rows=65_000,
          Columns=65_000)]
  body = (data / 'dicom' / 'files' / 'J2K_pixelrep_mismatch.dcm').read_bytes()
  siz = body.index(b'\xff\x4f\xff\x51') + 8   # its Xsiz and Ysiz
  cases.append(damage.put(
      root, 'dicoms/codestream.dcm', body[:siz] + struct.pack(
          '>2I', 60_000, 60_000) + body[siz + 8:], 'error'))
  source = pydicom.dcmread(data / 'dicom' / 'files' / 'CT_small.dcm')
  source.file_meta.TransferSyntaxUID = '1.2.840.10008.1.2.1.99'
  stream = io.BytesIO()
  source.save_as(stream)
  start = stream.getvalue()
  length = 144 + struct.unpack_from('<I', start, 140)[0]
  squeeze = zlib.compressobj(wbits=-15)
  # A full flush makes a block that may be repeated.
  zeros = squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
  return cases + [damage.put(root, 'dicoms/deflated.dcm', start[:length]
                             + zeros * 2048 + squeeze.flush(), 'error')]


def _dicom(root, folder, name, source, want='error', **tags) -> damage.Case:
  import pydicom
  made = pydicom.dcmread(folder / source)
  for tag, value in tags.items():
    setattr(made, tag, value)
  stream = io.BytesIO()
  made.save_as(stream)
  return damage.put(root, f'dicoms/{name}.dcm', stream.getvalue(), want)


def zarr(root: pathlib.Path, path: str, **changes) -> pathlib.Path:
  """A Zarr array of 8 x 16 x 16 in two chunks, its metadata changed."""
  folder = root / path
  folder.mkdir(parents=True)
  (folder / '.zarray').write_text(json.dumps({
      'zarr_format': 2, 'shape': [8, 16, 16], 'chunks': [4, 16, 16],
      'dtype': '|u1', 'compressor': None, 'fill_value': 0, 'order': 'C',
      'filters': None, **changes}))
  for name in ('0.0.0', '1.0.0'):
    (folder / name).write_bytes(bytes(range(256)) * 4)
  return folder


def zarrs(root: pathlib.Path, outside: pathlib.Path) -> list[damage.Case]:
  """Zarr arrays that are damaged, claim too much or lead elsewhere."""
  made = functools.partial(zarr, root)
  made('zarr/whole.zarr')
  (made('zarr/cut.zarr') / '1.0.0').write_bytes(b'cut off')
  (made('zarr/text.zarr') / '.zarray').write_text('{"zarr_format": 2')
  (made('zarr/none.zarr') / '.zarray').unlink()
  made('zarr/huge.zarr', shape=[10**9] * 3, chunks=[10**9] * 3)
  made('zarr/wraps.zarr', shape=[2**62] * 3)
  made('zarr/chunk.zarr', shape=[10**5] * 3, chunks=[10**5] * 3)
  made('zarr/kind.zarr', dtype='|O')
  made('zarr/negative.zarr', shape=[-8, 16, 16])
  packing = {'id': 'zlib', 'level': 1}
  bomb = made('zarr/bomb.zarr', compressor=packing)
  (bomb / '0.0.0').write_bytes(packed(1 << 30)[:1 << 20])
  whole = zarr(outside, 'other.zarr')
  (made('zarr/linked.zarr') / '1.0.0').unlink()
  (root / 'zarr' / 'linked.zarr' / '1.0.0').symlink_to(whole / '1.0.0')
  (root / 'zarr' / 'folder.zarr').symlink_to(whole)
  meta = made('zarr/meta.zarr') / '.zarray'
  meta.unlink()
  meta.symlink_to(whole / '.zarray')
  for name, path in (('climbs', '../../../outside/other.zarr'),
                     ('absolute', str(whole))):
    group = root / 'zarr' / f'{name}.zarr'
    group.mkdir()
    (group / '.zgroup').write_text('{"zarr_format": 2}')
    (group / '.zattrs').write_text(json.dumps({'multiscales': [{
        'version': '0.4', 'axes': [{'name': n, 'type': 'space'}
                                   for n in 'zyx'],
        'datasets': [{'path': path, 'coordinateTransformations': [
            {'type': 'scale', 'scale': [1, 1, 1]}]}]}]}))
  bad = ('cut', 'text', 'none', 'huge', 'wraps', 'chunk', 'kind', 'negative',
         'bomb', 'linked', 'folder', 'meta', 'climbs', 'absolute')
  return [damage.Case(f'zarr/{name}.zarr', want, {'axes': 'SAR'})
          for name, want in (('whole', 'good'), *((n, 'error') for n in bad))]


def ecgs(root: pathlib.Path, data: pathlib.Path,
         outside: pathlib.Path) -> list[damage.Case]:
  """WFDB headers that are damaged, claim too much or name other files."""
  source = data / 'ecg' / 'wfdb'
  head = (source / 'ptbxl_00001_lr.hea').read_bytes()
  body = (source / 'ptbxl_00001_lr.dat').read_bytes()
  shutil.copy(source / 'ptbxl_00001_lr.dat', outside / 'out.dat')
  (outside / 'out.hea').write_bytes(head.replace(
      b'ptbxl_00001_lr', b'out'))
  cases = []

  def add(name, text, want='error', samples=body):
    folder = f'ecgs/{name}'
    cases.append(damage.put(root, f'{folder}/a.hea', text.replace(
        b'ptbxl_00001_lr', b'a'), want))
    if samples is not None:
      damage.put(root, f'{folder}/a.dat', samples, want)
  add('whole', head, 'good')
  for part in damage.PARTS:
    add(f'head {part}', head[:int(len(head) * part)])
    add(f'samples {part}', head, samples=body[:int(len(body) * part)])
  for seed in range(damage.FLIPS):
    add(f'flip head {seed}', damage.flipped(head, seed), 'any')
    add(f'flip samples {seed}', head, 'any', damage.flipped(body, seed))
  add('alone', head, samples=None)
  add('empty', head, samples=b'')
  add('no head', b'')
  add('text', b'a text, no header\n' * 30)
  for name, path in (('climbs', b'../../../outside/out.dat'),
                     ('absolute', str(outside / 'out.dat').encode()),
                     ('host', b'https://localhost/a.dat')):
    add(name, head.replace(b'ptbxl_00001_lr.dat', path))
  add('samples', head.replace(b' 100 1000', b' 100 999999999999'))
  add('leads', head.replace(b'lr 12 100', b'lr 99999999 100'))
  add('rate', head.replace(b'12 100 ', b'12 1e300 '))
  add('no rate', head.replace(b'12 100 ', b'12 0 '))
  add('gain', head.replace(b'1000.0(0)/mV', b'0(0)/mV'), 'any')
  add('format', head.replace(b' 16 ', b' 9999 '))
  add('segments', b'a/2 12 100 1000\n../../../outside/out 500\n'
      b'../../../outside/out 500\n')
  add('itself', b'a/2 12 100 1000\na 500\na 500\n')
  add('linked', head, samples=None)
  (root / 'ecgs' / 'linked' / 'a.dat').symlink_to(outside / 'out.dat')
  return cases


def films(root: pathlib.Path, outside: pathlib.Path) -> list[damage.Case]:
  """Play lists and scripts, which FFmpeg would follow, and claims of size."""
  frame = np.zeros((32, 32, 3), np.uint8)
  whole = damage.film([frame] * 5)
  (outside / 'out.mp4').write_bytes(whole)
  target = str(outside / 'out.mp4')
  texts = {
      'list': f'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n'
              '#EXT-X-ENDLIST\n',
      'concat': f"ffconcat version 1.0\nfile '{target}'\n",
      'dash': f'<?xml version="1.0"?><MPD><BaseURL>{target}</BaseURL></MPD>',
      'session': f'v=0\no=- 0 0 IN IP4 127.0.0.1\na={target}\n'}
  entry = whole.index(b'mp4v') + 28   # width and height of the sample entry
  sizes = whole[:entry] + b'\xff' * 4 + whole[entry + 4:]
  stts = whole.index(b'stts') + 8
  cases = [damage.put(root, f'films/{name}{suffix}', text.encode(), 'error')
           for name, text in texts.items() for suffix in ('.mp4', '.mkv', '')]
  return cases + [
      damage.put(root, 'films/sizes.mp4', sizes, 'any'),
      damage.put(root, 'films/count.mp4', whole[:stts] + b'\x7f\xff\xff\xff'
                 + whole[stts + 4:], 'any'),
      damage.put(root, 'films/rate.mp4', whole, 'error', rate=-1.),
      damage.put(root, 'films/times.mp4', whole, 'error', times=[1e9])]


def paths(root: pathlib.Path, data: pathlib.Path,
          outside: pathlib.Path) -> list[damage.Case]:
  """Ways out of the root: `..`, absolute paths and links."""
  photo = (data / 'busi' / 'images' / 'benign_1.jpg').read_bytes()
  (outside / 'out.jpg').write_bytes(photo)
  (outside / 'folder').mkdir()
  (outside / 'folder' / 'out.jpg').write_bytes(photo)
  series = sorted((data / 'dicom' / 'series' / '98892001' / 'CT5N').iterdir())
  shutil.copy(series[0], outside / 'slice.dcm')
  shutil.copytree(series[0].parent, outside / 'series')
  for name in ('whole', 'linked', 'cut', 'cut at the end', 'empty'):
    shutil.copytree(series[0].parent, root / 'series' / name)
  third = root / 'series' / 'linked' / series[2].name
  third.unlink()
  third.symlink_to(outside / 'series' / series[2].name)
  for name, which, size in (('cut', 2, 900), ('cut at the end', 0, 900),
                            ('empty', 2, 0)):
    with open(root / 'series' / name / series[which].name, 'r+b') as stream:
      stream.truncate(size)
  (root / 'series' / 'folder').symlink_to(outside / 'series')
  links = root / 'links'
  links.mkdir()
  (links / 'a.jpg').symlink_to(outside / 'out.jpg')
  (links / 'b.jpg').symlink_to('../../outside/out.jpg')
  (links / 'folder').symlink_to(outside / 'folder')
  (links / 'chain').symlink_to(links / 'folder')
  (links / 'loop.jpg').symlink_to(links / 'loop.jpg')
  (links / 'nothing.jpg').symlink_to(links / 'gone.jpg')
  (links / 'good.jpg').symlink_to(root / 'inside.jpg')
  (root / 'inside.jpg').write_bytes(photo)
  clip = root / 'clip'
  clip.mkdir()
  (clip / '0.jpg').write_bytes(photo)
  (clip / '1.jpg').symlink_to(outside / 'out.jpg')
  frames = {'pattern': '*.jpg', 'interval_s': 1.}
  bad = ('../outside/out.jpg', 'links/../../outside/out.jpg',
         './/..//outside//out.jpg', str(outside / 'out.jpg'),
         f'/{outside}/out.jpg', 'links/a.jpg', 'links/b.jpg',
         'links/folder/out.jpg', 'links/chain/out.jpg', 'links/loop.jpg',
         'links/nothing.jpg', 'a\0.jpg', 'a' * 5000, '/', '..', '', '~', '.',
         'file:///etc/hostname', 'http://localhost/a.jpg', '../outside/series',
         'series/folder', str(outside / 'series'), 'series/linked',
         'series/cut', 'series/cut at the end', 'series/empty', 'links')
  return [*(damage.Case(path, 'error') for path in bad),
          damage.Case('clip', 'error', frames),
          damage.Case('links/folder', 'error', frames),
          damage.Case('inside.jpg', 'good'),
          damage.Case('series/whole', 'good'),
          damage.Case('links/good.jpg', 'good'),
          damage.Case('links/../inside.jpg', 'good')]
