"""How near two grades of an order are, over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.ordinal`.
"""

from typing import Any

METRICS = ('exact', 'distance', 'quadratic')


def agreement(values: Any, targets: Any, count: Any, metric: str,
              xp: Any) -> Any:
  """Returns how near grades are, [...] in [0, 1]; see the oracle's formulas.

  Args:
    values: int [...]: place of the grade, from 0; one below 0 (unparsed) or
      from `count` on earns 0.
    targets: int [...]: place of the right grade, broadcast against `values`.
    count: int [...] or one number: grades in all.
    metric: 'exact', 'distance' or 'quadratic'; static.
    xp: the array namespace.

  Raises:
    ValueError: the metric is unknown.
  """
  if metric not in METRICS:
    raise ValueError(f'metric {metric!r}: expected one of {METRICS}')
  real = (values >= 0) & (values < count)
  if metric == 'exact':
    return xp.where(real & (values == targets), 1.0, 0.0)
  far = xp.abs(values - targets) / xp.maximum(count - 1, 1)
  near = 1.0 - (far if metric == 'distance' else far ** 2)
  return xp.where(real, near, 0.0)
