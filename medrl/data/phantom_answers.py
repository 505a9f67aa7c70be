"""Questions about a phantom world, their answers, and reasoning that a program
can check against the state.

Wording is short, since small policies with small vocabularies read it. It
knows no record but in `check_trace`, and draws nothing. Phantom, no clinical
data: sides and sizes are those of ellipses.
"""

from collections.abc import Callable
import re
from typing import Any

from medrl import types
from medrl.data import phantom_world

ANSWER_TYPES = {
    'present': 'yesno', 'side': 'choice', 'organ': 'choice',
    'change': 'choice', 'count': 'int', 'diameter': 'float', 'box': 'box',
    'boxes': 'boxes', 'report': 'text'}
# What is asked for equally often; see `stratum`.
STRATA = {
    'present': ('no', 'yes'), 'side': ('left', 'right'),
    'organ': phantom_world.ORGANS, 'change': phantom_world.CHANGES,
    'count': (0, 1, 2, 3), 'diameter': (0, 1, 2), 'box': phantom_world.ORGANS,
    'boxes': (1, 2, 3), 'report': (0, 1, 2, 3)}
# The steps of a task's trace, in order; each is one key of `check_trace`.
STEPS = {
    'present': ('lesions',), 'side': ('lesions', 'side'),
    'organ': ('lesions', 'sizes', 'largest'),
    'change': ('now', 'earlier', 'change'), 'count': ('lesions', 'count'),
    'diameter': ('pixels', 'spacing', 'product'), 'box': ('largest',),
    'boxes': ('lesions', 'count'),
    'report': ('lesions', 'count')}
TOLERANCE = {'diameter': {'rel': .2}}
_CLEAR = 3     # pixels between the largest lesion and the next
_CLOSE = 1     # pixels by which a stated size may be off
_QUESTIONS = {
    'present': 'Is there a lesion?',
    'side': 'Patient side of the lesion?',
    'organ': 'Which organ has the largest lesion?',
    'change': 'Image 1: now. Image 2: earlier. Change of the lesion?',
    'count': 'How many lesions?',
    'diameter': 'Spacing {spacing:g} mm. Long diameter of the largest lesion '
                'in mm?',
    'box': 'Box of the largest lesion in pixels?',
    'boxes': 'Boxes of all lesions in pixels?',
    'report': 'Report?'}


def question(task: str, state: phantom_world.World) -> str:
  """The text of the question, without options."""
  return _QUESTIONS[task].format(spacing=state.spacing)


def largest(state: phantom_world.World) -> phantom_world.Lesion | None:
  """The largest lesion; None without lesions or where two are about equal."""
  ordered = sorted(state.lesions, key=lambda lesion: -lesion.long)
  if len(ordered) > 1:
    first, second = (phantom_world.pixels(state, x) for x in ordered[:2])
    if first - second < _CLEAR:
      return None
  return ordered[0] if ordered else None


def stratum(task: str, state: phantom_world.World,
            difficulty: phantom_world.Difficulty) -> Any:
  """Which of STRATA[task] the world belongs to; None if it cannot be asked.

  It is the answer, or where that is no category, the third of the range of
  sizes (diameter), the organ (box) or the number of lesions (boxes, report).
  """
  if task in ('count', 'boxes', 'report'):
    return len(state.lesions)
  if task == 'present':
    return 'yes' if state.lesions else 'no'
  if task == 'side':
    sides = {phantom_world.side(state, x) for x in state.lesions}
    return sides.pop() if len(sides) == 1 else None
  lesion = largest(state)
  if lesion is None:
    return None
  if task == 'diameter':
    width = difficulty.largest - difficulty.smallest + 1
    size = phantom_world.pixels(state, lesion)
    return int(3 * (size - difficulty.smallest) / width)
  if task == 'change':
    organ = next(o for o in state.organs if o.name == lesion.organ)
    size = phantom_world.pixels(state, lesion)
    fair = phantom_world.has_room(size, organ, difficulty)
    return state.change if fair and len(state.lesions) == 1 else None
  return lesion.organ


def answer(task: str, state: phantom_world.World) -> Any:
  """The true answer: of a choice its text, else as in `types.Record`."""
  organs = [lesion.organ for lesion in state.lesions]
  if task == 'present':
    return 'yes' if organs else 'no'
  if task == 'count':
    return len(organs)
  if task == 'change':
    return state.change
  if task == 'side':
    return phantom_world.side(state, state.lesions[0])
  if task == 'boxes':
    return [list(phantom_world.box(state, x)) for x in state.lesions]
  if task == 'report':
    if not organs:
      return 'Findings: no lesion. Impression: normal.'
    plural = 's' if len(organs) > 1 else ''
    return (f'Findings: lesion in {", ".join(organs)}. Impression: '
            f'{len(organs)} lesion{plural}.')
  lesion = largest(state)
  return {'organ': lesion.organ, 'diameter': round(lesion.long, 1),
          'box': list(phantom_world.box(state, lesion))}[task]


