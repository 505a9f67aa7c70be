"""Which columns of a row make which part of a Record: a field map.

Every reader takes one, as a dict of plain values, so that a data set of a
known layout is a config and no code. A part is said by

    'name' or 'a.b.0'       a column; dots go into dicts, lists and JSON text
    'Q: {a}\n{b.c}'         columns in a text; empty ones leave nothing
    {'const': value}        the same for every row
    {'column': name, ..}    with `map` (cell -> value, cells as text; or pairs
                            of them, where a config cannot hold the keys), `tag`
                            (what stands in <tag>..</tag> or <|tag|>..<|/tag|>),
                            `otherwise` (a part, where map has no such cell)
                            and `optional` (the row may lack the column)

Keys that only one part knows are at `Fields`. It reads no file.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import json
import pathlib
from typing import Any

from medrl import lookup
from medrl import types
from medrl.data import answers
from medrl.data import cells
from medrl.data import encodings
from medrl.data import gold

MAX_RAW = 4096
_BASE = ('column', 'const', 'map', 'tag', 'otherwise', 'optional')
_KEYS = {
    'answer': _BASE + ('encoding', 'order', 'separator', 'columns'),
    'options': ('column', 'columns', 'const', 'encoding', 'inline', 'until',
                'stem', 'optional'),
    'images': ('column', 'columns', 'key', 'format', 'kind', 'optional',
               'options', 'check'),
    'date': _BASE + ('order',)}
_LISTS = ('meta', 'keep', 'limits', 'blanks', 'identifiers', 'raw',
          'verified')
_IDENTITY = ('subject', 'study', 'site', 'date')
_KINDS = ('path', 'embedded', 'base64')


@dataclasses.dataclass(frozen=True)
class Fields:
  """A field map; '' and () leave a part out.

  question: a part.
  answer: a part; '' hides it. Beside: `encoding` (of options, see
    `gold.ENCODINGS`), `order` of a date, `separator` of labels, and `columns`
    of findings for 'states'.
  answer_type: a type, a part, or 'auto': with options 'choice', or 'choices'
    where several are right; else 'yesno' where the answer is such a word, and
    'text'.
  options: a column with `encoding` (see `encodings.ENCODINGS`) and `stem`
    (True: the question repeats them, and is cut there); {'columns': pattern};
    {'inline': style or 'auto', 'until': text} where they stand in the
    question, which is cut; {'const': letter -> text}.
  images: a column of paths, a text or a list of them; 'imgs/{name}' for paths;
    a tuple of such. Beside: `columns` (several, of which some may be empty),
    `key` (of a dict in a list), `format` ('imgs/{}.png'), `kind` ('path',
    'embedded' bytes, 'base64'), `options` (of the loader), `optional` (there
    may be none) and `check` (a file that is missing makes the row unusable).
  id: '' for the file's name and the row's number.
  subject, study, site, date: as in `types.Record`; date has `order`.
  task, unit, demonstration: as in `types.Record`.
  split: the published split of a row.
  tolerance: {'rel': ..} or {'abs': ..}, or a part that holds such a dict.
  limits: the columns of an interval's ends.
  meta: columns to keep, or {name: part}; never those that name a patient.
  each: a column with a list of dicts, or JSON of it; each is a row of its own,
    laid over the row.
  keep: {column: values}; other rows are left out.
  blanks: texts that stand for an empty cell, such as '-'.
  raw: whether `meta['raw']` keeps the row, without media, `identifiers` and
    the columns of subject, study, site and date.
  identifiers: further columns that `raw` leaves out.
  verified: False where the layout is known from a description only; reading it
    logs a warning.
  """
  question: Any = 'question'
  answer: Any = ''
  answer_type: Any = 'auto'
  options: Any = ''
  images: Any = ''
  id: Any = ''
  subject: Any = ''
  study: Any = ''
  site: Any = ''
  date: Any = ''
  task: Any = ''
  unit: Any = ''
  demonstration: Any = ''
  split: Any = ''
  tolerance: Any = ''
  limits: Sequence[str] = ()
  meta: Any = ()
  each: str = ''
  keep: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  blanks: Sequence[str] = ()
  raw: bool = False
  identifiers: Sequence[str] = ()
  verified: bool = True


def parse(given: Any, defaults: Mapping[str, Any] | None = None) -> Fields:
  """A field map of a config's dict, laid over a layout's own.

  Raises:
    ValueError: an unknown part or key of a part, with the nearest ones.
  """
  if isinstance(given, Fields):
    return given
  given = {**(defaults or {}), **dict(plain(given))}
  known = [field.name for field in dataclasses.fields(Fields)]
  for name, part in given.items():
    if name not in known:
      raise ValueError(f'fields have no {name!r}; '
                       f'{lookup.nearest(name, known)}')
    if name in _LISTS:
      continue
    for piece in part if isinstance(part, (list, tuple)) else [part]:
      _check(name, piece)
  found = Fields(**given)
  _check_meta(found)
  return found


def plain(value: Any) -> Any:
  """A config's dicts and lists as plain ones."""
  if hasattr(value, 'to_dict'):
    return value.to_dict()
  return dict(value) if isinstance(value, Mapping) else value


