"""Runs one reward in worker processes, with a time limit that really kills.

A sample that hangs, raises or takes its process down costs that sample alone.
What the numbers mean is not looked at here. Workers load no jax, take no
Ctrl-C and end with their parent; see `pool_worker`.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import logging
from multiprocessing import connection
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from medrl import types

Sample = tuple[types.Record, list[types.Completion], Mapping[str, Any]]

POLICIES = ('zero', 'mask')
# Several parts for each worker even out unequal samples.
_PARTS = 4
_STARTS = 3
_CODE = ('import sys; sys.path[:] = {path!r}; '
         'from medrl.rewards import pool_worker; pool_worker.serve({fd})')
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_pool(make_reward: Callable[[], types.Reward], *, workers: int,
              limit_s: float, policy: str = 'zero', start_s: float = 120.0,
              warm: Sequence[Sample] = ()) -> Iterator['Pool']:
  """Starts workers, each with a reward of its own, and ends them at the end.

  Args:
    make_reward: makes the reward, in each worker; picklable, thus importable:
      `functools.partial(compose.build, terms)`, not a lambda.
    workers: processes, at least 1.
    limit_s: seconds a sample may take, by the wall clock; above 0.
    policy: what a failed sample gets: 'zero' is value 0 and valid, 'mask' is
      value 0 and invalid.
    start_s: seconds in which a worker must have made and warmed its reward.
    warm: samples that each worker scores as it starts, so that what a reward
      loads at its first use is charged to none.

  Raises:
    ValueError: an argument does not fit.
    RuntimeError: a worker did not start; with the reason.
  """
  if workers < 1 or not limit_s > 0 or policy not in POLICIES:
    raise ValueError(f'workers {workers!r}, limit_s {limit_s!r}, policy '
                     f'{policy!r}: expected at least 1, above 0, and one of '
                     f'{", ".join(POLICIES)}')
  setup = pickle.dumps((make_reward, limit_s, [_plain(s) for s in warm]))
  pool = Pool(setup, workers, limit_s, policy, start_s)
  try:
    pool.start()
    yield pool
  finally:
    pool.close()


@dataclasses.dataclass(eq=False)
class _Worker:
  """A process and what it owes: numbers of samples, the first one under way."""
  process: subprocess.Popen
  pipe: connection.Connection
  deadline: float      # of the sample under way, or of getting ready
  ready: bool = False
  todo: collections.deque[int] = dataclasses.field(
      default_factory=collections.deque)

  def busy(self) -> bool:
    return bool(self.todo) or not self.ready


class Pool:
  """Worker processes; get one by `open_pool`.

  `failed` holds how many samples failed in the last call of `score`, by cause:
  'errors' (it raised, gave other than finite numbers, or ended its process)
  and 'timeouts'.
  """

  def __init__(self, setup: bytes, workers: int, limit_s: float, policy: str,
               start_s: float):
    self._setup, self._count = setup, workers
    self._limit, self._policy, self._start_s = limit_s, policy, start_s
    self._workers: list[_Worker] = []
    self._waiting: collections.deque[Sequence[int]] = collections.deque()
    self._outcomes: dict[int, types.Score | None] = {}
    self._single = False       # whether a sample is one completion
    self._stillborn = 0        # workers in a row that ended before being ready
    self._told: set[str] = set()
    self._closed = False
    self.failed = {'errors': 0, 'timeouts': 0}

  def start(self) -> None:
    """Starts the workers and waits until each has made its reward."""
    self._workers = [self._spawn() for _ in range(self._count)]
    while not all(w.ready for w in self._workers):
      self._turn()

  def close(self) -> None:
    """Kills the workers; they hold nothing that would be worth a wait."""
    for worker in self._workers:
      _kill(worker)
    self._workers, self._closed = [], True

  def score(self, samples: Sequence[Sample]) -> list[types.Score]:
    """Scores each (record, completions, context), in their order.

    A reward marked `per_completion` (`lift`) gets each completion by itself,
    and of it the text alone, which is all that a lifted rule reads. Any other
    gets whole groups, and fails for a whole group. Every failure counts in
    `Score.errors`, and in `failed` by its cause. Contexts and signals travel,
    so they hold host values.

    Raises:
      RuntimeError: the pool was closed, also by an exception out of here; or a
        worker cannot start or read the samples.
    """
    if self._closed:
      raise RuntimeError('the pool is closed; open another one')
    try:
      return self._score([_plain(s) for s in samples])
    except BaseException:
      # Workers are still busy with what nobody waits for any more.
      self.close()
      raise

  def _score(self, samples: list[Sample]) -> list[types.Score]:
    jobs, owners = [], []
    for number, (record, completions, context) in enumerate(samples):
      parts = ([[types.Completion(c.text)] for c in completions]
               if self._single else [completions])
      jobs += [(record, part, context) for part in parts]
      owners += [number] * len(parts)
    self.failed = dict.fromkeys(self.failed, 0)
    self._outcomes = {}
    self._waiting.extend(_chunks(len(jobs), self._count * _PARTS))
    while len(self._outcomes) < len(jobs):
      for worker in self._workers:
        if self._waiting and not worker.busy():
          self._send(worker, jobs)
      self._turn()
    groups: list[list] = [[] for _ in samples]
    for index, owner in enumerate(owners):
      groups[owner].append((len(jobs[index][1]), self._outcomes[index]))
    return [_joined(group, self._policy == 'zero') for group in groups]

  def _send(self, worker: _Worker, jobs: list[Sample]) -> None:
    worker.todo.extend(self._waiting.popleft())
    chunk = pickle.dumps([jobs[i] for i in worker.todo])
    # A write has no time limit, and a process that was stopped reads nothing.
    guard = threading.Timer(self._limit + 1, _kill_group, [worker.process.pid])
    guard.daemon = True
    guard.start()
    with contextlib.suppress(OSError):   # it has ended, as `_turn` will find
      worker.pipe.send_bytes(chunk)
    guard.cancel()
    worker.deadline = time.monotonic() + self._limit

  def _turn(self) -> None:
    """Waits until something happens, and takes note of all that did."""
    until = min(w.deadline for w in self._workers if w.busy())
    connection.wait([w.pipe for w in self._workers],
                    max(until - time.monotonic(), 0))
    for worker in list(self._workers):
      if not self._drain(worker):
        self._replace(worker, late=False)
      # What came meanwhile was in time: this process may have been stopped.
      elif (worker.busy() and time.monotonic() >= worker.deadline
            and not worker.pipe.poll()):
        self._replace(worker, late=True)

  def _drain(self, worker: _Worker) -> bool:
    """Reads all that a worker has sent; False where it has ended."""
    try:
      while worker.pipe.poll():
        self._take(worker, *pickle.loads(worker.pipe.recv_bytes()))
    except (EOFError, OSError, pickle.UnpicklingError):
      return False
    return True

  def _take(self, worker: _Worker, kind: str, value: Any) -> None:
    if kind == 'broken':
      raise RuntimeError(f'a reward worker cannot work: {value}')
    if kind == 'ready':
      self._single, worker.ready, self._stillborn = value, True, 0
      return
    index = worker.todo.popleft()
    self._outcomes[index] = value if kind == 'score' else None
    if kind == 'error':
      self._count_failure('errors', value)
    worker.deadline = time.monotonic() + self._limit

  def _replace(self, worker: _Worker, late: bool) -> None:
    """Ends a worker, fails its sample under way, and starts another one."""
    _kill(worker)
    code = worker.process.returncode
    if not worker.ready:
      self._stillborn += 1
      if late or self._stillborn >= _STARTS:
        raise RuntimeError(
            f'a reward worker was not ready after start_s {self._start_s!r}'
            if late else f'{_STARTS} reward workers in a row ended (exit code '
            f'{code}) before they were ready; make the reward by hand to see')
    if worker.todo:
      self._outcomes[worker.todo.popleft()] = None
      # Its own timer may have been the first.
      late = late or code == -signal.SIGALRM
      self._count_failure('timeouts' if late else 'errors',
                          'time-out' if late else f'exit code {code}')
    if worker.todo:
      self._waiting.appendleft(tuple(worker.todo))
    self._workers[self._workers.index(worker)] = self._spawn()

  def _count_failure(self, cause: str, what: str) -> None:
    self.failed[cause] += 1
    if what not in self._told:
      # Never the message, which may quote a patient's text.
      _log.warning('a reward failed on a sample (%s); counted from now on',
                   what)
      self._told.add(what)

  def _spawn(self) -> _Worker:
    ours, theirs = connection.Pipe()
    # Not multiprocessing.Process: it would run the main module of this process
    # again, and a trainer's loads jax.
    process = subprocess.Popen(
        [sys.executable, '-c', _CODE.format(path=sys.path, fd=theirs.fileno())],
        # What a reward prints may quote a patient's text.
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        # In a group of its own a worker gets no Ctrl-C, and what it has started
        # dies with it.
        start_new_session=True,
        # One seed, or the order of a set would depend on the worker.
        env={**os.environ, 'PYTHONHASHSEED': '0', 'JAX_PLATFORMS': 'cpu'})
    theirs.close()
    with contextlib.suppress(OSError):
      ours.send((os.getpid(), self._setup))
    return _Worker(process, ours, time.monotonic() + self._start_s)


def _plain(sample: Sample) -> Sample:
  """The sample with a context that can be pickled, whatever mapping it was."""
  record, completions, context = sample
  return record, list(completions), dict(context)


def _chunks(count: int, parts: int) -> list[range]:
  size = max(1, -(-count // parts))
  return [range(i, min(i + size, count)) for i in range(0, count, size)]


def _joined(group: list[tuple[int, types.Score | None]],
            valid: bool) -> types.Score:
  """One score of a group's samples, (size, score or None where it failed).

  A part that a failed sample lacks is 0 there, as its value is.
  """
  names = {n: None for _, score in group if score for n in score.parts}
  scores = [
      types.Score((0.0,) * size, {}, (True,) * size, (valid,) * size, 1,
                  ((),) * size) if score is None else score
      for size, score in group]

  def flat(field):
    return tuple(v for score in scores for v in getattr(score, field))

  return types.Score(
      flat('total'),
      {name: tuple(v for score in scores for v in (
          score.parts[name] if name in score.parts
          else (0.0,) * len(score.total))) for name in names},
      flat('parsed'), flat('valid'), sum(s.errors for s in scores),
      flat('spans'))


def _kill(worker: _Worker) -> None:
  _kill_group(worker.process.pid)
  worker.process.wait()
  worker.pipe.close()


def _kill_group(group: int) -> None:
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(group, signal.SIGKILL)
