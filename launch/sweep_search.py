"""A sweep whose points Optuna chooses, and that ends the poor ones early.

The study is a journal in the sweep's folder, so that any number of workers, on
this host or others, take part by the same command. A trial is one run with one
seed; the best are worth a sweep of their own over seeds. Optuna is loaded here
alone, by who asks for a search.

Optuna's heartbeat is not there for journals, so a dead worker is known by its
lock: a trial that runs though nobody holds its run's lock is marked failed and
queued again with its values and its folder, where the run goes on.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import hashlib
import logging
import math
import pathlib
import time
from typing import Any

from launch import sweep_points
from launch import sweep_read
from launch import sweep_run
from launch import sweep_values

PRUNERS = ('median', 'hyperband', 'none')
# How often a trial is begun that gets no further, as it may be what ends its
# workers.
TRIES = 5
SEED = 0   # of every trial's run, so that they differ in their point alone
_STUDY = 'sweep'


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is searched; the same for all workers."""
  study: sweep_values.Study
  workdir: pathlib.Path
  space: Mapping[str, Any]     # key -> values, or a sweep_values.Range
  trials: int                  # that end: finished, pruned or failed
  seed: int                    # of the sampler
  pruner: str                  # one of PRUNERS
  metric: str
  larger: bool                 # whether larger values are better
  command: Callable[..., list[str]]   # (folder, overrides) -> process


@dataclasses.dataclass
class Trial:
  """A trial under way in this worker."""
  trial: Any
  run: sweep_run.Running
  told: int = 0          # evaluations that Optuna has been told of
  size: int = 0          # bytes of the log when it was last read
  pruned: Any = None     # what to note once it has ended


def load():
  """Optuna, with its own log lowered.

  Raises:
    ValueError: it is not installed; the message says how.
  """
  try:
    import optuna
  except ImportError as error:
    raise ValueError('--trials needs Optuna: pip install -r '
                     'launch/requirements-sweeps.txt') from error
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  return optuna


def open_study(optuna, plan: Plan):
  """The study in the sweep's folder, made where there is none."""
  journal = optuna.storages.journal
  # Absolute, and not Optuna's default lock, a link to a path: that one is never
  # taken over from a dead worker where the path is relative.
  path = str(plan.workdir.resolve() / 'optuna.journal')
  storage = optuna.storages.JournalStorage(journal.JournalFileBackend(
      path, lock_obj=journal.JournalFileOpenLock(path)))
  return optuna.create_study(
      storage=storage, study_name=_STUDY, load_if_exists=True,
      direction='maximize' if plan.larger else 'minimize',
      pruner=_pruner(optuna, plan))


def distributions(optuna, space: Mapping[str, Any]) -> dict[str, Any]:
  """Optuna's distribution of each key; listed values by their texts."""
  kinds = optuna.distributions
  out = {}
  for key, values in space.items():
    if not isinstance(values, sweep_values.Range):
      out[key] = kinds.CategoricalDistribution(
          tuple(map(sweep_values.text_of, values)))
      continue
    kind = (kinds.IntDistribution if isinstance(values.low, int)
            else kinds.FloatDistribution)
    out[key] = kind(values.low, values.high, log=values.scale == 'log')
  return out


def overrides(plan: Plan, params: Mapping[str, Any]) -> dict[str, Any]:
  """Optuna's values as the config's."""
  return {key: value if isinstance(plan.space[key], sweep_values.Range)
          else sweep_values.parse(plan.study, key, value)
          for key, value in sorted(params.items())}


def search(plan: Plan, parallel: int, asked: Callable[[], bool],
           starter=sweep_run.start, poll_s: float = sweep_run.POLL_S) -> bool:
  """Takes part in the search until all of its trials have ended, or a stop.

  Args:
    plan: the search.
    parallel: runs at once in this worker.
    asked: whether to stop; runs then save, and the next worker goes on.
    starter: (job, lock) -> its process.
    poll_s: seconds between looks.

  Returns:
    whether all trials have ended and none failed.

  Raises:
    ValueError: Optuna is not installed.
  """
  optuna = load()
  with sweep_run.locked(plan.workdir / 'search.lock'):
    study = open_study(optuna, plan)
  running = []
  while True:
    for one in list(running):
      advance(plan, one)
      if one.run.process.poll() is not None:
        running.remove(one)
        finish(optuna, study, plan, one)
    if asked():
      for one in running:
        sweep_run.stop(one.run)
      if not running:
        return False
    # One worker at a time: between a trial's start in the journal and its lock
    # it looks as if its worker were dead.
    else:
      with sweep_run.locked(plan.workdir / 'search.lock'):
        requeue(optuna, study, plan)
        while len(running) < parallel and room(optuna, study, plan):
          running.append(ask(optuna, study, plan, starter))
        if not running and done(study, plan):
          return all(t.state != optuna.trial.TrialState.FAIL
                     for t in _counted(study))
    time.sleep(poll_s)


