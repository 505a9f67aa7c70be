"""Against what a careful person would write."""

import decimal
import math
import random
import re

import numpy as np
import pytest

from medrl.data import tables

Column = tables.Column
Visit = tables.Visit
CREATININE = Column('creatinine', 'mg/dL', 'number', .6, 1.2)
CRP = Column('CRP', 'mg/L', 'number', high=5)
PH = Column('pH', tables.UNITLESS, 'number', 7.35)
CODES = Column('diagnosis', kind='code', texts={'I10': 'hypertension'})
NOTE = Column('note')


def cell(value, column, **options):
  table = tables.render_table([{column.name: value}], [column], **options)
  return table.split('\n')[2][2:-2]


# Numbers.

@pytest.mark.parametrize('value,text', [
    (0, '0'), (-0., '0'), (7, '7'), (7., '7'), (.1 + .2, '0.3'),
    (np.float32(.1), '0.1'), (37.25, '37.25'), (2 / 3, '0.666667'),
    (1234567.8, '1234568'), (123456789, '123456789'), (1e14, '1' + '0' * 14),
    (1.5e-8, '0.000000015'), (1e-12, '1e-12'), (2e20, '2e+20'),
    (-1.10, '-1.1'), (999999.96, '1000000'), (9.9999996, '10')])
def test_numbers(value, text):
  assert tables.number(value) == text


def test_numbers_keep_six_digits():
  rng = random.Random(0)
  for _ in range(5000):
    value = rng.choice((-1, 1)) * rng.uniform(.1, 1) * 10 ** rng.randrange(
        -7, 14)
    text = tables.number(value)
    assert re.fullmatch(r'-?\d+(\.\d*[1-9])?', text)
    digits = decimal.Context(prec=6, rounding=decimal.ROUND_HALF_EVEN)
    if abs(value) < 1e5:
      assert decimal.Decimal(text) == digits.create_decimal(value)
    assert math.isclose(float(text), value, rel_tol=5e-6)


# Cells.

@pytest.mark.parametrize('value', [
    None, float('nan'), np.float32('nan'), '', '  ', [], ()])
@pytest.mark.parametrize('column', [CREATININE, CODES, NOTE])
def test_nothing_is_blank(value, column):
  assert cell(value, column) == 'not recorded'
  assert cell(value, column, missing='?') == '?'


@pytest.mark.parametrize('value,text', [
    (1, '1'), (1.2, '1.2'), (1.21, '1.21 (H)'), (.6, '0.6'), (.5, '0.5 (L)'),
    ('1.30', '1.3 (H)'), ('<0.6', '<0.6 (L)'), ('<0.7', '<0.7'),
    ('<1.5', '<1.5'), ('<= 0.6', '<=0.6'), ('>1.2', '>1.2 (H)'),
    ('>=1.2', '>=1.2'), ('≥ 2', '≥2 (H)'), ('>0.1', '>0.1'),
    (np.float64(2.5), '2.5 (H)'), (np.int64(1), '1'),
    ([1.3, None, .3], '1.3 (H); not recorded; 0.3 (L)')])
def test_what_lies_outside_of_the_normal_is_marked(value, text):
  assert cell(value, CREATININE) == text


@pytest.mark.parametrize('value', [
    'haemolysed', '1,2', math.inf, 'inf', True, {}, '<', '<a', 10 ** 400,
    '<' + '9' * 100])
def test_what_is_no_number_is_refused(value):
  with pytest.raises(ValueError, match="column 'creatinine'"):
    cell(value, CREATININE)


def test_codes_have_their_meaning():
  assert cell(['I10', 'Z99'], CODES) == (
      'I10 (hypertension); Z99 (meaning not recorded)')
  assert cell(['I10'] * 32, CODES).endswith('; ... 2 further values')


def test_text_stays_in_its_cell():
  assert cell('a|b\n  c', NOTE) == r'a\|b c'
  assert cell('x' * 210, NOTE) == 'x' * 200 + '... 10 further characters'


def test_yes_and_no():
  smoker = Column('smoker', kind='yesno')
  assert [cell(v, smoker) for v in (True, False, np.True_, 0)] == [
      'yes', 'no', 'yes', 'no']
  with pytest.raises(ValueError, match='neither'):
    cell('maybe', smoker)


# Tables.

