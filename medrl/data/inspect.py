"""What a data set holds, in figures and on a page to look at.

  python -m medrl.data.inspect DATASET --root R [--options '{...}'] [--out DIR]

DATASET names a records function, as medrl.data.jsonl.records. It ends with 1
where two splits share a patient, a file or an item. It prints counts and record
ids, never a patient, study, institution or date, and it mends nothing.
"""

import argparse
import collections
from collections.abc import Callable, Mapping, Sequence
import itertools
import json
import pathlib
import re
import statistics
import sys
from typing import Any

import numpy as np

from medrl import lookup
from medrl import types
from medrl.data import contact_sheet
from medrl.data import named
from medrl.data import overlap
from medrl.data import overlap_files
from medrl.data import overlap_match
from medrl.data import overlap_text
from medrl.data import sampling
from medrl.data import splits as splits_lib

Parts = Mapping[str, Sequence[types.Record]]   # split -> its records

SHEET = 'contact_sheet.html'
_TOP = 5       # commonest answers, and examples of what is wrong
_BINS = 12
_BAR = 40      # characters of the longest bar
_LONGEST = 40  # characters of an answer
_REASON = 120  # characters of an error
# Values of these are a person's own words or dates and are not printed.
_UNSHOWN = ('text', 'date')
_NUMBERS = ('int', 'float', 'interval', 'quantity')


def counts(parts: Parts) -> list[str]:
  """Records, patients and what else is known of each split."""
  lines = [f'{"split":<12}{"records":>9}{"patients":>10}{"ids twice":>11}'
           f'{"no subject":>12}{"no study":>10}{"no site":>9}{"no date":>9}']
  for split, records in parts.items():
    empty = [sum(not vars(r)[name] for r in records)
             for name in ('subject', 'study', 'site', 'date')]
    people = len({r.subject for r in records if r.subject})
    again = len(records) - len({r.id for r in records})
    lines.append(f'{split:<12}{len(records):>9,}{people:>10,}{again:>11,}'
                 f'{empty[0]:>12,}{empty[1]:>10,}{empty[2]:>9,}{empty[3]:>9,}')
  return lines


def shared(parts: Parts, root: str) -> tuple[list[str], bool]:
  """What each two splits have in common, and whether that is anything."""
  lines = [f'{"records of the second that share a":<36}{"patient":>9}'
           f'{"file":>9}{"item":>9}']
  any_ = False
  for (a, first), (b, second) in itertools.combinations(parts.items(), 2):
    report = overlap.find(first, second, root, root, examples=_TOP,
                          checks=('subject', 'bytes', 'text'))
    lines.append(f'  {f"{a} and {b}":<34}' + ''.join(
        f'{check.second:>9,}' for check in report.checks))
    lines += [f'    {c.name}: {x} = {y}' for c in report.checks
              for x, y in c.examples]
    any_ |= report.overlapping
  return lines if len(parts) > 1 else [], any_


def answers(records: Sequence[types.Record]) -> list[str]:
  """Tasks and their answers, the commonest values or the range of each."""
  groups = collections.defaultdict(list)
  for record in records:
    groups[record.task, record.answer_type].append(record)
  lines = []
  for (task, kind), group in sorted(groups.items()):
    hidden = sum(r.answer is None for r in group)
    lines.append(f'{task or "(no task)"}, {kind}: {len(group):,}' + (
        f', {hidden:,} hidden' if hidden else ''))
    lines += [f'    {line}' for line in _mix(kind, [
        r for r in group if r.answer is not None])]
  return lines


def _mix(kind: str, records: Sequence[types.Record]) -> list[str]:
  if not records:
    return []
  values = collections.Counter(sampling.labels(records, 'answer'))
  top = values.most_common(_TOP)
  if kind in _NUMBERS and len(values) > _TOP:
    numbers = [r.answer for r in records if r.answer != types.UNANSWERABLE]
    return [f'{_spread(numbers)}, {len(values):,} different']
  # Where hardly any value comes twice, examples say nothing of the mix.
  if kind in _UNSHOWN or len(values) > _TOP and top[0][1] == 1:
    return [f'{len(values):,} different']
  lines = [f'{n:>8,}  {n / len(records):>6.1%}  {_short(v)}' for v, n in top]
  rest = len(records) - sum(n for _, n in top)
  if rest:
    lines.append(f'{rest:>8,}  {rest / len(records):>6.1%}  '
                 f'{len(values) - _TOP:,} others')
  return lines


