"""Scores against longhand numbers, intervals against the normal law."""

import math

import numpy as np
import pytest

from medrl import metrics
from medrl.evals import scores


def row(record, value, answer='yes', kind='yesno', **more):
  return {'record': str(record), 'task': '', 'answer_type': kind,
          'answer': answer, 'prediction': None if value is None else answer,
          'value': value, 'cluster': str(record), **more}


def coins(number, chance, seed):
  rng = np.random.default_rng(seed)
  return [row(i, int(x)) for i, x in enumerate(rng.random(number) < chance)]


def values(rows, **options):
  result = scores.summarise(rows, samples=20, **options)
  return {name: score['value'] for name, score in result.items()}


def test_by_hand():
  # yes: 3 of 4 right; no: 0 of 1; unparsed: one yes.
  rows = [row(0, 1), row(1, 1), row(2, 1), row(3, None), row(4, 0, 'no')]
  result = scores.summarise(rows, samples=20)
  assert {n: s['value'] for n, s in result.items()} == pytest.approx({
      'accuracy': 3 / 5, 'accuracy_parsed': 3 / 4,
      'balanced_accuracy': (3 / 4 + 0) / 2, 'parse_rate': 4 / 5})
  assert result['accuracy']['n'] == 5
  assert result['accuracy_parsed']['n'] == 4
  assert all(score['invalid'] == 1 for score in result.values())


def test_choice_classes_are_texts_and_not_letters():
  rows = [row(0, 1, 'A', 'choice', label='cyst'),
          row(1, 1, 'B', 'choice', label='cyst'),
          row(2, 0, 'A', 'choice', label='mass')]
  # By letter it would be (1/2 + 1) / 2.
  assert values(rows)['balanced_accuracy'] == pytest.approx((1 + 0) / 2)


def test_balanced_accuracy_needs_every_class():
  rows = [row(i, 1) for i in range(99)] + [row(99, 0, 'no')]
  result = values(rows)
  assert result['accuracy'] == pytest.approx(.99)
  assert result['balanced_accuracy'] == pytest.approx(.5)


def test_boxes_tasks_and_absent_scores():
  rows = [row(0, .5, [0, 0, 1, 1], 'box', task='find'),
          row(1, None, [[0, 0, 1, 1]], 'boxes', task='find'),
          row(2, 1, 3.5, 'float', task='measure')]
  assert values(rows) == pytest.approx({
      'mean_iou': .25, 'mean_iou/find': .25,
      'accuracy': 1, 'accuracy/measure': 1,
      'accuracy_parsed': 1, 'accuracy_parsed/measure': 1,
      'parse_rate': 2 / 3, 'parse_rate/find': .5, 'parse_rate/measure': 1})


def test_nothing_parsed():
  result = values([row(0, None), row(1, None)])
  assert result == {'accuracy': 0, 'balanced_accuracy': 0, 'parse_rate': 0}


def test_interval_is_near_the_normal_one():
  score = scores.summarise(coins(400, .7, 0), samples=2000)['accuracy']
  spread = 1.96 * math.sqrt(score['value'] * (1 - score['value']) / 400)
  assert score['low'] == pytest.approx(score['value'] - spread, abs=.006)
  assert score['high'] == pytest.approx(score['value'] + spread, abs=.006)


def test_clusters_widen_the_interval():
  """Ten copies of each answer are no more evidence than one."""
  single = coins(100, .6, 1)
  copies = [{**r, 'record': f'{r["record"]}-{i}'} for r in single
            for i in range(10)]
  apart = [{**r, 'cluster': r['record']} for r in copies]
  width = {}
  for name, rows in (('single', single), ('copies', copies), ('apart', apart)):
    score = scores.summarise(rows)['accuracy']
    width[name] = score['high'] - score['low']
  assert width['copies'] == pytest.approx(width['single'], abs=1e-9)
  assert width['apart'] == pytest.approx(width['single'] / 10**.5, rel=.15)


def test_order_and_other_rows_do_not_change_the_draws():
  rows = coins(50, .5, 2)
  first = scores.summarise(rows, samples=50)
  again = scores.summarise(
      rows[::-1] + [row('b', .3, [0, 0, 1, 1], 'box')], samples=50)
  assert again['accuracy'] == pytest.approx(first['accuracy'])
  other = scores.summarise(rows, samples=50, seed=1)
  assert other['accuracy'] != first['accuracy']


def test_one_cluster_says_nothing_of_the_spread():
  score = scores.summarise([row(0, 1)])['accuracy']
  assert (score['value'], score['low'], score['high']) == (1, 0, 1)


def test_difference_is_paired_and_narrower_than_unpaired():
  first = coins(300, .6, 3)
  second = [dict(r) for r in first]
  for r in second[:30]:
    r['value'] = 1 - r['value']
  gain = sum(r['value'] for r in first[:30]) * 2 - 30
  result = scores.difference(first, second[::-1], samples=500)
  assert result['value'] == pytest.approx(gain / 300)
  assert result['n'] == 300
  unpaired = math.hypot(*(
      s['high'] - s['low'] for s in (
          scores.summarise(rows, samples=500)['accuracy']
          for rows in (first, second))))
  assert result['high'] - result['low'] < .6 * unpaired
  # 30 differences of +-1 among 300: variance .1 - mean^2.
  spread = 1.96 * math.sqrt((.1 - result['value']**2) / 300)
  assert result['high'] - result['low'] == pytest.approx(2 * spread, rel=.15)


def test_each_answer_counts_in_one_score_of_a_difference():
  first = [row(0, 1), row(1, .5, [0, 0, 1, 1], 'box'),
           row(2, .25, ['a'], 'labels')]
  second = [{**r, 'value': 0} for r in first]
  for score, gain in (('accuracy', 1), ('mean_iou', .5),
                      ('mean_jaccard', .25)):
    found = scores.difference(first, second, score=score)
    assert (found['value'], found['n']) == (gain, 1)
  assert scores.summarise(first)['mean_jaccard']['value'] == .25
  assert scores.summarise(first)['accuracy']['n'] == 1


def test_score_names_are_defined():
  rows = [row(0, 1), row(1, .5, [0, 0, 1, 1], 'box'),
          row(2, .5, ['a'], 'labels')]
  metrics.check(f'eval/suite/{name}' for name in values(rows))


@pytest.mark.parametrize('rows, message', [
    ([], 'no rows'),
    ([row(0, 1, 'A', 'choice')], 'lacks label'),
    ([row(0, 2)], 'not in \\[0, 1\\]'),
])
def test_bad_rows_are_named(rows, message):
  with pytest.raises(ValueError, match=message):
    scores.summarise(rows)


@pytest.mark.parametrize('rows_a, rows_b, message', [
    ([], [], 'no rows'),
    ([row(0, 1)], [row(1, 1)], 'one run only'),
    ([row(0, 1), row(0, 1)], [row(0, 1)], 'twice in run a'),
])
def test_runs_that_cannot_be_compared(rows_a, rows_b, message):
  with pytest.raises(ValueError, match=message):
    scores.difference(rows_a, rows_b)