def record(row: cells.Row, fields: Fields,
           media: Sequence[types.Media] | None = None) -> types.Record:
  """The Record of a row.

  Args:
    row: of a reader.
    fields: the map.
    media: in place of what `fields.images` says.

  Raises:
    Unusable: the row makes none.
  """
  values, blanks = row.values, fields.blanks
  text = {name: cells.string(cells.value(values, getattr(fields, name), blanks))
          for name in ('id', 'question', 'task', 'unit', 'demonstration')}
  if not text['question']:
    raise encodings.Unusable('no question')
  if fields.id and not text['id']:
    raise encodings.Unusable('no id')
  text['id'] = text['id'] or _place(row)
  text['question'], options = _options(values, fields, text['question'])
  kind, answer = _answer(values, fields, options, text['unit'])
  if media is None:
    media = cells.images(row, fields.images)
  try:
    return types.Record(
        answer=answer, answer_type=kind, options=options, media=tuple(media),
        meta=_meta(values, fields, kind, answer),
        tolerance=_tolerance(values, fields),
        source=f'{row.file}:{row.number}', **text, **_identity(values, fields))
  except encodings.Unusable:
    raise
  except ValueError as error:
    raise encodings.Unusable('not a record', str(error)) from None


def _place(row: cells.Row) -> str:
  name = pathlib.PurePosixPath(row.file).with_suffix('').as_posix()
  part = f'#{row.values["@each"]}' if '@each' in row.values else ''
  return f'{name}:{row.number}{part}'


def _options(values: Mapping[str, Any], fields: Fields,
             question: str) -> tuple[str, dict[str, str]]:
  """The question, cut where it repeats its options, and these."""
  part = fields.options
  if not part:
    return question, {}
  if not isinstance(part, Mapping):
    part = {'column': part}
  until = part.get('until', '')
  if 'inline' in part:
    return encodings.inline(question, part['inline'], until)
  if 'columns' in part:
    found = encodings.columns(values, part['columns'], fields.blanks)
  else:
    given = part.get('const') or cells.looked_up(values, part)
    if encodings.absent(given, fields.blanks):
      if part.get('optional', False):
        return question, {}
      raise encodings.Unusable('no options')
    found = encodings.options(given, part.get('encoding', 'auto'),
                              fields.blanks)
  if part.get('stem', False):
    question, repeated = encodings.inline(question, until=until)
    if {k: encodings.plain(v) for k, v in repeated.items()} != {
        k: encodings.plain(v) for k, v in found.items()}:
      raise encodings.Unusable('options in the question differ',
                               encodings.short(repeated))
  return question, found


def _answer(values: Mapping[str, Any], fields: Fields,
            options: Mapping[str, str], unit: str) -> tuple[str, Any]:
  """Answer type and answer."""
  kind, part = fields.answer_type, fields.answer
  if not (isinstance(kind, str) and kind in types.ANSWER_TYPES + ('auto',)):
    kind = cells.value(values, kind, fields.blanks)
  if kind not in types.ANSWER_TYPES + ('auto',):
    raise encodings.Unusable('answer type unknown', encodings.short(kind))
  if not part:
    return ('choice' if options else 'text') if kind == 'auto' else kind, None
  spec = part if isinstance(part, Mapping) else {'column': part}
  if 'columns' in spec:
    return 'states', answers.states(values, spec['columns'])
  found = cells.value(values, part, fields.blanks)
  if found is None or found == []:
    raise encodings.Unusable('no answer')
  if options and kind in answers.OPTION_TYPES + ('auto',):
    keys = gold.keys(found, options, spec.get('encoding', 'auto'),
                     several=kind in ('choices', 'auto'))
    if kind == 'auto':
      kind = 'choice' if len(keys) == 1 else 'choices'
    return kind, keys if kind == 'choices' else keys[0]
  if kind in answers.OPTION_TYPES:
    raise encodings.Unusable('no options', f'for answer type {kind!r}')
  if kind == 'auto':
    kind = 'yesno' if answers.polar(found) in ('yes', 'no') else 'text'
  return kind, answers.typed(
      found, kind, order=spec.get('order', 'mdy'), unit=unit,
      separator=spec.get('separator', ';'))


