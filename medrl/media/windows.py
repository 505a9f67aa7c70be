"""Grey levels of any range to the 256 that are shown: windows and tables.

Pure NumPy, for whatever holds the values (DICOM, NIfTI, arrays). It reads no
file and knows no patient. Values are handled a strip at a time, so that
intermediates stay in the cache of the processor.
"""

from collections.abc import Callable, Sequence
import math
from typing import NamedTuple

import numpy as np

FUNCTIONS = ('LINEAR', 'LINEAR_EXACT', 'SIGMOID')
# Centre and width in HU, as usual on CT: Murphy and Baba, 'Windowing (CT)',
# Radiopaedia.org, doi 10.53347/rID-52108; of a range there, the middle.
NAMED = {
    'lung': (-600., 1500.), 'mediastinum': (50., 350.),
    'abdomen': (50., 400.), 'liver': (30., 150.),
    'soft_tissue': (40., 400.), 'spine': (50., 250.),
    'bone': (400., 1800.), 'temporal_bone': (600., 2800.),
    'brain': (40., 80.), 'stroke': (40., 40.), 'subdural': (75., 215.),
}
# Percentiles that an automatic window runs between: what is beyond is metal,
# markers, or noise.
LOW, HIGH = 0.5, 99.5
# Of more values than this, every second, third, ... counts for percentiles.
SAMPLED = 1 << 20
_STRIP = 1 << 16


class Window(NamedTuple):
  """Values that are told apart: of `width` around `centre`.

  `function` is one of `FUNCTIONS`, the VOI LUT Function of DICOM.
  """
  centre: float
  width: float
  function: str = 'LINEAR_EXACT'


class Lut(NamedTuple):
  """A table from integers: value `first + i` becomes `values[i]`.

  `values` is an unsigned array [n] of `bits` bits; what lies below `first` or
  above the end takes the first or last value (DICOM PS3.3 C.11.1.1.1).
  """
  first: int
  values: np.ndarray
  bits: int


def window(values: np.ndarray, centre: float, width: float,
           function: str = 'LINEAR_EXACT',
           rescale: tuple[float, float] = (1., 0.)) -> np.ndarray:
  """Grey levels of `values`, rounded to the nearest of 0..255.

  With c, w the centre and width, 0..255 is (DICOM PS3.3 C.11.2.1.2 and
  C.11.2.1.3):

    LINEAR        (x - (c - 0.5)) / (w - 1) + 0.5, times 255
    LINEAR_EXACT  (x - c) / w + 0.5, times 255
    SIGMOID       255 / (1 + exp(-4 (x - c) / w))

  LINEAR counts integers: it is what a header means that names no function.
  LINEAR_EXACT is the default, for a window chosen in HU.

  Args:
    values: numbers of any shape and type; nan becomes 0.
    centre: of the window, in units of the rescaled values.
    width: of the window, at least 1 (LINEAR) or above 0.
    function: one of `FUNCTIONS`.
    rescale: (slope, intercept) to apply to `values` first.

  Returns:
    uint8 of the shape of `values`.

  Raises:
    ValueError: a width, a function or a slope that is none.
  """
  centre, width, function = checked(Window(centre, width, function))
  slope, intercept = rescale
  if not slope or not math.isfinite(slope + intercept):
    raise ValueError(f'{slope} * x + {intercept} is no rescaling; expected '
                     f'finite numbers and a slope other than 0')
  if function == 'SIGMOID':
    steep, middle = -4 * slope / width, (centre - intercept) / slope
    return mapped(values, lambda x: 255 / (1 + np.exp(
        np.clip(steep * (x - middle), -50, 50))))
  if function == 'LINEAR':
    centre, width = centre - 0.5, width - 1
  start = np.float32((centre - width / 2 - intercept) / slope)
  # Width 0 is a threshold: a slope that no two values lie on.
  scale = np.float32(255 * slope / max(width, 1e-6))
  return _strips(values, lambda x: _line(x, start, scale))


