"""Any medium of a record, read by what the file is.

The first bytes decide and the suffix only where they do not, so that a PNG
called .jpg is read as PNG. It decodes nothing itself, and imports a reader,
with the package behind it, only for a file that needs it.
"""

import functools
import inspect
import os
from typing import Any
import zlib

import numpy as np

from medrl import lookup
from medrl import types
from medrl.media import files
from medrl.media import image
from medrl.media import video

# The longest look at a file: its preamble and group 0002, if it is DICOM.
HEAD_BYTES = 1024
# Of a folder, so many files are looked at.
LOOKED_AT = 16
SUFFIXES = {
    'image': ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.webp', '.bmp'),
    'video': ('.mp4', '.m4v', '.avi', '.mov', '.mkv', '.webm', '.gif'),
    'dicom': ('.dcm', '.dicom', '.ima'),
    'slices': ('.nii', '.nii.gz', '.npy', '.zarr'),
    'archive': ('.npz',),
    'ecg': ('.hea', '.csv', '.tsv', '.txt'),
}
LOADERS = {
    'image': 'medrl.media.image.load',
    'video': 'medrl.media.video.load',
    'frames': 'medrl.media.video.load_frames',
    'dicom': 'medrl.media.dicom.load',
    'series': 'medrl.media.dicom_series.load',
    'slices': 'medrl.media.slices.load',
    'archive': 'medrl.media.image.load_npz',
    'ecg': 'medrl.media.ecg_paper.load',
    'signal': 'medrl.media.ecg.load',
}
# Of what several files make up, there is nothing to embed.
EMBEDDED = ('image', 'video', 'dicom', 'slices', 'ecg', 'signal')
# SOP classes of waveforms (DICOM PS3.6, table A-1).
WAVEFORM = b'1.2.840.10008.5.1.4.1.1.9.'
ZARR_MARKS = ('zarr.json', '.zarray', '.zgroup', '.zattrs')


def load(path: str, root: str, /, **options) -> Any:
  """Reads an image, DICOM file or series, volume, video or ECG.

  Args:
    path: of a file; or of a folder that holds the DICOM files of one series, a
      Zarr array, or the images of a clip (`video.load_frames`).
    root: the data root.
    **options: of the reader, such as those of `slices.load` for a volume. An
      ECG is drawn on paper (`ecg_paper.load`), or, with as_signal=True, given
      as its samples (`ecg.load`).

  Returns:
    uint8 [h, w, 3]; a tuple of those; a `types.Clip`; or a `types.Signal`.

  Raises:
    ValueError: outside `root`, damaged, of no known kind, or the reader has no
      such option or lacks one.
    FileNotFoundError: there is no such file or folder.
    ImportError: the package behind the reader is missing.
  """
  try:
    full = files.locate(path, root)
  except FileNotFoundError:
    if not os.path.isdir(os.path.join(root, path)):
      raise
    which = _folder_kind(path, root)
  else:
    with open(full, 'rb') as stream:
      head = stream.read(HEAD_BYTES)
      which = kind(head, path)
      # The most common, and short: it is open already. One that is too large
      # is refused by `image.load`.
      if which == 'image' and (
          os.fstat(stream.fileno()).st_size <= files.MAX_BYTES):
        reader, options = _reader(which, path, options, embedded=True)
        return reader(head + stream.read(), path, **options)
  reader, options = _reader(which, path, options)
  return reader(path, root, **options)


def decode(data: bytes, name: str, /, **options) -> Any:
  """As `load`, of the bytes of one file; errors call it `name`."""
  which = kind(data[:HEAD_BYTES], name)
  reader, options = _reader(which, name, options, embedded=True)
  return reader(data, name, **options)


def stills(loaded: Any) -> list[np.ndarray]:
  """All pictures, uint8 [h, w, 3], of what a loader returned, to be shown.

  The frames of a clip are pictures; a signal has none.

  Raises:
    TypeError: no loader returns this.
  """
  if isinstance(loaded, types.Signal):
    return []
  if isinstance(loaded, types.Clip):
    return list(loaded.frames)
  if isinstance(loaded, tuple):
    return [picture for part in loaded for picture in stills(part)]
  if isinstance(loaded, np.ndarray) and loaded.dtype == np.uint8 and (
      loaded.ndim == 3 and loaded.shape[2] == 3):
    return [loaded]
  shape = getattr(loaded, 'dtype', ''), list(getattr(loaded, 'shape', ()))
  raise TypeError(f'{type(loaded).__name__} {shape[0]} {shape[1]} is not what '
                  'a loader returns: uint8 [h, w, 3], a tuple of those, a Clip '
                  'or a Signal')


