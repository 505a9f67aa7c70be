"""The programs of a GRPO step, for a run in outline: made, not yet compiled.

`weigh`, `sample`, `prepare` and `update` are those that a run has; `encode`,
`prefill` and `decode` are what `sample` does in a loop whose turns depend on
what is drawn, and `score` is one scoring pass, of which `prepare` has some.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from medrl import build
from medrl import params as params_lib
from medrl import sharding
from medrl.rollout import sampling
from medrl.trainers import outline
from medrl.trainers import programs as programs_lib
from medrl.trainers import scoring
from medrl.trainers import session as session_lib
from medrl.trainers import state as state_lib
from medrl.trainers import update


class Sizes(NamedTuple):
  """A step's sizes over all chips; P, G, T and what the sampler holds."""
  prompts: int
  group: int
  length: int
  bucket: tuple[int, int]
  slots: int
  rows: int      # prompts whose keys are held
  chunk: int     # prompts encoded at a time

  @property
  def calls(self) -> dict[str, float]:
    """How often a step runs a part of `sample`, where no completion ends
    early."""
    chunks = -(-self.prompts // self.chunk)
    written = self.prompts * self.group * self.length
    return {'encode': chunks * bool(self.bucket[1]), 'prefill': chunks,
            'decode': -(-written // self.slots)}


@dataclasses.dataclass(frozen=True)
class Program:
  """A program before it is compiled.

  Attributes:
    compile: gives the executable.
    beside: what else the run holds on the devices while it runs, as abstract
      arrays.
    sampling: whether it reads weights as sampling has them, whole on all chips
      but for those of the tensor axis.
  """
  compile: Callable[[], Any]
  beside: Any
  sampling: bool


def largest_alone(config) -> None:
  """Leaves the config its largest bucket, which needs the most."""
  config.data.buckets = (max(map(tuple, config.data.buckets)),)


def sizes(run: build.Run) -> Sizes:
  """Of a config with one bucket."""
  r = run.config.rollout
  rows = min(r.resident or r.prompts, r.prompts)
  every = r.prompts * r.group
  (bucket,) = map(tuple, run.config.data.buckets)
  return Sizes(r.prompts, r.group, r.length, bucket,
               min(r.slots or every, every), rows, min(r.chunk or rows, rows))


def check(run: build.Run) -> None:
  """Raises ValueError where a step's prompts, slots or micro-batches do not
  divide over the mesh."""
  of, rl, parts = sizes(run), run.config.rl, build.parts(run.mesh)
  update.check_plan('rl', of.prompts, rl.minibatches, rl.microbatches)
  each = of.prompts // (rl.minibatches * rl.microbatches)
  for what, number in (('prompts of a micro-batch', each),
                       ('rollout.slots', of.slots),
                       ('rollout.resident', of.rows),
                       ('rollout.chunk', of.chunk)):
    if number % parts:
      raise ValueError(f'{what}, {number}, do not divide over the {parts} '
                       f'parts of the mesh that data and fsdp make')
  sharding.check_bucket(run.mesh, of.bucket, run.model.vision.row)


def programs(session: session_lib.Session) -> dict[str, Program]:
  """Name -> program, of the only bucket and completions in rows of their own.
  """
  run, of = session.run, sizes(session.run)
  check(run)
  state = session_lib.abstract_state(session)
  frozen = outline.frozen(session)
  rollout = outline.rollout(session, of.bucket)
  prepare, step = programs_lib.learning(session)
  given = programs_lib.arguments(session, state, *frozen, rollout, 0)
  batch = programs_lib.laid_out(jax.eval_shape(prepare, *given)[0], run.mesh)
  learnt = state_lib.merge(state.trained, state.frozen)
  def ahead(name, function, *arguments):
    return lambda: build.compile_ahead(name, function, *arguments)
  whole = state, frozen
  out = {name: Program(ahead(name, *call), whole, True)
         for name, call in _sampling(session, of).items()}
  # Weights to sample with are gone before prompts are scored.
  out['weigh'] = Program(ahead('weigh', session.weigh, learnt),
                         (state.opt_state, frozen), True)
  out['sample'] = Program(
      lambda: programs_lib.samplers(session)[of.bucket], whole,
      True)
  out['score'] = Program(ahead('score', *_score(session, rollout)),
                         state, False)
  out['prepare'] = Program(ahead('prepare', prepare, *given),
                           state.opt_state, False)
  out['update'] = Program(ahead('update', step, state, batch),
                          frozen, False)
  return out


def _sampling(session, of: Sizes):
  """Name -> (jitted, arguments) of the parts of `sample`."""
  run, weights = session.run, session.weights
  family, model = run.family, run.model
  batch = build.abstract_batch(run, of.chunk, of.bucket)
  # Soft tokens lie as the patches do that they are made of.
  units = NamedSharding(run.mesh, PartitionSpec(sharding.BATCH_AXES,
                                                sharding.LONG))
  encode = jax.jit(lambda params, batch: family.encode(params, model,
                                                       batch.media),
                   out_shardings=units)
  soft = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=units),
      jax.eval_shape(encode, weights, batch))

  def prefill(params, batch, soft):
    return family.forward(
        params, model, batch.ids[:, None], batch.positions[:, None],
        batch.mask[:, None], soft=soft)[:2]

  out = {'encode': (encode, weights, batch)} if of.bucket[1] else {}
  return out | {'prefill': (jax.jit(prefill), weights, batch, soft),
                'decode': _decode(run, weights, of)}


def _decode(run: build.Run, weights, of: Sizes):
  """One iteration of the slots: draw a token of each, and read it."""
  family, model = run.family, run.model
  options = build.sampling_options(run, of.group, 1.)
  parts = options.parts
  slots, rows = of.slots // parts, of.rows // parts
  laid = sharding.batch(run.mesh)

  def decode(params, cache, hidden, uniform, positions, place):
    logits = jnp.einsum('awd,dv->awv', hidden, family.head(params, model),
                        preferred_element_type=jnp.float32)
    drawn = sampling.draw(sampling.ban(logits, run.banned), uniform, options)
    tokens = drawn.token[..., None]
    hidden, cache, _ = family.forward(
        params, model, tokens, positions, jnp.ones(tokens.shape, bool),
        cache=cache, place=place, columns=of.group)
    return drawn, hidden[:, :, 0], cache

  cache = jax.eval_shape(lambda: family.init_slots(
      model, (parts, rows, of.bucket[0], slots, of.length),
      run.config.rollout.kv, run.dtype)._replace(
          column=jnp.zeros((), jnp.int32)))
  def held(dtype, *shape):
    return jax.ShapeDtypeStruct((parts, slots, *shape), dtype, sharding=laid)
  return (jax.jit(decode, donate_argnums=1), weights, cache_laid(run, cache),
          held(run.dtype, model.text.hidden), held(jnp.float32),
          held(jnp.int32, 1, 3), held(jnp.int32, 1))


def cache_laid(run: build.Run, cache):
  """Abstract keys and values with the shardings that sampling gives them."""
  heads = build.sampling_rules(run.config)['kv_heads'] or None
  def keys(long):   # [L, P, R, S, K, d]
    return NamedSharding(run.mesh, PartitionSpec(
        None, sharding.BATCH_AXES, None, long, heads))
  rows, own = sharding.batch(run.mesh), keys(None)
  prompt = keys(sharding.LONG)
  laid = cache._replace(prompt_keys=prompt, prompt_values=prompt,
                        prompt_mask=rows, keys=own, values=own, length=rows,
                        column=sharding.replicated(run.mesh))
  def lay(tree, where):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=where), tree)
  return type(cache)(*map(lay, cache, laid))


def _score(session: session_lib.Session, rollout):
  """A scoring pass in the micro-batches of the update, as `prepare` has it."""
  run, rl = session.run, session.run.config.rl
  scorer = session_lib.scorer(run)
  dtype = jnp.dtype(run.config.model.reference_dtype)
  params = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      params_lib.abstract(run.specs, dtype),
      sharding.of_specs(run.mesh, run.specs, run.config.sharding))

  def score(params, rollout):
    return jax.lax.map(
        lambda part: scoring.policy_logps(scorer, params, part,
                                          entropy=False)[0],
        update.parted(rollout, rl.minibatches, rl.microbatches))

  return jax.jit(score), params, rollout
