"""What every trainer's loop stands on: state, checkpoints, evaluation, stops.

Functions that a loop calls in plain sight; no loop of its own and no hooks.
"""

import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import logging
import signal
import tempfile
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medrl import build
from medrl import checkpoint
from medrl import costs
from medrl import feed
from medrl import hosts
from medrl import metrics
from medrl import params as params_lib
from medrl import paths
from medrl import sharding
from medrl import types
from medrl.data import pipeline as pipeline_lib
from medrl.evals import run as evals
from medrl.rl import logps
from medrl.trainers import scoring
from medrl.trainers import state as state_lib

# Exit status of a run that Ctrl-C has stopped and that can go on: 128 + SIGINT.
STOPPED = 130


@dataclasses.dataclass(frozen=True)
class Session:
  """One trainer's run: its parts, its programs for state, its files."""
  run: build.Run
  folder: Any                   # of this trainer's files, from `paths.at`
  manager: Any                  # checkpoints
  tx: Any                       # optimiser
  rate: Any                     # learning rate by update
  laid: state_lib.TrainState    # shardings
  weigh: Any                    # jitted: parameters -> sampling weights
  weights: Any                  # abstract sampling weights
  evaluators: Any               # suite -> bucket -> program
  training: Any                 # sources to train on
  held_out: Any                 # sources to evaluate on
  constants: Any                # (evaluation key, step zero) on device


def open_session(run: build.Run, folder, optim, updates: int) -> Session:
  """Opens a trainer's folder and compiles what evaluation needs.

  Logs the start line: size, work, memory, devices, mesh.

  Args:
    run: the run.
    folder: where this trainer's metrics and checkpoints go.
    optim: config.rl.optim or config.sft.optim.
    updates: optimiser updates in the whole run.
  """
  config = run.config
  # Before anything is compiled, so that what is wrong with them shows at once.
  held_out = feed.evaluation(config)
  training = feed.training(config)
  feed.check_overlap(config, training, held_out)
  logging.info('%s: %s', folder, costs.describe(run))
  trained, _ = state_lib.split(run.specs, config.model.freeze)
  tx = state_lib.optimizer(optim, updates, trained)
  laid = state_lib.shardings(run.mesh, run.specs, config.sharding,
                             config.model.freeze, tx, config.model.offload)
  weigh, weights = evals.sampling_weights(
      run, params_lib.abstract(run.specs))
  manager = checkpoint.open_manager(
      paths.at(folder) / 'checkpoints',
      keep_last=config.checkpoint.keep_last,
      keep_best=config.checkpoint.keep_best,
      best_metric=config.checkpoint.metric)
  constants = jax.jit(
      lambda: (jax.random.key(config.seed), jnp.zeros((), jnp.int32)),
      out_shardings=sharding.replicated(run.mesh))()
  return Session(run, paths.at(folder), manager, tx,
                 state_lib.schedule(optim, updates), laid, weigh, weights,
                 evals.evaluators(run, weights), training, held_out,
                 constants)


def policy(session: Session, state: state_lib.TrainState):
  """The sampling weights of a state."""
  return session.weigh(state_lib.merge(state.trained, state.frozen))


def abstract_state(session: Session) -> state_lib.TrainState:
  """Shapes, dtypes and shardings of this session's state."""
  trained, frozen = state_lib.split(session.run.specs,
                                    session.run.config.model.freeze)
  shapes = jax.eval_shape(
      lambda: state_lib.TrainState(
          trained=params_lib.init(jax.random.key(0), trained),
          frozen=params_lib.cast(params_lib.init(jax.random.key(0), frozen),
                                 session.run.dtype),
          opt_state=session.tx.init(params_lib.init(jax.random.key(0),
                                                    trained)),
          step=jnp.zeros((), jnp.int32), key=jax.random.key(0)))
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes, session.laid)


def restore(session: Session, batches):
  """The newest sound checkpoint, with the batches moved to where it was.

  Returns:
    (state, data), or None where there is none. `data` is what `save` was given.
  """
  wanted = abstract_state(session)
  found = checkpoint.restore(session.manager, wanted.replace(frozen={}))
  if found is None:
    return None
  step, state, data = found
  if data['frozen']:
    frozen = checkpoint.restore_frozen(session.folder / 'checkpoints',
                                       wanted.frozen, data['frozen'])
    state = state.replace(frozen=frozen)
  batches.restore(data['batches'])
  logging.info('going on from step %d in %s', step, session.folder)
  return state, data


def initial_params(run: build.Run):
  """Parameters to start from: another run's, or published or random ones."""
  config = run.config.checkpoint
  if not config.start:
    return build.initial_params(run)
  folder = paths.at(config.start) / 'checkpoints'
  return evals.load_policy(run, folder,
                           None if config.step < 0 else config.step)[0]


def create(session: Session, params) -> state_lib.TrainState:
  """A fresh state around `params`."""
  config = session.run.config
  return state_lib.create(params, config.seed, config.model.freeze, session.tx,
                          session.laid, session.run.dtype)


def save(session: Session, step: int, state: state_lib.TrainState, batches,
         data, scores) -> None:
  """Starts saving a step: device state and host data belong together.

  Args:
    step: trainer step.
    state: device state; may be donated as soon as this returns.
    batches: the pipeline.
    data: json-able, handed back by `restore`.
    scores: metrics that may name this step the best, or {}.
  """
  # All are at one place; each has counts of its own.
  data = {**data, 'batches': sharding.gather_json([batches.state()])}
  checkpoint.save(session.manager, step, state.replace(frozen={}), data, scores)


