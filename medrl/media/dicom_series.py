"""A folder of DICOM files as one stack of slices, in the order of the body.

Slices are put in order by their positions along the normal of the image
plane: names of files and instance numbers follow the scanner's habits, and
neither says which way is up. Only headers are read to do so; pixels are
decoded for the slices that are asked for. A folder that holds several stacks,
two images at one place or a gap is refused unless an option says what to do.

It makes no volume of the slices (see `volume_files`), and does not look into
folders of the folder.
"""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib

import numpy as np

from medrl.media import dicom
from medrl.media import dicom_header
from medrl.media import dicom_pixels
from medrl.media import dicom_stack
from medrl.media import dicom_tags
from medrl.media import files
from medrl.media import windows

# A CT of the whole body has some 2,000 slices, a 4-D one some 10,000.
MAX_FILES = 20_000
# Folders whose headers a worker keeps; questions about one scan come together.
OPEN_FOLDERS = 8
# The class of the index of a disc, which lies beside images.
_DIRECTORY = b'1.2.840.10008.1.3.10'
@dataclasses.dataclass(frozen=True)
class Series:
  """Slices in order, read one by one.

  `shape` is (rows, columns, slices) and `spacing` the distances of rows,
  columns and slices in mm. `affine` is float64 [4, 4] and takes indices in
  that order, (row, column, slice, 1), to the centre of the voxel in the
  patient: mm to the right, to the front and to the head (RAS). Both are None
  where headers give no positions or no spacing. `ordered_by` is 'position',
  or says by what else and why.
  """
  slices: tuple[dicom_stack.Slice, ...]
  shape: tuple[int, int, int]
  spacing: tuple[float, float, float] | None
  affine: np.ndarray | None
  ordered_by: str

  def read(self, k: int) -> np.ndarray:
    """Rescaled values (HU on CT) of slice k, float32 [rows, columns].

    Raises:
      ValueError: the file is damaged, or holds colours.
    """
    return dicom.measured(_pixels(self.slices[k]))[0]


def headers(path: str, root: str) -> tuple[dicom_stack.Slice, ...]:
  """The images of a folder, by name; what is no DICOM image is left out.

  Raises:
    ValueError: outside `root`, too many files, a damaged or multi-frame file.
    FileNotFoundError: there is no such folder.
  """
  folder = files.locate_folder(path, root)
  # A folder whose time has changed is read anew.
  return _headers(folder, str(root), folder.stat().st_mtime_ns)


def load(path: str, root: str, *, window: str | Sequence[float] = 'header',
         slices: Sequence[int] | None = None, count: int | None = None,
         series: int | str | None = None, time: int | None = None,
         duplicates: str = 'refuse', gaps: str = 'refuse',
         burnt_in: str = 'allow') -> tuple[np.ndarray, ...]:
  """Slices of a folder as images; only those are decoded.

  Args:
    path: of the folder, relative to `root`.
    root: the data root.
    window: as in `dicom.decode`; 'automatic' is of all slices that are given.
    slices: which, from 0 in the order of positions.
    count: how many at most: the middle of each of as many equal parts.
    series, time, duplicates, gaps: as in `open_series`.
    burnt_in: as in `dicom.decode`.

  Returns:
    uint8 [rows, columns, 3] of each.

  Raises:
    ValueError: as in `open_series`, or without a slice that is asked for.
    FileNotFoundError: there is no such folder.
  """
  windows.understood(window)
  stack = open_series(path, root, series=series, time=time,
                      duplicates=duplicates, gaps=gaps)
  try:
    chosen = [stack.slices[k] for k in dicom.picked(
        len(stack.slices), several=slices, count=count)]
    for one in chosen:
      dicom.refuse_text(one.header, burnt_in)
    size = stack.shape[0] * stack.shape[1]
    if size * len(chosen) > dicom_pixels.MAX_ALL_PIXELS:
      raise ValueError(f'{len(chosen)} slices are asked for, with more than '
                       f'{dicom_pixels.MAX_ALL_PIXELS} pixels; give a count')
  except ValueError as error:
    raise ValueError(f'series in {path!r}: {error}') from None
  together = _together([_pixels(one) for one in chosen])
  return tuple(image for got in together for image in dicom.shown(got, window))


