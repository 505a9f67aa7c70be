"""Records to batches: an iterator that can stop, say where it is, and go on.

Grain orders the records and runs `encode` in worker processes (`workers`);
batching, and dropping what cannot be encoded, happens here, after its iterator,
since a transform that raises or filters inside a worker ends the stream without
an error. It reads no file itself and starts no jax backend.
"""

import collections
from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

import numpy as np

from medrl import types
from medrl.data import workers

Bucket = tuple[int, int]
_STREAM = 'image'   # what a batch without any image calls its empty patches


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a pipeline does.

  prompts: P, prompts a batch of this process.
  buckets: declared shapes (S prompt tokens, N patches), growing in both; N is
    0 for prompts without media. The smallest that holds a batch is taken; over
    several processes always the last, since all must run one program.
  pad_id: id that fills prompts and targets up.
  merge_units: patches that make one soft token, `merge**2`.
  seed, shuffle, repeat: order; every epoch has its own.
  workers: processes that encode; 0 encodes in this one.
  on_bad: 'error' raises on a record that cannot be used; 'skip' counts it.
  process_index, process_count: this process has every `count`-th record.
  target_length: T of demonstrations, stop id included; 0 for none. A record
    without one or with a longer one is bad.
  patch_width: values a patch, needed where a bucket with N > 0 may be filled
    with prompts none of which has an image.
  """
  prompts: int
  buckets: tuple[Bucket, ...]
  pad_id: int
  merge_units: int
  seed: int = 0
  shuffle: bool = True
  repeat: bool = True
  workers: int = 0
  on_bad: str = 'error'
  process_index: int = 0
  process_count: int = 1
  target_length: int = 0
  patch_width: int = 0

  def __post_init__(self):
    pairs = list(zip(self.buckets, self.buckets[1:]))
    if not self.buckets or any(
        b == a or b[0] < a[0] or b[1] < a[1] for a, b in pairs):
      raise ValueError(f'buckets {self.buckets}; expected one or more (prompt '
                       f'tokens, patches), each larger than the one before')
    if any(n % self.merge_units for _, n in self.buckets):
      raise ValueError(f'buckets {self.buckets}; expected patches in multiples '
                       f'of {self.merge_units}, a soft token')
    if self.on_bad not in ('error', 'skip'):
      raise ValueError(f"on_bad {self.on_bad!r}; expected 'error' or 'skip'")
    if self.prompts < 1 or not 0 <= self.process_index < self.process_count:
      raise ValueError(
          f'prompts {self.prompts}, process {self.process_index} of '
          f'{self.process_count}; expected at least 1 prompt and '
          f'0 <= index < count')


def need(example: types.Example) -> Bucket:
  """The (prompt tokens, patches) that a bucket must hold for the example."""
  patches = (len(stream.values) for stream in example.media.values())
  return len(example.ids), max(patches, default=0)


def bucket_for(examples: Sequence[types.Example],
               settings: Settings) -> Bucket:
  """The smallest declared bucket that holds all examples."""
  if settings.process_count > 1:
    return settings.buckets[-1]
  length, patches = (max(n) for n in zip(*map(need, examples)))
  return next(b for b in settings.buckets
              if b[0] >= length and b[1] >= patches)


def bucket_of(batch: types.Batch) -> Bucket:
  """The (S, N) of a batch."""
  patches = (stream.values.shape[1] for stream in batch.media.values())
  return batch.ids.shape[1], max(patches, default=0)


def stack(examples: Sequence[types.Example], bucket: Bucket,
          settings: Settings) -> types.Batch:
  """Pads examples at the right to a bucket (S, N), and stacks them.

  Returns:
    A Batch of NumPy arrays. Patches are padded with zeros and slots with S;
    `media` is empty where N is 0, and never where it is not, so that a bucket
    has one tree structure.
  """
  length, patches = bucket
  sizes = [len(e.ids) for e in examples]
  media = {}
  if patches:
    names = sorted({name for e in examples for name in e.media}) or [_STREAM]
    media = {name: _stack_stream(examples, name, bucket, settings)
             for name in names}
  return types.Batch(
      ids=np.stack([_pad(e.ids, length, settings.pad_id, np.int32)
                    for e in examples]),
      positions=np.stack([_pad(e.positions, length, 0, np.int32)
                          for e in examples]),
      mask=np.arange(length) < np.array(sizes)[:, None], media=media)


def _stack_stream(examples, name, bucket, settings) -> types.Patches:
  length, n = bucket
  widths = {e.media[name].values.shape[1] for e in examples if name in e.media}
  width = max(widths, default=settings.patch_width)
  if not width:
    raise ValueError(
        f'no prompt of this batch has an image and its bucket {bucket} has '
        f'patches; set patch_width, or declare a bucket ({length}, 0)')
  units = n // settings.merge_units
  none = types.Patches(np.zeros((0, width), np.uint8),
                       np.zeros((0, 2), np.int32), np.zeros(0, np.int32),
                       np.zeros(0, np.int32), np.zeros(0, np.int32))
  rows = []
  for e in examples:
    p = e.media.get(name, none)
    # A unit that only fills its window points behind the prompt, which is
    # another place once the prompt is padded.
    slot = np.where(p.slot >= len(e.ids), length, p.slot)
    rows.append(types.Patches(
        _pad(p.values, n, 0, np.uint8), _pad(p.coords, n, 0, np.int32),
        _pad(p.window, n, 0, np.int32), _pad(p.image, n, 0, np.int32),
        _pad(slot, units, length, np.int32)))
  return types.Patches(*map(np.stack, zip(*rows)))


def _pad(array, length: int, value, dtype) -> np.ndarray:
  array = np.asarray(array)
  out = np.full((length, *array.shape[1:]), value, dtype)
  out[:len(array)] = array
  return out


def stack_targets(examples: Sequence[types.Example], length: int,
                  pad_id: int) -> tuple[np.ndarray, np.ndarray]:
  """Demonstrations as (tokens int32 [P, T], mask bool [P, T])."""
  sizes = np.array([len(e.target) for e in examples])
  return (np.stack([_pad(e.target, length, pad_id, np.int32)
                    for e in examples]),
          np.arange(length) < sizes[:, None])


class Pipeline:
  """Iterator of (Batch, its Examples) with a json-able state.

  Where it is, is one number, so a state goes on with any number of workers:
  `seen`, the records drawn since the run began, bad ones included. `counts` has
  the bad ones by reason.
  """

  def __init__(self, records: Sequence[types.Record], encode: workers.Encode,
               settings: Settings):
    """Raises ValueError where this process has no record."""
    if len(records) <= settings.process_index:
      raise ValueError(f'{len(records)} records; process '
                       f'{settings.process_index} of {settings.process_count} '
                       f'has none')
    self.settings = settings
    self.counts = collections.Counter()
    self.seen = 0
    self._records = records
    self._source = workers.examples(
        records, encode, shuffle_seed=settings.seed if settings.shuffle else -1,
        repeat=settings.repeat,
        part=slice(settings.process_index, None, settings.process_count))
    self._iterator = None

  def __iter__(self):
    return self

  def __next__(self) -> tuple[types.Batch, list[types.Example]]:
    """The next batch; where records are not repeated, only full ones.

    Raises:
      ValueError: a bad record, with on_bad 'error'; or an epoch of them.
    """
    examples = [self._next_good() for _ in range(self.settings.prompts)]
    bucket = bucket_for(examples, self.settings)
    return stack(examples, bucket, self.settings), examples

  def _next_good(self) -> types.Example:
    # Were every record bad, skipping them would never end.
    for _ in range(len(self._records) + 1):
      example = self.draw()
      if example.valid:
        return example
    raise ValueError(f'a whole epoch without a usable record; dropped so far: '
                     f'{dict(self.counts)}, the last for {example.reason}')

  def draw(self) -> types.Example:
    """The next record's example, which is counted where it is not valid."""
    if self._iterator is None:
      self._iterator = iter(workers.read(
          self._source[self.seen:], self.settings.workers,
          self.settings.prompts))
      # The first draw starts the workers.
      with workers.sheltered(self.settings.workers):
        example = self._draw_any()
    else:
      example = self._draw_any()
    example = check(example, self.settings)
    self.seen += 1
    if not example.valid:
      if self.settings.on_bad == 'error':
        raise ValueError(
            f'record {example.record.id!r} cannot be used: {example.reason} '
            f"(on_bad 'skip' drops and counts such records)")
      # What precedes the colon is the kind of fault; the rest names a record.
      self.counts[example.reason.partition(':')[0].replace(' ', '_')] += 1
    return example

  def _draw_any(self) -> types.Example:
    try:
      return next(self._iterator)
    except StopIteration:
      if self.seen == len(self._source):
        raise
      # Silence here would be an epoch that is shorter than it looks.
      raise RuntimeError(
          f'the data ended after {self.seen} of {len(self._source)} records; '
          f'a worker failed') from None

  def state(self) -> dict[str, Any]:
    """Where the iterator is, json-able."""
    return self._identity() | {'seen': self.seen,
                               'counts': dict(self.counts)}

  def restore(self, state: dict[str, Any]) -> None:
    """Goes on from a `state()`.

    Raises:
      ValueError: it is the state of other records or of another order.
    """
    for key, own in self._identity().items():
      if state[key] != own:
        raise ValueError(f'the data state has {key} {state[key]!r}, this '
                         f'pipeline {own!r}; it cannot go on from there')
    self.close()
    self.seen = state['seen']
    self.counts = collections.Counter(state['counts'])

  def _identity(self) -> dict[str, Any]:
    s = self.settings
    return {'records': len(self._records), 'seed': s.seed,
            'shuffle': s.shuffle, 'repeat': s.repeat,
            'process_index': s.process_index,
            'process_count': s.process_count}

  def close(self) -> None:
    """Ends the workers; the next batch starts them again."""
    if self._iterator is not None:
      self._iterator.close()
    self._iterator = None


