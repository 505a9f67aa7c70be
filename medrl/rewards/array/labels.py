"""Agreement of label sets and of findings' states, over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.labels`. How a name becomes a number is the caller's.
"""

from typing import Any

METRICS = ('exact', 'jaccard', 'f1')


def agreement(values: Any, targets: Any, metric: str, xp: Any,
              extra: Any = 0) -> Any:
  """Returns how far two sets agree, [...] in [0, 1]; two empty ones fully.

  Args:
    values: bool [..., K]: which of K labels are named.
    targets: bool [..., K], broadcast against `values`.
    metric: 'exact', 'jaccard' or 'f1'; static.
    xp: the array namespace.
    extra: int [...]: how many names there are besides that are none of the K.

  Raises:
    ValueError: the metric is unknown.
  """
  both = (values & targets).sum(-1)
  return _share(both, values.sum(-1) + extra, targets.sum(-1), metric, xp)


def states(values: Any, targets: Any, metric: str, xp: Any,
           extra: Any = 0) -> Any:
  """Returns how far the states of K findings agree, [...] in [0, 1].

  As sets of (finding, state) pairs, those not mentioned aside.

  Args:
    values: int [..., K]: place of each finding's state in `types.STATES`, so
      that 3 is 'not mentioned'.
    targets: int [..., K], broadcast against `values`.
    metric: 'exact', 'jaccard' or 'f1'; static.
    xp: the array namespace.
    extra: int [...]: how many pairs there are besides of none of the K.

  Raises:
    ValueError: the metric is unknown.
  """
  said, right = values != 3, targets != 3
  both = (said & (values == targets)).sum(-1)
  return _share(both, said.sum(-1) + extra, right.sum(-1), metric, xp)


def _share(both: Any, one: Any, other: Any, metric: str, xp: Any) -> Any:
  if metric not in METRICS:
    raise ValueError(f'metric {metric!r}: expected one of {METRICS}')
  same = xp.where((both == one) & (both == other), 1.0, 0.0)
  if metric == 'exact':
    return same
  total = one + other
  if metric == 'jaccard':
    share = both / xp.maximum(total - both, 1)
  else:
    share = 2.0 * both / xp.maximum(total, 1)
  return xp.where(same == 1.0, 1.0, share)
