"""Group-advantage RL on verifiable rewards: GRPO and its family.

A step is one picture: next batch, sample, score, prepare, update, then log,
evaluate, save. Which member of the family it is, the config's words say
(`config.rl`, `rl/recipes.py`).
"""

import contextlib
import functools
import json
import math
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from medrl import build
from medrl import checkpoint
from medrl import lookup
from medrl import metrics
from medrl import params as params_lib
from medrl import sharding
from medrl import types
from medrl.data import pipeline as pipeline_lib
from medrl.evals import run as evals
from medrl.rl import advantages
from medrl.trainers import session as session_lib
from medrl.trainers import sft
from medrl.trainers import state as state_lib
from medrl.trainers import update


def train(config, workdir):
  """Trains for `config.rl.steps` and returns the run's result.

  Goes on from the newest checkpoint of `workdir`, if there is one; else from a
  cold start (`config.sft.steps`), another run (`config.checkpoint.start`), a
  published checkpoint or random parameters. Writes `result.json`.

  Raises:
    ValueError: a value of the config that does not fit; it is named.
  """
  update.check_plan('rl', config.rollout.prompts, config.rl.minibatches,
                    config.rl.microbatches)
  run = build.run(config, workdir)
  workdir = pathlib.Path(workdir)
  start = None
  if not checkpoint.steps(workdir / 'checkpoints'):
    initial = functools.partial(session_lib.initial_params, run)
    start = (sft.fit(run, workdir / 'sft', initial) if config.sft.steps
             else initial())
    if start is None:
      raise SystemExit(session_lib.STOPPED)
  if not fit(run, workdir, start):
    raise SystemExit(session_lib.STOPPED)
  result = session_lib.read_result(workdir) | {'workdir': str(workdir)}
  if jax.process_index() == 0:
    (workdir / 'result.json').write_text(json.dumps(result))
  return result


def fit(run: build.Run, folder, params) -> bool:
  """The loop; False where it was asked to stop before the last step.

  Args:
    run: the run.
    folder: for metrics and checkpoints.
    params: to start from, when there is nothing to restore.
  """
  config = run.config
  rl = config.rl
  session = session_lib.open_session(run, folder, rl.optim,
                                     rl.steps * rl.epochs * rl.minibatches)
  batches = session_lib.pipeline(run, config.rollout.prompts, 0)
  restored = session_lib.restore(session, batches)
  if restored:
    state, data = restored
    reference = restore_reference(session, data['reference'])
  else:
    state = session_lib.create(session, params)
    reference = make_reference(run, params)
    data = {'frozen': session_lib.frozen_digest(session, state),
            'reference': ''}
    if rl.kl_weight:
      data['reference'] = checkpoint.save_frozen(
          session.folder / 'checkpoints', reference)
  del params
  reward = build.reward(config)
  programs = compile_programs(session, state, reference)
  step = int(run.crossing.fetch(state.step))
  writer = session_lib.writer(session, step if restored else -1)
  bar = session_lib.progress(session, 'reward', step, rl.steps)
  numbers = run.crossing.up(evals.numbers(run, config.rollout.prompts))
  weights = session_lib.policy(session, state)
  if not restored:
    scores = session_lib.evaluate(session, weights)
    if writer:
      writer.write(0, scores)
    session_lib.save(session, 0, state, batches, data, scores)
  # Closed also where a step fails, or its save would be torn.
  with (contextlib.closing(session.manager), contextlib.closing(batches),
        session_lib.stop_requests() as asked,
        jax.transfer_guard('disallow')):
    while step < rl.steps:
      clock = [time.monotonic()]
      fetched = run.crossing.fetches
      batch, examples = next(batches)
      values = session_lib.data_metrics(batches, batch)
      bucket = pipeline_lib.bucket_of(batch)
      up = run.crossing.up(batch)
      clock.append(time.monotonic())

      rollout = programs['sample'][bucket](weights, up, state.key, state.step,
                                           numbers)
      tokens, written, finished = run.crossing.fetch(
          (rollout.tokens, rollout.action_mask, rollout.finished))
      clock.append(time.monotonic())

      texts = evals.completions(run, tokens, written)
      scores = [reward(e.record, c, {}) for e, c in zip(examples, texts)]
      values |= reward_metrics(scores)
      up = run.crossing.up((
          np.array([s.total for s in scores], np.float32),
          np.array([s.valid for s in scores], bool)))
      clock.append(time.monotonic())

      train_batch, prepared = programs['prepare'][bucket](
          state.trained, state.frozen, reference, rollout, *up)
      state, out = programs['update'][bucket](state, train_batch)
      step += 1
      out = run.crossing.fetch(prepared | out)
      weights = session_lib.policy(session, state)
      clock.append(time.monotonic())

      values |= out | times(clock, values, out)
      values['time/fetches'] = run.crossing.fetches - fetched
      if out['optim/skipped']:
        session_lib.dump(session, step, run.crossing.fetch(train_batch))
      evaluated = {}
      if step % config.eval.every == 0 or step == rl.steps:
        evaluated = session_lib.evaluate(session, weights)
      if writer:
        line = writer.write(step, values | evaluated)
        writer.rollouts(step, rollout_rows(config.log.rollouts_per_step,
                                           examples, texts, scores))
        # Where every reward of a step failed, it has no mean.
        bar.set_postfix(reward=f'{line.get("reward/total", math.nan):.3f}',
                        length=f'{line["rollout/length"]:.0f}')
        bar.update()
      last = step == rl.steps
      stopping = not last and asked()
      if step % config.checkpoint.every == 0 or last or stopping:
        session_lib.save(session, step, state, batches, data, evaluated)
      if stopping:
        break
  if writer:
    writer.close()
  bar.close()
  return step == rl.steps


