"""Conversations with images, as LLaVA, PubMedVision and ShareGPT keep them.

`conversations: [{from: human | gpt | system, value}]`, images at `<image>`.
One exchange is asked for: the turn before is context, the turn after left
out. Rewards of whole conversations are not made here. Rows of `messages`
(`swift`, `verl`) are read through the same functions.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import re
from typing import Any

from medrl import types
from medrl.data import cells
from medrl.data import encodings
from medrl.data import fields as fields_lib
from medrl.data import reading
from medrl.data import tabular

_ROLES = {'human': 'user', 'user': 'user', 'gpt': 'assistant',
          'assistant': 'assistant', 'system': 'system'}
# More are no conversation about images.
MAX_PLACES = 256
DEFAULTS = {'id': 'id', 'question': '@question', 'answer': '@reply',
            'answer_type': 'text', 'demonstration': '@reply',
            'images': {'column': 'image', 'optional': True},
            'meta': {'system': '@system'}}
Exchange = tuple[str, str | None]


@dataclasses.dataclass(frozen=True)
class Talk:
  """What is taken of a conversation.

  column: with the turns.
  turn: 'last' (the default), 'first', a number from 0, or 'each' for a record
    of every exchange; earlier exchanges are written before the question.
  places: 'match', as many `<image>` as images; or 'optional', where none may
    stand, and images then come first (PubMedVision).
  """
  column: str
  turn: str | int = 'last'
  places: str = 'match'

  def __post_init__(self):
    if self.turn not in ('first', 'last', 'each') and not isinstance(
        self.turn, int):
      raise ValueError(f"turn {self.turn!r}; expected 'first', 'last', 'each' "
                       'or a number from 0')
    if self.places not in ('match', 'optional'):
      raise ValueError(f"places {self.places!r}; expected 'match' or "
                       "'optional'")


def records(root: str, split: str, *, file: Any, fields: Any = (),
            turn: str | int = 'last', places: str = 'match',
            parts: Any = None, limit: int = 0, on_bad: str = 'error',
            home: Any = None) -> Iterator[types.Record]:
  """Records of one split of files of conversations (JSON or JSON lines).

  Args:
    root: data root; image paths are relative to it.
    split: 'train', 'validation' or 'test'.
    file: as in `reading.records`.
    fields: laid over `DEFAULTS`; the question is the column '@question', the
      reply to it '@reply', the system turn '@system'.
    turn: which exchange; see `Talk`.
    places: 'match' or 'optional'; see `Talk`.
    parts, limit, on_bad, home: as in `reading.records`.

  Yields:
    Records, in the files' order.

  Raises:
    FileNotFoundError, ValueError: as in `reading.records`.
  """
  talk = Talk('conversations', turn, places)
  yield from reading.records(
      lambda name: tabular.rows(root, name), root, split, file=file,
      spec=fields_lib.parse(fields, DEFAULTS), parts=parts, limit=limit,
      on_bad=on_bad, home=home,
      build=lambda row, spec: build(
          row, spec, talk, {'<image>': cells.images(row, spec.images)}))


def build(row: cells.Row, spec: fields_lib.Fields, talk: Talk,
          supply: Mapping[str, Sequence[types.Media]]) -> list[types.Record]:
  """The records of a row with a conversation.

  Args:
    row: of a file.
    spec: a field map, over '@question', '@reply' and '@system'.
    talk: which turns.
    supply: placeholder -> its media, in order.

  Raises:
    Unusable: roles do not take turns, there is no such turn, or placeholders
      and media differ in number.
  """
  system, exchanges = exchanged(cells.cell(row.values, talk.column))
  _counted([user for user, _ in exchanges], supply, talk.places)
  if talk.turn == 'each':
    wanted = list(range(len(exchanges)))
  else:
    wanted = [{'first': 0, 'last': len(exchanges) - 1}.get(talk.turn,
                                                           talk.turn)]
  found = []
  for turn in wanted:
    if not 0 <= turn < len(exchanges):
      raise encodings.Unusable('no such turn', f'{turn} of {len(exchanges)}')
    users, media = placed([user for user, _ in exchanges[:turn + 1]], supply)
    values = {**row.values, '@system': system, '@reply': exchanges[turn][1],
              '@question': written(users, [r for _, r in exchanges[:turn]])}
    record = fields_lib.record(row._replace(values=values), spec, media)
    if talk.turn == 'each':
      record = dataclasses.replace(record, id=f'{record.id}#{turn}')
    found.append(record)
  return found


def exchanged(messages: Any) -> tuple[str, list[Exchange]]:
  """The system turn, '' for none, and each user's turn with its reply.

  Raises:
    Unusable: these are no messages, or roles do not take turns.
  """
  if not isinstance(messages, (list, tuple)) or not messages:
    raise encodings.Unusable('no conversation', encodings.short(messages))
  turns = [_turn(message) for message in messages]
  system = turns.pop(0)[1] if turns[0][0] == 'system' else ''
  roles = [role for role, _ in turns]
  if not turns or roles != ['user', 'assistant'] * (len(roles) // 2) + [
      'user'] * (len(roles) % 2):
    raise encodings.Unusable('turns do not alternate', ', '.join(roles[:8]))
  texts = [text for _, text in turns] + [None]
  return system, list(zip(texts[0::2], texts[1::2]))


def written(users: Sequence[str], replies: Sequence[str | None]) -> str:
  """The last user's turn, behind what was said before, as one text."""
  before = [f'User: {user}\nAssistant: {reply}\n'
            for user, reply in zip(users, replies)]
  return '\n'.join([*before, f'User: {users[-1]}']) if before else users[-1]


