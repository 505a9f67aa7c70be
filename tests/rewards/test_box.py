"""Overlaps worked by hand, and the published properties of GIoU."""

import numpy as np
import pytest

from medrl.rewards import box

UNIT = (0, 0, 10, 10)


@pytest.mark.parametrize('other, iou, giou', [
    (UNIT, 1.0, 1.0),
    # 5x5 shared, union 175, hull 15x15 = 225: 1/7 - 50/225.
    ((5, 5, 15, 15), 25 / 175, 25 / 175 - 50 / 225),
    ((2, 2, 4, 7), 0.1, 0.1),              # inside: hull is the union
    ((10, 0, 20, 10), 0.0, 0.0),           # touching sides fill the hull
    ((20, 0, 30, 10), 0.0, -100 / 300),    # disjoint
    ((90, 90, 100, 100), 0.0, -0.98),      # far: towards -1
    ((3, 3, 3, 9), 0.0, 0.0),              # no area
    ((8, 8, 2, 2), 0.0, 0.0),              # corners swapped on both axes
])
def test_iou_and_giou_by_hand(other, iou, giou):
  for a, b in ((UNIT, other), (other, UNIT)):
    assert box.iou(a, b) == pytest.approx(iou, abs=1e-12)
    assert box.giou(a, b) == pytest.approx(giou, abs=1e-12)


def test_giou_is_bounded_below_iou_and_free_of_scale():
  # arXiv 1902.09630, section 3: GIoU <= IoU, -1 < GIoU <= 1, invariance.
  rng = np.random.default_rng(0)
  for low, size, low2, size2 in rng.uniform(1, 50, (200, 4, 2)):
    a, b = (*low, *(low + size)), (*low2, *(low2 + size2))
    assert -1 < box.giou(a, b) <= box.iou(a, b) <= 1
    big_a, big_b = (tuple(7 * v for v in x) for x in (a, b))
    assert box.giou(big_a, big_b) == pytest.approx(box.giou(a, b))


def test_matching_is_optimal_where_greedy_is_not():
  similarity = {('p', 'x'): 0.9, ('p', 'y'): 0.8, ('q', 'x'): 0.7,
                ('q', 'y'): 0.1}
  # Greedy takes p-x and is left with q-y: 1.0. Optimal: p-y, q-x: 1.5.
  pair = lambda p, g: similarity[p, g]
  assert box.matched('pq', 'xy', pair) == pytest.approx(0.75)
  assert box.matched('p', 'xy', pair) == pytest.approx(0.45)   # one missed
  assert box.matched('pq', 'x', pair) == pytest.approx(0.45)   # one invented


@pytest.mark.parametrize('predicted, gold, expected', [
    ((), (), 1.0), ((UNIT,), (), 0.0), ((), (UNIT,), 0.0),
    ((UNIT, UNIT), (UNIT,), 0.5)])
def test_empty_and_repeated_boxes(predicted, gold, expected):
  assert box.matched(predicted, gold, box.iou) == expected
