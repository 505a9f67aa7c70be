"""Group-advantage RL on verifiable rewards: GRPO and its family.

A step is one picture: next batch, sample, score, prepare, update, then log,
evaluate, save. Which member of the family it is, the config's words say
(`config.rl`, `rl/recipes.py`).
"""

import contextlib
import functools
import math
import time

import jax
import numpy as np

from medrl import build
from medrl import checkpoint
from medrl import metrics
from medrl import paths
from medrl.evals import run as evals
from medrl.rl import words
from medrl.trainers import kept
from medrl.trainers import outputs
from medrl.trainers import overlap
from medrl.trainers import programs as programs_lib
from medrl.trainers import reference_judge
from medrl.trainers import refill
from medrl.trainers import rows
from medrl.trainers import scored as scored_lib
from medrl.trainers import session as session_lib
from medrl.trainers import sft
from medrl.trainers import signals
from medrl.trainers import teachers
from medrl.trainers import update


def train(config, workdir):
  """Trains for `config.rl.steps` and returns the run's result.

  Goes on from the newest checkpoint of `workdir`, if there is one; else from a
  cold start (`config.sft.steps`), another run (`config.checkpoint.start`), a
  published checkpoint or random parameters. Writes `result.json`.

  Raises:
    ValueError: a value of the config that does not fit; it is named.
    SystemExit: it was asked to stop, as `session.leave`.
  """
  update.check_plan('rl', config.rollout.prompts, config.rl.minibatches,
                    config.rl.microbatches)
  words.lay(config)
  for part in (refill, overlap, teachers):
    part.check(config)
  run = build.run(config, workdir)
  workdir = paths.at(workdir)
  start = None
  if not checkpoint.steps(workdir / 'checkpoints'):
    initial = functools.partial(session_lib.initial_params, run)
    start = (sft.fit(run, workdir / 'sft', initial) if config.sft.steps
             else initial())
  fit(run, workdir, start)
  return outputs.conclude(workdir)


def fit(run: build.Run, folder, params) -> None:
  """The loop; raises SystemExit where it was asked to stop before its end.

  Args:
    run: the run.
    folder: for metrics and checkpoints.
    params: to start from, when there is nothing to restore.
  """
  config, rl = run.config, run.config.rl
  session = session_lib.open_session(run, folder, rl.optim,
                                     rl.steps * rl.epochs * rl.minibatches)
  batches = session_lib.pipeline(session, config.rollout.prompts)
  restored = session_lib.restore(session, batches)
  state, frozen, data, ahead, held = (
      go_on(session, batches, *restored) if restored
      else begin(session, params))
  del params
  programs = programs_lib.compile_programs(session, state, *frozen)
  inquiries, first, judges = ask(session, programs, frozen.reference)
  step = int(run.crossing.fetch(state.step))
  writer = outputs.writer(session, step if restored else -1)
  bar = outputs.progress(session, 'reward', step, rl.steps)
  weights = session_lib.policy(session, state)
  draws = overlap.Draws(session, batches, programs['sample'], ahead)
  if not restored:
    scores = session_lib.evaluate(session, weights)
    if writer:
      writer.write(0, scores)
      writer.publish()
    session_lib.save(session, 0, state, batches, data, scores)
  stopping = 0
  # Closed also where a step fails, or its save would be torn.
  with (checkpoint.closing(session.manager), contextlib.closing(batches),
        build.scoring(config, judges) as scorer,
        session_lib.boundaries(session, writer, step) as asked,
        jax.transfer_guard('disallow')):
    parts = scored_lib.Parts(session, draws, inquiries, first, scorer)
    while step < rl.steps:
      started, spent, fetched = time.monotonic(), {}, run.crossing.fetches
      policy = overlap.Policy(weights, state.key, step)
      scored, held = sample(parts, batches, policy, spent, held)
      weights = policy = None   # or they would be held through the update
      with overlap.timed(spent, 'time/reward'):
        packed, count = rows.of_step(run, scored.there)
        up, source = run.crossing.up((scored_lib.score_arrays(
            config, scored.examples, scored.texts, scored.written,
            scored.scores), packed))
      with overlap.timed(spent, 'time/update'):
        key = scored.bucket, count
        train_batch, terms, prepared = programs['prepare'][key](
            state.trained, state.frozen, frozen.reference, scored.rollout, up,
            frozen.teachers, source)
        state, out = programs['update'][key](state, train_batch)
        step += 1
        terms, out = run.crossing.fetch((terms, prepared | out))
        weights = session_lib.policy(session, state)
      values = out | scored.values | times(started, spent, out)
      values |= session_lib.host_means({
          'data/padding_completion': rows.padding(scored.there, packed)})
      values['time/fetches'] = run.crossing.fetches - fetched
      if out['optim/skipped']:
        outputs.dump(session, step, run.crossing.fetch(train_batch))
      evaluated = {}
      if step % config.eval.every == 0 or step == rl.steps:
        evaluated = session_lib.evaluate(session, weights)
      if writer:
        line = writer.write(step, values | evaluated)
        writer.rollouts(step, rollout_rows(config, scored, terms))
        # Where every reward of a step failed, it has no mean.
        bar.set_postfix(reward=f'{line.get("reward/total", math.nan):.3f}',
                        length=f'{line["rollout/length"]:.0f}')
        bar.update()
      last = step == rl.steps
      stopping = 0 if last else asked(step)
      if step % config.checkpoint.every == 0 or last or stopping:
        data['kept'] = kept.write(session, step, {
            'ahead': draws.under_way(), 'held': held})
        if writer:
          writer.publish()
        session_lib.save(session, step, state, batches, data, evaluated)
      if stopping:
        break
  if writer:
    writer.close()
  bar.close()
  if stopping:
    session_lib.leave(stopping, run.workdir)


