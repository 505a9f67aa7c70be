"""Stop strings against `bytes.find` in what random tokens decode to."""


import jax
import numpy as np
import pytest

from medrl.processors import text
from medrl.rollout import stops
from tests import soon
from tests.processors import conftest

qwen_folder = conftest.qwen_folder
qwen = conftest.qwen
built = conftest.built
walk = jax.jit(lambda table, tokens: jax.lax.scan(
    lambda s, t: (stops.advance(table, s, t),) * 2,
    jax.numpy.zeros(tokens.shape[1:], 'int32'), tokens)[1])


def check(strings, token_bytes, tokens):
  """Tokens int [T, n]: accepted from the token on in which a string ends."""
  made = stops.build(strings, token_bytes)
  got = made.accept[walk(made.table, tokens)]
  hits = 0
  for column in range(tokens.shape[1]):
    written = b''
    for row, token in enumerate(tokens[:, column]):
      written += token_bytes[token]
      want = any(s.encode() in written for s in strings)
      assert got[row, column] == want, (strings, written)
    hits += want
  return hits


@pytest.mark.parametrize('strings', [
    ['ab'], ['a'], ['abab', 'b'], ['aab', 'ba', 'bb'], ['abcabd', 'bca'],
    ['ab', 'abc', 'cabca'], ['aaaa'], ['abacab', 'acac'], ['é', 'éa'],
    ['\U0001fac1'], ['肺', '胸肺'], ['\n\n', 'a\n']], ids=str)
def test_all_ways_to_cut_a_text_into_tokens(strings):
  """Few letters, so that strings overlap; pieces that cut characters."""
  rng = np.random.default_rng(0)
  letters = sorted(set(''.join(strings))) + ['a']
  whole = ''.join(rng.choice(letters, 60)).encode()
  pieces = sorted({whole[i:i + k] for i in range(60) for k in range(1, 6)})
  token_bytes = [b'', *pieces, *(bytes([b]) for b in sorted(set(whole)))]
  tokens = rng.integers(0, len(token_bytes), (6, 150))
  hits = check(strings, token_bytes, tokens)
  assert 0 < hits, 'no string was ever written'


@pytest.mark.parametrize('name', ['qwen', 'built'])
def test_real_tokens(name, request):
  tokenizer = request.getfixturevalue(name)
  token_bytes = tokenizer.token_bytes()
  strings = ['</answer>', '\n\nQ', '肺\U0001fac1 ']
  rng = np.random.default_rng(1)
  ids = tokenizer.encode('An effusion. 肺\U0001fac1 x</answer>\n\nQ: no') * 3
  some = np.array(ids + list(rng.integers(0, tokenizer.size, 9)))
  tokens = some[rng.integers(0, len(some), (200, 8))]
  tokens[:len(ids), 0] = ids
  assert 0 < check(['</answer>', 'zz', '肺\U0001fac1'], token_bytes, tokens)
  # The tokens that a tokenizer itself gives, special ones in between.
  end = tokenizer.id('<|im_end|>')
  for string in strings:
    written = tokenizer.encode('ab ' + string + ' c')
    column = np.array([written, [end, *written[:-1]]]).T
    check([string], token_bytes, column)


def test_a_large_vocabulary_is_built_in_seconds(qwen):
  token_bytes = qwen.token_bytes()
  strings = ['</answer>', '\nQuestion:', 'Human:', '<tool_call>', '。\n\n']
  with soon.soon(20):   # a loop over ids in Python takes minutes
    made = stops.build(strings, token_bytes)
  # A state for each beginning of a string, the empty one among them.
  states = {s.encode()[:k] for s in strings for k in range(len(s.encode()) + 1)}
  assert made.table.shape == (len(states), qwen.size)
  assert made.table.dtype == np.int16


def test_what_accepts_is_never_left():
  made = stops.build(['ab', 'b'], [b'a', b'b', b'x'])
  for state in np.flatnonzero(made.accept):
    assert (made.table[state] == state).all()
  assert made.accept.sum() == 2 and not made.accept[0]


def test_no_strings_accept_nothing():
  made = stops.build([], [b'a', b''])
  assert made.table.tolist() == [[0, 0]] and not made.accept.any()


@pytest.mark.parametrize('strings, message', [
    (['a', ''], 'must not hold an empty one'),
    (['x' * 40_000], '40001 states'),
    (['\ud800'], 'surrogates not allowed')])
def test_impossible_strings_are_refused(strings, message):
  with pytest.raises(ValueError, match=message):
    stops.build(strings, [b'a'])


def test_they_are_those_of_the_text_that_rewards_see(built):
  """A token's bytes are its share of `decode`."""
  ids = np.random.default_rng(2).integers(0, built.size, 200)
  joined = b''.join(built.token_bytes()[i] for i in ids)
  assert joined.decode(errors='replace') == built.decode(ids)
  assert isinstance(built, text.Tokenizer)
