"""Orders over records that balance labels or keep the shares of strata.

Indices only, as pure functions of what is asked and a seed, so that a run that
stopped finds the same order again and every process has the same. Nothing is
read, copied or drawn from a generator with a state.
"""

from collections.abc import Callable, Mapping, Sequence
import json
from typing import Any

import numpy as np

from medrl import types

# A field of a record, 'answer' (of a choice the option's text, since letters
# may be in an order of their own), 'meta.name', or a function of the record.
Key = str | Callable[[types.Record], Any]

_FIELDS = ('answer', 'answer_type', 'task', 'source', 'subject', 'study',
           'site', 'date')


def labels(records: Sequence[types.Record], key: Key) -> list[str]:
  """The label of each record, as JSON text.

  Several options, names or boxes are one label together.

  Raises:
    ValueError: an unknown key, or records that have no such label.
  """
  function = key if callable(key) else _function(key)
  found, missing = [], []
  for record in records:
    value = function(record)
    found.append(json.dumps(value, sort_keys=True, default=str))
    if value is None:
      missing.append(record.id)
  if missing:
    raise ValueError(
        f'{len(missing)} of {len(found)} records have no label by {key!r}, the '
        f'first {missing[0]!r}; give it, or leave them out')
  return found


def balanced(records: Sequence[types.Record], key: Key, seed: int,
             epoch: int = 0) -> np.ndarray:
  """An epoch in which every label is as frequent as the commonest one.

  Every n draws in a row, from the first, have each of n labels once. Within a
  label every record comes before any comes again, over epochs too.

  Args:
    records: to draw from.
    key: what is balanced.
    seed: another seed is another order.
    epoch: from 0; each has an order of its own.

  Returns:
    int64 [labels * records of the commonest], indices into `records`.

  Raises:
    ValueError: as `labels`.
  """
  _, label = np.unique(labels(records, key), return_inverse=True)
  counts = np.bincount(label)
  quotas = np.full(len(counts), counts.max(initial=0))
  return _order(label, quotas, seed, epoch)


def weighted(records: Sequence[types.Record], key: Key,
             weights: Mapping[Any, float], size: int, seed: int,
             epoch: int = 0) -> np.ndarray:
  """An epoch of `size` draws with given shares of labels, evenly spread.

  Args:
    records: to draw from; within a label as in `balanced`.
    key: what the shares are of.
    weights: label -> weight of all its records together; 0 leaves it out.
    size: draws; shares are rounded by largest remainder.
    seed: another seed is another order.
    epoch: from 0.

  Returns:
    int64 [size], indices into `records`.

  Raises:
    ValueError: as `labels`, or weights that are not those of the labels.
  """
  names, label = np.unique(labels(records, key), return_inverse=True)
  given = {json.dumps(k, sort_keys=True, default=str): w
           for k, w in weights.items()}
  # Labels may be patients or sites, so only the caller's own are repeated.
  unknown = sorted(set(given) - set(names.tolist()))
  if unknown or len(given) < len(names):
    raise ValueError(f'weights for {len(given)} of {len(names)} labels by '
                     f'{key!r}, of which {unknown} occur in no record; '
                     f'expected one weight for each label')
  shares = np.array([given[name] for name in names], float)
  if not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
    raise ValueError(f'weights {list(weights.values())}; expected numbers >= '
                     f'0, not all of them 0')
  return _order(label, _quotas(shares, size), seed, epoch)


def stratified(records: Sequence[types.Record], key: Key, size: int,
               seed: int) -> np.ndarray:
  """A subset that keeps the shares of strata, rounded by largest remainder.

  Args:
    records: to draw from, each at most once.
    key: what the strata are.
    size: records wanted.
    seed: another seed is another subset.

  Returns:
    int64 [size], indices into `records`, increasing.

  Raises:
    ValueError: as `labels`, or more records wanted than there are.
  """
  if not 0 <= size <= len(records):
    raise ValueError(f'a subset of {size} of {len(records)} records; expected '
                     f'0 to {len(records)}')
  _, label = np.unique(labels(records, key), return_inverse=True)
  quotas = _quotas(np.bincount(label).astype(float), size)
  rows = np.arange(len(label))
  order = np.lexsort((_mix(seed, rows), label))
  rank = np.empty_like(rows)
  rank[order] = _ranks(label[order])
  return np.flatnonzero(rank < quotas[label])


def _function(key: str) -> Callable[[types.Record], Any]:
  if key == 'answer':
    return _answer
  if key.startswith('meta.'):
    return lambda record: record.meta.get(key[len('meta.'):])
  if key not in _FIELDS:
    raise ValueError(f"key {key!r}; expected one of {', '.join(_FIELDS)}, "
                     f"'meta.name' or a function of a record")
  return lambda record: vars(record)[key]


def _answer(record: types.Record) -> Any:
  if record.answer is None or not record.options:
    return record.answer
  if isinstance(record.answer, str):
    return record.options.get(record.answer, record.answer)
  return sorted(record.options[letter] for letter in record.answer)


def _order(label: np.ndarray, quotas: np.ndarray, seed: int,
           epoch: int) -> np.ndarray:
  """`quotas[l]` draws of each label l, spread evenly over the epoch.

  A label's draws are a window of its endless stream of passes, of which each
  has all its records in an order of its own.
  """
  counts = np.bincount(label, minlength=len(quotas))
  first, skip = np.divmod(epoch * quotas, counts)
  passes = -(-(skip + quotas) // counts) * (quotas > 0)
  each = passes[label]
  row = np.repeat(np.arange(len(label)), each)
  turn = first[label[row]] + _ranks(row)
  order = np.lexsort((_mix(seed, row, turn), turn, label[row]))
  row = row[order]
  rank = _ranks(label[row])
  start = skip[label[row]]
  row = row[(rank >= start) & (rank < start + quotas[label[row]])]
  # The k-th of q draws of a label falls into the k-th of q equal stretches.
  which = label[row]
  place = (_ranks(which) + _unit(seed, which, epoch, _ranks(which))
           ) / quotas[which]
  return row[np.argsort(place, kind='stable')]


def _ranks(values: np.ndarray) -> np.ndarray:
  """Place of each element in its run of equal neighbours."""
  index = np.arange(len(values))
  starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]][:len(values)])
  return index - np.repeat(starts, np.diff(np.r_[starts, len(values)]))


def _quotas(shares: np.ndarray, size: int) -> np.ndarray:
  """`size` divided by shares: the floor, then the largest remainders.

  Of equal remainders the smaller share is served first, or it might have none.
  """
  if not len(shares):
    return np.zeros(0, np.int64)
  exact = shares / shares.sum() * size
  quotas = np.floor(exact + 1e-9).astype(np.int64)
  # Rounded, or noise of the division would decide between equal ones.
  order = np.lexsort((shares, -np.round(exact - quotas, 9)))
  quotas[order[:size - quotas.sum()]] += 1
  return quotas


def _mix(*numbers) -> np.ndarray:
  """uint64 hash of integers and integer arrays, by SplitMix64.

  Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
  Unlike a generator it gives any element without those before it.
  """
  state = np.zeros(1, np.uint64)
  for number in numbers:
    state = state + np.asarray(number).astype(np.uint64)
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
  return state


def _unit(*numbers) -> np.ndarray:
  """float64 in [0, 1) from `_mix`."""
  return (_mix(*numbers) >> np.uint64(11)) * 2. ** -53
