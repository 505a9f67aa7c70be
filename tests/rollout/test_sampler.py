"""The sampler against full forwards, and what its draws depend on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.models import qwen2_5_vl
from medrl.rl import logps as logps_lib
from medrl.rollout import sampler
from medrl.rollout import sampling
from medrl.trainers import scoring
from tests.oracles import toy

PROMPTS = [toy.prompt(1, [(56, 84)], 5), toy.prompt(2, words=9),
           toy.prompt(3, [(28, 56), (28, 28)], 3)]
NUMBERS = np.array([7, 0, 1000])
BANNED = (toy.START, toy.END, toy.IMAGE, toy.VIDEO)
# A third of the ids stop, so that completions end at all lengths.
OPTIONS = sampling.Options(group=4, length=8, stop=tuple(range(30, 90)),
                           banned=BANNED)
TOLERANCE = 1e-5
scored = jax.jit(toy.plain, static_argnums=(1, 3))


@pytest.fixture(scope='module')
def params():
  return toy.params(0)


@functools.partial(jax.jit, static_argnames='options')
def sample(params, batch, numbers, step=0, options=OPTIONS):
  with jax.default_matmul_precision('highest'):
    key = jax.random.fold_in(jax.random.key(0), step)
    return sampler.rollout(qwen2_5_vl, toy.CONFIG, params, batch, key, numbers,
                           options)


@jax.jit
def begin(params, batch):
  with jax.default_matmul_precision('highest'):
    keys = sampler.member_keys(jax.random.key(0), NUMBERS, OPTIONS.group)
    return sampler.start(qwen2_5_vl, toy.CONFIG, params, batch, keys, OPTIONS)


@functools.partial(jax.jit, static_argnums=2)
def go_on(params, state, steps):
  with jax.default_matmul_precision('highest'):
    return sampler.decode(qwen2_5_vl, toy.CONFIG, params, state, OPTIONS, steps)


@jax.jit
def tell(params, state, tokens, mask):
  with jax.default_matmul_precision('highest'):
    return sampler.extend(qwen2_5_vl, toy.CONFIG, params, state, tokens, mask,
                          OPTIONS)


@pytest.fixture(scope='module')
def batch():
  return toy.batch(PROMPTS)


@pytest.fixture(scope='module')
def rollout(params, batch):
  return jax.tree.map(np.asarray, sample(params, batch, NUMBERS))


def check_scores(params, rollout):
  """Log-probs and entropies equal a full forward's, without banned ids."""
  want = scored(params, toy.CONFIG, rollout, BANNED)
  mask = rollout.action_mask
  np.testing.assert_allclose(
      rollout.logps, toy.chosen(want, rollout.tokens, mask), atol=TOLERANCE)
  entropy = -jnp.sum(jnp.where(jnp.isneginf(want), 0, jnp.exp(want) * want), -1)
  np.testing.assert_allclose(rollout.entropy, jnp.where(mask, entropy, 0),
                             atol=TOLERANCE)


def test_cached_decoding_equals_a_full_forward(params, rollout):
  check_scores(params, rollout)
  assert (rollout.logps[rollout.action_mask] < -1).any()


def test_the_scorer_of_the_update_agrees(params, rollout):
  scorer = scoring.Scorer(qwen2_5_vl, toy.CONFIG, jnp.float32, 64, BANNED,
                         logps_lib.token_logps)
  score = jax.jit(lambda p, r: scoring.policy_logps(scorer, p, r))
  with jax.default_matmul_precision('highest'):
    logps, entropy = score(params, rollout)
  np.testing.assert_allclose(logps, rollout.logps, atol=TOLERANCE)
  np.testing.assert_allclose(entropy, rollout.entropy, atol=TOLERANCE)


def test_greedy_takes_the_best_of_a_full_forward(params, batch):
  options = dataclasses.replace(OPTIONS, temperature=0., stop=(1,))
  rollout = sample(params, batch, NUMBERS, options=options)
  best = scored(params, toy.CONFIG, rollout, BANNED).argmax(-1)
  assert rollout.action_mask.sum() > 6
  np.testing.assert_array_equal(
      jnp.where(rollout.action_mask, best, options.pad), rollout.tokens)


def test_a_stop_id_ends_a_completion_and_belongs_to_it(rollout):
  stops = np.isin(rollout.tokens, OPTIONS.stop) & rollout.action_mask
  lengths = rollout.action_mask.sum(-1)
  assert len(set(lengths.ravel().tolist())) > 3
  for i in np.ndindex(lengths.shape):
    n = lengths[i]
    assert rollout.action_mask[i][:n].all()
    assert not stops[i][:n - 1].any()
    assert stops[i][n - 1] == rollout.finished[i]
    assert rollout.finished[i] or n == OPTIONS.length
    assert (rollout.tokens[i][n:] == OPTIONS.pad).all()
    assert not rollout.logps[i][n:].any() and not rollout.entropy[i][n:].any()
  np.testing.assert_array_equal(rollout.token_mask, rollout.action_mask)


