"""KL estimators against the exact divergence of two small distributions."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rl import kl

POLICY = np.log(np.array([.5, .3, .2]))
REFERENCE = np.log(np.array([.2, .3, .5]))
NAMES = ('k1', 'k2', 'k3')


def reverse_kl(theta):
  logp = jax.nn.log_softmax(theta)
  return (jnp.exp(logp) * (logp - REFERENCE)).sum()


def forward_kl(theta):
  return (jnp.exp(REFERENCE) * (REFERENCE - jax.nn.log_softmax(theta))).sum()


def nothing(theta):
  return 0. * theta.sum()


def mean_gradient(estimator):
  """Gradient of the estimator as a loss, in the mean over the policy."""
  def loss(theta):
    values = estimator(jax.nn.log_softmax(theta), jnp.asarray(REFERENCE))
    return (np.exp(POLICY) * values).sum()  # samples are fixed
  return jax.grad(loss)(jnp.asarray(POLICY))


class Variants(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_values(self):
    x = np.float32([-1, 0, .5])
    exact = {'k1': -x, 'k2': x**2 / 2, 'k3': np.exp(x) - x - 1}
    for name, expected in exact.items():
      estimator = getattr(kl, name)
      result = self.variant(estimator)(np.zeros(3, np.float32), x)
      np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-7)
      for other in NAMES:
        mixed = functools.partial(kl.straight_through, value=name,
                                  gradient=other)
        np.testing.assert_allclose(self.variant(mixed)(np.zeros(3), x),
                                   expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', ['k1', 'k3'])
def test_value_is_unbiased(name):
  values = getattr(kl, name)(jnp.asarray(POLICY), jnp.asarray(REFERENCE))
  np.testing.assert_allclose((np.exp(POLICY) * values).sum(),
                             reverse_kl(POLICY), rtol=1e-5)


@pytest.mark.parametrize('name, options, exact', [
    ('k1', {}, nothing), ('k2', {}, reverse_kl), ('k3', {}, forward_kl),
    # With the gradient of the sampling, of whatever is unbiased.
    ('k1', {'score': True}, reverse_kl), ('k3', {'score': True}, reverse_kl),
    ('straight_through', {}, reverse_kl),                       # verl's k3+
    ('straight_through', {'value': 'k1'}, reverse_kl),          # and k1+
    ('straight_through', {'gradient': 'k3'}, forward_kl),
])
def test_mean_gradient_is_the_one_documented(name, options, exact):
  estimator = functools.partial(getattr(kl, name), **options)
  np.testing.assert_allclose(mean_gradient(estimator),
                             jax.grad(exact)(jnp.asarray(POLICY)), atol=1e-6)


@pytest.mark.parametrize('x, expected', [(100., 10.), (-100., 10.)])
def test_k3_is_bounded_and_then_has_no_gradient(x, expected):
  value, gradient = jax.value_and_grad(kl.k3)(jnp.float32(0), jnp.float32(x))
  assert (value, gradient) == (expected, 0)


@pytest.mark.parametrize('name, options, x, value, slope', [
    ('k1', {'bound': 2.}, 5., -2., 0.),      # NeMo RL's clamp of the input
    ('k1', {'bound': 2.}, 1., -1., 1.),
    ('k1', {'top': 2.}, -5., 2., 0.),        # OpenRLHF's of the output
    ('k2', {'bound': 2., 'top': 1.5}, 5., 1.5, 0.),
    ('k2', {'top': 13.}, 5., 12.5, -5.),
    ('k3', {'bound': math.inf, 'top': math.inf}, 5., math.exp(5) - 6,
     1 - math.exp(5)),                       # TRL
    ('k3', {'bound': 2., 'top': math.inf}, 5., math.exp(2) - 3, 0.),
    # NeMo RL: value + (1 - e^x), and no gradient at all where x is clamped.
    ('k3', {'score': True}, 1., math.e - 2, -1.),
    ('k3', {'score': True, 'bound': 2.}, 5., math.exp(2) - 3, 0.),
    ('k3', {'score': True}, 4., 10., 0.)])
def test_clamps_and_what_gradient_they_leave(name, options, x, value, slope):
  estimator = functools.partial(getattr(kl, name), **options)
  found = jax.value_and_grad(estimator)(jnp.float32(0), jnp.float32(x))
  np.testing.assert_allclose(found, (value, slope), rtol=1e-5)


@pytest.mark.parametrize('name', [*NAMES, 'straight_through'])
def test_infinite_log_probs_give_finite_values(name):
  logps = np.float32([-np.inf, -1, -np.inf, 0])
  other = np.float32([-1, -np.inf, -np.inf, 0])
  value, back = jax.vjp(lambda x: getattr(kl, name)(x, other), logps)
  assert np.isfinite(value).all() and (np.asarray(value[2:]) == 0).all()
  assert np.isfinite(back(np.ones(4, np.float32))[0]).all()


def test_k3_keeps_its_digits_near_zero():
  np.testing.assert_allclose(kl.k3(jnp.float32(0), jnp.float32(1e-3)),
                             np.expm1(1e-3) - 1e-3, rtol=1e-3)


def test_straight_through_of_what_is_none():
  with pytest.raises(ValueError, match="'k4' is no estimator"):
    kl.straight_through(jnp.zeros(1), jnp.zeros(1), value='k4')
