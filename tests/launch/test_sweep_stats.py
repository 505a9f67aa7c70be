"""Intervals and verdicts against scipy, tables and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from launch import sweep_stats
from medrl.evals import scores


@pytest.mark.parametrize('n, factor', [   # Student's t at 0.975, from tables
    (2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262)])
def test_interval_is_students(n, factor):
  values = np.random.default_rng(n).normal(3., 2., n)
  found = sweep_stats.estimate(list(values))
  half = factor * values.std(ddof=1) / math.sqrt(n)
  assert found.value == pytest.approx(values.mean())
  # Tables have three decimals.
  assert found.high - found.value == pytest.approx(half, rel=1e-3)
  low, high = stats.t.interval(.95, n - 1, values.mean(), stats.sem(values))
  assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_few_or_no_seeds_have_no_interval():
  assert sweep_stats.estimate([.5])[0] == .5
  assert math.isnan(sweep_stats.estimate([.5]).low)
  assert sweep_stats.estimate([]).n == 0
  alone = sweep_stats.difference({0: 1.}, {1: 0.})
  assert alone.n == 0 and math.isnan(alone.value)
  assert sweep_stats.verdict(alone, 1.) == 'undecided'
  assert sweep_stats.verdict(sweep_stats.estimate([5.]), 1.) == 'undecided'


def test_difference_is_the_paired_one():
  rng = np.random.default_rng(0)
  base = rng.normal(0, 5, 6)               # seeds differ by much
  values = base + .3 + rng.normal(0, .01, 6)   # points by little, within them
  a, b = (dict(enumerate(x)) for x in (values, base))
  found = sweep_stats.difference(a, b | {9: 100.})   # 9 has no partner
  want = stats.ttest_rel(values, base).confidence_interval(.95)
  assert (found.low, found.high) == pytest.approx(tuple(want), rel=1e-12)
  assert found.n == 6
  assert sweep_stats.verdict(found, .1) == 'better'
  whole = sweep_stats.estimate(list(values))
  assert whole.high - whole.low > 100 * (found.high - found.low)


@pytest.mark.parametrize('low, high, larger, smaller', [
    (.011, .02, 'better', 'worse'),
    (-.02, -.011, 'worse', 'better'),
    (-.01, .01, 'equivalent', 'equivalent'),
    (.001, .009, 'equivalent', 'equivalent'),   # surely above 0, and no matter
    (.005, .02, 'undecided', 'undecided'),
    (.01, .02, 'undecided', 'undecided'),       # touches the region
    (-.02, .02, 'undecided', 'undecided'),
])
def test_verdicts(low, high, larger, smaller):
  found = sweep_stats.Estimate((low + high) / 2, low, high, 3)
  assert sweep_stats.verdict(found, .01) == larger
  assert sweep_stats.verdict(found, .01, larger=False) == smaller


def test_why_not_the_bootstrap():
  """Of three seeds it reaches from the least to the largest."""
  rows = [{'record': str(i), 'task': '', 'answer_type': 'text', 'answer': '',
           'prediction': '', 'value': v, 'cluster': str(i)}
          for i, v in enumerate((.2, .5, .9))]
  found = scores.summarise(rows, samples=4000)['accuracy']
  assert (found['low'], found['high']) == pytest.approx((.2, .9))
  draws = np.random.default_rng(0).normal(size=(4000, 3))
  spans = (draws.min(1) < 0) & (draws.max(1) > 0)
  ours = [e.low < 0 < e.high for e in map(sweep_stats.estimate,
                                          draws.tolist())]
  # 1 - 2 / 2 ** 3, and what is promised; four standard errors.
  assert spans.mean() == pytest.approx(.75, abs=4 * .0068)
  assert np.mean(ours) == pytest.approx(.95, abs=4 * .0034)
