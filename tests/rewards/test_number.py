"""Tolerances at their ends."""

import pytest

from medrl.rewards import number


@pytest.mark.parametrize('value, target, tolerance, expected', [
    (3, 3.0, {}, 1.0), (3.001, 3, {}, 0.0), (0.1 + 0.2, 0.3, {}, 1.0),
    (0, 0, {}, 1.0), (1e-12, 0, {}, 0.0),
    (105, 100, {'rel': 0.05}, 1.0), (105.1, 100, {'rel': 0.05}, 0.0),
    (-105, -100, {'rel': 0.05}, 1.0), (105, -100, {'rel': 0.05}, 0.0),
    (0.315, 0.3, {'rel': 0.05}, 1.0),   # the floats are 1.3e-17 too far apart
    (12, 10, {'abs': 2}, 1.0), (12, 10, {'abs': 1, 'rel': 0.2}, 1.0),
    (10 ** 40, 1, {'rel': 0.1}, 0.0),
    (float('inf'), 1, {'abs': 1}, 0.0), (float('nan'), 1, {'abs': 1}, 0.0),
])
def test_within(value, target, tolerance, expected):
  assert number.within(value, target, tolerance) == expected
