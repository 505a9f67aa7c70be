"""Distillation against the exact divergences over a whole vocabulary."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rl import distill
from medrl.rl import losses

TEACHER = np.log(np.array([.1, .2, .3, .4]))
OLD = np.log(np.array([.4, .1, .3, .2]))     # who drew the tokens
THETA = np.array([.3, -.2, .5, 0.])          # a policy that is neither
WORDS = {'reverse': distill.reverse, 'reverse_k2': distill.reverse_k2,
         'forward': distill.forward,
         'plain': functools.partial(distill.forward, baseline=False)}


def reverse_kl(theta):
  logp = jax.nn.log_softmax(theta)
  return (jnp.exp(logp) * (logp - TEACHER)).sum()


def forward_kl(theta):
  return (jnp.exp(TEACHER) * (TEACHER - jax.nn.log_softmax(theta))).sum()


EXACT = {'reverse': reverse_kl, 'reverse_k2': reverse_kl,
         'forward': forward_kl, 'plain': forward_kl}


def mean(theta, word, old):
  """The loss in the mean over what `old` draws: every token, weighed."""
  logps = jax.nn.log_softmax(theta)
  mask = jnp.ones(4, bool)
  old = jax.lax.stop_gradient(logps) if old is None else jnp.asarray(old)
  terms = word(losses.token_ratio(logps, old, mask), logps,
               jnp.asarray(TEACHER), mask)
  return (jnp.exp(old) * terms).sum()


@pytest.mark.parametrize('jitted', [False, True])
@pytest.mark.parametrize('old', [None, OLD])
@pytest.mark.parametrize('name', WORDS)
def test_in_the_mean_it_is_the_divergence_and_its_gradient(name, old, jitted):
  call = jax.value_and_grad(functools.partial(mean, word=WORDS[name], old=old))
  value, gradient = (jax.jit(call) if jitted else call)(jnp.asarray(THETA))
  expected, exact = jax.value_and_grad(EXACT[name])(jnp.asarray(THETA))
  np.testing.assert_allclose(gradient, exact, atol=1e-6)
  if name != 'reverse_k2':   # whose value is not the divergence
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize('name', WORDS)
def test_a_policy_that_is_its_teacher_stays(name):
  gradient = jax.grad(mean)(jnp.asarray(TEACHER), WORDS[name], None)
  np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_each_token_moves_by_the_weight_that_is_documented():
  logps, teacher = np.float32([-1, -2, -1]), np.float32([-2, -1, -1])
  x = teacher - logps
  one = np.ones(3, np.float32)
  for name, expected in (('reverse', -x), ('reverse_k2', -x),
                         ('forward', 1 - np.exp(x)), ('plain', -np.exp(x))):
    def loss(logps):
      ratio = losses.token_ratio(logps, np.float32([-1, -2, -1]), one > 0)
      return WORDS[name](ratio, logps, teacher, one > 0).sum()
    np.testing.assert_allclose(jax.grad(loss)(logps), expected, rtol=1e-5,
                               atol=1e-6, err_msg=name)


def test_the_cap_bounds_the_weight():
  logps, teacher = np.float32([-5, -1]), np.float32([-1, -1.5])
  ones = np.ones(2, np.float32)
  def loss(x):
    return distill.forward(ones, x, teacher, ones > 0, cap=2.,
                           baseline=False).sum()
  np.testing.assert_allclose(jax.grad(loss)(logps), [-2, -np.exp(-.5)],
                             rtol=1e-6)


@pytest.mark.parametrize('name', WORDS)
def test_masked_equals_removed_and_extremes_are_finite(name):
  inf = np.inf
  logps = np.float32([[-inf, -1, -inf, 0, -500, -1, -inf]])
  teacher = np.float32([[-1, -inf, -inf, -500, 0, -1, np.nan]])
  mask = np.arange(7)[None] < 6
  ratio = np.exp(np.float32([[20, 20, 0, 20, -20, 0, 0]]))
  def call(x, r=ratio, t=teacher, m=mask):
    return WORDS[name](r, x, t, m)
  value, back = jax.vjp(call, logps)
  gradient, = back(np.float32(mask))
  assert np.isfinite(value).all() and np.isfinite(gradient).all()
  assert gradient[0, -1] == 0 and value[0, -1] == 0
  cut, back = jax.vjp(lambda x: call(x, ratio[:, :6], teacher[:, :6],
                                     mask[:, :6]), logps[:, :6])
  np.testing.assert_allclose(value[:, :6], cut, rtol=1e-6)
  np.testing.assert_allclose(gradient[:, :6], back(np.ones_like(cut))[0],
                             rtol=1e-6)
