"""The sampler whose decode slots are refilled: one program for a whole batch.

A fixed number of slots writes a token (or, with a draft, several) an iteration.
A completion that ends leaves its slot to the next one that waits; prompts are
encoded in chunks, as rows for their keys become free. So one long completion
idles its own slot and not the batch. All of it runs on the device; no number
crosses to the host in between. Draws are keyed by (step, prompt, member,
position) alone: what is written depends on no schedule and equals `sampler`'s.
The model family comes as an argument; nothing here trains.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import types
from medrl.rollout import draft as draft_lib
from medrl.rollout import sampler
from medrl.rollout import sampling
from medrl.rollout import stops as stops_lib


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


class Slots(NamedTuple):
  """The completions being written: A parts of W slots. `ticket` is P G of the
  part in an idle one."""
  ticket: Any    # int32 [A, W]: number of the completion in its part, p G + g
  row: Any       # int32 [A, W]: of its prompt's keys
  count: Any     # int32 [A, W]: tokens there are
  hidden: Any    # [A, W, q, D]: predict the next token, and behind each draft
  draft: Any     # int32 [A, W, q - 1]
  drafted: Any   # int32 [A, W]: how many drafts there are
  stop: Any      # int32 [A, W]: state of the stop strings' automaton
  history: Any   # int32 [A, W, S + C] prompt and completion, for drafts
  seen: Any      # bool [A, W, V]: ids that were there, for the penalty


class State(NamedTuple):
  """All that an iteration changes. R rows hold keys of prompts."""
  cache: Any         # the family's, from `init_slots`
  first: Any         # [A, R, D]: last hidden state of the row's prompt
  left: Any          # int32 [A, R]: completions of the row not yet ended
  row_of: Any        # int32 [A, P]: the row of each prompt
  loaded: Any        # int32 [A]: prompts encoded so far
  taken: Any         # int32 [A]: completions begun so far
  slots: Slots
  written: Any       # Written
  steps: Any         # int32 []: iterations


class Written(NamedTuple):
  """Results by completion and position: [A, P G C], or [A, P G]."""
  tokens: Any
  action: Any
  logps: Any
  drawn_logps: Any
  entropy: Any
  captured: Any      # [A, P G C, n]
  count: Any         # int32 [A, P G]
  finished: Any      # bool [A, P G]
  passes: Any        # int32 [A, P G]


class Plan(NamedTuple):
  """What no iteration changes, by part and prompt or completion."""
  batch: Any         # types.Batch [A, P, ...]
  begin: Any         # int32 [A, P]: rotary position of the first token
  keys: Any          # uint32 [A, P G, 2]
  budget: Any        # int32 [A, P G]
  forced: Any        # int32 [A, P G, F]
  forced_count: Any  # int32 [A, P G]
  stops: Any


@dataclasses.dataclass(frozen=True)
class Sampler:
  """The static half: a family, its config and how to draw."""
  family: Any
  config: Any
  options: sampling.Options
  parts: int
  prompts: int     # of a part
  slots: int       # of a part
  rows: int        # of a part
  chunk: int       # of a part

  @property
  def tickets(self) -> int:
    return self.prompts * self.options.group

  @property
  def width(self) -> int:
    return 1 + self.options.draft


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
  state = _begin(s, params, plan)

  def going(state):
    return jnp.any((state.slots.ticket < s.tickets).any(-1)
                   | (state.taken < s.tickets))

  def iteration(state):
    state = jax.lax.while_loop(
        lambda x: jnp.any(_ready(s, x)[1]),
        lambda x: _encode(s, params, plan, x), state)
    state, last = _write(s, params, plan, _refill(s, plan, state))
    return _forward(s, params, plan, state, last)

  return _finish(s, batch, plan, jax.lax.while_loop(going, iteration, state))


def _static(family, config, options, prompts: int) -> Sampler:
  parts = options.parts
  def share(name, number, most):
    number = number or most
    if number % parts:
      raise ValueError(f'{name} {number} does not divide over the {parts} parts '
                       f'of the mesh; change it, or mesh.data and mesh.fsdp')
    return min(number, most) // parts
  rows = share('rollout.resident', options.resident, prompts)
  return Sampler(
      family, config, options, parts, share('rollout.prompts', prompts, prompts),
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
    budget = jnp.int32(length) if batch.budget is None else batch.budget[:, None]
    budget = jnp.broadcast_to(budget, full)
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


def _begin(s: Sampler, params, plan: Plan) -> State:
  """Nothing encoded, nothing begun."""
  o, a, w = s.options, s.parts, s.slots
  head = s.family.head(params, s.config)
  length = plan.batch.ids.shape[2]
  cache = s.family.init_slots(s.config, (a, s.rows, length, w, o.length),
                              o.kv, head.dtype)
  def ints(*shape, value=0):
    return jnp.full((a, *shape), value, jnp.int32)
  history = length + o.length if o.draft else 0
  seen = head.shape[1] if o.repetition_penalty != 1 else 0
  slots = Slots(
      ints(w, value=s.tickets), ints(w), ints(w),
      jnp.zeros((a, w, s.width, head.shape[0]), head.dtype),
      ints(w, o.draft), ints(w), ints(w), ints(w, history),
      jnp.zeros((a, w, seen), bool))
  room = s.tickets * o.length
  zeros = jnp.zeros((a, room), jnp.float32)
  written = Written(
      ints(room, value=o.pad), jnp.zeros((a, room), bool), zeros, zeros, zeros,
      jnp.zeros((a, room, len(o.capture)), jnp.float32), ints(s.tickets),
      jnp.zeros((a, s.tickets), bool), ints(s.tickets))
  return State(cache, jnp.zeros((a, s.rows, head.shape[0]), head.dtype),
               ints(s.rows), ints(s.prompts), ints(), ints(), slots, written,
               jnp.zeros((), jnp.int32))


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
      lambda x: _take(x, jnp.minimum(numbers, s.prompts - 1)), plan.batch)
  part = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part)
  soft = s.family.encode(params, s.config, part.media)
  hidden, cache, _ = s.family.forward(
      params, s.config, part.ids[:, None], part.positions[:, None],
      part.mask[:, None], soft=soft)
  last = jnp.max(jnp.where(part.mask, jnp.arange(part.mask.shape[1]), 0), axis=1)
  hidden = jnp.take_along_axis(hidden[:, 0], last[:, None, None], axis=1)
  # Free rows first, in their order.
  rows = jnp.argsort(state.left > 0, axis=-1, stable=True)[:, :s.chunk]
  rows = jnp.where(real, rows, s.rows)
  return state._replace(
      cache=s.family.admit(state.cache, cache, rows),
      first=_put(state.first, rows,
                 hidden.reshape(s.parts, s.chunk, hidden.shape[-1])),
      left=_put(state.left, rows, s.options.group),
      row_of=_put(state.row_of, jnp.where(real, numbers, s.prompts), rows),
      loaded=state.loaded + count)


def _refill(s: Sampler, plan: Plan, state: State) -> State:
  """Gives idle slots the next completions whose prompts are encoded."""
  o, slots = s.options, state.slots
  idle = slots.ticket == s.tickets
  ticket = state.taken[:, None] + jnp.cumsum(idle, axis=-1) - 1
  new = idle & (ticket < (state.loaded * o.group)[:, None])
  ticket = jnp.where(new, ticket, slots.ticket)
  prompt = jnp.minimum(ticket, s.tickets - 1) // o.group
  row = _take(state.row_of, prompt)
  def fresh(value, old):
    return jnp.where(new.reshape(new.shape + (1,) * (old.ndim - 2)), value, old)
  first = _take(state.first, row)[:, :, None]
  history, seen = slots.history, slots.seen
  if o.draft:
    ids = _take(plan.batch.ids, prompt)
    history = fresh(jnp.pad(ids, ((0, 0), (0, 0), (0, o.length))), history)
  if o.repetition_penalty != 1:
    there = jax.vmap(lambda ids, mask: jnp.zeros(seen.shape[-1], bool).at[
        jnp.where(mask, ids, seen.shape[-1])].set(True, mode='drop'))
    before = jax.vmap(there)(plan.batch.ids, plan.batch.mask)
    seen = fresh(_take(before, prompt), seen)
  slots = slots._replace(
      ticket=ticket, row=fresh(row, slots.row), count=fresh(0, slots.count),
      hidden=fresh(first, slots.hidden), drafted=fresh(0, slots.drafted),
      stop=fresh(0, slots.stop), history=history, seen=seen)
  return state._replace(slots=slots, taken=state.taken + jnp.sum(new, axis=-1))


def _write(s: Sampler, params, plan: Plan, state: State):
  """Draws each slot's next tokens, as far as its drafts were right.

  Returns:
    the state, and the last token of each slot [A, W].
  """
  o, slots = s.options, state.slots
  ticket = jnp.minimum(slots.ticket, s.tickets - 1)
  offset = jnp.arange(s.width)
  number = slots.count[..., None] + offset
  drawn = _draw(s, params, plan, slots, ticket, number)
  forced = number < _take(plan.forced_count, ticket)[..., None]
  token = drawn.token
  if plan.forced.shape[-1]:
    given = jnp.take_along_axis(
        _take(plan.forced, ticket),
        jnp.minimum(number, plan.forced.shape[-1] - 1), axis=-1)
    token = jnp.where(forced, given, token)
  by_id = jnp.isin(token, jnp.array(o.stop)) & ~forced
  states = slots.stop[..., None]
  if plan.stops is not None:
    states = _automaton(plan.stops, slots.stop, token, forced)
    by_id |= plan.stops.accept[states]
  ends = by_id | (number + 1 >= _take(plan.budget, ticket)[..., None])
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
    begin = jnp.sum(_take(plan.batch.mask, ticket // o.group), axis=-1)
    at = jnp.where(live, begin[..., None] + number, history.shape[-1])
    history = jax.vmap(_put)(history, at, token)
  if o.repetition_penalty != 1:
    seen = jax.vmap(_put)(seen, jnp.where(live, token, seen.shape[-1]), live)
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
  place = _take(plan.begin, ticket // o.group)[..., None] + number
  keys = jax.random.wrap_key_data(_take(plan.keys, ticket))
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
  def put(held, new):
    return _put(held, flat, new.reshape(s.parts, flat.shape[1],
                                        *new.shape[3:]))
  own = lambda x: jnp.where(
      (live & ~forced).reshape(live.shape + (1,) * (x.ndim - 3)), x, 0.)
  captured = written.captured
  if s.options.capture:
    captured = put(captured, own(drawn.captured))
  def add(held, new):
    return jax.vmap(lambda h, at, n: h.at[at].add(n, mode='drop'))(
        held, slots.ticket, new)
  return Written(
      put(written.tokens, drawn.token), put(written.action, live & ~forced),
      put(written.logps, own(drawn.logp)),
      put(written.drawn_logps, own(drawn.drawn_logp)),
      put(written.entropy, own(drawn.entropy)), captured,
      add(written.count, jnp.sum(live, axis=-1)),
      _put(written.finished, jnp.where(stopped, slots.ticket, s.tickets), True),
      add(written.passes, jnp.any(live, axis=-1).astype(jnp.int32)))


def _forward(s: Sampler, params, plan: Plan, state: State, last) -> State:
  """Reads the last token and a draft of what follows it."""
  o, slots = s.options, state.slots
  alive = slots.ticket < s.tickets
  ticket = jnp.minimum(slots.ticket, s.tickets - 1)
  begin = jnp.maximum(slots.count - 1, 0)
  proposed, count = slots.draft, slots.drafted
  if o.draft:
    length = jnp.sum(_take(plan.batch.mask, ticket // o.group), axis=-1)
    proposed, count = draft_lib.propose(
        slots.history, length + slots.count, ngram=o.ngram, width=o.draft)
    count = count.astype(jnp.int32)
    if plan.forced.shape[-1]:
      proposed, count = _drafted_by_force(plan, slots, ticket, proposed, count)
  tokens = jnp.concatenate([last[..., None], proposed], axis=-1)
  offset = jnp.arange(s.width)
  positions = _take(plan.begin, ticket // o.group) + begin
  positions = positions[..., None] + offset
  member = ticket % o.group
  columns = o.group * s.width
  place = slots.row * columns + member * s.width
  place = jnp.where(alive[..., None], place[..., None] + offset,
                    s.rows * columns)
  hidden, cache, _ = s.family.forward(
      params, s.config, tokens, jnp.repeat(positions[..., None], 3, axis=-1),
      jnp.ones(tokens.shape, bool), cache=state.cache._replace(length=begin),
      place=place, columns=columns)
  slots = slots._replace(hidden=hidden, draft=proposed, drafted=count)
  return state._replace(slots=slots, cache=cache)


def _drafted_by_force(plan: Plan, slots: Slots, ticket, proposed, count):
  """Where the next tokens are forced, they are the draft."""
  offset = jnp.arange(proposed.shape[-1])
  number = slots.count[..., None] + offset
  forced = number < _take(plan.forced_count, ticket)[..., None]
  given = jnp.take_along_axis(
      _take(plan.forced, ticket),
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


def _take(x, index):
  """x [A, n, ...] at index [A, ...], part by part."""
  return jax.vmap(lambda x, at: x[at])(x, index)


def _put(x, index, value):
  """Sets x [A, n, ...] at index [A, m], part by part; n drops."""
  if jnp.ndim(value) == 0:
    value = jnp.broadcast_to(value, index.shape)
  return jax.vmap(lambda x, at, v: x.at[at].set(
      v.astype(x.dtype), mode='drop'))(x, index, value)
