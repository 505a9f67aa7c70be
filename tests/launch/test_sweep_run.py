"""Locks, shards, ends of processes, and the plan that a folder keeps."""

import os
import signal
import subprocess
import sys
import time
import types

import pytest

from launch import sweep_read
from launch import sweep_run


def jobs_in(folder, count):
  return [sweep_run.Job(folder / f'point{i}' / 'seed0', ()) for i in
          range(count)]


def instantly(code=0, result=True, record=None):
  """A starter whose process has ended as soon as it is looked at."""
  def start(job, lock):
    del lock
    if record is not None:
      record.append(job.folder.parent.name)
    job.folder.mkdir(parents=True, exist_ok=True)
    if result:
      (job.folder / 'result.json').write_text('{}')
    return types.SimpleNamespace(poll=lambda: code, send_signal=None)
  return start


def run_all(jobs, starter, parallel=1, asked=lambda: False):
  return sweep_run.run_all(jobs, parallel, asked, starter, poll_s=0)


@pytest.mark.parametrize('count', [1, 2, 3, 7])
def test_shards_are_disjoint_and_all(tmp_path, count):
  jobs = jobs_in(tmp_path, 5)
  shares = [sweep_run.shard(jobs, f'{i}/{count}') for i in range(count)]
  together = [job for share in shares for job in share]
  assert sorted(j.folder for j in together) == [j.folder for j in jobs]
  assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize('text', ['2/2', '-1/2', '1', 'a/b', '0/0', '1/2/3'])
def test_what_is_no_shard(text):
  with pytest.raises(ValueError, match='expected i/n'):
    sweep_run.shard([], text)


def test_finished_runs_are_skipped_and_failed_ones_tried_once_more(tmp_path):
  jobs, record = jobs_in(tmp_path, 3), []
  jobs[1].folder.mkdir(parents=True)
  (jobs[1].folder / 'result.json').write_text('{}')
  found = run_all(jobs, instantly(1, result=False, record=record))
  assert list(found.values()) == ['failed', 'finished', 'failed']
  assert record == ['point0', 'point2']
  note = sweep_read.read_json(sweep_read.note(jobs[0].folder, 'failed'))
  assert note['exit'] == 1
  found = run_all(jobs, instantly(record=record))
  assert set(found.values()) == {'finished'}
  assert record == ['point0', 'point2'] * 2
  assert not sweep_read.note(jobs[0].folder, 'failed').exists()


def test_what_another_worker_failed_is_not_tried_again(tmp_path):
  jobs, record = jobs_in(tmp_path, 2), []
  def start(job, lock):
    # While this worker runs one, another fails at the other.
    other = sweep_read.note(jobs[1].folder, 'failed')
    sweep_read.write_json(other, {'exit': 1, 'ended': 2, 'last_lines': []})
    return instantly(record=record)(job, lock)
  sweep_read.write_json(sweep_read.note(jobs[1].folder, 'failed'),
                        {'exit': 1, 'ended': 1, 'last_lines': []})
  found = run_all(jobs, start)
  assert list(found.values()) == ['finished', 'failed']
  assert record == ['point0']


@pytest.mark.parametrize('code, found', [
    (0, 'stopped'), (130, 'stopped'), (-signal.SIGTERM, 'stopped'),
    (1, 'failed'), (-signal.SIGKILL, 'failed')])
def test_how_a_run_without_a_result_ended(tmp_path, code, found):
  jobs = jobs_in(tmp_path, 1)
  assert run_all(jobs, instantly(code, result=False)) == {
      jobs[0].folder: found}


@pytest.mark.parametrize('parallel', [1, 2, 4])
def test_so_many_run_at_once(tmp_path, parallel):
  alive, most = set(), []
  def start(job, lock):
    alive.add(job)
    most.append(len(alive))
    looks = []
    def poll():
      looks.append(0)
      if len(looks) < 4:
        return None
      alive.discard(job)
      return instantly()(job, lock).poll()
    return types.SimpleNamespace(poll=poll)
  found = run_all(jobs_in(tmp_path, 6), start, parallel)
  assert set(found.values()) == {'finished'} and max(most) == parallel


def test_a_stop_reaches_the_runs_and_starts_no_more(tmp_path):
  sent = []
  def start(job, lock):
    del lock
    job.folder.mkdir(parents=True)
    return types.SimpleNamespace(poll=lambda: 0 if len(sent) else None,
                                 send_signal=sent.append)
  found = run_all(jobs_in(tmp_path, 2), start,
                  asked=lambda: (tmp_path / 'point0/seed0').exists())
  assert list(found.values()) == ['stopped', 'missing']
  assert sent == [signal.SIGTERM]


