"""Ratios, surrogates and reductions against longhand NumPy."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import metrics
from medrl.rl import losses

SHAPE = (3, 2, 5)
REDUCTIONS = ('token_mean', 'sequence_mean', 'fixed_length')


def data(seed=0):
  rng = np.random.default_rng(seed)
  logps, old = rng.normal(-1, .4, (2, *SHAPE)).astype(np.float32)
  mask = np.arange(5) < rng.integers(1, 6, (3, 2, 1))
  mask[0, 0] = [True, False, True, True, False]
  mask[1, 1] = False
  values = rng.normal(size=SHAPE).astype(np.float32)
  return logps, old, mask, values


class Variants(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_token_ratio(self):
    logps, old, mask, _ = data()
    result = self.variant(losses.token_ratio)(logps, old, mask)
    expected = np.where(mask, np.exp(logps - old), 1)
    np.testing.assert_allclose(result, expected, rtol=1e-6)

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_sequence_ratio(self):
    logps, old, mask, _ = data()
    result = np.asarray(self.variant(losses.sequence_ratio)(logps, old, mask))
    for p in range(3):
      for g in range(2):
        gaps = (logps - old)[p, g][mask[p, g]]
        expected = np.exp(gaps.mean()) if gaps.size else 1
        np.testing.assert_allclose(result[p, g], expected, rtol=1e-5)

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_clip_with_two_bounds(self):
    ratio = np.array([.5, .5, 1.25, 1.25, 1.4, 1.4], np.float32)
    advantage = np.array([1, -1, 1, -1, 2, -2], np.float32)
    call = self.variant(lambda *a: losses.clip(*a, low=.2, high=.28))
    loss, clipped = call(ratio, advantage, ratio)
    np.testing.assert_allclose(loss, [-.5, .8, -1.25, 1.25, -2.56, 2.8],
                               rtol=1e-6)
    np.testing.assert_array_equal(clipped, [0, 1, 0, 0, 1, 0])

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_cispo(self):
    ratio = np.array([.01, 1, 3], np.float32)
    advantage = np.array([1, -2, 1], np.float32)
    logps = np.array([-3, -1, -2], np.float32)
    call = self.variant(lambda *a: losses.cispo(*a, low=10., high=.2))
    loss, clipped = call(ratio, advantage, logps)
    np.testing.assert_allclose(loss, [.03, -2, 2.4], rtol=1e-6)
    np.testing.assert_array_equal(clipped, [0, 0, 1])

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_reductions(self):
    _, _, mask, values = data()
    weights = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    rows = [(w * v)[m] for v, w, m in zip(
        values.reshape(-1, 5), weights.reshape(-1, 5), mask.reshape(-1, 5))
        if m.any()]
    expected = {'token_mean': np.concatenate(rows).mean(),
                'sequence_mean': np.mean([r.mean() for r in rows]),
                'fixed_length': np.mean([r.sum() / 7 for r in rows])}
    for name in REDUCTIONS:
      call = self.variant(
          functools.partial(getattr(losses, name), length=7))
      mean = call(values, mask, weights)
      np.testing.assert_allclose(metrics.value(mean), expected[name],
                                 rtol=1e-5, err_msg=name)


def test_clip_gradient_is_zero_where_clipped_and_minus_advantage_elsewhere():
  advantage = jnp.array([1., 1., -1., -1., 1.])
  old = jnp.zeros(5)
  logps = jnp.log(jnp.array([1.5, .5, .5, 1.5, 1.]))
  mask = jnp.ones(5, bool)

  def loss(logps):
    ratio = losses.token_ratio(logps, old, mask)
    return losses.clip(ratio, advantage, logps, low=.2, high=.2)[0].sum()

  np.testing.assert_allclose(jax.grad(loss)(logps), [0, -.5, 0, 1.5, -1],
                             rtol=1e-6)


def test_gspo_gradient_is_that_of_the_sequence_ratio():
  logps, old, mask, _ = data()
  logps, old, mask = logps[0, 0], old[0, 0], mask[0, 0]

  def token_form(logps):
    return losses.sequence_mean(losses.sequence_ratio(logps, old, mask),
                                mask).total

  def sequence_form(logps):
    return jnp.exp((mask * (logps - old)).sum() / mask.sum())

  np.testing.assert_allclose(jax.grad(token_form)(logps),
                             jax.grad(sequence_form)(logps), rtol=1e-5)


def test_cispo_keeps_the_gradient_of_capped_tokens():
  def loss(logps):
    ratio = losses.token_ratio(logps, jnp.zeros(2), jnp.ones(2, bool))
    return losses.cispo(ratio, jnp.ones(2), logps, low=10, high=.2)[0].sum()

  np.testing.assert_allclose(jax.grad(loss)(jnp.log(jnp.array([3., .5]))),
                             [-1.2, -.5], rtol=1e-6)


@pytest.mark.parametrize('ratio, bound',
                         [('token_ratio', 20), ('sequence_ratio', 10)])
def test_ratios_stay_finite(ratio, bound):
  result = getattr(losses, ratio)(
      jnp.zeros((1, 2)), jnp.full((1, 2), -500.), jnp.ones((1, 2), bool))
  np.testing.assert_allclose(result, np.exp(bound), rtol=1e-5)


@pytest.mark.parametrize('ratio', ['token_ratio', 'sequence_ratio'])
@pytest.mark.parametrize('surrogate', ['clip', 'cispo'])
@pytest.mark.parametrize('reduce', REDUCTIONS)
def test_masked_equals_removed(ratio, surrogate, reduce):
  """Garbage outside the mask changes neither value nor gradient."""
  logps, old, _, advantages = data()
  mask = np.ones(SHAPE, bool)
  mask[..., 3:] = False

  def loss(logps, old, advantages, mask):
    weight = getattr(losses, ratio)(logps, old, mask)
    term, _ = getattr(losses, surrogate)(weight, advantages, logps,
                                         low=.2, high=.2)
    mean = getattr(losses, reduce)(term, mask, length=5)
    return mean.total / mean.weight

  dirty = np.where(mask, logps, -np.inf)
  value, gradient = jax.value_and_grad(loss)(
      dirty, np.where(mask, old, -np.inf), np.where(mask, advantages, 0), mask)
  cut = (x[..., :3] for x in (logps, old, advantages, mask))
  expected, part = jax.value_and_grad(loss)(*cut)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(gradient[..., :3], part, rtol=1e-5, atol=1e-7)
  assert (np.asarray(gradient[..., 3:]) == 0).all()


@pytest.mark.parametrize('reduce', REDUCTIONS)
def test_micro_batches_give_the_unsplit_loss(reduce):
  _, _, mask, values = data()
  call = getattr(losses, reduce)
  whole = call(values, mask, length=5)
  for pieces in (np.split(np.arange(3), 3), [[0], [1, 2]]):
    parts = [call(values[p], mask[p], length=5) for p in pieces]
    joined = parts[0]
    for part in parts[1:]:
      joined = metrics.merge(joined, part)
    np.testing.assert_allclose(joined, whole, rtol=1e-6)


@pytest.mark.parametrize('length', [None, 0])
def test_fixed_length_needs_a_length(length):
  with pytest.raises(ValueError, match='generation budget'):
    losses.fixed_length(jnp.ones((1, 2)), jnp.ones((1, 2), bool),
                        length=length)
