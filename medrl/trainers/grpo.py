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
from medrl import metrics
from medrl import params as params_lib
from medrl import sharding
from medrl import types
from medrl.data import batching
from medrl.evals import run as evals
from medrl.rewards import credit
from medrl.trainers import prepare
from medrl.trainers import programs as programs_lib
from medrl.trainers import reference_judge
from medrl.trainers import session as session_lib
from medrl.trainers import sft
from medrl.trainers import signals
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
  batches = session_lib.pipeline(session, config.rollout.prompts)
  restored = session_lib.restore(session, batches)
  needs = build.reward_needs(config)
  if restored:
    state, data = restored
    reference = restore_reference(session, data['reference'], needs)
  else:
    state = session_lib.create(session, params)
    reference = make_reference(run, params, needs)
    data = {'frozen': session_lib.frozen_digest(session, state),
            'reference': ''}
    if reference:
      data['reference'] = checkpoint.save_frozen(
          session.folder / 'checkpoints', reference)
  del params
  programs = programs_lib.compile_programs(session, state, reference)
  inquiries = signals.compile_signals(
      programs_lib.tools(session, programs['sample']), needs)
  # A KL scores with the reference as it is; only who samples needs a copy.
  first = session.weigh(reference) if asks_reference(config, needs) else {}
  judges = reference_judge.judges(run, first, session.weights)
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
        build.scoring(config, judges) as scorer,
        session_lib.stop_requests() as asked, jax.transfer_guard('disallow')):
    while step < rl.steps:
      clock = [time.monotonic()]
      fetched = run.crossing.fetches
      batch, examples = next(batches)
      values = session_lib.data_metrics(batches, batch)
      bucket = batching.bucket_of(batch)
      up = run.crossing.up(batch)
      clock.append(time.monotonic())

      rollout = programs['sample'][bucket](weights, up, state.key, state.step,
                                           numbers)
      tokens, written = run.crossing.fetch(
          (rollout.tokens, rollout.action_mask))
      clock.append(time.monotonic())

      texts = signals.add(inquiries[bucket], signals.Moment(
          weights, first, rollout, state.key, state.step, numbers, written,
          examples, evals.completions(run, tokens, written)))
      clock.append(time.monotonic())

      scores = scorer.score([(e.record, c, {'step': step, 'steps': rl.steps})
                             for e, c in zip(examples, texts)])
      values |= reward_metrics(scores, scorer.failed)
      up = run.crossing.up(score_arrays(config, texts, written, scores))
      clock.append(time.monotonic())

      train_batch, parts, prepared = programs['prepare'][bucket](
          state.trained, state.frozen, reference, rollout, up)
      state, out = programs['update'][bucket](state, train_batch)
      step += 1
      parts, out = run.crossing.fetch((parts, prepared | out))
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
        writer.rollouts(step, rollout_rows(config, examples, texts, scores,
                                           parts))
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


def asks_reference(config, needs: tuple[str, ...]) -> bool:
  """Whether the first policy is asked to write, by a reward or as a judge."""
  return bool(config.reference_judge.prompt or signals.needs_reference(needs))


def wants_reference(config, needs: tuple[str, ...]) -> bool:
  """Whether a frozen copy of the first policy must be held."""
  return bool(config.rl.kl_weight) or asks_reference(config, needs)


def make_reference(run: build.Run, params, needs: tuple[str, ...]):
  """The frozen reference policy, in its own dtype.

  {} where no KL, no signal that rewards need and no judge asks for it.
  """
  if not wants_reference(run.config, needs):
    return {}
  dtype = jnp.dtype(run.config.model.reference_dtype)
  laid = sharding.of_specs(run.mesh, run.specs, run.config.sharding)
  return jax.jit(functools.partial(params_lib.cast, dtype=dtype),
                 out_shardings=laid)(params)


def restore_reference(session, digest: str, needs: tuple[str, ...]):
  """The reference this run began with.

  Raises:
    ValueError: it began without one, and now it needs one.
  """
  if not digest:
    if wants_reference(session.run.config, needs):
      raise ValueError(
          f'{session.folder} began without a reference policy, which '
          f'rl.kl_weight, a reward or a judge now asks for; start a new run '
          f'with config.checkpoint.start={session.run.workdir}')
    return {}
  run = session.run
  dtype = jnp.dtype(run.config.model.reference_dtype)
  shapes = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, dtype, sharding=s),
      params_lib.abstract(run.specs),
      sharding.of_specs(run.mesh, run.specs, run.config.sharding))
  return checkpoint.restore_frozen(session.folder / 'checkpoints', shapes,
                                   digest)


def score_arrays(config, texts, written, scores: list[types.Score]
                 ) -> prepare.Scores:
  """Scores as arrays, with credit by token where `rl.credit_weight` asks."""
  total = np.array([s.total for s in scores], np.float32)
  valid = np.array([s.valid for s in scores], bool)
  if not config.rl.credit_weight:
    return prepare.Scores(total, valid, None)
  given = np.full(written.shape, np.nan, np.float32)
  for p, (group, score) in enumerate(zip(texts, scores)):
    for g, (completion, spans) in enumerate(zip(group, score.spans)):
      places = np.flatnonzero(written[p, g])[:len(completion.ids)]
      given[p, g, places] = credit.token_credit(completion, spans)
  return prepare.Scores(total, valid, given)


def reward_metrics(scores: list[types.Score], failed: dict[str, int]
                   ) -> dict[str, metrics.Mean]:
  """Each term's mean, and what went wrong, over all processes."""
  out = {}
  if 'timeouts' in failed:
    out['reward/timeouts'] = metrics.Mean(failed['timeouts'],
                                          1 / jax.process_count())
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
  names = ('time/data', 'time/sample', 'time/signals', 'time/reward',
           'time/update')
  spent = {n: b - a for n, a, b in zip(names, clock, clock[1:])}
  written = float(out['rollout/length'].total)
  return spent | {'time/step': clock[-1] - clock[0],
                  'time/tokens_per_second': written / spent['time/sample']}


def rollout_rows(config, examples, texts, scores, parts):
  """Some prompts with their whole groups, without identifiers of patients.

  All that `medrl.rewards.rescore` needs to score them again, but for `source`,
  which tells the very line of a file that a record came from. `parts` are the
  values [P, G] of the terms that were computed on the device.
  """
  groups = zip(range(config.log.rollouts_per_step), examples, texts, scores)
  for p, example, group, score in groups:
    record = example.record
    here = {name: values[p] for name, values in parts.items()}
    total = np.array(score.total) + sum(
        config.rewards[name].weight * values for name, values in here.items())
    named = {**score.parts, **here}
    yield {'record': evals.anonymous(record.source, record.id),
           'prompt': example.prompt,
           **{name: getattr(record, name) for name in (
               'task', 'question', 'answer', 'answer_type', 'options',
               'tolerance', 'unit', 'meta')},
           'completions': [
               {'text': c.text, 'ids': c.ids, 'finish': c.finish,
                'reward': float(total[i]), 'valid': score.valid[i],
                'parsed': score.parsed[i],
                'parts': {n: float(v[i]) for n, v in named.items()}}
               for i, c in enumerate(group)]}
