"""Rewards that hang, crash and lie, for the tests of `pool`."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np

from medrl import types
from medrl.rewards import lift


@lift.per_completion
def length(record, text):
  return None if text == 'unparsed' else float(len(text))


def hang():
  while True:
    time.sleep(1)


def segfault():
  os.kill(os.getpid(), signal.SIGSEGV)


def deaf():
  """Hangs with all signals that can be blocked blocked."""
  signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
  hang()


def bear():
  """Hangs while a child holds on to whatever it inherited."""
  subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'],
                 check=False)


ACTS = {
    'hang': hang,
    'regex': lambda: re.match('(a+)+$', 'a' * 60 + 'b'),   # holds the GIL
    'deaf': deaf,
    'bear': bear,
    'stop': lambda: os.kill(os.getpid(), signal.SIGSTOP),
    'exit': lambda: os._exit(3),
    'segfault': segfault,
    'quit': lambda: sys.exit('patient 7'),
    'raise': lambda: {}['patient 7'],
    'deep': lambda: length.__wrapped__(None, deep()),
    'nan': lambda: float('nan'),
    'nap': lambda: time.sleep(.1),
}


def deep():
  return deep()


@lift.per_completion
def act(record, text):
  """Its length, unless the text names a way to misbehave."""
  if text in ACTS:
    value = ACTS[text]()
    return 0.0 if value is None else value
  return float(len(text))


def whole(record, completions, context):
  """Scores a group: ids, a signal and the context; or misbehaves."""
  for c in completions:
    if c.text in ACTS:
      ACTS[c.text]()
  return types.Score(
      tuple(len(c.ids) + float(np.sum(c.signals.get('x', 0)))
            + context.get('bonus', 0) for c in completions),
      parts={'ids': tuple(len(c.ids) for c in completions)},
      spans=tuple(((0, 1, 1.0),) for _ in completions))


def short(record, completions, context):
  return types.Score((1.0,) * (len(completions) + 1))


@lift.per_completion
def process(record, text):
  """Number of this process."""
  return float(os.getpid())


@lift.per_completion
def modules(record, text):
  """Whether the module that the text names is loaded."""
  return float(text in sys.modules)


@lift.per_completion
def order(record, text):
  """A number that depends on the order of a set of strings."""
  return float(int.from_bytes(''.join(set(text)).encode()[:6]))


@lift.per_completion
def loud(record, text):
  print(text)
  return 1.0


def make(name):
  return globals()[name]


def make_slow_at_first():
  """A reward whose first use loads something for 0.8 s."""
  loaded = threading.Event()

  @lift.per_completion
  def reward(record, text):
    if not loaded.is_set():
      time.sleep(.8)
      loaded.set()
    return 1.0
  return reward


def make_never():
  raise ValueError('no such reward; did you mean this one?')


def make_quit():
  os._exit(5)


def make_hang():
  hang()
