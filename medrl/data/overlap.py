"""Records of two sets that have a patient, a medium or a question in common.

Four checks: 'subject' (equal patient ids), 'bytes' (equal files, see
`overlap_files`), 'look' (a perceptual hash of every image, see `looks`: other
encodings and sizes, but no flips or crops) and 'text' (see `overlap_text`). A
question is asked of many images, so with media it is an overlap only on media
that match; on its own where there are none. As a command:

  python -m medrl.data.overlap FIRST SECOND --root R [--split2 test] ...

It names records, never patients, and changes neither set.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import json
import logging
import pathlib
import sys

from medrl import types
from medrl.data import looks
from medrl.data import named
from medrl.data import overlap_match

CHECKS = ('subject', 'bytes', 'look', 'text')
ACTIONS = ('refuse', 'warn', 'off')

@dataclasses.dataclass(frozen=True)
class Check:
  """What one check found.

  `first` and `second` are records of either set that match one of the other,
  `pairs` the pairs of those. `unchecked` are records of either set which have
  nothing to compare by: no patient id, a medium that cannot be read, a signal
  or blank image (look), no words (text). `examples` are pairs of record ids.
  """
  name: str
  first: int
  second: int
  pairs: int
  unchecked: tuple[int, int]
  examples: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Report:
  """The checks that were made on sets of `first` and `second` records."""
  first: int
  second: int
  checks: tuple[Check, ...]

  @property
  def overlapping(self) -> bool:
    return any(check.pairs for check in self.checks)


def find(first: Sequence[types.Record], second: Sequence[types.Record],
         root_first: str, root_second: str, *,
         checks: Sequence[str] = CHECKS, distance: int = looks.DISTANCE,
         jaccard: float = 1., examples: int = 10) -> Report:
  """Compares two sets of records.

  Args:
    first: records of one set.
    second: records of the other.
    root_first: data root of the first.
    root_second: data root of the second.
    checks: some of CHECKS. 'look' decodes every medium, the others none. Ids
      of patients mean nothing across sets that number their own: leave
      'subject' out there.
    distance: bits by which perceptual hashes may differ.
    jaccard: share of word trigrams from which texts without media are the same;
      1 for equal texts only.
    examples: pairs of record ids at most, of each check.

  Raises:
    ValueError: an unknown check, or a distance or index out of range.
    ImportError: a package is missing that a medium needs.
  """
  for name in checks:
    if name not in CHECKS:
      raise ValueError(f'check {name!r}; expected some of {", ".join(CHECKS)}')
  media = overlap_match.media(first), overlap_match.media(second)
  places = *media, root_first, root_second
  found = {}
  if 'subject' in checks:
    found['subject'] = overlap_match.by_subject(first, second)
  if 'bytes' in checks:
    found['bytes'] = overlap_match.by_bytes(*places)
  if 'look' in checks:
    found['look'] = overlap_match.by_look(*places, distance)
  if 'text' in checks:
    alike = [found[name][0] for name in ('bytes', 'look') if name in found]
    found['text'] = overlap_match.by_text(
        first, second, sum(alike, []) if alike else None, jaccard)
  return Report(len(first), len(second), tuple(
      _check(name, *found[name], (first, second), examples)
      for name in CHECKS if name in found))


def refuse(report: Report, action: str = 'refuse') -> None:
  """Acts on what was found before a run goes on.

  Args:
    report: of training records against those of an evaluation.
    action: 'refuse' raises, 'warn' logs, 'off' does nothing.

  Raises:
    ValueError: an overlap, with action 'refuse'; or an unknown action.
  """
  if action not in ACTIONS:
    raise ValueError(f'action {action!r}; expected one of {", ".join(ACTIONS)}')
  if action == 'off' or not report.overlapping:
    return
  parts = [f'{c.name}: {c.first} of {report.first} and {c.second} of '
           f'{report.second} records (as {c.examples[0][0]!r} and '
           f'{c.examples[0][1]!r})' if c.examples else
           f'{c.name}: {c.first} of {report.first} and {c.second} of '
           f'{report.second} records' for c in report.checks if c.pairs]
  message = f'the two sets overlap by {"; ".join(parts)}'
  if action == 'warn':
    logging.warning('%s', message)
    return
  raise ValueError(
      f'{message}. Split by patient and medium (medrl.data.splits), leave '
      f'these records out of one set, or go on all the same with action '
      f"'warn'; python -m medrl.data.overlap lists more of them")


def table(report: Report) -> str:
  """The report as text."""
  lines = [f'{report.first:,} records against {report.second:,}',
           f'{"check":<9}{"first":>9}{"second":>9}{"pairs":>11}   not compared']
  for c in report.checks:
    lines.append(f'{c.name:<9}{c.first:>9,}{c.second:>9,}{c.pairs:>11,}   '
                 f'{c.unchecked[0]:,} and {c.unchecked[1]:,}')
  for c in report.checks:
    lines += [f'  {c.name}: {a} = {b}' for a, b in c.examples]
  return '\n'.join(lines)


def _check(name, groups, unchecked, sides, examples) -> Check:
  rows = [{row for group in groups for row in group[side]} for side in (0, 1)]
  shown = sorted({(a[0], b[0]) for a, b in groups})[:examples]
  return Check(name, *map(len, rows), overlap_match.pairs(groups), unchecked,
               tuple((sides[0][i].id, sides[1][j].id) for i, j in shown))


def main(arguments: Sequence[str] | None = None) -> int:
  """The command; 0 where nothing overlaps, 1 where something does."""
  parser = argparse.ArgumentParser(
      prog='python -m medrl.data.overlap', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add = parser.add_argument
  add('first', help='records function, as in medrl.data.jsonl.records')
  add('second', help='the other one')
  add('--root', required=True, help='data root')
  add('--root2', help='data root of the second; that of the first')
  add('--split', default='train')
  add('--split2', default='test')
  add('--options', type=json.loads, default={}, help='of the function, as JSON')
  add('--options2', type=json.loads, help='of the second; those of the first '
      'where it is the same function')
  add('--checks', nargs='+', choices=CHECKS, default=CHECKS)
  add('--distance', type=int, default=looks.DISTANCE)
  add('--jaccard', type=float, default=1.)
  add('--examples', type=int, default=10)
  add('--report', help='file to write the report to, as JSON')
  args = parser.parse_args(arguments)
  if args.options2 is None:
    args.options2 = args.options if args.first == args.second else {}
  root2 = args.root if args.root2 is None else args.root2
  try:
    report = find(
        named.records(args.first, args.root, args.split, args.options),
        named.records(args.second, root2, args.split2, args.options2),
        args.root, root2, checks=args.checks, distance=args.distance,
        jaccard=args.jaccard, examples=args.examples)
  except (ImportError, OSError, ValueError) as error:
    parser.error(str(error))   # ends with 2, which is no overlap
  if args.report:
    pathlib.Path(args.report).write_text(
        json.dumps(dataclasses.asdict(report), indent=2) + '\n')
  print(table(report))
  print('they OVERLAP' if report.overlapping else 'no overlap was found')
  return int(report.overlapping)


if __name__ == '__main__':
  sys.exit(main())
