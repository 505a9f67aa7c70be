"""Rows of JSON, JSON lines, CSV, TSV and XLSX files, read by a field map.

JSON is a list of objects, or an object of them by id (the column '@key').
CSV and TSV have names in their first line or go by position; they and JSON may
lie in .gz and .zip files, which are read in place and never unpacked. Nothing
is evaluated; a file is read as UTF-8.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import csv
import gzip
import json
import pathlib
from typing import Any, BinaryIO
import zipfile
import zlib

from medrl import types
from medrl.data import cells
from medrl.data import encodings
from medrl.data import fields as fields_lib
from medrl.data import reading
from medrl.media import files
from medrl.media import medium

# A line may hold several images in base64; a file of 1 GiB is read whole.
MAX_LINE = 1 << 28
HEADERS = ('names', 'none', 'skip')


def records(root: str, split: str, *, file: Any, fields: Any,
            header: str = 'names', sheet: str = '', parts: Any = None,
            limit: int = 0, on_bad: str = 'error', home: Any = None
            ) -> Iterator[types.Record]:
  """Records of one split of files of rows.

  Args:
    root: data root; image paths are relative to it.
    split: 'train', 'validation' or 'test'.
    file: as in `reading.records`; 'a.zip!b/c.csv' names a file inside another.
    fields: a field map, see `fields.Fields`.
    header: of CSV, TSV and XLSX: 'names'; 'none', columns are '0', '1', ..;
      'skip', as 'none' behind a first line that is not looked at.
    sheet: of XLSX; '' for the first.
    parts, limit, on_bad, home: as in `reading.records`.

  Yields:
    Records, in the files' order.

  Raises:
    FileNotFoundError, ValueError: as in `reading.records`.
  """
  if header not in HEADERS:
    raise ValueError(f'header {header!r}; expected one of {", ".join(HEADERS)}')
  yield from reading.records(
      lambda name: rows(root, name, header, sheet), root, split, file=file,
      spec=fields_lib.parse(fields), parts=parts, limit=limit, on_bad=on_bad,
      home=home)


def rows(root: str, name: str, header: str = 'names',
         sheet: str = '') -> Iterator[cells.Row]:
  """The rows of a file, by its suffix.

  Raises:
    ValueError: the file cannot be read, or has an unknown suffix.
  """
  outer, _, member = name.partition('!')
  full = files.locate(outer, root)
  try:
    if full.suffix == '.xlsx':
      yield from _xlsx(full, name, root, header, sheet)
      return
    with _opened(full, member) as (stream, inner):
      plain = full.name == inner
      if inner.endswith('.json'):
        yield from _json(stream, name, root)
      elif inner.endswith(('.jsonl', '.ndjson')):
        yield from _lines(stream, name, root, plain)
      elif inner.endswith(('.csv', '.tsv')):
        found = named(spans(stream, inner.endswith('.tsv')), name, header)
        yield from (cells.Row(values, name, number, root)
                    for values, number, _ in found)
      else:
        raise ValueError('expected .json, .jsonl, .csv, .tsv or .xlsx, or one '
                         'of these with .gz or in .zip')
  # Damage of any kind, with the file's name.
  except (csv.Error, EOFError, KeyError, OSError, RuntimeError, ValueError,
          zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f'{name}: {type(error).__name__}: {error}') from error


def spans(stream: BinaryIO, tabs: bool
          ) -> Iterator[tuple[list[str], tuple[int, int]]]:
  """The cells of each row of CSV or TSV, and the row's (offset, bytes)."""
  # The module's own limit, 131,072 characters, is below that of an image.
  csv.field_size_limit(MAX_LINE)
  read = [0]

  def lines():
    while raw := stream.readline(MAX_LINE + 1):
      if len(raw) > MAX_LINE:
        raise ValueError(f'a line of more than {MAX_LINE} bytes')
      text = raw.decode('utf-8-sig' if not read[0] else 'utf-8')
      read[0] += len(raw)
      yield text

  start = 0
  for row in csv.reader(lines(), delimiter='\t' if tabs else ','):
    if row:
      yield row, (start, read[0] - start)
    start = read[0]


def named(found: Iterable[tuple[list[str], Any]], name: str, header: str
          ) -> Iterator[tuple[Any, int, Any]]:
  """(column -> cell or why not, number, place) of rows of cells."""
  names = []
  for number, (row, place) in enumerate(found, 0 if header != 'none' else 1):
    if not names:
      positions = [str(i) for i in range(len(row))]
      names = positions if header != 'names' else [
          str(text or '').strip() or at for text, at in zip(row, positions)]
      if len(set(names)) < len(names):
        raise ValueError('a column name stands twice in the first line; read '
                         "it by position, with header='skip'")
      if header != 'none':
        continue
    if len(row) != len(names):
      yield encodings.Unusable('row of another length', f'{len(row)} cells, '
                               f'{len(names)} columns'), number, place
    else:
      yield dict(zip(names, row)), number, place


def load_image(path: str, root: str, *, offset: int, length: int, column: str,
               index: int = 0, **options) -> Any:
  """The image in base64 in a line of JSON; `options` as in `medium.load`.

  Args:
    path: of the file of JSON lines.
    root: data root.
    offset: first byte of the line.
    length: its bytes.
    column: a column, as in a field map.
    index: of the image, where the cell is a list.

  Raises:
    ValueError: no such line or cell, or it is no image.
  """
  name = f'{path}:{offset}:{column}[{index}]'
  values = files.decoded(name, 'JSON', lambda: json.loads(
      slice_of(path, root, offset, length)))
  found = cells.cell(values, column)
  found = found[index] if isinstance(found, list) else found
  return medium.decode(unpacked(found, name), name, **options)


