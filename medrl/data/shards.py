"""Records with their media in ArrayRecord shards: few large files, any record.

A folder of a million small images is slow on shared disks and buckets. Media
are kept as they were encoded; what several files make up, or nothing, stays a
reference below the data root. `launch/pack_records.py` writes them. A shard is
data: it may name readers of this package and none else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import struct
from typing import Any

from array_record.python import array_record_module
import grain

from medrl import lookup
from medrl import types
from medrl.media import files
from medrl.media import medium

INDEX = 'index.json'
# Kinds of `medium` that one file makes up, and that are worth a copy.
EMBEDDED = ('image', 'dicom', 'video', 'slices')
MAX_EMBEDDED = 64 << 20   # bytes; a larger volume or film is read in parts
OPEN_SHARDS = 64
_LENGTH = struct.Struct('>I')
_TRUSTED = ('medrl.media.', 'medrl.data.')


class Shards(Sequence):
  """The records of a packed folder, read one by one."""

  def __init__(self, root: str, folder: str, sizes: Mapping[str, int]):
    """Args:
      root: the data root.
      folder: below it.
      sizes: name of each shard -> its records.
    """
    self._root, self._folder = root, folder
    self._names = [name for name, size in sizes.items() for _ in range(size)]
    self._first = {}
    for number, name in enumerate(self._names):
      self._first.setdefault(name, number)
    self._source = grain.sources.ArrayRecordDataSource(
        [str(files.locate(f'{folder}/{name}', root)) for name in sizes])

  def __len__(self) -> int:
    return len(self._names)

  def __getitem__(self, index: int) -> types.Record:
    """Raises `files.Undecodable` where the shard is damaged there."""
    index = range(len(self))[index]
    name = f'{self._folder}/{self._names[index]}'
    data = files.decoded(name, 'a shard', lambda: self._source[index])
    within = index - self._first[self._names[index]]
    return files.decoded(name, 'a record',
                         lambda: _record(data, name, within))


def records(root: str, split: str, *, folder: str,
            verify: bool = False) -> Shards:
  """Records that `launch/pack_records.py` packed.

  Args:
    root: data root; references of the records are below it too.
    split: the folder below `folder` that holds the shards of this split.
    folder: below `root`.
    verify: compares the checksum of every shard first, which reads them all;
      without it sizes are compared, and a damaged record is found when it is
      read.

  Raises:
    FileNotFoundError: no such folder, or no index in it.
    ValueError: packing did not finish, or a shard is not as it was packed.
  """
  folder = f'{folder}/{split}'
  index = json.loads(files.read(f'{folder}/{INDEX}', root))
  for name, shard in index['shards'].items():
    full = files.locate(f'{folder}/{name}', root)
    if full.stat().st_size != shard['bytes'] or (
        verify and checksum(full) != shard['sha256']):
      raise ValueError(f'shard {str(full)!r} is not as it was packed; pack or '
                       f'copy it again')
  return Shards(root, folder, {name: shard['records'] for name, shard
                               in index['shards'].items()})


def load(path: str, root: str, *, record: int, item: int) -> Any:
  """Decodes an embedded medium; a loader of `types.Media`.

  Args:
    path: of the shard, below `root`.
    root: the data root.
    record: its number in the shard.
    item: which of the record's media.
  """
  full = files.locate(path, root)
  data = files.decoded(str(full), 'a shard',
                       lambda: _reader(full).read([record])[0])
  header, blobs = _split(data)
  entry = header['media'][item]
  start, length = entry['bytes']
  decode = _trusted(entry['loader'].removesuffix('load') + 'decode')
  return decode(blobs[start:start + length], entry['path'], **entry['options'])


@functools.lru_cache(maxsize=OPEN_SHARDS)
def _reader(full: pathlib.Path):
  return array_record_module.ArrayRecordReader(str(full))


def checksum(full: pathlib.Path) -> str:
  """SHA-256 of a file, in hexadecimal."""
  with open(full, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def encode(record: types.Record, root: str) -> bytes:
  """A record and its media as the bytes of one ArrayRecord entry.

  The length of a header, the header as JSON, then the files' own bytes.

  Raises:
    ValueError: something in the record is not JSON, or a loader is none of
      this package.
  """
  blobs, media, start = [], [], 0
  for found in record.media:
    _trusted(found.loader)
    data = _embedded(found, root)
    media.append({'path': found.path, 'loader': found.loader,
                  'options': dict(found.options),
                  'bytes': None if data is None else [start, len(data)]})
    if data is not None:
      blobs.append(data)
      start += len(data)
  fields = {f.name: getattr(record, f.name)
            for f in dataclasses.fields(record) if f.name != 'media'}
  try:
    header = json.dumps({'record': fields, 'media': media}, allow_nan=False,
                        default=dict).encode()
  except (TypeError, ValueError) as error:
    raise ValueError(f'record {record.id!r} cannot be packed, as JSON cannot '
                     f'hold it: {error}') from error
  return b''.join([_LENGTH.pack(len(header)), header, *blobs])


def _embedded(found: types.Media, root: str) -> bytes | None:
  """The file's bytes, or None where it stays a reference."""
  if not found.loader.startswith('medrl.media.') or not (
      found.loader.endswith('.load')):
    return None
  if not (pathlib.Path(root) / found.path).is_file():
    return None   # a folder, or something drawn
  full = files.locate(found.path, root)
  if not 0 < full.stat().st_size <= MAX_EMBEDDED:
    return None
  with open(full, 'rb') as file:
    kind = medium.kind(file.read(medium.HEAD_BYTES), found.path)
  return full.read_bytes() if kind in EMBEDDED else None


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
  length, = _LENGTH.unpack_from(data)
  end = _LENGTH.size + length
  return json.loads(data[_LENGTH.size:end]), data[end:]


