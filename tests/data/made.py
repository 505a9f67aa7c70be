"""Made-up records and an encode that reads no file, for tests of the stream."""

import numpy as np

from medrl import types
from medrl.data import batching

BUCKETS = ((8, 0), (12, 8), (20, 16))
BASE = batching.Settings(prompts=4, buckets=BUCKETS, pad_id=9, merge_units=4)


def records(count, kind='plain'):
  return [types.Record(id=f'r{i}', question=kind, answer='yes',
                       answer_type='yesno') for i in range(count)]


def encode(record, root):
  """r7 -> 7 % 5 + 3 tokens of 7 and, if odd, 4 or 8 patches of 3 values."""
  number = int(record.id[1:])
  if record.question == 'bad' and number % 3 == 0:
    raise FileNotFoundError(f'no file {number}.png')
  length = number % 5 + 3
  return example(record, length, 4 * (number % 3), number)


def example(record, length, patches, number, target=()):
  media = {}
  if patches:
    units = patches // 4
    slot = np.arange(1, 1 + units)
    slot[-1] = length  # a unit that only fills its window
    media['image'] = types.Patches(
        np.full((patches, 1, 3), number, np.uint8), np.ones((patches, 2), int),
        np.ones(patches, int), np.ones(patches, int), slot)
  return types.Example(record, np.full(length, number),
                       np.ones((length, 3), int), media, np.array(target, int))
