"""What a worker of `pool` does: score samples, one after the other, and tell.

It decides nothing about failures; the parent does, which may kill it at any
moment. It starts no jax and has nobody's text printed.
"""

import contextlib
import functools
import math
from multiprocessing import connection
import os
import pickle
import signal
import threading
import time

from medrl import types

# How much longer than the parent a worker waits until it kills itself.
_SLACK_S = 1.0


def serve(descriptor: int) -> None:
  """Serves the parent at the other end of a pipe until that is closed.

  Messages to the parent are (kind, value): 'ready' and whether the reward is
  per completion, 'broken' and why it cannot go on, 'score' and a `Score`,
  'error' and the name of an exception's type.
  """
  os.set_inheritable(descriptor, False)   # not for what a reward may start
  pipe = connection.Connection(descriptor)
  parent, setup = pipe.recv()
  threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
  try:
    make_reward, limit, warm = pickle.loads(setup)
    reward = make_reward()
  except BaseException as error:   # sys.exit() in a module that it imports too
    pipe.send(('broken', f'{type(error).__name__}: {error}'))
    return
  for sample in warm:
    with contextlib.suppress(Exception):
      reward(*sample)
  pipe.send(('ready', _single(reward)))
  with contextlib.suppress(EOFError, ConnectionError):
    while True:
      data = pipe.recv_bytes()
      try:
        samples = pickle.loads(data)
      except Exception as error:
        pipe.send(('broken', f'it cannot read samples, {error}'))
        return
      for sample in samples:
        pipe.send(_outcome(reward, sample, limit))


def _single(reward: types.Reward) -> bool:
  while isinstance(reward, functools.partial):   # which has no marks
    reward = reward.func
  return getattr(reward, 'per_completion', False)


def _outcome(reward: types.Reward, sample, limit: float):
  # A regular expression that never ends holds the interpreter, so nothing in
  # here but the kernel can stop it once the parent is gone.
  signal.signal(signal.SIGALRM, signal.SIG_DFL)
  signal.setitimer(signal.ITIMER_REAL, limit + _SLACK_S)
  try:
    return 'score', checked(reward(*sample), len(sample[1]))
  except BaseException as error:   # sys.exit() would cost more than its sample
    return 'error', type(error).__name__
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)


def checked(score: types.Score, size: int) -> types.Score:
  """Returns the score in plain Python values, with all its fields filled in.

  Raises:
    ValueError: a field holds another number than `size`, or a value is not
      finite.
  """
  out = types.Score(
      tuple(float(v) for v in score.total),
      {str(name): tuple(float(v) for v in values)
       for name, values in score.parts.items()},
      tuple(map(bool, score.parsed)) or (True,) * size,
      tuple(map(bool, score.valid)) or (True,) * size, int(score.errors),
      tuple(tuple((int(a), int(b), float(v)) for a, b, v in spans)
            for spans in score.spans) or ((),) * size)
  fields = (out.total, *out.parts.values(), out.parsed, out.valid, out.spans)
  if any(len(field) != size for field in fields):
    raise ValueError(f'{[len(f) for f in fields]} values in a score for {size} '
                     'completions')
  if not all(math.isfinite(v) for v in out.total):
    raise ValueError(f'values {out.total!r} are not all finite')
  return out


def _end_with(parent: int) -> None:
  while os.getppid() == parent:
    time.sleep(.5)
  os.killpg(0, signal.SIGKILL)   # with whatever a reward has started
