"""A volume as a value: where its voxels lie, and a way to read some of them.

A `Volume` knows its shape, its affine and its time points; voxels are read
when asked for, and only those. `canonical` turns any volume to axes that run
to the patient's Right, Anterior and Superior by permuting and flipping what is
read, so that nothing is loaded for it. `planes` and `View` show sections as
radiologists see them.

It opens no file (see `volume_files`) and maps no intensities to grey levels
(see `slices`).
"""

from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from medrl.media import spatial

# The ends of the world axes: RAS+ coordinates grow towards the second.
LETTERS = (('L', 'R'), ('P', 'A'), ('I', 'S'))
# Canonical axes of a section: across the image, up it, and through it.
PLANES = {'axial': (0, 1, 2), 'coronal': (0, 2, 1), 'sagittal': (1, 2, 0)}
# An axis of a scanner has hundreds of voxels, one of a whole slide 10**5; what
# is longer is a damaged header, and would make index lists of any size.
MAX_SIDE = 1 << 20
# Of one read: 512 slices of 512 x 1024. More is a mistake in what was asked.
MAX_VALUES = 1 << 28
# A section is never blown up beyond this to make its pixels square.
MAX_SHOWN = 8192

Selection = int | slice | Sequence[int]
EVERYTHING = (slice(None), slice(None), slice(None))


@dataclasses.dataclass(frozen=True)
class Volume:
  """Voxels on a grid in the patient, at one or more time points.

  Args:
    shape: voxels along the three axes of space.
    affine: float64 [4, 4], voxel index (centre of a voxel) -> RAS+ mm.
    times: seconds from the first time point, or indices where the file does
      not say, increasing; (0.,) where there is one only.
    fetch: `f((x, y, z, t))` with ascending indices, int64 [n] each, gives an
      array [x, y, z, t] of them all, [x, y, z, t, 3] where `colour`.
    colour: whether voxels are uint8 RGB.

  Raises:
    ValueError: a shape or an affine that no volume has.
  """
  shape: tuple[int, int, int]
  affine: Any
  times: tuple[float, ...]
  fetch: Callable[[tuple[np.ndarray, ...]], np.ndarray]
  colour: bool = False

  def __post_init__(self):
    sizes = (*self.shape, len(self.times))
    if len(sizes) != 4 or not all(1 <= n <= MAX_SIDE for n in sizes):
      raise ValueError(f'{list(self.shape)} at {len(self.times)} times is no '
                       f'shape of a volume; expected 3 sizes and a number of '
                       f'times, each from 1 to {MAX_SIDE}')
    directions = np.asarray(self.affine, np.float64)[:3, :3]
    lengths = np.linalg.norm(directions, axis=0)
    if (not np.isfinite(self.affine).all() or not lengths.all()
        or abs(np.linalg.det(directions / lengths)) < 1e-3):
      raise ValueError(f'{np.asarray(self.affine).tolist()} maps no voxels to '
                       f'space: it is not finite or its axes are no basis')

  @property
  def spacing(self) -> tuple[float, float, float]:
    """Distance of neighbouring voxels along each axis, mm."""
    lengths = np.linalg.norm(np.asarray(self.affine)[:3, :3], axis=0)
    return tuple(float(x) for x in lengths)

  @property
  def orientation(self) -> str:
    """Where each axis points, to the nearest axis of the body: 'LPS'."""
    return ''.join(LETTERS[world][sign > 0]
                   for world, sign in axes_of(self.affine))

  @property
  def oblique(self) -> float:
    """Largest angle between an axis and the nearest of the body, degrees."""
    directions = np.asarray(self.affine)[:3, :3] / self.spacing
    nearest = np.abs(directions).max(0).min()
    return math.degrees(math.acos(min(1., nearest)))

  def read(self, box: Sequence[Selection] = EVERYTHING,
           time: Selection = 0) -> np.ndarray:
    """Voxels of a box of space, in the order asked for.

    Args:
      box: for each axis an index, a slice or a list of indices; an index keeps
        its axis, with length 1.
      time: as one of `box`; an index drops the axis.

    Returns:
      [x, y, z] at one time, else [x, y, z, t]; with 3 colours behind.

    Raises:
      ValueError: outside the volume, more than `MAX_VALUES`, or a file that
        turns out to be damaged.
    """
    sizes = (*self.shape, len(self.times))
    wanted = [_indices(s, n) for s, n in zip((*box, time), sizes, strict=True)]
    count = math.prod(map(len, wanted))
    if not 0 < count <= MAX_VALUES:
      raise ValueError(f'{count} voxels were asked for at once; expected 1 to '
                       f'{MAX_VALUES}, so ask for more or for fewer slices')
    ascending = [np.unique(a, return_inverse=True) for a in wanted]
    values = self.fetch(tuple(a for a, _ in ascending))
    for axis, (_, order) in enumerate(ascending):
      if not np.array_equal(order, np.arange(len(order))):
        values = values.take(order, axis)
    single = isinstance(time, (int, np.integer))
    return values[:, :, :, 0] if single else values