def _identity(values: Mapping[str, Any], fields: Fields) -> dict[str, str]:
  """Patient, study, site and day; what is wrong with them is not quoted."""
  found = {}
  for name in _IDENTITY:
    part = getattr(fields, name)
    try:
      found[name] = cells.string(cells.value(values, part, fields.blanks))
      if name == 'date' and found[name]:
        order = part.get('order', 'mdy') if isinstance(part, Mapping) else 'mdy'
        found[name] = answers.typed(found[name], 'date', order=order)
    except encodings.Unusable as error:
      raise encodings.Unusable(f'{name} unreadable', error.reason) from None
  return found


def _tolerance(values: Mapping[str, Any], fields: Fields) -> dict[str, float]:
  part = fields.tolerance
  if isinstance(part, Mapping) and not {'column', 'const'} & set(part):
    return dict(part)
  found = cells.value(values, part, fields.blanks) or {}
  if not isinstance(found, Mapping):
    raise encodings.Unusable('tolerance unreadable', encodings.short(found))
  return dict(found)


def _meta(values: Mapping[str, Any], fields: Fields, kind: str,
          answer: Any) -> dict[str, Any]:
  given = fields.meta
  parts = dict(given) if isinstance(given, Mapping) else {n: n for n in given}
  meta = {}
  for name, part in parts.items():
    found = cells.value(values, part, fields.blanks)
    if found is not None:
      meta[name] = _jsonable(found)
  if kind == 'interval' and answer not in (None, types.UNANSWERABLE):
    meta['limits'] = [answers.typed(cells.cell(values, name), 'float')
                      for name in fields.limits]
  if fields.raw:
    hidden = {*fields.identifiers, *cells.columns(
        [getattr(fields, name) for name in (*_IDENTITY, 'images')])}
    hidden |= {name.split('.')[0] for name in hidden}
    meta['raw'] = {name: _jsonable(found) for name, found in values.items()
                   if name not in hidden and not name.startswith('@')}
    if len(json.dumps(meta['raw'])) > MAX_RAW:
      raise encodings.Unusable('raw row too large',
                               f'over {MAX_RAW} characters')
  return meta


def _jsonable(found: Any) -> Any:
  if isinstance(found, Mapping):
    return {str(key): _jsonable(item) for key, item in found.items()}
  if isinstance(found, (list, tuple)):
    return [_jsonable(item) for item in found]
  if isinstance(found, (datetime.date, datetime.time)):
    return found.isoformat()
  if found is None or isinstance(found, (str, int, float, bool)):
    return found
  raise encodings.Unusable('cell is no text', f'{type(found).__name__} in meta')


def _check_meta(fields: Fields) -> None:
  """No column of an identity, and nothing that holds one, may go into meta."""
  secret = [*cells.columns([getattr(fields, name) for name in _IDENTITY]),
            *fields.identifiers]
  meta = fields.meta
  for column in cells.columns(list(meta.values()) if isinstance(
      meta, Mapping) else list(meta)):
    if any(f'{name}.'.startswith(f'{column}.') for name in secret):
      raise ValueError(f'fields.meta has {column!r}, which names a patient, a '
                       'study, a site or a day; meta is logged')


def _check(name: str, part: Any) -> None:
  if isinstance(part, str) or name == 'tolerance':
    return
  if not isinstance(part, Mapping):
    raise ValueError(f'fields.{name} is {part!r}; expected the name of a '
                     "column, or a dict such as {'const': ..}")
  known = _KEYS.get(name, _BASE)
  for key in part:
    if key not in known:
      raise ValueError(f'fields.{name} has no {key!r}; '
                       f'{lookup.nearest(key, list(known))}')
  if name == 'images' and part.get('kind', 'path') not in _KINDS:
    raise ValueError(f'fields.images kind {part["kind"]!r}; expected one of '
                     f'{", ".join(_KINDS)}')
  if not {'column', 'columns', 'const', 'inline'} & set(part):
    raise ValueError(f'fields.{name} is {dict(part)!r}; expected a column, '
                     f'columns, const or inline among its keys')
