"""Ratios, surrogates and reductions against longhand NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import metrics
from medrl.rl import losses

SHAPE = (3, 2, 5)
RATIOS = ('token_ratio', 'sequence_ratio', 'geometric_ratio')
SURROGATES = ('clip', 'dual_clip', 'unclipped', 'gpg', 'cispo', 'sapo', 'gmpo')
REDUCTIONS = ('token_mean', 'sequence_mean', 'sequence_sum', 'fixed_length',
              'token_sum')
BOTH = pytest.mark.parametrize('jitted', [False, True])


def data(seed=0):
  """Log-probs, old ones, a mask with gaps and an empty row, advantages."""
  rng = np.random.default_rng(seed)
  logps, old = rng.normal(-1, .4, (2, *SHAPE)).astype(np.float32)
  mask = np.arange(5) < rng.integers(1, 6, (3, 2, 1))
  mask[0, 0] = [True, False, True, True, False]
  mask[1, 1] = False
  values = rng.normal(size=SHAPE).astype(np.float32)
  return logps, old, mask, values


def ran(function, jitted, *arguments):
  return (jax.jit(function) if jitted else function)(*arguments)


def mean_gaps(logps, old, mask):
  gaps = np.where(mask, logps - old, 0).sum(-1, keepdims=True)
  return gaps / np.maximum(mask.sum(-1, keepdims=True), 1)


@BOTH
@pytest.mark.parametrize('name', RATIOS)
def test_ratios(name, jitted):
  logps, old, mask, _ = data()
  result = ran(getattr(losses, name), jitted, logps, old, mask)
  if name == 'token_ratio':
    expected = np.where(mask, np.exp(logps - old), 1)
  else:
    expected = np.broadcast_to(np.exp(mean_gaps(logps, old, mask)), SHAPE)
  np.testing.assert_allclose(result, expected, rtol=1e-5)


def numbers(name, r, a, logps, low, high, mask):
  """Losses and what was cut, in the papers' letters."""
  cut = np.clip(r, 1 - low, 1 + high)
  if name == 'clip':
    return -np.minimum(r * a, cut * a), cut * a < r * a
  if name == 'dual_clip':   # verl: min(max(-r A, -clip A), -c A) for A < 0
    worst = np.maximum(-r * a, -cut * a)
    return (np.where(a < 0, np.minimum(worst, -3 * a), worst),
            (cut * a < r * a) | ((a < 0) & (-3 * a < worst)))
  if name == 'unclipped':
    return -r * a, np.zeros(r.shape)
  if name == 'gpg':
    return -a * logps, np.zeros(r.shape)
  if name == 'cispo':
    return -cut * a * logps, cut != r
  if name == 'sapo':
    tau = np.where(a > 0, 1., 1.05)
    return -4 / tau / (1 + np.exp(-tau * (r - 1))) * a, np.zeros(r.shape)
  losses_, clipped = np.zeros(r.shape), np.zeros(r.shape, bool)
  for place in np.ndindex(r.shape[:-1]):
    kept = mask[place]
    d = np.log(r[place])
    sign = np.sign(a[place])
    bound = np.clip(d, -low, high)
    d_ = sign * np.minimum(sign * d, sign * bound)
    clipped[place] = sign * bound < sign * d
    if kept.any():
      losses_[place] = -a[place][kept].mean() * np.exp(d_[kept].mean())
  return losses_, clipped


@BOTH
@pytest.mark.parametrize('name', SURROGATES)
def test_surrogates(name, jitted):
  logps, old, mask, advantages = data(1)
  # Far enough on both sides of every bound.
  ratio = np.where(mask, np.exp(3 * (logps - old)), 1).astype(np.float32)
  function = functools.partial(getattr(losses, name), low=.2, high=.28)
  loss, clipped = ran(function, jitted, ratio, advantages, logps, mask)
  expected, cut = numbers(name, ratio.astype(float), advantages, logps, .2,
                          .28, mask)
  np.testing.assert_allclose(loss, np.where(mask, expected, loss), rtol=1e-4)
  np.testing.assert_array_equal(np.asarray(clipped)[mask], cut[mask])
  assert clipped.dtype == bool


