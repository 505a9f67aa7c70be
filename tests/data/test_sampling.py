import collections

import numpy as np
import pytest

from medrl import types
from medrl.data import sampling


def record(name, label, **more):
  return types.Record(id=str(name), question='?', answer=label,
                      answer_type='text', **more)


def records(counts):
  """Shuffled records, `counts[label]` of each label."""
  names = [label for label, n in counts.items() for _ in range(n)]
  order = np.random.default_rng(0).permutation(len(names))
  return [record(i, names[i], meta={'site': i % 3}) for i in order]


def taken(found, indices):
  return [found[i].answer for i in indices]


COUNTS = {'a': 7, 'b': 30, 'c': 1, 'd': 12}


def test_balanced_has_every_label_equally_often_in_every_block():
  found = records(COUNTS)
  order = sampling.balanced(found, 'answer', seed=3)
  labels = taken(found, order)
  assert collections.Counter(labels) == dict.fromkeys('abcd', 30)
  for start in range(0, 120, 4):
    assert sorted(labels[start:start + 4]) == list('abcd')
  # Nor is the order within a block always the same.
  assert len({tuple(labels[s:s + 4]) for s in range(0, 120, 4)}) > 5


def test_no_record_comes_again_before_all_of_its_label_over_epochs():
  found = records(COUNTS)
  stream = np.concatenate([sampling.balanced(found, 'answer', 3, epoch)
                           for epoch in range(5)])
  for label, count in COUNTS.items():
    own = [i for i in stream if found[i].answer == label]
    for start in range(0, len(own) - count + 1, count):
      assert len(set(own[start:start + count])) == count
  assert sorted(stream[120:240]) != sorted(stream[:120])   # 'd': 30 of 12
  # Labels too take turns in another order.
  assert taken(found, stream[120:240]) != taken(found, stream[:120])


@pytest.mark.parametrize('make', [
    lambda found, **at: sampling.balanced(found, 'answer', **at),
    lambda found, **at: sampling.weighted(
        found, 'answer', {'a': 1, 'b': 2, 'c': 0, 'd': .5}, 41, **at)])
def test_an_order_depends_on_seed_and_epoch_alone(make):
  found = records(COUNTS)
  orders = [make(found, seed=s, epoch=e) for s in (0, 1) for e in (0, 1)]
  np.testing.assert_array_equal(orders[0], make(found, seed=0, epoch=0))
  assert len({tuple(order) for order in orders}) == 4


def test_every_order_is_as_likely():
  # 3 records of one label: 6 orders, 600 seeds; chi2 of 5 degrees < 20.5
  # with probability 0.999.
  found = records({'a': 3})
  seen = collections.Counter(tuple(sampling.balanced(found, 'answer', seed))
                             for seed in range(600))
  assert sum((n - 100) ** 2 / 100 for n in seen.values()) < 20.5
  assert len(seen) == 6


def test_weighted_shares_are_kept_and_spread():
  found = records(COUNTS)
  labels = taken(found, sampling.weighted(
      found, 'answer', {'a': 3, 'b': 1, 'c': 0, 'd': 1}, 1000, seed=0))
  assert collections.Counter(labels) == {'a': 600, 'b': 200, 'd': 200}
  for start in range(0, 1000, 100):   # a stretch misses or has 1 of each edge
    part = collections.Counter(labels[start:start + 100])
    assert abs(part['a'] - 60) <= 2 and abs(part['b'] - 20) <= 2


@pytest.mark.parametrize('size, expected', [
    (0, {}), (50, COUNTS),
    # Shares 3.5, 15, 0.5, 6 and 1.4, 6, 0.2, 2.4 leave one each, which goes to
    # the smaller of two equal remainders.
    (25, {'a': 3, 'b': 15, 'c': 1, 'd': 6}), (10, {'a': 2, 'b': 6, 'd': 2})])
def test_stratified_keeps_shares_by_largest_remainder(size, expected):
  found = records(COUNTS)
  chosen = sampling.stratified(found, 'answer', size, seed=1)
  assert sorted(set(chosen)) == list(chosen) and len(chosen) == size
  assert collections.Counter(taken(found, chosen)) == expected


def test_stratified_takes_other_records_by_another_seed():
  found = records({'a': 50, 'b': 50})
  picks = [set(sampling.stratified(found, 'answer', 20, s)) for s in range(40)]
  assert len(set.union(*picks)) == 100
  smaller = set(sampling.stratified(found, 'answer', 10, 0))
  assert smaller < picks[0]   # where no share is rounded


def test_labels():
  choice = types.Record('c', '?', 'B', 'choice', options={'A': 'no', 'B': 'ye'})
  several = types.Record('s', '?', ('B', 'A'), 'choices', task='t',
                         options={'A': 'x', 'B': 'y'}, meta={'grade': 2})
  assert sampling.labels([choice, several], 'answer') == [
      '"ye"', '["x", "y"]']
  assert sampling.labels([choice, several], 'task') == ['""', '"t"']
  assert sampling.labels([several], 'meta.grade') == ['2']
  assert sampling.labels([several], lambda r: len(r.options)) == ['2']
  hidden = types.Record('h', '?', None, 'choice', options={'A': 'x'})
  for key in 'answer', 'meta.grade':
    with pytest.raises(ValueError, match="1 of 2 records have no .*'h'"):
      sampling.labels([several, hidden], key)


@pytest.mark.parametrize('call, match', [
    (lambda r: sampling.balanced(r, 'anwser', 0), "key 'anwser'; expected one"),
    (lambda r: sampling.stratified(r, 'task', 9, 0), 'subset of 9 of 2'),
    (lambda r: sampling.weighted(r, 'answer', {'a': 1}, 5, 0), '1 of 2 labels'),
    (lambda r: sampling.weighted(r, 'answer', {'a': 1, 'b': 1, 'c': 1}, 5, 0),
     'c.* occur in no record'),
    (lambda r: sampling.weighted(r, 'answer', {'a': 0, 'b': 0}, 5, 0),
     'not all')])
def test_errors(call, match):
  with pytest.raises(ValueError, match=match):
    call(records({'a': 1, 'b': 1}))


def test_no_patient_is_named_in_an_error():
  found = [record(i, 'x', subject=f'JANE{i}') for i in range(2)]
  with pytest.raises(ValueError) as error:
    sampling.weighted(found, 'subject', {'JANE0': 1}, 5, 0)
  assert 'JANE' not in str(error.value)


def test_no_records():
  assert sampling.balanced([], 'task', 0).tolist() == []
  assert sampling.stratified([], 'task', 0, 0).tolist() == []
