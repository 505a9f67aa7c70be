"""Records from a file of JSON lines, one question a line.

A line holds `id, images, question, answer, answer_type`, and may hold
`subject, study, site, date, options, tolerance, task, demonstration, meta,
unit`; further keys go into meta. `images` are the media of the record, paths
relative to the data root, or objects of a `path` and options of its reader,
such as `{"path": "ct.nii.gz", "count": 8, "window": "lung"}`; they are read by
`medrl.media.medium`, not here. An `answer` of null is to be predicted. Other
layouts are read by field map (`tabular`).
"""

from collections.abc import Callable, Iterator, Sequence
import datetime
import json
import logging
import math
import pathlib
from typing import Any

from medrl import types
from medrl.data import splits

_REQUIRED = {'id': str, 'images': list, 'question': str, 'answer': object,
             'answer_type': str}
_OPTIONAL = {'subject': str, 'options': dict, 'tolerance': dict, 'task': str,
             'demonstration': str, 'meta': dict, 'unit': str, 'study': str,
             'site': str, 'date': str}
_EXPECTED = {
    'choice': 'a letter of the options', 'ordinal': 'a letter of the options',
    'choices': 'a list of letters of the options',
    'yesno': "'yes' or 'no'", 'yesnomaybe': "'yes', 'no' or 'maybe'",
    'int': 'an integer', 'float': 'a finite number',
    'interval': 'a finite number', 'quantity': 'a finite number',
    'dimensions': 'a list of finite numbers',
    'date': "'YYYY-MM-DD'", 'duration': '[weeks, days]',
    'labels': 'a list of strings',
    'states': f'an object of {", ".join(types.STATES)}',
    'box': '[x1, y1, x2, y2] with x1 < x2 and y1 < y2',
    'boxes': 'a list of [x1, y1, x2, y2] with x1 < x2 and y1 < y2',
    'text': 'a string'}


def records(root: str, split: str, *, file: str, tasks: Sequence[str] = (),
            limit: int = 0, exclude: Sequence[str] = (),
            validation: float = .1, test: float = .1,
            seed: int = 0) -> Iterator[types.Record]:
  """Records of one split of a file.

  The split is drawn over the whole file, before `tasks` and `limit`, so that
  these never move a patient; see `splits.assign`.

  Args:
    root: data root; image paths are relative to it.
    split: 'train', 'validation' or 'test'.
    file: path of the file, relative to `root`.
    tasks: tasks to keep; all if empty.
    limit: records at most; 0 for all.
    exclude: ids of records to leave out, such as those that an overlap check
      names; it is logged how many of them the file does not have.
    validation: fraction of patients.
    test: fraction of patients.
    seed: of the split.

  Yields:
    Records, in the file's order.

  Raises:
    FileNotFoundError: the root or the file is missing.
    ValueError: a line that is no record, with file, line and id; or a task
      that the file does not have.
  """
  found = read(root, file)
  known = {r.task for r in found}
  for task in tasks:
    if task not in known:
      raise ValueError(f'{file}: no record of task {task!r}; it has '
                       f'{sorted(known)}')
  absent = set(exclude) - {r.id for r in found}
  if absent:
    logging.warning('%s has not %d of the %d records that exclude names', file,
                    len(absent), len(exclude))
  chosen = [r for r in splits.assign(found, split, validation=validation,
                                     test=test, seed=seed)
            if (not tasks or r.task in tasks) and r.id not in exclude]
  yield from chosen[:limit or None]


def read(root: str, file: str) -> list[types.Record]:
  """All records of a file; errors as in `records`."""
  path = pathlib.Path(root) / file
  if not path.is_file():
    missing = 'file' if pathlib.Path(root).is_dir() else 'data root'
    raise FileNotFoundError(
        f'no {missing}: expected a file of JSON lines at {str(path)!r} (data '
        f'root {str(root)!r}, file {file!r})')
  found, lines = [], {}
  with path.open(encoding='utf-8') as handle:
    for number, line in enumerate(handle, 1):
      if not line.strip():
        continue
      record = _record(line, f'{file}:{number}')
      if record.id in lines:
        raise ValueError(f'{file}:{number}: id {record.id!r} was used in line '
                         f'{lines[record.id]}; expected every id once')
      lines[record.id] = number
      found.append(record)
  return found


