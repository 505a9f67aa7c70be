"""Tables for `parse.dates`, and the calculators' gold read back."""

import datetime
import json
import pathlib

import pytest

from medrl.rewards.parse import dates
from tests.rewards.parse import cases_dates as cases
from tests.rewards.parse import readings

SHARED = pathlib.Path(__file__).parents[4] / 'shared' / 'data'


@pytest.mark.parametrize('order, text, expected, why', [
    (order, *row) for order, rows in (('mdy', cases.MDY), ('dmy', cases.DMY))
    for row in rows])
def test_date(order, text, expected, why):
  assert readings.value(dates.date(text, order), text) == expected, why


@pytest.mark.parametrize('text, expected, why', cases.DURATION)
def test_duration(text, expected, why):
  assert readings.value(dates.duration(text), text) == expected, why


def test_first_and_last():
  text = '03/12/2020 or 2021-01-02'
  assert dates.date(text, which='first').value == '2020-03-12'
  assert dates.date(text, which='last').value == '2021-01-02'
  assert dates.duration('39w or 40w', 'last').value == (40, 0)


def test_every_day_of_two_years_in_every_form():
  day = datetime.date(2023, 1, 1)
  while day.year < 2025:
    for form in ('%Y-%m-%d', '%m/%d/%Y', '%B %d, %Y', '%d %b %Y', '%d-%b-%Y',
                 '%Y年%m月%d日'):
      assert dates.date(day.strftime(form)).value == day.isoformat()
    assert dates.date(day.strftime('%d/%m/%Y'), 'dmy').value == day.isoformat()
    day += datetime.timedelta(days=1)


def test_an_unknown_order_is_an_error():
  with pytest.raises(ValueError, match="order='ymd'"):
    dates.date('2020-01-01', 'ymd')


def test_the_gold_of_real_calculators():
  path = SHARED / 'medcalc' / 'medcalc_v1.jsonl'
  if not path.exists():
    pytest.skip(f'{path.name} is not on this machine')
  rows = list(map(json.loads, path.read_text().splitlines()))
  golds = [r['answer_v1'] for r in rows if r['output_type'] == 'date']
  assert golds
  for gold in golds:
    expected = datetime.datetime.strptime(gold, '%m/%d/%Y').date().isoformat()
    for form in (gold, f'**{gold}**', f'The due date is {gold}.'):
      assert dates.date(form).value == expected
  golds = [r['answer_v1'] for r in rows if 'weeks' in r['answer_v1']]
  assert golds
  for gold in golds:
    weeks, days = (int(p.strip(" ()'").split()[0]) for p in gold.split(','))
    assert dates.duration(gold).value == (weeks, days)
