"""Repeated n-grams of token ids, over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.repetition`. Distinct n-grams are counted as distinct hashes,
which never exceed them, under two 32-bit hashes of which the larger count is
taken: a completion of 512 tokens is off with a chance of 1e-9.
"""

from collections.abc import Callable
from typing import Any

# Odd, so that no bit is lost.
_MULTIPLIERS = (0x85EBCA6B, 0xC2B2AE35)
_SPREAD = 0x9E3779B1
_LAST = 0xFFFFFFFF
_ROWS = 32     # completions sorted at a time
_TILES = 4     # parts of a completion that meet only what comes later


def tokens(ids: Any, lengths: Any, xp: Any, *, n: int = 20,
           fori: Callable[..., Any] | None = None) -> Any:
  """Returns minus the share of repeated n-grams, (-1, 0]; rest as `share`."""
  return -share(ids, lengths, xp, n=n, fori=fori)


def share(ids: Any, lengths: Any, xp: Any, *, n: int = 20,
          fori: Callable[..., Any] | None = None) -> Any:
  """Returns the share of n-grams that stood there before, float [P, G].

  (total - distinct) / total, 0 where there are fewer than n tokens.

  Args:
    ids: int [P, G, T], a completion's tokens from the left; what follows
      `lengths` is not looked at.
    lengths: int [P, G].
    xp: the array namespace.
    n: tokens in an n-gram.
    fori: None sorts the n-grams of every completion. `jax.lax.fori_loop` sorts
      those of completions only where half an n-gram repeats, to the same
      numbers: XLA sorts slowly on CPU, and most completions have no such place.

  Raises:
    ValueError: n < 1.
  """
  if n < 1:
    raise ValueError(f'n = {n!r}: an n-gram has at least one token')
  size = ids.shape[-1]
  shape = lengths.shape
  if size < n or 0 in shape:
    return xp.zeros(shape) * 1.0
  ids, lengths = ids.reshape(-1, size), lengths.reshape(-1)
  if fori is None:
    return _by_sorting(ids, lengths, n, xp).reshape(shape)
  found = _suspect(ids, lengths, n, xp)
  return _of_suspects(ids, lengths, n, found, xp, fori).reshape(shape)


def _hashes(ids: Any, n: int, multiplier: int, xp: Any) -> Any:
  """uint32 [R, T - n + 1]: polynomials of the n-grams, modulo 2^32."""
  values = ids.astype(xp.uint32) * xp.uint32(_SPREAD)
  values = values ^ (values >> xp.uint32(15))
  total = ids.shape[-1] - n + 1
  out = values[:, :total]
  for k in range(1, n):
    out = out * xp.uint32(multiplier) + values[:, k:k + total]
  return out ^ (out >> xp.uint32(16))


def _by_sorting(ids: Any, lengths: Any, n: int, xp: Any) -> Any:
  """float [R]: the share of repeated n-grams."""
  grams = xp.maximum(lengths - n + 1, 0)
  place = xp.arange(ids.shape[-1] - n + 1)
  real = place < grams[:, None]
  distinct = 0
  for multiplier in _MULTIPLIERS:
    # Those that are not real sort last, so the first `grams` are the others.
    values = xp.sort(xp.where(real, _hashes(ids, n, multiplier, xp),
                              xp.uint32(_LAST)), -1)
    new = (values[:, 1:] != values[:, :-1]) & real[:, 1:]
    distinct = xp.maximum(distinct, 1 + new.sum(-1))
  repeated = xp.where(grams > 0, grams - distinct, 0)
  return repeated / xp.maximum(grams, 1)


def _suspect(ids: Any, lengths: Any, n: int, xp: Any) -> Any:
  """bool [R]: False only where no n-gram repeats.

  An n-gram holds one of the blocks of half its length that begin at each
  multiple of `step` whole. If it repeats, so does that block, and the earlier
  one is found by comparing each block with every place at or before it; with
  itself it is always found once.
  """
  half = max(n // 2, 1)
  step = n - half + 1
  values = _hashes(ids, half, _MULTIPLIERS[0], xp)
  size = values.shape[-1]
  known = xp.arange(size) + half <= lengths[:, None]
  # Equal to no hash but by chance, which makes one suspect more.
  places = xp.where(known, values, xp.uint32(0))
  blocks = xp.where(known[:, ::step], values[:, ::step], xp.uint32(1))
  tile = -(-size // _TILES)
  count, hits = 0, 0
  for start in range(0, size, tile):
    some = places[:, start:start + tile]
    met = sum((some == blocks[:, k:k + 1]).astype(xp.int32)
              for k in range(-(-start // step), blocks.shape[1]))
    # Added before the sum, since XLA on CPU writes what it sums up to memory.
    if some.shape[-1] == tile:
      count = count + met
    elif not isinstance(met, int):
      hits = met.sum(-1)
  return hits + count.sum(-1) > xp.where(
      lengths >= half, (lengths - half) // step + 1, 0)


def _of_suspects(ids: Any, lengths: Any, n: int, found: Any, xp: Any,
                 fori: Callable[..., Any]) -> Any:
  """float [R]: `_by_sorting` where `found`, and 0 elsewhere."""
  rows = ids.shape[0]
  count = -(-rows // _ROWS)
  order = xp.argsort(~found, stable=True)
  blocks = xp.pad(order, (0, count * _ROWS - rows)).reshape(count, _ROWS)

  def body(k, out):
    block = xp.take(blocks, k, axis=0)
    values = _by_sorting(ids[block], lengths[block], n, xp)
    return xp.where(xp.arange(count)[:, None] == k, values, out)

  out = fori(0, (found.sum() + _ROWS - 1) // _ROWS, body,
             xp.zeros((count, _ROWS), (lengths[:1] / 1.0).dtype))
  return xp.where(found, out.reshape(-1)[xp.cumsum(found) - 1], 0.0)
