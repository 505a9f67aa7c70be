"""A global batch holds the same records however they are drawn.

Hashes of (place in the batch, record, what was skipped in its place, ids) over
1, 2 and 4 processes, workers, stops at every batch, and going on with another
number of processes; with a mixture, bad records and packing on.
"""

import dataclasses
import functools
import hashlib
import json

import numpy as np
import pytest

from medrl.data import mixture
from medrl.data import packing
from medrl.data import pipeline
from tests.data import made

PROMPTS = 8
SETTINGS = dataclasses.replace(made.BASE, prompts=PROMPTS, on_bad='skip',
                               target_length=4, patch_width=3, room=(40, 16))


def sources():
  plain = [dataclasses.replace(r, demonstration='x') for r in made.records(23)]
  bad = [dataclasses.replace(r, source='bad')
         for r in made.records(17, 'bad')]
  return [mixture.Source(plain, '/a', 2., 'plain'),
          mixture.Source(bad, '/b', 1., 'bad', tuple(range(0, 17, 2)))]


def encode(record, root):
  whole = made.encode(record, root)
  target = np.arange(1 + int(record.id[1:]) % 4)
  return dataclasses.replace(whole, target=target, prompt=root)


def open_streams(count, workers=0, **changed):
  out = []
  for index in range(count):
    settings = dataclasses.replace(
        SETTINGS, prompts=PROMPTS // count, process_index=index,
        process_count=count, workers=workers, **changed)
    collate = functools.partial(packing.pack, counts=(PROMPTS // count,),
                                settings=settings)
    out.append(pipeline.Pipeline(sources(), encode, settings, collate=collate))
  return out


def digest(streams):
  """Of the next global batch."""
  lines, learned = [], 0
  for stream in streams:
    packed, examples = next(stream)
    learned += int(packed.target.sum())
    lines += [[e.record.source, e.record.id, e.prompt, e.skipped,
               e.ids.tolist()] for e in examples]
  return hashlib.sha256(json.dumps([lines, learned]).encode()).hexdigest()


def hashes(streams, count):
  return [digest(streams) for _ in range(count)]


def close(streams):
  for stream in streams:
    stream.close()


@pytest.fixture(scope='module')
def reference():
  return hashes(open_streams(1), 12)


def test_batches_differ(reference):
  assert len(set(reference)) == 12


@pytest.mark.parametrize('count, workers', [(2, 0), (4, 0), (1, 2), (2, 1)])
def test_processes_and_workers_change_nothing(reference, count, workers):
  streams = open_streams(count, workers)
  few = 4 if workers else 12
  assert hashes(streams, few) == reference[:few]
  close(streams)


@pytest.mark.parametrize('before, after', [(1, 1), (1, 4), (4, 2), (2, 1)])
def test_stops_at_every_batch(reference, before, after):
  streams = open_streams(before)
  for number in range(11):
    assert digest(streams) == reference[number]
    states = json.loads(json.dumps([s.state() for s in streams]))
    again = open_streams(after)
    for stream in again:
      stream.restore(states)
    assert digest(again) == reference[number + 1]
    total = sum(sum(s.counts.values()) for s in streams)
    assert sum(sum(state['counts'].values()) for state in states) == total


def test_bad_records_elsewhere_move_nothing(reference):
  """Without the bad ones, every other place holds what it held."""
  stream, = open_streams(1)
  drawn = [e for _ in range(6) for e in next(stream)[1]]
  kept = [(e.record.source, e.record.id) for e in drawn]
  order = mixture.order(sources(), SETTINGS.seed, True, True)
  meant = [order.stream[i] for i in range(len(drawn))]
  bad = 0
  for (source, index), (name, found), example in zip(meant, kept, drawn):
    record = sources()[source].records[index]
    if example.skipped:
      bad += 1
      assert example.skipped[0][0] == record.id and name == record.source
    else:
      assert (record.source, record.id) == (name, found)
  assert bad > 2


def test_weights_are_kept():
  order = mixture.order(sources(), 0, True, True)
  shares = np.mean([order.stream[i][0] for i in range(900)])
  assert shares == pytest.approx(1 / 3, abs=.002)
  # The epoch of the second source is its even records.
  found = [order.stream[i][1] for i in range(27) if order.stream[i][0]]
  assert sorted(found) == list(range(0, 17, 2))


def test_a_state_of_another_mixture_is_refused():
  stream, = open_streams(1)
  state = stream.state()
  other = pipeline.Pipeline(sources()[:1], encode, SETTINGS)
  with pytest.raises(ValueError, match='sources.*cannot go on'):
    other.restore([state])
  with pytest.raises(ValueError, match='of one step'):
    stream.restore([state, {**state, 'seen': 8}])


@pytest.mark.parametrize('wrong, words', [
    ({'records': []}, "'x' has no record"), ({'weight': 0}, 'more than 0')])
def test_wrong_sources(wrong, words):
  with pytest.raises(ValueError, match=words):
    mixture.Source(**{'records': made.records(1), 'name': 'x', **wrong})
