"""Train, validation and test parts that share no patient and no image.

It decides by hash, so nothing is stored and no list of identifiers is written.
It balances nothing and reads no file.
"""

import collections
from collections.abc import Iterable
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
  if split not in SPLITS:
    raise ValueError(f'split {split!r}; expected one of {", ".join(SPLITS)}')
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


def _keys(record: types.Record) -> list[tuple[int, str]]:
  """What a record may share with others; subjects sort first."""
  keys = [(0, record.subject)] if record.subject else []
  keys += [(1, f'{m.path} {sorted(m.options.items())}') for m in record.images]
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
