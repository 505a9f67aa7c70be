"""Files of rows to the records of a split; what all readers of sets share.

Rows come from a reader, records from a field map. A row that makes none is an
error, or left out and counted by reason: no value of a row is ever logged.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import collections
import inspect
import logging
import pathlib
from typing import Any

from medrl import lookup
from medrl import types
from medrl.data import cells
from medrl.data import encodings
from medrl.data import fields as fields_lib
from medrl.data import missing
from medrl.data import splits

Build = Callable[[cells.Row, fields_lib.Fields], Iterable[types.Record]]
_BY = {'chance': splits.assign, 'date': splits.by_date, 'site': splits.by_site}
_NAMES = {'training': 'train', 'valid': 'validation', 'val': 'validation',
          'dev': 'validation', 'testing': 'test'}


def records(rows: Callable[[str], Iterator[cells.Row]], root: str, split: str,
            *, file: Any, spec: fields_lib.Fields, build: Build | None = None,
            parts: Mapping[str, Any] | None = None, limit: int = 0,
            on_bad: str = 'error', home: Any = None) -> Iterator[types.Record]:
  """Records of one split.

  The split is the published one where `file` names files by split or the map
  names a column of it (dev, val and valid are 'validation'). Else it is drawn
  over all rows, before `limit`, so that no limit moves a patient.

  Args:
    rows: the rows of a file below the root.
    root, split: data root; 'train', 'validation' or 'test'.
    file: path, a list of paths, or {split: these}; a path may be a pattern
      ('data/test-*.parquet').
    spec: the field map.
    build: the records of a row; by default the one that the map says.
    parts: how a split is drawn, where none is published: `by` 'chance' (the
      default, with `validation` .1, `test` .1 and `seed` 0), 'date' or 'site',
      and what these take; see `splits`.
    limit: records at most; 0 for all.
    on_bad: 'error' raises on the first row that makes no record; 'skip' leaves
      it out and logs the number of such rows by reason.
    home: a `missing.Home`, or its fields: where to get files that are missing.

  Yields:
    Records, in the files' order.

  Raises:
    FileNotFoundError: a file is missing; the message says where to get it.
    ValueError: an option is wrong, a row makes no record, or none does.
  """
  _check_words(split, on_bad)
  names, published = paths(root, split, file, missing.home(home))
  published = published or bool(spec.split)
  if not spec.verified:
    logging.warning('%s: this layout is known from a description only; look at '
                    'its records before you rely on them', names[0])
  bad, ids, found = collections.Counter(), set(), []
  for row in (piece for name in names for row in rows(name)
              for piece in _pieces(row, spec.each)):
    try:
      found += _wanted(row, split, spec, build or _record, ids)
    except encodings.Unusable as error:
      if on_bad == 'error':
        raise ValueError(f'{row.file}:{row.number}: {error}') from None
      bad[error.reason] += 1
    if published and limit and len(found) >= limit:
      break
  _report(names, found, bad)
  if not published:
    found = _drawn(found, split, dict(parts or {}))
  yield from found[:limit or None]


def paths(root: str, split: str, file: Any,
          home: missing.Home | None) -> tuple[list[str], bool]:
  """Paths below the root, and whether they are those of the split alone."""
  published = hasattr(file, 'keys')
  if published:
    file = fields_lib.plain(file)
    if split not in file:
      raise ValueError(f'file has no split {split!r}; it has {sorted(file)}')
    file = file[split]
  found = []
  for name in [file] if isinstance(file, str) else list(file):
    base = pathlib.Path(root)
    if (base / name.split('!')[0]).is_file():
      found.append(name)
      continue
    matches = sorted(base.glob(name)) if set('*?[') & set(name) else []
    if not matches:
      missing.missing(home, name, root)
    found += [match.relative_to(base).as_posix() for match in matches]
  return found, published


def _check_words(split: str, on_bad: str) -> None:
  if on_bad not in ('error', 'skip'):
    raise ValueError(f"on_bad {on_bad!r}; expected 'error' or 'skip'")
  if split not in splits.SPLITS:
    raise ValueError(f'split {split!r}; expected one of '
                     f'{", ".join(splits.SPLITS)}')


def _wanted(row: cells.Row, split: str, spec: fields_lib.Fields, build: Build,
            ids: set[str]) -> list[types.Record]:
  """The records of a row, if it belongs to the split and `keep` keeps it."""
  if isinstance(row.values, encodings.Unusable):
    raise row.values
  kept = all(cells.string(cells.value(row.values, column)) in
             [cells.string(v) for v in _listed(wanted)]
             for column, wanted in dict(spec.keep).items())
  if not kept or spec.split and _published(row, spec) != split:
    return []
  found = list(build(row, spec))
  for record in found:
    if record.id in ids:
      raise encodings.Unusable('id used before', record.id)
    ids.add(record.id)
  return found


def _pieces(row: cells.Row, column: str) -> Iterator[cells.Row]:
  if isinstance(row.values, encodings.Unusable):
    yield row
    return
  try:
    yield from cells.pieces(row, column)
  except encodings.Unusable as error:
    yield row._replace(values=error)


def _listed(wanted: Any) -> list[Any]:
  return list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]


def _record(row: cells.Row, spec: fields_lib.Fields) -> list[types.Record]:
  return [fields_lib.record(row, spec)]


def _published(row: cells.Row, spec: fields_lib.Fields) -> str:
  name = cells.string(cells.value(row.values, spec.split, spec.blanks)).lower()
  name = _NAMES.get(name, name)
  if name not in splits.SPLITS:
    raise encodings.Unusable('split unknown', encodings.short(name)
                             + f'; map it to one of {", ".join(splits.SPLITS)}')
  return name


def _drawn(found: list[types.Record], split: str,
           parts: dict[str, Any]) -> list[types.Record]:
  by = parts.pop('by', 'chance')
  if by not in _BY:
    raise ValueError(f'parts by {by!r}; expected one of {", ".join(_BY)}')
  known = list(inspect.signature(_BY[by]).parameters)[2:]
  for name in parts:
    if name not in known:
      raise ValueError(f'parts have no {name!r} by {by}; '
                       f'{lookup.nearest(name, known)}')
  if by == 'chance':
    parts = dict(validation=.1, test=.1, seed=0) | parts
  return _BY[by](found, split, **parts)


def _report(names: list[str], found: list[types.Record],
            bad: collections.Counter) -> None:
  if bad:
    logging.warning('%s: %d records; %d rows left out: %s', names[0],
                    len(found), bad.total(),
                    ', '.join(f'{n} {reason}' for reason, n in
                              bad.most_common()))
  if bad and not found:
    raise ValueError(f'{names[0]}: no row makes a record: {dict(bad)}; check '
                     'the field map')
