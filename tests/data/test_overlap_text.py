import pathlib

import pytest

from medrl import types
from medrl.data import jsonl
from medrl.data import overlap_text

DATA = pathlib.Path(__file__).parents[3] / 'shared/data'


def normal(question, **options):
  return overlap_text.normalised([types.Record(
      'r', question, None, 'text', options=options)])[0]


@pytest.mark.parametrize('one, other', [
    ('Is there an  effusion?', 'is there AN effusion'),
    ('ST\u2010elevation in V1\u2013V3', 'st elevation in v1-v3'),
    ('\ufb01brosis at 5\u00a0\u00b5m', 'Fibrosis, at 5 \u03bcm.'),
    ('Stra\u00dfe', 'STRASSE'), ('caf\u00e9', 'cafe\u0301')])
def test_dress_does_not_count(one, other):
  assert normal(one) == normal(other) != ''


@pytest.mark.parametrize('one, other', [
    ('pH > 7', 'pH < 7'), ('a shift of -5', 'a shift of 5'), ('5 %', '5'),
    ('no effusion', 'effusion'), ('1.5 mm', '15 mm'),
    ('\u0915\u093f', '\u0915\u0940')])   # Hindi ki and kii
def test_substance_counts(one, other):
  assert normal(one) != normal(other)


def test_the_order_of_options_does_not_count():
  assert normal('Q?', A='Yes.', B='no') == normal('q', A='No', B='yes')
  assert normal('Q?', A='yes', B='no') != normal('q', A='yes', B='maybe')
  assert normal(' ?! ') == ''


def jaccard(one, other):
  a, b = (overlap_text._grams(t) for t in (one, other))
  return len(a & b) / len(a | b)


@pytest.mark.parametrize('limit', [.3, .6, .9, 1.])
@pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')
def test_near_finds_what_comparing_all_finds(limit):
  texts = overlap_text.normalised(
      [types.Record(str(i), r.question, None, 'text') for i, r in enumerate(
          jsonl.read(DATA, 'derived_vqa/vqa.jsonl')[::40])])
  words = [t.split() for t in texts]
  second = texts[:20] + [' '.join(w[1:]) for w in words[20:40]] + [
      ' '.join([*w, 'please']) for w in words[40:]]
  expected = [(i, j) for i, a in enumerate(texts)
              for j, b in enumerate(second) if jaccard(a, b) >= limit]
  assert overlap_text.near(texts, second, limit) == expected
  assert expected


def test_short_texts_are_compared_whole():
  assert overlap_text.near(['one two', 'one'], ['one two', 'two'], .5) == [
      (0, 0)]


def test_jaccard_is_checked():
  with pytest.raises(ValueError, match='jaccard 0'):
    overlap_text.near([], [], 0)
