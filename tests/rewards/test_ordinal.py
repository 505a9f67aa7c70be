"""Grades by distance, against kappa's definition and by hand."""

import numpy as np
import pytest

from medrl import types
from medrl.rewards import ordinal

GRADES = {'A': 'none', 'B': 'mild', 'C': 'moderate', 'D': 'severe',
          'E': 'critical'}


@pytest.mark.parametrize('value, target, exact, distance, quadratic', [
    ('A', 'A', 1, 1, 1), ('A', 'B', 0, .75, 15 / 16),
    ('B', 'A', 0, .75, 15 / 16),
    ('A', 'C', 0, .5, .75), ('A', 'E', 0, 0, 0), ('D', 'B', 0, .5, .75)])
def test_agreement(value, target, exact, distance, quadratic):
  for metric, expected in zip(ordinal.METRICS, (exact, distance, quadratic)):
    assert ordinal.agreement(value, target, list(GRADES), metric) == expected


def test_chance_corrected_it_is_the_quadratic_weighted_kappa():
  rng = np.random.default_rng(0)
  first, second = rng.integers(0, 5, (2, 300))
  second = np.where(rng.random(300) < .5, first, second)
  keys = list(GRADES)
  table = np.array(
      [[ordinal.agreement(a, b, keys) for b in keys] for a in keys])
  joint = np.zeros((5, 5))
  np.add.at(joint, (first, second), 1 / 300)
  apart = np.outer(joint.sum(1), joint.sum(0))
  # Cohen 1968 by disagreement, with the squared distance as its weight.
  weight = (np.arange(5)[:, None] - np.arange(5)) ** 2
  kappa = 1 - (weight * joint).sum() / (weight * apart).sum()
  seen, chance = (table * joint).sum(), (table * apart).sum()
  assert (seen - chance) / (1 - chance) == pytest.approx(kappa)


def test_one_grade_and_wrong_calls():
  assert ordinal.agreement('A', 'A', ['A']) == 1.0
  with pytest.raises(ValueError, match="grade 'F'"):
    ordinal.agreement('F', 'A', list(GRADES))
  with pytest.raises(ValueError, match="metric 'kappa'"):
    ordinal.agreement('A', 'A', list(GRADES), 'kappa')


@pytest.mark.parametrize('content, metric, expected, why', [
    ('C', 'quadratic', 1.0, 'the key'),
    ('moderate', 'quadratic', 1.0, 'its text'),
    ('D. severe', 'quadratic', 15 / 16, 'one off'),
    ('A', 'distance', .5, 'two off'), ('B', 'exact', 0.0, 'one off'),
    ('mild or moderate', 'quadratic', None, 'two grades'),
    ('F', 'quadratic', None, 'no grade'), ('', 'quadratic', None, 'nothing'),
    ('3', 'quadratic', None, 'a place in the order is no key'),
])
def test_score(content, metric, expected, why):
  record = types.Record(id='r', question='', answer='C', answer_type='ordinal',
                        options=GRADES)
  out = ordinal.score(
      record, [types.Completion(f'C<answer>{content}</answer>')], {},
      metric=metric)
  assert out.total == (expected or 0.0,), why
  assert out.parsed == (expected is not None,), why


def test_the_middle_grade_is_worth_what_the_docstring_says():
  for gold in GRADES:
    assert ordinal.agreement('C', gold, list(GRADES)) >= .75
    assert ordinal.agreement('C', gold, list(GRADES), 'distance') >= .5


def test_no_options():
  record = types.Record(id='r', question='', answer=3, answer_type='int')
  with pytest.raises(ValueError, match='needs a grade among options'):
    ordinal.score(record, [types.Completion('')], {})
