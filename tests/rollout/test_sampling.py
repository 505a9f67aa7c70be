"""Draws against longhand distributions and transformers' logits warpers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from medrl.rollout import blocks
from medrl.rollout import sampling

LARGE = 152_064  # the vocabulary of Qwen2.5-VL-7B
BANNED = (3, 17)
# float32 sums of some tens of terms; and a draw at a border may go either way.
TOLERANCE = 2e-6
WORDS = [
    dict(), dict(temperature=0.5), dict(temperature=1.7, top_k=5),
    dict(top_p=0.8), dict(temperature=0.7, top_k=9, top_p=0.6),
    dict(top_p=0.01), dict(top_p=0.999), dict(top_k=1), dict(top_k=1000),
    dict(min_p=0.1), dict(min_p=1.0), dict(temperature=2.0, min_p=0.3),
    dict(top_p=0.7, min_p=0.05), dict(top_p=0.95, min_p=0.3, temperature=0.8),
    dict(top_k=12, min_p=0.15), dict(repetition_penalty=1.4),
    dict(repetition_penalty=0.6, temperature=1.3),
    dict(repetition_penalty=1.2, top_p=0.8),
    dict(repetition_penalty=1.3, min_p=0.1, temperature=0.6),
    dict(repetition_penalty=1.3, top_k=7),
    dict(temperature=0.9, top_k=20, top_p=0.9, min_p=0.05,
         repetition_penalty=1.5)]
draw = jax.jit(sampling.draw, static_argnums=2)


def options(**words):
  return sampling.Options(group=1, length=1, stop=(0,), **words)


def example(vocab, seed=0):
  """Logits without banned ids, and the ids that were seen."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 2, vocab).astype(np.float32)
  logits[list(BANNED)] = blocks.MASKED
  return logits, rng.random(vocab) < 0.4


def longhand(logits, o, seen):
  """Probabilities float64 of what is drawn from, and the order of its CDF."""
  x = logits.astype(np.float64)
  p = o.repetition_penalty
  x = np.where(seen, np.where(x < 0, x * p, x / p), x) / o.temperature
  order = np.argsort(-x, kind='stable')
  kept = np.ones(len(x), bool)
  if 0 < o.top_k < len(x):
    kept[order[o.top_k:]] = False
  share = np.where(kept, np.exp(x - x.max()), 0)
  share /= share.sum()
  if o.top_p < 1:
    inside, mass = [], 0.
    for i in order:
      if mass >= o.top_p:
        break
      inside.append(i)
      mass += share[i]
    kept &= np.isin(np.arange(len(x)), inside)
  kept &= share >= o.min_p * share.max()
  share = np.where(kept, share, 0)
  by_rank = 0 < o.top_k < len(x)
  return share / share.sum(), order if by_rank else np.arange(len(x))


def warped(logits, o, seen):
  """The distribution that transformers would sample from, float64."""
  x = torch.tensor(logits, dtype=torch.float64)[None]
  words = []
  if o.repetition_penalty != 1:
    words.append(transformers.RepetitionPenaltyLogitsProcessor(
        o.repetition_penalty))
  words.append(transformers.TemperatureLogitsWarper(o.temperature))
  if o.top_k:
    words.append(transformers.TopKLogitsWarper(o.top_k))
  if o.top_p < 1:
    words.append(transformers.TopPLogitsWarper(o.top_p))
  if o.min_p:
    words.append(transformers.MinPLogitsWarper(o.min_p))
  ids = torch.tensor(np.flatnonzero(seen))[None]
  x = transformers.LogitsProcessorList(words)(ids, x)
  return torch.softmax(x, -1)[0].numpy()


