"""The shared prompt, pads, batching and recomputation change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import types
from medrl.models import decoder
from medrl.models import qwen2_5_vl
from tests.oracles import toy

PROMPTS = [toy.prompt(1, [(56, 84)], 5), toy.prompt(2, words=9),
           toy.prompt(3, [(28, 56), (140, 28)], 3)]
SHAPE = (3, 2, 5)
LENGTHS = np.array([[5, 3], [1, 5], [4, 2]])
MASK = np.arange(5) < LENGTHS[..., None]
TOKENS = np.random.default_rng(0).integers(10, toy.VOCAB, SHAPE, np.int32)
WEIGHTS = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)


@pytest.fixture(scope='module')
def params():
  return toy.params(0)


@pytest.fixture(scope='module')
def rollout():
  return toy.rollout(toy.batch(PROMPTS), TOKENS, MASK)


def loss(params, rollout, path, config):
  logps = path(params, config, rollout)
  logps = toy.chosen(logps, rollout.tokens, rollout.token_mask)
  return jnp.sum(logps * WEIGHTS), logps


value_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True),
                         static_argnums=(2, 3))


@jax.jit
def score(params, rollout):
  logps = toy.shared(params, toy.CONFIG, rollout)
  return toy.chosen(logps, rollout.tokens, rollout.token_mask)


@pytest.fixture(scope='module')
def unshared(params, rollout):
  return value_and_grad(params, rollout, toy.plain, toy.CONFIG)


@pytest.mark.parametrize('remat', ['none', 'full'])
def test_shared_prompt_equals_the_unshared_in_value_and_gradient(
    params, rollout, unshared, remat):
  config = qwen2_5_vl.with_options(toy.CONFIG, remat=remat)
  (_, want), want_grads = unshared
  (_, got), grads = value_and_grad(params, rollout, toy.shared, config)
  np.testing.assert_allclose(got, want, atol=2e-5)
  assert np.abs(want).max() > 3

  def compare(path, got, want):
    scale = np.linalg.norm(want)
    # A key's bias shifts all scores of a query alike: its gradient is rounding.
    if 'key' not in str(path) or 'bias' not in str(path):
      assert scale > 1e-3, path
    assert np.linalg.norm(got - want) <= 1e-5 * max(scale, 1.), path
  jax.tree.map_with_path(compare, grads, want_grads)


def moved(rollout, room, left):
  """A single prompt in `room` places, its pads at the left or the right."""
  batch = rollout.prompt
  extra = room - batch.ids.shape[1]
  width = (extra, 0) if left else (0, extra)
  pad = lambda x: np.pad(x, ((0, 0), width) + ((0, 0),) * (x.ndim - 2))
  patches = batch.media['image']
  slot = np.where(patches.slot < batch.ids.shape[1],
                  patches.slot + extra * left, room).astype(np.int32)
  return rollout._replace(prompt=types.Batch(
      pad(batch.ids), pad(batch.positions), pad(batch.mask),
      {'image': patches._replace(slot=slot)}))


def test_pads_at_the_left_at_the_right_and_none_agree(params):
  single = toy.rollout(toy.batch(PROMPTS[:1]), TOKENS[:1], MASK[:1])
  want = score(params, single)
  room = len(PROMPTS[0].ids) + 6
  for left in (True, False):
    got = score(params, moved(single, room, left))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_permuting_the_batch_permutes_the_result(params, rollout):
  want = np.asarray(score(params, rollout))
  order = np.array([2, 0, 1])
  got = score(params, jax.tree.map(lambda x: x[order], rollout))
  # Equal to the last bit where this was written; not promised by XLA.
  np.testing.assert_allclose(got, want[order], atol=1e-6)
  swapped = rollout._replace(**{
      name: getattr(rollout, name)[:, ::-1]
      for name in ('tokens', 'token_mask', 'positions')})
  np.testing.assert_allclose(score(params, swapped), want[:, ::-1], atol=1e-6)


def test_pads_never_matter(params, rollout):
  want = score(params, rollout)
  batch, patches = rollout.prompt, rollout.prompt.media['image']
  free = ~batch.mask
  assert free.any() and (patches.window == 0).any()
  noise = np.random.default_rng(2)
  other = batch._replace(
      ids=np.where(free, noise.integers(0, toy.VOCAB, free.shape), batch.ids),
      positions=np.where(free[..., None], 77, batch.positions),
      media={'image': patches._replace(
          values=np.where((patches.window == 0)[..., None], 255,
                          patches.values).astype(np.uint8),
          coords=np.where((patches.window == 0)[..., None], 9,
                          patches.coords))})
  other = rollout._replace(
      prompt=other, tokens=np.where(rollout.token_mask, rollout.tokens, 8),
      positions=np.where(rollout.token_mask[..., None], rollout.positions, 3))
  np.testing.assert_array_equal(score(params, other), want)


def test_a_written_image_id_is_no_soft_token(params, rollout):
  tokens = rollout.tokens.copy()
  tokens[:, :, 1] = toy.IMAGE

  written = rollout._replace(tokens=tokens)

  @jax.jit
  def both(params, rollout):
    _, cache = toy.prefill(params, toy.CONFIG, rollout.prompt)
    rest = rollout.positions, rollout.token_mask
    got, _, _ = qwen2_5_vl.forward(params, toy.CONFIG, rollout.tokens, *rest,
                                   cache=cache)
    want, _ = decoder.forward(params['decoder'], toy.CONFIG.text,
                              params['embed'][rollout.tokens], *rest, cache)
    return got, want
  got, want = both(params, written)
  np.testing.assert_allclose(got, want, atol=1e-6)
  # In the prompt, the same id's own embedding is never seen.
  changed = params | {'embed': params['embed'].copy()}
  changed['embed'][toy.IMAGE] += 1
  np.testing.assert_array_equal(score(changed, rollout), score(params, rollout))
  assert (np.abs(score(changed, written) - score(params, written)) > 1e-3).any()


@pytest.mark.parametrize('change, message', [
    ({'hidden': 33}, 'hidden 33 must be a multiple of heads'),
    ({'kv_heads': 3}, 'heads of kv_heads 3'),
    ({'remat': 'some'}, "remat 'some'"),
])
def test_sizes_that_do_not_fit_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(toy.CONFIG.text, **change)
