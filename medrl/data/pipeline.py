"""Records to batches: an iterator that can stop, say where it is, and go on.

Grain orders the records (`mixture`) and runs `encode` in worker processes
(`workers`); batching, and counting what could not be used, happens here, after
its iterator, since a transform that raises or filters inside a worker ends the
stream without an error. Which records a batch of all processes holds depends on
the seed and on its number alone: not on how many processes or workers there
are, on a restart, or on bad records elsewhere. It reads no file itself and
starts no jax backend.
"""

import collections
from collections.abc import Iterator, Sequence
import dataclasses
import functools
import logging
from typing import Any

from medrl import types
from medrl.data import batching
from medrl.data import mixture
from medrl.data import workers


class Pipeline:
  """Iterator of (batch, its Examples) with a json-able state.

  Where it is, is one number, so a state goes on with any number of workers and
  of processes: `seen`, the places of the stream that all processes drew since
  the run began. `counts` has this process's bad records by reason.
  """

  def __init__(self, sources: Sequence[mixture.Source], encode: workers.Encode,
               settings: batching.Settings, *, collate=None,
               agree: batching.Agree | None = None):
    """Args:
      sources: what to draw from.
      encode: (record, its data root) -> example; may raise.
      settings: of the pipeline.
      collate: P examples -> batch; by default `stack` to the smallest bucket.
      agree: see `bucket_for`.
    """
    self.settings = settings
    self.counts = collections.Counter()
    self._collate = collate or functools.partial(
        batching.stack_smallest, settings=settings, agree=agree)
    self._sources = tuple(sources)
    self._order = mixture.order(self._sources, settings.seed, settings.shuffle,
                                settings.repeat)
    self._encode = encode
    self._told = set()
    self._begin(0)

  def _begin(self, start: int) -> None:
    s = self.settings
    self._share = workers.Share(s.prompts, s.process_index, s.process_count,
                                start)
    self._drawn = 0
    self._iterator = None

  @property
  def seen(self) -> int:
    """Places of the stream behind the last whole batch."""
    batches = self._drawn // self.settings.prompts
    return (self._share.start
            + batches * self.settings.prompts * self.settings.process_count)

  def __iter__(self):
    return self

  def __next__(self) -> tuple[Any, list[types.Example]]:
    """The next batch; where records are not repeated, only full ones, from
    which bad records are left out.

    Raises:
      ValueError: a bad record, with on_bad 'error'; or nothing but bad ones.
    """
    examples = []
    while len(examples) < self.settings.prompts:
      example = self.draw()
      if example is None:
        raise StopIteration
      if example.valid:
        examples.append(example)
      elif self.settings.repeat:
        raise ValueError(
            f'no usable record after {len(example.skipped)} others in its '
            f'place; dropped so far: {dict(self.counts)}, the last for '
            f'{example.reason}')
    return self._collate(examples), examples

  def draw(self) -> types.Example | None:
    """The next example, None behind the last; bad records are counted."""
    dataset = None
    if self._iterator is None:
      dataset = workers.examples(self._draw())
      self._iterator = iter(workers.read(
          dataset, self.settings.workers, self.settings.prompts))
    # The first draw starts the workers.
    with workers.sheltered(self.settings.workers if dataset else 0):
      example = self._next()
    if example is None:
      return None
    self._drawn += 1
    for record, reason in example.skipped:
      self._count(record, reason)
    if not example.valid:
      if self.settings.on_bad == 'error':
        raise ValueError(
            f'record {example.record.id!r} cannot be used: {example.reason} '
            f"(on_bad 'skip' drops and counts such records)")
      self._count(example.record.id, example.reason)
    return example

  def _draw(self) -> workers.Draw:
    s = self.settings
    # Were every record bad, standing in for them would never end.
    most = min(max(len(source.records) for source in self._sources),
               mixture.SPARES)
    attempts = most if s.repeat and s.on_bad == 'skip' else 0
    return workers.Draw(self._sources, self._order, self._share, self._encode,
                        functools.partial(batching.check, settings=s), attempts)

  def _next(self) -> types.Example | None:
    try:
      return next(self._iterator)
    except StopIteration:
      total = self._share.draws(len(self._order.stream))
      if self._drawn == total:
        return None
      # Silence here would be an epoch that is shorter than it looks.
      raise RuntimeError(f'the data ended after {self._drawn} of {total} '
                         f'records; a worker failed') from None

  def _count(self, record: str, reason: str) -> None:
    # What precedes the colon is the kind of fault; the rest may name a file.
    kind = reason.partition(':')[0].replace(' ', '_')
    self.counts[kind] += 1
    if record not in self._told:
      self._told.add(record)
      logging.warning('record %r cannot be used: %s', record, kind)

  def at(self, places: Sequence[int]) -> list[types.Example]:
    """The examples at places of the stream, read again in this process.

    Places are counted over all processes, as in `seen`; nothing moves.
    """
    draw = dataclasses.replace(self._draw(), share=workers.Share(1))
    return [draw(place) for place in places]

  def state(self) -> dict[str, Any]:
    """Where the iterator is, json-able; of one process.

    Raises:
      ValueError: records are not repeated; there is nothing to go on with.
    """
    if not self.settings.repeat:
      raise ValueError('a stream that ends has no state; start it again')
    return self._identity() | {'seen': self.seen,
                               'counts': dict(self.counts)}

  def restore(self, states: Sequence[dict[str, Any]]) -> None:
    """Goes on from the `state()` of all processes, of however many there were.

    Raises:
      ValueError: they are of other records, of another order, or of processes
        that were not at one place.
    """
    for key, own in self._identity().items():
      if states[0].get(key) != own:
        raise ValueError(f'the data state has {key} {states[0].get(key)!r}, '
                         f'this pipeline {own!r}; it cannot go on from there')
    places = {state['seen'] for state in states}
    if len(places) > 1:
      raise ValueError(f'the data states are at places {sorted(places)}; '
                       f'expected those of one step')
    self.close()
    self._begin(places.pop())
    self.counts = collections.Counter()
    if self.settings.process_index == 0:   # so that sums over processes hold
      for state in states:
        self.counts.update(state['counts'])

  def _identity(self) -> dict[str, Any]:
    s = self.settings
    return {'sources': mixture.identity(self._sources), 'seed': s.seed,
            'shuffle': s.shuffle, 'repeat': s.repeat}

  def close(self) -> None:
    """Ends the workers; the next batch starts them again where it was."""
    if self._iterator is not None:
      self._iterator.close()
    self._begin(self.seen)


