"""Stacking by hand, and which bucket is taken."""

import dataclasses

import numpy as np
import pytest

from medrl.data import batching
from tests.data import made

BUCKETS = made.BUCKETS
BASE = made.BASE
example, records = made.example, made.records


def test_stack_by_hand():
  record, = records(1)
  found = batching.stack([example(record, 3, 4, 5), example(record, 2, 0, 6)],
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
  assert batching.bucket_for(found, settings) == bucket
  batch = batching.stack(found, bucket, settings)
  assert batching.bucket_of(batch) == bucket
  assert bool(batch.media) == bool(bucket[1])


def test_processes_agree_on_the_bucket():
  found = [example(records(1)[0], 3, 0, 1)]
  several = dataclasses.replace(BASE, process_count=2, patch_width=3)
  assert batching.bucket_for(found, several) == BUCKETS[-1]
  assert batching.bucket_for(found, several, lambda i: max(i, 1)) == BUCKETS[1]
  several = dataclasses.replace(several, patch_width=0)
  with pytest.raises(ValueError, match='set patch_width'):
    batching.stack(found, BUCKETS[-1], several)


def test_stack_targets_by_hand():
  record, = records(1)
  tokens, mask = batching.stack_targets(
      [example(record, 3, 0, 1, (4, 5)), example(record, 3, 0, 1, (6,))], 3, 0)
  np.testing.assert_array_equal(tokens, [[4, 5, 0], [6, 0, 0]])
  np.testing.assert_array_equal(mask, [[1, 1, 0], [1, 0, 0]])
