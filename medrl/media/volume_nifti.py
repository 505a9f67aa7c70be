"""NIfTI files as volumes: the header through nibabel, voxels in blocks.

nibabel is not left to open the file: it reads header extensions of any length
that a damaged header names, and keeps what it has unpacked. Pairs of .hdr and
.img are not read.
"""

import logging
from typing import Any

import numpy as np

from medrl.media import volume
from medrl.media import volume_arrays

try:
  import nibabel
except ImportError as error:
  raise ImportError('NIfTI files are read by nibabel; install with: pip install'
                    ' -r launch/requirements-media.txt') from error

# Bytes of the two headers, which are the first integer of a file.
NIFTI1, NIFTI2 = 348, 540
# Of `xyzt_units`: mm in a unit of space, seconds in one of time.
_SPACE = {1: 1000., 2: 1., 3: 1e-3}
_TIME = {8: 1., 16: 1e-3, 24: 1e-6}


def is_nifti(start: bytes) -> bool:
  """Whether a file that starts so is NIfTI-1 or -2, of either byte order."""
  return any(start[:4] == size.to_bytes(4, order) for size in (NIFTI1, NIFTI2)
             for order in ('little', 'big'))


def open_nifti(stream: volume_arrays.Stream, most: int) -> volume.Volume:
  """A NIfTI file as a volume, with its slope and intercept applied.

  Args:
    stream: opens the file, unpacked if it is packed.
    most: bytes that it may have.

  Raises:
    ValueError: it is damaged, of more than four dimensions, or its voxels are
      neither numbers nor colours.
  """
  with stream() as opened:
    header = _header(opened.read(NIFTI2))
  stored = tuple(int(n) for n in header.get_data_shape())
  shape = (*stored, 1, 1, 1, 1)[:4]
  if min(stored, default=0) < 1 or any(n != 1 for n in stored[4:]):
    raise ValueError(f'its shape is {list(stored)}; expected [x, y, z] or '
                     f'[x, y, z, t]')
  dtype = header.get_data_dtype()
  colour = bool(dtype.names)
  if not colour:
    volume_arrays.check_numbers(dtype)
  start = int(header['vox_offset'])
  volume_arrays.check_size(shape, dtype, start, most)
  slope, intercept = (None, None) if colour else header.get_slope_inter()

  def fetch(indices):
    with stream() as opened:
      values = volume_arrays.read_blocks(opened, start, dtype, shape[::-1],
                                         indices[::-1])
    # Columns are contiguous in a file: its last axis is the slowest.
    values = values.transpose(3, 2, 1, 0)
    if colour:
      return np.stack([values[name] for name in 'RGB'], -1)
    return scaled(values, slope, intercept)

  units = int(header['xyzt_units'])
  # Six bits of units, in two fields; what has none is taken for mm.
  unit = _SPACE.get(units & 7, 1.)
  affine = np.diag([unit, unit, unit, 1.]) @ header.get_best_affine()
  step = float(header['pixdim'][4]) * _TIME.get(units & 56, 0.)
  return volume.Volume(shape[:3], affine,
                       volume_arrays.seconds(shape[3], step), fetch, colour)


def scaled(values: np.ndarray, slope: float | None,
           intercept: float | None) -> np.ndarray:
  """`slope * values + intercept`, in float32 where that loses nothing.

  float32 holds all integers of 16 bits; wider ones are scaled as float64.
  Without a slope, or with 1 and 0, the values stay as they are.
  """
  if slope is None or (slope, intercept) == (1., 0.):
    return values
  wide = values.dtype.itemsize > 2 and values.dtype != np.float32
  values = values.astype(np.float64 if wide else np.float32)
  values *= slope
  values += intercept
  return values


def _header(start: bytes) -> Any:
  size = NIFTI1 if NIFTI1 in (int.from_bytes(start[:4], order)
                              for order in ('little', 'big')) else NIFTI2
  kind = (nibabel.Nifti1Header if size == NIFTI1 else nibabel.Nifti2Header)
  header = kind(start[:size], check=False)
  # As `nibabel.load`: what can be repaired is, silently; the rest raises.
  silent = logging.Logger('nifti')
  silent.addHandler(logging.NullHandler())
  header.check_fix(logger=silent)
  if not bytes(header['magic']).startswith(b'n+'):
    raise ValueError('its voxels are in another file, .img; store it as .nii')
  return header
