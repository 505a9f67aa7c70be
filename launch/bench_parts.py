"""The parts of a step as the trainer makes them, and the step itself.

All programs are the project's own: what the config names, compiled by
`trainers.programs`. Nothing is printed here, and no work is counted.
"""

import dataclasses
import functools
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp

from launch import bench_ceilings
from launch import bench_presets
from medrl import build
from medrl import feed
from medrl import params as params_lib
from medrl import sharding
from medrl.data import pipeline
from medrl.evals import run as evals
from medrl.rl import words
from medrl.trainers import grpo
from medrl.trainers import overlap
from medrl.trainers import programs as programs_lib
from medrl.trainers import rows
from medrl.trainers import scored as scored_lib
from medrl.trainers import scoring
from medrl.trainers import session as session_lib
from medrl.trainers import signals
from medrl.trainers import state as state_lib
from medrl.trainers import teachers
from medrl.trainers import update


@dataclasses.dataclass(frozen=True)
class Bench:
  """A trainer between two steps."""
  programs: Any    # name -> bucket -> program
  batches: Any     # the pipeline
  parts: Any       # scored.Parts
  reference: Any
  state: Any
  weights: Any     # of the policy, for sampling
  number: int      # steps done
  last: Any = ()   # (Scored, TrainBatch, key of its programs) of the last step

  @property
  def session(self) -> session_lib.Session:
    return self.parts.session


def open_session(name: str, workdir: pathlib.Path) -> session_lib.Session:
  """What a trainer's programs stand on, without checkpoints and evaluation."""
  preset, config = bench_presets.find(name), bench_presets.config_of(name)
  words.lay(config)
  run = build.run(config, workdir)
  model = run.family.with_options(
      bench_presets.sizes(preset), remat=config.model.remat,
      rows=build.attention_rows(config, run.mesh),
      pin=sharding.Rows(run.mesh))
  # The ids that a real tokenizer would ban, and the stops: a completion is as
  # long as it may be.
  media = [run.tokenizer.id(run.layout.specials[role]) for role in (
      'image_pad', 'video_pad', 'vision_start', 'vision_end')]
  banned = {*media, *run.stop, *range(bench_presets.TOKENS, model.text.vocab)}
  run = dataclasses.replace(
      run, model=model, specs=run.family.specs(model),
      layout=run.family.layout(model, config.processor.min_pixels,
                               config.processor.max_pixels),
      banned=tuple(sorted(banned)))
  trained, _ = state_lib.split(run.specs, config.model.freeze)
  updates = config.rl.steps * config.rl.epochs * config.rl.minibatches
  tx = state_lib.optimizer(config.rl.optim, updates, trained)
  weigh, weights = evals.sampling_weights(run, params_lib.abstract(run.specs))
  return session_lib.Session(
      run=run, folder=pathlib.Path(workdir), manager=None, tx=tx,
      rate=state_lib.schedule(config.rl.optim, updates),
      laid=state_lib.shardings(run.mesh, run.specs, config.sharding,
                               config.model.freeze, tx),
      weigh=weigh, weights=weights, evaluators=None,
      training=feed.training(config), held_out=None, constants=None)


def abstract(session: session_lib.Session):
  """(state, reference) as shapes, to compile for what is never made."""
  run = session.run
  dtype = jnp.dtype(run.config.model.reference_dtype)
  reference = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, dtype, sharding=s),
      params_lib.abstract(run.specs),
      sharding.of_specs(run.mesh, run.specs, run.config.sharding))
  return session_lib.abstract_state(session), reference


def compiled(session: session_lib.Session, state, reference):
  """The trainer's programs: name -> bucket -> program."""
  return programs_lib.compile_programs(session, state, reference, {})


def make(session: session_lib.Session, scorer) -> Bench:
  """Random parameters, the programs compiled, the stream of prompts opened.

  Args:
    session: from `open_session`.
    scorer: from `build.scoring`.
  """
  run = session.run
  params = build.initial_params(run)
  state = session_lib.create(session, params)
  reference = teachers.make_reference(run, params, ())
  del params
  programs = compiled(session, state, reference)
  # In order, where a trainer shuffles: presets are compared with each other.
  batches = pipeline.Pipeline(
      session.training, build.encoder(run),
      build.settings(run, run.config.rollout.prompts, shuffle=False),
      agree=build.agree)
  inquiries = signals.compile_signals(
      programs_lib.tools(session, programs['sample']), ())
  parts = scored_lib.Parts(
      session, overlap.Draws(session, batches, programs['sample'], []),
      inquiries, {}, scorer)
  return Bench(programs, batches, parts, reference, state,
               session_lib.policy(session, state), 0)


