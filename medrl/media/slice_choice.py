"""Which slices of a volume: evenly, by a budget, by what is marked.

Pure functions of sizes and counts; only `marked` reads a volume. How slices are
shown, and what a user may ask for, is in `slices`.
"""

from collections.abc import Sequence
import math

import numpy as np

from medrl.media import volume

# Voxels of an annotation that are read at a time.
SLAB = 1 << 26


def uniform(size: int, count: int) -> tuple[int, ...]:
  """`count` of `size` slices: the middle of each of as many equal parts.

  Slice i is floor((i + 1/2) size / count); all slices where `count` is larger.
  """
  count = min(count, size)
  return tuple((2 * i + 1) * size // (2 * count) for i in range(count))


def soft_tokens(height: int, width: int, patch: int) -> int:
  """Soft tokens of an image: at least as many as of one rounded to patches."""
  return math.ceil(height / patch) * math.ceil(width / patch)


def within_budget(size: int, tokens: int, budget: int) -> int:
  """How many of `size` images of `tokens` each fit into `budget` soft tokens.

  Raises:
    ValueError: not even one.
  """
  if tokens > budget:
    raise ValueError(f'one image has {tokens} soft tokens, more than the '
                     f'budget of {budget}; raise max_tokens')
  return min(size, budget // tokens)


def by_area(areas: Sequence[int], count: int, neighbours: int,
            most: int) -> tuple[int, ...]:
  """Slices with the largest marked area, ascending.

  Args:
    areas: marked voxels of each slice.
    count: slices to choose, of those that are marked; of equal ones the first.
    neighbours: slices to add on either side, after each that was chosen.
    most: of all; what comes later is left out.

  Raises:
    ValueError: nothing is marked.
  """
  areas = np.asarray(areas)
  ranked = np.argsort(-areas, kind='stable')[:np.count_nonzero(areas)]
  if not len(ranked):
    raise ValueError('the annotation marks nothing; choose slices otherwise')
  return tuple(sorted(with_neighbours(
      ranked[:count].tolist(), neighbours, len(areas))[:most]))


def marked(mask: volume.Volume, time: int = 0) -> tuple[np.ndarray, ...]:
  """Voxels that are not 0 in each slice, int64 [n] for each of three axes.

  Read in slabs along the last axis, so that memory is bounded.
  """
  found = [np.zeros(n, np.int64) for n in mask.shape]
  thick = max(1, SLAB // (mask.shape[0] * mask.shape[1]))
  for start in range(0, mask.shape[2], thick):
    part = slice(start, start + thick)
    inside = mask.read((slice(None), slice(None), part), time) != 0
    across = np.count_nonzero(inside, 2)
    found[0] += across.sum(1)
    found[1] += across.sum(0)
    found[2][part] += np.count_nonzero(inside, (0, 1))
  return tuple(found)


def with_neighbours(given: Sequence[int], neighbours: int,
                     size: int) -> list[int]:
  """Each slice once, followed by its neighbours, the nearest first."""
  steps = [0] + [s for n in range(1, min(neighbours, size) + 1)
                 for s in (-n, n)]
  found = {k + s: None for k in given for s in steps if 0 <= k + s < size}
  return list(found)
