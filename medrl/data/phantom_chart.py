"""Charts of phantom patients: visits with laboratory values, and no image.

What `tables` writes of three or four visits, in any order: creatinine and CRP
with units and normal ranges, some not recorded. Questions are answered by
reading the text. Phantom, no clinical data.
"""

import dataclasses
import functools

import numpy as np

from medrl import types
from medrl.data import phantom_tasks
from medrl.data import tables

STREAM = 21                      # of its random numbers
TRENDS = ('fell', 'rose', 'unchanged')
COLUMNS = (
    tables.Column('creatinine', 'mg/dL', 'number', .6, 1.3),
    tables.Column('CRP', 'mg/L', 'number', 0, 5))
_FACTOR = 1.5                    # between first and last, where they differ
_EPOCH = np.datetime64('2000-01-01')   # any: only differences are written


@dataclasses.dataclass(frozen=True)
class Chart:
  """Days of the visits from the first, ascending, and what was measured on
  them: creatinine in mg/dL, CRP in mg/L or None where it was not."""
  seed: int
  index: int
  days: tuple[int, ...]
  creatinine: tuple[float, ...]
  crp: tuple[float | None, ...]


def chart(seed: int, index: int) -> Chart:
  """The chart of a patient."""
  rng = np.random.default_rng((seed, index, STREAM))
  count = int(rng.integers(3, 5))
  days = np.concatenate([[0], np.cumsum(rng.integers(2, 60, count - 1))])
  first = rng.integers(8, 20) / 10
  factor = {'fell': 1 / _FACTOR, 'rose': _FACTOR, 'unchanged': 1.}[
      TRENDS[rng.integers(3)]]
  between = rng.integers(6, 30, count - 2) / 10
  crp = [None if rng.random() < .3 else int(rng.integers(1, 5))
         if rng.random() < .5 else int(rng.integers(8, 200))
         for _ in range(count)]
  return Chart(seed, index, tuple(map(int, days)),
               (float(first), *map(float, between),
                round(float(first * factor), 1)), tuple(crp))


def text(state: Chart) -> str:
  """The chart as a record shows it."""
  visits = [tables.Visit(str(_EPOCH + day),
                         {'creatinine': creatinine, 'CRP': crp})
            for day, creatinine, crp in zip(state.days, state.creatinine,
                                            state.crp)]
  return tables.render_visits(visits, COLUMNS)


def misread(state: Chart, task: str) -> Chart:
  """As a hasty reader has it, who takes the first visit for the last."""
  del task
  return dataclasses.replace(
      state, creatinine=state.creatinine[::-1], crp=state.crp[::-1])


def trend(state: Chart) -> str:
  """What creatinine did from the first visit to the last, one of TRENDS."""
  change = state.creatinine[-1] - state.creatinine[0]
  return TRENDS[int(change > 0)] if change else TRENDS[2]


def _high(state: Chart) -> int:
  return sum(crp is not None and crp > COLUMNS[1].high for crp in state.crp)


def _missing(state: Chart) -> int:
  return state.crp.count(None)


def _asked(words: str):
  return lambda state: f'{text(state)}\n{words}'


def _last(state: Chart) -> list[phantom_tasks.Step]:
  found = f'{tables.number(state.creatinine[-1])} mg/dL'
  return [(f'Last creatinine {found}', (found,))]


def _compared(state: Chart) -> list[phantom_tasks.Step]:
  first = f'{tables.number(state.creatinine[0])} mg/dL'
  return [(f'First creatinine {first}', (first,)), *_last(state),
          (f'It {trend(state)}' if trend(state) != 'unchanged' else
           'It is unchanged', (trend(state),))]


def _counted(state: Chart) -> list[phantom_tasks.Step]:
  found = [f'{crp} mg/L' if crp is not None else 'not recorded'
           for crp in state.crp]
  return [(f'CRP {", ".join(found)}', tuple(found))]


_TASKS = {
    'chart/last': phantom_tasks.Task(
        _asked('Last creatinine in mg/dL?'), 'quantity', TRENDS, trend,
        lambda state: state.creatinine[-1], _last, unit='mg/dL',
        tolerance=(('abs', .05),)),
    'chart/trend': phantom_tasks.Task(
        _asked('What did creatinine do, from the first to the last visit?'),
        'choice', TRENDS, trend, trend, _compared, options=TRENDS),
    'chart/high': phantom_tasks.Task(
        _asked('At how many visits was CRP high?'), 'int', (0, 1, 2),
        _high, _high, _counted),
    'chart/missing': phantom_tasks.Task(
        _asked('At how many visits was CRP not recorded?'), 'int', (0, 1, 2),
        _missing, _missing, _counted),
}


def _no_media(state: Chart, name: str) -> tuple[types.Media, ...]:
  del state, name
  return ()


FAMILY = phantom_tasks.Family(STREAM, _TASKS, misread, _no_media)
TASKS = tuple(_TASKS)
records = functools.partial(phantom_tasks.records, FAMILY, chart, tasks=TASKS)
