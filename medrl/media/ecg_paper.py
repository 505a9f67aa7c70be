"""An ECG drawn as on standard paper: 25 mm/s, 10 mm/mV, 3 x 4 leads and rhythm.

A row is as high as its leads need, so that no trace runs into another or into
a name; each lead is drawn about its median, as a machine that is coupled to
alternating current does. `ecg_scan` reads such a drawing back. Neither creases
nor photographs are drawn here.
"""

import inspect
import math
import re
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from medrl import types
from medrl.media import ecg

# All colours but that of ink have full red, so that red alone holds the trace.
PAPER, FINE, HEAVY, INK = (
    (255, 255, 255), (255, 220, 218), (255, 168, 164), (0, 0, 0))
FINE_MM, HEAVY_MM, TRACE_MM, NAME_MM = .1, .2, .36, 3.4   # widths; height
# Millimetres, in multiples of the heavy lines: what lies around the rows, the
# strip of names above each, and the least and most above and below its zero.
_TOP, _LEFT, _RIGHT, _BOTTOM = 5, 15, 5, 10
_NAMES, _UP, _DOWN, _MOST = 5, 10, 5, 40
_ROOM = 1.           # mm between a trace and the end of its row
_PULSE = (3., 5.)    # mm: start and length of the pulse of 1 mV
_COLUMNS = 4         # drawn a pixel, and averaged
_MAX_PIXELS = 40_000_000


class Cell(NamedTuple):
  """Where `seconds` of a lead from `start` s lie in a drawing, in pixels.

  A sample at `time` s and `value` mV lies at x = left + (time - start) *
  speed * pixels_per_mm and y = zero - value * gain * pixels_per_mm, in the
  middle of a pixel where these are whole. The trace stays in rows `top` to
  `bottom`, and so does no other.
  """
  lead: str
  start: float
  seconds: float
  left: float
  zero: float
  top: int
  bottom: int


class Geometry(NamedTuple):
  """Of a drawing: size in pixels, scales, and its cells."""
  height: int
  width: int
  pixels_per_mm: float
  speed: float     # mm a second
  gain: float      # mm a mV
  cells: tuple[Cell, ...]


def load(path: str, root: str, **options: Any) -> np.ndarray:
  """Reads an ECG and draws it: uint8 [h, w, 3].

  Args:
    path: of the file, as in `ecg.load`.
    root: the data root.
    **options: of `draw` and of `ecg.load`; its `seconds` is the part to read,
      and `length` what the paper has room for.

  Raises:
    ValueError: as in `ecg.load` and `draw`, or an unknown option.
    FileNotFoundError: there is no such file.
    ImportError: as in `ecg.load`.
  """
  read, drawn = _split(path, options)
  return draw(ecg.load(path, root, **read), **drawn)


def decode(data: bytes, name: str, **options: Any) -> np.ndarray:
  """As `load`, of the bytes of what `ecg.decode` reads.

  Raises:
    ValueError: as in `load`.
    ImportError: as in `ecg.load`.
  """
  read, drawn = _split(name, options)
  return draw(ecg.decode(data, name, **read), **drawn)


def draw(signal: types.Signal, *, pixels_per_mm: float = 4.,
         layout: str = '3x4+1', rhythm: str = 'II', length: float = 10.,
         speed: float = 25., gain: float = 10.,
         grid: bool = True) -> np.ndarray:
  """The drawing, uint8 [h, w, 3]; its size depends on the signal's too.

  Args:
    signal: in mV. nan is not drawn, nor what is more than 40 mm from a lead's
      median.
    pixels_per_mm: 2 to 20; 4 gives a page of some 1080 x 700.
    layout: 'RxC' has the twelve leads in R rows and C columns, down the columns
      first, each column `length` / C s later; '+n' adds n strips of `length` s
      below. 'strips' has a strip for each lead that there is.
    rhythm: leads of those n strips, separated by commas.
    length: s from the first sample on.
    speed: mm a second.
    gain: mm a mV.
    grid: whether to draw the squares.

  Raises:
    ValueError: an option out of range, or a lead of the layout that the signal
      neither has nor allows to derive.
  """
  where, shown, zeros = _plan(signal, layout, rhythm, length,
                              (pixels_per_mm, speed, gain))
  image = np.empty((where.height, where.width, 3), np.uint8)
  image[:] = PAPER
  if grid:
    _draw_grid(image, pixels_per_mm)
  for cell, values in zip(where.cells, shown):
    _stroke(image, values, signal.rate, cell, where)
  for zero in zeros:
    _draw_pulse(image, zero, where)
  return _write(image, where)


def geometry(signal: types.Signal, *, pixels_per_mm: float = 4.,
             layout: str = '3x4+1', rhythm: str = 'II', length: float = 10.,
             speed: float = 25., gain: float = 10.) -> Geometry:
  """Where the leads lie in what `draw` draws with the same options.

  Raises:
    ValueError: as in `draw`.
  """
  return _plan(signal, layout, rhythm, length, (pixels_per_mm, speed, gain))[0]


