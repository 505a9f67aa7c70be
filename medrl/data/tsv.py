"""Question sets in VLMEvalKit's TSV: images in base64 inside the table.

Columns: `index`, `image` (base64, a list of such as text, or the index of
another row that holds it) or `image_path`, `question`, `hint`, options `A`,
`B`.., `answer`, categories. A test split may have no `answer`. As VLMEvalKit
(open-compass) reads it; rows without an image are unusable, as there.
"""

from collections.abc import Callable, Iterator, Mapping
import csv
import io
import re
from typing import Any

from medrl import types
from medrl.data import cells
from medrl.data import encodings
from medrl.data import fields as fields_lib
from medrl.data import missing
from medrl.data import reading
from medrl.data import tabular
from medrl.media import files
from medrl.media import medium

# VLMEvalKit takes a text of at most so many characters for an index.
MAX_INDEX = 64
_STRINGS = re.compile(r'\'([^\']*)\'|"([^"]*)"')
Place = tuple[int, int]   # offset and length of a row, in bytes
# No other column goes into meta by itself: it might name a patient.
_CATEGORIES = ('category', 'l2-category')


def records(root: str, split: str, *, file: Any, fields: Any = (),
            parts: Any = None, limit: int = 0, on_bad: str = 'error',
            home: Any = None) -> Iterator[types.Record]:
  """Records of one split of TSV files.

  Args:
    root: data root.
    split: 'train', 'validation' or 'test'.
    file: as in `reading.records`.
    fields: laid over what the columns of the first file say: id, question
      behind its hint, options, answer, images, task ('category') and the
      categories as meta; see `fields.Fields`.
    parts, limit, on_bad, home: as in `reading.records`.

  Yields:
    Records, in the files' order.

  Raises:
    FileNotFoundError, ValueError: as in `reading.records`.
  """
  names, _ = reading.paths(root, split, file, missing.home(home))
  spec = fields_lib.parse(fields, defaults(_header(root, names[0])))
  yield from reading.records(
      lambda name: rows(root, name), root, split, file=file, spec=spec,
      parts=parts, limit=limit, on_bad=on_bad, home=home)


def defaults(names: list[str]) -> dict[str, Any]:
  """The field map of a table with these columns."""
  has = set(names)
  found = {'id': 'index', 'question': 'question',
           'meta': [name for name in _CATEGORIES if name in has]}
  if 'hint' in has:
    found['question'] = '{hint}\n{question}'
  if {'A', 'B'} <= has:
    found['options'] = {'columns': '{}'}
  if 'image' in has:
    found['images'] = {'column': 'image', 'kind': 'base64'}
  elif 'image_path' in has:
    found['images'] = 'image_path'
  for part, name in ('answer', 'answer'), ('task', 'category'):
    if name in has:
      found[part] = name
  return found


def rows(root: str, name: str) -> Iterator[cells.Row]:
  """The rows of a file, whose images are read where they stand.

  Raises:
    ValueError: the file cannot be read as TSV.
  """
  names = _header(root, name)
  places = _places(root, name, names) if 'image' in names else {}
  for values, number, place in _table(root, name):
    places_of = dict.fromkeys(names, place)
    if isinstance(values, Mapping) and 'image' in values:
      found = _shown(values['image'].strip(), place, places)
      if isinstance(found, encodings.Unusable):
        values = found
      else:
        places_of['image'], count = found
        values = {**values, 'image': [True] * count}
    yield cells.Row(values, name, number, root,
                    _embed(name, names, places_of))


def load_image(path: str, root: str, *, offset: int, length: int, column: int,
               index: int = 0, **options) -> Any:
  """The image in base64 in a row of a TSV; `options` as in `medium.load`.

  Args:
    path: of the TSV.
    root: data root.
    offset: first byte of the row.
    length: its bytes.
    column: of the image, from 0.
    index: of the image, where the cell is a list.

  Raises:
    ValueError: no such row or cell, or it is no image.
  """
  name = f'{path}:{offset}[{index}]'
  text = files.decoded(name, 'TSV', lambda: tabular.slice_of(
      path, root, offset, length).decode('utf-8'))
  row = files.decoded(name, 'TSV', lambda: next(csv.reader(
      io.StringIO(text, newline='\n'), delimiter='\t')))
  found = _listed(row[column]) if column < len(row) else []
  if index >= len(found):
    raise ValueError(f'{name}: {len(found)} images in column {column} of '
                     f'{len(row)}')
  return medium.decode(tabular.unpacked(found[index], name), name, **options)


def _header(root: str, name: str) -> list[str]:
  """The columns' names."""
  for values, _, _ in _table(root, name, 'none'):
    return [text.strip() or at for at, text in values.items()]
  raise ValueError(f'{name}: empty; expected TSV with names in the first line')


def _table(root: str, name: str, header: str = 'names'
           ) -> Iterator[tuple[Any, int, Place]]:
  with files.locate(name, root).open('rb') as stream:
    try:
      yield from tabular.named(tabular.spans(stream, True), name, header)
    except (csv.Error, ValueError) as error:
      raise ValueError(f'{name}: {type(error).__name__}: {error}') from error


def _places(root: str, name: str, names: list[str]
            ) -> dict[str, tuple[Place, int]]:
  """Index -> where the row stands and how many images it holds itself."""
  if 'index' not in names:
    return {}
  return {values['index'].strip(): (place, len(_listed(values['image'])))
          for values, _, place in _table(root, name)
          if isinstance(values, Mapping) and len(values['image']) > MAX_INDEX}


def _shown(text: str, place: Place, places: Mapping[str, tuple[Place, int]]
           ) -> tuple[Place, int] | encodings.Unusable:
  """Where a row's images stand, its own or another's, and how many."""
  if encodings.absent(text):
    return place, 0
  if len(text) > MAX_INDEX:
    return place, len(_listed(text))
  return places.get(text) or encodings.Unusable(
      'image of no row', f'{encodings.short(text)} is neither base64 nor the '
      'index of a row with an image')


def _listed(text: str) -> list[str]:
  """The images of a cell: itself, or the strings of a list in text."""
  text = text.strip()
  if text[:1] == '[' and text[-1:] == ']':
    return [a or b for a, b in _STRINGS.findall(text)]
  return [text]


def _embed(name: str, names: list[str], places: Mapping[str, Place]
           ) -> Callable[[str, int], types.Media]:
  return lambda column, index: types.Media(
      name, 'medrl.data.tsv.load_image',
      dict(offset=places[column][0], length=places[column][1],
           column=names.index(column), index=index))
