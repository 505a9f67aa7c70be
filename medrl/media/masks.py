"""Masks from files, run lengths and polygons; boxes, parts and outlines.

A mask is bool [h, w], a label map an integer array [h, w] whose 0 is
background. Boxes are (x1, y1, x2, y2) of pixel edges, x2 and y2 exclusive, and
a pixel's centre lies at +0.5, as in `spatial`, by which masks are resized.
Which slices of a volume to show is for `slices`; Dice and IoU are rewards.
"""

from collections.abc import Mapping, Sequence
import io
import math
from typing import Any

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageOps
from scipy import ndimage

from medrl.media import files
from medrl.media import spatial
from medrl.media import volume
from medrl.media import volume_files

FORMATS = ('PNG', 'TIFF', 'BMP', 'GIF', 'JPEG')
# As large as an image that is read whole; a label map takes 2 bytes a pixel.
MAX_PIXELS = 80_000_000
# Bounds the time that a damaged or hostile annotation can take.
MAX_VERTICES = 1_000_000
# Told apart by most readers on grey images (after Okabe and Ito, 2008).
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
           (213, 94, 0), (204, 121, 167))
_MAX_LABEL = 40   # characters; more would cover the image


def load(path: str, root: str) -> np.ndarray:
  """Reads a mask or label map, in its own numbers.

  1-bit files give 0 and 1, palettes their indices (not colours), 16-bit files
  16-bit numbers. Three equal channels count as one. JPEG blurs labels, so it is
  read as a mask: 1 where the grey is 128 or more. `mask > 0` is the mask of
  most data sets.

  Args:
    path: below `root`, or relative to it.
    root: the data root.

  Returns:
    uint8 [h, w], or uint16 or int32 where the file holds more.

  Raises:
    ValueError: outside `root`, damaged, too large, coloured or transparent.
    FileNotFoundError: there is no such file.
  """
  return decode(files.read(path, root), path)


def decode(data: bytes, name: str) -> np.ndarray:
  """As `load`, of a file's bytes."""
  return files.decoded(name, 'a mask', lambda: _read(data))


def _read(data: bytes) -> np.ndarray:
  with Image.open(io.BytesIO(data), formats=FORMATS) as image:
    if image.width * image.height > MAX_PIXELS:
      raise ValueError(f'{image.height} x {image.width} is more than '
                       f'{MAX_PIXELS} pixels')
    if image.format == 'JPEG':
      grey = np.asarray(ImageOps.exif_transpose(image).convert('L'))
      return (grey >= 128).astype(np.uint8)
    values = np.asarray(ImageOps.exif_transpose(image))
  if values.ndim == 3 and values.shape[2] == 3 and (
      values == values[:, :, :1]).all():
    values = values[:, :, 0]
  if values.dtype == bool:
    values = values.astype(np.uint8)
  if values.ndim != 2 or values.dtype.kind not in 'ui':
    raise ValueError(
        f'it is of mode {image.mode}; expected one channel of integers, or a '
        'palette. Turn colours into numbers of labels beforehand')
  return np.ascontiguousarray(values)


def load_section(path: str, root: str, plane: str, index: int,
                 isotropic: bool = True) -> np.ndarray:
  """One section of a volume of labels, on the pixels of `slices.load`'s image.

  Args:
    path: of a NIfTI or other volume, as in `volume_files.open_volume`.
    root: the data root.
    plane: 'axial', 'coronal' or 'sagittal'.
    index: along the axis through the plane, as in `slices`.
    isotropic: as in `slices`.

  Returns:
    integers [h, w], turned as the image is.

  Raises:
    ValueError: outside `root`, damaged, no such section, or not of integers.
    FileNotFoundError: there is no such file or folder.
  """
  labels = volume.canonical(volume_files.open_volume(path, root))
  section = volume.planes(labels, plane, [index])[0, 0]
  with np.errstate(invalid='ignore'):   # nan is refused below
    whole = section.astype(np.int32)
  if section.ndim != 2 or not (whole == section).all():
    raise ValueError(f'{path!r} holds colours or fractions; expected labels')
  return spatial.apply_mask(spatial.resize(
      whole.shape[::-1], volume.view(labels, plane, isotropic).transform.target
  ), whole)


