"""Tables for `parse.structured`."""

import json

import pytest

from medrl.rewards.parse import structured
from tests.rewards.parse import cases_structured as cases
from tests.rewards.parse import readings


@pytest.mark.parametrize('text, last, first, why', cases.JSON)
def test_json_object(text, last, first, why):
  for which, expected in (('last', last), ('first', first)):
    found = structured.json_object(text, which)
    assert readings.value(found, text) == expected, why
    if found:
      assert json.loads(text[slice(*found.span)]) == expected


@pytest.mark.parametrize('text, expected, why', cases.CALLS)
def test_tool_calls(text, expected, why):
  found = structured.tool_calls(text)
  assert [readings.value(f, text) for f in found] == expected, why
  assert all((f.how == 'tool call') == (f.value is not None) for f in found)


def test_only_is_one_value():
  assert structured.json_object('{"a":1} {"a": 1}', 'only').value == {'a': 1}
  assert structured.json_object('{"a":1} {"a": 2}', 'only') is None
