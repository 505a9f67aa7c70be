"""Numbers within a tolerance, over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.number`.
"""

from typing import Any

SLACK = 1e-9  # as in the oracle; below the resolution of float32


def within(values: Any, targets: Any, rel: Any, abs_: Any, xp: Any) -> Any:
  """Returns 1.0 where |value - target| <= max(rel |target|, abs_), else 0.0.

  Args:
    values: numbers [...]; what is not finite is never within.
    targets: right numbers [...], broadcast against `values`.
    rel: tolerance as a share of the target, [...] or one number.
    abs_: tolerance in the target's unit, [...] or one number.
    xp: the array namespace.
  """
  size = xp.abs(targets)
  limit = xp.maximum(rel * size, abs_) + SLACK * size
  near = xp.abs(values - targets) <= limit
  finite = xp.isfinite(values) & xp.isfinite(targets)
  return xp.where(near & finite, 1.0, 0.0)