@pytest.mark.parametrize('name', ['clip', 'dual_clip', 'cispo', 'gmpo'])
def test_a_range_for_each_completion_is_that_completions_range(name):
  logps, old, mask, advantages = data(2)
  ratio = losses.token_ratio(logps, old, mask)
  scale = np.float32([[1, .5], [2, .1], [0, 1]])[..., None]
  function = getattr(losses, name)
  found = function(ratio, advantages, logps, mask, low=.2 * scale,
                   high=.28 * scale)
  for p, g in np.ndindex(3, 2):
    one = function(ratio[p, g], advantages[p, g], logps[p, g], mask[p, g],
                   low=.2 * scale[p, g, 0], high=.28 * scale[p, g, 0])
    for a, b in zip(found, one):
      np.testing.assert_allclose(a[p, g], b, rtol=1e-5)


def test_clip_with_two_bounds():
  ratio = np.array([.5, .5, 1.25, 1.25, 1.4, 1.4], np.float32)
  advantage = np.array([1, -1, 1, -1, 2, -2], np.float32)
  loss, clipped = losses.clip(ratio, advantage, ratio, ratio > 0, low=.2,
                              high=.28)
  np.testing.assert_allclose(loss, [-.5, .8, -1.25, 1.25, -2.56, 2.8],
                             rtol=1e-6)
  np.testing.assert_array_equal(clipped, [0, 1, 0, 0, 1, 0])


def test_dual_clip_is_nemo_rls_published_example_and_trls_delta():
  """Ratios .5, 1, 10 and advantages 1, -1, -4: losses -.5, 1, 12."""
  ratio = np.array([.5, 1., 10.], np.float32)
  advantage = np.array([1., -1., -4.], np.float32)
  loss, clipped = losses.dual_clip(ratio, advantage, ratio, ratio > 0, low=.2,
                                   high=.2)
  np.testing.assert_allclose(loss, [-.5, 1., 12.], rtol=1e-6)
  np.testing.assert_array_equal(clipped, [0, 0, 1])
  delta = -np.minimum(np.minimum(ratio, 3) * advantage,
                      np.clip(ratio, .8, 1.2) * advantage)
  np.testing.assert_allclose(loss, delta, rtol=1e-6)


def test_cispos_three_bounds():
  """Relative, TRL's absolute cap, EasyR1's clip of the logarithm."""
  ratio = np.array([.01, .5, 1, 3, 9], np.float32)
  advantage = np.array([1, 1, -2, 1, -1], np.float32)
  logps = np.array([-3, -1, -1, -2, -1], np.float32)
  def call(**k):
    return losses.cispo(ratio, advantage, logps, ratio > 0, **k)
  base = -advantage * logps
  for options, weight in (
      ({'low': 10., 'high': .2}, [.01, .5, 1, 1.2, 1.2]),
      ({'low': .2, 'high': .2}, [.8, .8, 1, 1.2, 1.2]),
      ({'low': .2, 'high': 5., 'absolute': True}, [.01, .5, 1, 3, 5]),
      ({'low': 0., 'high': 4.},
       np.exp(np.clip(np.log(ratio), np.log(1 - 0.), np.log(1 + 4.))))):
    loss, clipped = call(**options)
    np.testing.assert_allclose(loss, np.array(weight) * base, rtol=1e-5)
    np.testing.assert_array_equal(clipped, ~np.isclose(weight, ratio))


def test_clip_gradient_is_zero_where_clipped_and_minus_advantage_elsewhere():
  advantage = jnp.array([1., 1., -1., -1., 1., -1.])
  old = jnp.zeros(6)
  logps = jnp.log(jnp.array([1.5, .5, .5, 1.5, 1., 4.]))
  mask = jnp.ones(6, bool)

  def loss(logps, surrogate):
    ratio = losses.token_ratio(logps, old, mask)
    return surrogate(ratio, advantage, logps, mask, low=.2, high=.2)[0].sum()

  for surrogate, last in ((losses.clip, 4), (losses.dual_clip, 0)):
    np.testing.assert_allclose(jax.grad(loss)(logps, surrogate),
                               [0, -.5, 0, 1.5, -1, last], rtol=1e-6)