def test_last_lines_of_a_log_with_a_progress_bar(tmp_path):
  path = tmp_path / 'log'
  path.write_bytes(b'old\n' * 30 + b'0 %\r50 %\r100 %\n\nValueError: why\n')
  found = sweep_run.last_lines(path)
  assert found[-2:] == ['100 %', 'ValueError: why']
  assert len(found) == sweep_run.LINES


def test_a_lock_ends_with_the_last_who_holds_it(tmp_path):
  """The sweep that began a run is killed; its run holds the lock on."""
  path = tmp_path / 'seed0.lock'
  lock = sweep_run.take(path)
  assert sweep_run.take(path) is None
  child = subprocess.Popen([sys.executable, '-c', 'input()'],
                           stdin=subprocess.PIPE, pass_fds=(lock,))
  sweep_run.release(lock)
  assert sweep_run.take(path) is None
  assert path.read_text().split()[1] == str(os.getpid())
  child.communicate(b'\n')
  again = sweep_run.take(path)
  assert again is not None
  sweep_run.release(again)


@pytest.mark.skipif(sys.platform != 'linux', reason='prctl is Linux')
def test_runs_end_with_a_killed_sweep(tmp_path):
  """It gets SIGTERM, on which a run saves; then another may have it."""
  saves = ('import signal, sys, time, pathlib\n'
           f'folder = pathlib.Path({str(tmp_path)!r})\n'
           'def save(*_):\n'
           '  (folder / "saving").touch()\n'
           '  while not (folder / "saved").exists(): time.sleep(.05)\n'
           '  sys.exit()\n'
           'signal.signal(signal.SIGTERM, save)\n'
           '(folder / "up").touch()\n'
           'time.sleep(600)\n')
  sweeps = ('import sys, pathlib, time\n'
            'from launch import sweep_run, sweep_read\n'
            f'folder = pathlib.Path({str(tmp_path / "p/seed0")!r})\n'
            'folder.parent.mkdir()\n'
            f'job = sweep_run.Job(folder, [sys.executable, "-c", {saves!r}])\n'
            'sweep_run.start(job, sweep_run.take('
            'sweep_read.note(folder, "lock")))\n'
            'time.sleep(600)\n')
  sweep = subprocess.Popen([sys.executable, '-c', sweeps], cwd=sweep_run.ROOT)
  wait_for(tmp_path / 'up')
  sweep.kill()
  sweep.wait()
  wait_for(tmp_path / 'saving')
  assert sweep_run.take(tmp_path / 'p/seed0.lock') is None
  (tmp_path / 'saved').touch()
  with sweep_run.locked(tmp_path / 'p/seed0.lock'):
    pass


def wait_for(path):
  deadline = time.monotonic() + 240
  while not path.exists():
    assert time.monotonic() < deadline, f'no {path}'
    time.sleep(.05)


PLAN = {'config': 'x.py', 'fixed': {}, 'metric': 'm', 'search': {},
        'seeds': [0, 1], 'points': [{'name': 'a', 'overrides': {'k': 1}}]}
MORE = {'name': 'b', 'overrides': {'k': 2}}


@pytest.mark.parametrize('changed, says', [
    ({}, ''),
    ({'seeds': [0, 1, 2]}, ''),
    ({'points': [MORE, *PLAN['points']]}, ''),
    ({'seeds': [0]}, 'has seeds that this sweep lacks, such as 1'),
    ({'points': [MORE]}, "points that this sweep lacks, such as .*'a'"),
    ({'fixed': {'k': 3}}, 'another sweep: its fixed is {}, not'),
    ({'config': 'y.py'}, "another sweep: its config is 'x.py', not 'y.py'"),
    ({'search': {'seed': 1}}, 'another sweep: its search'),
])
def test_a_sweep_may_only_be_extended(tmp_path, changed, says):
  sweep_read.record_plan(tmp_path, PLAN)
  wanted = {**PLAN, **changed}
  if says:
    with pytest.raises(ValueError, match=says):
      sweep_read.record_plan(tmp_path, wanted)
    wanted = PLAN
  else:
    sweep_read.record_plan(tmp_path, wanted)
  assert sweep_read.read_plan(tmp_path) == wanted
