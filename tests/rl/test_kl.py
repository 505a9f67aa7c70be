"""KL estimators against the exact divergence of two small distributions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rl import kl

POLICY = np.log(np.array([.5, .3, .2]))
REFERENCE = np.log(np.array([.2, .3, .5]))


def reverse_kl(theta):
  logp = jax.nn.log_softmax(theta)
  return (jnp.exp(logp) * (logp - REFERENCE)).sum()


def forward_kl(theta):
  return (jnp.exp(REFERENCE) * (REFERENCE - jax.nn.log_softmax(theta))).sum()


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
    for name, expected in (('k1', -x), ('k2', x**2 / 2),
                           ('k3', np.exp(x) - x - 1)):
      result = self.variant(getattr(kl, name))(np.zeros(3, np.float32), x)
      np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', ['k1', 'k3'])
def test_value_is_unbiased(name):
  values = getattr(kl, name)(jnp.asarray(POLICY), jnp.asarray(REFERENCE))
  np.testing.assert_allclose((np.exp(POLICY) * values).sum(),
                             reverse_kl(POLICY), rtol=1e-5)


@pytest.mark.parametrize('name, exact', [
    ('k1', lambda theta: 0. * theta.sum()),
    ('k2', reverse_kl),
    ('k3', forward_kl),
])
def test_mean_gradient_is_the_one_documented(name, exact):
  np.testing.assert_allclose(mean_gradient(getattr(kl, name)),
                             jax.grad(exact)(jnp.asarray(POLICY)), atol=1e-6)


@pytest.mark.parametrize('x, expected', [(100., 10.), (-100., 10.)])
def test_k3_is_bounded_and_then_has_no_gradient(x, expected):
  value, gradient = jax.value_and_grad(kl.k3)(jnp.float32(0), jnp.float32(x))
  assert (value, gradient) == (expected, 0)


def test_k3_keeps_its_digits_near_zero():
  np.testing.assert_allclose(kl.k3(jnp.float32(0), jnp.float32(1e-3)),
                             np.expm1(1e-3) - 1e-3, rtol=1e-3)
