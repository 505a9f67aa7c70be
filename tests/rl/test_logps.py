"""token_logps against log_softmax of the whole logits, and its memory."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rl import logps

ROWS, D, V = (2, 3), 8, 36


@pytest.fixture(autouse=True)
def highest_precision():
  with jax.default_matmul_precision('highest'):
    yield


def data(scale=1., dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0), 3)
  hidden = jax.random.normal(keys[0], (*ROWS, D)).astype(dtype)
  head = (scale * jax.random.normal(keys[1], (D, V))).astype(dtype)
  return hidden, head, jax.random.randint(keys[2], ROWS, 0, V)


def whole(hidden, head, targets, temperature=1., banned=None, soft_cap=0.):
  logits = (hidden @ head).astype(jnp.float32)
  if soft_cap:
    logits = soft_cap * jnp.tanh(logits / soft_cap)
  logits = logits / temperature
  if banned is not None:
    logits = jnp.where(banned, -1e30, logits)
  logp = jax.nn.log_softmax(logits)
  chosen = jnp.take_along_axis(logp, targets[..., None], -1)[..., 0]
  return chosen, -(jnp.exp(logp) * logp).sum(-1)


def longhand(hidden, head, targets, banned, temperature, soft_cap):
  """Both in float64, a row and an id at a time; banned ids do not exist."""
  ids = [i for i in range(V) if not banned[i]]
  out = []
  for state, target in zip(np.asarray(hidden, float).reshape(-1, D),
                           np.asarray(targets).reshape(-1)):
    logit = {i: float(state @ np.asarray(head, float)[:, i]) for i in ids}
    if soft_cap:
      logit = {i: soft_cap * np.tanh(x / soft_cap) for i, x in logit.items()}
    mass = sum(np.exp(x / temperature) for x in logit.values())
    logp = {i: x / temperature - np.log(mass) for i, x in logit.items()}
    out.append((logp[int(target)],
                -sum(np.exp(x) * x for x in logp.values())))
  return tuple(np.reshape(x, ROWS) for x in zip(*out))


def some_banned(targets):
  """A whole first chunk of 10, and places of the last one; targets not."""
  banned = jnp.zeros(V, bool).at[:10].set(True).at[29:33].set(True)
  return banned, jnp.where(banned[targets], 20, targets)


class Variants(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_values(self):
    call = self.variant(lambda *a: logps.token_logps(*a, chunk=10))
    chex.assert_trees_all_close(call(*data()), whole(*data()), rtol=1e-5,
                                atol=1e-6)


@pytest.mark.parametrize('options', [
    {}, {'temperature': .6}, {'soft_cap': 2.}, {'shards': 4},
    {'temperature': .6, 'soft_cap': 2., 'shards': 3}])
def test_values_are_those_of_the_definition(options):
  hidden, head, targets = data()
  banned, targets = some_banned(targets)
  found = jax.jit(lambda *a: logps.token_logps(
      *a, chunk=5, banned=banned, **options))(hidden, head, targets)
  right = longhand(hidden, head, targets, banned,
                   options.get('temperature', 1.), options.get('soft_cap', 0.))
  # Float32 sums of 36 terms of size 1.
  chex.assert_trees_all_close(found, right, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize('options', [
    dict(chunk=1), dict(chunk=10), dict(chunk=35), dict(chunk=36),
    dict(chunk=100), dict(chunk=10, temperature=.6),
    dict(chunk=10, soft_cap=2.), dict(chunk=7, temperature=1.5, soft_cap=.5),
    dict(chunk=5, shards=2), dict(chunk=100, shards=4),
    dict(chunk=5, shards=3, temperature=.6, soft_cap=2.)])
@pytest.mark.parametrize('with_banned', [False, True])
def test_values_and_gradients(options, with_banned):
  hidden, head, targets = data()
  banned = None
  if with_banned:
    banned, targets = some_banned(targets)
  weights = jax.random.normal(jax.random.key(1), (2, *ROWS))

  def loss(hidden, head, call):
    both = call(hidden, head, targets)
    return (weights * jnp.stack(both)).sum(), both

  def ours(*arrays):
    return logps.token_logps(*arrays, banned=banned, **options)

  def theirs(*arrays):
    return whole(*arrays, options.get('temperature', 1.), banned,
                 options.get('soft_cap', 0.))

  both = jax.jit(jax.grad(loss, (0, 1), has_aux=True), static_argnums=2)
  gradients, values = both(hidden, head, ours)
  expected, right = both(hidden, head, theirs)
  chex.assert_trees_all_close(values, right, rtol=1e-5, atol=1e-6)
  for got, want in zip(gradients, expected):
    assert (jnp.linalg.norm(got - want) / jnp.linalg.norm(want)) < 1e-5


@pytest.mark.parametrize('shards', [1, 4])
def test_without_entropy_nothing_else_changes(shards):
  hidden, head, targets = data()

  def loss(hidden, head, entropy):
    logp, spread = logps.token_logps(hidden, head, targets, chunk=10,
                                     entropy=entropy, shards=shards)
    return (logp ** 2).sum(), (logp, spread)

  both = jax.jit(jax.grad(loss, (0, 1), has_aux=True), static_argnums=2)
  gradients, (logp, spread) = both(hidden, head, False)
  expected, (right, _) = both(hidden, head, True)
  assert spread is None
  chex.assert_trees_all_close((gradients, logp), (expected, right), rtol=1e-6)


def test_large_logits_keep_the_entropy():
  hidden, head, targets = data()
  shift = jnp.ones((*ROWS, 1))
  hidden = jnp.concatenate([hidden, shift], -1)
  head = jnp.concatenate([head, jnp.full((1, V), 3e3)], 0)
  for shards in (1, 4):
    _, entropy = logps.token_logps(hidden, head, targets, chunk=10,
                                   shards=shards)
    np.testing.assert_allclose(entropy, whole(*data())[1], atol=2e-3)


@pytest.mark.parametrize('shards', [1, 4])
@pytest.mark.parametrize('soft_cap', [0., 30.])
def test_extremes(shards, soft_cap):
  """One id far above all others; logits all alike; rows that are zero."""
  hidden = jnp.ones((3, 1)).at[1:].set(0)
  head = jnp.full((1, V), -1e4).at[0, 7].set(1e4)
  targets = jnp.array([7, 7, 30])

  def loss(hidden, head):
    both = logps.token_logps(hidden, head, targets, chunk=5, shards=shards,
                             soft_cap=soft_cap)
    return sum(x.sum() for x in both), both

  gradients, both = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(hidden, head)
  even = np.log(V)
  np.testing.assert_allclose(both[0], [0, -even, -even], atol=1e-6)
  np.testing.assert_allclose(both[1], [0, even, even], atol=1e-6)
  chex.assert_tree_all_finite(gradients)
  below, _ = logps.token_logps(hidden, head, targets - 1, chunk=5,
                               shards=shards, soft_cap=soft_cap)
  np.testing.assert_allclose(below[0], -2 * (soft_cap or 1e4), rtol=1e-6)


def test_no_rows():
  _, head, _ = data()
  both = logps.token_logps(jnp.zeros((0, D)), head, jnp.zeros(0, int), chunk=5)
  chex.assert_shape(both, (0,))


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
  gradients = jax.jit(jax.grad(loss, (0, 1)))(hidden, head)
  chex.assert_type(gradients, jnp.bfloat16)
  right = jax.jit(jax.grad(loss, (0, 1)))(hidden.astype(jnp.float32),
                                          head.astype(jnp.float32))
  for got, want in zip(gradients, right):
    # Rounded once as a factor of the product and once as a result: 2 ** -8.
    gap = jnp.linalg.norm(got.astype(jnp.float32) - want)
    assert gap < 2 ** -8 * jnp.linalg.norm(want)


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


def products(function, *arrays):
  """Matrix products of a program, by the letters of their dimensions."""
  text = jax.jit(function).lower(*arrays).compile().as_text()
  return set(re.findall(r'/(\w+,\w+->\w+)/dot_general', text))


def test_a_frozen_head_costs_no_gradient():
  hidden, head, targets = data()

  def loss(hidden, head):
    return sum(x.sum() for x in logps.token_logps(hidden, head, targets,
                                                  chunk=10))
  both = products(jax.grad(loss, (0, 1)), hidden, head)
  one = products(jax.grad(loss), hidden, head)
  assert len(both) == 3 and len(one) == 2, (both, one)


@pytest.mark.parametrize('shards', [1, 4])
def test_a_head_stored_by_row_is_not_copied(shards):
  """As [V, D], which every family stores: no other array is as large."""
  def loss(hidden, table, targets):
    both = logps.token_logps(hidden, table.T, targets, chunk=256,
                             shards=shards)
    return sum(x.sum() for x in both)

  table = jax.ShapeDtypeStruct((8192 + 64, 64), jnp.float32)
  compiled = jax.jit(jax.grad(loss, (0, 1))).lower(
      jax.ShapeDtypeStruct((16, 64), jnp.float32), table,
      jax.ShapeDtypeStruct((16,), jnp.int32)).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < table.size * 4 / 2


@pytest.mark.parametrize('options, message', [
    ({'chunk': 0}, 'chunk 0.* must all be positive'),
    ({'chunk': 8, 'temperature': 0.}, 'temperature 0.0.* must all be'),
    ({'chunk': 8, 'soft_cap': -1.}, 'soft_cap -1.0 positive or 0'),
    ({'chunk': 8, 'shards': 0}, 'shards 0 must all be'),
    ({'chunk': 8, 'shards': 5}, '36 rows does not split into 5 shards; pad')])
def test_bad_options_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    logps.token_logps(*data(), **options)