def _short(label: str) -> str:
  value = json.loads(label)
  text = value if isinstance(value, str) else label
  return text if len(text) <= _LONGEST else text[:_LONGEST - 1] + '\u2026'


def _spread(values: Sequence[float]) -> str:
  """Least, median and largest."""
  return (f'{min(values):,.6g} to {max(values):,.6g}, median '
          f'{statistics.median(values):,.6g}')


def media(records: Sequence[types.Record], root: str
          ) -> tuple[list[str], dict[str, list[str]]]:
  """Opens every medium: kinds and sizes, and reason -> ids of broken records.

  An error of a missing package is a reason too, as all else can be looked at.
  """
  kinds = collections.defaultdict(lambda: collections.defaultdict(list))
  broken = collections.defaultdict(list)
  for record in records:
    for one in record.media:
      try:
        value = lookup.resolve(one.loader)(one.path, root, **one.options)
        kind, sizes = _sizes(value)
      # Any damage is to be counted, whatever the loader makes of it.
      except Exception as error:
        broken[_reason(error)].append(record.id)
        continue
      for name, size in sizes.items():
        kinds[kind][name].append(size)
  lines = []
  for kind, sizes in sorted(kinds.items()):
    lines.append(f'{kind}: {len(next(iter(sizes.values()))):,}')
    lines += [f'    {name:<10} {_spread(values)}'
              for name, values in sizes.items()]
  bare = sum(not r.media for r in records)
  return lines + ([f'records without media: {bare:,}'] if bare else []), broken


def _sizes(value: Any) -> tuple[str, dict[str, float]]:
  """Kind of a loaded medium, and its sizes by name."""
  if isinstance(value, types.Clip):
    n, height, width = value.frames.shape[:3]
    return 'clips', {'height': height, 'width': width, 'frames': n,
                     'seconds': float(value.times[-1] - value.times[0])}
  if isinstance(value, types.Signal):
    leads, samples = value.values.shape
    return 'signals', {'leads': leads, 'rate': value.rate,
                       'seconds': samples / value.rate}
  if isinstance(value, tuple):
    return 'sets of images', {'height': value[0].shape[0],
                              'width': value[0].shape[1], 'images': len(value)}
  return 'images', {'height': value.shape[0], 'width': value.shape[1]}


def _reason(error: Exception) -> str:
  """The kind of fault: an error's text without the names of files in it."""
  line = str(error).partition('\n')[0]
  text = re.sub(r"'[^']*'|\"[^\"]*\"", "'\u2026'", line)
  return f'{type(error).__name__}: {text[:_REASON]}'