def frozen_digest(session: Session, state: state_lib.TrainState) -> str:
  """Saves the frozen parameters once and names them; '' where there are none.
  """
  if not jax.tree.leaves(state.frozen):
    return ''
  return checkpoint.save_frozen(session.folder / 'checkpoints', state.frozen)


def pipeline(session: Session, prompts: int, target_length: int = 0,
             room=(0, 0), collate=None):
  """The endless, resumable stream of training batches.

  Args:
    session: the trainer's.
    prompts: a step, over all processes.
    target_length: of demonstrations; 0 where none is needed.
    room: of a row that examples are packed into.
    collate: (examples, settings) -> batch, by default a `types.Batch`.
  """
  settings = build.settings(session.run, prompts, room=tuple(room),
                            target_length=target_length)
  if collate is not None:
    collate = functools.partial(collate, settings=settings)
  return pipeline_lib.Pipeline(session.training, build.encoder(session.run),
                               settings, collate=collate, agree=build.agree)


def scorer(run: build.Run) -> scoring.Scorer:
  config, axis = run.config, run.config.sharding.vocab
  behind = config.model.attention != 'plain'
  return scoring.Scorer(
      run.family, run.model, run.dtype, config.rl.vocab_chunk, run.banned,
      functools.partial(logps.token_logps,
                        shards=run.mesh.shape[axis] if axis else 1),
      layout='behind' if behind else 'beside', parts=build.parts(run.mesh))


def evaluate(session: Session, params) -> dict[str, float]:
  """Scores of sampling weights on the held-out records, by metric name."""
  started = time.monotonic()
  key, zero = session.constants
  answered = evals.answer_all(session.run, session.evaluators, params,
                              session.held_out, key, zero)
  flat, _ = evals.measure(session.run, answered)
  return flat | {'time/evaluate': time.monotonic() - started}


def data_metrics(batches, batch: types.Batch) -> dict[str, Any]:
  """What the pipelines tell of the batch they just gave, over all processes."""
  mask = np.asarray(batch.mask)
  means = {'data/padding_prompt': metrics.Mean((~mask).sum(), mask.size)}
  # One bucket for all processes.
  shared = {'data/bucket_prompt': mask.shape[1]}
  for patches in batch.media.values():
    empty = patches.window == 0
    means['data/padding_patches'] = metrics.Mean(empty.sum(), empty.size)
    shared['data/bucket_patches'] = empty.shape[1]
  shared['data/seen'] = batches.seen
  counts = collections.Counter()
  for part in sharding.gather_json([{
      f'data/bad/{reason}': n for reason, n in batches.counts.items()}]):
    counts.update(part)
  return host_means(means) | shared | dict(counts)


@contextlib.contextmanager
def stop_requests() -> Iterator[Any]:
  """Yields a function that gives the signal that asks to stop, 0 for none.

  All processes agree on it, at the step boundary where it is called. A second
  Ctrl-C interrupts at once; a second SIGTERM is the first over again, as some
  schedulers and a script above both send it.
  """
  came = []
  before = {}

  def ask(number, frame):
    del frame
    came.append(number)
    if number == signal.SIGINT:
      signal.signal(number, before[number])

  # Python allows handlers in the main thread alone; a notebook has others.
  if threading.current_thread() is threading.main_thread():
    for number in (signal.SIGINT, signal.SIGTERM):
      before[number] = signal.signal(number, ask)

  def asked() -> int:
    return int(max(sharding.gather_json([max(came, default=0)])))

  try:
    yield asked
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


@contextlib.contextmanager
def boundaries(session: Session, writer, step: int) -> Iterator[Any]:
  """Yields `ask(step)`, for all processes to call at the end of each step.

  It gives the signal that asks to stop, as `stop_requests`, and is what the
  watchdog hears (`config.hosts`).
  """
  how = session.run.config.hosts
  here = writer.here if writer else session.folder
  if paths.remote(here):   # of a process without log files
    here = paths.at(tempfile.gettempdir())
  with stop_requests() as asked, hosts.watch(
      here, how.step_timeout_s, how.end_after_s, step) as beat:
    def ask(step: int) -> int:
      beat(step)
      return asked()
    yield ask


def leave(number: int, workdir) -> None:
  """Ends a process whose run was stopped by that signal and is saved.

  Raises:
    SystemExit: with 0 where it was SIGTERM, as a scheduler that takes a host
      away is none of the run's failures, and `STOPPED` where it was Ctrl-C.
  """
  name = signal.Signals(number).name
  logging.info('stopped by %s and saved; the same command goes on from there '
               'in %s', name, workdir)
  raise SystemExit(0 if number == signal.SIGTERM else STOPPED)


def host_means(means: dict[str, metrics.Mean]) -> dict[str, metrics.Mean]:
  """Means of this process's rows -> means over all processes."""
  plain = {n: [float(m.total), float(m.weight)] for n, m in means.items()}
  out = {}
  for part in sharding.gather_json([plain]):
    for name, pair in part.items():
      old = out.get(name, metrics.Mean(0., 0.))
      out[name] = metrics.merge(old, metrics.Mean(*pair))
  return out
