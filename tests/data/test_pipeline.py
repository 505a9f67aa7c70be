"""The pipeline with a made-up encode; see test_encode for the real one."""

import dataclasses
import json

import numpy as np
import pytest

from medrl.data import mixture
from medrl.data import pipeline
from tests.data import made

BASE = made.BASE
encode, example, records = made.encode, made.example, made.records


def pipe(found, encode, settings, **more):
  return pipeline.Pipeline([mixture.Source(found)], encode, settings, **more)


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


@pytest.mark.parametrize('workers', [0, 2])
def test_resume_is_exact(workers):
  settings = dataclasses.replace(BASE, workers=workers, on_bad='skip')
  source = records(11, 'bad')
  first = pipe(source, encode, settings)
  take(first, 3)
  state = json.loads(json.dumps(first.state()))
  rest = take(first, 4)
  again = pipe(source, encode, settings)
  again.restore([state])
  assert_same(take(again, 4), rest)
  assert again.state() == first.state()
  # Nor does it matter how many workers there are.
  other = pipe(source, encode,
                            dataclasses.replace(settings, workers=0))
  other.restore([state])
  assert_same(take(other, 4), rest)
  first.close()
  again.close()


def test_restore_refuses_another_order():
  stream = pipe(records(8), encode, BASE)
  for source, settings in [
      (records(9), BASE), (records(8), dataclasses.replace(BASE, seed=1))]:
    with pytest.raises(ValueError, match='cannot go on'):
      pipe(source, encode, settings).restore([stream.state()])


def test_epochs_are_whole_and_differ():
  found = ids(take(pipe(records(8), encode, BASE), 6))
  epochs = [found[i] + found[i + 1] for i in (0, 2, 4)]
  assert all(len(set(epoch)) == 8 for epoch in epochs)
  assert epochs[0] != epochs[1] != epochs[2]


def test_bad_records_are_replaced_and_counted(caplog):
  settings = dataclasses.replace(BASE, on_bad='skip', shuffle=False)
  stream = pipe(records(12, 'bad'), encode, settings)
  found = sum(ids(take(stream, 3)), [])
  # In the place of each bad one another stands, and no other moves.
  assert [name for i, name in enumerate(found) if i % 3] == [
      f'r{i}' for i in range(12) if i % 3]
  assert all(int(name[1:]) % 3 for name in found)
  assert stream.counts['FileNotFoundError'] >= 4 and stream.seen == 12
  # By id and kind; the file may be named after a patient.
  assert "'r3' cannot be used: FileNotFoundError" in caplog.text
  assert 'png' not in caplog.text


def test_bad_record_raises_with_its_name():
  stream = pipe(records(3, 'bad'), encode, dataclasses.replace(BASE, shuffle=False))
  with pytest.raises(ValueError, match="'r0' cannot be used: FileNotFoundError"
                                       ": no file 0.png"):
    next(stream)


def test_nothing_but_bad_records_ends():
  stream = pipe(records(1, 'bad'), encode, dataclasses.replace(BASE, on_bad='skip'))
  with pytest.raises(ValueError, match='no file 0.png'):
    next(stream)


@pytest.mark.parametrize('length, patches, target, expected', [
    (21, 4, (1,), 'prompt too long: record .r0. needs 21 tokens and 4 patches, '
                  'the largest bucket has 20 and 16'),
    (5, 20, (1,), 'prompt too long: .* 20 patches'),
    (5, 4, (), 'no demonstration: record .r0.'),
    (5, 4, (1, 2, 3), 'demonstration too long: .* 3 tokens, .* room for 2')])
def test_nothing_is_cut(length, patches, target, expected):
  def make(record, root):
    return example(record, length, patches, 1, target)
  stream = pipe(records(3), make, dataclasses.replace(
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
    batches = list(pipeline.evaluation_batches(
        [mixture.Source(records(count))], encode, settings, bad))
    assert len(batches) == 1  # so that no process waits for another
    for batch, examples, real in batches:
      assert batch.ids.shape[0] == len(examples) == 4
      found += [e.record.id for e in examples[:real]]
  assert sorted(found) == [f'r{i}' for i in range(count)] and not bad


def test_evaluation_reports_bad_records():
  bad = []
  settings = dataclasses.replace(BASE, on_bad='skip', prompts=5)
  batches = list(pipeline.evaluation_batches(
      [mixture.Source(records(7, 'bad'))], encode, settings, bad))
  assert [real for _, _, real in batches] == [4, 0]
  assert [e.record.id for e in bad] == ['r0', 'r3', 'r6']


@pytest.mark.parametrize('fields', [
    {'buckets': ()}, {'buckets': ((8, 8), (9, 4))}, {'buckets': ((8, 6),)},
    {'on_bad': 'ignore'}, {'process_index': 1}, {'prompts': 0}])
def test_bad_settings(fields):
  with pytest.raises(ValueError, match='expected'):
    dataclasses.replace(BASE, **fields)
