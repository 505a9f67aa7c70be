"""Reads the traces of a drawing of `ecg_paper` back into a signal.

It needs the geometry of that drawing and so is no digitiser of photographs or
scans; it shows what of a signal a picture still holds.
"""

import math

import numpy as np

from medrl import types
from medrl.media import ecg_paper

# Of full ink, from which a pixel counts: paper has none (see `ecg_paper`).
_INK = .12


def measure(image: np.ndarray, geometry: ecg_paper.Geometry) -> types.Signal:
  """The traces as a signal, one sample a column of pixels.

  A column of a steep trace holds many values: the outermost is taken where the
  trace turns, as at an R peak, and else the median of its ink, which the pen
  of a steep neighbour reaches least.

  Args:
    image: uint8 [h, w, 3], as `ecg_paper.draw` made it.
    geometry: as `ecg_paper.geometry` gave it for the same signal and options.

  Returns:
    mV of each lead drawn, from the first second drawn on; nan where a lead is
    not drawn. What is drawn twice (a strip of rhythm) is one lead.

  Raises:
    ValueError: the image has another size, as after a resize.
  """
  shape = (geometry.height, geometry.width, 3)
  if image.shape != shape or image.dtype != np.uint8:
    raise ValueError(f'the image is {image.dtype} {list(image.shape)}; its '
                     f'geometry expects uint8 {list(shape)}')
  a_second = geometry.speed * geometry.pixels_per_mm
  leads = tuple(dict.fromkeys(cell.lead for cell in geometry.cells))
  length = max(cell.start + cell.seconds for cell in geometry.cells)
  values = np.full((len(leads), int(round(length * a_second))), np.nan)
  for cell in geometry.cells:
    trace = _trace(image, cell, geometry)
    begin = int(round(cell.start * a_second))
    row = values[leads.index(cell.lead), begin:begin + len(trace)]
    row[:] = np.where(np.isnan(row), trace[:len(row)], row)
  return types.Signal(values.astype(np.float32), a_second, leads)


def _trace(image: np.ndarray, cell: ecg_paper.Cell,
           geometry: ecg_paper.Geometry) -> np.ndarray:
  """mV at the columns of a cell from the first that is wholly its own."""
  scale = geometry.pixels_per_mm
  first = int(round(cell.left))
  last = int(round(cell.left + cell.seconds * geometry.speed * scale))
  red = image[cell.top:cell.bottom, first:last, 0]
  ink = 1 - red / np.float32(255)
  dark = ink > _INK
  rows, columns = len(ink), np.arange(ink.shape[1])
  top = dark.argmax(0)
  bottom = rows - 1 - dark[::-1].argmax(0)
  # A pixel partly covered is covered from its inner side.
  pen = ecg_paper.TRACE_MM * scale / 2
  low = top + .5 - ink[top, columns] + pen
  high = bottom - .5 + ink[bottom, columns] - pen
  middle = _median(ink)
  steep = high - low > 1
  before = np.concatenate([middle[:1], middle[:-1]])
  after = np.concatenate([middle[1:], middle[-1:]])
  y = np.where(steep & (middle < before) & (middle < after), low, middle)
  y = np.where(steep & (middle > before) & (middle > after), high, y)
  # The pen of the next cell reaches over the border.
  own = (columns >= math.ceil(pen)) & (columns < len(columns) - math.ceil(pen))
  y = np.where(dark.any(0) & own, y + cell.top, math.nan)
  return (cell.zero - y) / (geometry.gain * scale)


def _median(ink: np.ndarray) -> np.ndarray:
  """Row above and below which a column has as much ink: [columns]."""
  total = np.cumsum(ink, axis=0)
  half = total[-1] / 2
  row = (total >= half).argmax(0)
  columns = np.arange(ink.shape[1])
  here = ink[row, columns]
  share = np.divide(half - (total[row, columns] - here), here,
                    out=np.zeros_like(half), where=here > 0)
  return row - .5 + share
