"""The compiled programs of an RL step: sample, prepare, update.

No loop, no files and no formula are here.
"""

import functools

import jax
import jax.numpy as jnp

from medrl import build
from medrl import sharding
from medrl import types
from medrl.evals import run as evals
from medrl.trainers import objective
from medrl.trainers import prepare
from medrl.trainers import rows as packed
from medrl.trainers import scoring
from medrl.trainers import session as session_lib
from medrl.trainers import signals
from medrl.trainers import state as state_lib
from medrl.trainers import update


def compile_programs(session, state, reference, teachers):
  """Name -> bucket -> program: sample, prepare and update.

  The last two are by bucket and number of packed rows, 0 for completions in
  rows of their own.

  Args:
    session: the open session.
    state: whose shapes and shardings the programs take.
    reference: parameters of the reference policy, or {}.
    teachers: name -> parameters, or {}.
  """
  run = session.run
  config, mesh = run.config, run.mesh
  prepared, step = learning(session)
  held = state_lib.abstract(state)
  out = {'sample': samplers(session), 'prepare': {}, 'update': {}}
  for bucket, program in out['sample'].items():
    for count in (0, *packed.counts(config, run.mesh)):
      key, label = (bucket, count), f' in {count} rows' if count else ''
      out['prepare'][key] = build.compile_ahead(
          f'prepare {bucket}{label}', prepared, *arguments(
              session, held, reference, teachers, laid_out(program, mesh),
              count))
      batch = out['prepare'][key].out_info[0]
      out['update'][key] = build.compile_ahead(
          f'update {bucket}{label}', step, held, laid_out(batch, mesh))
  return out


def samplers(session):
  """Bucket -> the compiled program that samples a step's rollout."""
  config = session.run.config.rollout
  options = build.sampling_options(session.run, config.group,
                                   config.temperature)
  return evals.samplers(session.run, session.weights, config.prompts, options,
                        'sample', donate=True)


def learning(session):
  """The jitted functions behind a rollout: prepare, and the update."""
  run = session.run
  config, rl = run.config, run.config.rl
  words, scorer = prepare.objective(config), session_lib.scorer(run)

  def loss(trained, frozen, batch):
    logps, entropy = scoring.policy_logps(
        scorer, state_lib.merge(trained, frozen), batch.rollout, batch.source)
    return objective.rl_loss(words, logps, entropy, batch)

  def step(state, batch):
    return update.step(state, batch, loss, session.tx, session.rate,
                       (rl.epochs, rl.minibatches, rl.microbatches))

  rows = sharding.batch(run.mesh)
  whole = sharding.replicated(run.mesh)
  prepared = jax.jit(
      functools.partial(prepare.prepare, scorer=scorer, words=words, rl=rl,
                        advantage=prepare.advantage(config),
                        score_ids=prepare.id_rewards(run)),
      out_shardings=(learnt_from(run.mesh), rows, whole), donate_argnums=3)
  return prepared, jax.jit(step, donate_argnums=0,
                           out_shardings=(session.laid, whole))


def learnt_from(mesh) -> types.TrainBatch:
  """Shardings of a batch to learn from, as a prefix of its tree."""
  rows = sharding.batch(mesh)
  return types.TrainBatch(*len(types.TrainBatch._fields) * [rows])._replace(
      rollout=sharding.of_rollout(mesh))


def arguments(session, state, reference, teachers, rollout, count: int):
  """What `prepare` is compiled for.

  Args:
    session: the open session.
    state, reference, teachers: see `compile_programs`.
    rollout: an abstract one, of a bucket.
    count: packed rows, or 0.
  """
  config, mesh = session.run.config, session.run.mesh
  rows, source = sharding.batch(mesh), None
  reference, teachers = map(state_lib.abstract, (reference, teachers))
  def place(dtype, *more):
    return jax.ShapeDtypeStruct(
        (config.rollout.prompts, config.rollout.group, *more), dtype,
        sharding=rows)
  if count:
    source = jax.ShapeDtypeStruct((count, config.rl.pack.tokens), jnp.int32,
                                  sharding=rows)
  return (state.trained, state.frozen, reference, rollout,
          prepare.expected(config, place), teachers, source)


def tools(session, sample) -> list[signals.Tools]:
  """What signals are made from, for each bucket of the sampling programs."""
  run = session.run
  return [signals.Tools(run, session.weights, laid_out(program, run.mesh),
                        bucket) for bucket, program in sample.items()]


def laid_out(result, mesh):
  """Abstract outputs of a compiled program, laid out as batches are."""
  info = result.out_info if hasattr(result, 'out_info') else result
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), info,
      sharding.of_batch(mesh, info))
