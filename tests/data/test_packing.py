"""Packed rows by hand, and against each example alone."""

import dataclasses

import numpy as np
import pytest

from medrl import types
from medrl.data import batching
from medrl.data import packing
from tests.data import made

SETTINGS = dataclasses.replace(made.BASE, patch_width=3, room=(12, 16))


def example(number, length, patches, answer):
  found = made.example(made.records(1)[0], length, patches, number,
                       [100 + number] * answer)
  return dataclasses.replace(
      found, positions=np.arange(length)[:, None].repeat(3, 1) + number)


@pytest.mark.parametrize('sizes, room, rows', [
    ([(6, 0), (6, 0)], (12, 0), [[0, 1]]),
    # Decreasing, each where it leaves the least: 7+5, 6+4+2.
    ([(4, 0), (7, 0), (6, 0), (5, 0), (2, 0)], (12, 0), [[1, 3], [2, 0, 4]]),
    # Patches bind here, not tokens.
    ([(2, 12), (2, 8), (2, 4)], (12, 16), [[0, 2], [1]]),
    ([], (12, 0), [])])
def test_best_fit_by_hand(sizes, room, rows):
  assert packing.best_fit(sizes, room) == rows


def test_best_fit_never_exceeds_a_row_and_rarely_wastes_one():
  rng = np.random.default_rng(0)
  for _ in range(200):
    sizes = [(int(t), int(p)) for t, p in zip(
        rng.integers(1, 60, 40), 4 * rng.integers(0, 16, 40))]
    rows = packing.best_fit(sizes, (100, 64))
    assert sorted(sum(rows, [])) == list(range(40))
    for row in rows:
      assert sum(sizes[i][0] for i in row) <= 100
      assert sum(sizes[i][1] for i in row) <= 64
    floor = max(-(-sum(t for t, _ in sizes) // 100),
                -(-sum(p for _, p in sizes) // 64))
    assert len(rows) <= 1.7 * floor + 1


def test_best_fit_refuses_what_no_row_holds():
  with pytest.raises(ValueError, match='13 tokens .* row of 12'):
    packing.best_fit([(13, 0)], (12, 0))


def test_pack_by_hand():
  # The larger goes first: its 8 patches are half a row.
  found = packing.pack([example(2, 3, 4, 2), example(1, 4, 8, 1)], (2, 4),
                       SETTINGS)
  batch = found.prompt
  np.testing.assert_array_equal(batch.ids[0], [
      1, 1, 1, 1, 101, 2, 2, 2, 102, 102, 9, 9])
  np.testing.assert_array_equal(found.segments[0], [1] * 5 + [2] * 5 + [0] * 2)
  np.testing.assert_array_equal(np.flatnonzero(found.target[0]), [4, 8, 9])
  # What is written counts on from each prompt's own largest position.
  assert batch.positions[0, :, 0].tolist() == [
      1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 0, 0]
  image = batch.media['image']
  assert image.window[0].tolist() == [1] * 8 + [2] * 4 + [0] * 4
  assert image.image[0].tolist() == image.window[0].tolist()
  # Of `made`, the last unit only fills its window: it points behind the row.
  assert image.slot[0].tolist() == [1, 12, 12, 12]
  assert batch.ids.shape == (2, 12) and not batch.mask[1].any()
  assert not found.segments[1].any() and not found.target[1].any()


def test_the_least_declared_number_of_rows_is_taken():
  four = [example(i, 6, 0, 6) for i in range(4)]
  for count, rows in (1, 2), (2, 2), (3, 4), (4, 4):
    found = packing.pack(four[:count], (2, 4), SETTINGS)
    assert len(found.segments) == rows
  assert len(packing.pack(four[:1], (2, 4), SETTINGS,
                          lambda least: 1).segments) == 4


def test_a_record_that_no_row_holds_is_bad():
  settings = dataclasses.replace(SETTINGS, target_length=9)
  good = batching.check(example(1, 8, 4, 4), settings)
  assert good.valid
  bad = batching.check(example(1, 8, 4, 5), settings)
  assert not bad.valid and 'needs 13 tokens' in bad.reason
  assert isinstance(bad, types.Example)