def _record(data: bytes, shard: str, number: int) -> types.Record:
  header, _ = _split(data)
  media = []
  for item, entry in enumerate(header['media']):
    _trusted(entry['loader'])
    if entry['bytes'] is None:
      media.append(types.Media(entry['path'], entry['loader'],
                               entry['options']))
    else:
      media.append(types.Media(shard, 'medrl.data.shards.load',
                               {'record': number, 'item': item}))
  return types.Record(**header['record'], media=tuple(media))


def _trusted(loader: str) -> Callable[..., Any]:
  """The function of that name, if it is a reader of this package."""
  if not loader.startswith(_TRUSTED):
    raise ValueError(f'loader {loader!r}; a shard may name readers in '
                     f'{" and ".join(_TRUSTED)} alone, since it is data')
  return lookup.resolve(loader)


def pack(found: Sequence[types.Record], root: str, folder: pathlib.Path,
         per_shard: int) -> Iterator[tuple[str, int, bool]]:
  """Writes shards; goes on where an earlier call stopped.

  A shard is written aside and renamed, so that one which is there is whole.
  The index, written last, has every shard's records, bytes and checksum.

  Args:
    found: records, the same on every call.
    root: their data root.
    folder: to write into.
    per_shard: records in each.

  Yields:
    (name, records, whether it was there already) of each shard.

  Raises:
    ValueError: as `encode`; or the folder holds shards of other records.
  """
  folder.mkdir(parents=True, exist_ok=True)
  parts = [range(i, min(i + per_shard, len(found)))
           for i in range(0, len(found), per_shard)]
  shards = {}
  for number, part in enumerate(parts):
    name = f'{number:05d}-of-{len(parts):05d}.arrayrecord'
    note = folder / f'{name}.json'
    ids = hashlib.sha256(json.dumps([found[i].id for i in part]).encode())
    there = note.is_file() and (folder / name).is_file()
    if there:
      shards[name] = json.loads(note.read_text())
      if shards[name]['ids'] != ids.hexdigest():
        raise ValueError(f'{str(folder / name)!r} holds other records than are '
                         f'packed now; pack into an empty folder')
    else:
      shards[name] = _write([found[i] for i in part], root, folder / name)
      shards[name]['ids'] = ids.hexdigest()
      _replace(note, shards[name])
    yield name, len(part), there
  _replace(folder / INDEX, {'shards': shards})
  for name in shards:
    (folder / f'{name}.json').unlink()


def _write(part: Sequence[types.Record], root: str,
           path: pathlib.Path) -> dict[str, Any]:
  scratch = path.with_suffix('.tmp')
  # A group each, so that a record is read without its neighbours; and images
  # are compressed already.
  writer = array_record_module.ArrayRecordWriter(
      str(scratch), 'group_size:1,uncompressed')
  for record in part:
    writer.write(encode(record, root))
  writer.close()
  os.replace(scratch, path)
  return {'records': len(part), 'bytes': path.stat().st_size,
          'sha256': checksum(path)}


def _replace(path: pathlib.Path, content) -> None:
  scratch = path.with_suffix('.part')
  scratch.write_text(json.dumps(content, indent=1))
  os.replace(scratch, path)
