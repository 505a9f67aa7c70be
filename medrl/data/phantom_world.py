"""The phantom: a state drawn from a seed, and the slice it looks like.

An abdomen in axial view of ellipses, after Shepp and Logan, "The Fourier
reconstruction of a head section", IEEE Trans. Nucl. Sci. 21 (1974). The viewer
looks from the feet: image left is the patient's right, so the liver is at
image left. It is a phantom, no clinical data: sizes, places and frequencies
are made up, and what a policy learns from it says nothing about patients.

Not here: questions and answers (`phantom_answers`), records (`phantom`), nor
what the same patient has besides, in files of their own: a volume, a cine loop,
an ECG, studies over time.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import math
from typing import Any

import numpy as np

from medrl.data import phantom_draw

SIZE = phantom_draw.SIZE         # pixels a side
SPACINGS = (2.0, 2.5, 3.0)       # mm a pixel; the field of view fits the body
CHANGES = ('grew', 'shrank', 'unchanged')
FACTOR = 1.5                     # of a lesion's diameters between two studies
ORGANS = ('liver', 'spleen', 'right kidney', 'left kidney')
OVERLOOKED = 16                  # pixels, by a hasty reader
LOOSE = 1.5                      # how much too wide a hasty reader's box is
_MIRROR = {'right kidney': 'left kidney', 'left kidney': 'right kidney'}
# x, y, semi-axis along x, along y, in pixels, and grey level, as in ORGANS.
_ANATOMY = np.array([(34., 47., 20., 19., 120.), (81., 47., 14., 16., 125.),
                     (32., 79., 11., 10., 130.), (80., 79., 11., 10., 130.)])
_SHIFT, _JITTER = 3., 1.5                # pixels: of the whole, of an organ


@dataclasses.dataclass(frozen=True)
class Difficulty:
  """How hard lesions are to see and to tell apart.

  `contrast` is a lesion's grey levels above its organ (of 255), `noise` the
  standard deviation of a pixel in grey levels, `smallest` and `largest` bound
  a lesion's long diameter in pixels (at most what its organ holds: about 37 in
  the liver, 27 in the spleen, 19 in a kidney). Earlier studies may show a
  lesion at `smallest / FACTOR`.
  """
  contrast: float = 90.
  noise: float = 6.
  smallest: int = 9
  largest: int = 24

  def __post_init__(self):
    if not 3 <= self.smallest <= 14 or self.largest < self.smallest:
      raise ValueError(
          f'lesions of {self.smallest} to {self.largest} pixels; expected 3 <= '
          f'smallest <= 14 (a kidney holds no more) and smallest <= largest')
    if not 0 <= self.contrast <= 125 or self.noise < 0:
      raise ValueError(f'contrast {self.contrast}, noise {self.noise}; expected'
                       f' 0 to 125 and at least 0 grey levels')


@dataclasses.dataclass(frozen=True)
class Organ:
  """An upright ellipse: centre and semi-axes in pixels, grey level."""
  name: str
  x: float
  y: float
  a: float
  b: float
  grey: float


@dataclasses.dataclass(frozen=True)
class Lesion:
  """A bright ellipse inside an organ, as it is now.

  Centre in pixels (a pixel's centre is at +0.5), diameters in mm, `angle` of
  the long one from the x axis in radians; `earlier` is the ratio of its
  diameters in the earlier study to those now.
  """
  organ: str
  x: float
  y: float
  long: float
  short: float
  angle: float
  earlier: float


@dataclasses.dataclass(frozen=True)
class World:
  """All there is to know about a phantom patient; `dataclasses.asdict` of it
  is json-able and `from_dict` reads it back.

  An organ holds at most one lesion; `lesions` are in the order of ORGANS.
  `spacing` is in mm a pixel; `change` is what a lone lesion did since the
  earlier study, and 'unchanged' where there are several or it has no room.
  `mirrored` is True where image left is taken for the patient's left, which is
  a reader's mistake (`misread`).
  """
  seed: int
  index: int
  spacing: float
  contrast: float
  noise: float
  organs: tuple[Organ, ...]
  lesions: tuple[Lesion, ...]
  change: str
  mirrored: bool = False


def from_dict(values: Mapping[str, Any]) -> World:
  """The world whose `dataclasses.asdict` is `values`, also after JSON."""
  return World(**{
      **values, 'organs': tuple(Organ(**o) for o in values['organs']),
      'lesions': tuple(Lesion(**x) for x in values['lesions'])})


def world(seed: int, index: int,
          difficulty: Difficulty = Difficulty()) -> World:
  """The world of a seed and an index: 0 to 3 lesions, equally likely."""
  rng = np.random.default_rng((seed, index))
  shape = _ANATOMY.copy()
  shape[:, :2] += rng.uniform(-_SHIFT, _SHIFT, 2)
  shape[:, :2] += rng.uniform(-_JITTER, _JITTER, (4, 2))
  shape[:, 2:4] += rng.uniform(-_JITTER / 2, _JITTER / 2, (4, 2))
  organs = tuple(Organ(name, *map(float, row))
                 for name, row in zip(ORGANS, shape))
  spacing = SPACINGS[rng.integers(len(SPACINGS))]
  ill = sorted(rng.permutation(len(ORGANS))[:rng.integers(4)])
  sizes = [int(rng.integers(difficulty.smallest,
                            capacity(organs[i], difficulty) + 1)) for i in ill]
  change = 'unchanged'
  if len(ill) == 1 and has_room(sizes[0], organs[ill[0]], difficulty):
    change = CHANGES[rng.integers(len(CHANGES))]
  earlier = {'grew': 1 / FACTOR, 'shrank': FACTOR, 'unchanged': 1.}[change]
  lesions = tuple(place(rng, organs[i], size, spacing, earlier)
                  for i, size in zip(ill, sizes))
  return World(seed, index, spacing, float(difficulty.contrast),
               float(difficulty.noise), organs, lesions, change)


def capacity(organ: Organ, difficulty: Difficulty) -> int:
  """The largest long diameter of a lesion in the organ, in pixels."""
  return min(difficulty.largest, math.floor(2 * min(organ.a, organ.b)) - 1)


def has_room(size: float, organ: Organ, difficulty: Difficulty) -> bool:
  """Whether a lesion of `size` pixels may have grown, shrunk or neither.

  Only such lesions are asked about, so that the size now tells nothing about
  the change.
  """
  return size * FACTOR <= capacity(organ, difficulty)


def place(rng, organ: Organ, size: int, spacing: float,
          earlier: float = 1.) -> Lesion:
  """A lesion of `size` pixels somewhere in the organ, in both studies."""
  radius = size / 2 * max(1., earlier)   # both studies stay inside the organ
  ratio, turn, angle, reach = rng.random(4)
  reach, turn = .9 * math.sqrt(reach), 2 * math.pi * turn
  return Lesion(
      organ.name,
      organ.x + (organ.a - radius) * reach * math.cos(turn),
      organ.y + (organ.b - radius) * reach * math.sin(turn),
      size * spacing, size * spacing * (.8 + .2 * ratio), math.pi * angle,
      earlier)


def misread(state: World, task: str) -> World:
  """The world as a hasty reader reports it, wrong in ways that readers are.

  Image left is taken for the patient's left, so sides are reversed and one
  kidney is taken for the other; lesions of less than OVERLOOKED pixels are
  overlooked; a pixel is taken for a millimetre; boxes are drawn LOOSE times
  too wide. It is consistent, so that imitation learns the mistakes with the
  style, and no number of such reports averages them out.

  Args:
    state: the truth.
    task: what is asked. A lesion that the question supposes is not overlooked,
      and only what it asks for is drawn loosely.
  """
  scale = LOOSE if task in ('box', 'boxes') else 1 / state.spacing
  seen = [x for x in state.lesions if pixels(state, x) >= OVERLOOKED]
  if not seen and task not in ('present', 'count', 'report'):
    seen = sorted(state.lesions, key=lambda x: -x.long)[:1]
  reported = ordered(mistaken(lesion, scale) for lesion in seen)
  spacing = state.spacing if task in ('box', 'boxes') else 1.
  return dataclasses.replace(state, spacing=spacing, mirrored=True,
                             lesions=reported)


def ordered(lesions: Iterable[Lesion]) -> tuple[Lesion, ...]:
  """Lesions in the order of ORGANS."""
  return tuple(sorted(lesions, key=lambda lesion: ORGANS.index(lesion.organ)))


def organs(state: World) -> list[str]:
  """The organs with a lesion, in their order."""
  return [lesion.organ for lesion in state.lesions]


def mistaken(lesion: Lesion, scale: float) -> Lesion:
  """The lesion in the other kidney, if in one, its diameters times `scale`."""
  return dataclasses.replace(
      lesion, organ=_MIRROR.get(lesion.organ, lesion.organ),
      long=lesion.long * scale, short=lesion.short * scale)


def side(state: World, lesion: Lesion) -> str:
  """The patient's side of a lesion, by its place in the image."""
  left = (lesion.x > SIZE / 2) != state.mirrored
  return 'left' if left else 'right'


def pixels(state: World, lesion: Lesion, time: int = 0) -> float:
  """Long diameter in pixels, now (0) or in the earlier study (1)."""
  return lesion.long / state.spacing * (lesion.earlier if time else 1.)


def box(state: World, lesion: Lesion) -> tuple[int, int, int, int]:
  """The lesion's bounding box now, (x1, y1, x2, y2), x2 and y2 exclusive."""
  a, b = (d / state.spacing / 2 for d in (lesion.long, lesion.short))
  c, s = math.cos(lesion.angle), math.sin(lesion.angle)
  w, h = math.hypot(a * c, b * s), math.hypot(a * s, b * c)
  return (round(lesion.x - w), round(lesion.y - h), round(lesion.x + w),
          round(lesion.y + h))


def draw(state: World, time: int) -> np.ndarray:
  """Renders the study now (`time` 0) or the earlier one (1).

  Returns:
    uint8 [112, 112, 3], the same grey in the three channels.
  """
  image = phantom_draw.anatomy(state.organs)
  greys = {organ.name: organ.grey for organ in state.organs}
  for lesion in state.lesions:
    long = pixels(state, lesion, time)
    phantom_draw.paint(image, lesion.x, lesion.y, long / 2,
                       long / 2 * lesion.short / lesion.long, lesion.angle,
                       greys[lesion.organ] + state.contrast)
  grey = phantom_draw.grain(image, state.noise,
                            (state.seed, state.index, 1 + time))
  return np.repeat(grey[:, :, None], 3, axis=2)
