"""Searches: what Optuna is told, pruning, and workers that die.

The trainer is the stand-in of sweep_study, in this process; slow tests kill
real workers.
"""

import pathlib
import sys
import types

import pytest

from launch import sweep_points
from launch import sweep_read
from launch import sweep_run
from launch import sweep_search
from launch import sweep_values
from tests.launch import sweep_study
from tests.launch import test_sweep

RANGES = ('--random=reward.format.weight=uniform:0,1',
          '--random=rl.clip_high=log:0.1,0.4')


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'optuna', None)
  with pytest.raises(SystemExit, match='requirements-sweeps.txt'):
    test_sweep.run(tmp_path / 's', *RANGES, '--trials=2')
  assert not (tmp_path / 's').exists()


def plan_in(folder, space=RANGES, **changed):
  study = sweep_values.load(test_sweep.STUDY)
  values = dict(
      study=study, workdir=pathlib.Path(folder), trials=6, seed=0,
      space=sweep_values.spaces(
          study, [text.partition('=')[2] for text in space]),
      pruner='none', metric=sweep_study.METRIC, larger=True)
  def command(run, overrides):
    return sweep_points.command(test_sweep.STAND_IN, study, (), run, overrides)
  return sweep_search.Plan(command=command, **{**values, **changed})


def search(plan, starter=sweep_study.here, parallel=1, asked=lambda: False):
  return sweep_search.search(plan, parallel, asked, starter, poll_s=0)


def trials(plan):
  optuna = pytest.importorskip('optuna')
  return sweep_search.open_study(optuna, plan).get_trials()


def params(plan):
  return [trial.params for trial in trials(plan)]


def test_distributions(tmp_path):
  optuna = pytest.importorskip('optuna')
  space = plan_in(tmp_path, (
      '=rl.clip_high=log:0.1,0.4', '=rl.epochs=uniform:1,4',
      '=data.buckets=((64, 64),),((8, 8),)', '=eval.sampled=True,False')).space
  kinds = optuna.distributions
  assert sweep_search.distributions(optuna, space) == {
      'rl.clip_high': kinds.FloatDistribution(.1, .4, log=True),
      'rl.epochs': kinds.IntDistribution(1, 4),
      'data.buckets': kinds.CategoricalDistribution(
          ('((64, 64),)', '((8, 8),)')),
      'eval.sampled': kinds.CategoricalDistribution(('True', 'False'))}


def test_values_that_optuna_is_told(tmp_path):
  pytest.importorskip('optuna')
  plan = plan_in(tmp_path, (*RANGES, '=data.buckets=((64, 64),),((8, 8),)'))
  assert search(plan)
  found = trials(plan)
  assert [trial.state.name for trial in found] == ['COMPLETE'] * 6
  for trial in found:
    name = trial.user_attrs['point']
    assert name.startswith(f'trial{trial.number:04d},')
    run = sweep_read.read(tmp_path / name / 'seed0')
    want = dict(trial.params, **{'data.buckets': run.config['data.buckets']})
    assert {key: run.config[key] for key in want} == want
    assert run.config['data.buckets'] in ([[64, 64]], [[8, 8]])
    curve = sweep_read.curve(tmp_path / name / 'seed0', plan.metric)
    assert trial.intermediate_values == dict(curve)
    assert trial.value == curve[-1][1]


def test_draws_depend_on_the_seed_and_not_on_the_worker(tmp_path):
  pytest.importorskip('optuna')
  one, two, other = (plan_in(tmp_path / n) for n in ('one', 'two', 'other'))
  for plan in (one, two, other):
    plan.workdir.mkdir()
  assert search(one)
  # A worker that leaves after each trial.
  for _ in range(6):
    before = len(trials(two))
    search(two, asked=lambda: len(trials(two)) > before)   # pylint: disable=cell-var-from-loop
  assert search(two)
  assert params(two) == params(one)
  assert len({trial['rl.clip_high'] for trial in params(one)}) == 6
  assert search(plan_in(tmp_path / 'other', seed=1))
  assert params(other) != params(one)


