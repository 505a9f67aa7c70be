"""Tolerances and limits at their ends."""

import pytest

from medrl import types
from medrl.rewards import number


@pytest.mark.parametrize('value, target, tolerance, expected', [
    (3, 3.0, {}, 1.0), (3.001, 3, {}, 0.0), (0.1 + 0.2, 0.3, {}, 1.0),
    (0, 0, {}, 1.0), (1e-12, 0, {}, 0.0),
    (105, 100, {'rel': 0.05}, 1.0), (105.1, 100, {'rel': 0.05}, 0.0),
    (-105, -100, {'rel': 0.05}, 1.0), (105, -100, {'rel': 0.05}, 0.0),
    (0.315, 0.3, {'rel': 0.05}, 1.0),   # the floats are 1.3e-17 too far apart
    (12, 10, {'abs': 2}, 1.0), (12, 10, {'abs': 1, 'rel': 0.2}, 1.0),
    (10 ** 40, 1, {'rel': 0.1}, 0.0),
    (float('inf'), 1, {'abs': 1}, 0.0), (float('nan'), 1, {'abs': 1}, 0.0),
])
def test_within(value, target, tolerance, expected):
  assert number.within(value, target, tolerance) == expected


@pytest.mark.parametrize('value, low, high, expected, why', [
    (5, 4, 6, 1.0, 'inside'), (4, 4, 6, 1.0, 'the lower end'),
    (6, 4, 6, 1.0, 'the upper end'), (3.99, 4, 6, 0.0, 'below'),
    (6.01, 4, 6, 0.0, 'above'), (3, 3, 3, 1.0, 'an interval of one number'),
    (-2, -2.1, -1.9, 1.0, 'negative'), (2, -2.1, -1.9, 0.0, 'another sign'),
    (14.25, 14.250000000000002, 15.75, 1.0, '0.95 * 15 as a float'),
    (0, 0, 0, 1.0, 'zero'), (1e-9, 0, 0, 0.0, 'zero has no slack'),
    (float('nan'), 0, 1, 0.0, 'no number'), (float('inf'), 0, 1e308, 0.0, 'no'),
])
def test_inside(value, low, high, expected, why):
  assert number.inside(value, low, high) == expected, why


@pytest.mark.parametrize('value, target, expected, why', [
    (3, 3, 1.0, 'equal'), (3.4, 3, 1.0, 'rounds down'), (2.6, 3, 1.0, 'up'),
    (3.6, 3, 0.0, 'rounds to 4'), (2.5, 2, 1.0, 'a half goes to the even'),
    (2.5, 3, 0.0, 'and to no other'), (3.5, 4, 1.0, 'the even'),
    (-2.4, -2, 1.0, 'negative'), (3, 3.2, 0.0, 'the reference is not rounded'),
    (float('inf'), 3, 0.0, 'no number'), (10 ** 40, 3, 0.0, 'far'),
])
def test_rounded(value, target, expected, why):
  assert number.rounded(value, target) == expected, why


@pytest.mark.parametrize('values, targets, expected, why', [
    ((3, 2), (2, 3), 1.0, 'any order'), ((3, 2.1), (2, 3), 1.0, 'within 10 %'),
    ((3, 2.3), (2, 3), 0.0, 'one is not'), ((3,), (2, 3), 0.0, 'one missing'),
    ((3, 2, 1), (2, 3), 0.0, 'one too many'), ((), (), 1.0, 'nothing')])
def test_all_within(values, targets, expected, why):
  assert number.all_within(values, targets, {'rel': .1}) == expected, why


def score(content, answer=10.0, kind='float', meta=None, unit='', **options):
  record = types.Record(id='r', question='', answer=answer, answer_type=kind,
                        tolerance={'rel': .01}, meta=meta or {}, unit=unit)
  out = number.score(record, [types.Completion(f'7<answer>{content}</answer>')],
                     {}, **options)
  return out.total[0], out.parsed[0]


@pytest.mark.parametrize('content, kwargs, expected, parsed', [
    ('10', {}, 1.0, True), ('10.1', {}, 1.0, True), ('10.2', {}, 0.0, True),
    ('10.2', {'rel': .05}, 1.0, True), ('12', {'abs_': 2}, 1.0, True),
    ('10.4', {'whole': True}, 1.0, True), ('10.6', {'whole': True}, 0.0, True),
    ('10 or 11', {}, 0.0, False), ('ten-ish', {}, 0.0, False),
    ('10.2', {'kind': 'interval', 'meta': {'limits': (9.5, 10.5)}}, 1.0, True),
    ('10.6', {'kind': 'interval', 'meta': {'limits': (9.5, 10.5)}}, 0.0, True),
    ('10', {'answer': 'N/A'}, 0.0, True),
])
def test_score(content, kwargs, expected, parsed):
  assert score(content, **kwargs) == (expected, parsed)


def test_score_converts_to_the_unit_of_the_record():
  pytest.importorskip('pint', reason='rewards packages are not installed')
  assert score('1 cm', unit='mm', kind='quantity') == (1.0, True)
  assert score('1 mm', unit='mm', kind='quantity') == (0.0, True)


def test_an_answer_that_is_no_number():
  for answer in ('ten', None, True):
    with pytest.raises(ValueError, match='is no number'):
      score('10', answer=answer, kind='text')
