"""Questions about phantom volumes: where a lesion lies, how high, how large.

A record shows nine slices, from top to bottom, of the patient whose central
slice `phantom` shows. Values are like HU, but from -160 to 350 only, so that a
window for lungs shows nothing. `phantom_solid` draws the state. Phantom, no
clinical data.
"""

from collections.abc import Sequence
import functools
import math

import numpy as np

from medrl import types
from medrl.data import phantom_solid
from medrl.data import phantom_tasks
from medrl.data import phantom_world

LEVEL, WIDTH = 95., 510.   # HU: the window in which a slice is as it was drawn
_LIMITS = (12., 40.)       # mL, between small, medium and large lesions


def array(seed: int, index: int) -> tuple[np.ndarray, tuple[float, ...]]:
  """A whole volume: int16 [27, 112, 112] like HU, its uppermost slice first,
  and its spacing in mm (between slices, down, across)."""
  state = phantom_solid.solid(seed, index)
  values = np.stack([phantom_solid.grey(state, number)
                     for number in range(phantom_solid.DEPTH)])
  spacing = state.world.spacing
  return _hu(values), (state.thickness, spacing, spacing)


def volume(path: str, root: str, *, count: int = phantom_solid.SHOWN,
           slices: Sequence[int] = (), level: float = LEVEL,
           width: float = WIDTH) -> tuple[np.ndarray, ...]:
  """Slices of `phantom/<seed>/<index>/volume`; a loader of `Media`.

  Args:
    path: of the volume.
    root: not used.
    count: slices, in the middle of as many equal parts.
    slices: their numbers, 0 being the uppermost, instead of a count.
    level: centre of the window in HU.
    width: of the window in HU.

  Returns:
    uint8 [112, 112, 3] each, from top to bottom or as `slices` has them.

  Raises:
    ValueError: a path of another form, no such slice, or an empty window.
  """
  del root
  depth = phantom_solid.DEPTH
  seed, index, _ = phantom_tasks.patient(path, 'volume')
  if not 1 <= count <= depth or not set(slices) <= set(range(depth)):
    raise ValueError(f'count {count}, slices {tuple(slices)}: expected 1 to '
                     f'{depth} of the slices 0 to {depth - 1}')
  if not 0 < width < math.inf or not math.isfinite(level):
    raise ValueError(f'level {level}, width {width}: expected HU, and a width '
                     'of more than 0')
  state = phantom_solid.solid(seed, index)
  windowed = (_hu(np.arange(256)) - (level - width / 2)) * (255 / width)
  table = np.rint(np.clip(windowed, 0, 255)).astype(np.uint8)
  numbers = slices or [(2 * i + 1) * depth // (2 * count) for i in range(count)]
  return tuple(
      np.repeat(table[phantom_solid.grey(state, number)][:, :, None], 3, axis=2)
      for number in numbers)


def _hu(greys: np.ndarray) -> np.ndarray:
  return 2 * greys.astype(np.int16) - 160


def _media(state: phantom_solid.Solid, name: str) -> tuple[types.Media, ...]:
  del name   # all questions are about the same slices
  return types.Media(f'phantom/{state.seed}/{state.index}/volume',
                     'medrl.data.phantom_volume.volume'),


def _lone(of):
  """A stratum of volumes with one lesion; None for others."""
  def stratum(state):
    return of(state, state.masses[0]) if len(state.masses) == 1 else None
  return stratum


def _of(fn):
  """A property of the only lesion."""
  return lambda state: fn(state, state.masses[0])


def _third(state, mass):
  del state
  return phantom_solid.third(mass)


def _slices(state, mass) -> int:
  del state
  return mass.height


def _organ(state, mass) -> str:
  del state
  return mass.lesion.organ


def _middle(state, mass) -> int:
  """A slice that shows it: the central one, or the upper of two."""
  del state
  return math.floor(mass.centre)


def _size_class(state, mass) -> int | None:
  # A lesion between two slices shows no section as large as its largest.
  if mass.height % 2 == 0:
    return None
  millilitres = phantom_solid.millilitres(state, mass)
  return sum(millilitres > limit for limit in _LIMITS)


def _seen(state, mass) -> phantom_tasks.Step:
  del state
  first, last = phantom_solid.span(mass)
  text = f'slice {first}' if first == last else f'slices {first} to {last}'
  return f'Lesion in {mass.lesion.organ} on {text}', (mass.lesion.organ, text)


def _where(state, mass) -> list[phantom_tasks.Step]:
  third = phantom_solid.third(mass)
  return [_seen(state, mass), (f'This is the {third} third', (third,))]


def _counted(state, mass) -> list[phantom_tasks.Step]:
  text = f'Count {mass.height}'
  return [_seen(state, mass), (text, (text,))]


def _measured(state, mass) -> list[phantom_tasks.Step]:
  high = f'{phantom_solid.height(state, mass):g} mm'
  return [_seen(state, mass),
          (f'{mass.height} x {state.gap:g} mm = {high}', (high,))]


def _multiplied(state, mass) -> list[phantom_tasks.Step]:
  long, short, high = (f'{d:.0f}' for d in (
      mass.lesion.long, mass.lesion.short, phantom_solid.height(state, mass)))
  found = f'{phantom_solid.millilitres(state, mass):g} mL'
  return [_seen(state, mass),
          (f'Largest section {long} x {short} mm', (f'{long} x {short} mm',)),
          (f'Height {high} mm', (f'{high} mm',)),
          (f'{long} x {short} x {high} / 2 is about {found}', (found,))]


def _organs(state) -> list[str]:
  return [mass.lesion.organ for mass in state.masses]


def _measuring(state) -> str:
  return (f'Spacing {state.world.spacing:g} mm, slices {state.gap:g} mm apart. '
          'Volume of the lesion in mL?')


_HEIGHTS = (1, 2, 3, 4, 5)
_TASKS = {
    'volume/third': phantom_tasks.Task(
        lambda state: 'Slices from top to bottom. Which third has the lesion?',
        'choice', phantom_solid.THIRDS, _lone(_third), _of(_third),
        _of(_where), options=phantom_solid.THIRDS),
    'volume/organ': phantom_tasks.Task(
        lambda state: 'Which organ has the lesion?', 'choice',
        phantom_world.ORGANS, _lone(_organ), _of(_organ),
        lambda state: [_seen(state, state.masses[0])],
        options=phantom_world.ORGANS),
    'volume/count': phantom_tasks.Task(
        lambda state: 'How many lesions in all slices?', 'int', (0, 1, 2, 3),
        lambda state: len(state.masses), lambda state: len(state.masses),
        lambda state: [phantom_tasks.listed(_organs(state)),
                       (f'Count {len(state.masses)}',
                        (f'Count {len(state.masses)}',))]),
    'volume/slices': phantom_tasks.Task(
        lambda state: 'How many slices show the lesion?', 'int', _HEIGHTS,
        _lone(_slices), _of(_slices), _of(_counted)),
    'volume/slice': phantom_tasks.Task(
        lambda state: 'Slices 1 to 9. Which slice shows the lesion?',
        'interval', phantom_solid.THIRDS, _lone(_third), _of(_middle),
        lambda state: [_seen(state, state.masses[0])],
        meta=lambda state: {
            'limits': list(phantom_solid.span(state.masses[0]))}),
    'volume/height': phantom_tasks.Task(
        lambda state: f'Slices {state.gap:g} mm apart. Height of the lesion in '
                      'mm?', 'float', _HEIGHTS, _lone(_slices),
        _of(phantom_solid.height), _of(_measured), tolerance=(('rel', .1),)),
    'volume/size': phantom_tasks.Task(
        _measuring, 'quantity', (0, 1, 2), _lone(_size_class),
        _of(phantom_solid.millilitres), _of(_multiplied),
        tolerance=(('rel', .3),), unit='mL'),
}
FAMILY = phantom_tasks.Family(
    phantom_solid.STREAM, _TASKS, phantom_solid.misread, _media)
TASKS = tuple(_TASKS)
records = functools.partial(
    phantom_tasks.records, FAMILY, phantom_solid.solid, tasks=TASKS)