def slice_of(path: str, root: str, offset: int, length: int) -> bytes:
  """Bytes of a file below the root."""
  with files.locate(path, root).open('rb') as stream:
    stream.seek(offset)
    return stream.read(min(length, MAX_LINE))


def unpacked(text: Any, name: str) -> bytes:
  """The bytes of base64, which may stand behind 'data:image/png;base64,'.

  Raises:
    ValueError: it is none, or too long.
  """
  if not isinstance(text, str) or len(text) > MAX_LINE:
    raise ValueError(f'{name}: expected base64 of at most {MAX_LINE} '
                     f'characters, not {type(text).__name__}')
  if text.startswith('data:'):
    text = text.partition('base64,')[2]
  try:
    return base64.b64decode(text.strip(), validate=True)
  except (binascii.Error, ValueError) as error:
    raise ValueError(f'{name}: no base64: {error}') from None


def _json(stream: BinaryIO, name: str, root: str) -> Iterator[cells.Row]:
  data = stream.read(files.MAX_BYTES + 1)
  if len(data) > files.MAX_BYTES:
    raise ValueError(f'more than {files.MAX_BYTES} bytes; split it, or make it '
                     f'JSON lines')
  found = json.loads(data.decode('utf-8-sig'))
  if isinstance(found, Mapping):
    found = [{'@key': key, **value} if isinstance(value, Mapping) else value
             for key, value in found.items()]
  if not isinstance(found, list):
    raise ValueError('expected a list of objects, or an object of them by id')
  for number, values in enumerate(found, 1):
    yield cells.Row(_object(values), name, number, root)


def _lines(stream: BinaryIO, name: str, root: str,
           plain: bool) -> Iterator[cells.Row]:
  offset, number = 0, 0
  while raw := stream.readline(MAX_LINE + 1):
    if len(raw) > MAX_LINE:
      raise ValueError(f'a line of more than {MAX_LINE} bytes')
    number += 1
    if raw.strip():
      yield cells.Row(_parsed(raw), name, number, root,
                      _embed(name, offset, len(raw)) if plain else None)
    offset += len(raw)


def _parsed(raw: bytes) -> Any:
  try:
    return _object(json.loads(raw.decode('utf-8-sig')))
  except (ValueError, RecursionError) as error:
    return encodings.Unusable('line unreadable',
                              f'{type(error).__name__}: no JSON in UTF-8')


def _object(values: Any) -> Any:
  if isinstance(values, Mapping):
    return values
  return encodings.Unusable('row is no object', type(values).__name__)


def _embed(name: str, offset: int,
           length: int) -> Callable[[str, int], types.Media]:
  return lambda column, index: types.Media(
      name, 'medrl.data.tabular.load_image',
      dict(offset=offset, length=length, column=column, index=index))


@contextlib.contextmanager
def _opened(full: pathlib.Path, member: str) -> Iterator[tuple[BinaryIO, str]]:
  """A file's bytes as a stream, unpacked while read, and its inner name."""
  with contextlib.ExitStack() as stack:
    name = full.name
    if full.suffix == '.zip':
      archive = stack.enter_context(zipfile.ZipFile(full))
      name = _member(archive, member)
      stream = stack.enter_context(archive.open(name))
    elif member:
      raise ValueError(f'{member!r} is asked for in what is no .zip')
    else:
      stream = stack.enter_context(full.open('rb'))
    if name.endswith('.gz'):
      stream = stack.enter_context(gzip.open(stream))
      name = name.removesuffix('.gz')
    yield stream, name


def _member(archive: zipfile.ZipFile, wanted: str) -> str:
  names = [name for name in archive.namelist() if not name.endswith('/')
           and not name.startswith('__MACOSX/')]
  for name in names:
    # Nothing is written, yet an archive made to do harm is not worth reading.
    if '..' in pathlib.PurePosixPath(name).parts or name[:1] in ('/', '\\'):
      raise ValueError(f'it has {name!r}, which leads out of the archive')
  if wanted not in names and (wanted or len(names) != 1):
    raise ValueError(f"name one of {names[:10]} behind a '!'")
  return wanted or names[0]


def _xlsx(full: pathlib.Path, name: str, root: str, header: str,
          sheet: str) -> Iterator[cells.Row]:
  try:
    import openpyxl
  except ImportError as error:
    raise ImportError('XLSX needs openpyxl; install with: pip install -r '
                      'launch/requirements-readers.txt') from error
  with zipfile.ZipFile(full) as archive:
    size = sum(info.file_size for info in archive.infolist())
  if size > files.MAX_BYTES:
    raise ValueError(f'{size} bytes unpacked, at most {files.MAX_BYTES}')
  book = openpyxl.load_workbook(full, read_only=True, data_only=True)
  try:
    if sheet and sheet not in book.sheetnames:
      raise ValueError(f'no sheet {sheet!r}; it has {book.sheetnames}')
    grid = book[sheet or book.sheetnames[0]].iter_rows(values_only=True)
    filled = (list(row) for row in grid if any(c is not None for c in row))
    for values, number, _ in named(((row, None) for row in _even(filled)),
                                   name, header):
      yield cells.Row(values, name, number, root)
  finally:
    book.close()


def _even(grid: Iterable[list[Any]]) -> Iterator[list[Any]]:
  """Rows as long as the first: empty cells at the end may be left out."""
  width = 0
  for row in grid:
    while row and row[-1] is None and len(row) > width:
      row.pop()
    width = width or len(row)
    yield row + [None] * (width - len(row))
