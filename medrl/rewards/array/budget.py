"""Rewards of lengths in tokens, over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.budget`, whose formulas, sources, options and ranges these
are. In float32 they are equal to 1e-6 for budgets and lengths up to 16,384.
"""

import math
from collections.abc import Sequence
from typing import Any

from medrl.rewards import budget as oracle


def written(ids: Any, mask: Any, xp: Any, *, stop: Sequence[int]) -> Any:
  """Returns bool [P, G, T]: what a `Completion` holds as ids.

  Args:
    ids: int [P, G, T].
    mask: bool [P, G, T]: tokens that the policy wrote, its stop token too.
    xp: the array namespace.
    stop: ids that end a completion; the first is left out, with what follows.
  """
  ends = mask & xp.any(xp.stack([ids == i for i in stop]), 0)
  place = xp.arange(ids.shape[-1])
  first = xp.min(xp.where(ends, place, ids.shape[-1]), -1, keepdims=True)
  return mask & (place < first)


def exact(lengths: Any, budgets: Any, xp: Any, *, budget: int = 0,
          scale: float = 1500.0) -> Any:
  """Returns clip(1 - |n - L| / scale, -1, 1), [P, G].

  Args:
    lengths: tokens [P, G].
    budgets: tokens [P], of each record; not read where `budget` is given.
    xp: the array namespace.
    budget: tokens, for all records.
    scale: tokens off the budget that cost 1.
  """
  oracle.positive(scale=scale)
  off = xp.abs(lengths - _budget(budgets, budget)) * 1.0
  return xp.clip(1.0 - off / scale, -1.0, 1.0)


def maximum(lengths: Any, budgets: Any, xp: Any, *, budget: int = 0,
            scale: float = 500.0, centre: float = 0.0,
            low: float = -1.0) -> Any:
  """Returns clip((n - L) / scale + centre, low, 1), [P, G]; rest as `exact`."""
  oracle.positive(scale=scale, span=1.0 - low)
  left = (_budget(budgets, budget) - lengths) * 1.0
  return xp.clip(left / scale + centre, low, 1.0)


def signed(lengths: Any, budgets: Any, xp: Any, *, exact_scale: float = 1500.0,
           maximum_scale: float = 500.0) -> Any:
  """Returns the kind of budget each record asks for, [P, G].

  `budgets` [P]: n > 1 is exact, -n < -1 a maximum, -1 none (earns 0). Traced
  values cannot be refused as the oracle does: what it refuses earns NaN.
  """
  n = xp.abs(budgets)
  wanted = budgets[..., None]
  near = exact(lengths, n, xp, scale=exact_scale)
  below = maximum(lengths, n, xp, scale=maximum_scale)
  known = (n < math.inf) & ((wanted[..., 0] > 1) | (wanted[..., 0] <= -1))
  out = xp.where(wanted == -1, 0.0, xp.where(wanted > 0, near, below))
  return xp.where(known[..., None], out, math.nan)


def overlong(lengths: Any, xp: Any, *, limit: int, buffer: int,
             low: float = -1.0) -> Any:
  """Returns clip((limit - buffer - L) / buffer, low, 0), [P, G]."""
  oracle.positive(limit=limit, buffer=buffer, room=limit - buffer + 1,
                  span=-low)
  return xp.clip((limit - buffer - lengths) * 1.0 / buffer, low, 0.0)


def cosine(lengths: Any, xp: Any, *, start: int = 8192, limit: int = 16384,
           most: float = 0.5) -> Any:
  """Returns -most (1 - cos(pi clip((L - start) / (limit - start), 0, 1))) / 2.

  [P, G].
  """
  oracle.positive(start=start + 1, range=limit - start, most=most)
  share = xp.clip((lengths - start) * 1.0 / (limit - start), 0.0, 1.0)
  return -most * (1.0 - xp.cos(math.pi * share)) / 2.0


def _budget(budgets: Any, budget: int) -> Any:
  return budget if budget else budgets[..., None]
