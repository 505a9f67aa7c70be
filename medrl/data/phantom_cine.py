"""A cine loop of a phantom patient: a chamber that beats, a needle that moves.

Looks a little like ultrasound: a dark chamber in a bright wall, and beside it
the bright tip of a needle, over grain that is new in every frame. The loop
holds a whole number of beats, so its rate is exact. Frames are square and at
regular times. Phantom, no clinical data: no heart moves like that.
"""

import dataclasses
import functools

import numpy as np

from medrl import types
from medrl.data import phantom_draw
from medrl.data import phantom_tasks

FRAMES = 16
RATES = (5., 6.25, 8., 10.)      # frames a second; 16 last 3.2 to 1.6 s
BEATS = (2, 3, 4, 5)             # in a loop; more than three frames each
DIRECTIONS = ('left', 'right', 'up', 'down')   # in the image
PHASES = ('filling', 'emptying')
STREAM = 11                      # of its random numbers
_STEPS = {'left': (-1, 0), 'right': (1, 0), 'up': (0, -1), 'down': (0, 1)}
_CLEAR = 3.                      # pixels of width between two frames
_TISSUE, _WALL, _BLOOD, _METAL = 80., 180., 25., 240.   # grey levels
_THICK, _TIP, _NOISE = 5., 4., 8.   # pixels, pixels, grey levels


@dataclasses.dataclass(frozen=True)
class Cine:
  """A loop: frames a second, beats in it, and where in a beat it starts.

  The chamber is an ellipse around (x, y) with semi-axes a and b in pixels when
  full, of which the share `squeeze` is gone when it is empty. The needle moves
  `speed` pixels a frame. `asked` is the frame, from 0, of a question about
  the phase.
  """
  seed: int
  index: int
  rate: float
  beats: int
  start: float
  x: float
  y: float
  a: float
  b: float
  squeeze: float
  direction: str
  speed: float
  asked: int


def cine(seed: int, index: int) -> Cine:
  """The loop of a patient."""
  rng = np.random.default_rng((seed, index, STREAM))
  rate, beats, direction = (names[i] for names, i in zip(
      (RATES, BEATS, DIRECTIONS),
      rng.integers((len(RATES), len(BEATS), len(DIRECTIONS)))))
  start, *drawn = rng.uniform((0, 50, 44, 24, 22, .25, 2.5),
                              (1, 56, 50, 30, 28, .4, 4.)).tolist()
  *chamber, speed = drawn
  found = Cine(seed, index, rate, beats, start, *chamber, direction, speed, 0)
  clear, = np.nonzero(np.abs(_changes(found)) >= _CLEAR)
  return dataclasses.replace(found, asked=int(clear[rng.integers(len(clear))]))


def seconds(state: Cine) -> float:
  """How long the loop lasts."""
  return FRAMES / state.rate


def widths(state: Cine) -> np.ndarray:
  """Width of the chamber in each frame, in pixels."""
  return 2 * state.a * _fullness(state)


def _fullness(state: Cine) -> np.ndarray:
  """Share of the full size in each frame."""
  phase = state.start + state.beats * np.arange(FRAMES) / FRAMES
  return 1 - state.squeeze * (.5 - .5 * np.cos(2 * np.pi * phase))


def _changes(state: Cine) -> np.ndarray:
  """Pixels by which the chamber is wider after each frame than before it; 0
  for the first and the last, which have no frame before or after."""
  found = widths(state)
  return np.concatenate([[0.], found[2:] - found[:-2], [0.]])


def clip(path: str, root: str) -> types.Clip:
  """Draws the loop `phantom/<seed>/<index>/cine`; a loader of `Media`.

  Args:
    path: of the loop.
    root: not used.

  Returns:
    16 frames, uint8 [16, 112, 112, 3], at regular times from 0.

  Raises:
    ValueError: a path of another form.
  """
  del root
  state = cine(*phantom_tasks.patient(path, 'cine')[:2])
  v, u = np.ogrid[:phantom_draw.SIZE, :phantom_draw.SIZE]
  v, u = (v + .5).astype(np.float32), (u + .5).astype(np.float32)
  least = min(state.a, state.b)
  radius = np.hypot((u - state.x) / state.a, (v - state.y) / state.b)
  full = _fullness(state).astype(np.float32)[:, None, None]
  frames = np.full((FRAMES, *radius.shape), _TISSUE, np.float32)
  for size, grey in ((full + _THICK / least, _WALL), (full, _BLOOD)):
    frames += np.clip((size - radius) * least + .5, 0, 1) * (grey - frames)
  for frame, (x, y) in zip(frames, _track(state)):
    phantom_draw.paint(frame, x, y, _TIP, _TIP, 0., _METAL)
  rng = np.random.default_rng((state.seed, state.index, STREAM, 3))
  frames += _NOISE * rng.standard_normal(frames.shape, np.float32)
  grey = np.rint(np.clip(frames, 0, 255)).astype(np.uint8)
  return types.Clip(np.repeat(grey[..., None], 3, axis=3),
                    np.arange(FRAMES) / state.rate)


