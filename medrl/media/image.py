"""Image files to uint8 [h, w, 3], and images of .npz archives.

It neither resizes for a model (see `processors`) nor reads DICOM or video.
"""

import functools
import io
import math
import pathlib
import struct
import zipfile

import numpy as np
from PIL import BmpImagePlugin
from PIL import Image
from PIL import ImageOps
from PIL import JpegImagePlugin
from PIL import PngImagePlugin
from PIL import TiffImagePlugin
from PIL import WebPImagePlugin

from medrl.media import files

# 240 MB as RGB, in each of several workers. A mammogram has some 30 million
# pixels; what is larger is a bomb or a whole slide, which is read in tiles.
MAX_PIXELS = 80_000_000
# Archives held in memory by a worker: train and test splits of two data sets.
OPEN_ARCHIVES = 4
# Of one array of an archive, unpacked.
MAX_ARRAY_BYTES = 2 << 30
# The first bytes of a file, and what reads it. `Image.open` is not used: it
# warns of large images instead of refusing them, and guesses by suffix.
OPENERS = (
    (b'\xff\xd8\xff', JpegImagePlugin.JpegImageFile),
    (b'\x89PNG\r\n\x1a\n', PngImagePlugin.PngImageFile),
    (b'II*\0', TiffImagePlugin.TiffImageFile),
    (b'MM\0*', TiffImagePlugin.TiffImageFile),
    (b'II+\0', TiffImagePlugin.TiffImageFile),
    (b'MM\0+', TiffImagePlugin.TiffImageFile),
)


def load(path: str, root: str, *, page: int = 0) -> np.ndarray:
  """Reads a JPEG, PNG, BMP, WebP or TIFF file, whatever its suffix.

  The EXIF orientation is applied, transparent pixels are blended with black,
  and grey images of more than 8 bits are stretched from their own minimum and
  maximum to 0..255; of colours with 16 bits the upper 8 are kept.

  Args:
    path: below the data root.
    root: the data root.
    page: of a TIFF of several, or frame of an animation, from 0.

  Returns:
    uint8 [h, w, 3], read-only.

  Raises:
    ValueError: outside `root`, damaged, of another format, of more than
      `MAX_PIXELS` pixels (told from the header), or without such a page.
    FileNotFoundError: there is no such file.
  """
  return decode(files.read(path, root), path, page=page)


def decode(data: bytes, name: str, *, page: int = 0) -> np.ndarray:
  """As `load`, of the bytes of a file; errors call it `name`."""
  return files.decoded(name, 'an image', lambda: _decode(data, page))


def is_image(head: bytes) -> bool:
  """Whether a file that starts with `head` (12 bytes or more) is read here."""
  return _opener(head) is not None


def load_npz(path: str, root: str, *, key: str, index: int,
             size: int = 0) -> np.ndarray:
  """Reads one image of an archive of uint8 [n, h, w] or [n, h, w, 3].

  MedMNIST (Yang et al. 2023) keeps its images so, under `{split}_images`.

  Args:
    path: of the archive, as in `load`.
    root: the data root.
    key: name of the array in the archive.
    index: from 0.
    size: side in pixels to resize to (bicubic); 0 leaves the image as it is.

  Returns:
    uint8 [h, w, 3].

  Raises:
    ValueError: as in `load`, or no such key or index, or another shape.
    FileNotFoundError: there is no such file.
  """
  full = files.locate(path, root)
  images = _archive(full, key)
  if not 0 <= index < len(images):
    raise ValueError(f'{str(full)!r}: {key!r} holds images 0 to '
                     f'{len(images) - 1}, not {index}')
  image = Image.fromarray(images[index])
  if size:
    image = image.resize((size, size), Image.Resampling.BICUBIC)
  return np.array(image.convert('RGB'))


def _opener(head: bytes):
  if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
    return WebPImagePlugin.WebPImageFile
  # 'BM' alone may begin a text; the four reserved bytes are zero.
  if head[:2] == b'BM' and head[6:10] == bytes(4):
    return BmpImagePlugin.BmpImageFile
  return next((open_ for magic, open_ in OPENERS if head.startswith(magic)),
              None)


def _decode(data: bytes, page: int) -> np.ndarray:
  opener = _opener(data[:16])
  if opener is None:
    raise ValueError('its first bytes are ' + (
        f'{data[:8]!r}' if data else 'missing: it is empty')
        + '; expected JPEG, PNG, TIFF, WebP or BMP')
  if opener is WebPImagePlugin.WebPImageFile:
    # The plug-in makes room for the pixels before it tells their number.
    _check_size(*_webp_size(data[:30]))
  with opener(io.BytesIO(data)) as image:
    if page:
      _turn_to(image, page)
    _check_size(*image.size)
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(_to_rgb(image))


