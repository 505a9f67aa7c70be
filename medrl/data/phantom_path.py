"""Five questions about one phantom image, each on what the last one settled.

Modality, whether there is a lesion, its organ, its grade, what to do next: as
five records that share a path, and in each of them as one list of turns for
trainers that hold a conversation. The image is a slice of `phantom_world` as
CT, MR or ultrasound would show it, or nearly. Answers are those of
`phantom_report`; `TABLE` lists the paths there are, as Dr-LLaVA's rewards
(arXiv 2405.19567, `rewards.paths`) ask for. Phantom, no clinical data.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import itertools

import numpy as np

from medrl import types
from medrl.data import phantom_draw
from medrl.data import phantom_report
from medrl.data import phantom_tasks
from medrl.data import phantom_world

MODALITIES = ('CT', 'MR', 'US')
STEPS = ('none', 'follow-up', 'biopsy', 'surgery')
STREAM = 15                      # of its random numbers
_NONE = 'none'                   # organ and grade where there is no lesion
_SPECKLE, _FADE = .12, .35       # of ultrasound: a share of the grey level


@dataclasses.dataclass(frozen=True)
class Case:
  """A patient with at most one lesion, and what the image was made with."""
  seed: int
  index: int
  world: phantom_world.World
  modality: str


def case(seed: int, index: int, modality: str) -> Case | None:
  """The case of a patient; None where the grade would not be clear."""
  world = phantom_world.world(seed, index)
  if len(world.lesions) > 1 or not phantom_report.is_clear(world):
    return None
  return Case(seed, index, world, modality)


def render(path: str, root: str) -> np.ndarray:
  """Draws `phantom/<seed>/<index>/<modality>`: the slice as that shows it.

  MR is CT with bright and dark exchanged inside the body; ultrasound has
  speckle and fades with depth.

  Returns:
    uint8 [112, 112, 3].

  Raises:
    ValueError: a path of another form.
  """
  del root
  seed, index, modality = phantom_tasks.patient(path, '|'.join(MODALITIES))
  image = phantom_world.draw(phantom_world.world(seed, index), 0)
  size = phantom_draw.SIZE
  if modality == 'MR':
    body = np.zeros((size, size))
    phantom_draw.paint(body, *phantom_draw.BODY, 0., 1.)
    turned = np.where(body > .5, 255 - image[:, :, 0], image[:, :, 0])
    return np.repeat(turned[:, :, None], 3, axis=2)
  if modality == 'US':
    rng = np.random.default_rng((seed, index, STREAM, 3))
    gain = 1 + _SPECKLE * rng.standard_normal((size, size))
    gain *= 1 - _FADE * np.linspace(0, 1, size)[:, None]
    grey = np.rint(np.clip(image[:, :, 0] * gain, 0, 255)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
  return image


def categories(state: Case) -> tuple[str, ...]:
  """The path: modality, normal or abnormal, organ, grade, next step."""
  if not state.world.lesions:
    return state.modality, 'normal', _NONE, _NONE, STEPS[0]
  lesion, = state.world.lesions
  grade = phantom_report.grade(lesion)
  return (state.modality, 'abnormal', lesion.organ, grade,
          _next(grade, phantom_report.is_critical(lesion)))


def _next(grade: str, is_critical: bool) -> str:
  if is_critical:
    return 'surgery'
  return 'follow-up' if grade == phantom_report.GRADES[0] else 'biopsy'


def _rows() -> tuple[tuple[str, ...], ...]:
  kidneys = phantom_world.ORGANS[2:]
  small, medium, large = phantom_report.GRADES
  rows = [('normal', _NONE, _NONE, STEPS[0])]
  for organ in phantom_world.ORGANS:
    rows += [('abnormal', organ, grade, _next(grade, grade == large or (
        grade == medium and organ in kidneys)))
             for grade in phantom_report.GRADES]
  return tuple((modality, *row) for modality in MODALITIES for row in rows)


TABLE = _rows()   # all paths there are


def turns(state: Case, permute: bool = False) -> list[dict[str, object]]:
  """The conversation: for each turn its question, options and answer.

  Args:
    state: of a patient.
    permute: as for `records`, whose options and answers these are.
  """
  found = []
  for name, task in FAMILY.tasks.items():
    options = phantom_tasks.lettered(task, permute, (
        state.seed, state.index, STREAM, 1))
    found.append({
        'task': name, 'question': task.question(state),
        'answer_type': task.answer_type, 'options': options,
        'answer': phantom_tasks.lettered_answer(options, task.answer(state))})
  return found


def misread(state: Case, task: str) -> Case:
  """The case as a hasty reader sees it: see `phantom_world.misread`."""
  del task
  return dataclasses.replace(
      state, world=phantom_world.misread(state.world, 'organ'))


def _media(state: Case, name: str) -> tuple[types.Media, ...]:
  del name
  return types.Media(f'phantom/{state.seed}/{state.index}/{state.modality}',
                     'medrl.data.phantom_path.render'),


def _meta(state: Case) -> dict[str, object]:
  return {'critical': phantom_report.critical(state.world),
          'categories': list(categories(state))}


def _stratum(state: Case) -> tuple[str, str]:
  return categories(state)[2:4]


def _level(at: int):
  """What the path says at a level, from 0."""
  return lambda state: categories(state)[at]


def _seen(state: Case) -> phantom_tasks.Step:
  return phantom_tasks.listed(phantom_world.organs(state.world))


def _graded(state: Case) -> list[phantom_tasks.Step]:
  if not state.world.lesions:
    return [_seen(state)]
  lesion, spacing = state.world.lesions[0], state.world.spacing
  size, grade = f'{lesion.long:.0f} mm', categories(state)[3]
  return [_seen(state),
          (f'{lesion.long / spacing:.0f} px x {spacing:g} mm = {size}',
           (size,)), (f'This is {grade}', (grade,))]


def _followed(state: Case) -> list[phantom_tasks.Step]:
  verdict = ('is critical' if phantom_report.critical(state.world)
             else 'is not critical')
  step = categories(state)[4]
  return [*_graded(state), (f'This {verdict}', (verdict,)),
          (f'Next {step}', (f'Next {step}',))]


def _spaced(state: Case) -> str:
  return f'Spacing {state.world.spacing:g} mm. '


# Organ and grade; every third has no lesion.
_STRATA = tuple(itertools.chain.from_iterable(
    ((_NONE, _NONE), *((organ, grade) for organ in pair))
    for grade in phantom_report.GRADES
    for pair in (phantom_world.ORGANS[::2], phantom_world.ORGANS[1::2])))
_ORGANS = (_NONE, *phantom_world.ORGANS)
_GRADES = (_NONE, *phantom_report.GRADES)
_ASKED = (
    ('choice', lambda state: 'Modality?', _level(0),
     lambda state: [(f'This looks like {state.modality}', (state.modality,))],
     MODALITIES),
    ('yesno', lambda state: 'Is there a lesion?',
     lambda state: 'yes' if state.world.lesions else 'no',
     lambda state: [_seen(state)], ()),
    ('choice', lambda state: 'Which organ has the lesion?', _level(2),
     lambda state: [_seen(state)], _ORGANS),
    ('ordinal', lambda state: f'{_spaced(state)}Small: to 25 mm. Large: over '
                              '40 mm. Grade of the lesion?', _level(3), _graded,
     _GRADES),
    ('choice', lambda state: f'{_spaced(state)}{phantom_report.RULE} Next '
                             'step?', _level(4), _followed, STEPS),
)
FAMILY = phantom_tasks.Family(
    STREAM, {f'path/{level}': phantom_tasks.Task(
        question, kind, _STRATA, _stratum, answer, steps, options)
             for level, (kind, question, answer, steps, options)
             in enumerate(_ASKED, 1)},
    misread, _media, meta=_meta)
TASKS = tuple(FAMILY.tasks)


def records(root: str, split: str, *, count: int, seed: int = 0,
            tasks: Sequence[str] = TASKS, demonstration_error: float = 0.,
            trace: bool = True, permute: bool = True) -> Iterator[types.Record]:
  """Records of paths, one level after the other; as `phantom_tasks.records`.

  `meta['path']` holds what the records of a path share, its id, and the level
  of the record (from 1) of how many; `meta['turns']` all of it, see `turns`;
  `meta['categories']` is the row of TABLE.
  """
  del root
  phantom_tasks.check(split, tasks, TASKS, demonstration_error)
  style = phantom_tasks.Style(demonstration_error, trace, permute)
  index, state = phantom_tasks.FIRST[split], None
  for number in range(count):
    turn, which = divmod(number, len(tasks))
    if which == 0:
      # A step further every third turn, which has no lesion, and after every
      # round, so that each modality comes to each lesion.
      shift = turn // 3 + turn // len(_STRATA)
      modality = MODALITIES[(turn + shift) % len(MODALITIES)]
      state = phantom_tasks.find(
          tasks[0], functools.partial(case, modality=modality), _stratum, seed,
          index, _STRATA[turn % len(_STRATA)])
      index = state.index + 1
    path = {'id': f'phantom/{seed}/{state.index}/path',
            'level': TASKS.index(tasks[which]) + 1, 'levels': len(TASKS)}
    yield phantom_tasks.record(
        FAMILY, tasks[which], state, style,
        {'path': path, 'turns': turns(state, permute)})