def check(drawn, uniform, logits, o, seen):
  """Every number of the draws of one row of logits."""
  probs, order = longhand(logits, o, seen)
  np.testing.assert_allclose(probs, warped(logits, o, seen), atol=1e-12)
  token, n = np.asarray(drawn.token), len(uniform)
  assert token.dtype == np.int32
  # The first id, in that order, whose cumulative probability exceeds u.
  cdf = np.cumsum(probs[order])
  place = [np.argmax(cdf > u * cdf[-1]) for u in uniform.astype(float)]
  clear = np.abs(cdf[:, None] - uniform).min(0) > TOLERANCE
  np.testing.assert_array_equal(token[clear], order[place][clear])
  # A grid of uniforms hits an interval to within one point at each end.
  counts = np.bincount(token, minlength=len(logits))
  np.testing.assert_allclose(counts / n, probs, atol=1.01 / n)
  assert not counts[probs == 0].any()
  np.testing.assert_allclose(drawn.drawn_logp, np.log(probs[token]),
                             atol=TOLERANCE)
  policy = np.exp(logits.astype(float) - logits.max())
  policy = np.log(policy / policy.sum() + 1e-300)
  np.testing.assert_allclose(drawn.logp, policy[token], atol=TOLERANCE)
  np.testing.assert_allclose(drawn.entropy, -(np.exp(policy) * policy).sum(),
                             atol=TOLERANCE)
  np.testing.assert_allclose(
      drawn.captured, np.tile(policy[list(o.capture)], (n, 1)), atol=1e-5)


@pytest.mark.parametrize('vocab', [30, 70])   # one block; three, one ragged
@pytest.mark.parametrize('words', WORDS, ids=str)
def test_draws_equal_longhand_and_transformers(words, vocab):
  logits, seen = example(vocab)
  o, n = options(**words, capture=(5, 0)), 2000
  uniform = (np.arange(n, dtype=np.float32) + 0.5) / n
  drawn = draw(np.tile(logits, (n, 1)), uniform, o, np.tile(seen, (n, 1)))
  check(drawn, uniform, logits, o, seen)


@pytest.mark.parametrize('words', [WORDS[0], WORDS[-8], WORDS[-1]], ids=str)
def test_without_jit(words):
  logits, seen = example(70, seed=1)
  o = options(**words)
  uniform = (np.arange(200, dtype=np.float32) + 0.5) / 200
  drawn = sampling.draw(jnp.tile(logits, (200, 1)), uniform, o,
                        jnp.tile(seen, (200, 1)))
  check(drawn, uniform, logits, o, seen)


@pytest.mark.parametrize('words', [
    dict(), dict(top_k=50), dict(top_k=600), dict(top_p=0.9), dict(min_p=0.02),
    dict(top_p=0.05)], ids=str)
def test_a_vocabulary_of_many_blocks(words):
  """Top-p ends by the guess or, of a flat distribution, by bisection."""
  for scale in (0.5, 3.):
    logits, seen = example(5003)   # a prime: the last block is ragged
    logits = np.where(logits > -100, logits * scale, logits).astype(np.float32)
    o = options(**words)
    uniform = np.linspace(0, 1, 300, endpoint=False, dtype=np.float32)
    drawn = draw(np.tile(logits, (300, 1)), uniform, o)
    probs, order = longhand(logits, o, seen)
    cdf = np.cumsum(probs[order])
    # Sums of 5000 float32 terms of one sign.
    clear = np.abs(cdf[:, None] - uniform).min(0) > 1e-5
    want = order[[np.argmax(cdf > u) for u in uniform.astype(float)]]
    np.testing.assert_array_equal(drawn.token[clear], want[clear])
    assert clear.sum() > 250
    np.testing.assert_allclose(drawn.drawn_logp, np.log(probs[drawn.token]),
                               atol=1e-5)


def test_ties():
  """Of top-k exactly k, the lower ids; at the edge of top-p and min-p all."""
  logits = jnp.tile(jnp.array([1., 2., 1., 1.]), (400, 1))
  uniform = (jnp.arange(400.) + 0.5) / 400
  for words, want in ((dict(top_k=2), {0, 1}), (dict(top_p=0.6), {0, 1, 2, 3}),
                      (dict(top_k=3, top_p=0.8), {0, 1, 2}),
                      (dict(min_p=0.3678), {0, 1, 2, 3})):
    drawn = draw(logits, uniform, options(**words))
    assert set(np.asarray(drawn.token).tolist()) == want, words


