"""The sampler: start, extend, decode on one documented state.

A prompt is encoded once per group. `extend` writes given tokens (what a tool
says) into the same state that `decode` goes on from. Draws are keyed by
(step, prompt, member, position) alone, so they depend on no batch, mesh or
order. The model family comes as an argument; nothing here trains.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import types
from medrl.rollout import sampling


class State(NamedTuple):
  """All that decoding needs to go on. C is the number of slots a completion
  has; every member of every group is at the same slot."""
  cache: Any         # the family's cache, with room for C tokens
  logits: Any        # float32 [P, G, V]: of the next token, without banned ids
  tokens: Any        # int32 [P, G, C]
  written: Any       # bool [P, G, C]: the policy wrote this slot
  filled: Any        # bool [P, G, C]: there is a token in this slot
  logps: Any         # float32 [P, G, C]
  drawn_logps: Any   # float32 [P, G, C]
  entropy: Any       # float32 [P, G, C]
  position: Any      # int32 [P, G]: rotary position of the next token
  done: Any          # bool [P, G]
  slot: Any          # int32 []: the next slot
  key: Any           # typed keys [P, G]


def member_keys(key, prompts, group: int):
  """One key per (prompt, member): `key` already holds the step.

  Args:
    key: a typed key.
    prompts: int32 [P], the prompts' numbers in the whole run or batch.
    group: G.
  """
  def one(prompt, member):
    return jax.random.fold_in(jax.random.fold_in(key, prompt), member)
  members = jnp.arange(group)
  return jax.vmap(lambda p: jax.vmap(lambda m: one(p, m))(members))(prompts)


def _next_logits(family, params, config, hidden, options):
  logits = jnp.einsum('pgd,dv->pgv', hidden, family.head(params, config),
                      preferred_element_type=jnp.float32)
  return sampling.ban(logits, options.banned)


def start(family, config, params, batch: types.Batch, keys,
          options: sampling.Options) -> State:
  """Encodes the prompts and gives each group room for its completions.

  Args:
    family: a model module.
    config: its config.
    params: in the compute dtype.
    batch: P prompts.
    keys: [P, G] from `member_keys`.
    options: static.

  Raises:
    ValueError: an option that `slots` alone has.
  """
  asked = [n for n, there in (
      ('stop_strings', options.stop_strings), ('capture', options.capture),
      ('repetition_penalty', options.repetition_penalty != 1),
      ('budget', batch.budget is not None)) if there]
  if asked:
    raise ValueError(f'the sampler in lockstep knows no {", ".join(asked)}; '
                     f'medrl.rollout.slots.rollout does')
  soft = family.encode(params, config, batch.media)
  hidden, cache, _ = family.forward(
      params, config, batch.ids[:, None], batch.positions[:, None],
      batch.mask[:, None], soft=soft)
  prompts, group, length = batch.ids.shape[0], options.group, options.length
  last = jnp.maximum(jnp.where(batch.mask, jnp.arange(batch.mask.shape[1]), -1
                               ).max(axis=1), 0)
  hidden = jnp.take_along_axis(hidden[:, 0], last[:, None, None], axis=1)
  logits = _next_logits(family, params, config, hidden, options)
  reach = jnp.max(jnp.where(batch.mask[..., None], batch.positions, -1),
                  axis=(1, 2))
  shape = (prompts, group, length)
  return State(
      cache=family.init_cache(config, cache, group, length),
      logits=jnp.broadcast_to(logits, (prompts, group, logits.shape[-1])),
      tokens=jnp.full(shape, options.pad, jnp.int32),
      written=jnp.zeros(shape, bool), filled=jnp.zeros(shape, bool),
      logps=jnp.zeros(shape, jnp.float32),
      drawn_logps=jnp.zeros(shape, jnp.float32),
      entropy=jnp.zeros(shape, jnp.float32),
      position=jnp.broadcast_to(reach[:, None] + 1, (prompts, group)),
      done=jnp.zeros((prompts, group), bool),
      slot=jnp.zeros((), jnp.int32), key=keys)


def extend(family, config, params, state: State, tokens, mask,
           options: sampling.Options) -> State:
  """Writes given tokens behind what is there; the policy did not write them.

  Args:
    tokens: int32 [P, G, E].
    mask: bool [P, G, E]; at the right False where a completion gets less, or
      nothing (a completion that is done).
  """
  run = jnp.cumsum(mask, axis=-1) - 1
  positions = state.position[..., None] + jnp.maximum(run, 0)
  hidden, cache, _ = family.forward(
      params, config, tokens, jnp.repeat(positions[..., None], 3, axis=-1),
      mask, cache=state.cache)
  count = jnp.sum(mask, axis=-1)
  last = jnp.maximum(count - 1, 0)[..., None, None]
  logits = _next_logits(
      family, params, config,
      jnp.take_along_axis(hidden, last, axis=2)[:, :, 0], options)
  at = (0, 0, state.slot)
  return state._replace(
      cache=cache,
      logits=jnp.where((count > 0)[..., None], logits, state.logits),
      tokens=jax.lax.dynamic_update_slice(state.tokens, tokens, at),
      filled=jax.lax.dynamic_update_slice(state.filled, mask, at),
      position=state.position + count,
      slot=state.slot + tokens.shape[-1])


def decode(family, config, params, state: State, options: sampling.Options,
           steps: int) -> State:
  """Lets the policy write up to `steps` tokens; ends early when all are done.
  """
  end = state.slot + steps
  stop = jnp.array(options.stop)

  def going(s):
    return (s.slot < end) & ~jnp.all(s.done)

  def write(s):
    # By position, not by slot: slots also count the pads of others' tool text.
    uniform = jax.vmap(jax.vmap(
        lambda k, at: jax.random.uniform(jax.random.fold_in(k, at))
    ))(s.key, s.position)
    drawn = sampling.draw(s.logits, uniform, options)
    alive = ~s.done
    token = jnp.where(alive, drawn.token, options.pad)
    put = lambda whole, new: jax.lax.dynamic_update_slice(
        whole, new[..., None].astype(whole.dtype), (0, 0, s.slot))
    positions = jnp.repeat(s.position[..., None, None], 3, axis=-1)
    hidden, cache, _ = family.forward(
        params, config, token[..., None], positions, alive[..., None],
        cache=s.cache)
    return s._replace(
        cache=cache,
        logits=_next_logits(family, params, config, hidden[:, :, 0], options),
        tokens=put(s.tokens, token), written=put(s.written, alive),
        filled=put(s.filled, alive),
        logps=put(s.logps, jnp.where(alive, drawn.logp, 0.)),
        drawn_logps=put(s.drawn_logps,
                        jnp.where(alive, drawn.drawn_logp, 0.)),
        entropy=put(s.entropy, jnp.where(alive, drawn.entropy, 0.)),
        position=s.position + alive,
        done=s.done | jnp.isin(drawn.token, stop), slot=s.slot + 1)

  return jax.lax.while_loop(going, write, state)


def finish(batch: types.Batch, state: State) -> types.Rollout:
  """What was written, in the form that scoring and the update take."""
  count = jnp.cumsum(state.filled, axis=-1)
  first = state.position - count[..., -1]
  positions = first[..., None] + jnp.maximum(count - 1, 0)
  return types.Rollout(
      prompt=batch, tokens=state.tokens, action_mask=state.written,
      token_mask=state.filled,
      positions=jnp.repeat(positions[..., None], 3, axis=-1),
      logps=state.logps, drawn_logps=state.drawn_logps, entropy=state.entropy,
      finished=state.done, passes=jnp.sum(state.filled, axis=-1),
      capacity=jnp.full(len(batch.ids), state.slot * state.done.shape[1],
                        jnp.float32),
      captured=jnp.zeros((*state.tokens.shape, 0), jnp.float32))


def rollout(family, config, params, batch: types.Batch, key, prompts,
            options: sampling.Options) -> types.Rollout:
  """Prompts to completions in one program: start, decode, finish."""
  keys = member_keys(key, prompts, options.group)
  state = start(family, config, params, batch, keys, options)
  state = decode(family, config, params, state, options, options.length)
  return finish(batch, state)
