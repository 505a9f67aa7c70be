"""Tables for `parse.number`, and the calculators' gold read back."""

import json
import pathlib

import pytest

from medrl.rewards.parse import number
from medrl.rewards.parse import spans
from tests.rewards.parse import cases_number as cases
from tests.rewards.parse import readings

SHARED = pathlib.Path(__file__).parents[4] / 'shared' / 'data'


@pytest.mark.parametrize('text, expected, why', cases.NUMBER)
def test_number(text, expected, why):
  assert readings.value(number.number(text), text) == expected, why


@pytest.mark.parametrize('text, first, last', cases.WHICH)
def test_first_and_last(text, first, last):
  assert readings.value(number.number(text, 'first'), text) == first
  assert readings.value(number.number(text, 'last'), text) == last


@pytest.mark.parametrize('text, expected, why', cases.INTERVAL)
def test_interval(text, expected, why):
  assert readings.value(number.interval(text), text) == expected, why


def test_number_keeps_integers_and_says_percent():
  assert isinstance(number.number('3').value, int)
  assert isinstance(number.number('3.0').value, float)
  assert number.number('50 %') == spans.Parsed(50, (0, 4), 'percent')
  assert number.number('1/2').how == 'fraction'
  assert number.interval('up to 3').how == 'below'
  assert number.interval('2-4').how == 'range'


def test_the_gold_of_real_calculators():
  path = SHARED / 'medcalc' / 'medcalc_v1.jsonl'
  if not path.exists():
    pytest.skip(f'{path.name} is not on this machine')
  rows = map(json.loads, path.read_text().splitlines())
  golds = [r['answer_v1'] for r in rows if r['output_type'] == 'decimal']
  assert len(golds) > 300
  for gold in golds:
    for form in (gold, f'**{gold}**', f'The result is {gold}.', f'{gold} mL',
                 f'≈ {gold}', rf'\boxed{{{gold}}}'):
      assert number.number(form).value == float(gold), form
