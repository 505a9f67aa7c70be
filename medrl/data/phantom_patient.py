"""Phantom patients over time: institutions, patients, studies and sections.

A patient of `phantom` belongs to an institution, whose scanner has a look of
its own, and has two studies, each with a date and a report in sections. Records
carry all four levels (site, subject, study, `meta['section']`), so that splits
by institution and date, and studies of forgetting in the manner of MedForget
(arXiv 2512.09867), have something to hold on to. `phantom_report` says what
reports say. Phantom, no clinical data.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import datetime
import functools

import numpy as np

from medrl import types
from medrl.data import phantom_answers
from medrl.data import phantom_draw
from medrl.data import phantom_report
from medrl.data import phantom_tasks
from medrl.data import phantom_world

# Institution -> gain, offset in grey levels and noise of its scanner.
SITES = {'site A': (1., 0., 0.), 'site B': (.8, 12., 0.),
         'site C': (1.1, 0., 8.), 'site D': (.85, 25., 12.)}
INDICATIONS = ('pain', 'fever', 'weight loss', 'follow-up')
STREAM = 13                      # of its random numbers
_FIRST_DAY = datetime.date(2015, 1, 1)
_SPAN, _APART = 3000, (30, 400)  # days
_DIFFICULTY = phantom_world.Difficulty()


@dataclasses.dataclass(frozen=True)
class Study:
  """A study of a patient: `time` 0 is the one now, 1 the earlier one.

  `days` are between the two. No image shows the `indication`. Where and on what
  day it was made is kept apart (`origin`), since this goes into `meta`.
  """
  seed: int
  index: int
  world: phantom_world.World
  indication: str
  days: int
  time: int


def study(seed: int, index: int) -> Study:
  """One of the two studies of a patient, either as likely as the other."""
  rng = np.random.default_rng((seed, index, STREAM))
  indication, time = rng.integers(len(INDICATIONS)), rng.integers(2)
  return Study(seed, index, phantom_world.world(seed, index),
               INDICATIONS[indication], int(rng.integers(*_APART)), int(time))


def origin(seed: int, index: int) -> tuple[str, datetime.date]:
  """A patient's institution, and the day of the study now."""
  rng = np.random.default_rng((seed, index, STREAM, 4))
  site = tuple(SITES)[rng.integers(len(SITES))]
  return site, _FIRST_DAY + datetime.timedelta(days=int(rng.integers(_SPAN)))


def render(path: str, root: str) -> np.ndarray:
  """Draws `phantom/<seed>/<index>/study/<time>` as its site's scanner would.

  Returns:
    uint8 [112, 112, 3]; in the first site it is the slice of `phantom.render`.

  Raises:
    ValueError: a path of another form.
  """
  del root
  seed, index, tail = phantom_tasks.patient(path, 'study/[01]')
  world, time = phantom_world.world(seed, index), int(tail[-1])
  gain, offset, noise = SITES[origin(seed, index)[0]]
  image = phantom_world.draw(world, time)[:, :, 0] * gain + offset
  grey = phantom_draw.grain(image, noise, (seed, index, STREAM, 3, 1 + time))
  return np.repeat(grey[:, :, None], 3, axis=2)


def misread(state: Study, task: str) -> Study:
  """The study as a hasty reader sees it: see `phantom_world.misread`."""
  known = {'study/findings': 'report', 'study/report': 'report'}
  return dataclasses.replace(state, world=phantom_world.misread(
      state.world, known.get(task, 'side')))


def _media(state: Study, name: str) -> tuple[types.Media, ...]:
  times = (0, 1) if name in _COMPARING else (state.time,)
  return tuple(types.Media(f'phantom/{state.seed}/{state.index}/study/{time}',
                           'medrl.data.phantom_patient.render')
               for time in times)


def _fields(state: Study) -> dict[str, str]:
  site, day = origin(state.seed, state.index)
  day -= datetime.timedelta(days=state.days if state.time else 0)
  return {'site': site, 'date': day.isoformat(),
          'study': f'phantom/{state.seed}/{state.index}/{state.time}'}


def _meta(state: Study) -> dict[str, object]:
  return {'critical': phantom_report.critical(state.world, state.time),
          'report': phantom_report.report(state.world, state.time, state.days)}


def _organs(state: Study) -> list[str]:
  return phantom_world.organs(state.world)


def _sizes(state: Study, time: int) -> list[str]:
  return [f'{phantom_report.millimetres(lesion, time):.0f} mm'
          for lesion in state.world.lesions]


def _fair(state: Study) -> bool:
  """Whether a change may be asked for: now, and of what could have grown."""
  return state.time == 0 and phantom_answers.stratum(
      'change', state.world, _DIFFICULTY) is not None


def _critical(state: Study) -> str:
  return 'yes' if phantom_report.critical(state.world, state.time) else 'no'


def _clear(state: Study) -> bool:
  return phantom_report.is_clear(state.world, state.time)


def _listed(state: Study) -> list[phantom_tasks.Step]:
  return [phantom_tasks.listed(_organs(state))]


