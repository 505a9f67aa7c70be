"""Repeated n-grams by hand, and against the plain definition."""

import random

import pytest

from medrl import types
from medrl.rewards import repetition

RECORD = types.Record(id='r', question='', answer=None, answer_type='text')


def words(text, **options):
  return repetition.words(RECORD, [types.Completion(text)], {},
                          **options).total[0]


@pytest.mark.parametrize('text, n, expected, why', [
    ('', 2, 0.0, 'nothing'), ('a', 2, 0.0, 'shorter than n'),
    ('a b', 2, 0.0, 'one bigram'),
    ('a a a', 2, -0.5, 'aa twice: 1 distinct of 2'),
    ('a b a b', 2, -1 / 3, 'ab ba ab'),
    ('a b\na\tb', 2, -1 / 3, 'any white space'),
    ('The cat. THE CAT.', 2, -1 / 3, 'case does not hide it'),
    ('a b, a b.', 2, 0.0, 'punctuation belongs to the word'),
    ('x ' * 39, 20, -0.95, '1 distinct of 20'),
    ('无渗出无渗出', 3, -0.25, 'characters of Chinese are words: 3 of 4'),
    ('aaaaaaaaaaaaaaaaaaaaaaaa', 2, 0.0,
     'one word: known, and what `tokens` is for'),
    ('a a', 1, -0.5, 'unigrams'),
])
def test_words(text, n, expected, why):
  assert words(text, n=n) == pytest.approx(expected), why


def test_default_is_20_as_in_perception_r1():
  loop = 'the left lung is clear ' * 8      # 40 words
  assert words(loop) == pytest.approx(-(1 - 5 / 21))
  assert words(' '.join(map(str, range(1000)))) == 0.0


@pytest.mark.parametrize('n', [1, 2, 5, 20])
def test_the_plain_definition(n):
  rng = random.Random(n)
  for size in [0, 1, 2, 19, 20, 21, 60] * 40:
    ids = [rng.randrange(rng.choice((1, 2, 3, 50, 2**31))) for _ in range(size)]
    if rng.random() < 0.3:
      ids += ids
    grams = [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]
    expected = -(1 - len(set(grams)) / len(grams)) if grams else 0.0
    group = [types.Completion('x' if ids else '', ids=tuple(ids))]
    assert repetition.tokens(RECORD, group, {}, n=n).total[0] == expected


def test_refused():
  with pytest.raises(ValueError, match='n = 0'):
    words('a', n=0)
  with pytest.raises(ValueError, match='no token ids'):
    repetition.tokens(RECORD, [types.Completion('a')], {})