@pytest.mark.parametrize('vocab', [3, 700])
def test_greedy_is_the_first_of_the_largest_whatever_the_uniform(vocab):
  logits = np.zeros((2, vocab), np.float32)
  logits[0, 1:3] = 3.
  logits[1, vocab - 1] = 5.
  uniform = jnp.array([0.99, 0.01])
  drawn = draw(logits, uniform, options(temperature=0))
  assert drawn.token.tolist() == [1, vocab - 1]
  assert drawn.token.dtype == jnp.int32 and not drawn.drawn_logp.any()
  np.testing.assert_allclose(
      drawn.logp, jax.nn.log_softmax(logits).max(-1), rtol=1e-6)
  seen = np.arange(vocab) == np.array([[1], [vocab - 1]])
  punished = draw(logits, uniform,
                  options(temperature=0, repetition_penalty=9.), seen)
  assert punished.token.tolist() == [2, vocab - 1]


@functools.cache
def large():
  rng = np.random.default_rng(1)
  logits = rng.normal(0, 3, (8, LARGE)).astype(np.float32)
  logits[:, rng.random(LARGE) < 0.5] = blocks.MASKED
  edges = (*range(100), *range(LARGE - 100, LARGE))
  return np.asarray(sampling.ban(jnp.array(logits), edges))


@pytest.mark.parametrize('words', [dict(), dict(top_p=0.9), dict(min_p=1e-4)],
                         ids=str)
def test_nothing_impossible_is_drawn_from_a_large_vocabulary(words):
  """At the ends of the uniform, and at every block's first and last id."""
  logits, o = large(), options(**words)
  probs = jax.nn.softmax(logits[:1])[0]
  borders = np.cumsum(np.asarray(probs, np.float64))[::2376].astype(np.float32)
  uniform = np.concatenate([[0., np.nextafter(1, 0, dtype=np.float32)],
                            borders[borders < 1]])
  for u in np.resize(uniform, (9, 8)).astype(np.float32):
    rows = draw(np.tile(logits[:1], (8, 1)), u, o)
    assert (logits[0][rows.token] > -100).all()
    assert np.isfinite(rows.drawn_logp).all()
    assert (np.asarray(rows.drawn_logp) <= 1e-5).all()
  ends = [draw(logits, np.full(8, u, np.float32), o) for u in uniform[:2]]
  for drawn in ends:
    assert (np.take_along_axis(logits, drawn.token[:, None], 1) > -100).all()
  if not words:   # 0 gives the first id there is, the other end a last one
    first = np.argmax(logits > -100, axis=1)
    np.testing.assert_array_equal(ends[0].token, first)
    assert (np.asarray(ends[1].token) > LARGE - 300).all()


def test_log_probs_of_a_large_vocabulary():
  logits = large()[:2] + np.array([[0.], [500.]], np.float32)
  drawn = draw(logits, np.array([0.3, 0.8], np.float32), options())
  exact = logits.astype(np.float64)
  exact -= exact.max(-1, keepdims=True)
  exact -= np.log(np.exp(exact).sum(-1, keepdims=True))
  # 152,064 float32 terms; a float near 500 has no digit below 3e-5.
  np.testing.assert_allclose(
      drawn.entropy, -(np.exp(exact) * exact).sum(-1), atol=1e-4)
  np.testing.assert_allclose(
      drawn.logp, np.take_along_axis(exact, drawn.token[:, None], 1)[:, 0],
      atol=1e-5)


@pytest.mark.parametrize('words', [dict(), dict(top_p=0.9), dict(top_k=40)],
                         ids=str)
