"""Intervals over seeds, paired differences, and what they come to.

Few seeds are the rule, so intervals are Student's t and not the bootstrap of
`medrl.evals.scores`, whose 95 % interval of three seeds reaches from the least
to the largest and so holds the mean in three of four cases. Not here: scores by
record.
"""

from collections.abc import Mapping, Sequence
import math
from typing import NamedTuple

from scipy import special

LEVEL = 0.95
RULE = (
    'Each point is compared with the baseline on the seeds that both finished. '
    'Of the differences the mean is given with its 95 % Student interval, '
    'which is also the posterior\'s highest density interval under priors '
    'flat in the mean and in the logarithm of the deviation. By the rule of '
    'Kruschke (2018, doi:10.1177/2515245918771304): better or worse where the '
    'interval lies wholly outside the region of practical equivalence, '
    'equivalent where it lies wholly inside, else undecided. With one seed '
    'there is no interval. Nothing is corrected for the number of points '
    'compared.')


class Estimate(NamedTuple):
  """A mean with its interval, NaN where `n` values do not give one."""
  value: float
  low: float
  high: float
  n: int


def estimate(values: Sequence[float], level: float = LEVEL) -> Estimate:
  """Mean of `values` [n] and its Student interval.

  mean +- t(n - 1, (1 + level) / 2) s / sqrt(n), with s the standard deviation
  by n - 1: Student (1908), "The probable error of a mean".
  """
  n = len(values)
  if not n:
    return Estimate(math.nan, math.nan, math.nan, 0)
  mean = math.fsum(values) / n
  if n == 1:
    return Estimate(mean, math.nan, math.nan, 1)
  variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
  half = float(special.stdtrit(n - 1, (1 + level) / 2)) * math.sqrt(
      variance / n)
  return Estimate(mean, mean - half, mean + half, n)


def difference(values: Mapping[int, float], baseline: Mapping[int, float],
               level: float = LEVEL) -> Estimate:
  """`values` minus `baseline`, both by seed, over the seeds of both."""
  shared = sorted(values.keys() & baseline.keys())
  return estimate([values[seed] - baseline[seed] for seed in shared], level)


def verdict(found: Estimate, rope: float, larger: bool = True) -> str:
  """What a difference from the baseline comes to; see `RULE`.

  Args:
    found: of the difference.
    rope: half the width of the region of practical equivalence around 0.
    larger: whether larger values are better.
  """
  if not math.isfinite(found.low) or not math.isfinite(found.high):
    return 'undecided'
  if -rope <= found.low and found.high <= rope:
    return 'equivalent'
  if found.low > rope:
    return 'better' if larger else 'worse'
  if found.high < -rope:
    return 'worse' if larger else 'better'
  return 'undecided'
