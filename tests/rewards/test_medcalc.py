"""MedCalc-Bench's rules, on hand-made rows and on the released ones."""

import csv
import json
import pathlib

import pytest

from medrl import types
from medrl.rewards import answer
from medrl.rewards import medcalc

SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'medcalc'


def record(calculator, gold, low='', high=''):
  return types.Record(
      id='r', question='', **medcalc.fields(calculator, gold, low, high))


def score(given, content, **options):
  out = medcalc.score(
      given, [types.Completion(f'<think>7</think><answer>{content}</answer>')],
      {}, **options)
  return out.total[0] if out.parsed[0] else None


def test_every_calculator_of_the_table_has_one_rule():
  groups = (medcalc.DATES, medcalc.DURATIONS, medcalc.WHOLE, medcalc.DECIMAL)
  assert len(frozenset.union(*groups)) == sum(map(len, groups)) == 55
  with pytest.raises(ValueError, match='calculator 1: expected one of'):
    medcalc.answer_type(1)


@pytest.mark.parametrize('args, expected', [
    (('2', '25.238', '23.9761', '26.4999'),
     {'answer_type': 'interval', 'answer': 25.238,
      'meta': {'calculator': 2, 'limits': (23.9761, 26.4999)}}),
    ((4, '3', '3', '3'), {'answer_type': 'int', 'answer': 3,
                          'meta': {'calculator': 4}}),
    ((13, '09/23/2014', '', ''), {'answer_type': 'date', 'answer': '2014-09-23',
                                  'meta': {'calculator': 13}}),
    ((69, "('14 weeks', '1 days')", '', ''),
     {'answer_type': 'duration', 'answer': (14, 1),
      'meta': {'calculator': 69}}),
    ((69, '99', '94.05', '103.95'),     # the corrected labels
     {'answer_type': 'duration', 'answer': (14, 1),
      'meta': {'calculator': 69}}),
    ((18, 'N/A', 'N/A', 'N/A'), {'answer_type': 'int', 'answer': 'N/A',
                                 'meta': {'calculator': 18}}),
])
def test_fields(args, expected):
  assert medcalc.fields(*args) == expected


@pytest.mark.parametrize('args', [
    (4, '3.5', '', ''), (2, 'x', '1', '2'), (13, '2014-09-23', '', ''),
    (69, 'long', '', ''), (12, '1', '', '')])
def test_rows_that_do_not_fit(args):
  with pytest.raises(ValueError):
    medcalc.fields(*args)


MAP = (5, '100', '95', '105')            # mean arterial pressure, mmHg
SCORE = (16, '-2', '-2', '-2')           # Wells' criteria for DVT
DUE = (13, '09/03/2014', '', '')
AGE = (69, "('14 weeks', '1 days')", '', '')
GAP = (18, 'N/A', 'N/A', 'N/A')


@pytest.mark.parametrize('row, content, expected, why', [
    (MAP, '100', 1.0, 'the reference'), (MAP, '95', 1.0, 'the lower limit'),
    (MAP, '105.0', 1.0, 'the upper limit'), (MAP, '94.9', 0.0, 'below'),
    (MAP, '105.1', 0.0, 'above'), (MAP, '98.4 mmHg', 1.0, 'a unit'),
    (MAP, '98,4', 1.0, 'a decimal comma'), (MAP, '95-105', None, 'a range'),
    (MAP, '100 or 101', None, 'two numbers'), (MAP, '<100', None, 'a bound'),
    (MAP, 'normal', None, 'no number'), (MAP, '', None, 'nothing'),
    (MAP, 'N/A', 0.0, 'abstained, and there is an answer'),
    (MAP, 'The MAP cannot be calculated without 2 values', 0.0,
     'abstained: the 2 is no answer'),
    (SCORE, '-2', 1.0, 'equal'), (SCORE, '-2.0', 1.0, 'as a float'),
    (SCORE, '-2.4', 1.0, 'rounds to it'), (SCORE, '-1.5', 1.0, 'half to even'),
    (SCORE, '-2.5', 1.0, 'half to even'), (SCORE, '-2.6', 0.0, 'rounds to -3'),
    (SCORE, '2', 0.0, 'the sign'), (SCORE, 'two', None, 'a word'),
    (DUE, '09/03/2014', 1.0, 'as published'), (DUE, '9/3/2014', 1.0, 'short'),
    (DUE, '03/09/2014', 0.0, 'day first is another day'),
    (DUE, '09/04/2014', 0.0, 'a day off'), (DUE, '41885', None, 'a number'),
    (AGE, '14 weeks 1 day', 1.0, 'in words'),
    (AGE, "('14 weeks', '1 days')", 1.0, 'as published'),
    (AGE, '13 weeks 8 days', 1.0, 'as many days'),
    (AGE, '14 weeks 2 days', 0.0, 'a day off'), (AGE, '14.1', None, 'no unit'),
    (GAP, 'N/A', 1.0, 'the note lacks data'),
    (GAP, 'cannot be calculated from the note', 1.0, 'in words'),
    (GAP, '5', 0.0, 'no value is right'), (GAP, 'high', None, 'neither'),
])
def test_rules(row, content, expected, why):
  assert score(record(*row), content) == expected, why