@pytest.mark.parametrize('ratio', ['sequence_ratio', 'geometric_ratio'])
def test_gspo_gradient_is_that_of_the_sequence_ratio(ratio):
  """Of either form, where a completion has one advantage."""
  logps, old, mask, _ = data()
  logps, old, mask = logps[0, 0], old[0, 0], mask[0, 0]

  def words(logps):
    return losses.sequence_mean(getattr(losses, ratio)(logps, old, mask),
                                mask).total

  def sequence_form(logps):
    return jnp.exp((mask * (logps - old)).sum() / mask.sum())

  np.testing.assert_allclose(jax.grad(words)(logps),
                             jax.grad(sequence_form)(logps), rtol=1e-5)


def test_gmpo_gradient_is_that_of_the_papers_objective():
  logps, old, mask, advantages = data(4)
  advantages = np.broadcast_to(advantages[..., :1], SHAPE)

  def words(logps):
    ratio = losses.token_ratio(logps, old, mask)
    term, _ = losses.gmpo(ratio, advantages, logps, mask, low=.4, high=.4)
    return losses.sequence_mean(term, mask).total

  def paper(logps):
    sign = jnp.sign(advantages)
    gap = logps - old
    kept = jnp.minimum(sign * gap, sign * jnp.clip(gap, -.4, .4)) * sign * mask
    count = jnp.maximum(mask.sum(-1), 1)
    return jnp.where(mask.any(-1), -advantages[..., 0] * jnp.exp(
        kept.sum(-1) / count), 0).sum()

  value, gradient = jax.value_and_grad(words)(logps)
  expected, exact = jax.value_and_grad(paper)(logps)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('surrogate', SURROGATES)
def test_on_policy_every_surrogate_has_the_policy_gradient(surrogate):
  logps, _, _, advantages = data(5)
  mask = np.ones(SHAPE, bool)
  advantages = np.broadcast_to(advantages[..., :1], SHAPE)

  def loss(logps):
    ratio = losses.token_ratio(logps, jax.lax.stop_gradient(logps), mask)
    term, clipped = getattr(losses, surrogate)(ratio, advantages, logps, mask,
                                               low=.2, high=.2)
    return losses.sequence_sum(term, mask).total, clipped

  gradient, clipped = jax.grad(loss, has_aux=True)(logps)
  np.testing.assert_allclose(gradient, -advantages, rtol=1e-5)
  assert not np.asarray(clipped).any()


def test_cispo_keeps_the_gradient_of_capped_tokens():
  mask = jnp.ones(2, bool)
  def loss(logps):
    ratio = losses.token_ratio(logps, jnp.zeros(2), mask)
    return losses.cispo(ratio, jnp.ones(2), logps, mask, low=10,
                        high=.2)[0].sum()

  np.testing.assert_allclose(jax.grad(loss)(jnp.log(jnp.array([3., .5]))),
                             [-1.2, -.5], rtol=1e-6)


@pytest.mark.parametrize('ratio, bound', [
    ('token_ratio', 20), ('sequence_ratio', 10), ('geometric_ratio', 10)])
def test_ratios_stay_finite(ratio, bound):
  function = getattr(losses, ratio)
  result = function(jnp.zeros((1, 2)), jnp.full((1, 2), -500.),
                    jnp.ones((1, 2), bool))
  np.testing.assert_allclose(result, np.exp(bound), rtol=1e-5)
  option = {'bound' if ratio == 'token_ratio' else 'top': 3.}
  result = function(jnp.zeros((1, 2)), jnp.full((1, 2), -500.),
                    jnp.ones((1, 2), bool), **option)
  np.testing.assert_allclose(result, np.exp(3), rtol=1e-5)


EXTREMES = np.float32([   # of a policy, and of the one before it
    [-np.inf, -1], [-1, -np.inf], [-np.inf, -np.inf], [0, -1e30], [-1e30, 0],
    [0, -500], [-500, 0], [0, 0], [-1, -1]])


