"""Whether two expressions are equal, by math-verify in a process of its own.

Computer algebra may take for ever and all memory, on input that anyone may
write: so it runs in one warm worker that is killed when the time is over, and
started again. Nothing is evaluated as Python: only the LaTeX grammar is used.
"""

from collections.abc import Callable
import functools
import json
import logging
from multiprocessing import connection
import os
import resource
import signal
import subprocess
import sys
import threading
from typing import Any

from medrl import types
from medrl.rewards import lift
from medrl.rewards import text as text_rules
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

# No answer that someone would check is longer, or wants more memory.
_LONGEST = 500
_BYTES = 4 << 30
_START_S = 120.0
_CODE = ('import sys; sys.path[:] = {path!r}; '
         'from medrl.rewards import symbolic; symbolic.serve({fd}, {parent})')
_MISSING = ('math-verify is needed for symbolic equality; install with: '
            'pip install -r launch/requirements-rewards.txt')


def expression(content: str) -> str | None:
  """Returns the LaTeX of an answer without its delimiters, or None.

  Takes '$..$', '$$..$$', '\\(..\\)', '\\[..\\]' or '\\boxed{..}' around all of
  it, or none. What is longer than 500 characters, or holds a further
  delimiter and so perhaps a second answer, is unparsed.
  """
  plain = ' '.join(content.split()).rstrip('.')
  for start, end in (('$$', '$$'), ('$', '$'), (r'\(', r'\)'), (r'\[', r'\]'),
                     (r'\boxed{', '}')):
    if (plain.startswith(start) and plain.endswith(end)
        and len(plain) >= len(start + end)):
      plain = plain[len(start):len(plain) - len(end)].strip()
  if (not 0 < len(plain) <= _LONGEST
      or any(mark in plain for mark in ('$', r'\(', r'\[', 'boxed'))):
    return None
  return plain


def equal(value: str, target: str, seconds: float = 2.0) -> bool | None:
  """Returns whether two LaTeX expressions are equal; None where undecided.

  Undecided is what is no expression, takes more than `seconds` or ends its
  process. The worker lives as long as this process and serves all threads in
  turn; a forked process starts its own.

  Raises:
    ImportError: math-verify is not installed.
  """
  return _worker(os.getpid()).ask(value, target, seconds)


@lift.per_completion
def score(record: types.Record, text: str, *,
          seconds: float = 2.0) -> float | None:
  """Rewards an expression that equals the reference: 1.0 or 0.0.

  Equality is math-verify's, to six decimals for numbers. As a reward, called
  with (record, completions, context).

  Args:
    record: its answer is a string; of a choice, the option's text counts.
    text: a completion; unparsed unless its answer block is one expression that
      is decided in time.
    seconds: the time for one answer; a slow machine decides fewer of them.

  Raises:
    ValueError: the record's answer is no string or no expression.
    ImportError: math-verify is not installed.
  """
  target = expression(text_rules.reference(record))
  if target is None:
    raise ValueError(f'record {record.id!r}: answer {record.answer!r} is no '
                     'expression')
  block = blocks.answer(text)
  value = block and expression(block.value)
  if value is None:
    return None
  if spans.normalise(value) == spans.normalise(target):
    return 1.0
  found = equal(value, target, seconds)
  return None if found is None else float(found)


class _Worker:
  """The process that decides, one question at a time."""

  def __init__(self):
    self._lock = threading.Lock()
    self._process: subprocess.Popen | None = None
    self._pipe: connection.Connection | None = None

  def ask(self, value: str, target: str, seconds: float) -> bool | None:
    with self._lock:
      if self._process is None:
        self._start()
      try:
        self._pipe.send_bytes(json.dumps([value, target, seconds]).encode())
        if self._pipe.poll(seconds):
          return json.loads(self._pipe.recv_bytes())
      except (EOFError, OSError):
        pass   # it took too much memory, and ended
      except BaseException:
        self._stop()   # its answer would be taken for that to the next question
        raise
      self._stop()
      return None

  def _start(self) -> None:
    ours, theirs = connection.Pipe()
    # Not multiprocessing.Process: it would run the main module of this process
    # again, and a trainer's loads jax.
    self._process = subprocess.Popen(
        [sys.executable, '-c', _CODE.format(
            path=sys.path, fd=theirs.fileno(), parent=os.getpid())],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        # What it complains about may quote a patient's text.
        stderr=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
        env={**os.environ, 'PYTHONHASHSEED': '0'})
    theirs.close()
    self._pipe = ours
    try:
      ready = ours.poll(_START_S) and json.loads(ours.recv_bytes())
    except (EOFError, OSError):
      ready = None
    if not ready:
      self._stop()
      if ready is False:
        raise RuntimeError('the worker for symbolic equality did not start in '
                           f'{_START_S} s')
      raise ImportError(_MISSING)

  def _stop(self) -> None:
    self._process.kill()
    self._process.wait()
    self._pipe.close()
    self._process = self._pipe = None


@functools.cache
def _worker(pid: int) -> _Worker:
  del pid   # a fork shares the pipe, and would take the other's answers
  return _Worker()


def serve(descriptor: int, parent: int) -> None:
  """Decides what comes through a pipe until it is closed or `parent` ends."""
  os.set_inheritable(descriptor, False)
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
  logging.disable(logging.CRITICAL)
  pipe = connection.Connection(descriptor)
  decide = _decider()
  pipe.send_bytes(b'true')
  while True:
    while not pipe.poll(1.0):
      if os.getppid() != parent:
        return
    value, target, seconds = json.loads(pipe.recv_bytes())
    # Only the kernel stops what holds the interpreter, once nobody waits.
    signal.setitimer(signal.ITIMER_REAL, seconds + 1.0)
    verdict = decide(value, target)
    signal.setitimer(signal.ITIMER_REAL, 0)
    pipe.send_bytes(json.dumps(verdict).encode())


def _decider() -> Callable[[str, str], bool | None]:
  import math_verify  # pylint: disable=import-outside-toplevel

  # Never `ExprExtractionConfig`: it hands text to sympy's parse_expr, which
  # evaluates it as Python.
  grammar = [math_verify.LatexExtractionConfig(boxed_match_priority=-1)]

  def parsed(latex: str) -> list[Any]:
    return math_verify.parse(
        f'${latex}$', extraction_config=grammar, fallback_mode='no_fallback',
        extraction_mode='first_match', parsing_timeout=None)

  def decide(value: str, target: str) -> bool | None:
    try:
      said, gold = parsed(value), parsed(target)
      if len(said) != 1 or len(gold) != 1:
        return None
      return bool(math_verify.verify(gold, said, timeout_seconds=None))
    except Exception:  # pylint: disable=broad-except
      return None   # sympy raises a little of everything

  return decide
