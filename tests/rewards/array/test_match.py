"""Matching against scipy's, and matched boxes and points against one answer's.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from medrl.rewards import box as box_oracle
from medrl.rewards import points as point_oracle
from medrl.rewards.array import match

KINDS = ('random', 'ties', 'signed', 'zeros and ones', 'equal', 'small')


def problems(count, rows, columns, seed):
  """Values [count, rows, columns] of all kinds, with ragged scattered masks."""
  rng = np.random.default_rng(seed)
  values = rng.random((count, rows, columns)).astype(np.float32)
  kind = np.arange(count) % len(KINDS)
  values[kind == 1] = np.round(values[kind == 1] * 3) / 3
  values[kind == 2] = values[kind == 2] * 20 - 10
  values[kind == 3] = values[kind == 3] > .7
  values[kind == 4] = .5
  values[kind == 5] *= 1e-3
  masks = []
  for size in (rows, columns):
    mask = np.arange(size) < rng.integers(0, size + 1, (count, 1))
    masks.append(rng.permuted(mask, axis=1))
  full = rng.random(count) < .3
  masks[0][full], masks[1][full] = True, True
  return values, *masks


def scipy_sum(values, rows, columns):
  real = values[rows][:, columns].astype(float)
  if not real.size:
    return 0.0, 0
  i, j = optimize.linear_sum_assignment(real, maximize=True)
  return real[i, j].sum(), len(i)


@functools.cache
def jitted(shape):
  del shape   # one compilation each
  return jax.jit(lambda *arrays: match.assign(*arrays, jnp, jax.lax.fori_loop))


@pytest.mark.parametrize('rows, columns, count', [
    (8, 8, 4000), (16, 16, 1500), (1, 1, 100), (1, 5, 400), (7, 3, 2000),
    (4, 12, 2000)])
def test_sum_equals_scipys(rows, columns, count):
  arrays = problems(count, rows, columns, rows)
  values, real_rows, real_columns = arrays
  expected = [scipy_sum(*problem) for problem in zip(*arrays)]
  scale = 1 + np.abs(values).max((1, 2))
  for column in (match.assign(*arrays, np),
                 np.asarray(jitted((rows, columns))(*arrays))):
    taken = column[..., None] == np.arange(columns)
    assert taken.sum(1).max() <= 1                        # one-to-one
    assert not (taken & ~(real_rows[:, :, None] & real_columns[:, None])).any()
    assert (taken.sum((1, 2)) == [n for _, n in expected]).all()
    total = np.where(taken, values.astype(float), 0).sum((1, 2))
    # Costs are rounded to 1e-7 of their spread, and at most 16 are added.
    off = np.abs(total - [t for t, _ in expected]) / scale
    assert off.max() < 2e-6, off.max()


def test_no_values_lead_astray():
  values = np.array([[[3e38, -3e38], [1., 2.]], [[1e-38, 0.], [0., 0.]]],
                    np.float32)
  yes = np.ones((2, 2), bool)
  column = match.assign(values / 4, yes, yes, np)
  np.testing.assert_array_equal(column, [[0, 1], [0, 1]])


def test_unrolled_equals_looped():
  arrays = problems(600, 5, 6, 0)
  unrolled = jax.jit(lambda *a: match.total(*a, jnp))
  looped = jax.jit(lambda *a: match.total(*a, jnp, jax.lax.fori_loop))
  np.testing.assert_array_equal(unrolled(*arrays), looped(*arrays))
  np.testing.assert_allclose(unrolled(*arrays), match.total(*arrays, np),
                             rtol=1e-6)


def test_too_many_are_refused():
  values = np.zeros((1, 31, 2))
  with pytest.raises(ValueError, match='31 rows'):
    match.assign(values, np.ones((1, 31), bool), np.ones((1, 2), bool), np)


def items(rng, shape, width, labels):
  """Items with few places, so that many coincide, and ragged masks."""
  places = rng.integers(0, 24, (*shape, width)).astype(np.float32)
  if width == 4:
    size = rng.integers(0, 12, (*shape, 2))   # some have no area
    places[..., 2:] = places[..., :2] + size
  mask = np.arange(shape[-1]) < rng.integers(
      0, shape[-1] + 1, (*shape[:-1], 1))
  mask[rng.random(shape[:-1]) < .1] = False
  return match.Items(places, rng.permuted(mask, axis=-1),
                     rng.integers(0, labels, shape))


def listed(of, i):
  """Returns one set as the oracle takes it: (label, place) pairs."""
  return [(int(label), tuple(place)) for place, label in zip(
      of.places[i][of.mask[i]].tolist(), of.labels[i][of.mask[i]])]


def both(rule, predicted, gold, *arrays, **options):
  fast = jax.jit(lambda *a: rule(*a, jnp, fori=jax.lax.fori_loop, **options))
  return (rule(predicted, gold, *arrays, np, **options),
          np.asarray(fast(predicted, gold, *arrays)))


@pytest.mark.parametrize('labels', [1, 3])
@pytest.mark.parametrize('options', [
    {}, {'metric': 'giou', 'penalty': .1}, {'threshold': .5, 'over': 'mean'},
    {'metric': 'diou', 'over': 'mean', 'penalty': .3}, {'metric': 'centre'}],
    ids=str)
def test_boxes_equal_the_oracle(options, labels):
  rng = np.random.default_rng(labels)
  predicted = items(rng, (250, 4, 6), 4, labels)   # [P, G, N]
  gold = items(rng, (250, 1, 5), 4, labels)
  rest = {k: v for k, v in options.items() if k in ('over', 'penalty')}
  pair = box_oracle.labelled(box_oracle.pair(
      options.get('metric', 'iou'), options.get('threshold', 0)))
  expected = [[box_oracle.matched(listed(predicted, (p, g)),
                                  listed(gold, (p, 0)), pair, **rest)
               for g in range(4)] for p in range(250)]
  for values in both(match.boxes, predicted, gold, **options):
    # At most 5 overlaps in float32, each rounded to about 1e-7.
    np.testing.assert_allclose(values, expected, atol=1e-6, rtol=0)
  assert np.ptp(expected) > .5


@pytest.mark.parametrize('metric', point_oracle.METRICS)
def test_points_equal_the_oracle(metric):
  rng = np.random.default_rng(7)
  predicted = items(rng, (300, 4, 6), 2, 1)
  gold = items(rng, (300, 1, 4), 2, 1)
  spacing = rng.choice([.1, .25, .5], (300, 1, 2)).astype(np.float32)
  expected = [[point_oracle.agreement(
      [place for _, place in listed(predicted, (p, g))],
      [place for _, place in listed(gold, (p, 0))],
      spacing[p, 0].tolist(), metric=metric, ordered=False)
               for g in range(4)] for p in range(300)]
  for values in both(match.points, predicted, gold, spacing, metric=metric):
    np.testing.assert_allclose(values, expected, atol=1e-6, rtol=0)
  assert np.ptp(expected) > .5


def test_radial_errors_equal_the_oracle():
  rng = np.random.default_rng(8)
  a, b = rng.integers(-50, 50, (2, 10_000, 2)).astype(np.float32)
  b[:500] = a[:500]
  spacing = np.array([.25, .5], np.float32)
  expected = np.array([point_oracle.error(p, q, spacing.tolist())
                       for p, q in zip(a.tolist(), b.tolist())])
  worth = [point_oracle.near(e, 2.5) for e in expected]
  jitted = jax.jit(match.radial_error, static_argnums=3)
  for rule, xp in ((match.radial_error, np), (jitted, jnp)):
    error = rule(a, b, spacing, xp)
    # One square root in float32 of an exact sum: half a unit in 2^-23.
    np.testing.assert_allclose(error, expected, rtol=1e-6)
    np.testing.assert_array_equal(match.near(error, 2.5, 'success', xp), worth)
  assert (expected == 2.5).any()   # the threshold itself is met


def test_unknown_options_are_refused():
  one = match.Items(np.zeros((1, 1, 4)), np.ones((1, 1), bool),
                    np.zeros((1, 1), int))
  with pytest.raises(ValueError, match="over 'gold'"):
    match.boxes(one, one, np, over='gold')
  with pytest.raises(ValueError, match="metric 'mre'"):
    match.near(np.zeros(1), 2.0, 'mre', np)
