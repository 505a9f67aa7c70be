"""Sections of a volume as images: which ones, and as which grey levels.

Slices are chosen evenly, by an annotation, by a budget of soft tokens or by
index; one window is used for all images of a call. The voxels of all of them
are read at once, and no others.

It opens no file itself (see `volume_files`), and does not resize to what a
model takes (see `processors`).
"""

from collections.abc import Sequence
import dataclasses
import inspect
import math
from typing import Any

import numpy as np

from medrl import types
from medrl.media import slice_choice
from medrl.media import volume
from medrl.media import volume_files
from medrl.media import windows

# Images of a volume where neither a number nor a budget is given.
DEFAULT_COUNT = 16
# Voxels that an automatic window is worked out from.
SAMPLE = 1 << 20
MULTIPLANAR = 'multiplanar'


@dataclasses.dataclass(frozen=True)
class Options:
  """What `load` shows of a volume, and how.

  Args:
    plane: 'axial', 'coronal', 'sagittal', or 'multiplanar' for one of each, in
      this order, through the middle or the centroid of the annotation.
    window: of the values, as `windows.choose`: 'automatic', a name, or (centre,
      width).
    slices: indices along the axis through the plane, from the inferior,
      posterior or left end of the volume; () to have them chosen.
    count: number of slices to choose, of frames where `as_clip`; 0 for as many
      as the budget allows, 16 where there is none, 1 by annotation and all
      frames of a clip.
    annotation: path of a volume on the same grid, in which all that is not 0
      is marked: slices with the largest marked area are chosen.
    neighbours: slices to add on either side of each that was given or chosen
      by annotation.
    max_tokens: soft tokens that all images may have together; 0 for any.
    patch: pixels along a side of what becomes a soft token.
    slice_tokens: soft tokens of one image; 0 to work them out from `patch`.
    time: index of the time point that is shown.
    as_clip: show one slice at several time points, as a clip.
    isotropic: resample to square pixels.
    opening: what the file does not say.
  """
  plane: str = 'axial'
  window: str | Sequence[float] = 'automatic'
  slices: Sequence[int] = ()
  count: int = 0
  annotation: str = ''
  neighbours: int = 0
  max_tokens: int = 0
  patch: int = 28
  slice_tokens: int = 0
  time: int = 0
  as_clip: bool = False
  isotropic: bool = True
  opening: volume_files.Opening = volume_files.Opening()

  def __post_init__(self):
    windows.understood(self.window)
    if self.plane not in (*volume.PLANES, MULTIPLANAR):
      raise ValueError(f'plane {self.plane!r} is unknown; expected one of '
                       f'{", ".join(volume.PLANES)}, {MULTIPLANAR}')
    for name in ('count', 'neighbours', 'max_tokens', 'slice_tokens', 'time'):
      _check_whole(name, getattr(self, name), 0)
    _check_whole('patch', self.patch, 1)
    if not isinstance(self.slices, (list, tuple)) or any(
        type(k) is not int for k in self.slices):
      raise ValueError(f'slices {self.slices!r}: expected a list of indices')
    for name in ('as_clip', 'isotropic'):
      if not isinstance(getattr(self, name), bool):
        raise ValueError(f'{name} {getattr(self, name)!r}: expected true or '
                         f'false')
    if not isinstance(self.annotation, str):
      raise ValueError(f'annotation {self.annotation!r}: expected a path')
    self._check_together()

  def _check_together(self):
    chosen = [name for name in ('slices', 'count', 'max_tokens', 'neighbours')
              if getattr(self, name)]
    if self.plane == MULTIPLANAR and (chosen or self.as_clip):
      raise ValueError(f'plane {MULTIPLANAR!r} shows one slice of each plane; '
                       f'leave out {", ".join(chosen) or "as_clip"}')
    if self.slices and (self.annotation or self.count):
      raise ValueError('slices are given; leave out annotation and count')
    if self.as_clip and (len(self.slices) > 1 or self.neighbours or self.time):
      raise ValueError('a clip is of one slice at several times; leave out '
                       'neighbours, time, and all but one of slices')
    if self.neighbours and not (self.slices or self.annotation):
      raise ValueError('neighbours of what? give slices or an annotation')


