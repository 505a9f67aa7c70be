"""Train, validation and test parts that share no patient and no image.

By chance (`assign`), by time (`by_date`) or by institution (`by_site`). Chance
is a hash, so nothing is stored and no list of identifiers is written. Nothing
is balanced here and no file is read.
"""

import collections
from collections.abc import Callable, Iterable, Sequence
import datetime
import hashlib
import logging

from medrl import types

SPLITS = ('train', 'validation', 'test')


def assign(records: Iterable[types.Record], split: str, *, validation: float,
           test: float, seed: int) -> list[types.Record]:
  """The records of one split.

  Records of one subject stay together, and so do records that share any image
  (a path with its loader's options), which is what is gone by where there is
  no subject. A record without either goes by its id. A new record changes no
  other's split, unless it ties together patients or images that were apart.

  Args:
    records: all of them, of every split.
    split: 'train', 'validation' or 'test'.
    validation: fraction of groups, in expectation.
    test: fraction of groups, in expectation.
    seed: another seed is another split.

  Returns:
    Records of the split, in the given order.

  Raises:
    ValueError: an unknown split, or fractions that are not in 0..1 together.
  """
  _check_split(split)
  if min(validation, test) < 0 or validation + test > 1:
    raise ValueError(f'fractions validation={validation}, test={test}; '
                     f'expected both >= 0 and their sum <= 1')
  records = list(records)
  owners = _owners(records)
  chosen = [r for r, owner in zip(records, owners)
            if _part(f'{seed}:{owner}', validation, test) == split]
  # Counts only: an identifier of a patient must not reach a log.
  logging.info(
      'split %s: %d of %d records; %d groups, the largest of %d records; %d '
      'records without a subject were grouped by image', split, len(chosen),
      len(records), len(set(owners)),
      max(collections.Counter(owners).values(), default=0),
      sum(not r.subject for r in records))
  return chosen


def by_date(records: Iterable[types.Record], split: str, *,
            validation_from: str, test_from: str) -> list[types.Record]:
  """The records of one split of time: train first, test last.

  A patient (and whoever shares media with them, as in `assign`) goes wholly to
  the part of the latest of their dates. So training never sees a day from
  `validation_from` on, while the later parts also hold earlier studies of their
  patients. Where that is not wanted, drop those by date afterwards.

  Args:
    records: all of them, of every split, each with a `date`.
    split: 'train', 'validation' or 'test'.
    validation_from: 'YYYY-MM-DD', the first day of validation.
    test_from: the first day of the test; `validation_from` for no validation.

  Returns:
    Records of the split, in the given order.

  Raises:
    ValueError: an unknown split, days that are none or in the wrong order, or
      records without a date.
  """
  _check_split(split)
  for name, day in ('validation_from', validation_from), (
      'test_from', test_from):
    if not _is_day(day):
      raise ValueError(f"{name} {day!r}; expected a day, 'YYYY-MM-DD'")
  if validation_from > test_from:
    raise ValueError(f'validation_from {validation_from} is after test_from '
                     f'{test_from}; expected the test to be last')
  records = list(records)
  _check_field(records, 'date', _is_day, "'YYYY-MM-DD'")
  # Days in this form sort as text.
  return _latest_part(
      records, split, 'date',
      lambda r: (r.date >= validation_from) + (r.date >= test_from))


def by_site(records: Iterable[types.Record], split: str, *,
            validation: Sequence[str] = (), test: Sequence[str] = ()
            ) -> list[types.Record]:
  """The records of one split of institutions; train has those not named.

  A patient (and whoever shares media with them, as in `assign`) of several
  sites goes wholly to the test if one of these is a test site, else to
  validation if one is a validation site. So training never sees a held-out
  site or anyone who was there.

  Args:
    records: all of them, of every split, each with a `site`.
    split: 'train', 'validation' or 'test'.
    validation: sites of validation.
    test: sites of the test.

  Returns:
    Records of the split, in the given order.

  Raises:
    ValueError: an unknown split, a site of both parts or of no record, or
      records without a site.
  """
  _check_split(split)
  for name, sites in ('validation', validation), ('test', test):
    if isinstance(sites, str):
      raise ValueError(f'{name} is {sites!r}; expected a list of sites')
  if set(validation) & set(test):
    raise ValueError(f'sites {sorted(set(validation) & set(test))} are of '
                     f'validation and of test; expected each once')
  records = list(records)
  _check_field(records, 'site', bool, 'the name of an institution')
  known = {r.site for r in records}
  for site in (*validation, *test):
    if site not in known:
      raise ValueError(f'no record is of site {site!r}; there are {len(known)} '
                       f'others, so check how it is written')
  return _latest_part(
      records, split, 'site',
      lambda r: 2 if r.site in test else int(r.site in validation))


def _check_split(split: str) -> None:
  if split not in SPLITS:
    raise ValueError(f'split {split!r}; expected one of {", ".join(SPLITS)}')


def _is_day(text: str) -> bool:
  try:
    return datetime.date.fromisoformat(text).isoformat() == text
  except (TypeError, ValueError):
    return False


def _check_field(records, name: str, fits: Callable[[str], bool],
                 expected: str) -> None:
  """Counts records that lack a field; their values are nobody's to read."""
  wrong = [r.id for r in records if not fits(vars(r)[name])]
  if wrong:
    raise ValueError(
        f'{len(wrong)} of {len(records)} records have no {name} that can be '
        f'split by, the first {wrong[0]!r}; expected {expected}: give it, or '
        f'leave them out')


def _latest_part(records: list[types.Record], split: str, field: str,
                 place: Callable[[types.Record], int]) -> list[types.Record]:
  """Records whose group's last place in SPLITS is `split`."""
  owners, last = _owners(records), {}
  for record, owner in zip(records, owners):
    last[owner] = max(last.get(owner, 0), place(record))
  wanted = SPLITS.index(split)
  chosen = [r for r, owner in zip(records, owners) if last[owner] == wanted]
  # Counts only, as in `assign`.
  logging.info(
      'split %s by %s: %d of %d records; %d groups, %d of these records came '
      'with their group from an earlier part; %d records have no subject',
      split, field, len(chosen), len(records), len(last),
      sum(place(r) != wanted for r in chosen),
      sum(not r.subject for r in records))
  return chosen


def _keys(record: types.Record) -> list[tuple[int, str]]:
  """What a record may share with others; subjects sort first."""
  keys = [(0, record.subject)] if record.subject else []
  keys += [(1, f'{m.path} {sorted(m.options.items())}') for m in record.media]
  return keys or [(2, record.id)]


def _owners(records: list[types.Record]) -> list[tuple[int, str]]:
  """The smallest key of each record's group: connected components."""
  parents = {}

  def root(key):
    parents.setdefault(key, key)
    while parents[key] != key:
      parents[key] = parents[parents[key]]
      key = parents[key]
    return key

  for record in records:
    roots = {root(key) for key in _keys(record)}
    first = min(roots)
    parents.update(dict.fromkeys(roots, first))
  return [root(_keys(record)[0]) for record in records]


def _part(text: str, validation: float, test: float) -> str:
  digest = hashlib.sha256(text.encode()).digest()
  place = int.from_bytes(digest[:8], 'big') / 2 ** 64
  if place < test:
    return 'test'
  return 'validation' if place < test + validation else 'train'
