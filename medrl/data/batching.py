"""Examples to batches of declared shapes: what fits, padding, stacking.

Nothing is ever cut to fit. It draws no record; `pipeline` does.
"""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np

from medrl import types

Bucket = tuple[int, int]
# Number of a shape on this process -> the largest over all processes.
Agree = Callable[[int], int]
_STREAM = 'image'   # what a batch without any image calls its empty patches


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a pipeline does.

  prompts: P, prompts a batch of this process.
  buckets: declared shapes (S prompt tokens, N patches), growing in both; N is
    0 for prompts without media. The smallest that holds a batch is taken.
  pad_id: id that fills prompts and targets up.
  merge_units: patches that make one soft token, `merge**2`.
  seed, shuffle, repeat: order; every epoch has its own.
  workers: processes that encode; 0 encodes in this one.
  on_bad: 'error' raises on a record that cannot be used; 'skip' counts it, and
    another of its data set stands in for it where records are repeated.
  process_index, process_count: which rows of a batch this process has.
  target_length: T of demonstrations, stop id included; 0 for none. A record
    without one or with a longer one is bad.
  patch_width: values a patch, needed where a bucket with N > 0 may be filled
    with prompts none of which has an image.
  frames: of a patch, `Layout.temporal`.
  room: (tokens, patches) of a row that examples are packed into, prompt and
    demonstration together; (0, 0) where they are not packed (`packing`).
  budget, most: field of a record's meta that bounds its completions, in tokens,
    '' for none; and the bound of all, which records without it have.
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
  frames: int = 1
  room: Bucket = (0, 0)
  budget: str = ''
  most: int = 0

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


def bucket_for(examples: Sequence[types.Example], settings: Settings,
               agree: Agree | None = None) -> Bucket:
  """The smallest declared bucket that holds all examples.

  Args:
    examples: of this process.
    settings: of the pipeline.
    agree: over several processes, which must run one program; without it these
      take the last bucket.
  """
  if settings.process_count > 1 and agree is None:
    return settings.buckets[-1]
  length, patches = (max(n) for n in zip(*map(need, examples)))
  least = next(i for i, b in enumerate(settings.buckets)
               if b[0] >= length and b[1] >= patches)
  return settings.buckets[agree(least) if agree else least]


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
      ids=_rows([e.ids for e in examples], length, settings.pad_id),
      positions=_rows([e.positions for e in examples], length),
      mask=np.arange(length) < np.array(sizes)[:, None], media=media,
      budget=_budgets(examples, settings) if settings.budget else None)


def _budgets(examples, settings: Settings) -> np.ndarray:
  """int32 [P], tokens that the completions of each may have."""
  out = []
  for example in examples:
    given = settings.most
    if example.record is not None:
      given = example.record.meta.get(settings.budget, given)
    if type(given) is not int or given < 1:
      raise ValueError(
          f'record {example.record.id!r} has meta[{settings.budget!r}] = '
          f'{given!r}, its budget (rollout.budget); expected a whole number of '
          f'tokens of at least 1')
    out.append(min(given, settings.most))
  return np.array(out, np.int32)


def _stack_stream(examples, name, bucket, settings) -> types.Patches:
  length, n = bucket
  widths = {e.media[name].values.shape[2] for e in examples if name in e.media}
  width = max(widths, default=settings.patch_width // settings.frames)
  if not width:
    raise ValueError(
        f'no prompt of this batch has an image and its bucket {bucket} has '
        f'patches; set patch_width, or declare a bucket ({length}, 0)')
  none = types.Patches(np.zeros((0, 1, width), np.uint8),
                       np.zeros((0, 2), np.int32), np.zeros(0, np.int32),
                       np.zeros(0, np.int32), np.zeros(0, np.int32))
  parts = [e.media.get(name, none) for e in examples]
  # A unit that only fills its window points behind the prompt, which is another
  # place once the prompt is padded.
  slots = [np.where(p.slot >= len(e.ids), length, p.slot)
           for p, e in zip(parts, examples)]
  values = np.empty((len(parts), n, settings.frames, width), np.uint8)
  for row, p in zip(values, parts):
    row[:len(p.values)] = p.values   # a still's frame fills all of them
    row[len(p.values):] = 0
  return types.Patches(
      values.reshape(len(parts), n, -1),
      _rows([p.coords for p in parts], n), _rows([p.window for p in parts], n),
      _rows([p.image for p in parts], n),
      _rows(slots, n // settings.merge_units, length))


def _rows(arrays, length: int, value: int = 0) -> np.ndarray:
  """Arrays [n, ...] as int32, padded behind to `length` and stacked."""
  arrays = [np.asarray(array) for array in arrays]
  shape = (len(arrays), length, *arrays[0].shape[1:])
  out = np.empty(shape, np.int32)
  for row, array in zip(out, arrays):
    row[:len(array)] = array
    row[len(array):] = value
  return out


def stack_targets(examples: Sequence[types.Example], length: int,
                  pad_id: int) -> tuple[np.ndarray, np.ndarray]:
  """Demonstrations as (tokens int32 [P, T], mask bool [P, T])."""
  sizes = np.array([len(e.target) for e in examples])
  return (_rows([e.target for e in examples], length, pad_id),
          np.arange(length) < sizes[:, None])


def stack_smallest(examples: Sequence[types.Example], settings: Settings,
                   agree: Agree | None = None) -> types.Batch:
  """`stack` to the bucket of `bucket_for`."""
  return stack(examples, bucket_for(examples, settings, agree), settings)


def check(example: types.Example, settings: Settings) -> types.Example:
  """The example, made invalid if no bucket or no row holds it; nothing is ever
  cut."""
  if not example.valid:
    return example
  reason = _target_fault(example, settings) if settings.target_length else ''
  (tokens, patches), largest = need(example), settings.buckets[-1]
  if settings.room[0] and not reason:
    tokens, largest = tokens + len(example.target), settings.room
  if tokens > largest[0] or patches > largest[1]:
    reason = (f'prompt too long: record {example.record.id!r} needs {tokens} '
              f'tokens and {patches} patches, the largest bucket has '
              f'{largest[0]} and {largest[1]}')
  if reason:
    return dataclasses.replace(example, valid=False, reason=reason)
  return example


def _target_fault(example: types.Example, settings: Settings) -> str:
  count = 0 if example.target is None else len(example.target)
  if not count:
    return f'no demonstration: record {example.record.id!r}'
  if count > settings.target_length:
    return (f'demonstration too long: record {example.record.id!r} needs '
            f'{count} tokens, there is room for {settings.target_length}')
  return ''