def evaluation_batches(
    records: Sequence[types.Record], encode: workers.Encode,
    settings: Settings, bad: list[types.Example] | None = None
) -> Iterator[tuple[types.Batch, list[types.Example], int]]:
  """Every record once and in order, in batches of P.

  Args:
    records: to evaluate on.
    encode: as for `Pipeline`.
    settings: `shuffle` and `repeat` are taken as False.
    bad: with on_bad 'skip', receives the examples that were left out.

  Yields:
    (batch, P examples, how many of them are real): what follows the real ones
    repeats one of them, to fill the batch. Each process yields the same number
    of batches, if need be with no real example.

  Raises:
    ValueError: as `Pipeline`.
  """
  settings = dataclasses.replace(settings, shuffle=False, repeat=False)
  pipeline = Pipeline(records, encode, settings)
  most = -(-len(records) // settings.process_count)
  filler = None
  try:
    for _ in range(-(-most // settings.prompts)):
      examples = list(_good(pipeline, bad))
      if not examples and filler is None:
        raise ValueError(f'no usable record; dropped: {dict(pipeline.counts)}')
      filler = examples[0] if examples else filler
      full = examples + [filler] * (settings.prompts - len(examples))
      yield (stack(full, bucket_for(full, settings), settings), full,
             len(examples))
  finally:
    pipeline.close()


def _good(pipeline: Pipeline, bad) -> Iterator[types.Example]:
  """Up to P valid examples, until the records end."""
  count = 0
  while count < pipeline.settings.prompts:
    try:
      example = pipeline.draw()
    except StopIteration:
      return
    count += example.valid
    if example.valid:
      yield example
    elif bad is not None:
      bad.append(example)


def check(example: types.Example, settings: Settings) -> types.Example:
  """The example, made invalid if no bucket holds it; nothing is ever cut."""
  if not example.valid:
    return example
  size, largest = need(example), settings.buckets[-1]
  reason = ''
  if size[0] > largest[0] or size[1] > largest[1]:
    reason = (f'prompt too long: record {example.record.id!r} needs {size[0]} '
              f'tokens and {size[1]} patches, the largest bucket has '
              f'{largest[0]} and {largest[1]}')
  elif settings.target_length:
    count = 0 if example.target is None else len(example.target)
    if not count:
      reason = f'no demonstration: record {example.record.id!r}'
    elif count > settings.target_length:
      reason = (f'demonstration too long: record {example.record.id!r} needs '
                f'{count} tokens, there is room for {settings.target_length}')
  if reason:
    return dataclasses.replace(example, valid=False, reason=reason)
  return example
