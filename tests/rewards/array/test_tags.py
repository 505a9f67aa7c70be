"""Array tags in numpy and jitted jax against the rules of the joined text.

The vocabulary cuts tags in every way: by the character, in the middle, joined
with what stands around them, whole, and tokens without text. 10,000 completions
of random tokens, of which most are wrong, and of well-formed text cut at random
with, in half of them, one token exchanged. Both give the same few values.
"""

import functools
import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import types
from medrl.rewards import format as oracle
from medrl.rewards.array import tags

RECORD = types.Record(id='r', question='', answer=None, answer_type='text')
VOCAB = (
    *'<>/thinkaswer', '</', '<th', 'ink', 'nk>', 'think', 'answer', 'an',
    'swer', '><', '></', '>\n', '>\n\n<', '.</', 'a<', '>b', 'k></a', 'r>.',
    '<think>', '</think>', 'x<answer>y', '</answer>', ' ', '\n', '\u3000', '.',
    'b', '好', '<<', '</<', '', '> <', '>.<', '>a</', 'think>', '\udce5')
SIZE = 40
OPTIONS = [
    ('in_order', {}), ('in_order', {'tags': ('answer', 'thi')}),
    ('tags', {}), ('tags', {'filled': True}), ('tags', {'think': False}),
    ('tags', {'think': False, 'filled': True}),
    ('think_after', {}), ('think_after', {'filled': True})]


def cut(text, rng):
  """Ids of a random way to cut a text into tokens of the vocabulary."""
  out = []
  while text:
    token = rng.choice([i for i, w in enumerate(VOCAB)
                        if w and text.startswith(w)])
    out.append(token)
    text = text[len(VOCAB[token]):]
  return out


def texts(rng):
  inside = lambda: ''.join(rng.choices(
      ['', 'a', '.', '\n', ' ', '好', '<', 'b>'], k=rng.randrange(3)))
  blank = lambda: rng.choice(['', '', '\n', ' ', '\u3000', '\n\n'])
  for order in itertools.cycle([('think', 'answer'), ('answer', 'think'),
                                ('answer',), ('think', 'answer')]):
    yield blank() + blank().join(
        f'<{name}>{inside()}</{name}>' for name in order) + blank()


def cases(count=1250):
  rng = random.Random(0)
  source = texts(rng)
  rows = []
  while len(rows) < count:
    if rng.random() < 0.2:
      row = rng.choices(range(len(VOCAB)), k=rng.randrange(SIZE + 1))
    else:
      row = cut(next(source), rng)
      if rng.random() < 0.5:
        row[rng.randrange(len(row))] = rng.randrange(len(VOCAB))
    # A token without text in a tag counts as one of its characters.
    if len(row) <= SIZE:
      rows.append(row)
  ids = np.full((count, SIZE), 3, np.int32)
  for place, row in enumerate(rows):
    ids[place, :len(row)] = row
  lengths = np.array(list(map(len, rows)), np.int32)
  return ids.reshape(-1, 5, SIZE), lengths.reshape(-1, 5), rows


@functools.lru_cache
def prepared():
  ids, lengths, rows = cases(10_000)
  return ids, lengths, [types.Completion(''.join(VOCAB[i] for i in row))
                        for row in rows]


@pytest.mark.parametrize('name, options', OPTIONS)
def test_equals_the_oracle(name, options):
  ids, lengths, group = prepared()
  expected = getattr(oracle, name)(RECORD, group, {}, **options).total
  expected = np.array(expected).reshape(lengths.shape)
  function = functools.partial(getattr(tags, name), vocab=VOCAB, **options)
  np.testing.assert_array_equal(function(ids, lengths, np), expected)
  for fori in (None, jax.lax.fori_loop):
    jitted = jax.jit(functools.partial(function, xp=jnp, fori=fori))
    np.testing.assert_array_equal(jitted(ids, lengths), expected)
  good = np.mean(expected == 1)
  assert 0.0001 < good < 0.9, good


@pytest.mark.parametrize('size', [0, 1, 2, 5])
def test_short_completions(size):
  token = VOCAB.index('</answer>')
  ids = np.full((1, 3, size), token, np.int32)
  lengths = np.array([[0, min(size, 1), size]])
  for xp in (np, jnp):
    found = tags.in_order(ids, lengths, xp, tags=('</answer>',), vocab=VOCAB)
    assert found.tolist() == [[-1, 1 if size else -1, 1 if size == 1 else -1]]
    assert not tags.tags(ids, lengths, xp, vocab=VOCAB).any()


def test_more_tags_than_bits():
  # Their characters are 33 in all, of which a word holds 28.
  wanted = (*oracle.TAGS, '好.')
  rng = random.Random(0)
  pieces = ['<think>', '</think>', '<answer>', '</answer>', '好.', '好', 'a']
  rows, group = [], []
  for _ in range(300):
    text = ''.join(pieces if rng.random() < .5 else rng.sample(pieces, 7))
    rows.append(cut(text, rng))
    group.append(types.Completion(text))
  ids = np.zeros((1, 300, max(map(len, rows))), np.int32)
  for place, row in enumerate(rows):
    ids[0, place, :len(row)] = row
  lengths = np.array([list(map(len, rows))])
  expected = oracle.in_order(RECORD, group, {}, tags=wanted).total
  found = tags.in_order(ids, lengths, np, tags=wanted, vocab=VOCAB)
  np.testing.assert_array_equal(found[0], expected)
  assert 0.3 < np.mean(np.array(expected) == 1) < 0.9


def test_ids_beyond_the_vocabulary():
  ids = np.array([[[VOCAB.index('<think>'), 10**6, -1]]])
  found = tags.in_order(ids, np.array([[3]]), np, tags=('<think>',),
                        vocab=VOCAB)
  assert found == 1.0


@pytest.mark.parametrize('options, message', [
    ({'vocab': ()}, 'give `vocab`'),
    ({'tags': ()}, 'part of another'),
    ({'tags': ('<a>', '<a>')}, 'part of another'),
    ({'tags': ('aba',)}, 'begins as it ends'),
    ({'tags': ('ab', 'bc')}, 'begins as it ends'),
    ({'tags': ('<' + 'a' * 20 + '>',)}, 'longer than 16'),
    ({'vocab': ('<think></think>',)}, 'a part of another'),
    ({'vocab': ('</think><answ',)}, 'a part of another')])
def test_what_cannot_be_found(options, message):
  options = {'vocab': VOCAB, **options}
  with pytest.raises(ValueError, match=message):
    tags.in_order(np.zeros((1, 1, 4), int), np.zeros((1, 1), int), np,
                  **options)


def test_too_long():
  with pytest.raises(ValueError, match='50000 tokens'):
    tags.in_order(np.zeros((1, 1, 50_000), int), np.zeros((1, 1), int), np,
                  vocab=VOCAB)