def load(path: str, root: str, **options: Any
         ) -> tuple[np.ndarray, ...] | types.Clip:
  """Reads images of a volume: slices, planes, or one slice over time.

  Args:
    path: of a NIfTI or .npy file, or of a folder of Zarr or DICOM, as
      `volume_files.open_volume`.
    root: the data root.
    **options: fields of `Options`, and of `volume_files.Opening`: axes,
      spacing, channel, level, min_side.

  Returns:
    uint8 [h, w, 3] each, in the order of the slices (that of `slices` if they
    are given without neighbours, else ascending); or a `types.Clip`.

  Raises:
    ValueError: an option that is unknown or does not fit, an annotation that
      marks nothing, a path outside `root`, or a damaged file.
    FileNotFoundError: there is no such file or folder.
  """
  chosen = understood(options)
  opened = volume_files.open_volume(path, root, chosen.opening)
  return _shown(volume.canonical(opened), root, chosen)


def decode(data: bytes, name: str, **options: Any
           ) -> tuple[np.ndarray, ...] | types.Clip:
  """`load` of a NIfTI or .npy file that is embedded in another.

  Args:
    data: the bytes of the file.
    name: of the record, for errors.
    **options: as of `load`; an annotation is a file and cannot be read here.
  """
  chosen = understood(options)
  if chosen.annotation:
    raise ValueError(f'annotation {chosen.annotation!r}: an embedded volume '
                     f'has no data root to find it below')
  opened = volume_files.open_bytes(data, name, chosen.opening)
  return _shown(volume.canonical(opened), '', chosen)


def _signature(*places: str) -> inspect.Signature:
  """Of `load`: its options by name, for those who check them beforehand."""
  fields = [*dataclasses.fields(Options),
            *dataclasses.fields(volume_files.Opening)]
  return inspect.Signature(
      [inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD)
       for p in places]
      + [inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY,
                           default=f.default)
         for f in fields if f.name != 'opening'])


load.__signature__ = _signature('path', 'root')
decode.__signature__ = _signature('data', 'name')


def understood(options: dict[str, Any]) -> Options:
  """Options of `load` by name, checked.

  Raises:
    ValueError: an unknown name, or a value that is none.
  """
  inner, outer = ({f.name for f in dataclasses.fields(kind)} - {'opening'}
                  for kind in (volume_files.Opening, Options))
  unknown = sorted(set(options) - inner - outer)
  if unknown:
    raise ValueError(f'option {unknown[0]!r} is none of a volume; expected one '
                     f'of {", ".join(sorted(inner | outer))}')
  opening = volume_files.Opening(
      **{k: v for k, v in options.items() if k in inner})
  return Options(opening=opening,
                 **{k: v for k, v in options.items() if k in outer})


def _shown(opened: volume.Volume, root: str,
           chosen: Options) -> tuple[np.ndarray, ...] | types.Clip:
  if not chosen.as_clip and chosen.time >= len(opened.times):
    raise ValueError(f'time {chosen.time} is none of the {len(opened.times)} '
                     f'times of this volume')
  counts = _annotated(opened, root, chosen)
  if chosen.plane == MULTIPLANAR:
    return _multiplanar(opened, counts, chosen)
  through = volume.PLANES[chosen.plane][2]
  areas = counts[through] if counts else None
  view = volume.view(opened, chosen.plane, chosen.isotropic)
  if chosen.as_clip:
    return _clip(opened, view, areas, chosen)
  indices = _indices(opened.shape[through], view, areas, chosen)
  values = volume.planes(opened, chosen.plane, indices, [chosen.time])
  window = _window([values], chosen)
  return tuple(_image(section, view, window) for section in values[0])


