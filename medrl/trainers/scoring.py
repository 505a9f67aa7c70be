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
  `layout` says how completions stand: 'beside' their prompt's cache, or
  'behind' the prompt in one row, which is what `splash` takes. `parts` are
  those of the mesh that hold prompts of their own.
  """
  family: Any
  config: Any
  dtype: Any
  chunk: int
  banned: tuple[int, ...]
  logps: Callable
  layout: str = 'beside'
  parts: int = 1

  def __post_init__(self):
    if self.layout not in ('beside', 'behind'):
      raise ValueError(f'layout {self.layout!r} is not beside or behind')


def policy_logps(scorer: Scorer, params, rollout: types.Rollout, source=None,
                 entropy: bool = True):
  """Log-prob and entropy [P, G, T] of each token of a rollout.

  The prompt is encoded once per group and completions attend to it, as they
  did while they were sampled.

  Args:
    scorer: static.
    params: any dtype.
    rollout: what to score.
    source: None, or packed rows of `rows.plan`, which leave pads out.
    entropy: whether it is wanted; else it is None, and costs nothing.
  """
  params = params_lib.cast(params, scorer.dtype)
  if source is not None:
    return _packed(scorer, params, rollout, source, entropy)
  if scorer.layout == 'behind':
    first, written = _behind(scorer, params, rollout)
  else:
    first, cache = _prefilled(scorer, params, rollout.prompt)
    written, _, _ = scorer.family.forward(
        params, scorer.config, rollout.tokens, rollout.positions,
        rollout.token_mask, cache=cache)
  group, length = rollout.tokens.shape[1:]
  first = jnp.broadcast_to(first[:, None, None],
                           (len(first), group, 1, first.shape[-1]))
  # A token follows the last one before it that is there; -1 is the prompt.
  places = jnp.where(rollout.token_mask, jnp.arange(length), -1)
  before = jax.lax.cummax(places, axis=2)[..., :-1]
  before = jnp.pad(before, ((0, 0), (0, 0), (1, 0)), constant_values=-1)
  states = jnp.concatenate([first, written], axis=2)
  states = jnp.take_along_axis(states, before[..., None] + 1, axis=2)
  return _logps(scorer, params, states, rollout.tokens, rollout.action_mask,
                entropy)


def _prefilled(scorer: Scorer, params, prompt: types.Batch):
  """The last hidden state [P, D] of prompts, and their cache."""
  soft = scorer.family.encode(params, scorer.config, prompt.media)
  hidden, cache, _ = scorer.family.forward(
      params, scorer.config, prompt.ids[:, None], prompt.positions[:, None],
      prompt.mask[:, None], soft=soft)
  return _last(hidden[:, 0], prompt.mask), cache


def _last(hidden, mask):
  """The hidden state [P, D] of each prompt's last token, of [P, S, D]."""
  last = jnp.max(jnp.where(mask, jnp.arange(mask.shape[1]), 0), axis=1)
  return jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]


def _behind(scorer: Scorer, params, rollout: types.Rollout):
  """Prompt and completions in one row: last prompt states [P, D], and those of
  completion tokens [P, G, T, D]."""
  prompt = rollout.prompt
  (rows, length), group = prompt.ids.shape, rollout.tokens.shape[1:]
  def joined(before, written):
    written = written.reshape(rows, -1, *written.shape[3:])
    return jnp.concatenate([before, written], axis=1)[:, None]
  ids = joined(prompt.ids, rollout.tokens)
  # What pads the soft tokens has the place S, where a completion now begins.
  soft = {name: (tokens, jnp.where(slot < length, slot, ids.shape[2]))
          for name, (tokens, slot) in scorer.family.encode(
              params, scorer.config, prompt.media).items()}
  hidden, _, _ = scorer.family.forward(
      params, scorer.config, ids,
      joined(prompt.positions, rollout.positions),
      joined(prompt.mask, rollout.token_mask), soft=soft,
      groups=(length, group[1], group[0]))
  return (_last(hidden[:, 0, :length], prompt.mask),
          hidden[:, 0, length:].reshape(rows, *group, -1))


def _packed(scorer: Scorer, params, rollout: types.Rollout, source, entropy):
  """As `policy_logps`, over rows without pads.

  Args:
    scorer, params, rollout, entropy: as there.
    source: int32 [R, M], the token that stands in each place, numbered within
      the prompts of its part of the mesh as p G T + g T + t; their number is a
      pad. Tokens of a completion are neighbours, in order.
  """
  parts, (prompts, group, length) = scorer.parts, rollout.tokens.shape
  tokens = prompts // parts * group * length
  source = source.reshape(parts, -1, source.shape[-1])
  real = source < tokens
  def packed(x):
    x = x.reshape(parts, tokens, *x.shape[3:])
    return _take(x, jnp.where(real, source, 0))
  first, cache = _prefilled(scorer, params, rollout.prompt)
  ids, completion = packed(rollout.tokens), source // length
  hidden, _, _ = scorer.family.forward(
      params, scorer.config, ids, packed(rollout.positions), real,
      cache=scorer.family.share(cache, parts), segments=completion,
      place=source, columns=group * length)
  begins = completion != jnp.pad(completion, ((0, 0), (0, 0), (1, 0)),
                                 constant_values=-1)[..., :-1]
  prompt = jnp.minimum(completion // group, prompts // parts - 1)
  first = _take(first.reshape(parts, -1, first.shape[-1]), prompt)
  states = jnp.where(begins[..., None], first, jnp.roll(hidden, 1, axis=2))
  found = _logps(scorer, params, states, ids,
                 packed(rollout.action_mask) & real, entropy)
  def unpacked(x):
    if x is None:
      return None
    empty = jnp.zeros((parts, tokens), x.dtype)
    x = jax.vmap(lambda e, at, v: e.at[at].set(v, mode='drop'))(
        empty, source.reshape(parts, -1), x.reshape(parts, -1))
    return x.reshape(prompts, group, length)
  return tuple(map(unpacked, found))


def _take(x, index):
  """x [A, n, ...] at index [A, ...], part by part."""
  return jax.vmap(lambda x, at: x[at])(x, index)


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


def _logps(scorer: Scorer, params, states, tokens, mask, entropy=True):
  """Log-prob and entropy of tokens given the states before them, 0 where the
  mask is False."""
  banned = None
  if scorer.banned:
    banned = jnp.zeros(scorer.config.text.vocab, bool).at[
        jnp.array(scorer.banned)].set(True)
  # A place that holds no token has a pad there, which may be banned.
  found = scorer.logps(
      states, scorer.family.head(params, scorer.config),
      jnp.where(mask, tokens, 0), chunk=scorer.chunk, banned=banned,
      entropy=entropy)
  return tuple(None if x is None else jnp.where(mask, x, 0.) for x in found)


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
      finished=jnp.ones((tokens.shape[0], 1), bool),
      passes=jnp.sum(mask, axis=-1, keepdims=True),
      capacity=jnp.full(tokens.shape[0], tokens.shape[1], jnp.float32),
      captured=jnp.zeros((tokens.shape[0], 1, tokens.shape[1], 0)))
