"""Overlap of boxes [..., 4] over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.box`. Not meant to be differentiated.
"""

from typing import Any


def _area(b: Any, xp: Any) -> Any:
  return (xp.maximum(b[..., 2] - b[..., 0], 0)
          * xp.maximum(b[..., 3] - b[..., 1], 0))


def _parts(a: Any, b: Any, xp: Any) -> tuple[Any, Any, Any]:
  """Returns intersection, union, and whether both boxes have area."""
  shared = _area(xp.concatenate([
      xp.maximum(a[..., :2], b[..., :2]),
      xp.minimum(a[..., 2:], b[..., 2:])], axis=-1), xp)
  area_a, area_b = _area(a, xp), _area(b, xp)
  return shared, area_a + area_b - shared, (area_a > 0) & (area_b > 0)


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
  hull = _area(xp.concatenate([
      xp.minimum(a[..., :2], b[..., :2]),
      xp.maximum(a[..., 2:], b[..., 2:])], axis=-1), xp)
  union, hull = xp.where(real, union, 1.0), xp.where(real, hull, 1.0)
  return xp.where(real, shared / union - (hull - union) / hull, 0.0)