def test_options_and_wrong_calls():
  assert score(record(*MAP), 'N/A', abstained=.25) == .25
  assert score(record(*GAP), 'N/A', abstained=.25) == 1.0
  plain = types.Record(id='r', question='', answer=5, answer_type='float')
  with pytest.raises(ValueError, match='see medcalc.fields'):
    score(plain, '5')


def rows(version):
  """Yields calculator, answer and limits of the released rows."""
  if version == 'one shot':
    path = SHARED / 'one_shot_verified.csv'
    if not path.exists():
      pytest.skip(f'{path.name} is not on this machine')
    with path.open(encoding='utf-8', newline='') as file:
      for row in csv.DictReader(file):
        yield tuple(row[name] for name in (
            'Calculator ID', 'Ground Truth Answer', 'Lower Limit',
            'Upper Limit'))
    return
  path = SHARED / 'medcalc_v1.jsonl'
  if not path.exists():
    pytest.skip(f'{path.name} is not on this machine')
  for row in map(json.loads, path.read_text().splitlines()):
    values = [row[f'{name}_{version}'] for name in ('answer', 'lower', 'upper')]
    if values[0] is not None:
      yield row['calculator_id'], *values


@pytest.mark.parametrize('version, count, gone', [
    ('v1', 692, 0), ('corrected', 590, 49), ('one shot', 55, 0)])
def test_every_released_answer_is_right_and_its_neighbour_is_wrong(
    version, count, gone):
  seen = missing = 0
  for row in rows(version):
    given = record(*row)
    seen += 1
    missing += given.answer == 'N/A'
    text = row[1]
    if given.answer_type == 'duration':
      text = '{} weeks {} days'.format(*given.answer)
    assert score(given, text) == 1.0, row
    assert answer.correct(given, f'<answer>{text}</answer>') == 1.0, row
    for wrong in neighbours(given):
      assert score(given, wrong) == 0.0, (row, wrong)
  assert (seen, missing) == (count, gone)


def neighbours(given):
  """Yields what is just not the answer of a record."""
  if given.answer == 'N/A':
    yield '0'
  elif given.answer_type == 'interval':
    low, high = given.meta['limits']
    yield repr(high + .01 * abs(high) + .01)
    yield repr(low - .01 * abs(low) - .01)
  elif given.answer_type == 'int':
    yield str(given.answer + 1)
  elif given.answer_type == 'duration':
    yield '{} weeks {} days'.format(given.answer[0], given.answer[1] + 1)
  else:
    year, month, day = given.answer.split('-')
    yield f'{month}/{day}/{int(year) + 1}'


def test_the_best_constant_answer_of_the_released_ones():
  given = [record(*row) for row in rows('corrected')]
  best = max(
      sum(score(g, text) or 0.0 for g in given) / len(given)
      for text in ('N/A', '0', '1', '2', '3', '4', '5', '10', '20', '100',
                   '400', '0-1000', '1 2 3 4 5', '<1000', 'N/A or 5',
                   '01/01/2014', '10 weeks 0 days'))
  assert best == pytest.approx(49 / 590)   # to abstain always