def _sized(state: Study) -> list[phantom_tasks.Step]:
  """The lesions with their sizes, and whether one is critical."""
  sizes = [f'{organ} {size}' for organ, size in zip(
      _organs(state), _sizes(state, state.time))]
  # The phrase for the one must not occur in the other.
  verdict = 'is critical' if _critical(state) == 'yes' else 'is not critical'
  return [phantom_tasks.listed(sizes), (f'This {verdict}', (verdict,))]


def _compared(state: Study) -> list[phantom_tasks.Step]:
  if not state.world.lesions:
    return _listed(state)
  earlier = ', '.join(_sizes(state, 1))
  change = state.world.change
  return [*_sized(state),
          (f'Earlier {earlier}, so {change}', (change,))]


def _impression(state: Study) -> str | None:
  if _clear(state) and (_fair(state)
                        or state.time == 0 and not state.world.lesions):
    return phantom_report.impression(state.world)
  return None


def _reported(state: Study) -> str:
  return phantom_report.report(state.world, state.time, state.days)


def _images(state: Study) -> str:
  return (f'Spacing {state.world.spacing:g} mm. Image 1: now. Image 2: '
          f'{state.days} days ago. ')


_IMPRESSIONS = ('normal', *(f'{what}, {change}' for change in (
    phantom_world.CHANGES) for what in ('lesion', 'critical lesion')))
# Of the study now, shown with the earlier one.
_COMPARING = ('study/impression', 'study/comparison', 'study/report')
_TASKS = {
    'study/findings': phantom_tasks.Task(
        lambda state: 'Findings?', 'text', (0, 1, 2, 3),
        lambda state: len(state.world.lesions),
        lambda state: phantom_report.findings(state.world), _listed,
        meta=lambda state: {'section': 'findings'}),
    'study/blank': phantom_tasks.Task(
        lambda state: 'Findings: lesion in [blank]. What is the blank?', 'text',
        phantom_world.ORGANS,
        lambda state: None if len(_organs(state)) != 1 else _organs(state)[0],
        lambda state: _organs(state)[0], _listed,
        meta=lambda state: {'section': 'findings'}),
    'study/critical': phantom_tasks.Task(
        lambda state: f'{phantom_report.RULE} Spacing '
                      f'{state.world.spacing:g} mm. Critical?',
        'yesno', ('no', 'yes'),
        lambda state: _critical(state) if _clear(state) and _organs(
            state) else None, _critical, _sized,
        meta=lambda state: {'section': 'impression'}),
    'study/impression': phantom_tasks.Task(
        lambda state: f'{_images(state)}Impression?', 'text', _IMPRESSIONS,
        _impression, lambda state: phantom_report.impression(state.world),
        _compared, meta=lambda state: {'section': 'impression'}),
    'study/comparison': phantom_tasks.Task(
        lambda state: f'{_images(state)}Change of the lesion?', 'choice',
        phantom_world.CHANGES,
        lambda state: state.world.change if _fair(state) else None,
        lambda state: state.world.change, lambda state: _compared(state)[::2],
        options=phantom_world.CHANGES,
        meta=lambda state: {'section': 'comparison'}),
    'study/report': phantom_tasks.Task(
        lambda state: f'{_images(state)}Report?', 'text', (0, 1, 2, 3),
        lambda state: len(_organs(state)) if _clear(
            state) and state.time == 0 else None,
        _reported, _compared, meta=lambda state: {'section': 'report'}),
    # No image tells; only one who remembers the patient does.
    'study/indication': phantom_tasks.Task(
        lambda state: 'Indication of this patient?', 'choice', INDICATIONS,
        lambda state: state.indication, lambda state: state.indication,
        lambda state: [(f'Indication {state.indication}',
                        (state.indication,))],
        options=INDICATIONS, meta=lambda state: {'section': 'indication'}),
}
FAMILY = phantom_tasks.Family(
    STREAM, _TASKS, misread, _media, _fields, _meta,
    lambda state: f'/{state.time}')
MEMORY = ('study/indication',)   # to be asked for by name
TASKS = tuple(name for name in _TASKS if name not in MEMORY)
records = functools.partial(
    phantom_tasks.records, FAMILY, study, tasks=TASKS)


def cohort(root: str, split: str, *, count: int, seed: int = 0,
           tasks: Sequence[str] = (*TASKS, *MEMORY),
           demonstration_error: float = 0., trace: bool = True,
           permute: bool = True) -> Iterator[types.Record]:
  """All questions about all studies of phantom patients, in time order.

  As `records`, but `count` is that of patients, none of whom is passed over, so
  answers are not balanced; what cannot be asked fairly of a study is left out.
  """
  del root
  phantom_tasks.check(split, tasks, tuple(_TASKS), demonstration_error)
  style = phantom_tasks.Style(demonstration_error, trace, permute)
  first = phantom_tasks.FIRST[split]
  for index in range(first, first + count):
    for time in (1, 0):
      state = dataclasses.replace(study(seed, index), time=time)
      for name in tasks:
        if _TASKS[name].stratum(state) is not None:
          yield phantom_tasks.record(FAMILY, name, state, style)
