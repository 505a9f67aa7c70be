"""Supervised fine-tuning on demonstrations: the cold start before RL.

The step is RL's own with another loss: a demonstration is a rollout that was
given rather than sampled. No reward is read.
"""

import contextlib
import functools
import time

import jax
import jax.numpy as jnp

from medrl import build
from medrl import checkpoint
from medrl import sharding
from medrl import types
from medrl.data import batching
from medrl.data import packing
from medrl.trainers import objective
from medrl.trainers import outputs
from medrl.trainers import scoring
from medrl.trainers import session as session_lib
from medrl.trainers import state as state_lib
from medrl.trainers import update


def train(config, workdir):
  """Trains for `config.sft.steps` and returns the run's result.

  Goes on from the newest checkpoint of `workdir`, if there is one. Writes
  `result.json`.
  """
  run = build.run(config, workdir)
  if not config.sft.steps:
    raise ValueError('sft.steps is 0; set it to train on demonstrations')
  fit(run, workdir, functools.partial(session_lib.initial_params, run))
  return outputs.conclude(workdir)


def fit(run: build.Run, folder, initial):
  """The loop. Ends early where `sft.patience` says that nothing is gained.

  Args:
    run: the run.
    folder: for this stage's metrics and checkpoints.
    initial: makes the parameters to start from, when nothing is to restore.

  Returns:
    the final parameters.

  Raises:
    SystemExit: it was asked to stop, as `session.leave`.
  """
  config = run.config.sft
  update.check_plan('sft', config.prompts, 1, config.microbatches)
  session = session_lib.open_session(run, folder, config.optim, config.steps)
  batches = session_lib.pipeline(
      session, config.prompts, config.length,
      (config.pack.tokens, config.pack.patches),
      functools.partial(_pack, row_counts(config)) if config.pack.tokens
      else _stack)
  restored = session_lib.restore(session, batches)
  if restored:
    state, data = restored
  else:
    state = session_lib.create(session, initial())
    data = {'frozen': session_lib.frozen_digest(session, state),
            'best': [-1., 0]}
  step = int(run.crossing.fetch(state.step))
  programs = _compile(session, state)
  writer = outputs.writer(session, step if restored else -1)
  bar = outputs.progress(session, 'supervised', step, config.steps)
  every = run.config.eval.every
  # Closed also where a step fails, or its save would be torn.
  with (checkpoint.closing(session.manager), contextlib.closing(batches),
        session_lib.boundaries(session, writer, step) as asked,
        jax.transfer_guard('disallow')):
    # As in the loop, only where an evaluation has just looked.
    done = (bool(restored) and step % every == 0
            and _plateau(config, data, step))
    while step < config.steps and not done:
      started = time.monotonic()
      batch, _ = next(batches)
      values = session_lib.data_metrics(batches, batch[0])
      values['time/data'] = time.monotonic() - started
      up = run.crossing.up(batch)
      state, out = programs[shape_of(batch)](state, up)
      step += 1
      out = run.crossing.fetch(out)
      values |= out | {'time/step': time.monotonic() - started}
      if out['optim/skipped']:
        outputs.dump(session, step, run.crossing.fetch(up[1:]))
      scores = {}
      if step % every == 0 or step == config.steps:
        scores = session_lib.evaluate(session,
                                      session_lib.policy(session, state))
        value = scores.get(run.config.checkpoint.metric, 0.)
        if value > data['best'][0]:
          data = {**data, 'best': [value, step]}
        done = _plateau(config, data, step)
      if writer:
        line = writer.write(step, values | scores)
        bar.set_postfix(loss=f'{line["loss/sft"]:.3f}')
        bar.update()
      last = step == config.steps or done
      stopping = asked(step)
      if step % run.config.checkpoint.every == 0 or last or stopping:
        if writer:
          writer.publish()
        session_lib.save(session, step, state, batches, data, scores)
      if stopping:
        break
    checkpoint.wait(session.manager)
    # Also where it came in the last step: RL, which follows, would not know.
    stopping = asked(step)
  if writer:
    writer.close()
  bar.close()
  if stopping:
    session_lib.leave(stopping, run.workdir)
  return state_lib.merge(state.trained, state.frozen)


def _plateau(config, data, step: int) -> bool:
  """Whether the validation score has not risen for `patience` of the steps.

  Early in a run a share of the steps may be a single evaluation, whose noise
  is no plateau; hence also for `patience_steps`.
  """
  best, at = data['best']
  return bool(config.patience) and best >= 0 and (
      step - at >= max(config.patience * step, config.patience_steps))


def row_counts(config) -> tuple[int, ...]:
  """Rows that a packed batch of all processes may have, growing.

  The last is a row for each prompt, which always holds them.

  Raises:
    ValueError: a declared number does not fit between.
  """
  counts = (*config.pack.rows, config.prompts)
  if list(counts) != sorted(set(counts)) or counts[0] < 1:
    raise ValueError(f'sft.pack.rows {tuple(config.pack.rows)}; expected '
                     f'growing numbers below sft.prompts {config.prompts}')
  for count in counts:
    update.check_plan('sft', count, 1, config.microbatches)
  return counts


def _stack(examples, settings):
  """(Batch, tokens [P, T], mask [P, T]) of examples in rows of their own."""
  batch = batching.stack_smallest(examples, settings, build.agree)
  return batch, *batching.stack_targets(examples, settings.target_length,
                                        settings.pad_id)


def _pack(counts, examples, settings):
  """(Batch, segments [R, S], target [R, S]) of examples that share rows."""
  own = [count // settings.process_count for count in counts]
  return tuple(packing.pack(examples, own, settings, build.agree))


def shape_of(batch) -> tuple[int, ...]:
  """(rows of this process, S, N), what a program is compiled for."""
  return len(batch[0].ids), *batching.bucket_of(batch[0])


def _compile(session, state):
  """One update program per bucket, or per number of packed rows."""
  run = session.run
  config = run.config.sft
  scorer = session_lib.scorer(run)

  def loss(trained, frozen, part):
    params = state_lib.merge(trained, frozen)
    if config.pack.tokens:
      logps, entropy = scoring.packed_logps(scorer, params,
                                            types.Packed(*part))
      return objective.sft_loss(logps, entropy, part[2])
    rollout = scoring.given(*part)
    logps, entropy = scoring.policy_logps(scorer, params, rollout)
    return objective.sft_loss(logps, entropy, rollout.action_mask)

  def step(state, batch):
    return update.step(state, batch, loss, session.tx, session.rate,
                       (1, 1, config.microbatches))

  program = jax.jit(step, donate_argnums=0, out_shardings=(
      session.laid, sharding.replicated(run.mesh)))
  laid = sharding.batch(run.mesh)
  def arrays(rows, length):
    shape = jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=laid)
    return shape, jax.ShapeDtypeStruct(shape.shape, bool, sharding=laid)
  if config.pack.tokens:
    room = (config.pack.tokens, config.pack.patches)
    shapes = [(rows, room, config.pack.tokens) for rows in row_counts(config)]
  else:
    shapes = [(config.prompts, tuple(bucket), config.length)
              for bucket in run.config.data.buckets]
  return {
      (rows // jax.process_count(), *bucket): build.compile_ahead(
          f'supervised update {rows} x {bucket}', program,
          state_lib.abstract(state),
          (build.abstract_batch(run, rows, bucket), *arrays(rows, length)))
      for rows, bucket, length in shapes}
