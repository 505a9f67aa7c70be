"""Damaged media files, made from real ones, always the same.

Each is written below a root and comes with what must come of it: 'error', a
clear refusal; 'good', what it shows; 'any', one of both. Files that were made
to do harm are those of `hostile`.
"""

import dataclasses
import io
import pathlib
from typing import Any

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
  # The last time of two: only what is asked for is read.
  for name, options in (('anatomical.nii', {}), ('example4d.nii.gz', {
      'time': 1})):
    found[name] = (data / 'nifti' / name).read_bytes(), options
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
