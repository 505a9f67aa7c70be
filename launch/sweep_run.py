"""Runs of a sweep as processes: locks, shards, several at once, their ends.

Not here: which runs there are (sweep_points), a search (sweep_search). Locks
are flock's, which the run itself holds too: the kernel drops them with the last
process that has them, so none is ever stale, and a run whose sweep was killed
is not begun twice. On NFS they hold between hosts; where a file system has
none, as object stores, give each host its own --shard.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import functools
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from launch import sweep_read

ROOT = pathlib.Path(__file__).parents[1]
LINES = 20        # of a failed run's log that are kept beside it
POLL_S = .3
# A stopped run saves first; after so long it is taken to hang.
PATIENCE_S = 900.
# Of a run that was asked to stop: it has saved, or had nothing to save yet.
_STOPPED = (0, 128 + signal.SIGINT, -signal.SIGTERM)
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_SET_PARENT_DEATH_SIGNAL = 1   # of prctl(2)


@dataclasses.dataclass(frozen=True)
class Job:
  """One run: where it goes and its process, as a list of arguments."""
  folder: pathlib.Path
  command: Sequence[str]


@dataclasses.dataclass
class Running:
  """A job whose process was started, and the lock that both hold."""
  job: Job
  process: Any          # with poll() and send_signal(), as Popen
  lock: int             # file descriptor
  asked: float = 0.     # when it was asked to stop, monotonic; 0 for not


def shard(jobs: Sequence[Job], text: str) -> list[Job]:
  """The share 'i/n' of the jobs, i from 0: disjoint, and together all.

  Raises:
    ValueError: the text is no share.
  """
  index, _, count = text.partition('/')
  if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
    raise ValueError(f'--shard={text!r}: expected i/n with i from 0 to n - 1')
  return list(jobs[int(index)::int(count)])


def take(path) -> int | None:
  """Locks a file and returns its descriptor; None where another has it.

  Raises:
    OSError: the file system has no locks.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(file)
    return None
  except OSError as error:
    os.close(file)
    if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
      raise OSError(error.errno, f'{path}: no file locks here ({error}); put '
                    f'the sweep on a disk or on NFS') from error
    raise
  # For people: who has it, or had it last.
  os.ftruncate(file, 0)
  os.write(file, f'{socket.gethostname()} {os.getpid()}\n'.encode())
  return file


def release(lock: int) -> None:
  """Gives a lock back; a run that holds it too keeps it."""
  os.close(lock)


@contextlib.contextmanager
def locked(path) -> Iterator[None]:
  """Waits for a file's lock and holds it."""
  while (file := take(path)) is None:
    time.sleep(.05)
  try:
    yield
  finally:
    release(file)


def start(job: Job, lock: int) -> subprocess.Popen:
  """The job's process, its output behind what its log has already.

  It has a session of its own, so that a terminal's Ctrl-C meets the sweep
  alone, which then asks it to stop; and where the sweep is killed, Linux sends
  it SIGTERM, on which it saves.
  """
  _libc()   # loaded here, as little should happen between fork and exec
  paths = (str(ROOT), os.environ.get('PYTHONPATH', ''))
  # An error may quote a record: for the owner's eyes.
  with open(os.open(sweep_read.note(job.folder, 'log'), _APPEND, 0o600),
            'ab') as log:
    return subprocess.Popen(
        list(job.command), stdin=subprocess.DEVNULL, stdout=log,
        stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(lock,),
        preexec_fn=_end_with_parent if sys.platform == 'linux' else None,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))})


def begin(job: Job, lock: int, starter=start) -> Running:
  """Starts a job whose lock is held; what failed before is forgotten."""
  sweep_read.note(job.folder, 'failed').unlink(missing_ok=True)
  logging.info('starting %s', job.folder)
  return Running(job, starter(job, lock), lock)


def stop(running: Running) -> None:
  """Asks a run to save and end; kills it where it does not."""
  if not running.asked:
    running.asked = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
  elif time.monotonic() > running.asked + PATIENCE_S:
    running.process.send_signal(signal.SIGKILL)


