"""Cells of a row, and the values and media that parts of a field map name.

See `medrl.data.fields` for how a part is written. It builds no record, and
opens no image.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import pathlib
import re
from typing import Any, NamedTuple

from medrl import lookup
from medrl import types
from medrl.data import encodings
from medrl.media import files

_NAMED = re.compile(r'\{([^{}]+)\}')


class Row(NamedTuple):
  """A row of a file: column -> cell, or why the row cannot be read.

  `embed(column, index)` gives the Media of an image that the row itself holds;
  None where the file's layout cannot hold any.
  """
  values: Mapping[str, Any] | encodings.Unusable
  file: str
  number: int
  root: str = ''
  embed: Callable[[str, int], types.Media] | None = None


def cell(values: Mapping[str, Any], name: str) -> Any:
  """The cell of a column, or what lies below it behind dots.

  Raises:
    Unusable: there is none; the message has the nearest names, no values.
  """
  if name in values:
    return values[name]
  node = values
  for part in name.split('.'):
    if isinstance(node, str) and node.lstrip()[:1] in ('{', '['):
      node = encodings.parsed(node, 'json')
    if isinstance(node, Mapping) and part in node:
      node = node[part]
    elif isinstance(node, (list, tuple)) and part.isdecimal() and (
        int(part[:6]) < len(node)):
      node = node[int(part[:6])]
    else:
      near = lookup.nearest(name, [str(known) for known in values])
      raise encodings.Unusable('no column', f'{name!r}; {near}')
  return node


def looked_up(values: Mapping[str, Any], part: Mapping[str, Any]) -> Any:
  """The cell of a part's column; None if it may be missing and is."""
  try:
    return cell(values, part['column'])
  except encodings.Unusable:
    if part.get('optional', False):
      return None
    raise


def value(values: Mapping[str, Any], part: Any,
          blanks: Sequence[str] = ()) -> Any:
  """What a part says for a row; None where the cell is empty.

  Raises:
    Unusable: the row has no such column, or a cell that `map` lacks.
  """
  if not isinstance(part, Mapping):
    if '{' in part:
      return _template(values, part, blanks)
    found = cell(values, part) if part else None
    return None if encodings.absent(found, blanks) else found
  if 'const' in part:
    return part['const']
  found = looked_up(values, part)
  if encodings.absent(found, blanks):
    found = None
  if 'tag' in part and found is not None:
    text, found = str(found), encodings.tagged(str(found), part['tag'])
    if found is None:
      raise encodings.Unusable('no such tag', f'{encodings.short(text)}, '
                               f'expected one <{part["tag"]}>')
  if 'map' not in part:
    return found
  table = {str(key): to for key, to in dict(part['map']).items()}
  for key in ('' if found is None else str(found), string(found)):
    if key in table:
      return table[key]
  if 'otherwise' in part:
    return value(values, part['otherwise'], blanks)
  raise encodings.Unusable('cell without a meaning', f'column '
                           f'{part["column"]!r}; map has {sorted(table)}')


def string(found: Any) -> str:
  """A cell as text: lists line by line, whole floats without a point."""
  if found is None:
    return ''
  if isinstance(found, float) and found.is_integer():
    found = int(found)
  if isinstance(found, (list, tuple)):
    return encodings.bounded('\n'.join(string(part) for part in found))
  if isinstance(found, (Mapping, bytes)):
    raise encodings.Unusable('cell is no text', encodings.short(found))
  return encodings.bounded(str(found).strip())


def columns(part: Any) -> Iterator[str]:
  """The columns that a part reads, as named."""
  if isinstance(part, (list, tuple)):
    for piece in part:
      yield from columns(piece)
  elif isinstance(part, Mapping):
    yield from columns(part.get('columns') or part.get('column', ''))
    yield from columns(part.get('otherwise', ''))
  elif part:
    yield from _NAMED.findall(part) or [part]


def pieces(row: Row, column: str) -> Iterator[Row]:
  """The row, or one for each dict in the list (or its JSON) in a column.

  A piece's cells lie over the row's; '@each' is its place in the list.
  """
  if not column:
    yield row
    return
  found = cell(row.values, column)
  if isinstance(found, str):
    found = encodings.parsed(found, 'json')
  if not isinstance(found, (list, tuple)) or not all(
      isinstance(item, Mapping) for item in found):
    raise encodings.Unusable('no list of objects', f'in {column!r}')
  for index, item in enumerate(found):
    yield row._replace(values={**row.values, **item, '@each': index})


def images(row: Row, part: Any) -> tuple[types.Media, ...]:
  """The media that a part names; see `Fields.images`.

  Raises:
    Unusable: there is none, or a cell is no path.
  """
  if isinstance(part, (list, tuple)):
    return sum((images(row, piece) for piece in part), ())
  if not part:
    return ()
  if not isinstance(part, Mapping):
    part = {'column': part}
  names = part.get('columns') or [part['column']]
  loose = part.get('optional', False) or 'columns' in part
  found = []
  for name in names:
    if '{' in name:
      items = [value(row.values, name)]
    else:
      items = _items(looked_up(row.values, dict(column=name, optional=loose)))
    found += [_medium(row, part, name, index, item)
              for index, item in enumerate(items)]
  if not found and not part.get('optional', False):
    raise encodings.Unusable('no image', f'in {names}')
  return tuple(found)


def _items(found: Any) -> list[Any]:
  if isinstance(found, str) and found.startswith('[') and found.endswith(']'):
    found = encodings.parsed(found)
  if isinstance(found, (list, tuple)):
    return list(found)
  return [] if encodings.absent(found) else [found]


def _medium(row: Row, part: Mapping[str, Any], name: str, index: int,
            item: Any) -> types.Media:
  kind = part.get('kind', 'path')
  if item is None:
    raise encodings.Unusable('no image', f'item {index} of {name!r}')
  if isinstance(item, Mapping) and part.get('key') in item:
    item = item[part['key']]
  if kind != 'path' or isinstance(item, str) and item.startswith('data:'):
    if row.embed is None:
      raise ValueError(
          f'{row.file}: images inside a column ({name!r}) are read from '
          'parquet, plain TSV and JSON lines only; convert the file')
    held = row.embed(name, index)
    return dataclasses.replace(
        held, options={**part.get('options', {}), **held.options})
  if isinstance(item, int) and not isinstance(item, bool):
    item = str(item)
  if not isinstance(item, str) or encodings.absent(item) or len(item) > 1024:
    raise encodings.Unusable('image not a path', encodings.short(item))
  if re.match(r'[a-z]{2,8}://', item):
    raise encodings.Unusable('image not a path', encodings.short(item)
                             + ' is a URL, and nothing is downloaded')
  path = str(pathlib.PurePosixPath(
      part.get('format', '{}').replace('{}', item.strip())))
  if part.get('check', False):
    try:
      files.locate(path, row.root)
    except (ValueError, FileNotFoundError) as error:
      raise encodings.Unusable('image file missing', str(error)) from None
  return types.Media(path, options=dict(part.get('options', {})))


def _template(values: Mapping[str, Any], text: str,
              blanks: Sequence[str]) -> str | None:
  filled = _NAMED.sub(lambda m: string(value(values, m[1], blanks)), text)
  return filled.strip() or None
