"""Tables for `parse.blocks`."""

import pytest

from medrl.rewards.parse import blocks
from tests.rewards.parse import cases_blocks as cases
from tests.rewards.parse import readings


def content(parsed, text):
  """Returns the value, which must be what stands at the span."""
  value = readings.value(parsed, text)
  assert value is None or text[slice(*parsed.span)] == value
  return value


@pytest.mark.parametrize('read, text, last, first, why', [
    (read, *row) for read, rows in (
        (blocks.answer, cases.ANSWER), (blocks.boxed, cases.BOXED))
    for row in rows])
def test_last_and_first(read, text, last, first, why):
  assert content(read(text), text) == last, why
  assert content(read(text, 'first'), text) == first, why


@pytest.mark.parametrize('text, expected, why', cases.THINK)
def test_think(text, expected, why):
  assert content(blocks.think(text), text) == expected, why


@pytest.mark.parametrize('text, name, expected, why', cases.TAG)
def test_tag(text, name, expected, why):
  assert content(blocks.tag(text, name), text) == expected, why


def test_only_is_one_block():
  assert blocks.answer('<answer>A</answer>', 'only').value == 'A'
  assert blocks.answer('<answer>A</answer>' * 2, 'only') is None
  assert blocks.boxed(r'\boxed{A}\boxed{A}', 'only').value == 'A'
  with pytest.raises(ValueError, match="which='any'"):
    blocks.answer('<answer>A</answer>', 'any')


@pytest.mark.parametrize('text, expected, why', cases.STEPS)
def test_steps(text, expected, why):
  found = blocks.steps(text)
  assert [(f.how, content(f, text)) for f in found] == expected, why


@pytest.mark.parametrize('text, expected, why', cases.SECTIONS)
def test_sections(text, expected, why):
  found = blocks.sections(text, ('findings', 'impression'))
  assert {n: content(f, text) for n, f in found.items()} == expected, why


def test_sections_of_other_names():
  found = blocks.sections('超声所见：正常。\n印象：无', ('超声所见', '印象'))
  assert {n: f.value for n, f in found.items()} == {
      '超声所见': '正常。', '印象': '无'}
  assert not blocks.sections('Findings: a', ())
