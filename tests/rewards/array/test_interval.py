"""Array tolerances in numpy and jax against the rule of one number."""

import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rewards import number as oracle
from medrl.rewards.array import interval


@pytest.mark.parametrize('xp', [np, jnp], ids=['numpy', 'jax'])
def test_equals_the_oracle(xp):
  rng = np.random.default_rng(0)
  targets = rng.normal(0, 10, (32, 1)).astype(np.float32)
  values = (targets * rng.uniform(0.8, 1.2, (32, 8))).astype(np.float32)
  values[0, :3] = np.nan, np.inf, -np.inf
  values[1] = targets[1]
  for rel, abs_ in ((0.05, 0.0), (0.0, 0.5), (0.05, 0.5), (0.0, 0.0)):
    expected = [[oracle.within(v, t[0], {'rel': rel, 'abs': abs_}) for v in row]
                for row, t in zip(values.tolist(), targets.tolist(),
                                  strict=True)]
    found = interval.within(
        xp.asarray(values), xp.asarray(targets), rel, abs_, xp)
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.sum(expected) < values.size
