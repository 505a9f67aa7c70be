"""token_logps against log_softmax of the whole logits, and its memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rl import logps

ROWS, D, V = (2, 3), 8, 37


@pytest.fixture(autouse=True)
def highest_precision():
  with jax.default_matmul_precision('highest'):
    yield


def data(scale=1., dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0), 3)
  hidden = jax.random.normal(keys[0], (*ROWS, D)).astype(dtype)
  head = (scale * jax.random.normal(keys[1], (D, V))).astype(dtype)
  return hidden, head, jax.random.randint(keys[2], ROWS, 0, V)


def whole(hidden, head, targets, temperature=1., banned=None):
  logits = (hidden @ head).astype(jnp.float32) / temperature
  if banned is not None:
    logits = jnp.where(banned, -1e30, logits)
  logp = jax.nn.log_softmax(logits)
  chosen = jnp.take_along_axis(logp, targets[..., None], -1)[..., 0]
  return chosen, -(jnp.exp(logp) * logp).sum(-1)


class Variants(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_values(self):
    call = self.variant(lambda *a: logps.token_logps(*a, chunk=10))
    chex.assert_trees_all_close(call(*data()), whole(*data()), rtol=1e-5,
                                atol=1e-6)


@pytest.mark.parametrize('chunk', [1, 10, 36, 37, 100])
@pytest.mark.parametrize('temperature', [1., .6])
@pytest.mark.parametrize('some_banned', [False, True])
def test_values_and_gradients(chunk, temperature, some_banned):
  hidden, head, targets = data()
  # The whole first chunk of 10, and places in the overlap of the last two.
  banned = None
  if some_banned:
    banned = jnp.zeros(V, bool).at[:10].set(True).at[29:35].set(True)
    targets = jnp.where(banned[targets], 20, targets)
  weights = jax.random.normal(jax.random.key(1), (2, *ROWS))

  def loss(hidden, head, call):
    both = call(hidden, head, targets)
    return (weights * jnp.stack(both)).sum(), both

  def ours(*arrays):
    return logps.token_logps(*arrays, chunk=chunk, temperature=temperature,
                             banned=banned)

  def theirs(*arrays):
    return whole(*arrays, temperature, banned)

  gradients, values = jax.grad(loss, (0, 1), has_aux=True)(hidden, head, ours)
  expected, right = jax.grad(loss, (0, 1), has_aux=True)(hidden, head, theirs)
  chex.assert_trees_all_close(values, right, rtol=1e-5, atol=1e-6)
  for got, want in zip(gradients, expected):
    assert (jnp.linalg.norm(got - want) / jnp.linalg.norm(want)) < 1e-5


def test_large_logits_keep_the_entropy():
  hidden, head, targets = data()
  shift = jnp.ones((*ROWS, 1))
  hidden = jnp.concatenate([hidden, shift], -1)
  head = jnp.concatenate([head, jnp.full((1, V), 3e3)], 0)
  _, entropy = logps.token_logps(hidden, head, targets, chunk=10)
  np.testing.assert_allclose(entropy, whole(*data())[1], atol=2e-3)


def test_a_banned_target_is_impossible_and_harmless_when_masked():
  hidden, head, targets = data()
  banned = jnp.zeros(V, bool).at[targets[0, 0]].set(True)
  mask = targets != targets[0, 0]

  def loss(hidden, head):
    logp, _ = logps.token_logps(hidden, head, targets, chunk=10, banned=banned)
    return (mask * logp).sum(), logp

  gradients, logp = jax.grad(loss, (0, 1), has_aux=True)(hidden, head)
  assert logp[0, 0] < -1e29
  chex.assert_tree_all_finite((gradients, logp))
  assert (gradients[0][0, 0] == 0).all()
  # Unmasked too, nothing pulls on a logit that the policy does not have.
  column = jax.grad(lambda head: loss(hidden, head)[1].sum())(head)
  assert (column[:, targets[0, 0]] == 0).all()


def test_bfloat16_accumulates_in_float32():
  hidden, head, targets = data(dtype=jnp.bfloat16)
  both = logps.token_logps(hidden, head, targets, chunk=10)
  exact = whole(hidden.astype(jnp.float32), head.astype(jnp.float32), targets)
  chex.assert_type(both, jnp.float32)
  chex.assert_trees_all_close(both, exact, rtol=1e-5, atol=1e-5)

  def loss(hidden, head):
    return sum(x.sum() for x in logps.token_logps(hidden, head, targets,
                                                  chunk=10))
  gradients = jax.grad(loss, (0, 1))(hidden, head)
  chex.assert_type(gradients, jnp.bfloat16)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_memory_is_that_of_chunks(dtype):
  """512 rows, 50,000 ids: the logits alone would be 102 MB."""
  rows, width, ids, chunk = 512, 16, 50_000, 4096
  hidden = jax.ShapeDtypeStruct((rows, width), dtype)
  head = jax.ShapeDtypeStruct((width, ids), dtype)
  targets = jax.ShapeDtypeStruct((rows,), jnp.int32)

  def forward(hidden, head, targets):
    return logps.token_logps(hidden, head, targets, chunk=chunk)

  def loss(hidden, head, targets):
    logp, entropy = forward(hidden, head, targets)
    return logp.sum() - .1 * entropy.sum()

  full = rows * ids * 4
  for function in (forward, jax.grad(loss, (0, 1))):
    compiled = jax.jit(function).lower(hidden, head, targets).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < full / 3, (temporary, full)


@pytest.mark.parametrize('options', [{'chunk': 0},
                                     {'chunk': 8, 'temperature': 0.}])
def test_bad_options_are_named(options):
  with pytest.raises(ValueError, match='must both be positive'):
    logps.token_logps(*data(), **options)