@pytest.mark.parametrize('ratio', RATIOS)
@pytest.mark.parametrize('surrogate', SURROGATES)
def test_extremes_give_finite_losses_and_gradients(ratio, surrogate):
  """Log-probs of -inf, ratios beyond exp(20), advantages of either sign or 0,
  rows of one token, of all, and without any."""
  logps, old = (np.broadcast_to(x, (3, 3, 9)) for x in EXTREMES.T)
  advantages = np.broadcast_to(np.float32([1, -1, 0])[:, None, None], (3, 3, 9))
  mask = np.zeros((3, 3, 9), bool)
  mask[:, 1] = True
  mask[:, 2, 5] = True

  @jax.jit
  @jax.value_and_grad
  def loss(logps):
    weight = getattr(losses, ratio)(logps, old, mask)
    term, _ = getattr(losses, surrogate)(weight, advantages, logps, mask,
                                         low=.2, high=.2)
    mean = losses.sequence_mean(term, mask)
    return mean.total / mean.weight

  value, gradient = loss(logps)
  assert np.isfinite(value) and np.isfinite(gradient).all()
  assert (np.asarray(gradient)[:, 0] == 0).all()
  same = losses.token_ratio(logps, old, mask)[0, 1, 2]
  assert same == 1   # two of -inf


@pytest.mark.parametrize('ratio', RATIOS)
@pytest.mark.parametrize('surrogate', SURROGATES)
def test_masked_equals_removed(ratio, surrogate):
  """Garbage outside the mask changes neither value nor gradient."""
  logps, old, _, advantages = data()
  mask = np.ones(SHAPE, bool)
  mask[..., 3:] = False

  def loss(logps, old, advantages, mask):
    weight = getattr(losses, ratio)(logps, old, mask)
    term, _ = getattr(losses, surrogate)(weight, advantages, logps, mask,
                                         low=.2, high=.2)
    means = [getattr(losses, reduce)(term, mask, length=5)
             for reduce in REDUCTIONS]
    return jnp.stack([mean.total / mean.weight for mean in means])

  def gradients(*arrays):
    values, back = jax.vjp(lambda x: loss(x, *arrays[1:]), arrays[0])
    return values, jax.vmap(back)(jnp.eye(len(REDUCTIONS)))[0]

  dirty = np.where(mask, logps, -np.inf)
  value, gradient = gradients(
      dirty, np.where(mask, old, -np.inf), np.where(mask, advantages, 0), mask)
  cut = (x[..., :3] for x in (logps, old, advantages, mask))
  expected, part = gradients(*cut)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(gradient[..., :3], part, rtol=1e-5, atol=1e-7)
  assert (np.asarray(gradient[..., 3:]) == 0).all()


@BOTH
def test_reductions(jitted):
  _, _, mask, values = data()
  weights = np.random.default_rng(1).random(SHAPE).astype(np.float32)
  rows = [(w * v)[m] for v, w, m in zip(
      values.reshape(-1, 5), weights.reshape(-1, 5), mask.reshape(-1, 5))]
  there = [r for r in rows if r.size]
  assert len(there) == 5 and len(rows) == 6
  total = np.concatenate(rows).sum()
  expected = {'token_mean': (total / mask.sum(), {}),
              'sequence_mean': (np.mean([r.mean() for r in there]), {}),
              'empty too': (sum(r.mean() for r in there) / 6,
                            {'count_empty': True}),
              'sequence_sum': (total / 5, {}),
              'fixed_length': (total / 35, {'length': 7}),
              'token_sum': (total / 6, {}),
              'by a constant': (total / 18, {'constant': 3.})}
  names = {'empty too': 'sequence_mean', 'by a constant': 'token_sum'}
  for name, (value, options) in expected.items():
    function = getattr(losses, names.get(name, name))
    mean = ran(functools.partial(function, **options), jitted, values, mask,
               weights)
    np.testing.assert_allclose(metrics.value(mean), value, rtol=1e-5,
                               err_msg=name)


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


@pytest.mark.parametrize('reduce', REDUCTIONS)
def test_a_batch_without_tokens_is_nothing(reduce):
  mask = np.zeros((2, 2, 3), bool)
  mean = getattr(losses, reduce)(np.full(mask.shape, np.inf), mask, length=5)
  assert mean.total == 0
  assert mean.weight == (4 if reduce == 'token_sum' else 0)


@pytest.mark.parametrize('length', [None, 0])
def test_fixed_length_needs_a_length(length):
  with pytest.raises(ValueError, match='generation budget'):
    losses.fixed_length(jnp.ones((1, 2)), jnp.ones((1, 2), bool),
                        length=length)


def test_token_sum_needs_a_constant():
  with pytest.raises(ValueError, match='constant 0'):
    losses.token_sum(jnp.ones((1, 2)), jnp.ones((1, 2), bool), constant=0)
