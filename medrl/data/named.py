"""The records of a data set that is named by import path."""

from collections.abc import Mapping, Sequence
import inspect
from typing import Any

from medrl import lookup
from medrl import types


def records(name: str, root: str, split: str,
            options: Mapping[str, Any]) -> Sequence[types.Record]:
  """All records of a split.

  Args:
    name: of `records(root, split, **options)`.
    root: data root.
    split: 'train', 'validation' or 'test'.
    options: of the function.

  Returns:
    what the function gives, as a list where it is no sequence already; one that
    reads its records one by one (`shards`) stays as it is.

  Raises:
    ValueError: it is no function, has no such option, or no record.
  """
  source = lookup.resolve(name)
  if not callable(source):
    raise ValueError(f'{name} is no function; expected one like '
                     f'medrl.data.jsonl.records')
  known = inspect.signature(source).parameters
  for option in options:
    if option not in known and all(p.kind is not p.VAR_KEYWORD
                                   for p in known.values()):
      raise ValueError(f'{name} has no option {option!r}; '
                       f'{lookup.nearest(option, list(known)[2:])}')
  found = source(root, split, **options)
  if not isinstance(found, Sequence):
    found = list(found)
  if not len(found):
    raise ValueError(f'{name} has no record in split {split!r} of root '
                     f'{root!r}')
  return found
