"""The draws of refilled slots: next tokens of each, and where they are kept.

A slot draws behind all tokens of its draft at once; those count that stand
behind drafts which were what the policy drew.
"""

import jax
import jax.numpy as jnp

from medrl.rollout import draft as draft_lib
from medrl.rollout import sampling
from medrl.rollout import slot_state
from medrl.rollout import stops as stops_lib

Plan, Sampler, State = slot_state.Plan, slot_state.Sampler, slot_state.State
Slots, Written = slot_state.Slots, slot_state.Written
put, take = slot_state.put, slot_state.take


def write(s: Sampler, params, plan: Plan, state: State):
  """Draws each slot's next tokens, as far as its drafts were right.

  Returns:
    the state, and the last token of each slot [A, W].
  """
  o, slots = s.options, state.slots
  ticket = jnp.minimum(slots.ticket, s.tickets - 1)
  offset = jnp.arange(s.width)
  number = slots.count[..., None] + offset
  drawn = _draw(s, params, plan, slots, ticket, number)
  forced = number < take(plan.forced_count, ticket)[..., None]
  token = drawn.token
  if plan.forced.shape[-1]:
    given = jnp.take_along_axis(
        take(plan.forced, ticket),
        jnp.minimum(number, plan.forced.shape[-1] - 1), axis=-1)
    token = jnp.where(forced, given, token)
  by_id = jnp.isin(token, jnp.array(o.stop)) & ~forced
  states = slots.stop[..., None]
  if plan.stops is not None:
    states = _automaton(plan.stops, slots.stop, token, forced)
    by_id |= plan.stops.accept[states]
  ends = by_id | (number + 1 >= take(plan.budget, ticket)[..., None])
  # A token counts where all drafts before it were what the policy drew, and
  # none of them was the last.
  right = draft_lib.accept(slots.draft, slots.drafted, token)
  before = jnp.cumsum(ends, axis=-1) - ends
  alive = slots.ticket < s.tickets
  live = alive[..., None] & (offset <= right[..., None]) & (before == 0)
  count = jnp.sum(live, axis=-1)
  last = jnp.maximum(count - 1, 0)[..., None]
  def at_last(x):
    return jnp.take_along_axis(x, last, axis=-1)[..., 0]
  done = alive & at_last(ends)
  record = drawn._replace(token=token)
  written = _record(s, state.written, slots, record, live, forced,
                    done & at_last(by_id))
  history, seen = slots.history, slots.seen
  if o.draft:
    begin = jnp.sum(take(plan.batch.mask, ticket // o.group), axis=-1)
    at = jnp.where(live, begin[..., None] + number, history.shape[-1])
    history = jax.vmap(put)(history, at, token)
  if o.repetition_penalty != 1:
    seen = jax.vmap(put)(seen, jnp.where(live, token, seen.shape[-1]), live)
  left = jax.vmap(lambda left, row, one: left.at[row].add(-one))(
      state.left, slots.row, done.astype(jnp.int32))
  slots = slots._replace(
      ticket=jnp.where(done, s.tickets, slots.ticket),
      count=slots.count + count, stop=at_last(
          jnp.broadcast_to(states, token.shape)), history=history, seen=seen)
  return state._replace(slots=slots, left=left, written=written,
                        steps=state.steps + 1), at_last(token)


def _draw(s: Sampler, params, plan: Plan, slots: Slots, ticket, number):
  """`sampling.Drawn` of [A, W, q]."""
  o = s.options
  # Rows as one axis: over several, XLA's CPU compiler makes slow sums.
  rows = lambda x: x.reshape(-1, *x.shape[3:])
  logits = jnp.einsum('nd,dv->nv', rows(slots.hidden),
                      s.family.head(params, s.config),
                      preferred_element_type=jnp.float32)
  place = take(plan.begin, ticket // o.group)[..., None] + number
  keys = jax.random.wrap_key_data(take(plan.keys, ticket))
  def uniform(key, place):
    return jax.vmap(lambda at: jax.random.uniform(jax.random.fold_in(key, at))
                    )(place)
  drawn = jax.vmap(jax.vmap(uniform))(keys, place)
  seen = None
  if o.repetition_penalty != 1:
    # Behind a draft, the draft has been seen too.
    more = jax.nn.one_hot(slots.draft, slots.seen.shape[-1], dtype=jnp.int32)
    more = jnp.pad(jnp.cumsum(more, axis=2) > 0,
                   ((0, 0), (0, 0), (1, 0), (0, 0)))
    seen = rows(slots.seen[:, :, None] | more)
  found = sampling.draw(sampling.ban(logits, o.banned), rows(drawn), o, seen)
  return jax.tree.map(lambda x: x.reshape(*number.shape, *x.shape[1:]), found)


def _automaton(stops, state, token, forced):
  """States [A, W, q] of the stop strings behind each token."""
  out = []
  for i in range(token.shape[-1]):
    moved = stops_lib.advance(stops.table, state, token[..., i])
    state = jnp.where(forced[..., i], state, moved)
    out.append(state)
  return jnp.stack(out, axis=-1)


def _record(s: Sampler, written: Written, slots: Slots, drawn, live, forced,
            stopped) -> Written:
  """Puts what was drawn at (completion, position)."""
  length = s.options.length
  place = slots.ticket[..., None] * length + slots.count[..., None]
  place = place + jnp.arange(s.width)
  place = jnp.where(live, place, s.tickets * length)
  flat = place.reshape(s.parts, -1)
  def keep(held, new):
    return put(held, flat, new.reshape(s.parts, flat.shape[1],
                                        *new.shape[3:]))
  own = lambda x: jnp.where(
      (live & ~forced).reshape(live.shape + (1,) * (x.ndim - 3)), x, 0.)
  captured = written.captured
  if s.options.capture:
    captured = keep(captured, own(drawn.captured))
  def add(held, new):
    return jax.vmap(lambda h, at, n: h.at[at].add(n, mode='drop'))(
        held, slots.ticket, new)
  return Written(
      keep(written.tokens, drawn.token), keep(written.action, live & ~forced),
      keep(written.logps, own(drawn.logp)),
      keep(written.drawn_logps, own(drawn.drawn_logp)),
      keep(written.entropy, own(drawn.entropy)), captured,
      add(written.count, jnp.sum(live, axis=-1)),
      put(written.finished, jnp.where(stopped, slots.ticket, s.tickets), True),
      add(written.passes, jnp.any(live, axis=-1).astype(jnp.int32)))
