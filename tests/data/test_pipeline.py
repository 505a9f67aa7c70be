"""The pipeline with a made-up encode; see test_encode for the real one."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from medrl import types
from medrl.data import pipeline

BUCKETS = ((8, 0), (12, 8), (20, 16))
BASE = pipeline.Settings(prompts=4, buckets=BUCKETS, pad_id=9, merge_units=4)


def records(count, kind='plain'):
  return [types.Record(id=f'r{i}', question=kind, answer='yes',
                       answer_type='yesno') for i in range(count)]


def encode(record):
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
        np.full((patches, 3), number, np.uint8), np.ones((patches, 2), int),
        np.ones(patches, int), np.ones(patches, int), slot)
  return types.Example(record, np.full(length, number),
                       np.ones((length, 3), int), media, np.array(target, int))


def take(stream, count):
  return [next(stream) for _ in range(count)]


def ids(batches):
  return [[e.record.id for e in examples] for _, examples in batches]


def assert_same(a, b):
  assert ids(a) == ids(b)
  for (x, _), (y, _) in zip(a, b):
    assert x.media.keys() == y.media.keys()
    leaves = [*zip(x[:3], y[:3])] + [
        pair for name in x.media for pair in zip(x.media[name], y.media[name])]
    for left, right in leaves:
      np.testing.assert_array_equal(left, right, strict=True)


def test_stack_by_hand():
  record, = records(1)
  found = pipeline.stack([example(record, 3, 4, 5), example(record, 2, 0, 6)],
                         (4, 8), BASE)
  np.testing.assert_array_equal(found.ids, [[5, 5, 5, 9], [6, 6, 9, 9]])
  np.testing.assert_array_equal(found.mask, [[1, 1, 1, 0], [1, 1, 0, 0]])
  np.testing.assert_array_equal(found.positions[0, :, 2], [1, 1, 1, 0])
  image = found.media['image']
  np.testing.assert_array_equal(image.values[:, :, 1], [[5] * 4 + [0] * 4,
                                                        [0] * 8])
  np.testing.assert_array_equal(image.window, [[1] * 4 + [0] * 4, [0] * 8])
  np.testing.assert_array_equal(image.image, image.window)
  # The example's filler unit pointed to its own length, 3.
  np.testing.assert_array_equal(image.slot, [[4, 4], [4, 4]])
  assert image.values.dtype == np.uint8 and image.coords.shape == (2, 8, 2)
  assert {a.dtype for a in (found.ids, found.positions, *image[1:])} == {
      np.dtype('int32')}


@pytest.mark.parametrize('sizes, bucket', [
    ([(3, 0), (8, 0)], (8, 0)), ([(3, 0), (9, 0)], (12, 8)),
    ([(3, 4)], (12, 8)), ([(3, 12), (8, 0)], (20, 16))])
def test_smallest_bucket_that_fits(sizes, bucket):
  record, = records(1)
  found = [example(record, *size, 1) for size in sizes]
  settings = dataclasses.replace(BASE, patch_width=3)
  assert pipeline.bucket_for(found, settings) == bucket
  batch = pipeline.stack(found, bucket, settings)
  assert pipeline.bucket_of(batch) == bucket
  assert bool(batch.media) == bool(bucket[1])


def test_processes_agree_on_the_bucket():
  found = [example(records(1)[0], 3, 0, 1)]
  several = dataclasses.replace(BASE, process_count=2)
  assert pipeline.bucket_for(found, several) == BUCKETS[-1]
  with pytest.raises(ValueError, match='set patch_width'):
    pipeline.stack(found, BUCKETS[-1], several)


def test_stack_targets_by_hand():
  record, = records(1)
  tokens, mask = pipeline.stack_targets(
      [example(record, 3, 0, 1, (4, 5)), example(record, 3, 0, 1, (6,))], 3, 0)
  np.testing.assert_array_equal(tokens, [[4, 5, 0], [6, 0, 0]])
  np.testing.assert_array_equal(mask, [[1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize('workers', [0, 2])
def test_resume_is_exact(workers):
  settings = dataclasses.replace(BASE, workers=workers, on_bad='skip')
  source = records(11, 'bad')
  first = pipeline.Pipeline(source, encode, settings)
  take(first, 3)
  state = json.loads(json.dumps(first.state()))
  rest = take(first, 4)
  again = pipeline.Pipeline(source, encode, settings)
  again.restore(state)
  assert_same(take(again, 4), rest)
  assert again.state() == first.state()
  # Nor does it matter how many workers there are.
  other = pipeline.Pipeline(source, encode,
                            dataclasses.replace(settings, workers=0))
  other.restore(state)
  assert_same(take(other, 4), rest)
  first.close()
  again.close()


def test_restore_refuses_another_order():
  stream = pipeline.Pipeline(records(8), encode, BASE)
  for source, settings in [
      (records(9), BASE), (records(8), dataclasses.replace(BASE, seed=1))]:
    with pytest.raises(ValueError, match='cannot go on'):
      pipeline.Pipeline(source, encode, settings).restore(stream.state())


def test_epochs_are_whole_and_differ():
  found = ids(take(pipeline.Pipeline(records(8), encode, BASE), 6))
  epochs = [found[i] + found[i + 1] for i in (0, 2, 4)]
  assert all(len(set(epoch)) == 8 for epoch in epochs)
  assert epochs[0] != epochs[1] != epochs[2]


def test_processes_share_the_records():
  found = []
  for index in range(3):
    settings = dataclasses.replace(
        BASE, prompts=2, process_index=index, process_count=3, repeat=False,
        patch_width=3)
    found += sum(ids(pipeline.Pipeline(records(12), encode, settings)), [])
  assert sorted(found) == sorted(r.id for r in records(12))


def test_bad_records_are_dropped_and_counted():
  settings = dataclasses.replace(BASE, on_bad='skip', shuffle=False)
  stream = pipeline.Pipeline(records(12, 'bad'), encode, settings)
  assert sum(ids(take(stream, 2)), []) == [
      f'r{i}' for i in range(12) if i % 3]
  assert stream.counts == {'FileNotFoundError': 4}
  assert stream.seen == 12


def test_bad_record_raises_with_its_name():
  stream = pipeline.Pipeline(
      records(3, 'bad'), encode, dataclasses.replace(BASE, shuffle=False))
  with pytest.raises(ValueError, match="'r0' cannot be used: FileNotFoundError"
                                       ": no file 0.png"):
    next(stream)


def test_nothing_but_bad_records_ends():
  stream = pipeline.Pipeline(
      records(1, 'bad'), encode, dataclasses.replace(BASE, on_bad='skip'))
  with pytest.raises(ValueError, match='no file 0.png'):
    next(stream)


@pytest.mark.parametrize('length, patches, target, expected', [
    (21, 4, (1,), 'prompt too long: record .r0. needs 21 tokens and 4 patches, '
                  'the largest bucket has 20 and 16'),
    (5, 20, (1,), 'prompt too long: .* 20 patches'),
    (5, 4, (), 'no demonstration: record .r0.'),
    (5, 4, (1, 2, 3), 'demonstration too long: .* 3 tokens, .* room for 2')])
def test_nothing_is_cut(length, patches, target, expected):
  make = functools.partial(example, length=length, patches=patches, number=1,
                           target=target)
  stream = pipeline.Pipeline(records(3), make, dataclasses.replace(
      BASE, target_length=2, shuffle=False))
  with pytest.raises(ValueError, match=expected):
    next(stream)


@pytest.mark.parametrize('count', [1, 7, 8])
def test_evaluation_counts_every_record_once(count):
  found, bad = [], []
  for index in range(2):
    settings = dataclasses.replace(
        BASE, process_index=index, process_count=2, on_bad='skip',
        patch_width=3)
    if index >= count:
      continue
    batches = list(pipeline.evaluation_batches(
        records(count), encode, settings, bad))
    assert len(batches) == 1  # so that no process waits for another
    for batch, examples, real in batches:
      assert batch.ids.shape[0] == len(examples) == 4
      found += [e.record.id for e in examples[:real]]
  assert sorted(found) == [f'r{i}' for i in range(count)] and not bad


def test_evaluation_reports_bad_records():
  bad = []
  settings = dataclasses.replace(BASE, on_bad='skip', prompts=5)
  batches = list(pipeline.evaluation_batches(records(7, 'bad'), encode,
                                             settings, bad))
  assert [real for _, _, real in batches] == [4, 0]
  assert [e.record.id for e in bad] == ['r0', 'r3', 'r6']


@pytest.mark.parametrize('fields', [
    {'buckets': ()}, {'buckets': ((8, 8), (9, 4))}, {'buckets': ((8, 6),)},
    {'on_bad': 'ignore'}, {'process_index': 1}, {'prompts': 0}])
def test_bad_settings(fields):
  with pytest.raises(ValueError, match='expected'):
    dataclasses.replace(BASE, **fields)
