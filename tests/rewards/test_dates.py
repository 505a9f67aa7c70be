"""Dates and durations, as MedCalc-Bench asks for them."""

import pytest

from medrl import types
from medrl.rewards import dates


@pytest.mark.parametrize('value, target, expected, why', [
    ('2014-09-23', '2014-09-23', 0, 'equal'),
    ('2014-09-23', '2014-09-12', 11, 'within a month'),
    ('2012-02-28', '2012-03-01', 2, 'a leap year'),
    ('2014-12-31', '2015-01-01', 1, 'the turn of a year')])
def test_apart(value, target, expected, why):
  assert dates.apart(value, target) == expected, why
  assert dates.apart(target, value) == expected, why


@pytest.mark.parametrize('duration, expected', [
    ((14, 1), 99), ((0, 6), 6), ((1, 7), 14), ([36, 3], 255)])
def test_total_days(duration, expected):
  assert dates.total_days(duration) == expected


def score(kind, answer, content, **options):
  record = types.Record(id='r', question='', answer=answer, answer_type=kind)
  out = dates.score(record, [types.Completion(content)], {}, **options)
  return out.total[0], out.parsed[0]


@pytest.mark.parametrize('kind, answer, content, options, expected, why', [
    ('date', '2014-09-23', '09/23/2014', {}, 1.0, "MedCalc's form"),
    ('date', '2014-09-23', '9/23/2014', {}, 1.0, 'no zero in front'),
    ('date', '2014-09-23', '2014-09-23', {}, 1.0, 'ISO'),
    ('date', '2014-09-23', 'September 23, 2014', {}, 1.0, 'in words'),
    ('date', '2014-09-03', '03/09/2014', {}, 0.0, 'the ninth of March'),
    ('date', '2014-09-03', '03/09/2014', {'order': 'dmy'}, 1.0, 'day first'),
    ('date', '2014-09-23', '09/22/2014', {}, 0.0, 'a day off'),
    ('date', '2014-09-23', '09/22/2014', {'days': 1}, 1.0, 'allowed'),
    ('date', '2014-09-23', '02/30/2014', {}, None, 'there is no such day'),
    ('date', '2014-09-23', 'soon', {}, None, 'no date'),
    ('duration', (14, 1), '14 weeks 1 day', {}, 1.0, 'in words'),
    ('duration', (14, 1), '14 weeks, 1 days', {}, 1.0, 'a slip'),
    ('duration', (14, 1), "('14 weeks', '1 days')", {}, 1.0, 'as the data'),
    ('duration', (14, 1), '14 weeks 2 days', {}, 0.0, 'a day off'),
    ('duration', (14, 1), '14 weeks 2 days', {'days': 1}, 1.0, 'allowed'),
    ('duration', (14, 1), 'long', {}, None, 'no duration'),
    ('date', 'N/A', '09/23/2014', {}, 0.0, 'no date is right'),
])
def test_score(kind, answer, content, options, expected, why):
  out = score(kind, answer, f'<answer>{content}</answer>', **options)
  assert out == (expected or 0.0, expected is not None), why


def test_wrong_calls_and_no_block():
  assert score('date', '2014-09-23', '2014-09-23') == (0.0, False)
  with pytest.raises(ValueError, match='needs a date or a duration'):
    score('text', 'x', '')
  with pytest.raises(ValueError, match='needs a date or a duration'):
    score('date', None, '')
