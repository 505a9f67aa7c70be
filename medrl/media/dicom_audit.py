"""What a folder of DICOM files holds, and what the readers would drop of it.

  python -m medrl.media.dicom_audit FOLDER [--root R] [--decode] [--files]

It prints counts and names of tags, never a value that could name somebody: of
values only modality, transfer syntax and photometric interpretation. It
changes no file and removes nothing; the readers drop what is not allowed
whenever they read.
"""

import argparse
import collections
from collections.abc import Iterator
import dataclasses
import io
import os
import pathlib
import sys
from typing import Any

import pydicom
import pydicom.datadict

from medrl.media import dicom_header
from medrl.media import dicom_pixels
from medrl.media import dicom_tags
from medrl.media import files


@dataclasses.dataclass
class Audit:
  """Counts of files: by what they are, by tags, and by why they fail.

  `allowed` and `dropped` count files that have a tag at least once, by
  keyword; a tag within a dropped sequence is dropped. `private` counts such
  elements, and `private_files` files with any. `broken` maps a reason to the
  files.
  """
  files: int = 0
  other: int = 0
  kinds: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  allowed: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  dropped: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  private: int = 0
  private_files: int = 0
  text: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  broken: dict[str, list[str]] = dataclasses.field(
      default_factory=lambda: collections.defaultdict(list))


def audit(folder: str, root: str, decode: bool = False) -> Audit:
  """Looks at every file below a folder.

  Args:
    folder: relative to `root`, or absolute and below it.
    root: what links lead out of is not read.
    decode: whether pixels are decoded too, which takes its time.

  Raises:
    ValueError: the folder is outside `root`.
    FileNotFoundError: there is no such folder.
  """
  base, found = files.locate_folder(folder, root), Audit()
  for name in _walk(base):
    try:
      data = files.read(name, root)
    except (OSError, ValueError) as error:
      found.broken[_reason(error)].append(name)
      continue
    if not dicom_tags.recognised(data[:256]):
      found.other += 1
      continue
    found.files += 1
    try:
      _count_tags(data, found)
      _count_kind(data, found, decode)
    except Exception as error:  # as in `files.decoded`
      found.broken[_reason(error)].append(name)
  return found


def report(found: Audit, names: bool = False) -> str:
  """The text that the command prints.

  Args:
    found: what `audit` gave.
    names: whether files that fail are named; names may tell who.
  """
  lines = [f'{found.files} DICOM files, {found.other} others']
  lines += _table('modality | transfer syntax | photometric', found.kinds)
  lines += _table('tags that are read', found.allowed)
  lines += _table('tags that are dropped', found.dropped)
  lines += [f'private tags: {found.private} in {found.private_files} files, '
            f'all dropped']
  lines += _table('text in the pixels', found.text)
  lines += _table('cannot be read as images', collections.Counter(
      {reason: len(which) for reason, which in found.broken.items()}))
  if names:
    lines += [f'  {name}' for which in found.broken.values() for name in which]
  return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> int:
  """Prints the report of a folder; 1 if a file cannot be read, else 0."""
  parser = argparse.ArgumentParser(
      prog='python -m medrl.media.dicom_audit', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('folder')
  parser.add_argument('--root', help='data root; the folder by default')
  parser.add_argument('--decode', action='store_true',
                      help='decode pixels too')
  parser.add_argument('--files', action='store_true',
                      help='name the files that fail; names may tell who')
  given = parser.parse_args(arguments)
  root = given.root or given.folder
  try:
    found = audit(given.folder if given.root else '.', root, given.decode)
  except (OSError, ValueError) as error:
    print(error, file=sys.stderr)
    return 2
  print(report(found, given.files))
  return 1 if found.broken else 0


def _walk(base: pathlib.Path) -> Iterator[str]:
  for folder, below, names in os.walk(base):
    below.sort()
    yield from (os.path.join(folder, name) for name in sorted(names))


def _reason(error: Exception) -> str:
  """Only of our own errors the text: that of others may quote a value."""
  if isinstance(error, files.OutsideRoot):
    return 'it is a link that leads out of the root'
  if type(error) is ValueError:
    return str(error)
  return f'it is damaged, which ended in {type(error).__name__}'


def _count_tags(data: bytes, found: Audit) -> None:
  try:
    # All tags, unlike anywhere else; only their numbers are looked at.
    whole = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True,
                            force=True)
    allowed, dropped, private = set(), set(), [0]
    _sort(whole.file_meta, True, allowed, dropped, private)
    _sort(whole, True, allowed, dropped, private)
  except Exception as error:
    raise ValueError(f'its header is damaged, which ended in '
                     f'{type(error).__name__}') from None
  found.allowed.update(allowed)
  found.dropped.update(dropped)
  found.private += private[0]
  found.private_files += bool(private[0])


def _sort(tags: Any, kept: bool, allowed: set[str], dropped: set[str],
          private: list[int]) -> None:
  """Adds keywords of a dataset, and of what its sequences hold, to sets."""
  for tag in list(tags.keys()):
    if tag.is_private:
      private[0] += 1
      continue
    keyword = pydicom.datadict.keyword_for_tag(tag) or (
        f'(unknown, of group {tag.group:04x})')
    read = kept and keyword in dicom_tags.ALLOWED
    (allowed if read else dropped).add(keyword)
    vr = tags.get_item(tag).VR
    if vr in (None, 'UN') and pydicom.datadict.dictionary_has_tag(tag):
      vr = pydicom.datadict.dictionary_VR(tag)
    if vr == 'SQ':
      for item in tags[tag].value or ():
        _sort(item, read, allowed, dropped, private)


def _count_kind(data: bytes, found: Audit, decode: bool) -> None:
  tags = dicom_tags.parsed(io.BytesIO(data), pixels=decode)
  modality = next(iter(dicom_tags.words(tags, 'Modality')), 'no modality')
  syntax = dicom_tags.named(tags)
  if not dicom_tags.numbers(tags, 'Rows'):
    found.kinds[f'{modality} | {syntax} | no image'] += 1
    return
  header = dicom_header.header(tags)
  found.kinds[f'{modality} | {syntax} | {header.photometric}'] += 1
  said = {True: 'yes, it says', False: 'no, it says'}.get(header.burnt_in)
  found.text[said or (f'not said, but suspected: {header.suspicion}'
                      if header.suspicion else 'not said')] += 1
  if decode:
    dicom_pixels.decoded(tags, header, range(len(header.frames)))


def _table(title: str, counts: collections.Counter) -> list[str]:
  ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  return [f'{title}:'] + ([f'  {n:6d}  {what}' for what, n in ranked]
                          or ['  none'])


if __name__ == '__main__':
  sys.exit(main())