def written(value: Any) -> str:
  """An answer as it stands in an answer block."""
  if isinstance(value, float):
    return f'{value:g}'
  return str(value).replace(' ', '') if isinstance(value, list) else str(value)


def trace(task: str, state: phantom_world.World) -> str:
  """The reasoning, of under 25 words, whose steps are STEPS[task]."""
  def size(lesion, time=0):
    return f'{phantom_world.pixels(state, lesion, time):.0f} px'
  steps = STEPS[task]
  sized = 'sizes' in steps
  names = [f'{x.organ} {size(x)}' if sized else x.organ for x in state.lesions]
  listed = f'Lesions: {", ".join(names) or "none"}.'
  if task == 'present':
    return listed
  if 'count' in steps:
    return f'{listed} Count {len(names)}.'
  if task == 'side':
    return f'{listed} Side {answer(task, state)}.'
  lesion = largest(state)
  if task == 'change':
    return (f'Now {size(lesion)}, earlier {size(lesion, 1)}. Change '
            f'{state.change}.')
  if task == 'diameter':
    return (f'Largest {size(lesion)} x {state.spacing:g} mm = '
            f'{lesion.long:g} mm.')
  largest_one = f'Largest {lesion.organ}.'
  return f'{listed} {largest_one}' if sized else largest_one


_NUMBER = r'(\d+(?:\.\d+)?)'
_PRODUCT = rf'Largest {_NUMBER} px x {_NUMBER} mm = {_NUMBER} mm'


def check_trace(record: types.Record, text: str) -> dict[str, bool]:
  """Which steps of a completion are true of the phantom record's world.

  Args:
    record: of `phantom.records`, with `meta['world']` and its answer.
    text: `<think>..</think><answer>..</answer>` in the words of `trace`.

  Returns:
    step -> whether it is there and true, for the steps of the record's task,
    and 'answer' for the answer block, which must be written as `written` does
    (a number may be within the record's tolerance). 'product' is arithmetic:
    whether the two stated factors give the stated result.
  """
  state = phantom_world.from_dict(record.meta['world'])
  thought, _, rest = text.partition('</think>')
  steps = {step: _CHECKS[step](state, thought) for step in STEPS[record.task]}
  block = re.search('<answer>(.*)</answer>', rest or thought, re.DOTALL)
  return steps | {'answer': bool(block) and _right(record, block[1])}


def _right(record: types.Record, given: str) -> bool:
  if record.answer_type == 'float' and re.fullmatch(_NUMBER, given):
    off = abs(float(given) - record.answer)
    return off <= record.tolerance['rel'] * record.answer
  return given == written(record.answer)


def _listed(thought: str) -> dict[str, str] | None:
  """Organ -> size as written ('' for none), of the list of lesions."""
  found = re.search(r'Lesions: ([^.]*)\.', thought)
  if not found or found[1] == 'none':
    return {} if found else None
  parts = [re.fullmatch(r'(\D+?)(?: (\d+) px)?', p)
           for p in found[1].split(', ')]
  return {p[1]: p[2] or '' for p in parts} if all(parts) else None


def _sizes(state, thought) -> bool:
  listed = _listed(thought)
  true = {x.organ: phantom_world.pixels(state, x) for x in state.lesions}
  return listed is not None and listed.keys() == true.keys() and all(
      size and abs(float(size) - true[organ]) <= _CLOSE
      for organ, size in listed.items())


def _word(pattern: str, expected: Callable[[phantom_world.World], str]):
  def check(state, thought):
    found = re.search(pattern, thought)
    return bool(found) and found[1] == expected(state)
  return check


def _pixels(pattern: str, time: int):
  def check(state, thought):
    found, lesion = re.search(pattern, thought), largest(state)
    return bool(found and lesion) and abs(
        float(found[1]) - phantom_world.pixels(state, lesion, time)) <= _CLOSE
  return check


def _product(state, thought) -> bool:
  del state  # arithmetic is right or wrong by itself
  found = re.search(_PRODUCT, thought)
  if not found:
    return False
  a, b, c = map(float, found.groups())
  return abs(a * b - c) <= .05


def _organ(state: phantom_world.World) -> str:
  lesion = largest(state)
  return lesion.organ if lesion else ''


_CHECKS = {
    'lesions': lambda state, thought: _listed(thought) is not None and set(
        _listed(thought)) == set(phantom_world.organs(state)),
    'sizes': _sizes,
    'count': _word(r'Count (\d+)\.', lambda state: str(len(state.lesions))),
    'side': _word(r'Side (\w+)\.', lambda state: answer('side', state)),
    'largest': _word(r'Largest (\D+)\.', _organ),
    'now': _pixels(rf'Now {_NUMBER} px', 0),
    'earlier': _pixels(rf'earlier {_NUMBER} px', 1),
    'change': _word(r'Change (\w+)\.', lambda state: state.change),
    'pixels': _pixels(_PRODUCT, 0),
    'spacing': _word(_PRODUCT.replace(_NUMBER, r'\d+(?:\.\d+)?', 1),
                     lambda state: f'{state.spacing:g}'),
    'product': _product,
}