def test_draws_do_not_depend_on_the_batch(params, batch, rollout):
  order = np.array([2, 0, 1])
  permuted = sample(params, jax.tree.map(lambda x: x[order], batch),
                    NUMBERS[order])
  np.testing.assert_array_equal(permuted.tokens, rollout.tokens[order])
  others = toy.batch([PROMPTS[1], toy.prompt(9, [(112, 140)])])
  got = sample(params, others, np.array([NUMBERS[1], 5]))
  np.testing.assert_array_equal(got.tokens[0], rollout.tokens[1])
  np.testing.assert_allclose(got.logps[0], rollout.logps[1], atol=TOLERANCE)


def test_member_0_is_the_same_in_a_group_of_one(params, batch, rollout):
  alone = sample(params, batch, NUMBERS,
                 options=dataclasses.replace(OPTIONS, group=1))
  np.testing.assert_array_equal(alone.tokens[:, 0], rollout.tokens[:, 0])


def test_draws_depend_on_step_prompt_and_member(params, batch, rollout):
  def differ(a, b):
    return (np.asarray(a) != np.asarray(b)).any()
  assert differ(sample(params, batch, NUMBERS, 1).tokens, rollout.tokens)
  assert differ(sample(params, batch, NUMBERS + 1).tokens, rollout.tokens)
  for p in range(3):
    assert len({tuple(t.tolist()) for t in rollout.tokens[p]}) == 4


@pytest.fixture(scope='module')
def extended(params, batch):
  """Two tokens of the policy, up to three of a tool, two of the policy."""
  state = go_on(params, begin(params, batch), 2)
  tokens = np.random.default_rng(3).integers(10, toy.VOCAB, (3, 4, 3), np.int32)
  count = np.where(state.done, 0, np.array([3, 2, 0, 1]))
  mask = np.arange(3) < count[..., None]
  state = go_on(params, tell(params, state, tokens, mask), 2)
  return tokens, mask, jax.tree.map(np.asarray, sampler.finish(batch, state))


def test_extend_equals_a_full_forward_with_the_tokens_forced(params, extended):
  tokens, mask, rollout = extended
  given = slice(2, 5)
  assert mask.any() and rollout.action_mask[..., 5:].any()
  np.testing.assert_array_equal(rollout.tokens[..., given][mask], tokens[mask])
  np.testing.assert_array_equal(rollout.token_mask[..., given], mask)
  assert not rollout.action_mask[..., given].any()
  assert not rollout.logps[..., given].any()
  check_scores(params, rollout)


def test_positions_go_on_through_holes(extended):
  rollout = extended[-1]
  start = np.where(rollout.prompt.mask[..., None], rollout.prompt.positions,
                   -1).max((1, 2)) + 1
  for i in np.ndindex(rollout.tokens.shape[:2]):
    own = rollout.positions[i][rollout.token_mask[i]]
    want = start[i[0]] + np.arange(len(own))
    np.testing.assert_array_equal(own, np.repeat(want[:, None], 3, 1))


def test_pads_of_a_tools_text_change_no_draw(params, batch, extended):
  tokens, mask, rollout = extended
  state = go_on(params, begin(params, batch), 2)
  wider = lambda x: np.pad(x, ((0, 0), (0, 0), (0, 1)))
  state = tell(params, state, wider(tokens), wider(mask))
  got = sampler.finish(batch, go_on(params, state, 2))
  np.testing.assert_array_equal(got.tokens[..., 6:], rollout.tokens[..., 5:7])


def test_decoding_ends_when_all_are_done(params, batch):
  state = begin(params, batch)
  ended = go_on(params, state._replace(done=jnp.ones((3, 4), bool)), 2)
  assert ended.slot == 0 and not ended.written.any() and not ended.filled.any()
  assert (np.asarray(ended.tokens) == OPTIONS.pad).all()
  one = state._replace(done=jnp.arange(12).reshape(3, 4) != 5)
  got = np.asarray(go_on(params, one, 2).written)
  assert got[1, 1, 0] and got.sum() == got[1, 1].sum()


def test_banned_ids_are_never_written(params, batch):
  loud = params | {'head': params['head'].copy()}
  loud['head'][::2] *= 50
  options = dataclasses.replace(
      OPTIONS, stop=(1,), banned=tuple(range(0, toy.VOCAB, 2)))
  got = sample(loud, batch, NUMBERS, options=options)
  assert (got.tokens % 2 == 1)[got.action_mask].all()
  # What would have been written instead.
  assert (scored(loud, toy.CONFIG, got, BANNED).argmax(-1) % 2 == 0).all()