def from_rle(value: Mapping[str, Any]) -> np.ndarray:
  """The mask of COCO's {'size': [h, w], 'counts': ..}.

  Counts are lengths of runs of 0 and of 1 in turn, down the columns, or their
  compressed string: a character is 48 plus six bits, five of a number, least
  first, and one that says it goes on; from the fourth on, numbers are
  differences to the one two before (`maskApi.c` of cocoapi).

  Raises:
    ValueError: not of that form, too large, or runs that do not fill the size.
  """
  size, counts = value.get('size'), value.get('counts')
  if not (isinstance(size, (list, tuple)) and len(size) == 2 and all(
      type(side) is int and side > 0 for side in size)):
    raise ValueError(f"run lengths of size {size!r}; expected [height, width]")
  height, width = size
  if height * width > MAX_PIXELS:
    raise ValueError(f'run lengths of {height} x {width}, more than '
                     f'{MAX_PIXELS} pixels')
  if isinstance(counts, bytes):
    counts = counts.decode('latin-1')
  if isinstance(counts, str):
    counts = _unpacked(counts)
  if not isinstance(counts, (list, tuple)) or not all(
      type(run) is int and 0 <= run <= height * width for run in counts
  ) or sum(counts) != height * width:
    raise ValueError(f'run lengths do not fill {height} x {width} pixels; '
                     'expected counts of 0 and 1 in turn that sum to it')
  flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
  return np.ascontiguousarray(flat.reshape(width, height).T)


def _unpacked(text: str) -> list[int]:
  runs, number, shift = [], 0, 0
  for character in text:
    bits = ord(character) - 48
    if not 0 <= bits < 64 or shift > 60:
      raise ValueError(f'character {character!r} in compressed run lengths; '
                       "expected '0' to 'o', 12 a number at most")
    number |= (bits & 31) << shift
    shift += 5
    if not bits & 32:
      number -= (bits & 16) << shift - 4   # the sign
      runs.append(number + (runs[-2] if len(runs) > 2 else 0))
      number, shift = 0, 0
  if shift:
    raise ValueError('compressed run lengths end inside of a number')
  return runs


def from_polygons(polygons: Sequence[Any],
                  shape: tuple[int, int]) -> np.ndarray:
  """The pixels whose centres lie inside of any polygon.

  Inside is by the even-odd rule of each; a centre on an edge belongs to the
  polygon at its right or below it, so that neighbours share no pixel. What
  lies outside of the image is cut. COCO's own rasteriser rounds outlines and
  differs in pixels that touch one.

  Args:
    polygons: each [x1, y1, x2, y2, ..] or [[x1, y1], ..].
    shape: (height, width).

  Raises:
    ValueError: less than three corners, not finite, or too many corners.
  """
  if shape[0] * shape[1] > MAX_PIXELS:
    raise ValueError(f'shape {shape} is of more than {MAX_PIXELS} pixels')
  outlines = [_corners(polygon) for polygon in polygons]
  if sum(map(len, outlines)) > MAX_VERTICES:
    raise ValueError(f'polygons of more than {MAX_VERTICES} corners')
  mask = np.zeros(shape, bool)
  for outline in outlines:
    # Only its own extent, so that many small polygons cost little.
    low = np.clip(np.floor(outline.min(0)), 0, shape[::-1]).astype(int)
    high = np.clip(np.ceil(outline.max(0)), 0, shape[::-1]).astype(int)
    mask[low[1]:high[1], low[0]:high[0]] |= _inside(
        outline - low, tuple((high - low)[::-1]))
  return mask


def _corners(polygon: Any) -> np.ndarray:
  corners = np.asarray(polygon, np.float64)
  if corners.ndim == 1 and not corners.size % 2:
    corners = corners.reshape(-1, 2)
  if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3 or not (
      np.abs(corners) < 1e9).all():
    raise ValueError(f'a polygon of shape {np.shape(polygon)}; expected three '
                     'finite corners or more, [x1, y1, ..] or [[x, y], ..]')
  return corners


def _inside(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """Even-odd interior: a side that is crossed flips all to its right."""
  height, width = shape
  flips = np.zeros((height, width + 1), np.int32)
  ends = np.roll(corners, -1, axis=0)
  # Rows whose centres a side passes; its lower end counts, its upper does not.
  lows = np.ceil(np.minimum(corners, ends)[:, 1] - .5).clip(0, height)
  highs = np.ceil(np.maximum(corners, ends)[:, 1] - .5).clip(0, height)
  for (x1, y1), (x2, y2), low, high in zip(
      corners.tolist(), ends.tolist(), lows.tolist(), highs.tolist()):
    if low < high:
      rows = np.arange(int(low), int(high))
      at = x1 + (rows + .5 - y1) * ((x2 - x1) / (y2 - y1))
      flips[rows, np.ceil(at - .5).clip(0, width).astype(np.int64)] += 1
  return np.cumsum(flips, axis=1)[:, :width] % 2 == 1


def box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
  """The tight box (x1, y1, x2, y2) of what is not 0; None if nothing is."""
  rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
  if not rows.size:
    return None
  return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1,
          int(rows[-1]) + 1)