class View(NamedTuple):
  """How a plane of a canonical volume is shown.

  `transform` takes the edges of voxels (voxel i covers [i, i + 1]), across and
  up the image, to those of pixels, so that it composes with what a processor
  does to the image afterwards (`spatial.compose`). Both axes are reversed, for
  radiologists look at a patient from the feet, the front or the left.
  """
  plane: str
  transform: spatial.Transform


def axes_of(affine: Any) -> tuple[tuple[int, int], ...]:
  """The axis of the body nearest to each voxel axis, and its sign.

  The same choice as `nibabel.io_orientation`: the rotation nearest to the
  affine decides, so that shears do not.

  Returns:
    for each voxel axis (0 for left-right, 1 for posterior-anterior, 2 for
    inferior-superior; 1 or -1), each axis of the body once.
  """
  directions = np.asarray(affine, np.float64)[:3, :3]
  left, _, right = np.linalg.svd(
      directions / np.linalg.norm(directions, axis=0))
  rotation = left @ right
  free = np.abs(rotation)
  found = {}
  # The most certain first, so that the order of the axes does not matter.
  for axis in np.argsort(-free.max(0), kind='stable').tolist():
    world = int(free[:, axis].argmax())
    found[axis] = world, 1 if rotation[world, axis] >= 0 else -1
    free[world] = -1
  return tuple(found[axis] for axis in range(3))


def canonical(volume: Volume) -> Volume:
  """The same voxels along axes nearest to Right, Anterior, Superior.

  As `nibabel.as_closest_canonical`, but lazily: indices are mapped before a
  read and axes after it. An oblique volume stays oblique (`Volume.oblique`);
  nothing is interpolated.
  """
  found = axes_of(volume.affine)
  stored = [next(i for i, (world, _) in enumerate(found) if world == axis)
            for axis in range(3)]
  flips = [found[i][1] < 0 for i in stored]
  shape = tuple(volume.shape[i] for i in stored)
  back = np.zeros([4, 4])
  back[3, 3] = 1
  for axis, (i, flip) in enumerate(zip(stored, flips)):
    back[i, axis] = -1 if flip else 1
    back[i, 3] = shape[axis] - 1 if flip else 0

  def fetch(indices):
    given = list(indices)
    for axis, (i, flip) in enumerate(zip(stored, flips)):
      # Reversed twice, so that the indices still ascend.
      given[i] = (shape[axis] - 1 - indices[axis][::-1] if flip
                  else indices[axis])
    values = volume.fetch(tuple(given))
    values = values.transpose(*stored, *range(3, values.ndim))
    return values[tuple(slice(None, None, -1 if f else 1) for f in flips)]

  return dataclasses.replace(
      volume, shape=shape, affine=np.asarray(volume.affine) @ back, fetch=fetch)


def planes(volume: Volume, plane: str, indices: Sequence[int],
           times: Sequence[int] = (0,)) -> np.ndarray:
  """Sections as they are shown, in the units of the volume, not resampled.

  Radiological convention: in axial and coronal sections the left of the image
  is the patient's right; in sagittal ones it is anterior; anterior is up in
  axial sections, superior in the others. All are read at once, so that a
  stored block with several of them is read once.

  Args:
    volume: a canonical one.
    plane: a key of `PLANES`.
    indices: along the axis through the plane: to the superior, anterior or
      right of the patient.
    times: indices of time points.

  Returns:
    [times, indices, rows, columns], with 3 colours behind if it has any.
  """
  across, up, through = _axes(volume, plane)
  box = [slice(None)] * 3
  box[through] = list(indices)
  values = volume.read(box, list(times))
  return np.moveaxis(values, (3, through, up, across),
                     (0, 1, 2, 3))[:, :, ::-1, ::-1]


