"""What every parser shares: folding, picking, spans, free text."""

import sys

import pytest

from medrl.rewards.parse import spans


@pytest.mark.parametrize('text, expected', [
    (' Left  Lung. ', 'left lung'), ('ER+', 'er+'), (' . ', None), ('', None),
    ('ＬＥＦＴ　lung', 'left lung'), ('左肺。', '左肺。'), ('N/A', 'n/a')])
def test_text(text, expected):
  found = spans.text(text)
  assert (found and found.value) == expected


def test_folding_keeps_every_position():
  text = ''.join(map(chr, range(sys.maxunicode + 1)))
  for change in (spans.fold, spans.clean):
    assert len(change(text)) == len(text)
  assert spans.fold('１２．５％（ＡＢ）٣٫٥　“x”') == '12.5%(AB)3.5 "x"'


def test_pick():
  a, b = spans.Parsed(1, (0, 1), 'x'), spans.Parsed(2, (2, 3), 'x')
  assert spans.pick([a, b], 'first') == a and spans.pick([a, b], 'last') == b
  assert spans.pick([a, b], 'only') is None
  assert spans.pick([a, a], 'only') == a and spans.pick([], 'only') is None
  assert spans.pick([a] * 101, 'first') is None
  with pytest.raises(ValueError, match="which='best'"):
    spans.pick([], 'best')


def test_spans_move():
  assert spans.shifted(spans.Parsed(1, (0, 2), 'x'), 5).span == (5, 7)
  assert spans.stripped('  a ') == (2, 3) and spans.stripped('  ') == (2, 2)
