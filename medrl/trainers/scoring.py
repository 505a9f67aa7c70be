"""Parameters and tokens -> log-probs, through the model. No loss is here."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from medrl import params as params_lib
from medrl import types


@dataclasses.dataclass(frozen=True)
class Scorer:
  """What turns parameters and tokens into log-probs; all static.

  `logps` is `rl.logps.token_logps`; `banned` ids are outside the policy.
  """
  family: Any
  config: Any
  dtype: Any
  chunk: int
  banned: tuple[int, ...]
  logps: Callable


def policy_logps(scorer: Scorer, params, rollout: types.Rollout):
  """Log-prob and entropy [P, G, T] of each token of a rollout.

  The prompt is encoded once per group and completions attend to it, as they
  did while they were sampled.
  """
  family, config = scorer.family, scorer.config
  params = params_lib.cast(params, scorer.dtype)
  prompt = rollout.prompt
  soft = family.encode(params, config, prompt.media)
  hidden, cache, _ = family.forward(
      params, config, prompt.ids[:, None], prompt.positions[:, None],
      prompt.mask[:, None], soft=soft)
  last = jnp.max(jnp.where(prompt.mask, jnp.arange(prompt.mask.shape[1]), 0),
                 axis=1)
  first = jnp.take_along_axis(hidden, last[:, None, None, None], axis=2)
  group, length = rollout.tokens.shape[1:]
  first = jnp.broadcast_to(first, (first.shape[0], group, *first.shape[2:]))
  written, _, _ = family.forward(params, config, rollout.tokens,
                                 rollout.positions, rollout.token_mask,
                                 cache=cache)
  # A token follows the last one before it that is there; -1 is the prompt.
  places = jnp.where(rollout.token_mask, jnp.arange(length), -1)
  before = jax.lax.cummax(places, axis=2)[..., :-1]
  before = jnp.pad(before, ((0, 0), (0, 0), (1, 0)), constant_values=-1)
  states = jnp.concatenate([first, written], axis=2)
  states = jnp.take_along_axis(states, before[..., None] + 1, axis=2)
  return _logps(scorer, params, states, rollout.tokens, rollout.action_mask)


def packed_logps(scorer: Scorer, params, packed: types.Packed):
  """Log-prob and entropy [R, S] of the learned tokens of packed rows.

  A demonstration stands behind its prompt, so what predicts its first token is
  the prompt's last, of the same segment.
  """
  family, config = scorer.family, scorer.config
  params = params_lib.cast(params, scorer.dtype)
  prompt = packed.prompt
  soft = family.encode(params, config, prompt.media)
  hidden, _, _ = family.forward(
      params, config, prompt.ids[:, None], prompt.positions[:, None],
      prompt.mask[:, None], soft=soft, segments=packed.segments[:, None])
  before = jnp.roll(hidden[:, 0], 1, axis=1)
  return _logps(scorer, params, before, prompt.ids, packed.target)


def _logps(scorer: Scorer, params, states, tokens, mask):
  """Log-prob and entropy of tokens given the states before them, 0 where the
  mask is False."""
  banned = None
  if scorer.banned:
    banned = jnp.zeros(scorer.config.text.vocab, bool).at[
        jnp.array(scorer.banned)].set(True)
  # A place that holds no token has a pad there, which may be banned.
  logps, entropy = scorer.logps(
      states, scorer.family.head(params, scorer.config),
      jnp.where(mask, tokens, 0), chunk=scorer.chunk, banned=banned)
  return jnp.where(mask, logps, 0.), jnp.where(mask, entropy, 0.)


def given(batch: types.Batch, tokens, mask) -> types.Rollout:
  """Demonstrations [P, T] as a rollout with one completion a prompt."""
  reach = jnp.max(jnp.where(batch.mask[..., None], batch.positions, -1),
                  axis=(1, 2))
  positions = reach[:, None] + 1 + jnp.arange(tokens.shape[1])
  zeros = jnp.zeros(tokens.shape, jnp.float32)[:, None]
  return types.Rollout(
      prompt=batch, tokens=tokens[:, None], action_mask=mask[:, None],
      token_mask=mask[:, None],
      positions=jnp.repeat(positions[:, None, :, None], 3, axis=-1),
      logps=zeros, drawn_logps=zeros, entropy=zeros,
      finished=jnp.ones((tokens.shape[0], 1), bool))