def placed(users: Sequence[str], supply: Mapping[str, Sequence[types.Media]]
           ) -> tuple[list[str], list[types.Media]]:
  """Texts without placeholders, and the media that they show, in order.

  Media come before the text in a prompt. So placeholders that stand together
  at the beginning or the end of the first turn just go, and all others become
  '[image 2]': the second of all media.
  """
  marks = re.compile('|'.join(map(re.escape, supply)))
  if not any(marks.search(text) for text in users):
    return list(users), [medium for media in supply.values()
                         for medium in media]
  left = {name: list(media) for name, media in supply.items()}
  media = []

  def show(match):
    media.append(left[match[0]].pop(0))
    return f'[{match[0][1:-1]} {len(media)}]'

  texts = [marks.sub(show, text) for text in users]
  inner = _without_edges(users[0], supply)
  if not any(marks.search(text) for text in [inner, *users[1:]]):
    texts = [inner, *users[1:]]
  return texts, media


def _counted(users: Sequence[str], supply: Mapping[str, Sequence[Any]],
             places: str) -> None:
  for name, media in supply.items():
    count = sum(text.count(name) for text in users)
    if count > MAX_PLACES or count != len(media) and not (
        places == 'optional' and not count):
      raise encodings.Unusable('placeholders and media differ',
                               f'{count} {name}, {len(media)} media')


def _without_edges(text: str, names: Mapping[str, Any]) -> str:
  text, before = text.strip(), ''
  while text != before:
    before = text
    for name in names:
      text = text.removeprefix(name).removesuffix(name).strip()
  return text


def _turn(message: Any) -> tuple[str, str]:
  if not isinstance(message, Mapping):
    raise encodings.Unusable('no conversation', encodings.short(message))
  role = message.get('from', message.get('role'))
  text = message.get('value', message.get('content'))
  if role not in _ROLES:
    raise encodings.Unusable('role unknown', encodings.short(role))
  if isinstance(text, (list, tuple)):
    text = ''.join(_piece(piece) for piece in text)
  if not isinstance(text, str):
    raise encodings.Unusable('turn is no text', encodings.short(text))
  return _ROLES[role], encodings.bounded(text)


def _piece(piece: Any) -> str:
  """A piece of a turn in pieces: {type: text, text} or {type: image}."""
  kind = piece.get('type') if isinstance(piece, Mapping) else None
  if kind == 'text' and isinstance(piece.get('text'), str):
    return piece['text']
  if kind in ('image', 'video'):
    return f'<{kind}>'
  raise encodings.Unusable('turn is no text', encodings.short(piece))
