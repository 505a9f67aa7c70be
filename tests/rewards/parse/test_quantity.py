"""Tables for `parse.quantity` and the units it knows."""

import math

import pytest

from medrl.rewards.parse import quantity
from medrl.rewards.parse import units
from tests.rewards.parse import cases_quantity as cases
from tests.rewards.parse import readings

pint = pytest.importorskip('pint')


@pytest.mark.parametrize('read, text, unit, expected, why', [
    (read, *row) for read, rows in (
        (quantity.quantity, cases.QUANTITY),
        (quantity.interval, cases.INTERVAL),
        (quantity.dimensions, cases.DIMENSIONS)) for row in rows])
def test_quantity(read, text, unit, expected, why):
  found = readings.value(read(text, unit), text)
  if expected is None or found is None:
    assert found is expected, why
  else:
    assert found == pytest.approx(expected, rel=1e-8), why


def test_first_and_last():
  text = 'from 2 cm, later 3 cm'
  assert quantity.quantity(text, 'mm', 'first').value == 20
  assert quantity.quantity(text, 'mm', 'last').value == 30


def test_says_where_and_how():
  found = quantity.quantity('It is 2 cm wide', 'mm')
  assert (found.span, found.how) == ((6, 10), 'unit')
  assert quantity.quantity('20', 'mm').how == 'bare'


@pytest.mark.parametrize('unit', [
    'lightyear', 'mg/', '', 'mm mm', '__import__("os")', 'mg/xyz', '5 mm'])
def test_an_unknown_unit_is_an_error_of_the_question(unit):
  with pytest.raises(ValueError, match='unit'):
    quantity.quantity('5', unit)


def test_every_unit_is_known_to_pint_and_reads_itself():
  registry = units._registry()
  for powers in units._names().values():
    for name, _ in powers:
      assert registry.Unit(name).dimensionality is not None, name
  for word, powers in units._names().items():
    unit, end = units.read(word, 0)
    assert end == len(word) and unit == units.Unit(
        1.0, tuple(sorted(powers))), word


@pytest.mark.parametrize('written, factor, unit', [
    ('in', 25.4, 'mm'), ('ft', 30.48, 'cm'), ('lb', 453.59237, 'g'),
    ('oz', 28.349523125, 'g'), ('mmHg', 133.322387415, 'Pa'),
    ('cmH2O', 98.0665, 'Pa'), ('atm', 101325, 'Pa'), ('kcal', 4.184, 'kJ'),
    ('week', 7, 'd'), ('mCi', 37, 'MBq'), ('deg', math.pi / 180, 'rad')])
def test_factors_are_the_definitions(written, factor, unit):
  found = units.convert(1.0, units.parse(written), units.parse(unit))
  assert found == pytest.approx(factor, rel=1e-7)
