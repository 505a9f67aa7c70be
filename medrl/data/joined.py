"""Several named data sets as one, one behind the other.

To evaluate, inspect or pack what a mixture trains on; their records share a
data root. By weight they are mixed in `config.data.mixture`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from medrl import types
from medrl.data import named


def records(root: str, split: str, *,
            parts: Mapping[str, Mapping[str, Any]]) -> Iterator[types.Record]:
  """Records of all parts.

  Args:
    root: data root of all of them.
    split: 'train', 'validation' or 'test'.
    parts: name -> `dataset`, the import path of a records function, and its
      `options`, if any.

  Yields:
    Records in the order of the parts.

  Raises:
    ValueError: a part without a data set or with other keys, one that has no
      record, or two records of one id.
  """
  seen = {}
  for name, part in parts.items():
    if 'dataset' not in part or set(part) - {'dataset', 'options'}:
      raise ValueError(f'part {name!r} has {sorted(part)}; expected dataset '
                       f'and, where it needs any, options')
    for record in named.records(part['dataset'], root, split,
                                part.get('options', {})):
      if record.id in seen:
        raise ValueError(f'parts {seen[record.id]!r} and {name!r} both have a '
                         f'record {record.id!r}')
      seen[record.id] = name
      yield record
