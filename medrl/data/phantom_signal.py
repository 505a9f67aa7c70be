"""An ECG of a phantom patient: rate and intervals known to the millisecond.

The same beats as a signal in twelve leads or as a drawing on paper; both are
made by `medrl.media`. Rhythm is regular. Intervals keep their distance from the
limits that make them long, and PR and QT are asked for only at rates that leave
room for either answer, so that the rate gives none away. Phantom, no clinical
data.
"""

import dataclasses
import functools

import numpy as np

from medrl import types
from medrl.data import phantom_tasks
from medrl.media import ecg
from medrl.media import ecg_paper
from medrl.media import ecg_synthetic

RHYTHMS = ('bradycardia', 'normal', 'tachycardia')
SLOW, FAST = 60., 100.           # beats a minute between them
LONG = {'pr': 200., 'qrs': 120., 'qtc': 450.}   # ms; QTc after Fridericia
STREAM = 12                      # of its random numbers
_RATES = {'bradycardia': (35, 56), 'normal': (65, 96),
          'tachycardia': (105, 131)}
# ms, of what is not long and of what is.
_RANGES = {'pr': ((130, 180), (230, 300)), 'qrs': ((80, 100), (130, 160)),
           'qtc': ((360, 420), (480, 530))}
_ROOM = 70.                      # beats a minute, up to which all of them fit
_PIXELS, _LENGTH = 3., 5.        # a mm, and s, of a strip
_SQUARE = 40.                    # ms of a small square at 25 mm/s
_TAKEN = 50.                     # ms that a hasty reader takes it for


@dataclasses.dataclass(frozen=True)
class Ecg:
  """Beats a minute, intervals in ms, and the seed of noise and shapes."""
  seed: int
  index: int
  rate: float
  pr: float
  qrs: float
  qt: float
  noise_seed: int


def beats(seed: int, index: int) -> Ecg:
  """The ECG of a patient; what does not fit at the rate is not long."""
  rng = np.random.default_rng((seed, index, STREAM))
  rate = float(rng.integers(*_RATES[RHYTHMS[rng.integers(len(RHYTHMS))]]))
  long = dict(zip(_RANGES, rng.integers(2, size=len(_RANGES))))
  if rate > _ROOM:
    long['pr'] = long['qtc'] = 0
  drawn = {name: float(rng.integers(*_RANGES[name][long[name]]))
           for name in _RANGES}
  # The fastest rates leave no more than this between two P waves.
  room = 6e4 / rate - ecg_synthetic.SHORTEST_TP - drawn['pr']
  qt = min(round(drawn['qtc'] * _stretch(rate)), int(room))
  return Ecg(seed, index, rate, drawn['pr'], drawn['qrs'], float(qt),
             int(rng.integers(2 ** 31)))


def _stretch(rate: float) -> float:
  """By how much QT is longer than QTc (Fridericia 1920): RR in s ^ (1/3)."""
  return (60 / rate) ** (1 / 3)


def signal(path: str, root: str) -> types.Signal:
  """Ten seconds of `phantom/<seed>/<index>/ecg` in twelve leads, in mV.

  Raises:
    ValueError: a path of another form.
  """
  del root
  state = beats(*phantom_tasks.patient(path, 'ecg')[:2])
  return ecg_synthetic.synthesise(state.rate, state.pr, state.qrs, state.qt,
                                  seed=state.noise_seed)


def drawing(path: str, root: str, *, page: bool = False) -> np.ndarray:
  """The same ECG on paper; a loader of `Media`.

  Args:
    path: as for `signal`.
    root: not used.
    page: the standard page of twelve leads (some 1080 x 700 pixels), instead of
      five seconds of lead II (some 440 x 110), which small policies can read.

  Returns:
    uint8 [h, w, 3].

  Raises:
    ValueError: a path of another form.
  """
  found = signal(path, root)
  if page:
    return ecg_paper.draw(found)
  return ecg_paper.draw(ecg.select(found, ('II',)), layout='strips',
                        pixels_per_mm=_PIXELS, length=_LENGTH)