def _split(name: str, options: dict[str, Any]) -> tuple[dict[str, Any], ...]:
  """The options of `ecg.load` and those of `draw`."""
  sets = [{p.name for p in inspect.signature(function).parameters.values()
           if p.kind is p.KEYWORD_ONLY} for function in (ecg.load, draw)]
  unknown = sorted(set(options).difference(*sets))
  if unknown:
    raise ValueError(f'{name!r}: no option {", ".join(map(repr, unknown))}; '
                     f'expected {", ".join(sorted(set().union(*sets)))}')
  return tuple({key: options[key] for key in options if key in names}
               for names in sets)


def _plan(signal: types.Signal, layout: str, rhythm: str, length: float,
          scales: tuple[float, float, float]
          ) -> tuple[Geometry, list[np.ndarray], list[int]]:
  """The geometry, samples of each cell in mV, and rows' zero lines in mm."""
  scale, speed, gain = _checked(signal, length, scales)
  cells, shown, zeros, top = [], [], [], _TOP
  for row in _rows(signal, layout, rhythm):
    seconds = length / len(row)
    parts, middles = zip(*(_part(signal, lead, column * seconds, seconds, gain)
                           for column, lead in enumerate(row)))
    up, down = _reach([p - m for p, m in zip(parts, middles)], gain)
    zero = top + _NAMES + up
    cells += [Cell(lead, column * seconds, seconds,
                   (_LEFT + column * seconds * speed) * scale,
                   (zero + middle * gain) * scale,
                   math.ceil((top + _NAMES) * scale),
                   math.floor((zero + down) * scale))
              for column, (lead, middle) in enumerate(zip(row, middles))]
    shown += parts
    zeros.append(zero)
    top = zero + down
  height = math.ceil((top + _BOTTOM) * scale)
  width = math.ceil((_LEFT + length * speed + _RIGHT) * scale)
  if height * width > _MAX_PIXELS:
    raise ValueError(f'the drawing has {height} x {width} pixels; expected at '
                     f'most {_MAX_PIXELS}: lower length, speed or '
                     'pixels_per_mm')
  return (Geometry(height, width, scale, speed, gain, tuple(cells)), shown,
          zeros)


def _part(signal: types.Signal, lead: str, start: float, seconds: float,
          gain: float) -> tuple[np.ndarray, float]:
  """Samples of a cell in mV, nan where they leave the row, and their median."""
  # Cells begin between samples where the rate is odd: the nearest one is meant.
  first = int(round(start * signal.rate))
  last = int(round((start + seconds) * signal.rate)) + 1
  values = ecg.select(signal, (lead,)).values[0, first:last]
  values = values.astype(np.float64)
  known = values[np.isfinite(values)]
  middle = float(np.median(known)) if known.size else 0.
  return np.where(abs(values - middle) * gain <= _MOST, values, np.nan), middle


def _checked(signal: types.Signal, length: float,
             scales: tuple[float, float, float]) -> tuple[float, ...]:
  if signal.unit != 'mV':
    raise ValueError(f'the signal is in {signal.unit!r}; expected mV')
  bounds = (('pixels_per_mm', scales[0], 2, 20), ('speed', scales[1], 5, 200),
            ('gain', scales[2], 1, 100), ('length', length, .5, 600))
  for name, value, low, high in bounds:
    if not isinstance(value, (int, float)) or not low <= value <= high:
      raise ValueError(f'{name} is {value!r}; expected {low} to {high}')
  return tuple(float(value) for value in scales)


def _rows(signal: types.Signal, layout: str,
          rhythm: str) -> list[tuple[str, ...]]:
  """Leads of each row."""
  if layout == 'strips':
    return [(lead,) for lead in signal.leads]
  form = re.fullmatch(r'(\d+)x(\d+)(?:\+(\d+))?', str(layout))
  strips = [ecg.lead_name(lead) for lead in rhythm.split(',')]
  if not form or int(form[1]) * int(form[2]) != len(ecg.STANDARD) or (
      int(form[3] or 0) not in (0, len(strips))):
    raise ValueError(f"layout is {layout!r} and rhythm {rhythm!r}; expected "
                     "'strips' or rows x columns of twelve leads such as "
                     "'3x4', '3x4+1', '6x2+1' or '12x1', with as many leads of "
                     "rhythm as strips")
  count = int(form[1])
  rows = [ecg.STANDARD[row::count] for row in range(count)]
  return rows + [(lead,) for lead in strips[:int(form[3] or 0)]]


def _reach(parts: list[np.ndarray], gain: float) -> tuple[int, int]:
  """mm above and below zero that a row needs, in whole large squares."""
  up = max((float(np.nanmax(p, initial=0)) for p in parts), default=0.)
  down = max((-float(np.nanmin(p, initial=0)) for p in parts), default=0.)
  # The pulse of 1 mV stands in every row.
  up, down = max(up, 1.) * gain + _ROOM, down * gain + _ROOM
  return (max(5 * math.ceil(up / 5), _UP), max(5 * math.ceil(down / 5), _DOWN))


