"""Numbers within a tolerance or between limits, over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.number`.
"""

from typing import Any

SLACK = 1e-9  # as in the oracle


def within(values: Any, targets: Any, rel: Any, abs_: Any, xp: Any) -> Any:
  """Returns 1.0 where |value - target| <= max(rel |target|, abs_), else 0.0.

  A limit other than 0 gives way by what writing value, target and limit in
  their dtype may lose, as '0.315' is 0.3 with rel 0.05. In float32 this is half
  a unit at 4 million; whole numbers above are for exact comparison only, and
  are exact to 2^24.

  Args:
    values: numbers [...]; what is not finite is never within.
    targets: right numbers [...], broadcast against `values`.
    rel: tolerance as a share of the target, [...] or one number.
    abs_: tolerance in the target's unit, [...] or one number.
    xp: the array namespace.
  """
  values, targets = values * 1.0, targets * 1.0
  finite = xp.isfinite(values) & xp.isfinite(targets)
  size = xp.where(finite, xp.abs(targets), 0.0)
  limit = xp.maximum(rel * size, abs_)
  lost = _resolution(values, xp) * (size + limit)
  limit = limit + xp.where(limit > 0, lost, SLACK * size)
  gap = xp.where(finite, values - targets, xp.inf)
  return xp.where(xp.abs(gap) <= limit, 1.0, 0.0)


def inside(values: Any, low: Any, high: Any, xp: Any) -> Any:
  """Returns 1.0 where low <= value <= high, ends included, else 0.0.

  The ends give way as in `within`.

  Args:
    values: numbers [...]; what is not finite is never inside.
    low: least right numbers [...], broadcast against `values`.
    high: greatest right numbers [...].
    xp: the array namespace.
  """
  values, low, high = values * 1.0, low * 1.0, high * 1.0
  lost = _resolution(values, xp)
  over = values >= low - lost * xp.abs(low)
  under = values <= high + lost * xp.abs(high)
  return xp.where(over & under & xp.isfinite(values), 1.0, 0.0)


def rounded(values: Any, targets: Any, xp: Any) -> Any:
  """Returns 1.0 where the value rounds to the whole target, else 0.0.

  A half goes to the even neighbour. In float32 exact to 2^24.

  Args:
    values: numbers [...]; what is not finite never does.
    targets: whole numbers [...], broadcast against `values`.
    xp: the array namespace.
  """
  values = values * 1.0
  same = (xp.round(values) == targets) & xp.isfinite(values)
  return xp.where(same, 1.0, 0.0)


def _resolution(values: Any, xp: Any) -> float:
  return max(SLACK, float(xp.finfo(values.dtype).eps))
