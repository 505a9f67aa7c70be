"""The best one-to-one matching of padded sets, and rewards made of it.

Written over `xp`, numpy or jax.numpy. The oracles are scipy's
linear_sum_assignment, `medrl.rewards.box.matched` and `medrl.rewards.points`.
Not a solver for large problems: up to 30 boxes a side.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from medrl.rewards.array import box

MAX = 30   # a path is a set of columns in the bits of an int32
COUNTS = ('max', 'mean')


class Items(NamedTuple):
  """Padded boxes or points, of one side, with leading axes such as [P, G].

  The leading axes of two sides are broadcast against each other.
  """
  places: Any   # float [..., N, 4] boxes or [..., N, 2] points
  mask: Any     # bool [..., N]: False is padding
  labels: Any   # int [..., N]; all 0 where there are none


def loop(low: int, high: int, body: Callable[[int, Any], Any],
         state: Any) -> Any:
  """Does what jax.lax.fori_loop does, unrolled; what numpy needs."""
  for i in range(low, high):
    state = body(i, state)
  return state


def assign(values: Any, rows: Any, columns: Any, xp: Any,
           fori: Callable[..., Any] = loop) -> Any:
  """Returns each row's column in a matching of the greatest sum.

  As many pairs as there are rows or columns, whichever are fewer; the sum is
  that of scipy.optimize.linear_sum_assignment, the pairs may differ where two
  matchings have one sum. Shortest augmenting paths (Jonker and Volgenant 1987;
  Crouse 2016), N of them of at most N steps, each step over the whole batch.

  Args:
    values: float [..., N, M], finite; any sign.
    rows: bool [..., N]: False is padding, which is never matched.
    columns: bool [..., M], as `rows`.
    xp: the array namespace.
    fori: jax.lax.fori_loop, which compiles one step and not N (N + 1) / 2 of
      them; `loop` for numpy.

  Returns:
    int [..., N], -1 for a row without a column.

  Raises:
    ValueError: there are more than `MAX` rows or columns.
  """
  count, width = values.shape[-2:]
  size = max(count, width)
  if size > MAX:
    raise ValueError(f'values of {count} rows and {width} columns: expected at '
                     f'most {MAX} of each')
  cost = _cost(values, rows, columns, size, xp)
  start = (xp.zeros(cost.shape[:-2] + (size,), cost.dtype),
           xp.full(cost.shape[:-2] + (size,), size, xp.int32))
  _, row_of = fori(
      0, count, lambda i, state: _augment(i, state, cost, xp, fori), start)
  taken = row_of[..., None, :] == xp.arange(count)[:, None]
  real = rows[..., :, None] & columns[..., None, :]
  taken = taken[..., :width] & real
  column = xp.where(taken, xp.arange(width), 0).sum(-1)
  return xp.where(taken.any(-1), column, -1)


def total(values: Any, rows: Any, columns: Any, xp: Any,
          fori: Callable[..., Any] = loop) -> Any:
  """Returns the sum [...] of the values that `assign` matches; as `assign`."""
  column = assign(values, rows, columns, xp, fori)
  taken = column[..., None] == xp.arange(values.shape[-1])
  return xp.where(taken, values, 0.0).sum((-2, -1))


def boxes(predicted: Items, gold: Items, xp: Any, *, metric: str = 'iou',
          threshold: float = 0.0, over: str = 'max', penalty: float = 0.0,
          fori: Callable[..., Any] = loop) -> Any:
  """Returns the best one-to-one sum over the count, [...] in [0, 1].

  The oracle is `box.matched` with the pair `box.pair`, of boxes of one label
  (`box.labelled`). What could not be parsed has no box and must be masked by
  the caller: without gold, no box earns 1.

  Args:
    predicted: boxes [..., N, 4].
    gold: boxes [..., M, 4].
    xp: the array namespace.
    metric: see `array.box.pair`; static, as are the next three.
    threshold: see `array.box.pair`.
    over: divide by the larger count ('max') or by their mean ('mean').
    penalty: taken off for each box missing or in excess, down to 0.
    fori: see `assign`.

  Raises:
    ValueError: an option is unknown, or there are too many boxes.
  """
  values = box.pair(predicted.places[..., :, None, :],
                    gold.places[..., None, :, :], metric, threshold, xp)
  return _over_count(values, predicted, gold, xp, over, penalty, fori)


def points(predicted: Items, gold: Items, spacing: Any, xp: Any, *,
           threshold: float = 2.0, metric: str = 'success',
           fori: Callable[..., Any] = loop) -> Any:
  """Returns the best one-to-one sum over the larger count, [...] in [0, 1].

  The oracle is `points.agreement` of points in no order.

  Args:
    predicted: points [..., N, 2].
    gold: points [..., M, 2].
    spacing: mm a pixel [..., 2], across and down; 1 for a threshold in pixels.
    xp: the array namespace.
    threshold: a distance in that unit; static.
    metric: see `near`; static.
    fori: see `assign`.

  Raises:
    ValueError: the metric is unknown, or there are too many points.
  """
  error = radial_error(predicted.places[..., :, None, :],
                       gold.places[..., None, :, :],
                       spacing[..., None, None, :], xp)
  return _over_count(near(error, threshold, metric, xp), predicted, gold, xp,
                     'max', 0.0, fori)


def radial_error(a: Any, b: Any, spacing: Any, xp: Any) -> Any:
  """Returns the distance [...] of points [..., 2]; oracle `points.error`."""
  return xp.sqrt((((a - b) * spacing) ** 2).sum(-1))


def near(error: Any, threshold: float, metric: str, xp: Any) -> Any:
  """Returns what an error [...] is worth, in [0, 1]; oracle `points.near`.

  Raises:
    ValueError: the metric is unknown.
  """
  if metric == 'success':
    # A relative 1e-6 is a few roundings of float32; the oracle's is 1e-9.
    return xp.where(error <= threshold * (1 + 1e-6), 1.0, 0.0)
  if metric == 'linear':
    return xp.maximum(1.0 - error / threshold, 0.0)
  raise ValueError(f"metric {metric!r}: expected 'success' or 'linear'")


def _over_count(values: Any, predicted: Items, gold: Items, xp: Any, over: str,
                penalty: float, fori: Callable[..., Any]) -> Any:
  if over not in COUNTS:
    raise ValueError(f'over {over!r}: expected one of {COUNTS}')
  alike = predicted.labels[..., :, None] == gold.labels[..., None, :]
  values = xp.where(alike, values, 0.0)
  rows = xp.broadcast_to(predicted.mask, values.shape[:-1])
  columns = xp.broadcast_to(
      gold.mask, values.shape[:-2] + values.shape[-1:])
  found = total(values, rows, columns, xp, fori)
  one, other = rows.sum(-1), columns.sum(-1)
  count = xp.maximum(one, other) if over == 'max' else (one + other) / 2
  found = found / xp.maximum(count, 1) - penalty * xp.abs(one - other)
  some = (one > 0) & (other > 0)
  none = xp.where((one == 0) & (other == 0), 1.0, 0.0)
  return xp.where(some, xp.maximum(found, 0.0), none)


def _cost(values: Any, rows: Any, columns: Any, size: int, xp: Any) -> Any:
  """Returns the costs [..., N, size] of which the least sum is wanted.

  Padding costs 0. Real pairs cost between -2 and -1: never to match two real
  ones that could be is the dearest, whatever the values are.
  """
  real = rows[..., :, None] & columns[..., None, :]
  values = xp.where(real, values * 1.0, 0.0)
  low = xp.where(real, values, xp.inf).min((-2, -1), keepdims=True)
  high = xp.where(real, values, -xp.inf).max((-2, -1), keepdims=True)
  spread = xp.where(high > low, high - low, 1.0)
  low = xp.where(high >= low, low, 0.0)
  cost = xp.where(real, -1.0 - (values - low) / spread, 0.0)
  pad = size - values.shape[-1]
  return xp.pad(cost, [(0, 0)] * (cost.ndim - 1) + [(0, pad)])


def _augment(i: Any, state: tuple[Any, Any], cost: Any, xp: Any,
             fori: Callable[..., Any]) -> tuple[Any, Any]:
  """Gives row `i` a column, and matched rows another where that is cheaper.

  Args:
    i: row, of which all before it are matched.
    state: dual price [..., M] and matched row (M for none) of each column.
    cost: [..., N, M].
    xp: the array namespace.
    fori: see `assign`.
  """
  price, row_of = state
  size = cost.shape[-1]
  places = xp.arange(size, dtype=xp.int32)
  # Dual price of the row that each column is matched with.
  held = xp.take_along_axis(cost, xp.minimum(
      row_of, cost.shape[-2] - 1)[..., None, :], axis=-2)[..., 0, :] - price

  def step(_, search):
    far, came, path, used, row, at, gap, sink = search
    here = xp.take_along_axis(cost, row[..., None], axis=-2)[..., 0, :]
    reach = here - price - gap
    nearer = (reach < far) & ~used
    far = xp.where(nearer, reach, far)
    came = xp.where(nearer, at, came)
    path = xp.where(nearer, _pick(path, places == at, xp) | (1 << places), path)
    left = xp.where(used, xp.inf, far)
    nearest = left.min(-1, keepdims=True)
    # The first of the nearest, as argmin, which compiles to a slower loop.
    at = xp.where(left == nearest, places, size - 1).min(-1, keepdims=True)
    hit = places == at
    row = _pick(row_of, hit, xp)
    sink = xp.where((sink == size) & (row == size), at, sink)
    # Once there, nothing is nearer any more: the rest of the loop is idle.
    gap = xp.where(sink == size, _pick(held, hit, xp) - nearest, -xp.inf)
    row = xp.minimum(row, cost.shape[-2] - 1)
    return far, came, path, used | hit, row, at, gap, sink

  none = xp.full(row_of.shape[:-1] + (1,), size, xp.int32)
  far, came, path, _, _, _, _, sink = fori(0, i + 1, step, (
      xp.full(cost.shape[:-2] + (size,), xp.inf, cost.dtype),
      xp.full(row_of.shape, size, xp.int32), xp.zeros(row_of.shape, xp.int32),
      xp.zeros(row_of.shape, bool), xp.full(none.shape, i, xp.int32), none,
      xp.zeros(none.shape, cost.dtype), none))
  hit = places == sink
  price = price - xp.maximum(_pick(far, hit, xp) - far, 0.0)
  moved = xp.where(came == size, i, xp.take_along_axis(
      row_of, xp.minimum(came, size - 1), axis=-1))
  on_path = (_pick(path, hit, xp) >> places) & 1
  return price, xp.where(on_path == 1, moved, row_of)


def _pick(x: Any, hit: Any, xp: Any) -> Any:
  """Returns the one hit element of each last axis, 0 for none; [..., 1]."""
  # Faster than a gather once compiled.
  return xp.where(hit, x, 0).sum(-1, keepdims=True, dtype=x.dtype)