def rhythm(state: Ecg) -> str:
  """The class of the rate, one of RHYTHMS."""
  return RHYTHMS[(state.rate >= SLOW) + (state.rate > FAST)]


def qtc(state: Ecg) -> float:
  """QT as it would be at 60 beats a minute, in ms."""
  return state.qt / _stretch(state.rate)


def misread(state: Ecg, task: str) -> Ecg:
  """The ECG as a hasty reader sees it: a small square taken for 50 ms.

  All intervals come out a quarter too long, so the rate a fifth too low.
  """
  del task
  scale = _TAKEN / _SQUARE
  return dataclasses.replace(
      state, rate=state.rate / scale, pr=state.pr * scale,
      qrs=state.qrs * scale, qt=state.qt * scale)


def _media(state: Ecg, name: str, loader: str) -> tuple[types.Media, ...]:
  del name
  return types.Media(f'phantom/{state.seed}/{state.index}/ecg',
                     f'medrl.data.phantom_signal.{loader}'),


def _timed(state: Ecg) -> list[phantom_tasks.Step]:
  rr, found = f'{6e4 / state.rate:.0f} ms', f'{state.rate:.0f}'
  return [(f'RR {rr}', (rr,)), (f'60000 / {rr} = {found}', (found,))]


def _classed(state: Ecg) -> list[phantom_tasks.Step]:
  return [*_timed(state), (f'This is {rhythm(state)}', (rhythm(state),))]


def _interval(name: str, state: Ecg) -> float:
  return qtc(state) if name == 'qtc' else getattr(state, name)


def _long(name: str):
  return lambda state: 'yes' if _interval(name, state) > LONG[name] else 'no'


def _roomy(name: str):
  """A stratum of the rates at which either answer fits."""
  return lambda state: _long(name)(state) if state.rate <= _ROOM else None


def _measured(name: str):
  """The steps to whether an interval is long."""
  def steps(state):
    size = f'{_interval(name, state):.0f} ms'
    verdict = 'over' if _long(name)(state) == 'yes' else 'within'
    found = [(f'{name.upper()} {size}', (size,)),
             (f'This is {verdict} {LONG[name]:.0f} ms', (verdict,))]
    if name == 'qtc':
      rr, qt = f'RR {6e4 / state.rate:.0f} ms', f'QT {state.qt:.0f} ms'
      found.insert(0, (f'{qt}, {rr}', (qt, rr)))
    return found
  return steps


def _question(name: str, words: str) -> phantom_tasks.Task:
  """Whether an interval is long."""
  return phantom_tasks.Task(
      lambda state: f'{words} (over {LONG[name]:.0f} ms)?', 'yesno',
      ('no', 'yes'), _long(name) if name == 'qrs' else _roomy(name),
      _long(name), _measured(name))


_TASKS = {
    'ecg/rate': phantom_tasks.Task(
        lambda state: 'Heart rate per minute?', 'float', RHYTHMS, rhythm,
        lambda state: state.rate, _timed, tolerance=(('rel', .05),)),
    'ecg/rhythm': phantom_tasks.Task(
        lambda state: f'Rhythm (normal: {SLOW:.0f} to {FAST:.0f})?', 'choice',
        RHYTHMS, rhythm, rhythm, _classed, options=RHYTHMS),
    'ecg/pr': _question('pr', 'Is PR long'),
    'ecg/qrs': _question('qrs', 'Is QRS wide'),
    'ecg/qtc': _question('qtc', 'Is QTc long'),
}
FAMILY = phantom_tasks.Family(
    STREAM, _TASKS, misread, functools.partial(_media, loader='drawing'))
TASKS = tuple(_TASKS)
records = functools.partial(phantom_tasks.records, FAMILY, beats, tasks=TASKS)
# The same records, with the signal instead of the drawing.
signal_records = functools.partial(
    phantom_tasks.records, FAMILY._replace(
        media=functools.partial(_media, loader='signal')), beats, tasks=TASKS)