def ask(optuna, study, plan: Plan, starter) -> Trial:
  """Starts the next trial, one that was queued again before a new one.

  The caller holds the search's lock, hence knows the next trial's number: the
  sampler is seeded by it, so that draws do not depend on which worker asks.
  """
  known = study.get_trials(deepcopy=False)
  place = f'{plan.seed}/{len(known)}'.encode()
  study.sampler = optuna.samplers.TPESampler(seed=int.from_bytes(
      hashlib.blake2b(place, digest_size=4).digest(), 'big'))
  trial = study.ask(distributions(optuna, plan.space))
  laid = overrides(plan, trial.params)
  name = trial.user_attrs.get('point')
  if name is None:
    short = sweep_points.shortened(laid)
    name = f'trial{trial.number:04d},{sweep_points.name(laid, short)}'
    sweep_read.write_json(plan.workdir / name / 'point.json', {
        'name': name, 'overrides': sweep_points.plain(laid)})
    trial.set_user_attr('point', name)
  folder = sweep_points.run_folder(plan.workdir, name, SEED)
  job = sweep_run.Job(folder, plan.command(folder, {**laid, 'seed': SEED}))
  lock = sweep_run.take(sweep_read.note(folder, 'lock'))
  if lock is None:
    raise OSError(f'{folder} is locked though its trial is new; is another '
                  f'sweep in this folder?')
  return Trial(trial, sweep_run.begin(job, lock, starter))


def advance(plan: Plan, one: Trial) -> None:
  """Tells Optuna of new evaluations; stops the run where it says so."""
  rows = _grown(one, plan.metric)
  for step, value in rows[one.told:]:
    one.told += 1
    if one.pruned is not None or not math.isfinite(value):
      continue
    one.trial.report(value, step)
    if one.trial.should_prune():
      one.pruned = {'step': step, 'value': value}
      logging.info('trial %d is pruned at step %d with %g', one.trial.number,
                   step, value)
  if one.pruned is not None:
    sweep_run.stop(one.run)


def finish(optuna, study, plan: Plan, one: Trial) -> None:
  """Tells Optuna how a trial ended; one that was stopped stays as it is, to be
  queued again."""
  advance(plan, one)   # what came between the last two looks
  states = optuna.trial.TrialState
  value = sweep_read.value(one.run.job.folder, plan.metric)
  # The lock is held until Optuna knows, or another worker would take the trial
  # for a dead one's.
  found = sweep_run.noted(one.run, one.pruned)
  if found == 'finished' and value is not None:
    study.tell(one.trial, value)
  elif found == 'pruned':
    study.tell(one.trial, state=states.PRUNED)
  elif found != 'stopped':
    study.tell(one.trial, state=states.FAIL)
  sweep_run.release(one.run.lock)


def requeue(optuna, study, plan: Plan) -> None:
  """Settles or queues again what nobody runs; the caller holds the lock."""
  states = optuna.trial.TrialState
  replaced = _replaced(study)
  for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
    if 'point' not in trial.user_attrs:   # its worker died as it asked for it
      if trial.number not in replaced:
        study.enqueue_trial(trial.params, {'instead_of': trial.number})
      study.tell(trial.number, state=states.FAIL)
      continue
    folder = sweep_points.run_folder(plan.workdir, trial.user_attrs['point'],
                                     SEED)
    lock = sweep_run.take(sweep_read.note(folder, 'lock'))
    if lock is None:
      continue   # its worker, or its run, is alive
    value = sweep_read.value(folder, plan.metric)
    if sweep_read.status(folder) == 'finished' and value is not None:
      study.tell(trial.number, value)
    elif sweep_read.status(folder) == 'pruned':
      study.tell(trial.number, state=states.PRUNED)
    else:
      if trial.number not in replaced:
        _again(study, trial, sweep_read.read(folder).step or 0)
      # Failed only now: a kill between the two loses nothing.
      study.tell(trial.number, state=states.FAIL)
    sweep_run.release(lock)


def _again(study, trial, step: int) -> None:
  """Queues a trial again, unless it got no further in several tries."""
  further = step > trial.user_attrs.get('step', 0)
  tries = 1 if further else trial.user_attrs.get('tries', 0) + 1
  if tries == TRIES:
    logging.info('trial %d got no further in %d tries and is given up',
                 trial.number, TRIES)
    return
  logging.info('nobody runs trial %d; it is queued again', trial.number)
  study.enqueue_trial(trial.params, {
      'point': trial.user_attrs['point'], 'instead_of': trial.number,
      'step': step, 'tries': tries})


def room(optuna, study, plan: Plan) -> bool:
  """Whether a trial waits, or a new one is still to be asked for."""
  trials = _counted(study)
  return (len(trials) < plan.trials or
          any(t.state == optuna.trial.TrialState.WAITING for t in trials))


def done(study, plan: Plan) -> bool:
  """Whether as many trials as were asked for have ended."""
  trials = _counted(study)
  return len(trials) >= plan.trials and all(
      trial.state.is_finished() for trial in trials)


def _counted(study) -> Sequence[Any]:
  """All trials but those that another one stands for."""
  replaced = _replaced(study)
  return [trial for trial in study.get_trials(deepcopy=False)
          if trial.number not in replaced]


def _replaced(study) -> set[int]:
  return {trial.user_attrs['instead_of']
          for trial in study.get_trials(deepcopy=False)
          if 'instead_of' in trial.user_attrs}


def _grown(one: Trial, metric: str) -> list[tuple[int, float]]:
  """The metric's curve, where the run has logged since the last look."""
  log = one.run.job.folder / 'metrics.jsonl'
  size = log.stat().st_size if log.exists() else 0
  if size == one.size:
    return []
  one.size = size
  return sweep_read.curve(one.run.job.folder, metric)


def _pruner(optuna, plan: Plan):
  """How poor trials are told: by the median, or by successive halving.

  The evaluation before the first step, at step 0, never prunes.
  """
  every = plan.study.default['eval.every']
  if plan.pruner == 'median':
    return optuna.pruners.MedianPruner(n_warmup_steps=1)
  if plan.pruner == 'hyperband':
    return optuna.pruners.HyperbandPruner(min_resource=every)
  return optuna.pruners.NopPruner()
