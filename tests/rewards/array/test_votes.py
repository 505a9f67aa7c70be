"""Array votes in numpy and jitted jax against the rules of one group.

10,000 groups of 1 to 24, random, unanimous, all different, tied, unparsed.
Votes are quotients of small integers: 1e-6. DARE's reward divides and adds a
dozen float32: 1e-5; its pruning is a comparison, with a slack of 1e-5 so that
what is exactly at the threshold survives on both sides.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import types
from medrl.rewards import spread
from medrl.rewards import vote
from medrl.rewards.array import votes

RECORD = types.Record(id='r', question='', answer=None, answer_type='int')
SIZES = (1, 2, 3, 8, 24)


def cases(size, count):
  rng = np.random.default_rng(size)
  kinds = rng.integers(1, 6, (count, 1))
  answers = rng.integers(0, kinds, (count, size))
  answers[rng.random((count, size)) < 0.15] = -1
  answers[:5] = np.arange(size)        # all different
  answers[5:10] = 0                    # all the same
  answers[10:15] = -1                  # none parsed
  answers[15:20] = np.arange(size) % 2
  entropy = rng.gamma(1.0, 0.7, (count, size)).astype(np.float32)
  entropy[:20] = 0.5                   # p exactly at 1 / M
  entropy[::9] = 0.0
  return answers.astype(np.int32), entropy


def groups(answers, entropy):
  return [[types.Completion(f'<answer>{a}</answer>' if a >= 0 else '?',
                            signals={'token_entropy': (e,)})
           for a, e in zip(row, values)]
          for row, values in zip(answers.tolist(), entropy.tolist())]


def check(rule, function, arrays, group_list, tolerance):
  expected = [rule(RECORD, group, {}).total for group in group_list]
  np.testing.assert_allclose(function(*arrays, np), expected, rtol=0,
                             atol=tolerance)
  jitted = jax.jit(lambda *a: function(*a, jnp))
  np.testing.assert_allclose(jitted(*arrays), expected, rtol=0, atol=tolerance)
  return np.array(expected)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name, options', [
    ('majority', {}), ('pseudo_label', {}),
    ('pseudo_label', {'leave_one_out': True})])
def test_votes_equal_the_oracle(size, name, options):
  answers, entropy = cases(size, 700)
  check(functools.partial(getattr(vote, name), **options),
        functools.partial(getattr(votes, name), **options),
        (answers,), groups(answers, entropy), 1e-6)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('options', [
    {}, {'leave_one_out': True}, {'effective': 0.0, 'alpha': 1.0},
    {'over': 'rollouts', 'prune': 0.25},
    {'over': 'rollouts', 'prune': 0.25, 'leave_one_out': True}])
def test_distribution_equals_the_oracle(size, options):
  answers, entropy = cases(size, 400)
  found = check(functools.partial(spread.distribution, **options),
                functools.partial(votes.distribution, **options),
                (answers, entropy), groups(answers, entropy), 1e-5)
  if size > 2 and 'effective' not in options:
    assert 0 <= found.min() < found.max() <= 1.2


def test_kept():
  answers = np.zeros((2, 4), int)
  assert votes.kept(answers, np, keep=3).tolist() == [[1, 1, 1, 0]] * 2
  assert votes.kept(answers, np).all()


@pytest.mark.parametrize('function', [
    votes.majority, votes.pseudo_label,
    functools.partial(votes.pseudo_label, leave_one_out=True),
    lambda a, xp: votes.distribution(a, np.abs(np.sin(a * 1.0)), xp),
    lambda a, xp: votes.distribution(a, np.abs(np.sin(a * 1.0)), xp,
                                     leave_one_out=True)])
def test_permuted_groups(function):
  answers, _ = cases(8, 100)
  order = np.random.default_rng(0).permutation(8)
  np.testing.assert_allclose(function(answers[:, order], np),
                             function(answers, np)[:, order], atol=1e-12)


def test_wrong_options():
  with pytest.raises(ValueError, match='epsilon'):
    votes.distribution(np.zeros((1, 1), int), np.zeros((1, 1)), np,
                       epsilon=0.0)
