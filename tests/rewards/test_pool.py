"""What a bad sample costs, whose workers end when, and equality without one."""

import collections
import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from medrl import types
from medrl.rewards import pool
from tests.rewards import misbehaving

ROOT = pathlib.Path(__file__).parents[2]
RECORD = types.Record(id='r', question='q', answer='yes', answer_type='yesno')


def sample(*texts, **context):
  return RECORD, [types.Completion(t) for t in texts], context


def opened(name, **options):
  options = {'workers': 2, 'limit_s': 20.0} | options
  return pool.open_pool(functools.partial(misbehaving.make, name), **options)


def alive(pid):
  try:
    status = pathlib.Path(f'/proc/{int(pid)}/stat').read_text()
  except FileNotFoundError:
    return False
  return status.rpartition(')')[2].split()[0] != 'Z'


def ended(pids, seconds=20):
  deadline = time.monotonic() + seconds
  while any(map(alive, pids)) and time.monotonic() < deadline:
    time.sleep(.05)
  return not any(map(alive, pids))


def test_equals_the_reward_called_here():
  texts = ['', 'a', 'unparsed', '\x00\ud800\U0001fac1', 'x' * 70000]
  groups = [sample(*texts), sample(), sample(*texts[::-1] * 20)]
  here = [misbehaving.length(*g) for g in groups]
  with opened('length') as p:
    for _ in range(2):
      scores = p.score(groups)
      assert [(s.total, s.parts, s.parsed, s.valid, s.errors)
              for s in scores[::2]] == [
                  (s.total, s.parts, s.parsed, s.valid, s.errors)
                  for s in here[::2]]
      assert scores[1].total == ()
    assert p.score([]) == []
    assert p.failed == {'errors': 0, 'timeouts': 0}


@pytest.mark.parametrize('what, cause', [
    ('hang', 'timeouts'),
    ('regex', 'timeouts'),    # no Python thread or handler could stop it
    ('deaf', 'timeouts'),
    ('stop', 'timeouts'),     # a stopped process reads no signal but SIGKILL
    ('exit', 'errors'),
    ('segfault', 'errors'),
    ('quit', 'errors'),
    ('raise', 'errors'),
    ('deep', 'errors'),
    ('nan', 'errors'),
])
def test_a_bad_sample_fails_alone(what, cause, caplog):
  good = ['x' * i for i in range(40)]
  groups = [sample(*good[:3], what, *good[3:7]), sample(*good), sample(what)]
  limit = .5 if cause == 'timeouts' else 20.
  with opened('act', limit_s=limit) as p:
    scores = p.score(groups)
    failed = p.failed
    again = p.score([sample('ab')])
  assert failed == {'errors': 0, 'timeouts': 0} | {cause: 2}
  assert scores[0].total == (0, 1, 2, 0, 3, 4, 5, 6)
  assert scores[0].parts == {'act': scores[0].total}
  assert scores[1].total == tuple(range(40)) and scores[1].errors == 0
  assert scores[2] == types.Score((0.0,), {}, (True,), (True,), 1, ((),))
  assert [s.errors for s in scores] == [1, 0, 1]
  assert again[0].total == (2.0,)
  assert p.failed == {'errors': 0, 'timeouts': 0}   # of the last call
  assert len(caplog.records) == 1 and 'patient' not in caplog.text


@pytest.mark.parametrize('policy, valid', [('zero', True), ('mask', False)])
def test_policies(policy, valid):
  with opened('act', policy=policy) as p:
    score, = p.score([sample('abc', 'raise', 'ab', 'exit')])
  assert score.total == (3.0, 0.0, 2.0, 0.0)
  assert score.valid == (True, valid, True, valid)
  assert score.parsed == (True,) * 4   # nobody knows that it was not


def test_a_group_reward_gets_whole_groups_and_loses_them():
  full = [types.Completion('a', ids=(1, 2), spans=((0, 1), (1, 1)),
                           signals={'x': np.arange(4.)}),
          types.Completion('b')]
  bad = [*full, types.Completion('exit')]
  groups = [(RECORD, full, {'bonus': 10}), (RECORD, bad, {}),
            (RECORD, full[:1], collections.ChainMap({'bonus': 1}))]
  with opened('whole', policy='mask') as p:
    scores = p.score(groups)
    assert p.failed == {'errors': 1, 'timeouts': 0}
  assert scores[0].total == (18.0, 10.0) and scores[2].total == (9.0,)
  assert scores[0].parts == {'ids': (2, 0)}
  assert scores[0].spans == (((0, 1, 1.0),),) * 2
  assert (scores[1].total, scores[1].valid, scores[1].errors) == (
      (0.0,) * 3, (False,) * 3, 1)


def test_a_score_of_another_size_is_an_error():
  with opened('short') as p:
    assert p.score([sample('a', 'b')])[0].errors == 1


def test_every_sample_may_hang():
  with opened('act', limit_s=.1) as p:
    scores = p.score([sample(*['hang'] * 5), sample('a')])
    assert p.failed == {'errors': 0, 'timeouts': 5}
  assert [s.total for s in scores] == [(0.0,) * 5, (1.0,)]