def lengths(records: Sequence[types.Record], cut: Callable[[str], list],
            unit: str) -> list[str]:
  """A histogram of the lengths of questions with their options."""
  sizes = np.array([len(cut('\n'.join([r.question, *(
      f'{k}. {v}' for k, v in r.options.items())]))) for r in records])
  low = int(sizes.min())
  width = -(-(int(sizes.max()) - low + 1) // _BINS)
  bins = np.bincount((sizes - low) // width)
  lines = [f'{unit}: {_spread(sizes.tolist())}, 95 % up to '
           f'{int(np.percentile(sizes, 95, method="higher")):,}']
  for start, n in zip(range(low, low + len(bins) * width, width), bins):
    bar = '#' * round(n / bins.max() * _BAR)
    end = start + width - 1
    lines.append(f'{start:>9,} - {end:<9,}{n:>9,}  {bar}'.rstrip())
  return lines


def duplicates(records: Sequence[types.Record], root: str) -> list[str]:
  """Items asked twice, and files that are there under several names."""
  texts = overlap_text.normalised(records)
  items = collections.defaultdict(list)
  for record, text in zip(records, texts):
    seen = sorted(map(overlap_files.reference, record.media))
    items[text, *seen].append(record.id)
  again = [ids for ids in items.values() if len(ids) > 1]
  held = {name: one for name, (one, _) in overlap_match.media(records).items()}
  copies = overlap_files.copies(held, root)
  lines = [f'the same question of the same media: '
           f'{sum(map(len, again)) - len(again):,} records more than items',
           f'files with the same bytes under another name: '
           f'{sum(map(len, copies)) - len(copies):,}']
  lines += ['  ' + ' = '.join(ids[:_TOP]) for ids in again[:_TOP]]
  lines += ['  ' + ' = '.join('/'.join(p.parts[-2:]) for p in paths[:_TOP])
            for paths in copies[:_TOP]]
  return lines


def sample(parts: Parts, count: int) -> list[tuple[str, types.Record]]:
  """Up to `count` records, the tasks taking turns; the same ones every time."""
  pairs = [(split, r) for split, records in parts.items() for r in records]
  order = sampling.balanced([r for _, r in pairs], 'task', seed=0)
  return [pairs[i] for i in list(dict.fromkeys(order.tolist()))[:count]]


def read(dataset: str, root: str, splits: Sequence[str],
         options: Mapping[str, Any]) -> tuple[Parts, list[str]]:
  """Records of each split that there is, and why the others are not.

  Raises:
    ValueError: there is none.
    FileNotFoundError: the data are missing.
  """
  parts, absent = {}, []
  for split in splits:
    try:
      parts[split] = named.records(dataset, root, split, options)
    except ValueError as error:
      absent.append(f'{split}: {error}')
  if not parts:
    raise ValueError('; '.join(absent))
  return parts, absent


def describe(parts: Parts, root: str, limit: int,
             cut: Callable[[str], list], unit: str) -> tuple[str, bool]:
  """All figures as text, and whether splits have anything in common."""
  records = [r for part in parts.values() for r in part]
  opened = [part[i] for part in parts.values() for i in sampling.stratified(
      part, 'task', min(limit or len(part), len(part)), seed=0)]
  common, any_ = shared(parts, root)
  sizes, broken = media(opened, root)
  faults = [f'{len(ids):>8,}  {reason}; {", ".join(ids[:_TOP])}'
            for reason, ids in sorted(broken.items())]
  sections = {
      'Splits': counts(parts), 'Between splits': common,
      'Tasks and answers': answers(records),
      f'Media of {len(opened):,} records': sizes,
      'Media that cannot be read': faults or ['none'],
      'Length of questions with options': lengths(records, cut, unit),
      'Duplicates within all splits': duplicates(records, root)}
  return '\n\n'.join('\n'.join([title, *(f'  {line}' for line in lines)])
                     for title, lines in sections.items() if lines), any_


def main(arguments: Sequence[str] | None = None) -> int:
  """The command; 1 where splits have something in common, else 0."""
  parser = argparse.ArgumentParser(
      prog='python -m medrl.data.inspect', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add = parser.add_argument
  add('dataset', help='records function, as medrl.data.jsonl.records')
  add('--root', required=True, help='data root')
  add('--options', type=json.loads, default={}, help='of the function, as JSON')
  add('--split', nargs='+', default=splits_lib.SPLITS)
  add('--tokenizer', help='checkpoint folder; without one words are counted')
  add('--out', default='.', help=f'folder of {SHEET}')
  add('--limit', type=int, default=48, help='records on the page; 0 for none')
  add('--opened', type=int, default=1000, help='records of each split whose '
      'media are opened; 0 for all')
  args = parser.parse_args(arguments)
  cut, unit = str.split, 'words (no --tokenizer given)'
  try:
    if args.tokenizer:
      # Loads transformers, which takes seconds.
      from medrl.processors import text
      cut, unit = text.load(args.tokenizer).encode, 'tokens'
    parts, absent = read(args.dataset, args.root, args.split, args.options)
  except (OSError, ValueError) as error:
    parser.error(str(error))
  said, any_ = describe(parts, args.root, args.opened, cut, unit)
  print('\n'.join([*(f'no split {line}' for line in absent), said]))
  if args.limit:
    chosen = sample(parts, args.limit)
    folder = pathlib.Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(map(len, parts.values()))
    failed = contact_sheet.write(
        folder / SHEET, chosen, args.root, title=args.dataset,
        note=f'{len(chosen):,} of {total:,} records, tasks taking turns')
    print(f'\n{folder / SHEET}: {len(chosen):,} records, {failed:,} of them '
          f'with media that cannot be shown. It holds patients\' pictures and '
          f'only you can read it.')
  return int(any_)


if __name__ == '__main__':
  sys.exit(main())
