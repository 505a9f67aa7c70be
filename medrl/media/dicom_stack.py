"""Where the slices of a folder lie, and whether they make a stack.

Pure functions of headers: which files belong together, what order they have
along the normal of their planes, and how indices map to the patient. It opens
no file (see `dicom_series`).
"""

from collections.abc import Sequence
import dataclasses
import itertools
import pathlib

import numpy as np

from medrl.media import dicom_header

# Distances between neighbours differ by rounding to 0.01 mm, or by this part.
EVEN = 0.05
# What tells the images of one place apart, the first that does for all.
TIMES = ('TemporalPositionIdentifier', 'TriggerTime', 'EchoNumbers',
         'AcquisitionNumber', 'InstanceNumber')
# Positions closer than this, in mm, are one place.
PLACE = 0.01


@dataclasses.dataclass(frozen=True)
class Slice:
  """A file of a folder: where it is, and what its header says."""
  file: pathlib.Path
  header: dicom_header.Header


def stacks(found: Sequence[Slice]) -> list[tuple[str, tuple[Slice, ...]]]:
  """Slices of one series, size and orientation, by series number and name.

  Returns:
    (id, slices) of each stack; the id is a hash and names nobody.
  """
  groups = {}
  for one in found:
    header = one.header
    tilt = header.frames[0].orientation
    # Rounded to half a degree; adding 0 makes -0. the 0. that it equals.
    tilt = tilt and tuple(round(x, 2) + 0. for x in tilt)
    key = (header.series, header.modality, header.rows, header.columns, tilt)
    groups.setdefault(key, []).append(one)
  # A localiser and its scan may share a series; their number tells them apart.
  turns = {key[0]: itertools.count() for key in groups}

  def first(item):
    one = item[1][0]
    return one.header.numbers.get('SeriesNumber', 0), one.file.name

  return [(f'{key[0] or "none"}-{next(turns[key[0]])}', tuple(members))
          for key, members in sorted(groups.items(), key=first)]


def chosen(found: list[tuple[str, tuple[Slice, ...]]],
           series: int | str | None) -> tuple[Slice, ...]:
  """The stack that an index or an id names, or the only one.

  Raises:
    ValueError: there is none, or several and nothing says which.
  """
  if not found:
    raise ValueError('it holds no DICOM image')
  listed = '; '.join(
      f'{i} ({name}): {len(members)} of {members[0].header.rows} x '
      f'{members[0].header.columns}, {members[0].header.modality}'
      for i, (name, members) in enumerate(found))
  if series is None and len(found) == 1:
    return found[0][1]
  for i, (name, members) in enumerate(found):
    if series == name or series == i and not isinstance(series, bool):
      return members
  what = 'holds several stacks' if series is None else f'has no {series!r}'
  raise ValueError(f'it {what}; give series as an index or id of {listed}')


def _depths(slices: Sequence[Slice]) -> np.ndarray:
  """Distance along the normal of the first, mm."""
  along = dicom_header.normal(slices[0].header.frames[0].orientation)
  return np.array([one.header.frames[0].position for one in slices]) @ along


def places(members: tuple[Slice, ...]) -> list[list[Slice]]:
  """Slices by place, in order along the normal."""
  depths = _depths(members)
  found, last = [], -np.inf
  for i in np.argsort(depths, kind='stable'):
    if depths[i] - last > PLACE:
      found.append([])
    found[-1].append(members[i])
    last = depths[i]
  return found


def one_each(found: list[list[Slice]], time: int | None,
             duplicates: str) -> tuple[Slice, ...]:
  """One slice of each place: the only one, of one time, or the first.

  Args:
    found: what `places` gave.
    time: which of several at each place.
    duplicates: 'first' to take the first.

  Raises:
    ValueError: there are several and no option says which, or no such time.
  """
  counts = sorted({len(place) for place in found})
  if counts == [1] and time in (None, 0):
    return tuple(place[0] for place in found)
  for keyword in TIMES:
    numbers = [[one.header.numbers.get(keyword) for one in place]
               for place in found]
    if all(None not in n and len(set(n)) == len(n) for n in numbers):
      found = [sorted(place, key=lambda one: one.header.numbers[keyword])
               for place in found]
      break
  if time is not None:
    if len(counts) > 1 or isinstance(time, bool) or not (
        0 <= time < counts[0]):
      raise ValueError(f'time {time!r}: there are {counts} images at each of '
                       f'{len(found)} places')
    return tuple(place[time] for place in found)
  if duplicates == 'first':
    return tuple(place[0] for place in found)
  if len(counts) == 1:
    raise ValueError(
        f'{counts[0]} images lie at each of {len(found)} places (time '
        f'points, echoes, phases, or copies); give time from 0 to '
        f"{counts[0] - 1}, or duplicates='first'")
  double = [place[1].file.name for place in found if len(place) > 1]
  raise ValueError(
      f'{len(double)} of {len(found)} places have more than one image, such '
      f"as {double[0]!r}; remove one, or give duplicates='first'")


def step(slices: tuple[Slice, ...], gaps: bool) -> np.ndarray | None:
  """From one slice to the next, float64 [3], LPS mm; None of one slice.

  Raises:
    ValueError: distances are unequal, or slices lie beside a line, and `gaps`
      does not allow it.
  """
  if len(slices) == 1:
    return None
  depths = _depths(slices)
  at = np.array([one.header.frames[0].position for one in slices])
  distances = np.diff(depths)
  usual = float(np.median(distances))
  odd = np.abs(distances - usual) > max(PLACE, EVEN * usual)
  if odd.any() and not gaps:
    i = int(np.argmax(odd))
    raise ValueError(
        f'slices lie {usual:g} mm apart, but {distances[i]:g} mm between '
        f'{slices[i].file.name!r} and {slices[i + 1].file.name!r}, and '
        f'{int(odd.sum())} of {len(odd)} distances are odd; some are missing, '
        f"or give gaps='allow'")
  line = at[0] + np.outer((depths - depths[0]) / (depths[-1] - depths[0]),
                          at[-1] - at[0])
  aside = float(np.abs(at - line).max())
  if aside > 1 and not gaps:
    raise ValueError(f'slices lie up to {aside:g} mm beside a line; they are '
                     f"no stack, or give gaps='allow'")
  return (at[-1] - at[0]) / (len(slices) - 1)


def geometry(frame: dicom_header.Frame, along: np.ndarray | None):
  """Spacing and affine of a stack: PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.

  Args:
    frame: the first slice.
    along: what `step` gave.

  Returns:
    (rows, columns, slices) in mm, and float64 [4, 4] from (row, column, slice,
    1) to RAS mm; (None, None) where the header gives no spacing.
  """
  if frame.spacing is None:
    return None, None
  if along is None:
    along = dicom_header.normal(frame.orientation) * (frame.thickness or 1.)
  rows, columns = frame.spacing
  affine = np.eye(4)
  affine[:3, 0] = np.multiply(frame.orientation[3:], rows)
  affine[:3, 1] = np.multiply(frame.orientation[:3], columns)
  affine[:3, 2] = along
  affine[:3, 3] = frame.position
  affine[:2] *= -1   # from left and back to right and front
  return (rows, columns, float(np.linalg.norm(along))), affine
