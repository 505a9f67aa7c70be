"""A bounded cache of decoded media, for one process.

Slices of one volume, or the views of a study, are asked for by many records;
decoding them once saves the time. It is no store: what it holds is lost with
the process, and nothing is shared between workers.
"""

import collections
from collections.abc import Callable, Hashable, Iterator
import threading
from typing import Any

import numpy as np

from medrl import types


class Cache:
  """What loaders returned, by key, the least recently used thrown out first.

  Several threads of a worker may use it. A pickled cache is an empty one of
  the same limit, so that it can travel to workers in a transform.

  Attributes:
    limit_bytes: of the arrays held.
    size_bytes: of the arrays held now.
    hits, misses: calls of `get` that found the key, and that did not.
  """

  def __init__(self, limit_bytes: int):
    """Args: limit_bytes: from 0, which keeps nothing.

    Raises:
      ValueError: the limit is negative.
    """
    if limit_bytes < 0:
      raise ValueError(f'limit_bytes {limit_bytes!r}; expected 0 or more')
    self.limit_bytes = limit_bytes
    self.size_bytes = self.hits = self.misses = 0
    self._held = collections.OrderedDict()   # key -> (value, bytes)
    self._lock = threading.Lock()

  def __reduce__(self):
    return Cache, (self.limit_bytes,)

  def __len__(self) -> int:
    return len(self._held)

  def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
    """The value of `key`, made by `make` where it is not held.

    Args:
      key: of path, root, loader and options: all that the value depends on.
      make: gives a picture, a tuple of them, a `Clip` or a `Signal`. What it
        raises passes through, and nothing is held then.

    Returns:
      The value, whose arrays are read-only. One that is larger than the limit
      is not held.
    """
    with self._lock:
      if key in self._held:
        self.hits += 1
        self._held.move_to_end(key)
        return self._held[key][0]
      self.misses += 1
    # Without the lock, so that other threads go on; should two make the same
    # value, the later is held.
    value = make()
    size = _freeze(value)
    if size <= self.limit_bytes:
      with self._lock:
        self._hold(key, value, size)
    return value

  def _hold(self, key, value, size):
    if key in self._held:
      self.size_bytes -= self._held.pop(key)[1]
    self._held[key] = value, size
    self.size_bytes += size
    while self.size_bytes > self.limit_bytes:
      _, (_, freed) = self._held.popitem(last=False)
      self.size_bytes -= freed


def _freeze(value: Any) -> int:
  """Makes the arrays of a value read-only; returns the bytes it keeps alive."""
  owners = {}
  for array in _arrays(value):
    array.flags.writeable = False
    # A slice keeps the whole volume in memory, and is charged with it.
    while isinstance(array.base, np.ndarray):
      array = array.base
    owners[id(array)] = array.nbytes
  return sum(owners.values())


def _arrays(value: Any) -> Iterator[np.ndarray]:
  if isinstance(value, np.ndarray):
    yield value
  elif isinstance(value, tuple):
    for item in value:
      yield from _arrays(item)
  elif isinstance(value, types.Clip):
    yield from (value.frames, value.times)
  elif isinstance(value, types.Signal):
    yield value.values
  else:
    raise TypeError(f'{type(value).__name__} is not what a loader returns: '
                    'uint8 [h, w, 3], a tuple of those, a Clip or a Signal')