def mapped(values: np.ndarray,
           function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
  """`function` of each value, rounded to uint8.

  Of many integers of at most 16 bits it is worked out once for each that there
  can be. `function` takes and gives float32 arrays of any one shape.
  """
  values = _native(values)
  bits = 8 * values.dtype.itemsize
  if values.dtype.kind not in 'iu' or bits > 16 or values.size < 1 << bits:
    return _strips(values, function)
  codes = np.arange(1 << bits).astype(f'u{bits // 8}')
  table = _strips(codes.view(values.dtype), function)
  codes = np.ascontiguousarray(values).view(codes.dtype)
  # No index is out of range; 'wrap' saves the check.
  return table.take(codes, mode='wrap')


def looked_up(values: np.ndarray, lut: Lut) -> np.ndarray:
  """What a table makes of `values` (DICOM PS3.3 C.11.1.1.1 and C.11.2.1.1)."""
  last = len(lut.values) - 1
  at = np.clip(np.asarray(values, np.float32) - lut.first, 0, last)
  return lut.values[np.rint(at).astype(np.intp)]


def automatic(values: np.ndarray,
              ignored: tuple[float, float] | None = None) -> Window:
  """The window from the 0.5th to the 99.5th percentile of the finite values.

  Where those are one and the same (masks, nearly empty images) it runs from
  the least to the greatest.

  Args:
    values: numbers of any shape; of more than `SAMPLED`, an even choice.
    ignored: (low, high) of values that are padding and no measurement.
  """
  flat = np.asarray(values).reshape(-1)
  flat = flat[::-(-flat.size // SAMPLED) or 1]
  if ignored is not None:
    flat = flat[(flat < ignored[0]) | (flat > ignored[1])]
  if flat.dtype.kind == 'f':
    flat = flat[np.isfinite(flat)]
  if not flat.size:
    return Window(0.5, 1.)
  low, high = _percentiles(flat)
  if low == high:
    low, high = float(flat.min()), float(flat.max())
  width = high - low if high > low else 1.
  return Window(low + width / 2, width)


def choose(values: np.ndarray, wanted: str | Sequence[float],
           header: Sequence[Window] = (),
           ignored: tuple[float, float] | None = None) -> Window:
  """The window that `wanted` asks for.

  Args:
    values: what is to be shown, in units of the window.
    wanted: 'header' (the first of `header`; automatic where it is empty),
      'automatic', a name of `NAMED`, or (centre, width).
    header: windows that came with the values.
    ignored: as in `automatic`.

  Raises:
    ValueError: `wanted` is none of these.
  """
  wanted = understood(wanted)
  if isinstance(wanted, Window):
    return wanted
  if wanted == 'header' and header:
    return header[0]
  return automatic(values, ignored)


def understood(wanted: str | Sequence[float]) -> str | Window:
  """'header', 'automatic', or the window that a name or a pair stands for.

  Raises:
    ValueError: as in `choose`.
  """
  if isinstance(wanted, str):
    if wanted in NAMED:
      return Window(*NAMED[wanted])
    if wanted in ('header', 'automatic'):
      return wanted
  elif isinstance(wanted, Sequence) and len(wanted) in (2, 3):
    return checked(Window(*wanted))
  raise ValueError(
      f"window {wanted!r} is unknown; expected 'header', 'automatic', (centre, "
      f'width), or one of {", ".join(NAMED)}')


def checked(one: Window) -> Window:
  """The same window, numbers as floats.

  Raises:
    ValueError: it is no window.
  """
  if one.function not in FUNCTIONS:
    raise ValueError(f'window function {one.function!r} is unknown; expected '
                     f'one of {", ".join(FUNCTIONS)}')
  least = 1. if one.function == 'LINEAR' else 1e-6
  numbers = all(isinstance(x, (int, float, np.number))
                and math.isfinite(x) for x in one[:2])
  if not numbers or one.width < least:
    raise ValueError(f'centre {one.centre!r} and width {one.width!r} are no '
                     f'window; expected numbers, and a width of at least '
                     f'{least}')
  return Window(float(one.centre), float(one.width), one.function)


def _line(x: np.ndarray, start: np.float32, scale: np.float32) -> np.ndarray:
  # Subtracted first: a difference of integers is exact in float32, which the
  # difference of two large products would not be.
  x -= start
  x *= scale
  return x


def _strips(values: np.ndarray,
            function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
  flat = np.asarray(values).reshape(-1)
  out = np.empty(flat.size, np.uint8)
  for at in range(0, flat.size, _STRIP):
    part = function(flat[at:at + _STRIP].astype(np.float32))
    part += np.float32(0.5)
    # The order puts nan at 0: a comparison with it is never true.
    part = np.fmin(np.fmax(part, 0, out=part), np.float32(255), out=part)
    out[at:at + _STRIP] = part
  return out.reshape(np.shape(values))


def _native(values: np.ndarray) -> np.ndarray:
  values = np.asarray(values)
  return values.astype(values.dtype.newbyteorder('='), copy=False)


def _percentiles(flat: np.ndarray) -> tuple[float, float]:
  if flat.dtype.kind in 'iu' and flat.dtype.itemsize <= 2:
    # Counting is several times as fast as the partial sort of `percentile`.
    low = int(flat.min())
    counts = np.bincount(flat.astype(np.int32) - low).cumsum()
    found = np.searchsorted(counts, flat.size * np.array([LOW, HIGH]) / 100)
    return float(low + found[0]), float(low + found[1])
  low, high = np.percentile(flat, (LOW, HIGH))
  return float(low), float(high)