def test_more_trials_go_on(tmp_path):
  pytest.importorskip('optuna')
  assert search(plan_in(tmp_path, trials=2))
  first = params(plan_in(tmp_path))
  assert search(plan_in(tmp_path, trials=5))
  assert len(first) == 2 and params(plan_in(tmp_path))[:2] == first
  assert len(params(plan_in(tmp_path))) == 5


def slowly(plan, folders=None):
  """A starter whose run writes one evaluation a look, until it is stopped."""
  del plan
  def start(job, lock):
    del lock
    config, workdir = sweep_study.config_of(job.command)
    sent, looks = [], []
    if folders is not None:
      folders.append(job.folder)
    def poll():
      if sent:
        return 0
      looks.append(0)
      sweep_study.train(config, workdir, asked=lambda: True)
      done = len(sweep_read.logged(workdir)) > sweep_study.STEPS
      return sweep_study.train(config, workdir) if done else None
    return types.SimpleNamespace(poll=poll, send_signal=sent.append)
  return start


@pytest.mark.parametrize('pruner', ['median', 'hyperband'])
def test_poor_trials_are_ended_early(tmp_path, pruner):
  pytest.importorskip('optuna')
  plan = plan_in(tmp_path, trials=14, pruner=pruner)
  assert search(plan, slowly(plan), parallel=2)
  found = trials(plan)
  states = [trial.state.name for trial in found]
  assert states.count('COMPLETE') + states.count('PRUNED') == 14
  assert 1 <= states.count('PRUNED') <= 10
  best = max((t for t in found if t.value is not None), key=lambda t: t.value)
  assert best.state.name == 'COMPLETE'
  for trial in found:
    folder = tmp_path / trial.user_attrs['point'] / 'seed0'
    wanted = {'COMPLETE': 'finished', 'PRUNED': 'pruned'}[trial.state.name]
    assert sweep_read.status(folder) == wanted
    # What is pruned is below the best of all at that step.
    if wanted == 'pruned':
      note = sweep_read.read_json(sweep_read.note(folder, 'pruned'))
      assert 1 <= note['step'] < sweep_study.STEPS + 1
      assert note['value'] < best.intermediate_values[note['step']]


def test_a_dead_workers_trial_goes_on_in_its_folder(tmp_path):
  pytest.importorskip('optuna')
  plan, folders = plan_in(tmp_path, trials=3), []
  start = slowly(plan, folders)
  def dies(job, lock):
    process = start(job, lock)
    process.poll()   # one evaluation
    if len(folders) == 2:
      # As the kernel does with the locks of a killed process.
      sweep_run.release(lock)
      raise KeyboardInterrupt
    return process
  with pytest.raises(KeyboardInterrupt):
    search(plan, dies)
  assert [t.state.name for t in trials(plan)] == ['COMPLETE', 'RUNNING']
  assert search(plan, start)
  found = trials(plan)
  assert [t.state.name for t in found] == ['COMPLETE', 'FAIL', 'COMPLETE',
                                           'COMPLETE']
  again = found[2]
  assert again.params == found[1].params
  assert again.user_attrs['instead_of'] == 1
  assert folders[2] == folders[1]
  # Told of what the first worker had seen, too.
  assert sorted(again.intermediate_values) == list(range(5))
  assert len(sweep_read.logged(folders[1])) == 5


@pytest.mark.parametrize('further', [False, True])
def test_a_trial_that_gets_no_further_is_given_up(tmp_path, further):
  pytest.importorskip('optuna')
  plan, started = plan_in(tmp_path, trials=2), []
  def start(job, lock):
    started.append(job.folder)
    if job.folder == started[0]:
      if further:   # one evaluation each time
        sweep_study.train(*sweep_study.config_of(job.command),
                          asked=lambda: True)
      if not sweep_read.status(job.folder) == 'finished':
        return types.SimpleNamespace(poll=lambda: -15, send_signal=None)
    return sweep_study.here(job, lock)
  assert search(plan, start) == further
  # Its last try finds nothing left to do but the result.
  assert started.count(started[0]) == (
      sweep_study.STEPS + 2 if further else sweep_search.TRIES)
  assert [t.state.name for t in trials(plan)].count('COMPLETE') == 1 + further


