"""Arrays with named axes as volumes, read from a stream in blocks; .npy files.

What .npy, NIfTI and Zarr have in common. It knows no other format, and loads
no more of an array than the blocks with the elements asked for.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import math
from typing import BinaryIO

import numpy as np

from medrl.media import volume

# Of a file, held at a time while it is read: a row of voxels at least.
BLOCK_BYTES = 4 << 20
# What each axis of an array is, where nothing says so: slices towards the
# head, rows towards the back, columns to the left, as SimpleITK and pydicom
# order a scan in supine position. T is time, C colours or channels.
AXES = {3: 'SPL', 4: 'TSPL', 5: 'TCSPL'}
# Of a .npy file: numpy writes some 100 bytes, and parses what it reads.
MAX_HEADER = 10_000

Stream = Callable[[], BinaryIO]


@dataclasses.dataclass(frozen=True)
class Opening:
  """What the user must say of files that do not say it themselves.

  Args:
    axes: of .npy, Zarr, and DICOM without positions, where each axis of the
      array points: R, L, A, P, S or I, T for time, C for colours or channels;
      '' as the file says, or `AXES`.
    spacing: of these, mm along the three axes of space in the order of the
      array, or of every axis (seconds along T); () as the file says, or 1.
    channel: of .npy and Zarr, which of several channels that are no colours.
    level: of a Zarr pyramid, 0 is the finest; -1 leaves it to `min_side`.
    min_side: of a Zarr pyramid, the coarsest level is read whose sections, of
      any plane, have so many voxels along their longer side, and the finest if
      none has; 0 for the finest.
    series: of a DICOM folder with several stacks, which of them, by index or
      id, as `dicom_series.open_series`; '' for the only one.
  """
  axes: str = ''
  spacing: Sequence[float] = ()
  channel: int = 0
  level: int = -1
  min_side: int = 0
  series: int | str = ''

  def __post_init__(self):
    numbers = (self.channel, self.level, self.min_side)
    if not (isinstance(self.axes, str)
            and isinstance(self.spacing, (list, tuple))
            and isinstance(self.series, (int, str))
            and all(isinstance(n, int) and n >= -1 for n in numbers)):
      raise ValueError(f'{self} is no way to open a volume; expected letters '
                       f'as axes, a list as spacing, and whole numbers')

  def refuse(self, names: Sequence[str], kind: str) -> None:
    """Raises a ValueError if one of these options was given."""
    for name in names:
      given, default = getattr(self, name), getattr(Opening(), name)
      if given != default:
        raise ValueError(f'option {name}={given!r} is not one of {kind}; '
                         f'leave it out')


def seconds(count: int, step: float) -> tuple[float, ...]:
  """Times of `count` points; indices where the step is no length of time."""
  step = float(step)
  return tuple((np.arange(count) * (step if 0 < step < math.inf else 1.)
                ).tolist())


def completed(opening: Opening, shape: Sequence[int], axes: str,
              steps: Sequence[float]) -> tuple[Opening, Sequence[float]]:
  """Axes and steps as the user says, else as the file does, else assumed.

  Args:
    opening: the user's; '' and () say nothing.
    shape: of the array.
    axes: the file's, or ''.
    steps: the file's, as `Opening.spacing`, or ().

  Returns:
    the opening with its axes, and a step for each axis of the array.
  """
  axes = opening.axes or axes or AXES.get(len(shape), '')
  steps = opening.spacing or steps or [1.] * len(axes)
  if len(steps) == 3 < len(axes):
    given = iter(steps)
    steps = [1. if a in 'TC' else next(given, 1.) for a in axes]
  if len(steps) != len(axes) or not all(
      isinstance(s, (int, float)) and 0 < s < math.inf for s in steps):
    raise ValueError(f'spacing {list(steps)} does not fit axes {axes!r}; '
                     f'expected a positive number for each, or three')
  return dataclasses.replace(opening, axes=axes), steps


def arranged(shape: Sequence[int], dtype: np.dtype, steps: Sequence[float],
             opening: Opening, read: Callable) -> volume.Volume:
  """An array with named axes as a volume.

  Args:
    shape: of the array.
    dtype: of the array; uint8 with 3 or 4 along C is colour.
    steps: mm, or seconds, along each axis of the array.
    opening: `axes` has a letter for each axis; `channel` is used.
    read: `f(indices)` with ascending indices, one int64 [n] for each axis,
      gives an array of them.

  Raises:
    ValueError: letters that are no axes of this shape, numbers that are none.
  """
  axes = opening.axes
  worlds = [next((w for w, ends in enumerate(volume.LETTERS) if a in ends), -1)
            for a in axes]
  space = [i for i, world in enumerate(worlds) if world >= 0]
  if (len(axes) != len(shape) or sorted(worlds[i] for i in space) != [0, 1, 2]
      or any(axes.count(a) > 1 for a in axes) or set(axes) - set('RLAPSITC')):
    raise ValueError(
        f'axes {axes!r} do not describe an array of shape {list(shape)}; '
        f'expected a letter for each axis: one each of R/L, A/P and S/I, and '
        f'T for time or C for channels where it has them')
  check_numbers(dtype)
  affine = np.zeros([4, 4])
  affine[3, 3] = 1
  for column, i in enumerate(space):
    sign = 1 if axes[i] == volume.LETTERS[worlds[i]][1] else -1
    affine[worlds[i], column] = sign * steps[i]
  channels = shape[axes.index('C')] if 'C' in axes else 1
  colour = dtype == np.uint8 and channels in (3, 4)
  if not 0 <= opening.channel < (1 if colour else channels):
    raise ValueError(f'channel {opening.channel} of {channels} cannot be '
                     f'chosen; colours are shown together')
  taken = np.arange(3) if colour else np.array([opening.channel])
  order = [*space, *(axes.index(a) for a in 'TC' if a in axes)]

  def fetch(indices):
    given = dict(zip(space, indices))
    given[axes.find('T')], given[axes.find('C')] = indices[3], taken
    values = read([given[i] for i in range(len(axes))]).transpose(order)
    if 'T' not in axes:
      values = np.expand_dims(values, 3)
    return values if colour or 'C' not in axes else values[..., 0]

  times = (seconds(shape[axes.index('T')], steps[axes.index('T')])
           if 'T' in axes else (0.,))
  return volume.Volume(tuple(shape[i] for i in space), affine, times, fetch,
                       colour)


def open_npy(stream: Stream, most: int, opening: Opening,
             said: tuple[str, Sequence[float]]) -> volume.Volume:
  """The array of a .npy file as a volume; objects are refused.

  Args:
    stream: opens the file.
    most: bytes it may have.
    opening: the user's.
    said: axes and spacing of a file beside it, as `completed` takes them.
  """
  opening.refuse(('level', 'min_side', 'series'), '.npy')
  with stream() as opened:
    version = np.lib.format.read_magic(opened)
    # Later ones are for headers of gigabytes, and for names of fields.
    if version != (1, 0):
      raise ValueError(f'it is .npy of version {version}; expected 1.0')
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(
        opened, max_header_size=MAX_HEADER)
    start = opened.tell()
  check_numbers(dtype)
  check_size(shape, dtype, start, most)
  opening, steps = completed(opening, shape, *said)

  def read(indices):
    turn = -1 if fortran else 1
    with stream() as opened:
      return read_blocks(opened, start, dtype, shape[::turn],
                         indices[::turn]).transpose(
                             range(len(shape))[::turn])

  return arranged(shape, dtype, steps, opening, read)


def check_numbers(dtype: np.dtype) -> None:
  """Raises a ValueError for what is no array of real numbers."""
  if dtype.kind not in 'biuf' or dtype.itemsize > 8:
    raise ValueError(f'its elements are {dtype}; expected integers or floats of'
                     f' at most 8 bytes')


def check_size(shape: Sequence[int], dtype: np.dtype, start: int,
               most: int) -> None:
  """Raises a ValueError where a header promises more than its file can hold.

  Args:
    shape: of the array.
    dtype: of the array.
    start: byte of its first element.
    most: bytes of the file, or what it may unpack to.
  """
  size = math.prod(shape) * dtype.itemsize
  if min(shape, default=0) < 1 or start < 0 or start + size > most:
    raise ValueError(
        f'{dtype} {list(shape)} from byte {start} on is {size} bytes, and the '
        f'file has, or may unpack to, {most} in all')


def read_blocks(stream: BinaryIO, start: int, dtype: np.dtype,
                shape: Sequence[int],
                indices: Sequence[np.ndarray]) -> np.ndarray:
  """Some elements of an array in a stream, read forwards a block at a time.

  Args:
    stream: seekable; seeks go forwards only, as a compressed one needs.
    start: byte of the first element.
    dtype: of the array as stored, of any byte order.
    shape: of the array, two axes or more, the last one contiguous.
    indices: ascending, int64 [n] for each axis.

  Returns:
    an array of the elements, with one axis for each.

  Raises:
    ValueError: the stream ends before the last of them.
  """
  *outer, rows, columns = indices
  width = shape[-1] * dtype.itemsize
  found = np.empty([len(i) for i in indices], dtype.newbyteorder('='))
  # A slice is copied several times faster than a list of indices.
  across = (slice(columns[0], columns[-1] + 1)
            if columns[-1] - columns[0] + 1 == len(columns) else columns)
  for places in itertools.product(*(range(len(i)) for i in outer)):
    plane = 0
    for place, axis, size in zip(places, outer, shape):
      plane = plane * size + int(axis[place])
    for first, last in _runs(rows, max(1, BLOCK_BYTES // width)):
      at = start + (plane * shape[-2] + int(rows[first])) * width
      block = _exactly(stream, at, (last - first) * width)
      block = np.frombuffer(block, dtype).reshape(last - first, shape[-1])
      found[places][first:last] = block[:, across]
  return found


def _runs(rows: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
  """Places (first, last) in `rows` of neighbours, at most so many in each."""
  breaks = np.flatnonzero(np.diff(rows) != 1) + 1
  for first, last in itertools.pairwise((0, *breaks.tolist(), len(rows))):
    for start in range(first, last, most):
      yield start, min(start + most, last)


def _exactly(stream: BinaryIO, start: int, size: int) -> bytes:
  stream.seek(start)
  data = stream.read(size)
  if len(data) != size:
    raise ValueError(f'it ends at byte {start + len(data)}; its header promises'
                     f' {start + size} or more')
  return data
