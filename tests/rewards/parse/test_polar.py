"""Tables for `parse.polar`."""

import pytest

from medrl.rewards.parse import polar
from tests.rewards.parse import cases_polar as cases
from tests.rewards.parse import readings


@pytest.mark.parametrize('read, text, expected, why', [
    (read, *row) for read, rows in (
        (polar.yesno, cases.YESNO), (polar.yesnomaybe, cases.YESNOMAYBE),
        (polar.truth, cases.TRUTH)) for row in rows])
def test_polar(read, text, expected, why):
  assert readings.value(read(text), text) == expected, why


@pytest.mark.parametrize('text, first, last', cases.LAST)
def test_first_and_last(text, first, last):
  assert readings.value(polar.yesno(text, 'first'), text) == first
  assert readings.value(polar.yesno(text, 'last'), text) == last


def test_says_where_and_how():
  found = polar.yesno('I would say **No**.')
  assert (found.span, found.how) == ((14, 16), 'only')
  assert polar.yesno('The answer is no').how == 'leading'
  found = polar.yesno('答案：不是。')
  assert (found.span, found.value) == ((3, 5), 'no')
  with pytest.raises(ValueError, match="which='any'"):
    polar.yesno('yes', 'any')
