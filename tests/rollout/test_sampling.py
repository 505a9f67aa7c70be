"""Draws against longhand inverse CDFs and transformers' logits warpers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from medrl.rollout import sampling

LARGE = 152_064  # the vocabulary of Qwen2.5-VL-7B
WORDS = [dict(), dict(temperature=0.5), dict(temperature=1.7, top_k=5),
         dict(top_p=0.8), dict(temperature=0.7, top_k=9, top_p=0.6),
         dict(top_p=0.01), dict(top_k=1), dict(top_k=1000)]


def options(**words):
  return sampling.Options(group=1, length=1, stop=(0,), **words)


def warped(logits, o):
  """The distribution that transformers would sample from, float64."""
  x = torch.tensor(logits, dtype=torch.float64)[None]
  x = transformers.TemperatureLogitsWarper(o.temperature)(None, x)
  if o.top_k:
    x = transformers.TopKLogitsWarper(o.top_k)(None, x)
  if o.top_p < 1:
    x = transformers.TopPLogitsWarper(o.top_p)(None, x)
  return torch.softmax(x, -1)[0].numpy()


@pytest.mark.parametrize('words', WORDS, ids=str)
def test_frequencies_equal_the_probabilities(words):
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 2, 30).astype(np.float32)
  banned = (3, 17)
  o = options(**words, banned=banned)
  want = warped(np.where(np.isin(np.arange(30), banned), -np.inf, logits), o)
  n = 4000
  uniform = (np.arange(n, dtype=np.float32) + 0.5) / n
  logits = sampling.ban(jnp.tile(logits, (n, 1)), banned)
  drawn = np.asarray(sampling.draw(logits, uniform, o))
  # Longhand: the first id whose cumulative probability exceeds the uniform.
  cdf = np.cumsum(want)
  np.testing.assert_array_equal(
      drawn, [np.argmax(cdf / cdf[-1] > u) for u in uniform.astype(float)])
  # A grid of uniforms hits an interval to within one point at each end.
  counts = np.bincount(drawn, minlength=30)
  np.testing.assert_allclose(counts / n, want, atol=1.01 / n)
  assert not counts[want == 0].any()


def test_ties_at_the_edge_are_all_kept():
  logits = jnp.tile(jnp.array([2., 1., 1., 1.]), (400, 1))
  uniform = (jnp.arange(400.) + 0.5) / 400
  for words in (dict(top_k=2), dict(top_p=0.6)):
    drawn = sampling.draw(logits, uniform, options(**words))
    assert set(np.asarray(drawn).tolist()) == {0, 1, 2, 3}


def test_greedy_is_the_largest_whatever_the_uniform():
  logits = jnp.array([[0., 3., 1.], [5., 4., -1.]])
  drawn = sampling.draw(logits, jnp.array([0.99, 0.01]), options(temperature=0))
  assert drawn.tolist() == [1, 0] and drawn.dtype == jnp.int32


@pytest.mark.parametrize('uniform', [0., np.nextafter(1, 0, dtype=np.float32)])
def test_the_ends_of_the_uniform_draw_nothing_impossible(uniform):
  rng = np.random.default_rng(1)
  logits = rng.normal(0, 3, (8, LARGE)).astype(np.float32)
  edges = (*range(100), *range(LARGE - 100, LARGE))
  drawn = sampling.draw(sampling.ban(jnp.array(logits), edges),
                        jnp.full(8, uniform), options())
  assert not np.isin(drawn, edges).any()


def test_rounding_of_a_large_cdf_draws_nothing_impossible():
  """A parallel sum rounds differently from one id to the next."""
  rng = np.random.default_rng(2)
  logits = rng.normal(0, 3, LARGE).astype(np.float32)
  logits[rng.random(LARGE) < 0.5] = sampling.MASKED
  probs = jax.nn.softmax(logits)
  cdf = np.asarray(jnp.cumsum(probs))
  highest = np.maximum.accumulate(np.r_[0, cdf[:-1]])
  raised = np.flatnonzero((cdf > highest) & (np.asarray(probs) == 0))[:32]
  # Uniforms that fall between an impossible id and all that stand before it.
  uniform = jnp.array(highest[raised] / cdf[-1])
  drawn = sampling.draw(jnp.tile(logits, (len(raised), 1)), uniform, options())
  assert (np.asarray(probs)[drawn] > 0).all()


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
])
def test_impossible_options_are_refused(words, message):
  with pytest.raises(ValueError, match=message):
    sampling.Options(**{'group': 1, 'length': 1, 'stop': (0,), **words})
