"""Array label sets and states in numpy and jitted against one answer's rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import types
from medrl.rewards import labels as oracle
from medrl.rewards.array import labels

# One division of small integers in float32.
RTOL = 1e-6


def found(rule, values, targets, extra, metric):
  jitted = jax.jit(lambda v, t, e: rule(v, t, metric, jnp, e))
  return (rule(values, targets, metric, np, extra),
          np.asarray(jitted(values, targets, extra)))


@functools.cache
def drawn(states):
  """Values [10000, 6], targets and extra names; none, all and equal ones."""
  rng = np.random.default_rng(states)
  values, targets = rng.integers(0, states, (2, 10_000, 6))
  blank = 3 if states == 4 else 0
  values[:1000], targets[500:1500] = blank, blank
  values[1500:3000] = targets[1500:3000]
  sparse = rng.random((2, 4000, 6)) < .8
  values[6000:][sparse[0]] = blank
  targets[6000:][sparse[1]] = blank
  return values, targets, rng.integers(0, 3, 10_000) * (rng.random(10_000) < .3)


@pytest.mark.parametrize('metric', labels.METRICS)
def test_label_sets_equal_the_oracle(metric):
  values, targets, extra = drawn(2)
  expected = [oracle.agreement(
      [*np.flatnonzero(v), *(f'other {i}' for i in range(e))],
      np.flatnonzero(t), metric) for v, t, e in zip(values, targets, extra)]
  for near in found(labels.agreement, values == 1, targets == 1, extra, metric):
    np.testing.assert_allclose(near, expected, rtol=RTOL)
  assert set(expected) >= {0., 1.}


@pytest.mark.parametrize('metric', labels.METRICS)
def test_states_equal_the_oracle(metric):
  values, targets, extra = drawn(4)
  expected = []
  for v, t, e in zip(values, targets, extra):
    said, right = (oracle.mentioned(
        {f'finding {i}': types.STATES[s] for i, s in enumerate(row)})
                   for row in (v, t))
    said += tuple((f'other {i}', 'positive') for i in range(e))
    expected.append(oracle.agreement(said, right, metric))
  for near in found(labels.states, values, targets, extra, metric):
    np.testing.assert_allclose(near, expected, rtol=RTOL)
  assert set(expected) >= {0., 1.}


def test_by_hand_over_groups():
  gold = np.array([[[1, 1, 0, 0]], [[0, 0, 0, 0]]], bool)        # [P, 1, K]
  said = np.array([[[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]],
                   [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]], bool)
  jaccard = labels.agreement(said, gold, 'jaccard', np)
  np.testing.assert_allclose(jaccard, [[1, 1 / 3, 1 / 2], [1, 0, 1]])
  f1 = labels.agreement(said, gold, 'f1', np)
  np.testing.assert_allclose(f1, [[1, 1 / 2, 2 / 3], [1, 0, 1]])


def test_not_mentioned_is_the_last_state_and_metrics_are_the_oracles():
  assert types.STATES.index('not mentioned') == 3
  assert labels.METRICS == oracle.METRICS
  with pytest.raises(ValueError, match="metric 'dice'"):
    labels.agreement(np.ones(2, bool), np.ones(2, bool), 'dice', np)