def test_a_draw_depends_on_its_own_row(words):
  """Same logits and uniform, same id, alone, among others and in any shape."""
  rng = np.random.default_rng(4)
  logits = rng.normal(0, 1, (12, 3000)).astype(np.float32)
  logits[::2, :20] += 9   # rows whose guess at top-p holds beside others
  uniform = rng.random(12).astype(np.float32)
  o = options(**words)
  whole = draw(logits, uniform, o)
  shaped = draw(logits.reshape(3, 4, -1), uniform.reshape(3, 4), o)
  np.testing.assert_array_equal(shaped.token.ravel(), whole.token)
  for i in (0, 1, 7):
    alone = draw(logits[i], uniform[i], o)
    assert alone.token == whole.token[i]
    # The sums themselves may be in another order.
    np.testing.assert_allclose(alone.drawn_logp, whole.drawn_logp[i], atol=1e-6)


@pytest.mark.parametrize('vocab, shape', [
    (LARGE, (512, 297)), (151_936, (1187, 128)), (262_144, (512, 512)),
    (30, (1, 32)), (5000, (125, 40)), (5003, (157, 32)),
    (152_063, (512, 297))])
def test_blocks_hold_every_id_once(vocab, shape):
  got = jax.eval_shape(blocks.split,
                       jax.ShapeDtypeStruct((2, vocab), 'float32'))
  assert got.shape == (2, *shape)
  if vocab < 6000:
    values = np.arange(vocab, dtype=np.float32)
    flat = np.asarray(blocks.split(values)).ravel()
    np.testing.assert_array_equal(flat[:vocab], values)
    assert (flat[vocab:] == blocks.MASKED).all()


def test_a_penalty_needs_what_was_seen():
  with pytest.raises(ValueError, match='penalty 1.1 needs `seen`'):
    sampling.draw(jnp.zeros((1, 4)), jnp.zeros(1),
                  options(repetition_penalty=1.1))


def test_no_pass_writes_out_or_sorts_the_vocabulary():
  """What the compiled draw holds beside the logits is small beside them."""
  rows, vocab = 4, 65_536
  for words in (dict(temperature=0), dict(), dict(temperature=0.7),
                dict(top_k=50)):
    compiled = draw.lower(jnp.zeros((rows, vocab)), jnp.zeros(rows),
                          options(**words)).compile()
    held = compiled.memory_analysis().temp_size_in_bytes
    assert held < rows * vocab, words   # a quarter of the float32 logits
    text = compiled.as_text()
    assert f'[{rows},{vocab}]' in text
    sorts = [line for line in text.splitlines() if ' sort(' in line]
    assert not any(f',{vocab}]' in line for line in sorts)


def test_log_probs_and_entropy_leave_banned_ids_out():
  logits = np.array([1., 2., 1e6, -1.], np.float32)
  logps, entropy = sampling.log_probs(sampling.ban(jnp.array(logits), (2,)))
  rest = np.exp([1., 2., -1.]) / np.exp([1., 2., -1.]).sum()
  np.testing.assert_allclose(np.exp(logps), [rest[0], rest[1], 0, rest[2]],
                             atol=1e-6)
  np.testing.assert_allclose(entropy, -(rest * np.log(rest)).sum(), rtol=1e-6)


@pytest.mark.parametrize('words, message', [
    (dict(group=0), 'group 0'),
    (dict(top_p=0.), 'top_p 0.0 must lie in'),
    (dict(temperature=-1.), 'temperature -1.0'),
    (dict(stop=()), 'stop must name'),
    (dict(min_p=1.5), 'min_p 1.5 must lie'),
    (dict(repetition_penalty=0.), 'repetition_penalty 0.0 must be'),
    (dict(stop_strings=('a', '')), 'empty string'),
    (dict(draft=-1), 'draft -1 must not be negative'),
])
def test_impossible_options_are_refused(words, message):
  with pytest.raises(ValueError, match=message):
    sampling.Options(**{'group': 1, 'length': 1, 'stop': (0,), **words})
