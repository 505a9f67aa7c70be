"""The embedded default data set: questions about phantom abdominal slices.

Images are drawn in the workers from their path, `phantom/<seed>/<index>/
<time>`, so nothing is stored or downloaded. Every answer type occurs, every
answer follows from a known state, and every answer is asked equally often. It
is a phantom, no clinical data: it shows that learning works, never that a
model can read scans.

Here are records and rendering; `phantom_world` draws the state and
`phantom_answers` asks about it. The same patients have more, each in a file of
its own with a `records` like the one here: `phantom_volume`, `phantom_cine`,
`phantom_signal`, `phantom_patient`, `phantom_pairs` and `phantom_path`.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import json

import numpy as np

from medrl import lookup
from medrl import types
from medrl.data import phantom_answers
from medrl.data import phantom_tasks
from medrl.data import phantom_world

TASKS = tuple(phantom_answers.STRATA)
check_trace = phantom_answers.check_trace


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
  phantom_tasks.check(split, tasks, TASKS, demonstration_error)
  index = phantom_tasks.FIRST[split]
  for number in range(count):
    turn, which = divmod(number, len(tasks))
    task = tasks[which]
    strata = phantom_answers.STRATA[task]
    state = phantom_tasks.find(
        task, functools.partial(phantom_world.world, difficulty=hard),
        functools.partial(phantom_answers.stratum, task, difficulty=hard),
        seed, index, strata[turn % len(strata)])
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
  seed, index, time = phantom_tasks.patient(path, '[01]')
  state = phantom_world.world(seed, index, _difficulty(difficulty))
  return phantom_world.draw(state, int(time))


def _difficulty(fields) -> phantom_world.Difficulty:
  fields = dict(fields)
  known = [f.name for f in dataclasses.fields(phantom_world.Difficulty)]
  for name in fields:
    if name not in known:
      raise ValueError(f'difficulty {name!r}: {lookup.nearest(name, known)}')
  return phantom_world.Difficulty(**fields)


def _record(state, task, permute, hard) -> types.Record:
  value = phantom_answers.answer(task, state)
  options = {}
  if phantom_answers.ANSWER_TYPES[task] == 'choice':
    order = phantom_answers.STRATA[task]
    if permute:
      rng = np.random.default_rng((state.seed, state.index, 3))
      order = rng.permutation(order)
    options = dict(zip(phantom_tasks.LETTERS, map(str, order)))
    value = phantom_tasks.lettered_answer(options, value)
  patient = f'{state.seed}/{state.index}'
  images = tuple(
      types.Media(f'phantom/{patient}/{time}', 'medrl.data.phantom.render',
                  dataclasses.asdict(hard))
      for time in range(2 if task == 'change' else 1))
  return types.Record(
      id=f'phantom/{patient}/{task}', subject=f'phantom/{patient}',
      question=phantom_answers.question(task, state), answer=value,
      answer_type=phantom_answers.ANSWER_TYPES[task], media=images,
      options=options, tolerance=phantom_answers.TOLERANCE.get(task, {}),
      source='phantom', task=task,
      # Through JSON, so that what is written beside results is what is used.
      meta={'world': json.loads(json.dumps(dataclasses.asdict(state)))})


def _demonstrate(record, shown, trace) -> types.Record:
  """The record with the demonstration that fits the world `shown`."""
  value = phantom_tasks.lettered_answer(
      record.options, phantom_answers.answer(record.task, shown))
  text = f'<answer>{phantom_answers.written(value)}</answer>'
  if trace:
    text = f'<think>{phantom_answers.trace(record.task, shown)}</think>{text}'
  steps = check_trace(record, text)
  right = all(steps.values()) if trace else steps['answer']
  return dataclasses.replace(
      record, demonstration=text,
      meta={**record.meta, 'demonstration_correct': right})