def make_reference(run: build.Run, params):
  """The frozen reference policy, in its own dtype; {} where no KL asks."""
  if not run.config.rl.kl_weight:
    return {}
  dtype = jnp.dtype(run.config.model.reference_dtype)
  laid = sharding.of_specs(run.mesh, run.specs, run.config.sharding)
  return jax.jit(functools.partial(params_lib.cast, dtype=dtype),
                 out_shardings=laid)(params)


def restore_reference(session, digest: str):
  """The reference this run began with."""
  if not digest:
    return {}
  run = session.run
  dtype = jnp.dtype(run.config.model.reference_dtype)
  shapes = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, dtype, sharding=s),
      params_lib.abstract(run.specs),
      sharding.of_specs(run.mesh, run.specs, run.config.sharding))
  return checkpoint.restore_frozen(session.folder / 'checkpoints', shapes,
                                   digest)


def objective(config) -> update.Objective:
  """The loss that `config.rl` spells."""
  rl = config.rl
  return update.Objective(
      lookup.resolve(rl.ratio), lookup.resolve(rl.surrogate),
      lookup.resolve(rl.reduce), lookup.resolve(rl.kl), rl.clip_low,
      rl.clip_high, rl.kl_weight, config.rollout.length,
      on_policy=rl.epochs * rl.minibatches == 1)


