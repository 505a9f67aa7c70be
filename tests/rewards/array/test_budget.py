"""Array length rewards in numpy and jitted jax against the rule of one text.

10,000 pairs of length and budget each, ends included. The tolerance is 1e-6:
float32 rounds a quotient of numbers below 2^24 to 6e-8, and cos a few more.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import types
from medrl.rewards import budget as oracle
from medrl.rewards.array import budget

P, G = 1250, 8


def cases():
  rng = np.random.default_rng(0)
  lengths = rng.integers(0, 3000, (P, G)).astype(np.int32)
  budgets = rng.integers(2, 2500, P).astype(np.int32)
  budgets[::3] *= -1
  budgets[::7] = -1
  lengths[:50] = np.abs(budgets[:50, None])
  lengths[50:60, 0] = 0
  return lengths, budgets


def both(function, *arrays):
  yield function(*arrays, np)
  yield jax.jit(lambda *a: function(*a, jnp))(*map(jnp.asarray, arrays))


@pytest.mark.parametrize('name, options', [
    ('exact', {'budget': 700}), ('exact', {'scale': 1 / 0.0003}),
    ('maximum', {}), ('maximum', {'scale': 1 / 0.0003, 'centre': 0.5,
                                  'low': 0.0}),
    ('signed', {}),
    ('overlong', {'limit': 2048, 'buffer': 512}),
    ('overlong', {'limit': 512, 'buffer': 512, 'low': float('-inf')}),
    ('cosine', {'start': 0, 'limit': 2500}), ('cosine', {'start': 1000})])
def test_equals_the_oracle(name, options):
  lengths, budgets = cases()
  if name != 'signed':
    budgets = np.abs(budgets)
  rule = getattr(oracle, name)
  expected = []
  for row, n in zip(lengths.tolist(), budgets.tolist(), strict=True):
    record = types.Record(id='r', question='', answer=None, answer_type='text',
                          meta={'budget': n})
    group = [types.Completion('', ids=(0,) * size) for size in row]
    expected.append(rule(record, group, {}, **options).total)
  function = functools.partial(getattr(budget, name), **options)
  arrays = (lengths,) if name in ('overlong', 'cosine') else (lengths, budgets)
  for found in both(function, *arrays):
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
  assert len(set(np.ravel(expected).tolist())) > 100


def test_signed_is_nan_where_the_oracle_refuses():
  budgets = np.array([0, 1, .5, -.5, np.nan, np.inf, -np.inf, -1, 2, -2])
  for found in both(budget.signed, np.ones((len(budgets), 2)), budgets):
    assert np.isnan(found).all(-1).tolist() == [True] * 7 + [False] * 3
    assert np.isnan(found).any(-1).tolist() == [True] * 7 + [False] * 3


@pytest.mark.parametrize('xp', [np, jnp], ids=['numpy', 'jax'])
def test_written(xp):
  ids = xp.asarray([[[5, 9, 5, 5], [5, 5, 5, 5], [8, 9, 5, 5], [9, 9, 9, 9]]])
  mask = xp.asarray([[[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 1]]],
                    dtype=bool)
  found = budget.written(ids, mask, xp, stop=(8, 9))
  np.testing.assert_array_equal(found, np.array(
      [[[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]], bool))


def test_wrong_options():
  with pytest.raises(ValueError, match='buffer'):
    budget.overlong(np.zeros((1, 1)), np, limit=4, buffer=0)