def boxes(labels: np.ndarray) -> dict[int, tuple[int, int, int, int]]:
  """Label -> tight box, of all labels but 0, in one pass."""
  values, compact = np.unique(labels, return_inverse=True)
  # Numbered by rank: `find_objects` makes a list as long as the largest label.
  ranks = np.searchsorted(values, 0) if 0 in values else -1
  compact = compact.reshape(labels.shape) + 1
  found = ndimage.find_objects(compact)
  return {int(value): (part[1].start, part[0].start, part[1].stop, part[0].stop)
          for rank, (value, part) in enumerate(zip(values, found))
          if rank != ranks}


def area(mask: np.ndarray) -> int:
  """Pixels that are not 0."""
  return int(np.count_nonzero(mask))


def centroid(mask: np.ndarray) -> tuple[float, float] | None:
  """The mean (x, y) of the centres of pixels that are not 0; None if none."""
  rows, columns = np.nonzero(mask)
  if not rows.size:
    return None
  return float(columns.mean()) + .5, float(rows.mean()) + .5


def components(mask: np.ndarray, least: int = 1) -> np.ndarray:
  """Connected parts as a label map, int32 [h, w]; 1 is the largest.

  Pixels that touch at a corner are connected. Equal parts are numbered in the
  order of their first pixels, row by row.

  Args:
    mask: [h, w], not 0 where it is.
    least: parts of fewer pixels become 0.
  """
  parts, count = ndimage.label(mask, np.ones((3, 3)))
  sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
  order = np.argsort(-sizes, kind='stable')
  numbers = np.zeros(count + 1, np.int32)
  numbers[order + 1] = np.where(
      sizes[order] >= least, np.arange(1, count + 1), 0)
  return numbers[parts]


def outline(image: np.ndarray, masks: Sequence[np.ndarray] = (),
            boxes: Sequence[Sequence[float]] = (),
            labels: Sequence[str] = ()) -> np.ndarray:
  """An image with masks and boxes drawn on it, for looking at.

  Args:
    image: uint8 [h, w, 3]; it is copied.
    masks: each [h, w], drawn as its innermost line of pixels.
    boxes: each (x1, y1, x2, y2) in pixels; what lies outside is not drawn.
    labels: of the masks, then of the boxes, in their order; '' for none. They
      are drawn as they are, so nothing that names a patient belongs here.

  Returns:
    uint8 [h, w, 3]. Colours go by order.

  Raises:
    ValueError: a mask of another shape, or more labels than things to label.
  """
  if len(labels) > len(masks) + len(boxes):
    raise ValueError(f'{len(labels)} labels for {len(masks)} masks and '
                     f'{len(boxes)} boxes')
  drawn, corners = image.copy(), []
  for number, mask in enumerate(masks):
    if mask.shape != image.shape[:2]:
      raise ValueError(f'a mask of shape {mask.shape} on an image of '
                       f'{image.shape[:2]}; resize it by `spatial.apply_mask`')
    drawn[_edge(mask != 0)] = COLOURS[number % len(COLOURS)]
    corners.append(box(mask) if number < len(labels) else None)
  canvas = Image.fromarray(drawn)
  pen = ImageDraw.Draw(canvas)
  for number, one in enumerate(boxes, len(masks)):
    corners.append(_draw(pen, one, image.shape, COLOURS[number % len(COLOURS)]))
  for number, (label, corner) in enumerate(zip(labels, corners)):
    if label and corner:
      _name(pen, label, corner, COLOURS[number % len(COLOURS)])
  return np.array(canvas)


def _edge(mask: np.ndarray) -> np.ndarray:
  """Pixels of a mask with a neighbour, of four, outside of it."""
  padded = np.pad(mask, 1)
  inner = (padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2]
           & padded[1:-1, 2:])
  return mask & ~inner


def _draw(pen: ImageDraw.ImageDraw, one: Sequence[float], shape, colour):
  """Draws the pixels at a box's inner edge; the box cut to the image."""
  height, width = shape[:2]
  if not all(map(math.isfinite, one)):
    raise ValueError(f'box {tuple(one)}: expected four finite numbers')
  x1, y1, x2, y2 = (math.floor(v + .5) for v in one)
  x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
  if x1 >= x2 or y1 >= y2:
    return None
  pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colour)
  return x1, y1, x2, y2


def _name(pen: ImageDraw.ImageDraw, label: str, corner, colour) -> None:
  """Writes a label on its colour above a box, or in it at the top edge."""
  label = ' '.join(str(label).split())[:_MAX_LABEL]
  left, top, right, bottom = pen.textbbox((0, 0), label)
  x, y = corner[0], corner[1] - (bottom - top) - 2
  y = y if y >= 0 else corner[1] + 1
  pen.rectangle((x, y, x + right - left + 1, y + bottom - top + 1), fill=colour)
  pen.text((x + 1 - left, y + 1 - top), label, fill=(0, 0, 0))