def test_a_table():
  rows = [{'creatinine': 1.3, 'pH': 7.4, 'CRP': 2, 'unasked': 'x'},
          {'CRP': '>1000'}]
  assert tables.render_table(rows, [CREATININE, CRP, PH]) == '''\
| creatinine (mg/dL; normal 0.6 to 1.2) | CRP (mg/L; normal up to 5) | pH (no \
unit; normal from 7.35) |
| --- | --- | --- |
| 1.3 (H) | 2 | 7.4 |
| not recorded | >1000 (H) | not recorded |'''
  assert tables.render_table(
      rows * 2, [CREATININE, PH, NOTE], style='lines', limit=2) == '''\
Normal: creatinine 0.6 to 1.2 mg/dL; pH from 7.35.
creatinine: 1.3 mg/dL (H); pH: 7.4; note: not recorded
creatinine (mg/dL): not recorded; pH: not recorded; note: not recorded
... 2 further rows'''


def test_limits_and_empty_tables_are_said():
  rows = [{'note': n} for n in range(5)]
  assert tables.render_table(rows, [NOTE], limit=4).endswith(
      '| 3 |\n... 1 further row')
  assert tables.render_table(rows, [NOTE], limit=0).endswith(
      '\n... 5 further rows')
  assert 'further' not in tables.render_table(rows, [NOTE], limit=5)
  assert tables.render_table([], [NOTE]).endswith('No rows recorded.')
  assert tables.render_visits([], [NOTE]) == 'No visits recorded.'


def test_every_row_of_markdown_has_all_cells():
  rng = random.Random(0)
  for _ in range(200):
    rows = [{'note': ''.join(rng.choice('|ab \n\\') for _ in range(8)),
             'CRP': rng.choice([None, 3., '<1'])} for _ in range(3)]
    for line in tables.render_table(rows, [NOTE, CRP]).split('\n'):
      assert len(re.findall(r'(?<!\\)(?:\\\\)*\|', line)) == 3


def test_dates_become_days():
  when = Column('operated', kind='date')
  assert cell('2020-01-01', when, origin='2020-02-01') == '31 days earlier'
  assert cell('', when, origin='2020-02-01') == 'not recorded'
  with pytest.raises(ValueError, match='origin'):
    cell('2020-01-01', when)
  with pytest.raises(ValueError) as error:
    cell('1950/03/01', when, origin='2020-02-01')
  assert '1950' not in str(error.value)


# Visits.

def test_visits_are_in_order_and_without_dates():
  visits = [Visit('2020-03-01', {'CRP': 12., 'diagnosis': ['I10'],
                                 'operated': '2020-02-20'}),
            Visit('2019-12-01T09:30', {'CRP': '<1'}), Visit('', {'CRP': 4}),
            Visit('2019-12-01T07:00', {'diagnosis': 'I10'})]
  columns = [CRP, CODES, Column('operated', kind='date')]
  text = tables.render_visits(visits, columns)
  assert text == '''\
Normal: CRP up to 5 mg/L.
Visit 1, date not recorded:
- CRP: 4 mg/L
- diagnosis: not recorded
- operated: not recorded
Visit 2, 91 days before the last visit:
- CRP (mg/L): not recorded
- diagnosis: I10 (hypertension)
- operated: not recorded
Visit 3, 91 days before the last visit:
- CRP: <1 mg/L
- diagnosis: not recorded
- operated: not recorded
Visit 4, day of the last visit:
- CRP: 12 mg/L (H)
- diagnosis: I10 (hypertension)
- operated: 10 days before the last visit'''
  first = tables.render_visits(visits, columns, origin='first', limit=2)
  assert first.split('\n')[1:3] == [
      '... 2 earlier visits', 'Visit 3, day of the first visit:']
  assert '- operated: 81 days after the first visit' in first
  assert not re.search('20(19|20)', text + first + repr(visits))


def test_visits_count_days_of_any_origin():
  visits = [Visit(40, {}), Visit(39, {})]
  assert [line for line in tables.render_visits(visits, [NOTE]).split('\n')
          if 'Visit' in line] == ['Visit 1, 1 day before the last visit:',
                                  'Visit 2, day of the last visit:']


@pytest.mark.parametrize('call', [
    lambda: Column('x', kind='colour'), lambda: Column('x', kind='number'),
    lambda: Column('x', 'mm'), lambda: Column('x', low=1),
    lambda: Column('x', 'mm', 'number', 2, 1),
    lambda: tables.render_table([], []),
    lambda: tables.render_table([], [NOTE], style='html'),
    lambda: tables.render_table([], [NOTE], missing=' '),
    lambda: tables.render_visits([], [NOTE], origin='birth'),
    lambda: tables.render_visits([], [NOTE], limit=0),
    lambda: tables.number(math.nan)])
def test_what_makes_no_sense_is_refused(call):
  with pytest.raises(ValueError):
    call()