def begin(session, params):
  """State, frozen policies and what is saved with them, at a run's start.

  Returns:
    (state, frozen, data, groups drawn ahead, groups held), the last two empty.
  """
  state = session_lib.create(session, params)
  frozen, digests = teachers.make(session, params,
                                  build.reward_needs(session.run.config))
  data = {'frozen': session_lib.frozen_digest(session, state), 'kept': 0}
  return state, frozen, data | digests, [], []


def go_on(session, batches, state, data):
  """As `begin`, from what was restored."""
  frozen = teachers.restore(session, data,
                            build.reward_needs(session.run.config))
  found = {'ahead': [], 'held': []}
  # Runs of before anything was kept have no such entry.
  if data.get('kept', 0):
    step = int(session.run.crossing.fetch(state.step))
    found = kept.read(session, step, data['kept'], batches)
  return state, frozen, data, found['ahead'], found['held']


def ask(session, programs, reference):
  """What rewards ask of the model: signals by bucket, sampling weights of the
  reference, or {}, and judges."""
  config = session.run.config
  needs = build.reward_needs(config)
  inquiries = signals.compile_signals(
      programs_lib.tools(session, programs['sample']), needs)
  # A KL scores with the reference as it is; only who samples needs a copy.
  first = {}
  if teachers.asks_reference(config, needs):
    first = session.weigh(reference)
  return inquiries, first, reference_judge.judges(session.run, first,
                                                  session.weights)


def sample(parts: scored_lib.Parts, batches, policy: overlap.Policy, spent,
           held: list[kept.Group]):
  """The step's batch, sampled and scored, and the groups to hold after it.

  Args:
    parts: of the run.
    batches: the pipeline.
    policy: who writes now.
    spent: seconds by name, to which each part's are added.
    held: groups that the step before has left over.
  """
  config, surplus = parts.session.run.config, []
  attempt = functools.partial(scored_lib.attempt, parts, policy, spent)
  if config.rollout.refill.attempts:
    scored, surplus = refill.fill(attempt, parts.session.run, batches, held)
  else:
    scored = attempt()
    scored = scored._replace(values=scored.values | scored_lib.reward_metrics(
        scored.scores, scored.failed))
  if config.rl.overlap or config.rollout.refill.carry:
    ages = [policy.step - wrote for wrote in scored.steps[:scored.real]]
    scored = scored._replace(values=scored.values | session_lib.host_means(
        {'rollout/staleness': metrics.Mean(sum(ages), len(ages))}))
  return scored, surplus


def times(started: float, spent: dict[str, float], out) -> dict[str, float]:
  """Metrics of what a step took.

  Args:
    started: when it began, on the monotonic clock.
    spent: seconds of each part, and those `hidden` behind rewards.
    out: the step's other metrics.
  """
  values = {n: s for n, s in spent.items() if n.startswith('time/')}
  if 'hidden' in spent:
    values['time/hidden_reward'] = spent['hidden'] / spent['time/reward']
  written = float(out['rollout/length'].total)
  return values | {'time/step': time.monotonic() - started,
                   'time/tokens_per_second': written / spent['time/sample']}


def rollout_rows(config, scored: scored_lib.Scored, terms):
  """Some prompts with their whole groups, without identifiers of patients.

  All that `medrl.rewards.rescore` needs to score them again, but for `source`,
  which tells the very line of a file that a record came from. `terms` are the
  values [P, G] of those that were computed on the device.
  """
  count = min(config.log.rollouts_per_step, scored.real)
  groups = zip(range(count), scored.examples, scored.texts, scored.scores)
  for p, example, group, score in groups:
    record = example.record
    here = {name: values[p] for name, values in terms.items()}
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
