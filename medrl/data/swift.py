"""Conversations of ms-swift: `messages`, `images`, `videos`, `objects`.

`<ref-object>` and `<bbox>` in a text are filled from `objects.ref` and
`objects.bbox`; ECG-R1 adds `objects.ecg`, stems of WFDB records shown at
`<ecg>`, and `solution` for rewards. Media may be missing from a row. Read as
ms-swift (modelscope) and ECG-R1 (PKUDigitalHealth) do; calls of tools are not.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from medrl import types
from medrl.data import cells
from medrl.data import encodings
from medrl.data import fields as fields_lib
from medrl.data import reading
from medrl.data import sharegpt
from medrl.data import tabular

DEFAULTS = {'question': '@question', 'answer': '@reply', 'answer_type': 'text',
            'demonstration': '@reply', 'meta': {'system': '@system'},
            'images': {'column': 'images', 'key': 'path', 'optional': True}}
_VIDEOS = {'column': 'videos', 'optional': True}
_ECGS = {'column': 'objects.ecg', 'optional': True}


def records(root: str, split: str, *, file: Any, fields: Any = (),
            ecg: Any = '{}.hea', turn: str | int = 'last',
            places: str = 'match', parts: Any = None, limit: int = 0,
            on_bad: str = 'error', home: Any = None) -> Iterator[types.Record]:
  """Records of one split of files of messages (JSON lines).

  Args:
    root: data root; paths are relative to it.
    split: 'train', 'validation' or 'test'.
    file: as in `reading.records`.
    fields: laid over `DEFAULTS`; see `sharegpt.records`.
    ecg: header file of an ECG, with {} for its stem: 'ecg_timeseries/{}.hea';
      or {'format': that, 'options': the loader's}, to have it as a signal.
    turn: which exchange; see `sharegpt.Talk`.
    places: 'match' or 'optional'; see `sharegpt.Talk`.
    parts, limit, on_bad, home: as in `reading.records`.

  Yields:
    Records, in the files' order.

  Raises:
    FileNotFoundError, ValueError: as in `reading.records`.
  """
  talk = sharegpt.Talk('messages', turn, places)
  ecgs = _ECGS | (fields_lib.plain(ecg) if not isinstance(ecg, str)
                  else {'format': ecg})

  def build(row, spec):
    supply = {'<image>': cells.images(row, spec.images),
              '<video>': cells.images(row, _VIDEOS),
              '<ecg>': cells.images(row, ecgs)}
    return sharegpt.build(grounded(row), spec, talk, supply)

  yield from reading.records(
      lambda name: tabular.rows(root, name), root, split, file=file,
      spec=fields_lib.parse(fields, DEFAULTS), build=build, parts=parts,
      limit=limit, on_bad=on_bad, home=home)


def grounded(row: cells.Row) -> cells.Row:
  """The row with the names and boxes of `objects` in its messages.

  A box is written [x1, y1, x2, y2] in the frame that the row has it in.

  Raises:
    Unusable: there are more or fewer of them than places in the text.
  """
  objects = row.values.get('objects') or {}
  messages = row.values.get('messages')
  left = {'<ref-object>': list(objects.get('ref') or ()),
          '<bbox>': list(objects.get('bbox') or ())}
  if not isinstance(messages, list) or not any(left.values()):
    return row
  filled = []
  for message in messages:
    text = message.get('content') if isinstance(message, Mapping) else None
    if isinstance(text, str):
      message = {**message, 'content': _filled(encodings.bounded(text), left)}
    filled.append(message)
  if any(left.values()):
    raise encodings.Unusable('objects and places differ', 'too many objects')
  return row._replace(values={**row.values, 'messages': filled})


def _filled(text: str, left: Mapping[str, list[Any]]) -> str:
  for name, values in left.items():
    first, *others = text.split(name)
    if len(others) > len(values):
      raise encodings.Unusable('objects and places differ', 'too few objects')
    text = first + ''.join(f'{values.pop(0)}{other}' for other in others)
  return text
