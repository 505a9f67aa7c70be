"""Openers of volumes: a file or a folder becomes what its content says.

NIfTI (.nii, .nii.gz) and .npy files, embedded ones too; folders of a Zarr
array, an OME-Zarr pyramid, or a DICOM series. An opener checks a header against
the file before anything is allocated, and returns a `volume.Volume` with the
axes as stored; voxels are read later, only those asked for. A compressed NIfTI
is unpacked as far as the last of them, a block at a time.

It neither turns volumes to canonical axes (see `volume`) nor shows them (see
`slices`), and it never maps a file into memory: pages of a map would count as
memory of the worker, and a file cut short under it would kill the worker.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import gzip
import io
import json
import pathlib
from typing import BinaryIO

import numpy as np

from medrl.media import files
from medrl.media import volume
from medrl.media import volume_arrays

# What a .nii.gz may unpack to; it is unpacked from its start for each read, so
# a larger one is better stored as .nii or Zarr.
MAX_UNPACKED = 32 << 30
# Deflate stores 258 bytes in two bits at best (RFC 1951), with some margin:
# a header that promises more than that of its file lies.
MAX_RATIO = 1040
MAX_SIDECAR_BYTES = 1 << 16
# Files of which a Zarr folder, whatever its name, has one at least.
ZARR_MARKS = ('zarr.json', '.zarray', '.zgroup', '.zattrs')

Opening = volume_arrays.Opening


def open_volume(path: str, root: str,
                opening: Opening = Opening()) -> volume.Volume:
  """Opens a volume by what it is: a file, or a folder of DICOM or Zarr.

  Args:
    path: of a NIfTI (.nii, .nii.gz) or .npy file, of a Zarr array or OME-Zarr
      pyramid, or of the folder of a DICOM series; as in `files.locate`.
    root: the data root.
    opening: what the file does not say.

  Returns:
    the volume with its axes as stored.

  Raises:
    ValueError: outside `root`, damaged, no volume, or an option that this kind
      of file does not have. Damage among the voxels is found when they are
      read, and raised then as the same error.
    FileNotFoundError: there is no such file or folder.
  """
  try:
    full = files.locate_folder(path, root)
  except FileNotFoundError:
    full = files.locate(path, root)
  name = str(full)
  if full.is_dir():
    # Loads TensorStore, which most data sets do without.
    if full.suffix == '.zarr' or any((full / m).exists() for m in ZARR_MARKS):
      from medrl.media import volume_zarr
      return _guarded(name, 'a Zarr volume',
                      lambda: volume_zarr.open_zarr(full, root, opening))
    return _guarded(name, 'a DICOM series',
                    lambda: _open_series(path, root, opening))
  return _guarded(name, 'a volume', lambda: _open_stream(
      lambda: open(full, 'rb'), full.stat().st_size, opening,
      _sidecar(full, root)))


def open_bytes(data: bytes, name: str,
               opening: Opening = Opening()) -> volume.Volume:
  """`open_volume` of a NIfTI or .npy file that is embedded in another.

  Args:
    data: the bytes of the file.
    name: of the record, for errors.
    opening: what the file does not say.
  """
  return _guarded(name, 'a volume', lambda: _open_stream(
      lambda: io.BytesIO(data), len(data), opening, ('', ())))


def _guarded(name: str, kind: str,
             opener: Callable[[], volume.Volume]) -> volume.Volume:
  """`opener()`, with `files.decoded` around it and around every later read."""
  try:
    opened = files.decoded(name, kind, opener)
  except files.Undecodable as error:
    # A package that is not installed is no fault of the file.
    if isinstance(error.__cause__, ImportError):
      raise error.__cause__ from None
    raise
  return dataclasses.replace(opened, fetch=lambda indices: files.decoded(
      name, kind, lambda: opened.fetch(indices)))


def _open_stream(stream: volume_arrays.Stream, size: int, opening: Opening,
                 said: tuple[str, Sequence[float]]) -> volume.Volume:
  with stream() as opened:
    start = opened.read(8)
  if start[:2] == b'\x1f\x8b':
    size = min(size * MAX_RATIO, MAX_UNPACKED)
    stream = functools.partial(_unpacked, stream)
    with stream() as opened:
      start = opened.read(8)
  if start[:6] == b'\x93NUMPY':
    return volume_arrays.open_npy(stream, size, opening, said)
  # Loads nibabel, which little else needs.
  from medrl.media import volume_nifti
  if volume_nifti.is_nifti(start):
    opening.refuse([f.name for f in dataclasses.fields(opening)], 'NIfTI')
    return volume_nifti.open_nifti(stream, size)
  raise ValueError(f'it starts with {start!r}; expected NIfTI (.nii, .nii.gz) '
                   f'or .npy')


def _unpacked(packed: volume_arrays.Stream) -> BinaryIO:
  file = packed()
  unpacked = gzip.GzipFile(fileobj=file)
  unpacked.myfileobj = file   # is closed with it
  return unpacked


def _sidecar(full: pathlib.Path, root: str) -> tuple[str, Sequence[float]]:
  """Axes and spacing of a .npy file, from the .json of that name beside it."""
  beside = full.with_suffix('.json')
  if full.suffix != '.npy' or not beside.exists():
    return '', ()
  said = json.loads(files.read(str(beside), root, MAX_SIDECAR_BYTES))
  axes, spacing = said.get('axes', ''), said.get('spacing', ())
  if not isinstance(axes, str) or not isinstance(spacing, (list, tuple)):
    raise ValueError(f'{str(beside)!r} has axes {axes!r} and spacing '
                     f"{spacing!r}; expected such as 'SPL' and [5, 0.7, 0.7]")
  return axes, spacing


def _open_series(path: str, root: str, opening: Opening) -> volume.Volume:
  # Loads pydicom.
  from medrl.media import dicom_series
  opening.refuse(('channel', 'level', 'min_side'), 'DICOM')
  series = dicom_series.open_series(
      path, root, series=None if opening.series == '' else opening.series)
  rows, columns, count = series.shape

  def read(indices):
    box = np.ix_(*indices[1:])
    return np.stack([series.read(int(k))[box] for k in indices[0]])

  if series.affine is None:
    if not opening.axes:
      raise ValueError('its headers do not say where its slices lie; give the '
                       "axes of slices, rows and columns, such as axes='SPL'")
    said = series.spacing[2:] + series.spacing[:2] if series.spacing else ()
    opening, steps = volume_arrays.completed(opening, (count, rows, columns),
                                             '', said)
    return volume_arrays.arranged((count, rows, columns), np.dtype(np.float32),
                                  steps, opening, read)
  opening.refuse(('axes', 'spacing'), 'DICOM whose headers give positions')
  return volume.Volume(
      series.shape, series.affine, (0.,), lambda indices: np.moveaxis(
          read([indices[i] for i in (2, 0, 1)]), 0, 2)[..., None])