def compile_programs(session, state, reference):
  """Name -> bucket -> program: sample, prepare and update."""
  run = session.run
  config = run.config
  rl = config.rl
  words = objective(config)
  scorer = session_lib.scorer(run)
  advantage = lookup.resolve(rl.advantage)

  def scored(params, rollout):
    logps, entropy = update.policy_logps(scorer, params, rollout)
    return logps, entropy

  def in_parts(params, rollout):
    """Scores in the micro-batches of the update, which fit the memory."""
    parts = update.microbatched(rollout, rl.microbatches)
    return update.rejoined(jax.lax.map(lambda p: scored(params, p)[0], parts))

  def prepare(trained, frozen, reference, rollout, scores, valid):
    mask = rollout.action_mask
    zeros = jnp.zeros_like(rollout.logps)
    old = zeros if words.on_policy else in_parts(
        state_lib.merge(trained, frozen), rollout)
    info = advantages.Info(mask, valid, rollout.entropy, rollout.logps)
    batch = types.TrainBatch(
        rollout, advantage(scores, info),
        (mask & valid[..., None]).astype(jnp.float32), old,
        in_parts(reference, rollout) if rl.kl_weight else zeros)
    count = jnp.sum(mask).astype(jnp.float32)
    group = jnp.float32(mask.shape[0] * mask.shape[1])
    known = jnp.sum(valid).astype(jnp.float32)
    values = {
        'reward/total': metrics.Mean(jnp.sum(jnp.where(valid, scores, 0.)),
                                     known),
        'data/uniform_groups': metrics.Mean(
            jnp.sum(advantages.uniform_groups(scores, valid)),
            jnp.float32(mask.shape[0])),
        'rollout/length': metrics.Mean(count, group),
        'rollout/finished': metrics.Mean(jnp.sum(rollout.finished), group),
        'rollout/entropy': metrics.Mean(jnp.sum(rollout.entropy), count),
    }
    return batch, values

  def loss(trained, frozen, batch):
    logps, entropy = scored(state_lib.merge(trained, frozen), batch.rollout)
    return update.rl_loss(words, logps, entropy, batch)

  def step(state, batch):
    return update.step(state, batch, loss, session.tx, session.rate,
                       (rl.epochs, rl.minibatches, rl.microbatches))

  rows = sharding.batch(run.mesh)
  whole = sharding.replicated(run.mesh)
  prepare = jax.jit(prepare, out_shardings=(rows, whole))
  step = jax.jit(step, donate_argnums=0, out_shardings=(session.laid, whole))
  prompts, group = config.rollout.prompts, config.rollout.group
  options = build.sampling_options(run, group, config.rollout.temperature)
  sample = evals.samplers(run, session.weights, prompts, options, 'sample')
  held = state_lib.abstract(state)
  reference = state_lib.abstract(reference)
  scores = [jax.ShapeDtypeStruct((prompts, group), dtype, sharding=rows)
            for dtype in (jnp.float32, bool)]
  out = {'sample': sample, 'prepare': {}, 'update': {}}
  for bucket, program in sample.items():
    rollout = laid_out(program, rows)
    out['prepare'][bucket] = build.compile_ahead(
        f'prepare {bucket}', prepare, held.trained, held.frozen, reference,
        rollout, *scores)
    batch, _ = jax.tree.map(lambda x: x, out['prepare'][bucket].out_info)
    out['update'][bucket] = build.compile_ahead(
        f'update {bucket}', step, held, laid_out(batch, rows))
  return out


def laid_out(result, rows):
  """Abstract outputs of a compiled program, split by row."""
  info = result.out_info if hasattr(result, 'out_info') else result
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), info)


def reward_metrics(scores: list[types.Score]) -> dict[str, metrics.Mean]:
  """Each term's mean, and what went wrong, over all processes."""
  out = {}
  for score in scores:
    size = len(score.total)
    rows = {f'reward/part/{name}': metrics.Mean(sum(values), size)
            for name, values in score.parts.items()}
    rows['reward/unparsed'] = metrics.Mean(
        sum(not p for p in score.parsed), size)
    # A number, not a mean: all weights together, of all processes, are 1.
    rows['reward/errors'] = metrics.Mean(
        score.errors, 1 / len(scores) / jax.process_count())
    for name, mean in rows.items():
      out[name] = metrics.merge(out[name], mean) if name in out else mean
  return session_lib.host_means(out)


def times(clock, values, out) -> dict[str, float]:
  """Seconds of each part of a step, from the moments between them."""
  names = ('time/data', 'time/sample', 'time/reward', 'time/update')
  spent = {n: b - a for n, a, b in zip(names, clock, clock[1:])}
  written = float(out['rollout/length'].total)
  return spent | {'time/step': clock[-1] - clock[0],
                  'time/tokens_per_second': written / spent['time/sample']}


def rollout_rows(limit: int, examples, texts, scores):
  """The first completion of some prompts, without identifiers."""
  for example, group, score in list(zip(examples, texts, scores))[:limit]:
    record = example.record
    yield {'record': evals.anonymous(record.source, record.id),
           'task': record.task, 'prompt': example.prompt,
           'completion': group[0].text, 'finish': group[0].finish,
           'reward': score.total[0],
           'parts': {n: v[0] for n, v in score.parts.items()}}