def _track(state: Cine) -> np.ndarray:
  """Where the tip is in each frame [16, 2]: below the chamber, or right of it,
  halfway along at half time."""
  step = np.array(_STEPS[state.direction])
  middle = (50., 100.) if step[0] else (102., 50.)
  along = state.speed * (np.arange(FRAMES) - (FRAMES - 1) / 2)
  return middle + along[:, None] * step


def bpm(state: Cine) -> float:
  """Beats a minute."""
  return round(60 * state.beats / seconds(state), 1)


def phase(state: Cine) -> str:
  """What the chamber does at the time asked about."""
  return PHASES[0] if _changes(state)[state.asked] > 0 else PHASES[1]


def misread(state: Cine, task: str) -> Cine:
  """The loop as a hasty reader sees it, wrong in ways that readers are.

  He counts a beat twice, as the wall comes and as it goes, takes image left for
  right, and reads the phase two frames late.
  """
  if task == 'cine/phase':
    late = 2 * state.beats / FRAMES
    return dataclasses.replace(state, start=state.start + late)
  mirror = {'left': 'right', 'right': 'left'}
  return dataclasses.replace(
      state, direction=mirror.get(state.direction, state.direction),
      beats=2 * state.beats)


def _media(state: Cine, name: str) -> tuple[types.Media, ...]:
  del name
  return types.Media(f'phantom/{state.seed}/{state.index}/cine',
                     'medrl.data.phantom_cine.clip'),


def _beats(state) -> phantom_tasks.Step:
  return f'The chamber empties {state.beats} times', (f'{state.beats} times',)


def _timed(state) -> list[phantom_tasks.Step]:
  lasting, found = f'{seconds(state):g} s', f'{bpm(state):g}'
  return [_beats(state), (f'The loop lasts {lasting}', (lasting,)),
          (f'60 x {state.beats} / {seconds(state):g} = {found}', (found,))]


def _moved(state) -> list[phantom_tasks.Step]:
  (x, y), (u, v) = _track(state)[[0, -1]]
  return [(f'Needle from {x:.0f}, {y:.0f} to {u:.0f}, {v:.0f}', ()),
          (f'It moves {state.direction}', (state.direction,))]


def _phased(state) -> list[phantom_tasks.Step]:
  before, after = widths(state)[[state.asked - 1, state.asked + 1]]
  sign = 'wider' if after > before else 'narrower'
  return [(f'Frame {state.asked + 1}', (f'Frame {state.asked + 1}',)),
          (f'Chamber {before:.0f} px before, {after:.0f} px after, {sign}',
           (sign,)),
          (f'It is {phase(state)}', (phase(state),))]


def _when(state) -> str:
  return (f'Chamber at {state.asked / state.rate:g} s of '
          f'{seconds(state):g} s?')


_TASKS = {
    'cine/beats': phantom_tasks.Task(
        lambda state: 'How many beats in the loop?', 'int', BEATS,
        lambda state: state.beats, lambda state: state.beats,
        lambda state: [_beats(state)]),
    'cine/rate': phantom_tasks.Task(
        lambda state: f'{FRAMES} frames in {seconds(state):g} s. Beats per '
                      'minute?', 'float',
        tuple((b, r) for b in BEATS for r in RATES),
        lambda state: (state.beats, state.rate), bpm, _timed,
        tolerance=(('rel', .1),)),
    'cine/direction': phantom_tasks.Task(
        lambda state: 'Where does the needle move?', 'choice', DIRECTIONS,
        lambda state: state.direction, lambda state: state.direction, _moved,
        options=DIRECTIONS),
    'cine/phase': phantom_tasks.Task(
        _when, 'choice', PHASES, phase, phase, _phased, options=PHASES),
}
FAMILY = phantom_tasks.Family(STREAM, _TASKS, misread, _media)
TASKS = tuple(_TASKS)
records = functools.partial(
    phantom_tasks.records, FAMILY, cine, tasks=TASKS)
