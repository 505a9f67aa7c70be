"""Array overlaps in numpy and jax against the rule of one pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rewards import box as oracle
from medrl.rewards.array import box


def pairs():
  """Random boxes [64, 2, 4] in pixels; some empty, some the same."""
  rng = np.random.default_rng(0)
  corners = rng.integers(0, 60, (64, 2, 4)).astype(np.float32)
  corners[:48, :, 2:] += corners[:48, :, :2]  # the rest may be swapped
  corners[:4, 1] = corners[:4, 0]
  return corners


@pytest.mark.parametrize('name', ['iou', 'giou'])
@pytest.mark.parametrize('xp', [np, jnp], ids=['numpy', 'jax'])
def test_equals_the_oracle(name, xp):
  a, b = pairs()[:, 0], pairs()[:, 1]
  expected = [getattr(oracle, name)(p, q)
              for p, q in zip(a.tolist(), b.tolist(), strict=True)]
  found = getattr(box, name)(xp.asarray(a), xp.asarray(b), xp)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert min(expected) < 0 or name == 'iou'


def test_integers_broadcast_and_jit():
  a = jnp.array([[[0, 0, 100_000, 100_000]], [[0, 0, 0, 5]]])  # [2, 1, 4]
  b = jnp.array([[0, 0, 50_000, 100_000], [0, 0, 1, 1]])       # [2, 4]
  found = jax.jit(box.iou, static_argnums=2)(a, b, jnp)
  np.testing.assert_allclose(found, [[0.5, 1e-10], [0, 0]], atol=1e-7)
