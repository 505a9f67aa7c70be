"""How questions about phantoms are dealt: whom to ask, and what to show for it.

A file of the phantom describes its questions as `Task`s and what it adds to a
patient as a `Family`; here those become records with balanced answers, options,
reasoning in numbered steps, the evidence of each step, and demonstrations by a
reader who may be hasty. It draws no image and knows no state. `phantom` is
older and reasons in sentences of its own (`phantom_evidence` numbers them).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import json
import re
from typing import Any, NamedTuple

import numpy as np

from medrl import lookup
from medrl import types
from medrl.data import phantom_answers

# First patient of a split. 2**31 a split are more than can be used.
FIRST = {'train': 0, 'validation': 2 ** 31, 'test': 2 ** 32}
LETTERS = 'ABCDEFGH'
_SCAN = 20_000   # patients looked at before a stratum counts as impossible
# A sentence of the reasoning without its full stop, and the phrases in it that
# a reader must cite: few and short, as those of ECG-R1 (arXiv 2602.04279).
Step = tuple[str, tuple[str, ...]]


def _nothing(state) -> dict[str, Any]:
  del state
  return {}


class Task(NamedTuple):
  """A question about a state, which has fields `seed` and `index`."""
  question: Callable[[Any], str]
  answer_type: str
  strata: tuple[Any, ...]           # asked for in turn, so equally often
  stratum: Callable[[Any], Any]     # one of them; None: it cannot be asked
  answer: Callable[[Any], Any]      # of a choice its text
  steps: Callable[[Any], list[Step]]
  options: tuple[str, ...] = ()     # texts of a choice
  tolerance: tuple[tuple[str, float], ...] = ()
  unit: str = ''
  meta: Callable[[Any], Mapping[str, Any]] = _nothing


class Family(NamedTuple):
  """What a file adds to a phantom patient, and the questions about it."""
  stream: int    # of its random numbers: (seed, index, stream, ..), its own
  tasks: Mapping[str, Task]
  misread: Callable[[Any, str], Any]         # (state, task) -> a hasty reader's
  media: Callable[[Any, str], tuple[types.Media, ...]]
  fields: Callable[[Any], Mapping[str, str]] = _nothing   # of Record besides
  meta: Callable[[Any], Mapping[str, Any]] = _nothing
  tail: Callable[[Any], str] = lambda state: ''   # of the patient, in ids


class Style(NamedTuple):
  """How records are written; see `records`."""
  demonstration_error: float = 0.
  trace: bool = True
  permute: bool = True


def records(family: Family, draw: Callable[[int, int], Any], root: str,
            split: str, *, count: int, seed: int = 0, tasks: Sequence[str],
            demonstration_error: float = 0., trace: bool = True,
            permute: bool = True) -> Iterator[types.Record]:
  """Records of phantom patients, one question each, tasks taking turns.

  Within a task its strata take turns too. A larger `count` only adds records.
  Splits share no patient, and a patient is in the same split in all families.

  Args:
    family: what is asked about.
    draw: the state of (seed, index).
    root: not used; a phantom reads no file.
    split: 'train', 'validation' or 'test'.
    count: records.
    seed: of the patients; another seed is another population.
    tasks: some of the family's.
    demonstration_error: fraction of records whose demonstration is by a hasty
      reader, who may still be right: `meta['demonstration_correct']` tells.
    trace: whether demonstrations reason before they answer.
    permute: whether each record has its options in an order of its own.

  Yields:
    Records with `meta['world']`, the json-able state, and `meta['evidence']`,
    number of a step -> phrases that are true and belong into it.

  Raises:
    ValueError: an unknown split or task.
  """
  del root
  style = Style(demonstration_error, trace, permute)
  check(split, tasks, family.tasks, demonstration_error)
  index = FIRST[split]
  for number in range(count):
    turn, which = divmod(number, len(tasks))
    task = family.tasks[tasks[which]]
    state = find(tasks[which], draw, task.stratum, seed, index,
                 task.strata[turn % len(task.strata)])
    index = state.index + 1
    yield record(family, tasks[which], state, style)


def check(split: str, tasks: Sequence[str], known: Sequence[str],
          error: float) -> None:
  """Raises ValueError for what no set of records can be asked for."""
  if split not in FIRST:
    raise ValueError(f'split {split!r}; expected one of {sorted(FIRST)}')
  if not tasks:
    raise ValueError(f'no task; expected some of {tuple(known)}')
  for task in tasks:
    if task not in known:
      raise ValueError(f'task {task!r}: {lookup.nearest(task, list(known))}')
  if not 0 <= error <= 1:
    raise ValueError(f'demonstration_error {error}; expected 0 to 1')


def find(name: str, draw: Callable[[int, int], Any],
         stratum: Callable[[Any], Any], seed: int, start: int,
         wanted: Any) -> Any:
  """The first state from index `start` that belongs to the stratum.

  `draw` may give None for a patient who has no such state.

  Raises:
    ValueError: none of many does; `name` is what the states were sought for.
  """
  for index in range(start, start + _SCAN):
    state = draw(seed, index)
    if state is not None and stratum(state) == wanted:
      return state
  raise ValueError(
      f'task {name!r}: none of {_SCAN} worlds is of stratum {wanted!r}; widen '
      'the range of sizes or leave the task out')


def patient(path: str, tail: str) -> tuple[int, int, str]:
  """Seed, index and the rest of a path `phantom/<seed>/<index>/<rest>`.

  Args:
    path: of a medium.
    tail: a regular expression for the rest.

  Raises:
    ValueError: a path of another form.
  """
  found = re.fullmatch(rf'phantom/(\d{{1,20}})/(\d{{1,20}})/({tail})', path)
  if not found:
    raise ValueError(f'{path!r} names no phantom image; expected '
                     f'phantom/<seed>/<index>/ and then {tail}')
  return int(found[1]), int(found[2]), found[3]


def record(family: Family, name: str, state: Any, style: Style,
           more: Mapping[str, Any] | None = None) -> types.Record:
  """One question about one state.

  Args:
    family: what is asked about.
    name: of the task.
    state: for which the task's stratum is not None.
    style: of the demonstration and the options.
    more: of `meta`, besides.
  """
  task, subject = family.tasks[name], f'{state.seed}/{state.index}'
  stream = state.seed, state.index, family.stream
  options = lettered(task, style.permute, (*stream, 1))
  careless = np.random.default_rng((*stream, 2)).random()
  shown = state
  if careless < style.demonstration_error:
    shown = family.misread(state, name)
  text, right = (demonstration(task, s, options, style.trace)
                 for s in (shown, state))
  meta = {
      # Through JSON, so that what is written beside results is what is used.
      'world': json.loads(json.dumps(dataclasses.asdict(state))),
      'evidence': {str(number): list(phrases) for number, (_, phrases)
                   in enumerate(task.steps(state), 1)},
      **family.meta(state), **task.meta(state), **(more or {}),
      'demonstration_correct': text == right}
  return types.Record(
      id=f'phantom/{subject}{family.tail(state)}/{name}',
      subject=f'phantom/{subject}', question=task.question(state),
      media=family.media(state, name),
      answer=lettered_answer(options, task.answer(state)),
      answer_type=task.answer_type, options=options, unit=task.unit,
      tolerance=dict(task.tolerance), source='phantom', task=name,
      demonstration=text, meta=meta, **family.fields(state))


def lettered(task: Task, permute: bool, stream: tuple) -> dict[str, str]:
  """The options of a task, {} for none; grades keep their order."""
  order = task.options
  if permute and task.answer_type != 'ordinal':
    order = np.random.default_rng(stream).permutation(order)
  return dict(zip(LETTERS, map(str, order)))


def lettered_answer(options: Mapping[str, str], value: Any) -> Any:
  """The letter of the option that reads `value`; without options `value`."""
  if not options:
    return value
  return next(letter for letter, text in options.items() if text == value)


def demonstration(task: Task, state: Any, options: Mapping[str, str],
                  trace: bool) -> str:
  """What one who sees `state` would write."""
  value = lettered_answer(options, task.answer(state))
  text = f'<answer>{phantom_answers.written(value)}</answer>'
  if not trace:
    return text
  steps = ' '.join(f'Step {number}: {sentence}.' for number, (sentence, _)
                   in enumerate(task.steps(state), 1))
  return f'<think>{steps}</think>{text}'


def listed(names: Sequence[str]) -> Step:
  """The step that lists lesions by organ, each name a phrase of evidence."""
  return f'Lesions: {", ".join(names) or "none"}', tuple(names) or ('none',)
