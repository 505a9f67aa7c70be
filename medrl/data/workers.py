"""Records to examples with Grain, in this process or in worker processes.

Workers read media and tokenise. They never touch an accelerator, never raise,
and end with their parent. Batching and what to do about bad records is not
here (`pipeline`).
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import gc
from multiprocessing import queues
from multiprocessing import resource_tracker
from multiprocessing import util
import os
import queue
import signal
import sys
import threading
import time

from absl import flags
import grain

from medrl import types
from medrl.data import mixture

# Of a record and its data root.
Encode = Callable[[types.Record, str], types.Example]


@dataclasses.dataclass(frozen=True)
class Share:
  """The places of a stream that one process draws.

  A batch takes `rows * count` places one after another, of which this process,
  number `index` of `count`, has `rows` neighbours: the rows that it holds of
  the batch, whatever the number of processes. The first batch begins at place
  `start`.
  """
  rows: int
  index: int = 0
  count: int = 1
  start: int = 0

  def place(self, number: int) -> int:
    """Of this process's draw `number`, from 0."""
    batch, row = divmod(number, self.rows)
    return (self.start + batch * self.rows * self.count
            + self.index * self.rows + row)

  def draws(self, total: int) -> int:
    """How many of `total` places in all this process draws."""
    batches, rest = divmod(max(total - self.start, 0), self.rows * self.count)
    last = min(max(rest - self.index * self.rows, 0), self.rows)
    return batches * self.rows + last


@dataclasses.dataclass(frozen=True)
class Draw:
  """Draw number -> example, for Grain to map over; it never raises.

  A record that cannot be used, by `encode` or by `accept`, is stood in for by
  another of its source, `attempts` times at most; `Example.skipped` tells.
  """
  sources: Sequence[mixture.Source]
  order: mixture.Order
  share: Share
  encode: Encode
  accept: Callable[[types.Example], types.Example]
  attempts: int = 0

  def __call__(self, number: int) -> types.Example:
    place = self.share.place(number)
    source, record = self.order.stream[place]
    example = self._example(source, record)
    skipped = []
    for attempt in range(self.attempts):
      if example.valid:
        break
      skipped.append((example.record.id, example.reason))
      example = self._example(*self.order.spare(place, source, attempt))
    return dataclasses.replace(example, skipped=tuple(skipped))

  def _example(self, source: int, index: int) -> types.Example:
    """Encodes a record; whatever is wrong with it is told, not raised."""
    source = self.sources[source]
    record = types.Record(id=f'{source.name}[{index}]', question='',
                          answer=None, answer_type='text')
    try:
      record = source.records[index]   # may be read from a file just here
      return self.accept(self.encode(record, source.root))
    # Decoders of damaged files raise anything, and an error raised in a worker
    # would look like the end of the data.
    except Exception as error:
      return types.Example(record=record, valid=False,
                           reason=f'{type(error).__name__}: {error}')


def examples(draw: Draw) -> grain.MapDataset:
  """This process's examples, in order."""
  count = draw.share.draws(len(draw.order.stream))
  return grain.MapDataset.range(count).map(draw)


def read(dataset: grain.MapDataset, count: int,
         ahead: int) -> grain.IterDataset:
  """Reads in order, with `count` processes (0: this one), each of which keeps
  up to `ahead` examples ready."""
  # No reading threads: tokenizers are not safe in several threads at a time.
  stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0,
                                                     prefetch_buffer_size=0))
  if not count:
    return stream
  if not flags.FLAGS.is_parsed():
    # Grain reads its own absl flags when it starts a worker, and outside
    # `app.run` (tests, notebooks) nobody has parsed them.
    flags.FLAGS.mark_as_parsed()
  options = grain.MultiprocessingOptions(num_workers=count,
                                         per_worker_buffer_size=ahead)
  return stream.mp_prefetch(
      options, worker_init_fn=functools.partial(_start, os.getpid()))


@contextlib.contextmanager
def sheltered(count: int) -> Iterator[None]:
  """Workers, `count` of them, started here get neither Ctrl-C nor SIGTERM.

  A terminal or a scheduler sends them to every process of the run, whose own
  affair it is to finish its step, with its workers. They inherit the mask of
  the thread that starts them, so that none is without it while it starts; they
  end when their parent tells them to, or with it.
  """
  if not count:
    yield
    return
  # It would lift the mask again where the first worker is what starts it.
  resource_tracker.ensure_running()
  before = signal.pthread_sigmask(signal.SIG_BLOCK,
                                  {signal.SIGINT, signal.SIGTERM})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(parent: int, index: int, count: int) -> None:
  """Keeps a worker off the accelerator, and ends it with its parent."""
  del index, count  # which of the workers it is makes no difference
  os.environ['JAX_PLATFORMS'] = 'cpu'
  if 'jax' in sys.modules:
    # Grain has imported jax by now, which read the variable before; a worker
    # that takes hold of a TPU would hang its host.
    sys.modules['jax'].config.update('jax_platforms', 'cpu')
  threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
  # Before a queue's own end, which has 10.
  util.Finalize(None, _take_back, exitpriority=20)


def _take_back() -> None:
  """Empties this worker's queues, which nobody reads any more, as it ends.

  A process ends only once its queues are written out, and a pipe without a
  reader is soon full: Grain would wait for 25 s and kill the worker.
  """
  for found in gc.get_objects():   # Grain hands none of them to `_start`
    if isinstance(found, queues.Queue):
      while found.qsize():
        with contextlib.suppress(queue.Empty):   # the parent reads at its end
          found.get(timeout=.1)


def _end_with(parent: int) -> None:
  # Linux's PR_SET_PDEATHSIG would not do: it follows the thread that started
  # the process, and Grain starts workers from threads that come and go.
  while os.getppid() == parent:
    time.sleep(.5)
  os._exit(1)