def _record(line: str, where: str) -> types.Record:
  try:
    entry = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f'{where}: no JSON: {error}') from error
  if not isinstance(entry, dict):
    raise ValueError(f'{where}: {type(entry).__name__}, expected an object')
  where = f'{where}: record {entry.get("id")!r}'
  _check(entry, where)
  meta = {key: value for key, value in entry.items()
          if key not in _REQUIRED and key not in _OPTIONAL}
  fields = {key: entry[key] for key in _OPTIONAL if key in entry}
  fields['meta'] = meta | entry.get('meta', {})
  try:
    return types.Record(
        id=entry['id'], question=entry['question'], answer=entry['answer'],
        answer_type=entry['answer_type'], source=where.split(': ')[0],
        media=tuple(map(_medium, entry['images'])), **fields)
  except ValueError as error:   # a unit or limits that are missing
    raise ValueError(f'{where.split(": ")[0]}: {error}') from None


def _medium(given: str | dict[str, Any]) -> types.Media:
  if isinstance(given, str):
    return types.Media(given)
  options = {k: tuple(v) if isinstance(v, list) else v
             for k, v in given.items() if k != 'path'}
  return types.Media(given['path'], options=options)


def _names_a_file(given: Any) -> bool:
  path = given.get('path') if isinstance(given, dict) else given
  return isinstance(path, str)


def _check(entry: dict[str, Any], where: str) -> None:
  for key in _REQUIRED:
    if key not in entry:
      raise ValueError(f'{where}: no key {key!r}; it has {sorted(entry)}')
  for key, kind in (_REQUIRED | _OPTIONAL).items():
    if key in entry and not isinstance(entry[key], kind):
      raise ValueError(f'{where}: {key} is {entry[key]!r}; expected a JSON '
                       f'{_NAMES[kind]}')
  if not all(map(_names_a_file, entry['images'])):
    raise ValueError(f'{where}: images is {entry["images"]!r}; expected paths, '
                     f'strings or objects with a path and options')
  for name, kind in ('options', str), ('tolerance', float):
    values = entry.get(name, ())
    values = values.values() if isinstance(values, dict) else values
    if not all(_number(v) if kind is float else isinstance(v, str)
               for v in values):
      raise ValueError(f'{where}: {name} is {entry[name]!r}; expected its '
                       f'values to be {_NAMES[kind]}s')
  if entry['answer_type'] not in types.ANSWER_TYPES:
    raise ValueError(f'{where}: answer_type is {entry["answer_type"]!r}; '
                     f'expected one of {", ".join(types.ANSWER_TYPES)}')
  if entry['answer'] is not None and not _fits(entry):
    expected = _EXPECTED[entry['answer_type']]
    if 'options' in expected:
      expected += f' {sorted(entry.get("options", {}))}'
    raise ValueError(f'{where}: answer {entry["answer"]!r} to a question of '
                     f'type {entry["answer_type"]}; expected {expected}')


_NAMES = {str: 'string', list: 'array', dict: 'object', float: 'number',
          object: 'value'}


def _fits(entry: dict[str, Any]) -> bool:
  answer, options = entry['answer'], entry.get('options', {})
  kind = entry['answer_type']
  if answer == types.UNANSWERABLE and kind not in (
      'choice', 'choices', 'ordinal'):
    return True
  match kind:
    case 'choice' | 'ordinal':
      return isinstance(answer, str) and answer in options
    case 'choices':
      return _list(answer, lambda key: isinstance(key, str) and key in options)
    case 'yesno':
      return answer in ('yes', 'no')
    case 'yesnomaybe':
      return answer in ('yes', 'no', 'maybe')
    case 'int':
      return _whole(answer)
    case 'float' | 'interval' | 'quantity':
      return _number(answer)
    case 'dimensions':
      return _list(answer, _number)
    case 'duration':
      return _list(answer, _whole) and len(answer) == 2 and min(answer) >= 0
    case 'date':
      return isinstance(answer, str) and _date(answer)
    case 'labels':
      return _list(answer, lambda name: isinstance(name, str))
    case 'states':
      return isinstance(answer, dict) and all(
          state in types.STATES for state in answer.values())
    case 'box':
      return _box(answer)
    case 'boxes':
      return _list(answer, _box)
  return isinstance(answer, str)


def _list(value: Any, fits: Callable[[Any], bool]) -> bool:
  return isinstance(value, list) and all(map(fits, value))


def _whole(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _date(text: str) -> bool:
  try:
    return datetime.date.fromisoformat(text).isoformat() == text
  except ValueError:
    return False


def _number(value: Any) -> bool:
  return (isinstance(value, (int, float)) and not isinstance(value, bool)
          and math.isfinite(value))


def _box(value: Any) -> bool:
  return (isinstance(value, list) and len(value) == 4
          and all(map(_number, value))
          and value[0] < value[2] and value[1] < value[3])
