"""DICOM files to what a model sees: images, slices and cine loops.

Single and multi-frame, classic and enhanced, in every transfer syntax of
still images that an open decoder exists for. Values become measured ones
(HU), then grey levels by a window, a table or a name; colours become RGB.
Only tags of `dicom_tags.ALLOWED` are ever read.

It reads one file; `dicom_series` puts the files of a folder together. It does
not remove text that is burnt into the pixels, but says where it is likely and
refuses such files when asked. It decodes no MPEG.
"""

from collections.abc import Sequence
import io
from typing import Any

import numpy as np
import pydicom

from medrl import types
from medrl.media import dicom_header
from medrl.media import dicom_pixels
from medrl.media import dicom_tags
from medrl.media import files
from medrl.media import windows

def load(path: str, root: str, *, window: str | Sequence[float] = 'header',
         frame: int | None = None, frames: Sequence[int] | None = None,
         count: int | None = None, burnt_in: str = 'allow') -> Any:
  """Reads a DICOM file below the root; options and results as in `decode`.

  Raises:
    ValueError: outside `root`, or as in `decode`.
    FileNotFoundError: there is no such file.
  """
  return decode(files.read(path, root), path, window=window, frame=frame,
                frames=frames, count=count, burnt_in=burnt_in)


def decode(data: bytes, name: str, *,
           window: str | Sequence[float] = 'header', frame: int | None = None,
           frames: Sequence[int] | None = None, count: int | None = None,
           burnt_in: str = 'allow') -> Any:
  """What a DICOM file shows.

  Args:
    data: the bytes of the file.
    name: of the file, for errors.
    window: 'header' (its first VOI table or window; where it has none, 8-bit
      values as they are and others automatic), 'automatic' (percentiles of
      all frames that are given), a name of `windows.NAMED` (CT only), or
      (centre, width) in units of the rescaled values.
    frame: gives this one as an image. Frames count from 0, those of a volume
      in the order of their positions along the normal of their plane.
    frames: gives these, in this order.
    count: gives so many at most: of a cine evenly spaced from the first to the
      last, of slices the middle of each of as many equal parts.
    burnt_in: 'refuse' gives an error where the pixels hold text, or may.

  Returns:
    uint8 [h, w, 3] of one frame; of more a `types.Clip` where the file says
    when they were taken, else a tuple of images.

  Raises:
    ValueError: it is damaged, no image, or does not have what is asked for.
  """
  windows.understood(window)
  def read():
    found = dicom_tags.parsed(io.BytesIO(data))
    header = dicom_header.header(found)
    refuse_text(header, burnt_in)
    order = dicom_header.ordered(header.frames)
    single = frame is not None or len(order) == 1
    timed = header.frames[0].time is not None
    chosen = picked(len(order), frame, frames, count, ends=timed)
    got = dicom_pixels.decoded(found, header, [order[i] for i in chosen])
    images = shown(got, window)
    times = [f.time for f in got.header.frames]
    if single and frames is None:
      return images[0]
    if None in times or any(a >= b for a, b in zip(times, times[1:])):
      return tuple(images)
    return types.Clip(images, np.array(times, np.float64))
  return files.decoded(name, 'DICOM', read)


def dataset(data: bytes, name: str) -> pydicom.Dataset:
  """As `dicom_tags.dataset`: for readers of what is no image (waveforms)."""
  return dicom_tags.dataset(data, name)


def pixels(data: bytes, name: str,
           frames: Sequence[int] | None = None) -> dicom_pixels.Pixels:
  """Stored values of a DICOM file.

  Args:
    data: the bytes of the file.
    name: of the file, for errors.
    frames: which, from 0 in the order of the file; None for all.

  Raises:
    ValueError: it is damaged, or no image.
  """
  def read():
    found = dicom_tags.parsed(io.BytesIO(data))
    header = dicom_header.header(found)
    every = range(len(header.frames))
    return dicom_pixels.decoded(
        found, header, every if frames is None else frames)
  return files.decoded(name, 'DICOM', read)


def measured(got: dicom_pixels.Pixels, dtype: Any = np.float32) -> np.ndarray:
  """Rescaled values of grey frames (HU on CT), `dtype` [n, rows, columns].

  Raises:
    ValueError: they are colours.
  """
  if got.photometric not in dicom_pixels.GREY:
    raise ValueError(f'{got.photometric} images hold colours, which measure '
                     f'nothing')
  if got.header.modality_lut:
    return windows.looked_up(got.values, got.header.modality_lut).astype(dtype)
  out = np.empty(got.values.shape, dtype)
  for one, frame, stored in zip(out, got.header.frames, got.values):
    if (frame.slope, frame.intercept) == (1., 0.):
      one[...] = stored
    else:
      one[...] = stored * np.float32(frame.slope) + np.float32(frame.intercept)
  return out


