"""The embedded default data set: questions about phantom abdominal slices.

Images are drawn in the workers from their path, `phantom/<seed>/<index>/
<time>`, so nothing is stored or downloaded. Every answer type occurs, every
answer follows from a known state, and every answer is asked equally often. It
is a phantom, no clinical data: it shows that learning works, never that a
model can read scans.

Here are records and rendering; `phantom_world` draws the state and
`phantom_answers` asks about it.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import re

import numpy as np

from medrl import lookup
from medrl import types
from medrl.data import phantom_answers
from medrl.data import phantom_world

TASKS = tuple(phantom_answers.STRATA)
check_trace = phantom_answers.check_trace
# First world of a split. 2**31 worlds a split are more than can be used.
_FIRST = {'train': 0, 'validation': 2 ** 31, 'test': 2 ** 32}
_SCAN = 20_000   # worlds looked at before a stratum counts as impossible


def records(root: str, split: str, *, count: int, seed: int = 0,
            tasks: Sequence[str] = TASKS, demonstration_error: float = 0.,
            trace: bool = True, permute: bool = True,
            difficulty: Mapping[str, float] | tuple = ()
            ) -> Iterator[types.Record]:
  """Records of phantom patients, one question each, tasks taking turns.

  Within a task the answers (or sizes, organs, numbers of lesions, where they
  are no category) take turns too. A larger `count` only adds records. Splits
  share no patient.

  Args:
    root: not used; the phantom reads no file.
    split: 'train', 'validation' or 'test'.
    count: records.
    seed: of the worlds; another seed is another population.
    tasks: some of TASKS.
    demonstration_error: fraction of records whose demonstration is by a hasty
      reader (`phantom_world.misread`), who may still be right.
      `meta['demonstration_correct']` tells.
    trace: whether demonstrations reason before they answer.
    permute: whether each record has its options in an order of its own.
    difficulty: those fields of `phantom_world.Difficulty` that differ.

  Yields:
    Records with `meta['world']`, the json-able state.

  Raises:
    ValueError: an unknown split, task or field, or sizes that leave an answer
      impossible.
  """
  del root
  hard = _difficulty(difficulty)
  _check(split, tasks, demonstration_error)
  index = _FIRST[split]
  for number in range(count):
    turn, which = divmod(number, len(tasks))
    task = tasks[which]
    strata = phantom_answers.STRATA[task]
    state = _find(seed, index, task, strata[turn % len(strata)], hard)
    index = state.index + 1
    record = _record(state, task, permute, hard)
    rng = np.random.default_rng((seed, state.index, 4))
    shown = state
    if rng.random() < demonstration_error:
      shown = phantom_world.misread(state, task)
    yield _demonstrate(record, shown, trace)


def render(path: str, root: str, **difficulty) -> np.ndarray:
  """Draws the image `phantom/<seed>/<index>/<time>`; a loader of `Media`.

  Args:
    path: `time` is 0 now, 1 in the earlier study.
    root: not used.
    **difficulty: fields of `phantom_world.Difficulty`.

  Returns:
    uint8 [112, 112, 3].

  Raises:
    ValueError: a path of another form.
  """
  del root
  found = re.fullmatch(r'phantom/(\d+)/(\d+)/([01])', path)
  if not found:
    raise ValueError(f'{path!r} names no phantom image; expected '
                     f'phantom/<seed>/<index>/<0 or 1>')
  seed, index, time = map(int, found.groups())
  state = phantom_world.world(seed, index, _difficulty(difficulty))
  return phantom_world.draw(state, time)


def _difficulty(fields) -> phantom_world.Difficulty:
  fields = dict(fields)
  known = [f.name for f in dataclasses.fields(phantom_world.Difficulty)]
  for name in fields:
    if name not in known:
      raise ValueError(f'difficulty {name!r}: {lookup.nearest(name, known)}')
  return phantom_world.Difficulty(**fields)


def _check(split: str, tasks: Sequence[str], error: float) -> None:
  if split not in _FIRST:
    raise ValueError(f'split {split!r}; expected one of {sorted(_FIRST)}')
  if not tasks:
    raise ValueError(f'no task; expected some of {TASKS}')
  for task in tasks:
    if task not in TASKS:
      raise ValueError(f'task {task!r}: {lookup.nearest(task, list(TASKS))}')
  if not 0 <= error <= 1:
    raise ValueError(f'demonstration_error {error}; expected 0 to 1')


def _find(seed, start, task, wanted, hard) -> phantom_world.World:
  """The first world from index `start` that belongs to the stratum."""
  for index in range(start, start + _SCAN):
    state = phantom_world.world(seed, index, hard)
    if phantom_answers.stratum(task, state, hard) == wanted:
      return state
  raise ValueError(
      f'task {task!r}: none of {_SCAN} worlds is of stratum {wanted!r} with '
      f'{hard}; widen the range of sizes or leave the task out')


def _record(state, task, permute, hard) -> types.Record:
  value = phantom_answers.answer(task, state)
  options = {}
  if phantom_answers.ANSWER_TYPES[task] == 'choice':
    order = phantom_answers.STRATA[task]
    if permute:
      rng = np.random.default_rng((state.seed, state.index, 3))
      order = rng.permutation(order)
    options = dict(zip('ABCD', map(str, order)))
    value = _letter(options, value)
  patient = f'{state.seed}/{state.index}'
  images = tuple(
      types.Media(f'phantom/{patient}/{time}', 'medrl.data.phantom.render',
                  dataclasses.asdict(hard))
      for time in range(2 if task == 'change' else 1))
  return types.Record(
      id=f'phantom/{patient}/{task}', subject=f'phantom/{patient}',
      question=phantom_answers.question(task, state), answer=value,
      answer_type=phantom_answers.ANSWER_TYPES[task], images=images,
      options=options, tolerance=phantom_answers.TOLERANCE.get(task, {}),
      source='phantom', task=task,
      # Through JSON, so that what is written beside results is what is used.
      meta={'world': json.loads(json.dumps(dataclasses.asdict(state)))})


def _letter(options: Mapping[str, str], value: str) -> str:
  return next(letter for letter, text in options.items() if text == value)


def _demonstrate(record, shown, trace) -> types.Record:
  """The record with the demonstration that fits the world `shown`."""
  value = phantom_answers.answer(record.task, shown)
  if record.options:
    value = _letter(record.options, value)
  text = f'<answer>{phantom_answers.written(value)}</answer>'
  if trace:
    text = f'<think>{phantom_answers.trace(record.task, shown)}</think>{text}'
  steps = check_trace(record, text)
  right = all(steps.values()) if trace else steps['answer']
  return dataclasses.replace(
      record, demonstration=text,
      meta={**record.meta, 'demonstration_correct': right})
