"""The state of the sampler with refilled slots: its arrays and how they start.

A is the parts of a mesh that hold prompts of their own, P the prompts of a
part, G completions each, C tokens each at most; W decode slots of q tokens an
iteration, R rows of prompts whose keys are held. What an iteration does is
`slots` and `slot_draws`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl.rollout import sampling


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


def begin(s: Sampler, params, plan: Plan) -> State:
  """Nothing encoded, nothing begun."""
  o, a, w = s.options, s.parts, s.slots
  head = s.family.head(params, s.config)
  length = plan.batch.ids.shape[2]
  cache = s.family.init_slots(s.config, (a, s.rows, length, w, o.length),
                              o.kv, head.dtype)
  if not o.draft:
    cache = cache._replace(column=jnp.zeros((), jnp.int32))
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


def take(x, index):
  """x [A, n, ...] at index [A, ...], part by part."""
  return jax.vmap(lambda x, at: x[at])(x, index)


def put(x, index, value):
  """Sets x [A, n, ...] at index [A, m], part by part; n drops."""
  if jnp.ndim(value) == 0:
    value = jnp.broadcast_to(value, index.shape)
  return jax.vmap(lambda x, at, v: x.at[at].set(
      v.astype(x.dtype), mode='drop'))(x, index, value)