def shown(got: dicom_pixels.Pixels,
          window: str | Sequence[float]) -> np.ndarray:
  """Images of frames, uint8 [n, rows, columns, 3]; `window` as in `decode`.

  Raises:
    ValueError: a window in HU for what is no CT, or none of the known ones.
  """
  wanted = windows.understood(window)
  if (isinstance(window, str) and window in windows.NAMED
      and got.header.modality != 'CT'):
    raise ValueError(f'window {window!r} is in HU, and modality '
                     f'{got.header.modality!r} is not; give '
                     f"'header', 'automatic' or (centre, width)")
  if got.photometric == 'RGB':
    return _eight_bits(got)
  if got.photometric == 'PALETTE COLOR':
    at = np.minimum(got.values, len(got.palette) - 1)
    return got.palette[at.astype(np.intp)]
  out = np.empty((*got.values.shape, 3), np.uint8)
  plan = _plan(got, wanted)
  for one, stored, frame, how in zip(out, got.values, got.header.frames, plan):
    grey = _grey(stored, frame, got.header, how)
    if got.photometric == 'MONOCHROME1':
      grey = 255 - grey
    for channel in range(3):   # three times as fast as broadcasting
      one[..., channel] = grey
  return out


def refuse_text(header: dicom_header.Header, burnt_in: str) -> None:
  """Raises ValueError where `burnt_in` is 'refuse' and there may be text."""
  if burnt_in not in ('allow', 'refuse'):
    raise ValueError(f"burnt_in {burnt_in!r}: expected 'allow' or 'refuse'")
  if burnt_in == 'refuse' and header.suspicion:
    raise ValueError(f'its pixels may hold text that names the patient '
                     f'({header.suspicion}), and burnt_in is \'refuse\'')


def picked(total: int, one: int | None = None,
           several: Sequence[int] | None = None, count: int | None = None,
           ends: bool = False) -> list[int]:
  """Indices of the images that options ask for, of `total`; all by default.

  Args:
    total: how many there are.
    one: an index.
    several: indices.
    count: how many at most, evenly spaced.
    ends: whether that is from the first to the last, or the middle of each of
      `count` equal parts.

  Raises:
    ValueError: more than one option is given, or an index is none.
  """
  given = [x for x in (one, several, count) if x is not None]
  if len(given) > 1:
    raise ValueError('several options are given that choose images; expected '
                     'an index, a list of them, or a count')
  if count is not None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
      raise ValueError(f'count {count!r}: expected an integer from 1')
    count = min(count, total)
    if ends and count > 1:
      return [round(x) for x in np.linspace(0, total - 1, count)]
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]
  chosen = range(total) if not given else given if several is None else several
  for x in chosen:
    if (isinstance(x, bool) or not isinstance(x, (int, np.integer))
        or not 0 <= x < total):
      raise ValueError(f'{x!r} is no index of {total} images; expected an '
                       f'integer from 0 to {total - 1}')
  return list(chosen)


def _plan(got: dicom_pixels.Pixels, wanted: str | windows.Window) -> list[Any]:
  """Of each frame the Window, or the Lut, that shows it."""
  header = got.header
  if isinstance(wanted, windows.Window):
    return [wanted] * len(header.frames)
  if wanted == 'header' and header.voi_lut:
    return [header.voi_lut] * len(header.frames)
  plan = [None] * len(header.frames)
  if wanted == 'header':
    plan = [_own(frame, got) for frame in header.frames]
  if None in plan:
    common = _automatic(got)
    plan = [how or common for how in plan]
  return plan


def _own(frame: dicom_header.Frame,
         got: dicom_pixels.Pixels) -> windows.Window | None:
  """The window of the header; for 8 bits without one, that of all values."""
  if frame.voi:
    return frame.voi[0]
  bits, kind = got.header.bits, got.values.dtype.kind
  if (bits > 8 or kind == 'f' or got.header.modality_lut
      or (frame.slope, frame.intercept) != (1., 0.)):
    return None
  width = (1 << bits) - 1
  return windows.Window(-0.5 if kind == 'i' else width / 2, width)


def _automatic(got: dicom_pixels.Pixels) -> windows.Window:
  """Of all frames together, so that slices stay comparable."""
  rescales = {(f.slope, f.intercept) for f in got.header.frames}
  if got.header.modality_lut or len(rescales) > 1:
    return windows.automatic(measured(got))
  (slope, intercept), = rescales
  found = windows.automatic(got.values, got.header.padding)
  return windows.Window(found.centre * slope + intercept,
                        found.width * abs(slope))


def _grey(stored: np.ndarray, frame: dicom_header.Frame,
          header: dicom_header.Header, how: Any) -> np.ndarray:
  """uint8 [rows, columns] of one frame, as a Window or a Lut shows it."""
  rescale, lut = (frame.slope, frame.intercept), header.modality_lut
  if isinstance(how, windows.Lut):
    scale = 255 / max((1 << how.bits) - 1, int(how.values.max()))
    def through(x):
      x = windows.looked_up(x, lut) if lut else x * rescale[0] + rescale[1]
      return windows.looked_up(x, how) * np.float32(scale)
    return windows.mapped(stored, through)
  if lut:
    stored, rescale = windows.looked_up(stored, lut), (1., 0.)
  if stored.dtype == np.uint8 and rescale == (1., 0.) and how == (
      127.5, 255., 'LINEAR_EXACT'):
    return stored
  return windows.window(stored, *how, rescale)


def _eight_bits(got: dicom_pixels.Pixels) -> np.ndarray:
  if got.values.dtype == np.uint8:
    return np.ascontiguousarray(got.values)
  return (got.values >> max(got.header.bits - 8, 0)).astype(np.uint8)
