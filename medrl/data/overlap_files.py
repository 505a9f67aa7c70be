"""Which media of two sets are made of the same files, byte for byte.

Only files whose size occurs in both sets are read. Copies that were encoded
anew are found by `looks`, not here, and so is an image that is a file in one
set and a row of an archive in the other.
"""

import collections
from collections.abc import Mapping
import dataclasses
import hashlib
import json
import pathlib

from medrl import types
from medrl.media import files

Media = Mapping[str, types.Media]     # by `reference`
Group = tuple[list[str], list[str]]   # references of either set that match

_DEFAULT = types.Media('').loader
_BLOCK = 1 << 20


def reference(media: types.Media) -> str:
  """What a medium is called here: its loader, path and options as text."""
  return f'{media.loader} {media.path} {_options(media)}'


def _options(media: types.Media) -> str:
  return json.dumps(dict(media.options), sort_keys=True, default=str)


def paths(media: types.Media, root: str) -> list[pathlib.Path]:
  """The files that hold a medium; none where its loader makes it up.

  Of a folder those that are at least a quarter of the largest, since small
  ones (indices, metadata) are alike in folders that have nothing in common; of
  a WFDB header also the signals that it names.

  Raises:
    ValueError: one of them leads out of the root, or they are empty.
    FileNotFoundError: there is no such file, and the loader is the default.
  """
  base = pathlib.Path(root) / media.path
  if base.is_dir():
    folder = files.locate_folder(media.path, root)
    found = sorted(p for p in folder.rglob('*') if p.is_file())
  else:
    try:
      full = files.locate(media.path, root)
    except FileNotFoundError:
      if media.loader != _DEFAULT:
        return []
      raise
    found = [full, *_signals(full)] if full.suffix == '.hea' else [full]
  for path in found:
    if not files.within(path, root):
      raise ValueError(f'{str(path)!r} leads out of the data root')
  sizes = [path.stat().st_size for path in found]
  if not any(sizes):
    raise ValueError(f'{str(base)!r} holds no byte')
  return [p for p, size in zip(found, sizes) if size * 4 >= max(sizes)]


def shared(first: Media, second: Media, root_first: str, root_second: str
           ) -> tuple[list[Group], set[str], set[str]]:
  """Groups of media that share a file.

  Any slice or chunk that two folders share is enough, unless it is one value
  throughout, as blank chunks are. Options of an archive, or of a loader other
  than the default, may take one patient's image of many out of a file, so these
  must be equal too; a medium that its loader makes up is the same if all of it
  is.

  Returns:
    the groups, and the media of either set that could not be compared.
  """
  sides = [_Side(first, root_first), _Side(second, root_second)]
  unread = tuple(side.collect() for side in sides)
  common = set(sides[0].sizes.values()) & set(sides[1].sizes.values())
  keys = [side.keys(common) for side in sides]
  groups = [(sorted(keys[0][key]), sorted(keys[1][key]))
            for key in sorted(keys[0].keys() & keys[1].keys())]
  return groups, *unread


def copies(media: Media, root: str) -> list[list[pathlib.Path]]:
  """Files of several media of one set that are equal but for their names."""
  side = _Side(media, root)
  side.collect()
  counts = collections.Counter(side.sizes.values())
  found = {}
  for path, size in sorted(side.sizes.items()):
    value, blank = digest(path) if counts[size] > 1 else ('', True)
    if not blank:
      found.setdefault(value, []).append(path)
  # A clip may repeat a frame; that is no copy.
  owner = {p: name for name, parts in side.parts.items() for p in parts}
  return [paths for paths in found.values()
          if len({owner[path] for path in paths}) > 1]


@dataclasses.dataclass
class _Side:
  """One set's media and what is known of their files."""
  media: Media
  root: str
  parts: dict[str, list[pathlib.Path]] = dataclasses.field(
      default_factory=dict)
  sizes: dict[pathlib.Path, int] = dataclasses.field(default_factory=dict)

  def collect(self) -> set[str]:
    """Looks files up; returns the media without any that can be read."""
    unread = set()
    for name, media in self.media.items():
      try:
        self.parts[name] = paths(media, self.root)
        self.sizes |= {p: p.stat().st_size for p in self.parts[name]}
      except (OSError, ValueError):
        unread.add(name)
    return unread

  def keys(self, sizes: set[int]) -> dict[str, set[str]]:
    """What is compared -> the media that have it."""
    digests = {path: digest(path) for path, size in self.sizes.items()
               if size in sizes}
    found = {}
    for name, parts in self.parts.items():
      media = self.media[name]
      one = media.loader == _DEFAULT and not media.path.endswith('.npz')
      chosen = '' if one or not media.options else _options(media)
      for path in parts:
        value, blank = digests.get(path, ('', True))
        if value and not (blank and len(parts) > 1):
          found.setdefault(f'{value} {chosen}', set()).add(name)
      if not parts:
        found.setdefault(name, set()).add(name)
    return found


def digest(path: pathlib.Path) -> tuple[str, bool]:
  """(SHA-256 of a file, whether one value of 1 to 16 bytes repeats in it)."""
  sum_, blank, first = hashlib.sha256(), True, None
  with path.open('rb') as handle:
    while block := handle.read(_BLOCK):
      sum_.update(block)
      first = block[:16] if first is None else first
      blank = blank and block == (first * (len(block) // 16 + 1))[:len(block)]
  return sum_.hexdigest(), blank


def _signals(header: pathlib.Path) -> list[pathlib.Path]:
  """Signal files that a WFDB header names, which lie beside it.

  Its lines are, comments aside, one of the record and one a signal, each of
  which begins with the name of a file.
  """
  lines = [line for line in header.read_text(errors='replace').splitlines()
           if line.strip() and not line.startswith('#')]
  names = {line.split()[0] for line in lines[1:]}
  return [header.parent / name for name in sorted(names)
          if (header.parent / name).is_file()]
