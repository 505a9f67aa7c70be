"""The cache of decoded media: what is held, counted and thrown out."""

import pickle
import threading

import numpy as np
import pytest

from medrl import types
from medrl.media import cache

PICTURE = np.zeros((10, 10, 3), np.uint8)   # 300 bytes


def never():
  raise AssertionError('made again')


def test_least_recently_used_goes_first():
  held = cache.Cache(900)
  for key in 'abc':
    held.get(key, PICTURE.copy)
  held.get('a', never)
  held.get('d', PICTURE.copy)   # b is the oldest now
  for key in 'acd':
    held.get(key, never)
  assert (held.hits, held.misses, held.size_bytes, len(held)) == (4, 4, 900, 3)
  made = []
  held.get('b', lambda: made.append(1) or PICTURE.copy())
  assert made and held.size_bytes == 900


def test_bytes_are_bounded_under_random_use():
  rng, held = np.random.default_rng(0), cache.Cache(5000)
  model = []   # keys, oldest first, with sizes: a longhand cache
  for key, size in zip(rng.integers(0, 30, 2000), rng.integers(1, 6001, 2000)):
    size = 1 + (int(key) * 397) % 6000
    hit = key in [k for k, _ in model]
    before = held.hits
    got = held.get(int(key), lambda: np.zeros(size, np.uint8))
    assert got.nbytes == size and held.hits - before == hit
    if hit:
      model.append(model.pop([k for k, _ in model].index(key)))
    elif size <= 5000:
      model.append((key, size))
    while sum(s for _, s in model) > 5000:
      model.pop(0)
    assert held.size_bytes == sum(s for _, s in model) <= 5000


@pytest.mark.parametrize('value, size', [
    (PICTURE, 300), ((PICTURE.copy(), PICTURE.copy()), 600),
    (types.Clip(np.zeros((4, 10, 10, 3), np.uint8), np.arange(4.)), 1232),
    (types.Signal(np.zeros((2, 50), np.float32), 100., ('I', 'II')), 400),
    # Two slices of one volume keep all of it alive, once.
    ((lambda v: (v[0], v[3]))(np.zeros((8, 10, 10, 3), np.uint8)), 2400)])
def test_sizes_and_read_only(value, size):
  held = cache.Cache(10_000)
  got = held.get('a', lambda: value)
  assert held.size_bytes == size and held.get('a', never) is got
  for array in cache._arrays(got):
    with pytest.raises(ValueError, match='read-only'):
      array[...] = 1


def test_large_values_and_failures_are_not_held():
  held = cache.Cache(299)
  assert held.get('a', PICTURE.copy).shape == PICTURE.shape
  assert not len(held) and not held.size_bytes

  def fail():
    raise ValueError('damaged')
  with pytest.raises(ValueError, match='damaged'):
    held.get('b', fail)
  assert not len(held) and held.misses == 2
  with pytest.raises(TypeError, match='list is not what a loader returns'):
    held.get('c', lambda: [1])
  with pytest.raises(ValueError, match='-1'):
    cache.Cache(-1)


def test_it_travels_empty():
  held = cache.Cache(1000)
  held.get('a', PICTURE.copy)
  held.get('a', never)
  twin = pickle.loads(pickle.dumps(held))
  assert twin.limit_bytes == 1000
  assert (len(twin), twin.size_bytes, twin.hits, twin.misses) == (0, 0, 0, 0)


def test_threads_agree():
  held, wrong = cache.Cache(3000), []

  def work(seed):
    for key in np.random.default_rng(seed).integers(0, 25, 500).tolist():
      got = held.get(key, lambda: np.full((100, 3), key, np.uint8))
      if got[0, 0] != key:
        wrong.append(key)

  threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
  [t.start() for t in threads]
  [t.join() for t in threads]
  assert not wrong and held.hits + held.misses == 4000
  assert held.size_bytes == 300 * len(held) <= 3000
