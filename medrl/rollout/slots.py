"""The sampler whose decode slots are refilled: one program for a whole batch.

A fixed number of slots writes a token (or, with a draft, several) an iteration.
A completion that ends leaves its slot to the next one that waits; prompts are
encoded in chunks, as rows for their keys become free. So one long completion
idles its own slot and not the batch. All of it runs on the device; no number
crosses to the host in between. Draws are keyed by (step, prompt, member,
position) alone: what is written depends on no schedule and equals `sampler`'s.
The model family comes as an argument; nothing here trains.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import types
from medrl.rollout import draft as draft_lib
from medrl.rollout import sampler
from medrl.rollout import sampling
from medrl.rollout import slot_draws
from medrl.rollout import slot_state

Plan, Sampler, State = slot_state.Plan, slot_state.Sampler, slot_state.State
put, take = slot_state.put, slot_state.take


class Limits(NamedTuple):
  """What holds for single completions. None where nothing does.

  Forced tokens stand at a completion's start, count towards its budget, end
  nothing and are not the policy's.
  """
  budget: Any = None         # int32 [P, G]: tokens, at least 1; the batch's
                             # own where None
  forced: Any = None         # int32 [P, G, F]
  forced_count: Any = None   # int32 [P, G]
  stops: Any = None          # stops.Stops of options.stop_strings


def rollout(family, config, params, batch: types.Batch, key, prompts,
            options: sampling.Options, limits: Limits = Limits()
            ) -> types.Rollout:
  """Prompts to completions in one program.

  Args:
    family: a model module.
    config: its config.
    params: in the compute dtype.
    batch: P prompts; their rows divide over `options.parts`.
    key: typed, of the step.
    prompts: int32 [P], the prompts' numbers in the run or batch.
    options: static; `slots`, `resident` and `chunk` count over all parts.
    limits: of single completions.
  """
  s = _static(family, config, options, len(batch.ids))
  plan = _plan(s, batch, key, prompts, limits)
  state = slot_state.begin(s, params, plan)

  def going(state):
    return jnp.any((state.slots.ticket < s.tickets).any(-1)
                   | (state.taken < s.tickets))

  def iteration(state):
    state = jax.lax.while_loop(
        lambda x: jnp.any(_ready(s, x)[1]),
        lambda x: _encode(s, params, plan, x), state)
    state, last = slot_draws.write(s, params, plan, _refill(s, plan, state))
    return _forward(s, params, plan, state, last)

  return _finish(s, batch, plan, jax.lax.while_loop(going, iteration, state))


def _static(family, config, options, prompts: int) -> Sampler:
  parts = options.parts
  def share(name, number, most):
    number = number or most
    if number % parts:
      raise ValueError(
          f'{name} {number} does not divide over the {parts} parts of the mesh;'
          f' change it, or mesh.data and mesh.fsdp')
    return min(number, most) // parts
  rows = share('rollout.resident', options.resident, prompts)
  return Sampler(
      family, config, options, parts,
      share('rollout.prompts', prompts, prompts),
      share('rollout.slots', options.slots, prompts * options.group), rows,
      min(share('rollout.chunk', options.chunk, rows * parts), rows))


def _plan(s: Sampler, batch, key, prompts, limits: Limits) -> Plan:
  def by_part(x):
    return x.reshape(s.parts, -1, *x.shape[1:])
  def by_ticket(x):
    return x.reshape(s.parts, s.tickets, *x.shape[2:])
  group, full = s.options.group, (len(batch.ids), s.options.group)
  length = s.options.length
  budget = limits.budget
  if budget is None:
    own = batch.budget
    budget = jnp.broadcast_to(
        jnp.int32(length) if own is None else own[:, None], full)
  forced, count = limits.forced, limits.forced_count
  if forced is None:
    forced, count = jnp.zeros((*full, 0), jnp.int32), jnp.zeros(full, jnp.int32)
  reach = jnp.max(jnp.where(batch.mask[..., None], batch.positions, -1),
                  axis=(1, 2))
  keys = jax.random.key_data(sampler.member_keys(key, prompts, group))
  plain = batch._replace(budget=None)
  return Plan(jax.tree.map(by_part, plain), by_part(reach + 1),
              by_ticket(keys), by_ticket(jnp.minimum(budget, length)),
              by_ticket(forced), by_ticket(count),
              jax.tree.map(jnp.asarray, limits.stops))


def _ready(s: Sampler, state: State):
  """How many prompts each part should encode now, and where that is worth it.
  """
  wanted = jnp.minimum(s.chunk, s.prompts - state.loaded)
  free = jnp.sum(state.left == 0, axis=-1)
  return jnp.minimum(wanted, free), (wanted > 0) & (free >= wanted)


def _encode(s: Sampler, params, plan: Plan, state: State) -> State:
  """The next chunk of prompts, into free rows."""
  count, _ = _ready(s, state)
  index = jnp.arange(s.chunk)
  numbers = state.loaded[:, None] + index
  real = index < count[:, None]
  # Taken by number also where a chunk is all of them: what did not depend on
  # the loop, XLA would move out of it, and run at every token.
  part = jax.tree.map(
      lambda x: take(x, jnp.minimum(numbers, s.prompts - 1)), plan.batch)
  part = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part)
  soft = s.family.encode(params, s.config, part.media)
  hidden, cache, _ = s.family.forward(
      params, s.config, part.ids[:, None], part.positions[:, None],
      part.mask[:, None], soft=soft)
  length = part.mask.shape[1]
  last = jnp.max(jnp.where(part.mask, jnp.arange(length), 0), axis=1)
  hidden = jnp.take_along_axis(hidden[:, 0], last[:, None, None], axis=1)
  # Free rows first, in their order.
  rows = jnp.argsort(state.left > 0, axis=-1, stable=True)[:, :s.chunk]
  rows = jnp.where(real, rows, s.rows)
  return state._replace(
      cache=s.family.admit(state.cache, cache, rows),
      first=put(state.first, rows,
                 hidden.reshape(s.parts, s.chunk, hidden.shape[-1])),
      left=put(state.left, rows, s.options.group),
      row_of=put(state.row_of, jnp.where(real, numbers, s.prompts), rows),
      loaded=state.loaded + count)


def _refill(s: Sampler, plan: Plan, state: State) -> State:
  """Gives idle slots the next completions whose prompts are encoded."""
  o, slots = s.options, state.slots
  idle = slots.ticket == s.tickets
  ticket = state.taken[:, None] + jnp.cumsum(idle, axis=-1) - 1
  new = idle & (ticket < (state.loaded * o.group)[:, None])
  ticket = jnp.where(new, ticket, slots.ticket)
  prompt = jnp.minimum(ticket, s.tickets - 1) // o.group
  row = take(state.row_of, prompt)
  def fresh(value, old):
    return jnp.where(new.reshape(new.shape + (1,) * (old.ndim - 2)), value, old)
  first = take(state.first, row)[:, :, None]
  history, seen = slots.history, slots.seen
  if o.draft:
    ids = take(plan.batch.ids, prompt)
    history = fresh(jnp.pad(ids, ((0, 0), (0, 0), (0, o.length))), history)
  if o.repetition_penalty != 1:
    there = jax.vmap(lambda ids, mask: jnp.zeros(seen.shape[-1], bool).at[
        jnp.where(mask, ids, seen.shape[-1])].set(True, mode='drop'))
    before = jax.vmap(there)(plan.batch.ids, plan.batch.mask)
    seen = fresh(take(before, prompt), seen)
  slots = slots._replace(
      ticket=ticket, row=fresh(row, slots.row), count=fresh(0, slots.count),
      hidden=fresh(first, slots.hidden), drafted=fresh(0, slots.drafted),
      stop=fresh(0, slots.stop), history=history, seen=seen)
  return state._replace(slots=slots, taken=state.taken + jnp.sum(new, axis=-1))


def _forward(s: Sampler, params, plan: Plan, state: State, last) -> State:
  """Reads the last token and a draft of what follows it."""
  o, slots = s.options, state.slots
  alive = slots.ticket < s.tickets
  ticket = jnp.minimum(slots.ticket, s.tickets - 1)
  begin = jnp.maximum(slots.count - 1, 0)
  proposed, count = slots.draft, slots.drafted
  if o.draft:
    length = jnp.sum(take(plan.batch.mask, ticket // o.group), axis=-1)
    proposed, count = draft_lib.propose(
        slots.history, length + slots.count, ngram=o.ngram, width=o.draft)
    count = count.astype(jnp.int32)
    if plan.forced.shape[-1]:
      proposed, count = _drafted_by_force(plan, slots, ticket, proposed, count)
  tokens = jnp.concatenate([last[..., None], proposed], axis=-1)
  offset = jnp.arange(s.width)
  positions = take(plan.begin, ticket // o.group) + begin
  positions = positions[..., None] + offset
  member = ticket % o.group
  columns = o.group * s.width
  place = slots.row * columns + member * s.width
  place = jnp.where(alive[..., None], place[..., None] + offset,
                    s.rows * columns)
  cache = state.cache._replace(length=begin)
  if not o.draft:   # else slots do not all write as many tokens
    cache = cache._replace(column=state.steps % o.length)
  hidden, cache, _ = s.family.forward(
      params, s.config, tokens, jnp.repeat(positions[..., None], 3, axis=-1),
      jnp.ones(tokens.shape, bool), cache=cache, place=place, columns=columns)
  slots = slots._replace(hidden=hidden, draft=proposed, drafted=count)
  return state._replace(slots=slots, cache=cache)


def _drafted_by_force(plan: Plan, slots, ticket, proposed, count):
  """Where the next tokens are forced, they are the draft."""
  offset = jnp.arange(proposed.shape[-1])
  number = slots.count[..., None] + offset
  forced = number < take(plan.forced_count, ticket)[..., None]
  given = jnp.take_along_axis(
      take(plan.forced, ticket),
      jnp.minimum(number, plan.forced.shape[-1] - 1), axis=-1)
  known = jnp.sum(forced, axis=-1)
  # A draft of what comes behind the forced tokens would start too early.
  return (jnp.where(forced, given, proposed),
          jnp.where(known > 0, known, count))


def _finish(s: Sampler, batch, plan: Plan, state: State) -> types.Rollout:
  group, length = s.options.group, s.options.length
  def whole(x, *more):
    return x.reshape(len(batch.ids), group, *more)
  w = state.written
  count = whole(w.count)
  filled = jnp.arange(length) < count[..., None]
  steps = jnp.minimum(jnp.arange(length), jnp.maximum(count[..., None] - 1, 0))
  positions = plan.begin.reshape(-1, 1, 1) + steps
  captured = w.captured
  capacity = state.steps.astype(jnp.float32) * s.slots / s.prompts
  return types.Rollout(
      prompt=batch, tokens=whole(w.tokens, length),
      action_mask=whole(w.action, length), token_mask=filled,
      positions=jnp.repeat(positions[..., None], 3, axis=-1),
      logps=whole(w.logps, length), drawn_logps=whole(w.drawn_logps, length),
      entropy=whole(w.entropy, length), finished=whole(w.finished),
      passes=whole(w.passes), capacity=jnp.full(len(batch.ids), capacity),
      captured=whole(captured, length, captured.shape[-1]))
