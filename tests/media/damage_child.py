"""Reads the cases that a file lists, in little memory, and says what came.

A program of its own, so that a reader that crashes, hangs or takes too much
memory ends it and not the tests. It writes the number of a case before it is
read, and one line of JSON after.
"""

import json
import pathlib
import re
import resource
import signal
import sys
import time

import numpy as np

from medrl import types
from medrl.media import medium

ADDRESS_BYTES = 3 << 30
SECONDS = 20   # of one case


def told(loaded) -> str:
  """What was shown, or '' if it is not what a loader returns."""
  if isinstance(loaded, types.Signal):
    good = loaded.values.dtype == np.float32 and loaded.values.ndim == 2
    return f'signal {loaded.values.shape}' if good else ''
  if isinstance(loaded, types.Clip) and not (
      len(loaded.times) == len(loaded.frames)
      and (np.diff(loaded.times) > 0).all()):
    return ''
  pictures = medium.stills(loaded)
  if any(p.dtype != np.uint8 or p.ndim != 3 or p.shape[2] != 3 or not p.size
         for p in pictures):
    return ''
  return f'{len(pictures)} pictures {pictures[0].shape}' if pictures else ''


def peak() -> int:
  """Bytes; of getrusage it would be those of the parent before exec too."""
  status = pathlib.Path('/proc/self/status').read_text()
  return int(re.search(r'VmHWM:\s+(\d+) kB', status)[1]) << 10


def main(path: str, root: str):
  with open(path) as stream:
    cases = json.load(stream)
  resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
  for number, (name, options) in enumerate(cases):
    print(number, flush=True)
    signal.alarm(SECONDS)   # ends the program, whatever C code is doing
    start = time.monotonic()
    try:
      result = ['shown', told(medium.load(name, root, **options))]
    except Exception as error:
      result = [type(error).__name__, str(error)[:500],
                isinstance(error, (ValueError, FileNotFoundError))]
    signal.alarm(0)
    print(json.dumps({
        'number': number, 'result': result,
        'seconds': round(time.monotonic() - start, 2),
        'peak': peak()}),
        flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
