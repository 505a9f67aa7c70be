"""Array repetition in numpy and jitted jax, against tuples in a set.

10,000 completions: random ones of small and large vocabularies, loops,
constants, blocks that return, empty and short ones. Both ways are exact but for
the last bit of the quotient: 1e-7.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.rewards import repetition as oracle
from medrl.rewards.array import repetition

P, G, T = 250, 8, 64


def cases(n):
  rng = np.random.default_rng(n)
  vocab = rng.choice([1, 2, 3, 50, 100_000], (P, G, 1))
  ids = (rng.random((P, G, T)) * vocab).astype(np.int32)
  lengths = rng.integers(0, T + 1, (P, G)).astype(np.int32)
  for p, g in np.ndindex(P, G):
    kind = rng.integers(6)
    if kind == 0:      # a block returns, somewhere
      size = rng.integers(1, T // 2)
      a, b = rng.integers(0, T - size, 2)
      ids[p, g, a:a + size] = ids[p, g, b:b + size]
    elif kind == 1:    # a loop
      ids[p, g] = np.resize(ids[p, g, :rng.integers(1, 30)], T)
    elif kind == 2:
      lengths[p, g] = rng.choice([0, 1, n - 1, n, n + 1, T])
  return ids, np.clip(lengths, 0, T)


def found(ids, lengths, n):
  yield repetition.share(ids, lengths, np, n=n)
  for fori in (None, jax.lax.fori_loop):
    share = functools.partial(repetition.share, xp=jnp, n=n, fori=fori)
    yield jax.jit(share)(ids, lengths)
  # The same way, with Python in place of a jax loop.
  yield repetition.share(ids, lengths, np, n=n, fori=loop)


def loop(low, high, body, value):
  for k in range(int(low), int(high)):
    value = body(k, value)
  return value


@pytest.mark.parametrize('n', [1, 2, 3, 7, 20])
def test_equals_the_oracle(n):
  ids, lengths = cases(n)
  expected = [[oracle.share(tuple(row[:size].tolist()), n)
               for row, size in zip(group, sizes)]
              for group, sizes in zip(ids, lengths)]
  for share in found(ids, lengths, n):
    np.testing.assert_allclose(share, expected, rtol=0, atol=1e-7)
  assert 0.1 < np.mean(np.array(expected) > 0) < 0.9


def test_what_follows_is_not_looked_at():
  ids, lengths = cases(3)
  other = np.where(np.arange(T) < lengths[..., None], ids, 7)
  for fori in (None, loop):
    np.testing.assert_array_equal(
        repetition.share(ids, lengths, np, n=3, fori=fori),
        repetition.share(other, lengths, np, n=3, fori=fori))


def test_a_suspect_that_is_none():
  # 'abcXabcY': half of a gram returns, no gram does.
  ids = np.array([[[1, 2, 3, 4, 1, 2, 3, 5]]])
  lengths = np.array([[8]])
  for share in found(ids, lengths, 6):
    assert share.tolist() == [[0.0]]
  for share in found(ids, lengths, 3):
    np.testing.assert_allclose(share, [[1 / 6]], atol=1e-7)


@pytest.mark.parametrize('shape', [(0, 4, 64), (2, 0, 64), (2, 4, 3),
                                   (2, 4, 0)])
def test_degenerate_shapes(shape):
  ids, lengths = np.zeros(shape, int), np.zeros(shape[:2], int)
  for share in found(ids, lengths, 20):
    assert share.shape == shape[:2] and not share.any()


def test_penalty_and_wrong_n():
  ids = np.zeros((1, 1, 5), int)
  assert repetition.tokens(ids, np.array([[5]]), np, n=2) == -0.75
  with pytest.raises(ValueError, match='n = 0'):
    repetition.share(ids, np.array([[5]]), np, n=0)
