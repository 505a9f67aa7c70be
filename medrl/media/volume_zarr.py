"""Zarr arrays (v2, v3) and OME-Zarr pyramids as volumes, through TensorStore.

Only chunks with voxels that were asked for are read, each once in a read: of n
slices, evenly spread over an axis of N, in chunks d thick, at most n d / N of
the bytes. 16 of 2,048 cost 0.8 % in chunks of one slice, 3 % in chunks of four
(inside shards too), but half of it in cubes of 64, for which a pyramid is read
at a coarser level.

TensorStore opens files by itself, so before the first read all of the array's
folder is looked through: every entry must be a file or folder below the data
root, links followed, and no chunk larger than one can be. Nothing is written.
"""

from collections.abc import Sequence
import functools
import json
import math
import os
import pathlib
from typing import Any

import numpy as np
import tensorstore

from medrl.media import files
from medrl.media import volume
from medrl.media import volume_arrays

# Metadata of a group may hold that of all of its arrays.
MAX_METADATA_BYTES = 16 << 20
# Of a decoded chunk, several of which are held at a time.
MAX_CHUNK_BYTES = 256 << 20
# Of one read: 16 slices of 2048 x 2048 in chunks of 16 x 16. A damaged shape
# can name any number of them, and each is looked for.
MAX_CHUNKS = 1 << 18
# Chunks read or decoded at a time: the memory of a read, in chunks. Loading
# has a worker for each core, so more threads would help little.
CONCURRENCY = 4
# Folders whose entries were found to be below the root are not looked through
# again: a data set does not change while it is read.
CHECKED_FOLDERS = 4096
# By the names of OME-Zarr; x to the left and y to the back, as in the patient
# coordinates of DICOM and ITK.
LETTERS = {'t': 'T', 'c': 'C', 'z': 'S', 'y': 'P', 'x': 'L'}
UNITS = {
    'angstrom': 1e-7, 'nanometer': 1e-6, 'micrometer': 1e-3, 'millimeter': 1.,
    'centimeter': 10., 'meter': 1000., 'microsecond': 1e-6,
    'millisecond': 1e-3, 'second': 1., 'minute': 60., 'hour': 3600.}


def open_zarr(full: pathlib.Path, root: str,
              opening: volume_arrays.Opening) -> volume.Volume:
  """A Zarr array, or a level of an OME-Zarr pyramid, as a volume.

  Axes and spacing are the user's; else those of the pyramid (axes, units,
  scales, and anatomical orientations, RFC-4), or the names of the dimensions
  (v3); else `volume_arrays.AXES` and 1 mm. OME-Zarr 0.1 to 0.5.

  Args:
    full: folder of the array or group, below the root.
    root: the data root.
    opening: what the files do not say, and the level of a pyramid.

  Raises:
    ValueError: damaged metadata, entries outside the root, chunks that are too
      large, or no such level.
  """
  opening.refuse(('series',), 'Zarr')
  pyramid = _pyramid(_attributes(full, root))
  if not pyramid:
    opening.refuse(('level', 'min_side'), 'a Zarr array without a pyramid')
    store = _array(full, root)
    axes, steps = _named(store.domain.labels), ()
  else:
    chosen, store = _level(full, root, pyramid, opening)
    axes, steps = _axes(pyramid, store.rank), _steps(pyramid, chosen, store)
  opening, steps = volume_arrays.completed(opening, store.shape, axes, steps)

  def read(indices):
    _check_count(store, indices)
    # Slices are copied faster than lists of indices.
    box = tuple(slice(int(i[0]), int(i[-1]) + 1)
                if i[-1] - i[0] + 1 == len(i) else i for i in indices)
    return store.oindex[box].read().result()

  return volume_arrays.arranged(store.shape, store.dtype.numpy_dtype, steps,
                                opening, read)


def _array(full: pathlib.Path, root: str) -> tensorstore.TensorStore:
  driver = 'zarr' if (full / '.zarray').exists() else 'zarr3'
  metadata = _json(full / ('.zarray' if driver == 'zarr' else 'zarr.json'),
                   root)
  limits = {'cache_pool': {'total_bytes_limit': 0},
            'data_copy_concurrency': {'limit': CONCURRENCY},
            'file_io_concurrency': {'limit': CONCURRENCY}}
  store = tensorstore.open(
      {'driver': driver, 'kvstore': {'driver': 'file', 'path': f'{full}/'}},
      open=True, read=True, context=tensorstore.Context(limits)).result()
  dtype = store.dtype.numpy_dtype
  volume_arrays.check_numbers(dtype)
  inner, outer = (math.prod(chunk.shape) * dtype.itemsize
                  for chunk in (store.chunk_layout.read_chunk,
                                store.chunk_layout.write_chunk))
  # Of a shard the chunks asked for are read, unless it is packed as a whole.
  codecs = [c.get('name') for c in metadata.get('codecs', ())]
  whole = inner if codecs[-1:] == ['sharding_indexed'] else outer
  if whole > MAX_CHUNK_BYTES:
    raise ValueError(f'its chunks of {whole} bytes are more than '
                     f'{MAX_CHUNK_BYTES}; store it in smaller ones')
  # Packed noise is hardly larger than the noise.
  _check_folder(str(full), root, 2 * outer + (1 << 20))
  return store