def test_the_limit_is_of_a_sample_and_not_of_what_is_sent_together():
  with opened('act', workers=1, limit_s=.5) as p:
    p.score([sample(*['nap'] * 24)])
    assert p.failed == {'errors': 0, 'timeouts': 0}


def test_workers_share_work_load_no_jax_and_end():
  with opened('process') as p:
    pids = {v for s in p.score([sample(*'ab' * 50)]) for v in s.total}
    assert len(pids) == 2 and os.getpid() not in pids
  assert not any(map(alive, pids))
  with opened('modules') as p:
    loaded, = p.score([sample('medrl.types', 'jax')])
  assert loaded.total == (1.0, 0.0)


def test_the_order_of_a_set_does_not_depend_on_the_worker():
  with opened('order') as p:
    totals = p.score([sample(*['abcdefgh'] * 64)])[0].total
  assert len(set(totals)) == 1


def test_an_idle_worker_that_died_is_replaced():
  with opened('process') as p:
    for pid in {v for s in p.score([sample(*'ab' * 20)]) for v in s.total}:
      os.kill(int(pid), signal.SIGKILL)
    scores = p.score([sample(*'abc')])
    # What it was sent before its death was seen may have failed, no more.
    assert len(scores[0].total) == 3


def test_first_use_is_charged_to_none():
  options = {'workers': 1, 'limit_s': .4}
  with pool.open_pool(misbehaving.make_slow_at_first, **options) as p:
    assert p.score([sample('a', 'b')])[0].total == (0.0, 0.0)
    assert p.failed['timeouts'] == 2   # each new worker begins anew
  with pool.open_pool(misbehaving.make_slow_at_first, warm=[sample('a')],
                      **options) as p:
    assert p.score([sample('a', 'b')])[0].total == (1.0, 1.0)


def test_nothing_that_a_reward_prints_is_shown(capfd):
  with opened('loud') as p:
    p.score([sample('patient 7')])
  assert 'patient' not in ''.join(capfd.readouterr())


@pytest.mark.parametrize('make, options, error', [
    ('make_never', {}, 'did you mean this one'),
    ('make_quit', {}, 'exit code 5'),
    ('make_hang', {'start_s': .3}, 'start_s 0.3'),
])
def test_a_reward_that_cannot_be_made(make, options, error):
  with pytest.raises(RuntimeError, match=error), pool.open_pool(
      getattr(misbehaving, make), workers=1, limit_s=1, **options):
    pass


@pytest.mark.parametrize('wrong', [
    {'workers': 0}, {'limit_s': 0}, {'limit_s': float('nan')},
    {'policy': 'drop'}])
def test_wrong_arguments(wrong):
  with pytest.raises(ValueError, match='expected at least 1'), opened(
      'act', **wrong):
    pass


def test_a_closed_pool_says_so():
  with opened('act', workers=1) as p:
    with pytest.raises(AttributeError):
      p.score([(RECORD, [None], {})])
    with pytest.raises(RuntimeError, match='closed'):
      p.score([sample('a')])


SCRIPT = '''
import threading
from tests.rewards import test_pool
if __name__ == '__main__':
  with (test_pool.opened('process', workers=1) as idle,
        test_pool.opened('act', workers=1, limit_s=600) as python,
        test_pool.opened('act', workers=1, limit_s=2) as kernel):
    print(*[p._workers[0].process.pid for p in (idle, python, kernel)],
          flush=True)
    threading.Thread(target=python.score, args=([test_pool.sample('hang')],),
                     daemon=True).start()
    kernel.score([test_pool.sample('regex')])
'''


@pytest.mark.skipif(not pathlib.Path('/proc').is_dir(), reason='needs /proc')
def test_workers_end_when_their_parent_is_killed(tmp_path):
  """An idle one sees its pipe close, one in Python sees another parent.

  One within a regular expression sees nothing, but the kernel's timer ends it.
  """
  script = tmp_path / 'script.py'
  script.write_text(SCRIPT)
  parent = subprocess.Popen(
      [sys.executable, str(script)], stdout=subprocess.PIPE, text=True,
      env={**os.environ, 'PYTHONPATH': str(ROOT)})
  try:
    pids = list(map(int, parent.stdout.readline().split()))
    assert len(pids) == 3 and all(map(alive, pids))
    time.sleep(.5)   # until the hanging ones hang
  finally:
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
  assert ended(pids)


def test_what_a_hanging_reward_started_dies_with_it():
  """Its child is not left behind, nor does it keep the pipe open."""
  with opened('act', workers=1, limit_s=.5) as p:
    started = time.monotonic()
    p.score([sample('bear')])
    assert time.monotonic() - started < 10
    group = p._workers[0].process.pid
  left = [f for f in pathlib.Path('/proc').glob('[0-9]*/cmdline')
          if 'time.sleep(600)' in _read(f)]
  assert not left and not alive(group)


def _read(path):
  try:
    return path.read_text()
  except OSError:
    return ''
