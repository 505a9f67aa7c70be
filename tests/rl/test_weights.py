"""Weights by entropy against NumPy's quantiles."""

import jax
import numpy as np
import pytest

from medrl.rl import weights


def data():
  rng = np.random.default_rng(0)
  entropy = rng.gamma(1., 1., (3, 2, 9)).astype(np.float32)
  mask = np.arange(9) < rng.integers(1, 10, (3, 2, 1))
  mask[0, 0, 1] = False
  mask[1, 1] = False
  return entropy, mask


@pytest.mark.parametrize('jitted', [False, True])
@pytest.mark.parametrize('share', [.2, .5, 1.])
def test_forks_are_the_tokens_from_the_quantile_on(share, jitted):
  entropy, mask = data()
  def ran(over):
    def call(e, m):
      return weights.forks(e, m, share=share, over=over)
    return np.asarray((jax.jit(call) if jitted else call)(entropy, mask))
  of_each = ran('completion')
  for place in np.ndindex(3, 2):
    kept = entropy[place][mask[place]]
    if kept.size:
      bound = np.quantile(kept, np.float32(1 - share))
      np.testing.assert_array_equal(of_each[place][mask[place]], kept >= bound)
  bound = np.quantile(entropy[mask], np.float32(1 - share))
  np.testing.assert_array_equal(ran('batch'), mask & (entropy >= bound))
  assert (of_each[~mask] == 0).all()


def test_ten_tokens_have_two_forks():
  entropy = np.arange(10, dtype=np.float32)[None, None]
  found = weights.forks(entropy, np.ones(entropy.shape, bool))
  np.testing.assert_array_equal(found[0, 0], [0] * 8 + [1] * 2)


@pytest.mark.parametrize('over', ['completion', 'batch'])
def test_masked_equals_removed_and_extremes(over):
  entropy, _ = data()
  mask = np.ones(entropy.shape, bool)
  mask[..., 5:] = False
  def call(e, m):
    return np.asarray(weights.forks(e, m, over=over))
  dirty = call(np.where(mask, entropy, np.inf), mask)
  np.testing.assert_array_equal(dirty[..., :5],
                                call(entropy[..., :5], mask[..., :5]))
  assert not dirty[..., 5:].any()
  # Equal entropies, one token, none.
  assert call(np.ones_like(entropy), mask)[mask].all()
  one = mask & (np.arange(9) == 2)
  if over == 'completion':
    assert call(entropy, one)[one].all()
  assert not call(entropy, mask & False).any()


def test_uniform():
  entropy, mask = data()
  np.testing.assert_array_equal(weights.uniform(entropy, mask), mask)


@pytest.mark.parametrize('options', [{'share': 0.}, {'share': 1.5},
                                     {'over': 'group'}])
def test_out_of_range(options):
  with pytest.raises(ValueError, match='must be in'):
    weights.forks(*data(), **options)
