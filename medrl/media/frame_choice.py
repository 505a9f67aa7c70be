"""Which frames of a recording make a clip, and the clip they make.

It reads no file: the readers of videos and of folders of frames share it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
import math
from typing import Any

import numpy as np

from medrl import types

# Of one clip; what is longer is sampled.
MAX_FRAMES = 2048
MAX_CLIP_BYTES = 1 << 29


def check(rate: float, count: int, times: Sequence[float], max_side: int = 0):
  """Raises a ValueError for options of `video.load` that cannot be."""
  if not isinstance(times, (list, tuple)):
    raise ValueError(f'times {times!r}; expected a list of seconds')
  if (rate != 0) + (count != 0) + (len(times) > 0) > 1:
    raise ValueError(f'rate {rate!r}, count {count!r} and times {times!r}: '
                     'give one of them')
  if not is_number(rate) or rate < 0:
    raise ValueError(f'rate {rate!r}; expected frames a second')
  for key, value in (('count', count), ('max_side', max_side)):
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
      raise ValueError(f'{key} {value!r}; expected a whole number from 0')
  if count > MAX_FRAMES or len(times) > MAX_FRAMES:
    raise ValueError(f'{max(count, len(times))} frames wanted; at most '
                     f'{MAX_FRAMES} are read')
  if not all(is_number(t) for t in times) or (times and times[0] < 0) or any(
      a >= b for a, b in itertools.pairwise(times)):
    raise ValueError(f'times {times!r}; expected seconds from 0, increasing')


def is_number(value: Any) -> bool:
  """Whether a value is a finite number."""
  return (isinstance(value, (int, float)) and not isinstance(value, bool)
          and math.isfinite(value))


def to_moments(rate: float, count: int, times: Sequence[float],
               last: Callable[[], float]) -> Iterable[float] | None:
  """The wanted moments in s, or None for all frames; see `video.load`.

  Args:
    rate, count, times: checked by `check`.
    last: gives the time of the last frame, in s; called for a count only.

  Returns:
    A list; for a rate an iterator without end.
  """
  if times:
    return list(times)
  if count:
    end = last()
    return np.linspace(0, end, count).tolist() if count > 1 else [end / 2]
  return (k / rate for k in itertools.count()) if rate else None


def to_slack(count: int, times: Sequence[float], interval: float) -> float:
  """How far behind the last frame a moment may lie, in s.

  The last frame is shown for an `interval`. The end that a count reckons with
  is that of a header, and may be wrong by a little.
  """
  return interval if times else math.inf if count else 0.


def nearest(start: Callable[[float], Iterator[tuple[float, Any]]],
            moments: Iterable[float], gap: float, slack: float
            ) -> Iterator[tuple[float, Any]]:
  """Yields (time, frame) of the frame nearest to each moment, each once.

  Args:
    start: gives (time, frame) in time order, from a frame that is not after
      the moment it gets.
    moments: increasing.
    gap: of moments further ahead than this, `start` is asked again.
    slack: moments that lie further behind the last frame end the search, with
      an error if they are a list.

  Raises:
    ValueError: a listed moment lies behind the end.
  """
  frames, before, taken = start(0.), None, -math.inf
  after = next(frames, None)
  for moment in moments:
    if after is not None and moment - after[0] > gap:
      frames, before = start(moment), None
      after = next(frames, None)
      # A start that brings nothing is not tried again for so short a way.
      gap = max(gap, moment - after[0]) if after else math.inf
    while after is not None and after[0] < moment:
      before, after = after, next(frames, None)
    if after is None and before is not None and moment > before[0] + slack:
      if isinstance(moments, list):
        raise ValueError(f'time {moment:g} s is wanted; its last frame is at '
                         f'{before[0]:g} s')
      return
    best = min((f for f in (before, after) if f is not None),
               key=lambda f: abs(f[0] - moment), default=None)
    if best is None:
      return
    if best[0] > taken:
      taken = best[0]
      yield best


def clip(frames: Iterable[tuple[float, np.ndarray]]) -> types.Clip:
  """Times in s and pictures, uint8 [h, w, 3], as one clip.

  Raises:
    ValueError: there are none or too many, or they differ in size.
  """
  times, pictures = [], []
  for time, pixels in frames:
    if pictures and pixels.shape != pictures[0].shape:
      raise ValueError(f'frames of {list(pictures[0].shape[:2])} and '
                       f'{list(pixels.shape[:2])}; expected one size')
    times.append(time)
    pictures.append(pixels)
    if len(times) > min(MAX_FRAMES, MAX_CLIP_BYTES // pixels.nbytes):
      raise ValueError(
          f'more than {len(times) - 1} frames of {list(pixels.shape[:2])}; '
          'ask for fewer by rate, count or times, or for a smaller max_side')
  if not times:
    raise ValueError('it has no frame')
  return types.Clip(np.stack(pictures), np.array(times))
