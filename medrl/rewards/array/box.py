"""Overlap of boxes [..., 4] over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.box`. Many boxes against many are in `match`. Not meant to be
differentiated.
"""

from typing import Any

METRICS = ('iou', 'giou', 'diou', 'centre')


def _area(b: Any, xp: Any) -> Any:
  return (xp.maximum(b[..., 2] - b[..., 0], 0)
          * xp.maximum(b[..., 3] - b[..., 1], 0))


def _real(a: Any, b: Any, xp: Any) -> Any:
  return (_area(a, xp) > 0) & (_area(b, xp) > 0)


def _parts(a: Any, b: Any, xp: Any) -> tuple[Any, Any, Any]:
  """Returns intersection, union, and whether both boxes have area."""
  shared = _area(xp.concatenate([
      xp.maximum(a[..., :2], b[..., :2]),
      xp.minimum(a[..., 2:], b[..., 2:])], axis=-1), xp)
  area_a, area_b = _area(a, xp), _area(b, xp)
  return shared, area_a + area_b - shared, (area_a > 0) & (area_b > 0)


def _hull(a: Any, b: Any, xp: Any) -> Any:
  return xp.concatenate([xp.minimum(a[..., :2], b[..., :2]),
                         xp.maximum(a[..., 2:], b[..., 2:])], axis=-1)


def iou(a: Any, b: Any, xp: Any) -> Any:
  """Returns intersection over union [...], 0 where a box has no area.

  Args:
    a: boxes [..., 4] as x1, y1, x2, y2; integers are taken as floats, since
      an area of pixels overflows int32.
    b: boxes [..., 4], broadcast against `a` in the leading axes.
    xp: the array namespace.
  """
  shared, union, real = _parts(a * 1.0, b * 1.0, xp)
  return xp.where(real, shared / xp.where(real, union, 1.0), 0.0)


def giou(a: Any, b: Any, xp: Any) -> Any:
  """Returns the generalised IoU [...] (arXiv 1902.09630); rest as `iou`."""
  a, b = a * 1.0, b * 1.0
  shared, union, real = _parts(a, b, xp)
  hull = _area(_hull(a, b, xp), xp)
  union, hull = xp.where(real, union, 1.0), xp.where(real, hull, 1.0)
  return xp.where(real, shared / union - (hull - union) / hull, 0.0)


def diou(a: Any, b: Any, xp: Any) -> Any:
  """Returns the distance IoU [...] (arXiv 1911.08287); rest as `iou`."""
  a, b = a * 1.0, b * 1.0
  shared, union, real = _parts(a, b, xp)
  hull = _hull(a, b, xp)
  # Differences first: sums of far coordinates would round their gap away.
  apart = ((a[..., :2] - b[..., :2]) + (a[..., 2:] - b[..., 2:])) / 2
  diagonal = ((hull[..., 2:] - hull[..., :2]) ** 2).sum(-1)
  union = xp.where(real, union, 1.0)
  diagonal = xp.where(real, diagonal, 1.0)
  return xp.where(real, shared / union - (apart ** 2).sum(-1) / diagonal, 0.0)


def centre_hit(a: Any, b: Any, xp: Any) -> Any:
  """Returns 1.0 where the centre of `a` lies in `b` [...]; rest as `iou`."""
  a, b = a * 1.0, b * 1.0
  # Twice the centre, as halves need not be exact.
  centre = a[..., :2] + a[..., 2:]
  inside = (2 * b[..., :2] <= centre) & (centre <= 2 * b[..., 2:])
  return xp.where(inside.all(-1) & _real(a, b, xp), 1.0, 0.0)


def pair(a: Any, b: Any, metric: str, threshold: float, xp: Any) -> Any:
  """Returns the similarity of boxes [...] in [0, 1]; oracle `box.pair`.

  Args:
    a: predicted boxes [..., 4].
    b: right boxes [..., 4], broadcast against `a`.
    metric: 'iou', 'centre', or 'giou' and 'diou' as (1 + value) / 2; static.
    threshold: the least value that earns 1, all below earning 0; 0 for the
      value itself; static.
    xp: the array namespace.

  Raises:
    ValueError: the metric is unknown.
  """
  if metric not in METRICS:
    raise ValueError(f'metric {metric!r}: expected one of {METRICS}')
  rule = {'iou': iou, 'giou': giou, 'diou': diou, 'centre': centre_hit}[metric]
  value = rule(a, b, xp)
  if metric in ('giou', 'diou'):
    value = xp.where(_real(a * 1.0, b * 1.0, xp), (1.0 + value) / 2.0, 0.0)
  return xp.where(value >= threshold, 1.0, 0.0) if threshold else value