def _check_count(store: tensorstore.TensorStore,
                 indices: Sequence[np.ndarray]) -> None:
  """Refuses a read of very many chunks, there or not."""
  sizes = store.chunk_layout.read_chunk.shape
  count = math.prod(len(np.unique(i // n)) for i, n in zip(indices, sizes))
  if count > MAX_CHUNKS:
    raise ValueError(f'what is asked for lies in {count} chunks, of which at '
                     f'most {MAX_CHUNKS} are read; store it in larger ones')


@functools.lru_cache(maxsize=CHECKED_FOLDERS)
def _check_folder(folder: str, root: str, most: int) -> None:
  """Refuses what is not a file below the root, or larger than `most` bytes."""
  waiting = [folder]
  while waiting:
    with os.scandir(waiting.pop()) as entries:
      for entry in entries:
        if entry.is_dir(follow_symlinks=False):
          waiting.append(entry.path)
        else:
          _check_file(entry, root, most)


def _check_file(entry: os.DirEntry, root: str, most: int) -> None:
  if entry.is_symlink() and not files.within(pathlib.Path(entry), root):
    raise ValueError(f'{entry.path!r} is a link out of the data root; move or '
                     f'copy its target below the root')
  # A pipe would be waited for without end, a linked folder may lead anywhere.
  if not entry.is_file():
    raise ValueError(f'{entry.path!r} is neither a file nor a folder')
  if entry.stat().st_size > most:
    raise ValueError(f'{entry.path!r} has {entry.stat().st_size} bytes; a '
                     f'chunk of this array has at most {most}')


def _json(full: pathlib.Path, root: str) -> dict[str, Any]:
  found = json.loads(files.read(str(full), root, MAX_METADATA_BYTES))
  if not isinstance(found, dict):
    raise ValueError(f'{str(full)!r} holds no JSON object')
  return found


def _attributes(full: pathlib.Path, root: str) -> dict[str, Any]:
  if (full / 'zarr.json').exists():
    return _json(full / 'zarr.json', root).get('attributes', {})
  if (full / '.zattrs').exists():
    return _json(full / '.zattrs', root)
  return {}


def _pyramid(attributes: dict[str, Any]) -> dict[str, Any]:
  # Below 'ome' since 0.5. Of several pyramids the first is the image.
  found = attributes.get('ome', attributes).get('multiscales', ({},))
  return found[0]


def _level(full: pathlib.Path, root: str, pyramid: dict[str, Any],
           opening: volume_arrays.Opening
           ) -> tuple[dict[str, Any], tensorstore.TensorStore]:
  """The data set of the level asked for, and its array."""
  levels = pyramid['datasets']
  if not -1 <= opening.level < len(levels):
    raise ValueError(f'level {opening.level} is none of its {len(levels)} '
                     f'levels; expected 0 to {len(levels) - 1}')
  if opening.level >= 0 or not opening.min_side:
    chosen = levels[max(opening.level, 0)]
    return chosen, _array(_folder(full, root, chosen), root)
  for chosen in levels[::-1]:
    store = _array(_folder(full, root, chosen), root)
    axes = opening.axes or _axes(pyramid, store.rank)
    sides = sorted(n for n, a in zip(store.shape, axes) if a not in 'TC')
    # A section has the longest axis or, if it is across that, the next one.
    if sides[-2] >= opening.min_side:
      break
  return chosen, store


def _folder(full: pathlib.Path, root: str, level: dict[str, Any]):
  return files.locate_folder(str(full / str(level['path'])), root)


def _axes(pyramid: dict[str, Any], rank: int) -> str:
  """Letters of the axes, '' where the metadata has none that are known."""
  axes = pyramid.get('axes')
  if axes is None:   # before 0.3 there were always these five
    return _named('tczyx') if rank == 5 else ''
  # Names alone in 0.3, then with type, unit and orientation.
  axes = [{'name': a} if isinstance(a, str) else a for a in axes]
  letters = _named([a['name'] for a in axes])
  # 'right-to-left' points to the left.
  turned = [a.get('orientation', {}).get('value', '').rpartition('-to-')[2]
            for a in axes]
  ends = {'left': 'L', 'right': 'R', 'anterior': 'A', 'posterior': 'P',
          'superior': 'S', 'inferior': 'I'}
  return ''.join(ends.get(t, letter) for t, letter in zip(turned, letters))


def _named(names: Sequence[str]) -> str:
  letters = [LETTERS.get(name.lower(), '') for name in names]
  return ''.join(letters) if all(letters) else ''


def _steps(pyramid: dict[str, Any], level: dict[str, Any],
           store: tensorstore.TensorStore) -> list[float]:
  """Product of the scales of a level and of its pyramid, in mm and seconds."""
  steps = np.ones(store.rank)
  for holder in (level, pyramid):
    for transform in holder.get('coordinateTransformations', ()):
      if transform['type'] == 'scale':
        steps = steps * np.asarray(transform['scale'], np.float64)
  axes = pyramid.get('axes') or [{}] * store.rank
  units = [UNITS.get(a.get('unit', ''), 1.) if isinstance(a, dict) else 1.
           for a in axes]
  return (steps * units).tolist()