def view(volume: Volume, plane: str, isotropic: bool = True) -> View:
  """The size a plane is shown at, and the map from voxels to its pixels.

  Args:
    volume: a canonical one.
    plane: a key of `PLANES`.
    isotropic: make pixels square, of the finer spacing; else a pixel a voxel,
      which distorts what is shown where spacings differ.
  """
  across, up, _ = _axes(volume, plane)
  counts = np.array([volume.shape[across], volume.shape[up]])
  shown = counts
  if isotropic:
    extent = counts * [volume.spacing[across], volume.spacing[up]]
    pixel = max(min(volume.spacing[across], volume.spacing[up]),
                extent.max() / max(MAX_SHOWN, counts.max()))
    shown = np.maximum(np.rint(extent / pixel), 1).astype(int)
  size = tuple(map(float, counts))
  turned = spatial.Transform((-1., -1.), size, size, size)
  return View(plane, spatial.compose(
      turned, spatial.resize(size, tuple(map(float, shown)))))


def resized(image: np.ndarray, shown: View) -> np.ndarray:
  """A section, uint8 [rows, columns(, 3)], as it is shown: [h, w, 3]."""
  picture = Image.fromarray(np.ascontiguousarray(image))
  size = tuple(map(int, shown.transform.target))
  if picture.size != size:
    picture = picture.resize(size, Image.Resampling.BILINEAR)
  return np.asarray(picture.convert('RGB'))


def voxel_to_pixel(shown: View, points: Any) -> np.ndarray:
  """Voxel coordinates [..., 3] of a canonical volume to pixels [..., 2].

  The centre of voxel i lies at i, as for an affine; that of pixel j at
  j + 0.5, as in `spatial`.
  """
  across, up, _ = PLANES[shown.plane]
  points = np.asarray(points, np.float64)[..., [across, up]]
  return spatial.apply_points(shown.transform, points + .5)


def pixel_to_voxel(shown: View, pixels: Any, index: float) -> np.ndarray:
  """Pixels [..., 2] of section `index` to voxel coordinates [..., 3]."""
  across, up, through = PLANES[shown.plane]
  found = spatial.apply_points(spatial.inverse(shown.transform), pixels) - .5
  points = np.full([*found.shape[:-1], 3], float(index))
  points[..., [across, up]] = found
  return points


def voxel_box_to_pixel(shown: View, low: Any, high: Any) -> np.ndarray:
  """A box of voxels, first and last index [..., 3], to [..., (x1, y1, x2, y2)].

  The pixel box covers these voxels whole.
  """
  ends = (voxel_to_pixel(shown, np.asarray(low) - .5),
          voxel_to_pixel(shown, np.asarray(high) + .5))
  return np.concatenate([np.minimum(*ends), np.maximum(*ends)], -1)


def pixel_box_to_voxel(shown: View, box: Any,
                       index: float) -> tuple[np.ndarray, np.ndarray]:
  """(x1, y1, x2, y2) [..., 4] of section `index` to first and last [..., 3].

  The way back of `voxel_box_to_pixel`, not rounded.
  """
  box = np.asarray(box, np.float64)
  ends = [pixel_to_voxel(shown, corner, index)
          for corner in (box[..., :2], box[..., 2:])]
  inside = np.full(3, .5)
  inside[PLANES[shown.plane][2]] = 0
  return np.minimum(*ends) + inside, np.maximum(*ends) - inside


def between(points: Any, source: Any, target: Any) -> np.ndarray:
  """Voxel coordinates [..., 3] under one affine, as those under another.

  Such as from the axes a file stores, in which its annotations count, to the
  canonical ones.
  """
  across = np.linalg.solve(np.asarray(target), np.asarray(source))
  return np.asarray(points, np.float64) @ across[:3, :3].T + across[:3, 3]


def _axes(volume: Volume, plane: str) -> tuple[int, int, int]:
  if plane not in PLANES:
    raise ValueError(f'plane {plane!r} is unknown; expected one of '
                     f'{", ".join(PLANES)}')
  if volume.orientation != 'RAS':
    raise ValueError(f'a volume with axes {volume.orientation!r} cannot be '
                     f"shown; turn it to 'RAS' with volume.canonical")
  return PLANES[plane]


def _indices(wanted: Selection, size: int) -> np.ndarray:
  if isinstance(wanted, slice):
    return np.arange(size)[wanted]
  indices = np.atleast_1d(np.asarray(wanted))
  if (indices.dtype.kind not in 'iu' or indices.ndim != 1
      or not ((0 <= indices) & (indices < size)).all()):
    raise ValueError(f'{wanted!r} are no indices of an axis of {size}; '
                     f'expected whole numbers from 0 to {size - 1}')
  return indices.astype(np.int64)
