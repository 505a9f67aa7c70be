"""The processes of a run: how they join, meet, are watched and found dead.

What they say to each other here goes through the coordinator of
`jax.distributed`, so it needs no device and works when one of them hangs.
Arrays travel elsewhere (`sharding`), a stop that was asked for is agreed by the
loops (`trainers/session`), and the workdir they share is in `claims`.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import faulthandler
import functools
import logging
import os
import pathlib
import re
import socket
import sys
import threading
import time
from typing import Any, NoReturn

import jax
from jax._src import distributed

_KEYS = 'medrl'        # what we tell the coordinator stands below this
_SHUTDOWN_S = 20       # a process that ends waits so long for the others
_PATIENCE_S = 15.      # for the others, once something failed
_LISTEN_S = 2.         # between two looks whether another failed
# How XLA begins its messages, of what another process may be the cause of.
_STATUS = re.compile('(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|'
                     'DEADLINE_EXCEEDED|FAILED_PRECONDITION): ')
_SHOWN = 8             # processes named in a message, at most


def join(coordinator: str, place: tuple[int | None, int | None],
         silent_s: int, meet_s: int) -> None:
  """Joins the processes of one run, before anything starts a backend.

  Args:
    coordinator: HOST:PORT of process 0, 'auto' where jax finds it and the
      place by itself (TPU pods, Slurm, MPI), or '' for a run of one process.
    place: how many processes there are, and which of them this is.
    silent_s: a process that was not heard of for so long is taken for dead,
      and ends all others.
    meet_s: how long to wait for all of them.

  Raises:
    ValueError: a process or a count without a coordinator, or the other way
      round.
  """
  start = functools.partial(
      jax.distributed.initialize, heartbeat_timeout_seconds=silent_s,
      initialization_timeout=meet_s, shutdown_timeout_seconds=_SHUTDOWN_S)
  # It would catch every SIGTERM, also where no loop is there to heed it; in
  # the loop `session` does, and all processes agree.
  jax.config.update('jax_enable_preemption_service', False)
  if coordinator == 'auto':
    start()
  elif coordinator and None not in place:
    start(coordinator, *place)
  elif coordinator or place != (None, None):
    raise ValueError(
        f'--coordinator={coordinator} --processes={place[0]} '
        f'--process={place[1]}; give all three, --coordinator=auto or none')
  if several():
    tell('who', _self())
    logging.info('process %d of %d is %s', index(),
                 distributed.global_state.num_processes, _self())


def _client() -> Any:
  """The connection to the coordinator, None in a run of one process.

  The only place that knows where jax keeps it; Orbax finds it there too.
  """
  return distributed.global_state.client


def several() -> bool:
  """Whether this run has several processes."""
  return _client() is not None


def index() -> int:
  """Which of them this is; starts no backend, as jax.processindex() does."""
  return distributed.global_state.process_id


def _self() -> str:
  return f'pid {os.getpid()} on {socket.gethostname()}'


def tell(topic: str, text: str) -> None:
  """Tells all processes something; what this one said of it before is gone."""
  _client().key_value_set(f'{_KEYS}/{topic}/{index()}', text, True)


def told(topic: str) -> dict[int, str]:
  """What each process has told so far, by process."""
  found = _client().key_value_dir_get(f'{_KEYS}/{topic}/')
  return {int(key.rpartition('/')[2]): text for key, text in found}


def hear(topic: str, process: int, timeout_s: float) -> str:
  """Waits for what one process tells.

  Raises:
    TimeoutError: it told nothing; it is named.
  """
  try:
    return _client().blocking_key_value_get(f'{_KEYS}/{topic}/{process}',
                                            int(timeout_s * 1000))
  except jax.errors.JaxRuntimeError as error:
    raise TimeoutError(f'{names([process])} told nothing of its {topic} within '
                       f'{timeout_s:g} s') from error


def names(processes: Sequence[int]) -> str:
  """Processes in words: number, pid and host."""
  try:
    known = told('who')
  except jax.errors.JaxRuntimeError:
    known = {}
  named = [f'process {i} ({known.get(i, "never joined")})'
           for i in processes[:_SHOWN]]
  more = len(processes) - len(named)
  return ', '.join(named) + (f' and {more} more' if more else '')


def meet(name: str, timeout_s: float) -> None:
  """Waits until all processes have come to the meeting of that name.

  All come to it equally often; nothing happens in a run of one process.

  Raises:
    TimeoutError: some did not come; it names them.
  """
  if not several():
    return
  topic = f'meet/{name}'
  number = _client().key_value_increment(f'{_KEYS}/{topic}/{index()}', 1)
  try:
    _client().wait_at_barrier(f'{_KEYS}/{topic}/{number}',
                              int(timeout_s * 1000))
  except jax.errors.JaxRuntimeError as error:
    raise TimeoutError(
        f'{_absent(topic, number)} did not come to {name!r}, where process '
        f'{index()} waited {timeout_s:g} s: killed, stuck or never started. '
        f'Look at the end of its output.') from error


def _absent(topic: str, number: int) -> str:
  """Who has not come to a meeting `number` times, in words."""
  try:
    came = told(topic)
  except jax.errors.JaxRuntimeError:
    return 'process 0, the coordinator,'
  everyone = range(distributed.global_state.num_processes)
  missing = [i for i in everyone if int(came.get(i, 0)) < number]
  return names(missing) or 'a process that came and died'


@contextlib.contextmanager
def company() -> Iterator[None]:
  """Where an error ends this process or another, says which is the cause.

  A peer that died shows here as a collective that failed, whose error names an
  address at best, or as one that never ends. So who fails tells the others,
  which end too, and who meets a failed collective looks who is left. Take it
  around work that all processes do.
  """
  if not several():
    yield
    return
  done = threading.Event()
  thread = threading.Thread(target=_listen, args=(done,), name='company',
                            daemon=True)
  thread.start()
  try:
    yield
  except Exception as error:
    done.set()   # it has a cause of its own to tell
    _end(_cause(error))
    raise
  finally:
    done.set()
    thread.join()


def _end(cause: str) -> None:
  logging.error('process %d (%s) ends: %s', index(), _self(), cause)


def _listen(done: threading.Event) -> None:
  """Ends this process soon after another one said that it failed."""
  while not done.wait(_LISTEN_S):
    try:
      failed = told('failed')
    except jax.errors.JaxRuntimeError:
      continue   # XLA ends a process without a coordinator, with its own words
    # The same error may be on its way here, and tells more.
    if failed and not done.wait(_LISTEN_S):
      _end(_first(failed))
      abandon(1)


def of_runtime(error: BaseException | None) -> bool:
  """Whether an error may be another process's: it is XLA's, or due to one that
  is. Its type does not tell: a broken connection may come as a ValueError."""
  while error is not None:
    if _STATUS.match(str(error)):
      return True
    error = error.__cause__
  return False


def _first(failed: dict[int, str]) -> str:
  return (f'{names(sorted(failed))} failed first with '
          f'{", ".join(sorted(set(failed.values())))}; see its output')


def abandon(status: int) -> NoReturn:
  """Ends this process without a word to the others, who are dead or hang.

  An orderly end would wait for them, and XLA then aborts with pages of its own.
  """
  if several() and index() == 0:
    time.sleep(3 * _LISTEN_S)   # without it the others would hear no more
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def _cause(error: Exception) -> str:
  """What ends this process, in a line without a word of any record."""
  own = type(error).__name__
  try:
    if not of_runtime(error):
      tell('failed', own)
      return f'{own}, its own'
    # One that failed says so before its connections break.
    failed = told('failed')
    if failed:
      return _first(failed)
    meet('error', _PATIENCE_S)
    return f'{own}; all other processes answer'
  except TimeoutError as absent:
    return str(absent)
  except jax.errors.JaxRuntimeError:
    return 'process 0, the coordinator, does not answer any more'


@contextlib.contextmanager
def watch(folder: pathlib.Path, limit_s: float, end_s: float, step: int = 0
          ) -> Iterator[Callable[[int], None]]:
  """Yields a function to call at the end of each step, with its number.

  Where `limit_s` seconds pass without a call, the stacks of all threads go to
  `stacks.<process>.txt` in `folder`, on this machine's disk, and to stderr,
  below the step's number. Another `end_s` seconds later they do so again and
  the process ends (exit 1), even where Python itself hangs, so that a script
  may start it again. 0 stands for never, in both.
  """
  if not limit_s:
    yield lambda number: None
    return
  done, beats = threading.Event(), [(step + 1, time.monotonic())]
  path = folder / f'stacks.{index()}.txt'
  ends = f'in {end_s:g} s more it is ended' if end_s else 'it goes on'
  with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 'a',
            encoding='utf-8') as file:

    def arm() -> None:
      if end_s:
        faulthandler.dump_traceback_later(limit_s + end_s, exit=True, file=file)

    def beat(number: int) -> None:
      beats[0] = number + 1, time.monotonic()
      arm()

    def look() -> None:
      told = None
      while not done.wait(min(1., limit_s / 4)):
        number, since = beats[0]
        if number != told and time.monotonic() - since > limit_s:
          told = number
          _dump(file, f'step {number} of process {index()} has taken more '
                f'than {limit_s:g} s; {ends}. Where it is:', path)

    arm()
    thread = threading.Thread(target=look, name='watch', daemon=True)
    thread.start()
    try:
      yield beat
    finally:
      done.set()
      thread.join()
      faulthandler.cancel_dump_traceback_later()


def _dump(file, words: str, path: pathlib.Path) -> None:
  """Stacks of all threads, below a line of words, to the file and stderr."""
  logging.error('%s (also in %s)', words, path)
  for place in (file, sys.__stderr__):
    print(words, file=place, flush=True)
    faulthandler.dump_traceback(file=place, all_threads=True)
