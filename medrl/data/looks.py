"""Perceptual hashes of images, and which of two sets look alike.

pHash, 64 bits: the signs of the lowest frequencies of a cosine transform about
their median (Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010), bit for bit as the imagehash package computes it. It survives
other encodings, sizes, aspect ratios and mild changes of brightness. It does
not see through flips, turns, crops or borders, and it reads no file.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

# Bits by which two hashes of one image may differ. Over 60 images each of
# breast ultrasound, dermoscopy, chest film and blood, of 256 pixels and more,
# as JPEG of quality 60 or scaled to 0.5, 0.6 or 2: 2 at most. Of 1,500 chest
# films of 28 pixels 7 pairs of different ones get within 4, so that likeness
# decides.
DISTANCE = 4
# Correlation of small copies. Those encodings: at least 0.998. Pairs within
# DISTANCE, told apart by eye: different images at most 0.935, other frames or
# prints of one image at least 0.971.
LIKENESS = .97
# Grey levels (standard deviation) below which an image is a blank, of which
# every hash is noise and which resembles every other blank.
_BLANK = 2.
_SIDE = 32       # of the image that is transformed
_SMALL = 16      # of the copy that is kept, 256 bytes
_CHUNK = 1 << 17   # pairs compared at a time


def look(image: np.ndarray) -> tuple[int, np.ndarray] | None:
  """What is compared of an image, uint8 [h, w, 3]; None for a blank.

  Returns:
    (hash of 64 bits, small copy uint8 [256]).
  """
  grey = Image.fromarray(image).convert('L')
  pixels = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS),
                      np.float64)
  if pixels.std() < _BLANK:
    return None
  waves = _cosines()
  low = waves @ pixels @ waves.T
  bits = low > np.median(low)
  small = pixels.reshape(_SMALL, 2, _SMALL, 2).mean(axis=(1, 3))
  return (int.from_bytes(np.packbits(bits).tobytes(), 'big'),
          np.rint(small).astype(np.uint8).ravel())


def alike(first: Sequence[tuple[int, np.ndarray]],
          second: Sequence[tuple[int, np.ndarray]],
          distance: int = DISTANCE) -> list[tuple[int, int]]:
  """Pairs (i, j) of which `first[i]` looks like `second[j]`, sorted.

  Hashes within `distance` have one of distance + 1 bands of bits in common
  (the pigeonhole of Norouzi et al., "Fast search in Hamming space", 2012), so
  only those that share a band are compared; what is left must correlate by
  `LIKENESS`.

  Raises:
    ValueError: a distance that is not in 0..16.
  """
  if not 0 <= distance <= 16:
    raise ValueError(f'distance {distance}; expected 0 to 16 bits')
  if not first or not second:
    return []
  (codes, small), (others, thumbs) = _stacked(first), _stacked(second)
  edges = np.linspace(0, 64, distance + 2).astype(int)
  found = [np.zeros((0, 2), np.int64)]
  for low, high in zip(edges, edges[1:]):
    mask = np.uint64((1 << high) - (1 << low))
    for i, j in _joined(codes & mask, others & mask):
      near = np.bitwise_count(codes[i] ^ others[j]) <= distance
      i, j = i[near], j[near]
      same = np.einsum('nk,nk->n', small[i], thumbs[j]) >= LIKENESS
      found.append(np.stack([i[same], j[same]], axis=1))
  pairs = np.unique(np.concatenate(found), axis=0)
  return list(map(tuple, pairs.tolist()))


def _cosines() -> np.ndarray:
  """DCT-II of 32 samples, its 8 lowest frequencies: [8, 32]."""
  k, n = np.arange(8)[:, None], np.arange(_SIDE)
  return 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE))


def _stacked(looks) -> tuple[np.ndarray, np.ndarray]:
  """Hashes [n], and small copies [n, 256] of mean 0 and length 1."""
  codes = np.array([code for code, _ in looks], np.uint64)
  small = np.stack([pixels for _, pixels in looks]).astype(np.float32)
  small -= small.mean(axis=1, keepdims=True)
  return codes, small / np.linalg.norm(small, axis=1, keepdims=True)


def _joined(keys: np.ndarray, others: np.ndarray):
  """Yields index arrays (i, j) of all equal keys[i] and others[j], in parts."""
  order = np.argsort(others, kind='stable')
  lined = others[order]
  left = np.searchsorted(lined, keys, 'left')
  counts = np.searchsorted(lined, keys, 'right') - left
  ends = np.cumsum(counts)
  start = 0
  while start < len(keys):
    done = ends[start - 1] if start else 0
    # One row more than fits, so that each part gets somewhere.
    stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK, 'right')))
    part = counts[start:stop]
    i = np.repeat(np.arange(start, stop), part)
    offset = np.arange(len(i)) - np.repeat(np.cumsum(part) - part, part)
    yield i, order[np.repeat(left[start:stop], part) + offset]
    start = stop
