"""That a piece of work ends soon, on a machine that does other work too."""

import contextlib
import time

# What a reader is promised on any text is a second on an idle core. Threads
# that share a core run at a fraction of its speed; what the guard is there
# for (a pattern that backtracks, a loop over pairs) takes minutes.
SECONDS = 10.0


@contextlib.contextmanager
def soon(seconds: float = SECONDS, what: str = ''):
  """Fails where the thread's own CPU time inside passes `seconds`."""
  start = time.thread_time()
  yield
  spent = time.thread_time() - start
  assert spent < seconds, f'{spent:.1f} s for {what!r}'
