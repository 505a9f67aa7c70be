"""Advantages against longhand numbers."""

import chex
import numpy as np
import pytest

from medrl.rl import advantages

SCORES = np.array([[1., 3.], [2., 2.], [0., 1.]], np.float32)


def info(valid, length=3):
  shape = (*np.shape(valid), length)
  mask = np.ones(shape, bool)
  mask[:, 0, -1] = False
  return advantages.Info(mask, np.array(valid), np.zeros(shape, np.float32),
                         np.zeros(shape, np.float32))


def all_valid(scores):
  return info(np.ones(scores.shape, bool))


class Variants(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_values(self):
    # Rewards 1 and 3: mean 2, sample std sqrt(2).
    for name, expected in (
        ('group_norm', [[-.7071, .7071], [0, 0], [-.7071, .7071]]),
        ('center', [[-1, 1], [0, 0], [-.5, .5]]),
        ('leave_one_out', [[-2, 2], [0, 0], [-1, 1]])):
      given = all_valid(SCORES)
      result = self.variant(getattr(advantages, name))(SCORES, given)
      expected = np.array(expected)[..., None] * given.mask
      np.testing.assert_allclose(result, expected, atol=2e-5, err_msg=name)

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_uniform_groups(self):
    valid = np.array([[True, True], [True, True], [True, False]])
    result = self.variant(advantages.uniform_groups)(SCORES, valid)
    np.testing.assert_array_equal(result, [False, True, True])


def test_group_norm_is_ddof_1_of_the_valid():
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(4, 6)).astype(np.float32)
  valid = rng.random((4, 6)) < .7
  result = advantages.group_norm(np.where(valid, scores, np.nan), info(valid))
  for row, kept, got in zip(scores, valid, np.asarray(result[..., 0])):
    known = row[kept]
    expected = (known - known.mean()) / (known.std(ddof=1) + 1e-6)
    np.testing.assert_allclose(got[kept], expected, rtol=1e-4, atol=1e-6)
    assert (got[~kept] == 0).all()


def test_leave_one_out_is_minus_the_mean_of_others():
  scores = np.array([[1., 0., 5., 2.]], np.float32)
  expected = [1 - 7 / 3, 0 - 8 / 3, 5 - 3 / 3, 2 - 6 / 3]
  result = advantages.leave_one_out(scores, all_valid(scores))
  np.testing.assert_allclose(result[0, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize('name', ['group_norm', 'center', 'leave_one_out'])
def test_invalid_equals_removed(name):
  advantage = getattr(advantages, name)
  whole = np.array([[.3, 9., .8, .1]], np.float32)
  valid = np.array([[True, False, True, True]])
  kept = whole[:, [0, 2, 3]]
  result = advantage(whole, info(valid))
  np.testing.assert_allclose(result[:, [0, 2, 3]],
                             advantage(kept, all_valid(kept)), rtol=1e-6)


@pytest.mark.parametrize('name', ['group_norm', 'center', 'leave_one_out'])
@pytest.mark.parametrize('scores, valid', [
    ([[.1] * 7], [[True] * 7]),       # the mean is not .1 in float32
    ([[4.]], [[True]]),               # a group of one
    ([[1., 5.]], [[True, False]]),    # one that can be scored
    ([[np.nan] * 2], [[False] * 2]),  # none
])
def test_nothing_to_learn_is_exactly_zero(name, scores, valid):
  result = getattr(advantages, name)(np.float32(scores), info(valid))
  assert (np.asarray(result) == 0).all()


def test_a_reward_that_is_nan_but_valid_is_not_hidden():
  scores = np.array([[np.nan, 1.]], np.float32)
  assert np.isnan(advantages.center(scores, all_valid(scores))[0, 1]).all()


def test_span_credit_is_normalised_over_the_groups_stretches():
  """Longhand: three credited tokens 1, 1, 4 of a group, one of them alone."""
  nan = np.nan
  credit = np.array([[[1, 1, nan], [nan, 4, 9]],     # 9: not written by it
                     [[2, 2, nan], [nan, 2, nan]],   # all alike
                     [[5, nan, nan], [7, 7, 7]]], np.float32)   # 7: invalid
  given = info([[True, True], [True, True], [True, False]])
  given = given._replace(mask=np.array(given.mask) & np.array(
      [[[1, 1, 1], [1, 1, 0]]] * 3, bool))
  result = np.asarray(advantages.span_credit(credit, given))
  deviation = np.std([1, 1, 4], ddof=1)
  expected = np.zeros_like(credit)
  expected[0, 0, :2] = (1 - 2) / deviation
  expected[0, 1, 1] = (4 - 2) / deviation
  np.testing.assert_allclose(result, expected, atol=1e-5)