def _draw_grid(image: np.ndarray, scale: float) -> None:
  height, width = image.shape[:2]
  for colour, step, thick in ((FINE, 1, FINE_MM), (HEAVY, 5, HEAVY_MM)):
    thick = max(int(round(thick * scale)), 1)
    for size, lines in ((height, image), (width, image.swapaxes(0, 1))):
      places = np.arange(0, math.ceil(size / scale), step) * scale
      for place in np.rint(places).astype(int) - thick // 2:
        lines[max(place, 0):place + thick] = colour


def _stroke(image: np.ndarray, values: np.ndarray, rate: float, cell: Cell,
            where: Geometry) -> None:
  """Draws samples in mV into a cell, smoothly, in ink."""
  scale = where.pixels_per_mm
  first = math.floor(cell.left)
  last = math.ceil(cell.left + cell.seconds * where.speed * scale)
  last = min(last, image.shape[1])
  edges = np.arange((last - first) * _COLUMNS + 1) / _COLUMNS + first - .5
  times = (edges - cell.left) / (where.speed * scale)
  low, high = _extents(cell.zero - values * (where.gain * scale), times * rate)
  low, high = _thicken(low, high, TRACE_MM * scale / 2)
  if np.isnan(low).all():
    return
  top = max(int(np.nanmin(low)), 0)
  # A row of pixels covers half a pixel on both sides of its middle.
  rows = np.arange(top, min(int(np.nanmax(high)) + 2, len(image)))[:, None] - .5
  cover = np.clip(high - rows, 0, 1) - np.clip(low - rows, 0, 1)
  cover = np.nan_to_num(cover).reshape(len(rows), last - first, _COLUMNS)
  cover = cover.mean(2, dtype=np.float32)[..., None]
  part = image[top:top + len(rows), first:last]
  part[:] = np.rint(part + cover * (np.float32(INK) - part)).astype(np.uint8)


def _extents(values: np.ndarray,
             places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Least and largest of the line through samples, between places [n + 1]."""
  steps = max(math.ceil(float(places[1] - places[0])), 1)
  fine = np.interp(np.arange((len(places) - 1) * steps + 1) / steps,
                   np.arange(len(places)), places)
  left = np.floor(fine).astype(np.int64)
  share = fine - left
  padded = np.concatenate([values, [np.nan] * 2])
  inside = (left >= 0) & (left < len(values))
  left = np.where(inside, left, len(values))
  line = padded[left]
  line = np.where(share > 0, line + share * (padded[left + 1] - line), line)
  # Neighbouring columns share their edge, so that steep lines stay whole.
  ends = line[steps::steps]
  parts = line[:-1].reshape(-1, steps)
  return (np.fmin(np.fmin.reduce(parts, axis=1), ends),
          np.fmax(np.fmax.reduce(parts, axis=1), ends))


def _thicken(low: np.ndarray, high: np.ndarray,
             radius: float) -> tuple[np.ndarray, np.ndarray]:
  """The vertical extent of a round pen of `radius` pixels on these extents."""
  reach = int(radius * _COLUMNS)
  lows, highs = np.full_like(low, np.nan), np.full_like(high, np.nan)
  for shift in range(-reach, reach + 1):
    up = math.sqrt(max(radius ** 2 - (shift / _COLUMNS) ** 2, 0))
    to = slice(max(shift, 0), len(low) + min(shift, 0))
    of = slice(max(-shift, 0), len(low) + min(-shift, 0))
    lows[to] = np.fmin(lows[to], low[of] - up)
    highs[to] = np.fmax(highs[to], high[of] + up)
  return lows, highs


def _draw_pulse(image: np.ndarray, zero: float, where: Geometry) -> None:
  """The pulse of 1 mV before a row, over 10 mm of paper."""
  start, width = _PULSE
  place = np.arange(101) / 10
  values = np.where(abs(place - 5) < width / 2, 1., 0.)
  cell = Cell('', 0., 10 / where.speed, start * where.pixels_per_mm,
              zero * where.pixels_per_mm, 0, 0)
  _stroke(image, values, 10 * where.speed, cell, where)


def _write(image: np.ndarray, where: Geometry) -> np.ndarray:
  """Names of leads above their cells, and the scales at the foot."""
  scale = where.pixels_per_mm
  picture = Image.fromarray(image)
  pen = ImageDraw.Draw(picture)
  font = ImageFont.load_default(size=NAME_MM * scale)
  for cell in where.cells:
    pen.text((cell.left + scale, cell.top - _NAMES * scale), cell.lead,
             fill=INK, font=font)
  pen.text((_LEFT * scale, where.height - (NAME_MM + 2) * scale),
           f'{where.speed:g} mm/s   {where.gain:g} mm/mV', fill=INK, font=font)
  return np.asarray(picture)
