"""Array overlaps in numpy and jitted against the rule of one pair."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rewards import box as oracle
from medrl.rewards.array import box

# Coordinates are whole numbers or halves up to 2^11, so that areas are exact in
# float32; what is left are two or three divisions, each rounded to 6e-8.
ATOL = 1e-6


@functools.cache
def pairs():
  """Boxes [10000, 2, 4]: random, equal, nested, touching, empty, reversed."""
  rng = np.random.default_rng(0)
  corners = rng.integers(-500, 4096, (10_000, 2, 4)) / 2
  corners[:6000, :, 2:] = corners[:6000, :, :2] + rng.integers(
      0, 200, (6000, 2, 2)) / 2
  corners[6000:8000] = rng.integers(0, 6, (2000, 2, 4))   # many coincide
  corners[:300, 1] = corners[:300, 0]
  corners[300:600, 1, :2] = corners[300:600, 0, 2:]       # touch at a corner
  corners[300:600, 1, 2:] = corners[300:600, 1, :2] + 5
  return corners.astype(np.float32)


def found(rule, *arrays, **options):
  """Returns what numpy and what the jitted rule gives."""
  jitted = jax.jit(functools.partial(rule, xp=jnp, **options))
  return rule(*arrays, xp=np, **options), np.asarray(
      jitted(*map(jnp.asarray, arrays)))


@pytest.mark.parametrize('name', ['iou', 'giou', 'diou', 'centre_hit'])
def test_equals_the_oracle(name):
  a, b = pairs()[:, 0], pairs()[:, 1]
  expected = np.array([getattr(oracle, name)(p, q)
                       for p, q in zip(a.tolist(), b.tolist(), strict=True)])
  for values in found(getattr(box, name), a, b):
    np.testing.assert_allclose(values, expected, atol=ATOL, rtol=0)
  assert min(expected) < 0 or name in ('iou', 'centre_hit')
  assert (expected == 1).any() and 500 < (expected == 0).sum() < 9900


@pytest.mark.parametrize('threshold', [0, .5, .75])
@pytest.mark.parametrize('metric', box.METRICS)
def test_pair_equals_the_oracle(metric, threshold):
  a, b = pairs()[::5, 0], pairs()[::5, 1]
  rule = oracle.pair(metric, threshold)
  expected = np.array([rule(p, q)
                       for p, q in zip(a.tolist(), b.tolist(), strict=True)])
  for values in found(box.pair, a, b, metric=metric, threshold=threshold):
    np.testing.assert_allclose(values, expected, atol=ATOL, rtol=0)
    assert values.min() >= 0 and values.max() <= 1 + ATOL


def test_metrics_are_the_oracles():
  assert box.METRICS == tuple(oracle.PAIRS)
  with pytest.raises(ValueError, match="metric 'dice'"):
    box.pair(pairs()[:, 0], pairs()[:, 1], 'dice', 0, np)


def test_integers_broadcast_and_jit():
  a = jnp.array([[[0, 0, 100_000, 100_000]], [[0, 0, 0, 5]]])  # [2, 1, 4]
  b = jnp.array([[0, 0, 50_000, 100_000], [0, 0, 1, 1]])       # [2, 4]
  values = jax.jit(box.iou, static_argnums=2)(a, b, jnp)
  np.testing.assert_allclose(values, [[0.5, 1e-10], [0, 0]], atol=1e-7)