def _multiplanar(opened: volume.Volume, counts: tuple[np.ndarray, ...],
                 chosen: Options) -> tuple[np.ndarray, ...]:
  # Of a spread-out annotation the centroid may lie outside.
  middle = [int(round(float(np.average(np.arange(len(c)), weights=c))))
            for c in counts] or [n // 2 for n in opened.shape]
  sections = [volume.planes(opened, plane, [middle[axes[2]]], [chosen.time])
              for plane, axes in volume.PLANES.items()]
  window = _window(sections, chosen)
  views = [volume.view(opened, p, chosen.isotropic) for p in volume.PLANES]
  return tuple(_image(s[0, 0], v, window) for s, v in zip(sections, views))


def _clip(opened: volume.Volume, view: volume.View, areas: np.ndarray | None,
          chosen: Options) -> types.Clip:
  if len(opened.times) < 2:
    raise ValueError('a clip needs several time points, and this volume has one'
                     '; leave out as_clip')
  size = opened.shape[volume.PLANES[chosen.plane][2]]
  index = (*chosen.slices, size // 2)[0]
  if areas is not None:
    index = slice_choice.by_area(areas, 1, 0, 1)[0]
  most = _most(len(opened.times), view, chosen)
  times = slice_choice.uniform(len(opened.times),
                               min(most, chosen.count or most))
  values = volume.planes(opened, chosen.plane, [index], times)
  window = _window([values], chosen)
  frames = np.stack([_image(v, view, window) for v in values[:, 0]])
  return types.Clip(frames, np.array([opened.times[t] for t in times]))


def _indices(size: int, view: volume.View, areas: np.ndarray | None,
             chosen: Options) -> tuple[int, ...]:
  most = _most(size, view, chosen)
  if chosen.slices:
    given = tuple(chosen.slices)
    if chosen.neighbours:
      given = tuple(sorted(slice_choice.with_neighbours(
          given, chosen.neighbours, size)))
    if len(given) > most:
      raise ValueError(f'{len(given)} slices are given, and {most} fit into '
                       f'max_tokens {chosen.max_tokens}')
    return given
  if areas is not None:
    count = chosen.count or (most if chosen.max_tokens else 1)
    return slice_choice.by_area(areas, count, chosen.neighbours, most)
  count = chosen.count or (most if chosen.max_tokens else DEFAULT_COUNT)
  return slice_choice.uniform(size, min(count, most))


def _most(size: int, view: volume.View, chosen: Options) -> int:
  """Images that the budget allows, of `size`."""
  if not chosen.max_tokens:
    return size
  width, height = map(int, view.transform.target)
  tokens = (chosen.slice_tokens
            or slice_choice.soft_tokens(height, width, chosen.patch))
  return slice_choice.within_budget(size, tokens, chosen.max_tokens)


def _annotated(opened: volume.Volume, root: str,
               chosen: Options) -> tuple[np.ndarray, ...]:
  """`marked` of the annotation, () where there is none."""
  if not chosen.annotation:
    return ()
  # NIfTI says itself how it is to be read.
  says = chosen.annotation.endswith(('.nii', '.nii.gz'))
  mask = volume.canonical(volume_files.open_volume(
      chosen.annotation, root,
      volume_files.Opening() if says else chosen.opening))
  ends = np.array([[0, 0, 0], np.subtract(opened.shape, 1)])
  apart = np.abs(volume.between(ends, mask.affine, opened.affine) - ends).max()
  if mask.shape != opened.shape or apart > .5:
    raise ValueError(
        f'annotation {chosen.annotation!r} is of {list(mask.shape)} voxels, '
        f'{apart:.1f} voxels apart from the volume of {list(opened.shape)}; '
        f'expected the same grid')
  counts = slice_choice.marked(mask, chosen.time if len(mask.times) > 1 else 0)
  if not counts[0].any():
    raise ValueError(f'annotation {chosen.annotation!r} marks nothing')
  return counts


def _window(sections: Sequence[np.ndarray], chosen: Options) -> windows.Window:
  """One window for all; from an even choice of their voxels if automatic."""
  step = max(1, math.isqrt(sum(s.size for s in sections) // SAMPLE))
  sample = [s[:, :, ::step, ::step].reshape(-1) for s in sections]
  return windows.choose(np.concatenate(sample), chosen.window)


def _image(section: np.ndarray, view: volume.View,
           window: windows.Window) -> np.ndarray:
  if section.ndim == 2:
    section = windows.window(section, *window)
  return volume.resized(section, view)


def _check_whole(name: str, value: Any, least: int) -> None:
  if isinstance(value, bool) or not isinstance(value, int) or value < least:
    raise ValueError(f'{name} {value!r}: expected a whole number of at least '
                     f'{least}')
