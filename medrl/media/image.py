"""Image files to uint8 [h, w, 3], and images of .npz archives.

It reads what lies below the data root and nothing else, since paths come from
users' files. It neither resizes for a model (see `processors`) nor reads DICOM
or video.
"""

from collections.abc import Callable
import functools
import pathlib
from typing import Any

import numpy as np
from PIL import Image
from PIL import ImageOps

FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF')
# 240 MB as RGB, in each of several workers. A mammogram has some 30 million
# pixels; what is larger is a bomb or a whole slide, which is read in tiles.
MAX_PIXELS = 80_000_000
# Archives held in memory by a worker: train and test splits of two data sets.
OPEN_ARCHIVES = 4


def locate(path: str, root: str) -> pathlib.Path:
  """The real path of the file `path`, which must lie below `root`.

  Args:
    path: relative to `root`, or absolute and below it.
    root: the data root; links that lead out of it are refused.

  Raises:
    ValueError: the path leaves the root or cannot be a path.
    FileNotFoundError: there is no such file.
  """
  base = pathlib.Path(root).resolve()
  try:
    full = (base / path).resolve()
    found = full.is_file()
  except (OSError, RuntimeError, ValueError) as error:
    raise ValueError(f'{path!r} is not a path: {error}') from error
  if not full.is_relative_to(base):
    raise ValueError(
        f'{path!r} leads to {str(full)!r}, outside the data root '
        f'{str(base)!r}; move or copy the file below the root')
  if not found:
    raise FileNotFoundError(
        f'no file {str(full)!r}; it was formed as root / path from root '
        f'{str(base)!r} and path {path!r}, so check the root or the record')
  return full


def load(path: str, root: str) -> np.ndarray:
  """Reads a JPEG, PNG, BMP, WebP or TIFF file (its first frame).

  The EXIF orientation is applied, transparent pixels are blended with black,
  and grey images of more than 8 bits are stretched from their own minimum and
  maximum to 0..255.

  Returns:
    uint8 [h, w, 3].

  Raises:
    ValueError: outside `root`, damaged, of another format, or too large.
    FileNotFoundError: there is no such file.
  """
  full = locate(path, root)
  return _decoded(full, lambda: _read_image(full))


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
  full = locate(path, root)
  images = _archive(full, key)
  if not 0 <= index < len(images):
    raise ValueError(f'{str(full)!r}: {key!r} holds images 0 to '
                     f'{len(images) - 1}, not {index}')
  image = Image.fromarray(images[index])
  if size:
    image = image.resize((size, size), Image.Resampling.BICUBIC)
  return np.array(image.convert('RGB'))


def _decoded(full: pathlib.Path, read: Callable[[], Any]) -> Any:
  """`read()`, with whatever a damaged file makes it raise as a ValueError."""
  try:
    return read()
  # A decoder fed with damaged bytes may raise anything: OSError, SyntaxError,
  # struct.error, zlib.error, BadZipFile, EOFError have all been seen.
  except Exception as error:
    raise ValueError(f'{str(full)!r} cannot be read as an image: '
                     f'{type(error).__name__}: {error}') from error


def _read_image(full: pathlib.Path) -> np.ndarray:
  with Image.open(full, formats=FORMATS) as image:
    width, height = image.size
    if width * height > MAX_PIXELS:
      raise ValueError(
          f'{height} x {width} is more than {MAX_PIXELS} pixels; scale it down '
          f'or cut it into tiles beforehand')
    return np.array(_to_rgb(ImageOps.exif_transpose(image)))


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode == 'F' or image.mode.startswith('I'):
    return _stretch(np.asarray(image).astype(np.float64)).convert('RGB')
  if image.has_transparency_data:
    image = image.convert('RGBA')
    black = Image.new('RGBA', image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image).convert('RGB')
  return image.convert('RGB')


def _stretch(values: np.ndarray) -> Image.Image:
  """Grey values of any range to 8 bits; 12 bits stored in 16 stay visible."""
  if not np.isfinite(values).all():
    raise ValueError('it has pixels that are not finite')
  low, high = values.min(), values.max()
  scaled = (values - low) * (255 / max(high - low, 1e-12))
  return Image.fromarray(np.rint(scaled).astype(np.uint8))


@functools.lru_cache(maxsize=OPEN_ARCHIVES)
def _archive(full: pathlib.Path, key: str) -> np.ndarray:
  return _decoded(full, lambda: _read_archive(full, key))


def _read_archive(full: pathlib.Path, key: str) -> np.ndarray:
  archive = np.load(full, allow_pickle=False)
  if not isinstance(archive, np.lib.npyio.NpzFile):
    raise ValueError('it is a single array; expected an .npz archive')
  with archive:
    if key not in archive.files:
      raise ValueError(f'no array {key!r}; it has {", ".join(archive.files)}')
    images = archive[key]
  shape = images.shape
  if images.dtype != np.uint8 or not (
      len(shape) == 3 or len(shape) == 4 and shape[3] == 3):
    raise ValueError(f'{key!r} is {images.dtype} {list(shape)}; expected uint8 '
                     f'[n, h, w] or [n, h, w, 3]')
  return images
