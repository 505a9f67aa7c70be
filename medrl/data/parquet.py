"""Question sets in parquet, as Hugging Face keeps them: images in the rows.

An image is {bytes, path}, bytes alone, or a list of these. Rows are listed
without reading an image, and an image is read with its row group, which is
kept while its neighbours are asked for: to shuffle a large set, pack it first
(`launch/pack_records.py`). Base64 is not looked for here.
"""

from collections.abc import Callable, Iterator, Mapping
import functools
import itertools
import pathlib
from typing import Any

from medrl import types
from medrl.data import cells
from medrl.data import fields as fields_lib
from medrl.data import reading
from medrl.media import files
from medrl.media import medium

# Row groups of images held by a worker, of some 100 images each.
OPEN_GROUPS = 4
_ROWS = 64   # read at a time, as a row may hold an image of several MB


def records(root: str, split: str, *, file: Any, fields: Any,
            parts: Any = None, limit: int = 0, on_bad: str = 'error',
            home: Any = None) -> Iterator[types.Record]:
  """Records of one split of parquet files.

  Args:
    root: data root.
    split: 'train', 'validation' or 'test'.
    file: as in `reading.records`: {'test': 'data/test-*.parquet'}.
    fields: a field map; images of the rows have `kind` 'embedded'.
    parts, limit, on_bad, home: as in `reading.records`.

  Yields:
    Records, in the files' order.

  Raises:
    ImportError: pyarrow is not installed.
    FileNotFoundError, ValueError: as in `reading.records`.
  """
  yield from reading.records(
      lambda name: rows(root, name), root, split, file=file,
      spec=fields_lib.parse(fields), parts=parts, limit=limit, on_bad=on_bad,
      home=home)


def rows(root: str, name: str) -> Iterator[cells.Row]:
  """The rows of a file; a cell of bytes is True, and never read if it can be.

  Raises:
    ValueError: the file is no parquet.
  """
  full = files.locate(name, root)
  table = _open(full)
  batches = table.iter_batches(batch_size=_ROWS, columns=_leaves(table))
  number = 0
  while batch := files.decoded(
      str(full), 'parquet',
      lambda: [b.to_pylist() for b in itertools.islice(batches, 1)]):
    for values in batch[0]:
      number += 1
      yield cells.Row({key: _light(cell) for key, cell in values.items()},
                      name, number, root, _embed(name, number - 1))


def load_image(path: str, root: str, *, column: str, row: int, index: int = 0,
               **options) -> Any:
  """The image in a row; `options` as in `medium.load`.

  Args:
    path: of the parquet file.
    root: data root, below which an image lies that is named but not held.
    column: of the image, dots go into structs.
    row: from 0.
    index: of the image, where the cell is a list.

  Raises:
    ValueError: no such row or cell, or it is no image.
  """
  full = files.locate(path, root)
  name = f'{path}:{row}:{column}[{index}]'
  group, first = _group(full, full.stat().st_mtime_ns, row,
                        column.split('.')[0])
  found = cells.cell({column.split('.')[0]: group[row - first].as_py()}, column)
  if isinstance(found, list):
    found = found[index] if index < len(found) else None
  inner = found.get('path') if isinstance(found, Mapping) else None
  found = found.get('bytes') if isinstance(found, Mapping) else found
  if isinstance(found, bytes):
    return medium.decode(found, name, **options)
  if not inner:
    raise ValueError(f'{name}: {type(found).__name__}; expected bytes, or a '
                     "dict with 'bytes' or 'path'")
  return medium.load(inner, root, **options)


def _open(full: pathlib.Path):
  try:
    from pyarrow import parquet
  except ImportError as error:
    raise ImportError('parquet needs pyarrow; install with: pip install -r '
                      'launch/requirements-readers.txt') from error
  return files.decoded(str(full), 'parquet', lambda: parquet.ParquetFile(full))


def _leaves(table) -> list[str]:
  """Columns to list: of an image with a path beside its bytes, the path."""
  paths = [table.schema.column(i).path for i in range(len(table.schema))]
  beside = {path.removesuffix('path') for path in paths
            if path.endswith('.path')}
  return [path for path in paths if not (
      path.endswith('.bytes') and path.removesuffix('bytes') in beside)]


def _light(cell: Any) -> Any:
  """A cell without bytes."""
  if isinstance(cell, bytes):
    return True
  if isinstance(cell, list):
    return [_light(item) for item in cell]
  if isinstance(cell, dict):
    return {key: _light(item) for key, item in cell.items()}
  return cell


def _embed(name: str, row: int) -> Callable[[str, int], types.Media]:
  return lambda column, index: types.Media(
      name, 'medrl.data.parquet.load_image',
      dict(column=column, row=row, index=index))


@functools.lru_cache(maxsize=OPEN_GROUPS)
def _column(full: pathlib.Path, changed: int, group: int, column: str):
  """A column of a row group; `changed` keeps an old file's apart."""
  del changed
  return files.decoded(
      str(full), 'parquet', lambda: _open(full).read_row_group(
          group, columns=[column])[column])


def _group(full: pathlib.Path, changed: int, row: int, column: str):
  """The column in the row group with a row, and the group's first row."""
  metadata = _open(full).metadata
  first = 0
  for group in range(metadata.num_row_groups):
    count = metadata.row_group(group).num_rows
    if 0 <= row - first < count:
      return _column(full, changed, group, column), first
    first += count
  raise ValueError(f'{str(full)!r} has rows 0 to {first - 1}, not {row}')
