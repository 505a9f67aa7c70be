"""The compiled programs of an RL step: sample, prepare, update.

No loop, no files and no formula are here.
"""

import functools

import jax
import jax.numpy as jnp

from medrl import build
from medrl import sharding
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
      out_shardings=(rows, rows, whole), donate_argnums=3)
  step = jax.jit(step, donate_argnums=0, out_shardings=(session.laid, whole))
  prompts, group = config.rollout.prompts, config.rollout.group
  options = build.sampling_options(run, group, config.rollout.temperature)
  sample = evals.samplers(run, session.weights, prompts, options, 'sample',
                          donate=True)
  held = state_lib.abstract(state)
  reference, teachers = map(state_lib.abstract, (reference, teachers))
  def place(dtype, *more):
    return jax.ShapeDtypeStruct((prompts, group, *more), dtype, sharding=rows)
  scores = prepare.expected(config, place)
  out = {'sample': sample, 'prepare': {}, 'update': {}}
  for bucket, program in sample.items():
    rollout = laid_out(program, rows)
    for count in (0, *packed.counts(config, run.mesh)):
      source = None
      if count:
        source = jax.ShapeDtypeStruct((count, rl.pack.tokens), jnp.int32,
                                      sharding=rows)
      key, label = (bucket, count), f' in {count} rows' if count else ''
      out['prepare'][key] = build.compile_ahead(
          f'prepare {bucket}{label}', prepared, held.trained, held.frozen,
          reference, rollout, scores, teachers, source)
      batch = out['prepare'][key].out_info[0]
      out['update'][key] = build.compile_ahead(
          f'update {bucket}{label}', step, held, laid_out(batch, rows))
  return out


def tools(session, sample) -> list[signals.Tools]:
  """What signals are made from, for each bucket of the sampling programs."""
  rows = sharding.batch(session.run.mesh)
  return [signals.Tools(session.run, session.weights, laid_out(program, rows),
                        bucket) for bucket, program in sample.items()]


def laid_out(result, rows):
  """Abstract outputs of a compiled program, split by row."""
  info = result.out_info if hasattr(result, 'out_info') else result
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), info)
