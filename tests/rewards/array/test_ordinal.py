"""Array grades in numpy and jitted against the rule of one grade."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rewards import ordinal as oracle
from medrl.rewards.array import ordinal

GRADES = 'ABCDEFGH'


@pytest.mark.parametrize('metric', ordinal.METRICS)
def test_equals_the_oracle(metric):
  rng = np.random.default_rng(0)
  count = rng.integers(1, len(GRADES) + 1, 10_000)
  targets = (rng.random(10_000) * count).astype(int)
  values = (rng.random(10_000) * count).astype(int)
  values[:500], values[500:600] = -1, count[500:600]   # unparsed, out of range
  expected = [
      oracle.agreement(GRADES[v], GRADES[t], GRADES[:n], metric)
      if 0 <= v < n else 0.0 for v, t, n in zip(values, targets, count)]
  jitted = jax.jit(lambda v, t, n: ordinal.agreement(v, t, n, metric, jnp))
  for near in (ordinal.agreement(values, targets, count, metric, np),
               jitted(values, targets, count)):
    # A division and a square in float32.
    np.testing.assert_allclose(near, expected, atol=1e-6, rtol=0)
  assert {0., 1.} <= set(expected)


def test_one_order_for_all_and_an_unknown_metric():
  near = ordinal.agreement(np.array([[0, 2, -1]]), np.array([[0]]), 5,
                           'quadratic', np)
  np.testing.assert_allclose(near, [[1, .75, 0]])
  assert ordinal.METRICS == oracle.METRICS
  with pytest.raises(ValueError, match="metric 'kappa'"):
    ordinal.agreement(near, near, 5, 'kappa', np)
