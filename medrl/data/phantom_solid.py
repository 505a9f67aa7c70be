"""The phantom in 3-D: a state in which the slice of the 2-D world is central.

Organs and lesions are ellipsoids whose sections through the middle are those of
`phantom_world`, so the central slice of a volume is the slice of the same
patient, pixel for pixel. The volume has lesions that this slice misses, each in
an organ that shows none there. Slices run from top to bottom of the patient.

Not here: the loader and the questions (`phantom_volume`). Phantom, no clinical
data.
"""

import dataclasses
import math

import numpy as np

from medrl.data import phantom_draw
from medrl.data import phantom_world

DEPTH = 27                       # slices of a volume
SHOWN = 9                        # of them, every third, that records show
THICKNESS = (4., 5., 6.)         # mm, and as far apart
STREAM = 10                      # of its random numbers
THIRDS = ('upper', 'middle', 'lower')
CENTRE = (SHOWN + 1) / 2         # number of the central slice, from 1
_EACH = DEPTH // SHOWN           # slices from one that is shown to the next
_REACH = (.64, .74)              # half height of an organ in volume heights
# Where a lesion of so many slices may lie above the central slice without
# touching it, and without being centred between two thirds.
_ABOVE = {1: (1., 2., 3., 4.), 2: (1.5, 2.5), 3: (2., 3.), 4: (2.5,)}


@dataclasses.dataclass(frozen=True)
class Mass:
  """A lesion in 3-D: an ellipsoid around its largest section.

  `centre` counts slices that are shown, from 1 at the top. `height` is how many
  of them it is high, which is how many show it, as it begins and ends halfway
  between two.
  """
  lesion: phantom_world.Lesion
  centre: float
  height: int


@dataclasses.dataclass(frozen=True)
class Solid:
  """A patient in 3-D.

  `world` is that of the central slice, `thickness` in mm from slice to slice,
  `gap` in mm from one that is shown to the next, `reach` the half height of
  each organ in mm. `masses` are all lesions, in the order of ORGANS.
  """
  seed: int
  index: int
  world: phantom_world.World
  thickness: float
  gap: float
  reach: tuple[float, ...]
  masses: tuple[Mass, ...]


def solid(seed: int, index: int) -> Solid:
  """The volume of a patient, whose slice is `phantom_world.world` unchanged."""
  world = phantom_world.world(seed, index)
  rng = np.random.default_rng((seed, index, STREAM))
  thickness = THICKNESS[rng.integers(len(THICKNESS))]
  reach = rng.uniform(*_REACH, len(world.organs)) * DEPTH * thickness
  masses = [Mass(lesion, CENTRE, 1 + 2 * int(rng.integers(3)))
            for lesion in world.lesions]
  ill = {lesion.organ for lesion in world.lesions}
  well = [i for i, o in enumerate(world.organs) if o.name not in ill]
  for i in rng.permutation(well)[:rng.integers(3)]:
    masses.append(_hidden(rng, world, int(i), reach[i] / thickness))
  masses.sort(key=lambda mass: phantom_world.ORGANS.index(mass.lesion.organ))
  return Solid(seed, index, world, thickness, _EACH * thickness,
               tuple(map(float, reach)), tuple(masses))


def _hidden(rng, world, i: int, reach: float) -> Mass:
  """A lesion of organ `i` off the central slice; `reach` in slices."""
  height = int(rng.integers(1, 5))
  above = _ABOVE[height][rng.integers(len(_ABOVE[height]))]
  # No wider than the organ is where the lesion ends, so that it lies within.
  end = (CENTRE - above + height / 2) * _EACH
  organ = _section(world.organs[i], end / reach)
  difficulty = phantom_world.Difficulty()
  size = int(rng.integers(difficulty.smallest,
                          phantom_world.capacity(organ, difficulty) + 1))
  lesion = phantom_world.place(rng, organ, size, world.spacing)
  upper = rng.random() < .5
  return Mass(lesion, above if upper else 2 * CENTRE - above, height)


def _section(organ: phantom_world.Organ, height: float) -> phantom_world.Organ:
  """The section of an organ at a share of its half height."""
  scale = math.sqrt(1 - height ** 2)
  return dataclasses.replace(organ, a=organ.a * scale, b=organ.b * scale)


def grey(state: Solid, number: int) -> np.ndarray:
  """Slice `number` of DEPTH, 0 being the uppermost: uint8 [112, 112]."""
  world, up = state.world, (DEPTH // 2 - number) * state.thickness
  image = phantom_draw.anatomy([_section(o, up / r) for o, r in zip(
      world.organs, state.reach)])
  greys = {organ.name: organ.grey for organ in world.organs}
  for mass in state.masses:
    away = up - (CENTRE - mass.centre) * state.gap
    share = 1 - (away / (mass.height * state.gap / 2)) ** 2
    if share > 0:
      lesion = mass.lesion
      # As `phantom_world.draw` computes it, to be the same to the last bit.
      long = lesion.long / world.spacing * math.sqrt(share)
      phantom_draw.paint(
          image, lesion.x, lesion.y, long / 2,
          long / 2 * lesion.short / lesion.long, lesion.angle,
          greys[lesion.organ] + world.contrast)
  stream = (state.seed, state.index, 1)   # that of the slice by itself
  if number != DEPTH // 2:
    stream = (state.seed, state.index, STREAM, 3, number + 1)
  return phantom_draw.grain(image, world.noise, stream)


def third(mass: Mass) -> str:
  """Which third of the volume holds the centre of a lesion."""
  return THIRDS[int((mass.centre - .5) / (SHOWN / 3))]


def span(mass: Mass) -> tuple[int, int]:
  """First and last of the slices shown that have the lesion, from 1."""
  first = round(mass.centre - (mass.height - 1) / 2)
  return first, first + mass.height - 1


def height(state: Solid, mass: Mass) -> float:
  """Height of a lesion in mm."""
  return mass.height * state.gap


def millilitres(state: Solid, mass: Mass) -> float:
  """Volume of a lesion, pi / 6 times the product of its diameters."""
  lesion = mass.lesion
  return round(math.pi / 6 * lesion.long * lesion.short
               * height(state, mass) / 1e3, 1)


def misread(state: Solid, task: str) -> Solid:
  """The volume as a hasty reader sees it, wrong in ways that readers are.

  He takes the first slice for the lowest, overlooks the last slice of a lesion
  (and so a lesion on one slice, but not the only one that the question
  supposes), takes a pixel for a millimetre and image left for the patient's.
  """
  seen = [m for m in state.masses if m.height > 1]
  if not seen and task != 'volume/count':
    seen = state.masses
  masses = tuple(
      Mass(phantom_world.mistaken(m.lesion, 1 / state.world.spacing),
           # Half a slice up, as the last one is missing, and upside down.
           2 * CENTRE - (m.centre - .5 * (m.height > 1)), max(1, m.height - 1))
      for m in seen)
  return dataclasses.replace(state, masses=tuple(sorted(
      masses, key=lambda m: phantom_world.ORGANS.index(m.lesion.organ))))