def test_what_ended_before_optuna_knew_is_told(tmp_path):
  optuna = pytest.importorskip('optuna')
  plan, started = plan_in(tmp_path, trials=3), []
  def dies(job, lock):
    started.append(job.folder)
    if len(started) == 3:   # as it asks: Optuna has a trial without a point
      raise KeyboardInterrupt
    sweep_study.here(job, lock)
    if len(started) == 2:
      (job.folder / 'result.json').unlink()
      sweep_read.write_json(sweep_read.note(job.folder, 'pruned'), {'step': 4})
    sweep_run.release(lock)
    raise KeyboardInterrupt
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      search(plan, dies)
  # A worker that died between its question and the name of the point.
  sweep_search.open_study(optuna, plan).ask(
      sweep_search.distributions(optuna, plan.space))
  assert search(plan)
  assert [t.state.name for t in trials(plan)] == ['COMPLETE', 'PRUNED', 'FAIL',
                                                  'COMPLETE']
  assert params(plan)[3] == params(plan)[2]


def test_failures_are_counted_and_not_repeated(tmp_path):
  pytest.importorskip('optuna')
  weights = f'--random=reward.format.weight={sweep_study.FAILS},0.5'
  assert test_sweep.run(tmp_path / 's', weights, '--trials=6') == 1
  plan = plan_in(tmp_path / 's', [weights])
  found = [(t.params['rewards.format.weight'], t.state.name)
           for t in trials(plan)]
  assert set(found) == {('0.99', 'FAIL'), ('0.5', 'COMPLETE')}
  assert len(found) == 6
  rows = sweep_read.read_json(tmp_path / 's/table.json')['rows']
  assert [row['status'] for row in rows] == [
      {'FAIL': 'failed', 'COMPLETE': 'finished'}[state] for _, state in found]


def within_a_run(folder, pid: int) -> bool:
  """Whether a worker's run is between its first line and its last, and three
  runs have ended."""
  def mine(lock):
    run, owner = lock.with_suffix(''), lock.read_text().split()
    return (owner[1:] == [str(pid)] and not (run / 'result.json').exists()
            and 1 <= len(sweep_read.logged(run)) < sweep_study.STEPS)
  return (len(list(folder.glob('*/seed*/result.json'))) >= 3
          and any(map(mine, folder.glob('*/seed*.lock'))))


def killed_search(folder, flags, **options):
  """Two workers of one search, of which one is killed; then all ends."""
  with test_sweep.processes() as begin:
    workers = [begin(folder, flags, **options) for _ in range(2)]
    test_sweep.wait_for(lambda: within_a_run(folder, workers[0].pid),
                        workers[0])
    workers[0].kill()
    workers[0].wait()
    assert workers[1].wait() == 0


def check_survived(folder, count):
  """The search ended as asked, with one trial taken over."""
  rows = sweep_read.read_json(folder / 'table.json')['rows']
  assert len(rows) == count
  found = trials(plan_in(folder, trials=count, pruner='median'))
  states = [trial.state.name for trial in found]
  print([(trial.state.name, trial.user_attrs.get('instead_of'),
          max(trial.intermediate_values, default=None)) for trial in found])
  assert states.count('COMPLETE') + states.count('PRUNED') == count
  assert states.count('RUNNING') + states.count('WAITING') == 0
  assert len(states) == count + states.count('FAIL') > count
  assert {row['status'] for row in rows} <= {'finished', 'pruned'}


@pytest.mark.slow
def test_a_killed_worker_of_two(tmp_path):
  pytest.importorskip('optuna')
  flags = (*RANGES, '--trials=12', '--parallel=2')
  killed_search(tmp_path / 's', flags, program=test_sweep.STAND_IN,
                SWEEP_HOLD_S='1')
  check_survived(tmp_path / 's', 12)


@pytest.mark.slow
def test_a_killed_worker_of_two_with_the_real_trainer(tmp_path):
  pytest.importorskip('optuna')
  killed_search(
      tmp_path / 's', (*RANGES, *test_sweep.REAL_FLAGS, '--trials=12'),
      **test_sweep.REAL)
  check_survived(tmp_path / 's', 12)