def open_series(path: str, root: str, *, series: int | str | None = None,
                time: int | None = None, duplicates: str = 'refuse',
                gaps: str = 'refuse') -> Series:
  """The slices of a folder, in order; their pixels are not read yet.

  Args:
    path: of the folder, relative to `root`.
    root: the data root.
    series: which of several stacks: an index, or the id that the error lists.
    time: which of several time points (echoes, phases) of every place.
    duplicates: 'refuse', or 'first' to keep of two images at one place the
      one with the lower instance number.
    gaps: 'refuse', or 'allow' for unequal distances between slices.

  Raises:
    ValueError: there is no image, or several stacks, times, duplicates or
      gaps without an option that says what to do.
    FileNotFoundError: there is no such folder.
  """
  for name, value, other in (('duplicates', duplicates, 'first'),
                             ('gaps', gaps, 'allow')):
    if value not in ('refuse', other):
      raise ValueError(f"{name} {value!r}: expected 'refuse' or {other!r}")
  found = headers(path, root)
  try:
    members = dicom_stack.chosen(dicom_stack.stacks(found), series)
    return _ordered(members, time, duplicates, gaps)
  except ValueError as error:
    raise ValueError(f'series in {path!r}: {error}') from None


@functools.lru_cache(maxsize=OPEN_FOLDERS)
def _headers(folder: pathlib.Path, root: str,
             _: int) -> tuple[dicom_stack.Slice, ...]:
  names = sorted(entry.name for entry in folder.iterdir()
                 if not entry.name.startswith('.') and not entry.is_dir())
  if len(names) > MAX_FILES:
    raise ValueError(f'{str(folder)!r} holds {len(names)} files; expected one '
                     f'series, and at most {MAX_FILES}')
  found = []
  for name in names:
    full = files.locate(str(folder / name), root)
    header = files.decoded(str(full), 'DICOM', lambda: _header(full))
    if header:
      found.append(dicom_stack.Slice(full, header))
  return tuple(found)


def _header(full: pathlib.Path) -> dicom_header.Header | None:
  """The header of an image; None of what may lie beside images.

  Raises:
    ValueError: the file is cut short, so that a slice would be missing.
  """
  with open(full, 'rb') as stream:
    head = stream.read(1024)
    if not dicom_tags.recognised(head):
      # Less than a preamble and its mark may be what is left of a slice.
      if len(head) < 132:
        raise ValueError(f'it ends after {len(head)} bytes; remove it if it is '
                         f'no slice')
      return None
    if _DIRECTORY in head:
      return None
    stream.seek(0)
    found = dicom_tags.parsed(stream, pixels=False)
  if dicom_tags.numbers(found, 'Rows'):
    return dicom_header.header(found)
  # Reports and plans lie beside images, and say what they are.
  if not found.get('SOPClassUID') or 'Image' in found.SOPClassUID.name:
    raise ValueError('it ends before it says how many rows it has')
  return None


def _ordered(members: tuple[dicom_stack.Slice, ...], time: int | None,
             duplicates: str, gaps: str) -> Series:
  for one in members:
    if len(one.header.frames) > 1:
      raise ValueError(f'{one.file.name!r} has {len(one.header.frames)} frames'
                       f' and is no slice; load the file by itself')
  if any(one.header.frames[0].position is None
         or one.header.frames[0].orientation is None for one in members):
    if time is not None:
      raise ValueError('time is given, and the headers have no positions')
    return _unplaced(members)
  slices = dicom_stack.one_each(dicom_stack.places(members), time, duplicates)
  spacing, affine = dicom_stack.geometry(
      slices[0].header.frames[0], dicom_stack.step(slices, gaps == 'allow'))
  return Series(slices, _shape(slices), spacing, affine, 'position')


def _unplaced(members: tuple[dicom_stack.Slice, ...]) -> Series:
  """Without positions: by instance number, or else by name."""
  numbers = [one.header.numbers.get('InstanceNumber') for one in members]
  by, key = 'name', lambda one: one.file.name
  if None not in numbers and len(set(numbers)) == len(numbers):
    by, key = 'instance number', lambda one: one.header.numbers[
        'InstanceNumber']
  slices = tuple(sorted(members, key=key))
  return Series(slices, _shape(slices), None, None,
                f'{by}, as the headers have no positions')


def _shape(slices: tuple[dicom_stack.Slice, ...]) -> tuple[int, int, int]:
  return slices[0].header.rows, slices[0].header.columns, len(slices)


def _pixels(one: dicom_stack.Slice) -> dicom_pixels.Pixels:
  data = files.read(one.file.name, str(one.file.parent))
  return dicom.pixels(data, str(one.file))


def _together(got: list[dicom_pixels.Pixels]) -> list[dicom_pixels.Pixels]:
  """As one where possible, so that an automatic window is of all slices."""
  kinds = {(one.photometric, one.values.dtype) for one in got}
  if len(kinds) > 1 or any(
      one.photometric not in dicom_pixels.GREY or one.header.voi_lut
      or one.header.modality_lut for one in got):
    return got
  frames = tuple(one.header.frames[0] for one in got)
  return [dataclasses.replace(
      got[0], values=np.concatenate([one.values for one in got]),
      header=dataclasses.replace(got[0].header, frames=frames))]
