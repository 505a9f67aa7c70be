"""Token F1 worked by hand."""

import pytest

from medrl.rewards import text


@pytest.mark.parametrize('value, target, exact, f1', [
    ('Left lung.', 'left  lung', 1.0, 1.0),
    ('the left lung', 'left lung', 0.0, 2 * 2 / 5),
    ('lung lung lung', 'lung', 0.0, 2 * 1 / 4),  # a set would give 1
    ('heart', 'lung', 0.0, 0.0),
    ('ER+', 'ER-', 0.0, 1.0),                    # why F1 is not the default
    ('', 'lung', 0.0, 0.0), ('', '', 1.0, 0.0),
])
def test_exact_and_f1(value, target, exact, f1):
  assert text.exact(value, target) == exact
  assert text.f1(value, target) == pytest.approx(f1)
