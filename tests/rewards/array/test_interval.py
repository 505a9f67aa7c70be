"""Array tolerances in numpy and jitted against the rule of one number."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rewards import number as oracle
from medrl.rewards.array import interval

BAD = (np.nan, np.inf, -np.inf)


def found(rule, *arrays):
  """Returns what numpy and what the jitted rule gives."""
  jitted = jax.jit(functools.partial(rule, xp=jnp))
  return rule(*arrays, xp=np), np.asarray(jitted(*map(jnp.asarray, arrays)))


@functools.cache
def numbers():
  """Decimals [10000] as answers are written, near targets and at limits.

  Written with up to five digits: as float64 for the oracle, which reads text.
  """
  rng = np.random.default_rng(0)
  targets = np.round(rng.normal(0, 10, 10_000), rng.integers(0, 3))
  targets[9000:] = rng.integers(-5, 6, 1000)
  values = np.round(targets * rng.uniform(.8, 1.2, 10_000), 3)
  values[:2000] = targets[:2000]
  edge = np.where(rng.random(3000) < .5, .95, 1.05)
  values[2000:5000] = np.round(targets[2000:5000] * edge, 6)   # on the limit
  values[5000:7000] = np.round(targets[5000:7000] + rng.choice(
      (-.5, .5), 2000), 6)
  values[7000:7300] = rng.choice(BAD, 300)
  targets[7300:7350] = rng.choice(BAD, 50)
  return values, targets


@pytest.mark.parametrize('rel, abs_', [
    (.05, 0.), (0., .5), (.05, .5), (0., 0.)])
def test_within_equals_the_oracle(rel, abs_):
  values, targets = numbers()
  expected = [oracle.within(v, t, {'rel': rel, 'abs': abs_})
              for v, t in zip(values.tolist(), targets.tolist())]
  for near in found(interval.within, values.astype(np.float32),
                    targets.astype(np.float32), np.float32(rel),
                    np.float32(abs_)):
    np.testing.assert_array_equal(near, expected)
  assert 1000 < sum(expected) < 9700


def test_whole_numbers_are_told_apart():
  values = np.array([4_000_000, 4_000_001, 2**24 - 1, 2**24], np.float32)
  for near in found(interval.within, values[:, None], values, 0., 0.):
    np.testing.assert_array_equal(near, np.eye(4))
  for near in found(interval.within, values[:2, None], values[:2], 0., .5):
    np.testing.assert_array_equal(near, np.eye(2))
  integers = np.array([3, 4])
  for near in found(interval.within, integers, 3, 0, 0):
    np.testing.assert_array_equal(near, [1, 0])


def test_inside_equals_the_oracle():
  values, targets = numbers()
  targets = np.where(np.isfinite(targets), targets, 7)
  half = np.round(np.abs(targets) * .05, 6)   # MedCalc-Bench prints its limits
  low, high = np.round(targets - half, 6), np.round(targets + half, 6)
  low[9000:9300], high[9000:9300] = high[9000:9300], low[9000:9300]  # reversed
  low[7350:7400], high[7400:7450] = -np.inf, np.inf                  # one-sided
  expected = [oracle.inside(*row) for row in zip(
      values.tolist(), low.tolist(), high.tolist())]
  arrays = [x.astype(np.float32) for x in (values, low, high)]
  for near in found(interval.inside, *arrays):
    np.testing.assert_array_equal(near, expected)
  assert 3000 < sum(expected) < 9000


def test_rounded_equals_the_oracle():
  rng = np.random.default_rng(1)
  targets = rng.integers(-20, 21, 10_000)
  values = targets + rng.integers(-6, 7, 10_000) / 8   # halves among them
  values[:300] = rng.choice(BAD, 300)
  expected = [oracle.rounded(v, t)
              for v, t in zip(values.tolist(), targets.tolist())]
  for near in found(interval.rounded, values.astype(np.float32), targets):
    np.testing.assert_array_equal(near, expected)
  halves = np.array([.5, 1.5, 2.5, -.5, -1.5], np.float32)
  for near in found(interval.rounded, halves, np.array([0, 2, 2, 0, -2])):
    np.testing.assert_array_equal(near, 1)