def kind(head: bytes, name: str) -> str:
  """What a file is, a key of `LOADERS`.

  Args:
    head: its first `HEAD_BYTES` bytes.
    name: of the file, whose suffix decides where these do not.

  Raises:
    ValueError: it is empty, or of no known kind.
  """
  if not head:
    raise files.Undecodable(f'{name!r} is empty')
  if head[128:132] == b'DICM':
    return 'ecg' if WAVEFORM in head else 'dicom'
  if image.is_image(head):
    return 'image'
  if video.is_video(head):
    return 'video'
  if _is_array(head):
    return 'slices'
  if head.startswith(b'\x1f\x8b'):
    return _packed_kind(head, name)
  if head.startswith(b'PK\x03\x04'):
    return 'archive'
  lower = name.lower()
  for kind, suffixes in SUFFIXES.items():
    if lower.endswith(suffixes):
      return kind
  # DICOM without its preamble begins with an element of group 2 or 8.
  if head[:2] in (b'\x02\0', b'\x08\0'):
    return 'dicom'
  known = ', '.join(s for suffixes in SUFFIXES.values() for s in suffixes)
  raise files.Undecodable(
      f'{name!r} begins with {head[:8]!r}, which is of no kind that is read '
      f'here, and its name has no suffix of one: {known}')


def _packed_kind(head: bytes, name: str) -> str:
  try:
    start = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
  except zlib.error as error:
    raise files.Undecodable(f'{name!r} is damaged gzip: {error}') from error
  if not _is_array(start):
    raise files.Undecodable(f'{name!r} is gzip, but of no NIfTI volume or '
                            '.npy array; unpack it')
  return 'slices'


def _is_array(head: bytes) -> bool:
  """NIfTI of version 1 or 2, in either byte order, or .npy."""
  size = head[:4]
  return (head.startswith(b'\x93NUMPY')
          or size in (b'\x5c\1\0\0', b'\0\0\1\x5c')
          and head[344:347] in (b'n+1', b'ni1')
          or size in (b'\x1c\2\0\0', b'\0\0\2\x1c')
          and head[4:7] in (b'n+2', b'ni2'))


def _folder_kind(path: str, root: str) -> str:
  folder = files.locate_folder(path, root)
  names = sorted(entry.name for entry in folder.iterdir())
  if folder.suffix.lower() == '.zarr' or any(n in names for n in ZARR_MARKS):
    return 'slices'
  shown = [n for n in names
           if not n.startswith('.') and not (folder / n).is_dir()]
  for name in shown[:LOOKED_AT]:
    with open(files.locate(os.path.join(path, name), root), 'rb') as stream:
      head = stream.read(HEAD_BYTES)
    if head[128:132] == b'DICM' or name.lower().endswith(SUFFIXES['dicom']):
      return 'series'
    if image.is_image(head):
      return 'frames'
  raise files.Undecodable(
      f'the folder {path!r} holds {len(names)} entries and neither DICOM '
      'files, nor a Zarr array, nor images of a clip')


def _reader(kind: str, name: str, options: dict[str, Any],
            embedded: bool = False):
  """The function that reads a kind, and its options, checked."""
  known = ['as_signal'] if kind == 'ecg' else []
  if kind == 'ecg' and 'as_signal' in options:
    options = dict(options)
    wanted = options.pop('as_signal')
    if not isinstance(wanted, bool):
      raise ValueError(f'{name!r}: as_signal {wanted!r}; expected true or '
                       'false')
    kind = 'signal' if wanted else kind
  if embedded and kind not in EMBEDDED:
    raise ValueError(f'{name!r} cannot be embedded in a record: '
                     f'{LOADERS[kind]} reads files; give the path of one')
  reader, parameters, free = _function(LOADERS[kind], embedded)
  # A reader that takes any option checks them itself.
  known += [*parameters, *(options if free else ())]
  for option in options:
    if option not in known:
      raise ValueError(
          f'{name!r} is read by {LOADERS[kind]}, which has no option '
          f'{option!r}; '
          + (lookup.nearest(option, known) if known else 'it has none'))
  missing = [option for option, needed in parameters.items()
             if needed and option not in options]
  if missing:
    raise ValueError(f'{name!r} is read by {LOADERS[kind]}, which needs the '
                     f'option ' + ' and '.join(map(repr, missing)))
  return reader, options


@functools.lru_cache(maxsize=len(LOADERS) * 2)
def _function(name: str, embedded: bool):
  """A loader or its `decode`, its options (name -> whether needed), and
  whether it takes others."""
  module, function = name.rsplit('.', 1)
  # By module: a name that cannot be imported is looked for on the whole path.
  reader = getattr(lookup.resolve(module),
                   'decode' if embedded else function)
  parameters = list(inspect.signature(reader).parameters.values())[2:]
  named = {p.name: p.default is p.empty for p in parameters
           if p.kind is not p.VAR_KEYWORD}
  return reader, named, len(named) < len(parameters)
