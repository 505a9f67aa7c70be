"""A run's claim on its workdir: one folder to all processes, and of one run.

What else is in the workdir is not looked at here.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import time
from typing import Any

from medrl import hosts
from medrl import paths

LOCK = 'lock.json'   # of a workdir: who runs in it


@contextlib.contextmanager
def claim(workdir: str | os.PathLike, timeout_s: float) -> Iterator[None]:
  """Holds a workdir: no other run may write to it, and all processes see it.

  `lock.json` names host, pid and start of the run that has it. The lock itself
  is the kernel's and ends with its process, so one that a dead run left behind
  holds nobody up. An object store has no locks; there only the second is
  checked.

  Raises:
    OSError: it cannot be written, or another run has it, which is named; on
      all processes.
    ValueError: a process sees another folder by that name.
  """
  token = secrets.token_hex(8)
  with contextlib.ExitStack() as stack:
    if hosts.index() == 0:
      try:
        stack.enter_context(_locked(paths.at(workdir), token))
      except OSError as error:
        _tell(token, str(error))
        raise
      _tell(token)
    if hosts.several():
      _compare(paths.at(workdir), timeout_s)
    yield


def _tell(token: str, error: str = '') -> None:
  if hosts.several():
    hosts.tell('claim', json.dumps({'token': token, 'error': error}))


def _compare(workdir, timeout_s: float) -> None:
  """Raises where any process does not find process 0's token."""
  started = json.loads(hosts.hear('claim', 0, timeout_s))
  if started['error']:
    raise OSError(f'process 0: {started["error"]}')
  hosts.tell('sees', _look(workdir / LOCK, started['token']))
  hosts.meet('workdir', timeout_s)
  blind = {i: what for i, what in hosts.told('sees').items() if what}
  if blind:
    what = '; '.join(f'{hosts.names([i])} sees {blind[i]}'
                     for i in sorted(blind))
    raise ValueError(
        f'--workdir={workdir} is not one folder to all processes: {what}. Give '
        f'a folder that all hosts share, or an object store\'s')


def _look(path, token: str, seconds: float = 20.) -> str:
  """'' where the file holds the token, else what is there instead.

  A shared folder may show a new file only after a while.
  """
  deadline = time.monotonic() + seconds
  while True:
    try:
      found = json.loads(path.read_text())
      if found['token'] == token:
        return ''
      seen = f'the lock of another run, {_holder(found)}'
    except (OSError, ValueError) as error:
      seen = f'no such file as {path.name} ({type(error).__name__})'
    if time.monotonic() > deadline:
      return seen
    time.sleep(.2)


@contextlib.contextmanager
def _locked(workdir, token: str) -> Iterator[None]:
  """The workdir's lock file, written and held."""
  told = json.dumps({'token': token, 'pid': os.getpid(),
                     'host': socket.gethostname(),
                     'started': time.strftime('%Y-%m-%d %H:%M:%S %z')})
  with contextlib.ExitStack() as stack:
    try:
      paths.folder(workdir)
      if paths.remote(workdir):
        paths.write(workdir / LOCK, told)
      else:
        # Without a buffer, whose rest a full disk would refuse once more.
        file = stack.enter_context(open(workdir / LOCK, 'ab+', buffering=0))
        _lock(file, workdir)
        _rewrite(file, told, workdir)
    except BlockingIOError:
      raise
    except OSError as error:
      raise OSError(
          error.errno, f'--workdir={workdir} cannot be written '
          f'({error.strerror}); make it writable and make room there, or give '
          f'another') from error
    yield


def _lock(file, workdir, seconds: float = 5.) -> None:
  """Locks the open file, or raises BlockingIOError naming who has it."""
  # What a killed run had started may outlive it for a moment.
  deadline = time.monotonic() + seconds
  while True:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return
    except BlockingIOError:
      if time.monotonic() > deadline:
        file.seek(0)
        raise BlockingIOError(
            errno.EAGAIN, f'--workdir={workdir} belongs to a run that is '
            f'alive, {_holder(_parsed(file.read()))}; end that run, or give '
            f'another --workdir') from None
    except OSError as error:   # a file system without locks
      logging.warning('%s cannot be locked (%s); see to it that no second run '
                      'writes there', workdir, error.strerror)
      return
    time.sleep(.2)


def _rewrite(file, text: str, workdir) -> None:
  """Puts our name into the lock file, and says whose was there."""
  file.seek(0)
  before = _parsed(file.read())
  if before:
    logging.info('%s was last held by %s, which is gone', workdir,
                 _holder(before))
  file.truncate(0)
  file.write(text.encode())


def _parsed(text: bytes) -> dict[str, Any]:
  """A lock file's content; {} where its writer was killed while writing."""
  try:
    return json.loads(text)
  except ValueError:
    return {}


def _holder(lock: dict[str, Any]) -> str:
  if not lock:
    return 'which did not leave its name'
  return f'pid {lock["pid"]} on {lock["host"]} since {lock["started"]}'
