"""Drafts and their acceptance against plain Python."""

import functools

import jax
import numpy as np
import pytest

from medrl.rollout import draft


@functools.partial(jax.jit, static_argnums=(2, 3))
def propose(tokens, length, ngram, width):
  return draft.propose(tokens, length, ngram=ngram, width=width)


def reference(history, ngram, width):
  """The longest match of the end, the most recent of those, and what follows.
  """
  n = len(history)
  for size in range(min(ngram, n - 1), 0, -1):
    for end in range(n - 1, size - 1, -1):
      if history[end - size:end] == history[n - size:]:
        followed = history[end:]
        return [followed[i % len(followed)] for i in range(width)]
  return []


def histories(kind, rng):
  if kind == 'random':
    return [list(rng.integers(0, 6, n)) for n in range(13)]
  if kind == 'rare':
    return [list(rng.integers(0, 500, n)) for n in range(13)]
  return [(list(rng.integers(0, 9, p)) * 12)[:n]
          for p in (1, 2, 3, 5) for n in (3, 8, 12)]


@pytest.mark.parametrize('ngram, width', [(1, 1), (2, 4), (3, 5), (20, 3)])
@pytest.mark.parametrize('kind', ['random', 'rare', 'repetitive'])
def test_drafts_equal_the_reference(kind, ngram, width):
  rng = np.random.default_rng(0)
  rows = [h for _ in range(6) for h in histories(kind, rng)]
  # What stands behind the end must not matter.
  tokens = rng.integers(0, 3, (len(rows), 12)).astype(np.int32)
  for row, history in zip(tokens, rows):
    row[:len(history)] = history
  lengths = np.array([len(h) for h in rows], np.int32)
  got, count = jax.tree.map(np.asarray, propose(tokens, lengths, ngram, width))
  for i, history in enumerate(rows):
    want = reference([int(t) for t in history], ngram, width)
    assert count[i] == len(want)
    assert got[i, :count[i]].tolist() == want
  shaped = propose(tokens.reshape(2, -1, 12), lengths.reshape(2, -1), ngram,
                   width)
  np.testing.assert_array_equal(shaped[0].reshape(got.shape), got)
  each = jax.vmap(lambda t, n: draft.propose(t, n, ngram=ngram, width=width))
  np.testing.assert_array_equal(each(tokens, lengths)[0], got)


@pytest.mark.parametrize('history, want', [
    ([], []), ([7], []), ([7, 8], []), ([7, 7], [7, 7, 7]),
    ([1, 2, 3, 1, 2], [3, 1, 2]),          # the longer match
    ([5, 1, 9, 4, 1, 8, 1], [8, 1, 8]),    # the most recent one, in a circle
    ([1, 2, 9, 3, 2, 4, 1, 2], [9, 3, 2])])
def test_drafts_in_words(history, want):
  tokens = np.array(history + [1] * (9 - len(history)), np.int32)
  got, count = draft.propose(tokens, np.int32(len(history)), ngram=3, width=3)
  assert got[:count].tolist() == want and got.dtype == count.dtype == np.int32


@pytest.mark.parametrize('count', range(4))
def test_the_longest_equal_prefix_is_accepted(count):
  rng = np.random.default_rng(count)
  proposed = rng.integers(0, 2, (200, 3)).astype(np.int32)
  drawn = rng.integers(0, 2, (200, 4)).astype(np.int32)
  got = jax.jit(draft.accept)(proposed, np.full(200, count, np.int32), drawn)
  for i in range(200):
    want = 0
    while want < count and proposed[i, want] == drawn[i, want]:
      want += 1
    assert got[i] == want
  assert len(set(got.tolist())) == count + 1


def test_a_draft_changes_no_token():
  """A walk that draws by position, with drafts and without."""
  size, width = 64, 4
  def drawn(tokens, at):   # what a policy with a fixed uniform would draw
    return (3 * tokens[at - 1] + tokens[at - 2] + (at % 7 == 0)) % 5
  plain = [1, 2]
  while len(plain) < size:
    plain.append(drawn(plain, len(plain)))
  tokens, steps = [1, 2], 0
  while len(tokens) < size:
    held = np.zeros(size + width, np.int32)
    held[:len(tokens)] = tokens
    proposed, count = propose(held, np.int32(len(tokens)), 3, width)
    tried = [*tokens, *proposed.tolist()]
    draws = np.array([drawn(tried, len(tokens) + i) for i in range(width + 1)])
    accepted = int(draft.accept(proposed, count, draws))
    tokens += draws[:accepted + 1].tolist()
    steps += 1
  assert tokens[:size] == plain and steps < size - 2


@pytest.mark.parametrize('words', [dict(ngram=0, width=1),
                                   dict(ngram=1, width=0)], ids=str)
def test_impossible_sizes_are_refused(words):
  with pytest.raises(ValueError, match='must be at least 1'):
    draft.propose(np.zeros((1, 4), np.int32), np.zeros(1, np.int32), **words)
