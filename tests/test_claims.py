"""A workdir has one run, whatever a dead one has left in it."""

import errno
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys

import pytest

from medrl import claims
from tests.store import store   # noqa: F401, a fixture


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
  """Refuses at once, and not after some seconds."""
  wait = claims._lock
  monkeypatch.setattr(claims, '_lock', lambda file, workdir: wait(
      file, workdir, seconds=0))


def lock(folder):
  return json.loads((folder / claims.LOCK).read_text())


def test_a_second_run_is_refused_while_the_first_lives(tmp_path):
  with claims.claim(tmp_path / 'run', 1):
    here = lock(tmp_path / 'run')
    with pytest.raises(BlockingIOError) as error:
      with claims.claim(tmp_path / 'run', 1):
        pass
  for part in (f'pid {os.getpid()} on {here["host"]}', here['started'],
               'another --workdir'):
    assert part in str(error.value)
  with claims.claim(tmp_path / 'run', 1):   # as it has ended
    assert lock(tmp_path / 'run')['token'] != here['token']


HOLD = '''
import sys, time
from medrl import claims
with claims.claim(sys.argv[1], 1):
  print('held', flush=True)
  time.sleep(600)
'''


def test_the_lock_of_a_killed_run_holds_nobody_up(tmp_path, caplog):
  holder = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path)],
                            stdout=subprocess.PIPE)
  try:
    assert holder.stdout.readline() == b'held\n'
    with pytest.raises(BlockingIOError, match=f'pid {holder.pid} on'):
      with claims.claim(tmp_path, 1):
        pass
  finally:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
  assert lock(tmp_path)['pid'] == holder.pid
  with caplog.at_level(logging.INFO), claims.claim(tmp_path, 1):
    assert lock(tmp_path)['pid'] == os.getpid()
  assert f'last held by pid {holder.pid} on' in caplog.text


@pytest.mark.parametrize('left', ['', '{"tok', '{"token": "a", "pid": 1, '
                                  '"host": "gone", "started": "then"}'])
def test_whatever_is_in_a_lock_that_nobody_holds(tmp_path, left):
  (tmp_path / claims.LOCK).write_text(left)
  with claims.claim(tmp_path, 1):
    assert lock(tmp_path)['pid'] == os.getpid()


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch,
                                                  caplog):
  def refuse(file, how):
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
  monkeypatch.setattr(fcntl, 'flock', refuse)
  with claims.claim(tmp_path, 1):
    pass
  assert 'cannot be locked (Operation not supported)' in caplog.text


@pytest.mark.parametrize('number', [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_workdir_that_cannot_be_written(tmp_path, monkeypatch, number):
  def refuse(file, text, workdir):
    raise OSError(number, os.strerror(number))
  monkeypatch.setattr(claims, '_rewrite', refuse)
  with pytest.raises(OSError) as error:
    with claims.claim(tmp_path / 'run', 1):
      pass
  assert error.value.errno == number
  assert f'{tmp_path / "run"} cannot be written ({os.strerror(number)})' in str(
      error.value)


def test_a_store_has_a_name_in_it_and_no_lock(store):   # noqa: F811
  with claims.claim('gs://bucket/run', 1):
    with claims.claim('gs://bucket/run', 1):
      assert lock(store / 'bucket/run')['pid'] == os.getpid()