def step(bench: Bench):
  """One step of the trainer's loop; its state is donated.

  Returns:
    the trainer after the step, seconds by part of the loop, and metrics.
  """
  session = bench.session
  run, spent = session.run, {}
  started = time.monotonic()
  policy = overlap.Policy(bench.weights, bench.state.key, bench.number)
  scored, _ = grpo.sample(bench.parts, bench.batches, policy, spent, [])
  with overlap.timed(spent, 'time/reward'):
    packed, count = rows.of_step(run, scored.there)
    up, source = run.crossing.up((scored_lib.score_arrays(
        run.config, scored.examples, scored.texts, scored.written,
        scored.scores), packed))
  with overlap.timed(spent, 'time/update'):
    state, key = bench.state, (scored.bucket, count)
    batch, _, prepared = bench.programs['prepare'][key](
        state.trained, state.frozen, bench.reference, scored.rollout, up, {},
        source)
    state, out = bench.programs['update'][key](state, batch)
    out = run.crossing.fetch(prepared | out)
    weights = jax.block_until_ready(session_lib.policy(session, state))
  spent['time/whole'] = time.monotonic() - started
  bench = dataclasses.replace(
      bench, state=state, weights=weights, number=bench.number + 1,
      last=(scored, batch, key))
  return bench, {n.removeprefix('time/'): s for n, s in spent.items()}, out


def time_parts(bench: Bench, repeats: int) -> tuple[Bench, dict[str, Any]]:
  """Seconds of encode, prefill, sample, decode, score and update.

  Each is a program of its own, on what the last step had; but decode is what
  the sampler takes beyond encode and prefill, whichever sampler it is. Encode
  and prefill are of all prompts at once, score is what a reference costs. The
  state moves on, as updates are real.
  """
  run, (scored, batch, key) = bench.session.run, bench.last
  family, model, rollout = run.family, run.model, batch.rollout
  prompt, weights = rollout.prompt, bench.weights
  scorer, rl = session_lib.scorer(run), run.config.rl
  draws = bench.programs['sample'][scored.bucket]
  number = jnp.zeros((), jnp.int32, device=sharding.replicated(run.mesh))

  encode = jax.jit(lambda p, b: family.encode(p, model, b.media))
  prefill = jax.jit(lambda p, b, soft: family.forward(
      p, model, b.ids[:, None], b.positions[:, None], b.mask[:, None],
      soft=soft)[:2])
  # In the micro-batches of the update, as `prepare` scores.
  score = jax.jit(lambda p, r: jax.lax.map(
      lambda part: scoring.policy_logps(scorer, p, *part, entropy=False)[0],
      update.parted(r, rl.minibatches, rl.microbatches)))
  held = [bench.state]   # donated and replaced at each call

  def learn():
    held[0], out = bench.programs['update'][key](held[0], batch)
    return out

  timed = functools.partial(bench_ceilings.timed, repeats=repeats)
  soft = encode(weights, prompt)
  out = {
      'encode': timed(lambda: encode(weights, prompt)),
      'prefill': timed(lambda: prefill(weights, prompt, soft)),
      'sample': timed(lambda: draws(
          weights, jax.tree.map(jnp.copy, prompt), bench.state.key, number,
          bench.parts.draws.numbers)),
      'score': timed(lambda: score(bench.reference, (rollout, batch.source)))}
  before = out['encode']['best_s'] + out['prefill']['best_s']
  # Positive also where a model is so small that all of it is noise.
  out['decode'] = {kind: max(spent - before, 1e-9)
                   for kind, spent in out['sample'].items()}
  out['update'] = timed(learn)
  weights = session_lib.policy(bench.session, held[0])
  return dataclasses.replace(bench, state=held[0], weights=weights), out