def _check_size(width: int, height: int):
  if width * height > MAX_PIXELS:
    raise ValueError(
        f'{height} x {width} is more than {MAX_PIXELS} pixels; scale it down '
        f'or cut it into tiles beforehand')


def _webp_size(head: bytes) -> tuple[int, int]:
  """Width and height of a WebP file (RFC 9649, sections 2.5 to 2.7)."""
  kind, body = head[12:16], head[20:]
  if kind == b'VP8X':
    return (int.from_bytes(body[4:7], 'little') + 1,
            int.from_bytes(body[7:10], 'little') + 1)
  if kind == b'VP8L':
    bits = int.from_bytes(body[1:5], 'little')
    return (bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1
  width, height = struct.unpack('<2H', body[6:10])
  return width & 0x3fff, height & 0x3fff


def _turn_to(image: Image.Image, page: int):
  pages = getattr(image, 'n_frames', 1)
  if isinstance(page, bool) or not isinstance(page, int) or (
      not 0 <= page < pages):
    raise ValueError(f'it has pages 0 to {pages - 1}, not {page!r}')
  image.seek(page)


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode == 'RGB' and 'transparency' not in image.info:
    return image
  if image.mode == 'F' or image.mode.startswith('I'):
    return _stretch(np.asarray(image), _white_is_zero(image)).convert('RGB')
  if image.has_transparency_data:
    image = image.convert('RGBA')
    black = Image.new('RGBA', image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image).convert('RGB')
  return image.convert('RGB')


def _white_is_zero(image: Image.Image) -> bool:
  """Whether high values are dark. Pillow sees to it in 8 bits, not in 16."""
  tags = getattr(image, 'tag_v2', {})
  return (image.mode.startswith('I;16')
          and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0)


def _stretch(values: np.ndarray, inverted: bool) -> Image.Image:
  """Grey values of any range to 8 bits; 12 bits stored in 16 stay visible."""
  if not np.isfinite(values).all():
    raise ValueError('it has pixels that are not finite')
  low, high = values.min(), values.max()
  if values.dtype.kind == 'u':
    levels = np.arange(int(high) - int(low) + 1) * (
        255 / max(int(high) - int(low), 1))
    levels = np.rint(255 * (high > low) - levels if inverted else levels)
    return Image.fromarray(levels.astype(np.uint8)[values - low])
  scaled = values.astype(np.float64)
  scaled -= low
  scaled *= 255 / max(float(high) - float(low), 1e-12)
  return Image.fromarray(np.rint(scaled, out=scaled).astype(np.uint8))


@functools.lru_cache(maxsize=OPEN_ARCHIVES)
def _archive(full: pathlib.Path, key: str) -> np.ndarray:
  return files.decoded(str(full), 'an image', lambda: _read_archive(full, key))


def _read_archive(full: pathlib.Path, key: str) -> np.ndarray:
  with zipfile.ZipFile(full) as archive:
    sizes = {info.filename.removesuffix('.npy'): info.file_size
             for info in archive.infolist()}
    if key not in sizes:
      raise ValueError(f'no array {key!r}; it has {", ".join(sizes)}')
    if sizes[key] > MAX_ARRAY_BYTES:
      raise ValueError(
          f'{key!r} has {sizes[key]} bytes unpacked, more than '
          f'{MAX_ARRAY_BYTES}; write its images to files')
    with archive.open(f'{key}.npy') as stream:
      shape, dtype = _npy_header(stream)
  if dtype != np.uint8 or not (
      len(shape) == 3 or len(shape) == 4 and shape[3] == 3):
    raise ValueError(f'{key!r} is {dtype} {list(shape)}; expected uint8 '
                     f'[n, h, w] or [n, h, w, 3]')
  if math.prod(shape) > sizes[key]:
    raise ValueError(f'{key!r} says that it is {list(shape)}, and has '
                     f'{sizes[key]} bytes')
  with np.load(full, allow_pickle=False) as archive:
    return archive[key]


def _npy_header(stream) -> tuple[tuple[int, ...], np.dtype]:
  version = np.lib.format.read_magic(stream)
  read = {(1, 0): np.lib.format.read_array_header_1_0,
          (2, 0): np.lib.format.read_array_header_2_0}.get(version)
  if read is None:
    raise ValueError(f'.npy of version {version}; expected (1, 0) or (2, 0)')
  shape, _, dtype = read(stream)
  return shape, dtype
