"""The Qwen chat template, in segments.

A segment is markup, written by the project and parsed for special tokens, or
text of a record, which never is. It knows neither ids nor pixels.
"""

from collections.abc import Sequence
import dataclasses
import string

from medrl import lookup
from medrl import types

FIELDS = ('question', 'options')
MEDIA = {kind: f'<|vision_start|><|{kind}_pad|><|vision_end|>'
         for kind in ('image', 'video')}


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What is said around a record.

  `system` is the system turn, '' for none. `user` is a format string of the
  user turn with the fields {question} and {options}; a literal brace is
  doubled. Raises ValueError on another field.
  """
  system: str = 'You are a helpful assistant.'
  user: str = '{question}\n{options}'

  def __post_init__(self):
    try:
      parts = list(string.Formatter().parse(self.user))
    except ValueError as error:
      raise ValueError(f'user format {self.user!r}: {error}') from error
    for _, field, spec, conversion in parts:
      if field is None:
        continue
      if field not in FIELDS:
        raise ValueError(
            f'user format {self.user!r}: field {field!r} is unknown; '
            f'{lookup.nearest(field, list(FIELDS))}')
      if spec or conversion:
        raise ValueError(f'user format {self.user!r}: write {{{field}}}, '
                         f'without a format or conversion')


def options_text(record: types.Record) -> str:
  """Lines 'A. text' in the record's order of options, '' without options."""
  return '\n'.join(f'{letter}. {text}'
                   for letter, text in record.options.items())


def segments(record: types.Record, media: Sequence[str],
             prompt: Prompt) -> list[tuple[str, bool]]:
  """The rendered prompt, up to where the assistant begins to write.

  Segments are cut at special tokens only, so that ids made segment by segment
  equal those of the whole text where a record holds no special token.

  Args:
    record: its question and options are shown.
    media: 'image' or 'video' for each picture or clip; they come first in the
      user turn.
    prompt: system turn and user format.

  Returns:
    (text, whether it is markup) in order.
  """
  body = prompt.user.format(question=record.question,
                            options=options_text(record))
  before = ''
  if prompt.system:
    before = f'<|im_start|>system\n{prompt.system}<|im_end|>\n'
  if media:
    before += '<|im_start|>user\n' + ''.join(MEDIA[kind] for kind in media)
  else:
    before, body = before + '<|im_start|>', 'user\n' + body
  return [(before, True), (body, False),
          ('<|im_end|>\n<|im_start|>assistant\n', True)]