def noted(running: Running, pruned: Mapping[str, Any] | None = None) -> str:
  """Notes beside a run how its process ended.

  Args:
    running: whose process has ended; its lock is the caller's to give back.
    pruned: what to note of a run that was stopped as it promised little.

  Returns:
    the run's status.
  """
  folder, code = running.job.folder, running.process.poll()
  found, more = sweep_read.status(folder), ''
  if found != 'finished' and pruned is not None:
    found = 'pruned'
    sweep_read.write_json(sweep_read.note(folder, found), pruned)
  elif found != 'finished' and (running.asked or code in _STOPPED):
    found = 'stopped'
  elif found != 'finished':
    found, path = 'failed', sweep_read.note(folder, 'failed')
    sweep_read.write_json(path, {
        'exit': code, 'ended': time.time_ns(),
        'last_lines': last_lines(sweep_read.note(folder, 'log'))}, 0o600)
    more = f' with exit status {code}; its last lines are in {path}'
  logging.info('%s: %s%s', folder, found, more)
  return found


def last_lines(path) -> list[str]:
  """The last lines of a log; of a progress bar its last state."""
  path = pathlib.Path(path)
  if not path.exists():
    return []
  with open(path, 'rb') as file:
    file.seek(max(0, path.stat().st_size - 20_000))
    text = file.read().decode(errors='replace')
  return [line.rstrip('\r').rpartition('\r')[2] for line in text.split('\n')
          if line.strip()][-LINES:]


def run_all(jobs: Sequence[Job], parallel: int, asked: Callable[[], bool],
            starter=start, poll_s: float = POLL_S) -> dict[pathlib.Path, str]:
  """Runs what is not finished, so many at once, until all is or a stop.

  A job that another worker has is looked at again until it is free, so several
  workers of one sweep share its jobs. One that failed before this call is run
  again; one that fails now, here or with another worker, is not.

  Args:
    jobs: all of this worker's.
    parallel: processes at once.
    asked: whether to stop; runs are then asked to save, and waited for.
    starter: (job, lock) -> its process.
    poll_s: seconds between looks.

  Returns:
    status by folder.
  """
  waiting, running, ended = collections.deque(jobs), [], {}
  before = {job.folder: _failure(job) for job in jobs}
  while running or (waiting and not asked()):
    for one in [r for r in running if r.process.poll() is not None]:
      running.remove(one)
      ended[one.job.folder] = noted(one)
      release(one.lock)
    if asked():
      for one in running:
        stop(one)
    else:
      for _ in range(len(waiting)):
        if len(running) == parallel:
          break
        job = waiting.popleft()
        found = _try(job, before[job.folder], starter)
        if isinstance(found, Running):
          running.append(found)
        elif found:
          ended[job.folder] = found
        else:
          waiting.append(job)
    if running or waiting:
      time.sleep(poll_s)
  return {job.folder: ended.get(job.folder) or sweep_read.status(job.folder)
          for job in jobs}


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], int]]:
  """Yields a function that gives the signal that asked to stop, or 0.

  A second one acts at once.
  """
  found, before = [], {}
  def ask(number, frame):
    del frame
    found.append(number)
    signal.signal(number, before[number])
    logging.info('asked to stop: runs save first; the same command goes on')
  for number in (signal.SIGINT, signal.SIGTERM):
    before[number] = signal.signal(number, ask)
  try:
    yield lambda: found[0] if found else 0
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _try(job: Job, failure, starter) -> Running | str | None:
  """A started job, the status of one that needs no start, or None where
  another worker has it.

  The status is looked at under the lock: before it another may have ended.
  """
  lock = take(sweep_read.note(job.folder, 'lock'))
  if lock is None:
    return None
  found = sweep_read.status(job.folder)
  again = found == 'failed' and _failure(job) == failure
  if found in ('finished', 'pruned') or (found == 'failed' and not again):
    release(lock)
    return found
  return begin(job, lock, starter)


def _failure(job: Job):
  return sweep_read.read_json(sweep_read.note(job.folder, 'failed'))


@functools.cache
def _libc():
  return ctypes.CDLL(None)   # of this very process


def _end_with_parent() -> None:
  _libc().prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