def evaluation_batches(
    sources: Sequence[mixture.Source], encode: workers.Encode,
    settings: batching.Settings, bad: list[types.Example] | None = None,
    agree: batching.Agree | None = None
) -> Iterator[tuple[types.Batch, list[types.Example], int]]:
  """Every record once and in order, in batches of P.

  Args:
    sources: to evaluate on.
    encode: as for `Pipeline`.
    settings: `shuffle` and `repeat` are taken as False.
    bad: with on_bad 'skip', receives the examples that were left out.
    agree: see `bucket_for`.

  Yields:
    (batch, P examples, how many of them are real): what follows the real ones
    repeats one, to fill the batch. Each process yields the same number of
    batches, if need be with no real example.

  Raises:
    ValueError: as `Pipeline`.
  """
  settings = dataclasses.replace(settings, shuffle=False, repeat=False)
  pipeline = Pipeline(sources, encode, settings)
  total = sum(len(source.places()) for source in sources)
  filler = None
  try:
    for _ in range(-(-total // (settings.prompts * settings.process_count))):
      examples = list(_good(pipeline, bad))
      if examples:
        filler = examples[0]
      elif filler is None:
        filler = _filler(sources, encode, settings)
      full = examples + [filler] * (settings.prompts - len(examples))
      batch = batching.stack_smallest(full, settings, agree)
      yield batch, full, len(examples)
  finally:
    pipeline.close()


def _good(pipeline: Pipeline, bad) -> Iterator[types.Example]:
  """Up to P valid examples, until the records end."""
  count = 0
  while count < pipeline.settings.prompts:
    example = pipeline.draw()
    if example is None:
      return
    count += example.valid
    if example.valid:
      yield example
    elif bad is not None:
      bad.append(example)


def _filler(sources, encode, settings: batching.Settings) -> types.Example:
  """A usable example of any process's, for one that has none of its own."""
  whole = dataclasses.replace(settings, workers=0, process_index=0,
                              process_count=1)
  pipeline = Pipeline(sources, encode, whole)
  for example in iter(pipeline.draw, None):
    if example.valid:
      return example
  raise ValueError(f'no usable record; dropped: {dict(pipeline.counts)}')
