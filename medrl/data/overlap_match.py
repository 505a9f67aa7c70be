"""What rows of two lists of records match, by patient, medium, look and text.

The parts of `overlap`: each gives groups of rows of either list, and how many
records had nothing to be compared by. It decides on nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
import collections
import logging
import pathlib

import numpy as np

from medrl import lookup
from medrl import types
from medrl.data import looks
from medrl.data import overlap_files
from medrl.data import overlap_text
from medrl.media import medium as medium_lib

Rows = tuple[list[int], list[int]]   # of either list; all of them match
# Reference -> (the medium, rows of the records that have it).
Media = Mapping[str, tuple[types.Media, list[int]]]
Found = tuple[list[Rows], tuple[int, int]]   # groups, records not compared

_FRAMES = 8   # of a clip that are compared


def media(records: Sequence[types.Record]) -> Media:
  """All media of a list of records, each once."""
  found = {}
  for row, record in enumerate(records):
    for medium in record.media:
      found.setdefault(overlap_files.reference(medium), (medium, []))[1].append(
          row)
  return found


def by_subject(first: Sequence[types.Record],
               second: Sequence[types.Record]) -> Found:
  """Records of equal, known patients."""
  groups = _equal([r.subject for r in first], [r.subject for r in second])
  return groups, (sum(not r.subject for r in first),
                  sum(not r.subject for r in second))


def by_bytes(first: Media, second: Media, root_first: str,
             root_second: str) -> Found:
  """Records with media of the same files, see `overlap_files.shared`."""
  groups, *unread = overlap_files.shared(
      {name: medium for name, (medium, _) in first.items()},
      {name: medium for name, (medium, _) in second.items()},
      root_first, root_second)
  return _rows(groups, unread, (first, second))


def by_look(first: Media, second: Media, root_first: str, root_second: str,
            distance: int) -> Found:
  """Records with media of which an image looks alike, see `looks.alike`.

  Of a clip eight frames are compared, of all else every image.
  """
  sides, unread = [], []
  for part, root in (first, root_first), (second, root_second):
    seen, without, failed = [], set(), collections.Counter()
    for name, (medium, _) in part.items():
      images = _looks(medium, root, failed)
      seen += [(name, look) for look in images]
      without |= {name} if not images else set()
    if failed:
      logging.warning('media that could not be read and are not compared by '
                      'look: %s', dict(failed))
    sides.append(seen)
    unread.append(without)
  pairs = looks.alike(*([look for _, look in seen] for seen in sides), distance)
  names = sorted({(sides[0][i][0], sides[1][j][0]) for i, j in pairs})
  return _rows([([a], [b]) for a, b in names], unread, (first, second))


def by_text(first: Sequence[types.Record], second: Sequence[types.Record],
            alike: Sequence[Rows] | None, jaccard: float) -> Found:
  """Records of the same question; with media, of media that match too.

  Args:
    first: one list.
    second: the other.
    alike: groups of records whose media match; None if that is not known.
    jaccard: see `overlap_text.near`; only for records without media.
  """
  sides = first, second
  texts = [overlap_text.normalised(records) for records in sides]
  plain = [[text * (not r.media) for text, r in zip(*pair)]
           for pair in zip(texts, sides)]
  groups = _equal(*plain)
  if jaccard != 1:
    kept = [[row for row, text in enumerate(part) if text] for part in plain]
    near = overlap_text.near(*([part[row] for row in rows]
                               for part, rows in zip(plain, kept)), jaccard)
    groups += [([kept[0][i]], [kept[1][j]]) for i, j in near]
  for rows in alike or ():
    shown = [[texts[side][row] for row in rows[side]] for side in (0, 1)]
    groups += [([rows[0][i] for i in a], [rows[1][j] for j in b])
               for a, b in _equal(*shown)]
  return groups, tuple(
      sum(not text or bool(r.media) and alike is None
          for text, r in zip(*pair)) for pair in zip(texts, sides))


def pairs(groups: Sequence[Rows]) -> int:
  """Different pairs of rows, however many groups they share.

  Rows that are in the same groups are counted together, since a patient or an
  image may have thousands of questions.
  """
  kinds = []
  for side in (0, 1):
    member = collections.defaultdict(list)
    for number, group in enumerate(groups):
      for row in group[side]:
        member[row].append(number)
    kinds.append(collections.Counter(map(tuple, member.values())))
  having = collections.defaultdict(set)
  for kind in kinds[1]:
    for number in kind:
      having[number].add(kind)
  return sum(
      count * sum(kinds[1][other]
                  for other in set().union(*(having[n] for n in kind)))
      for kind, count in kinds[0].items())


def _rows(groups, unread, sides: tuple[Media, Media]) -> Found:
  """Groups of media, and those not compared, as rows of records."""
  def owners(names, part):
    return sorted({row for name in names for row in part[name][1]})
  return ([tuple(map(owners, group, sides)) for group in groups],
          tuple(len(owners(names, part)) for names, part in zip(unread, sides)))


def _equal(first: Iterable[str], second: Iterable[str]) -> list[Rows]:
  """Rows of equal values, '' aside."""
  found = collections.defaultdict(lambda: ([], []))
  for side, values in enumerate((first, second)):
    for row, value in enumerate(values):
      if value:
        found[value][side].append(row)
  return [rows for rows in found.values() if all(rows)]


def _looks(medium: types.Media, root: str, failed: collections.Counter
           ) -> list[tuple[int, np.ndarray]]:
  """Looks of a medium's images; none where it is made up or has no image."""
  try:
    held = overlap_files.paths(medium, root)
    if not held or any(map(_is_signal, held)):
      return []
    value = lookup.resolve(medium.loader)(medium.path, root, **medium.options)
  except ImportError:
    raise   # what is missing is missing for all
  # A loader may be anyone's, and so may raise anything.
  except Exception as error:
    failed[type(error).__name__] += 1
    return []
  if isinstance(value, types.Clip):
    count = len(value.frames)
    chosen = np.linspace(0, count - 1, min(count, _FRAMES)).round().astype(int)
    value = tuple(value.frames[i] for i in chosen)
  return [look for look in map(looks.look, medium_lib.stills(value)) if look]


def _is_signal(path: pathlib.Path) -> bool:
  """Whether a file holds samples; drawn on paper, all of them look alike."""
  if path.name.lower().endswith(medium_lib.SUFFIXES['ecg']):
    return True
  with path.open('rb') as stream:
    return medium_lib.WAVEFORM in stream.read(medium_lib.HEAD_BYTES)
