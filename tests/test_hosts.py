"""Processes that join, meet, hang and die, mostly without a device."""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import pytest

from medrl import hosts

ROOT = pathlib.Path(__file__).parents[1]


def free_port() -> int:
  with socket.socket() as found:
    found.bind(('localhost', 0))
    return found.getsockname()[1]


def start(call: str, *arguments, cwd=ROOT) -> subprocess.Popen:
  """`call` of this module in a fresh process; what it prints are its words."""
  return subprocess.Popen(
      [sys.executable, '-c', f'from tests import test_hosts as t; t.{call}',
       *map(str, arguments)], cwd=cwd, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'})


@pytest.mark.parametrize('coordinator, place, called', [
    ('', (None, None), None),
    ('auto', (None, None), ()),
    ('a:1', (4, 0), ('a:1', 4, 0))])
def test_join(monkeypatch, coordinator, place, called):
  """On a pod, --coordinator=auto leaves the rest to jax."""
  calls = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *places, **times:
                      calls.append((places, times)))
  hosts.join(coordinator, place, silent_s=30, meet_s=600)
  if called is None:
    assert not calls
    return
  (places, times), = calls
  assert places == called
  assert times == {'heartbeat_timeout_seconds': 30, 'initialization_timeout':
                   600, 'shutdown_timeout_seconds': hosts._SHUTDOWN_S}


@pytest.mark.parametrize('coordinator, place', [
    ('', (2, 0)), ('a:1', (2, None)), ('a:1', (None, None)), ('', (None, 1))])
def test_half_a_place_is_refused(coordinator, place):
  with pytest.raises(ValueError, match=f'--coordinator={coordinator} --proc'):
    hosts.join(coordinator, place, silent_s=30, meet_s=600)


def attend(port, process, folder):
  """Meets, then tells what it is told when the other does not come, and when
  the folder of the other is not its own."""
  from medrl import claims
  hosts.join(f'localhost:{port}', (2, process), silent_s=30, meet_s=60)
  for _ in range(2):
    hosts.meet('both', 60)
  said = []
  claims._look = functools.partial(claims._look, seconds=1.)
  try:
    with claims.claim(folder, 60):
      said.append('one folder')
  except (OSError, ValueError) as error:
    said.append(f'{type(error).__name__}: {error}')
  if not process:
    try:
      hosts.meet('alone', .5)
    except TimeoutError as error:
      said.append(str(error))
    hosts.tell('seen', 'yes')
  hosts.hear('seen', 0, 60)
  print(json.dumps(said))


def test_two_processes_meet_and_name_who_is_absent(tmp_path):
  port = free_port()
  here, there = tmp_path / 'here', tmp_path / 'there'
  pair = [start(f'attend({port}, {i}, {str(folder)!r})')
          for i, folder in enumerate((here, there))]
  found = []
  for process in pair:
    out, errors = process.communicate(timeout=280)
    assert not process.returncode, errors[-3000:]
    found.append(json.loads(out.splitlines()[-1]))
  who = f'process 1 (pid {pair[1].pid} on {socket.gethostname()})'
  for (claimed, *_) in found:
    assert claimed.startswith('ValueError: --workdir=')
    assert f'{who} sees no such file as lock.json' in claimed
  assert found[0][1].startswith(f"{who} did not come to 'alone', where process "
                                f'0 waited 0.5 s')


class Peers:
  """A coordinator as this process sees it; the other processes are told of."""

  def __init__(self, **keys):
    self.keys = {f'medrl/{name}': text for name, text in keys.items()}

  def key_value_set(self, key, text, overwrite):
    self.keys[key] = text

  def key_value_dir_get(self, folder):
    return [pair for pair in self.keys.items() if pair[0].startswith(folder)]

  def key_value_increment(self, key, by):
    self.keys[key] = str(int(self.keys.get(key, 0)) + by)
    return int(self.keys[key])

  def wait_at_barrier(self, key, timeout):
    raise jax.errors.JaxRuntimeError('DEADLINE_EXCEEDED')


@pytest.fixture
def peers(monkeypatch):
  found = Peers(**{'who/1': 'pid 7 on b'})
  monkeypatch.setattr(hosts, '_client', lambda: found)
  monkeypatch.setattr(hosts.distributed.global_state, 'num_processes', 2)
  return found


GLOO = 'UNKNOWN: Gloo AllGather failed: closed by peer [127.0.0.1]:4015'


@pytest.mark.parametrize('error, failed, says', [
    (ValueError(GLOO), None, "process 1 (pid 7 on b) did not come to 'error'"),
    (jax.errors.JaxRuntimeError(GLOO), 'ValueError',
     'process 1 (pid 7 on b) failed first with ValueError'),
    (ValueError("record 'Roentgen' cannot be used"), None, 'ValueError, its'),
    (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 2 GiB'), None,
     'JaxRuntimeError, its own')])
def test_what_ends_a_process_is_named(peers, caplog, error, failed, says):
  if failed:
    peers.key_value_set('medrl/failed/1', failed, True)
  with pytest.raises(type(error)), hosts.company():
    raise error
  assert f'ends: {says}' in caplog.text
  # The others learn who was the first, and nothing of a record.
  own = 'its own' in caplog.text
  assert ('medrl/failed/0' in peers.keys) == own
  assert 'Roentgen' not in caplog.text + str(peers.keys)


def test_a_step_that_hangs_shows_where(tmp_path, capfd):
  file = tmp_path / f'stacks.{hosts.index()}.txt'
  with hosts.watch(tmp_path, .2, 0, step=6) as beat:
    beat(7)
    deadline = time.monotonic() + 60
    while 'test_hosts.py' not in file.read_text():
      assert time.monotonic() < deadline
      time.sleep(.01)
  words = 'step 8 of process 0 has taken more than 0.2 s; it goes on'
  for text in (file.read_text(), capfd.readouterr().err):
    assert words in text and 'test_a_step_that_hangs' in text


def test_no_limit_no_file(tmp_path):
  with hosts.watch(tmp_path, 0, 600) as beat:
    beat(1)
  assert not list(tmp_path.iterdir())


def hang(folder):
  with hosts.watch(pathlib.Path(folder), .2, .3):
    import re
    re.match('(a|aa)+$', 'a' * 99 + '!')   # holds Python's lock for years


def test_a_step_that_hangs_for_good_ends_even_where_python_hangs(tmp_path):
  process = start(f'hang({str(tmp_path)!r})')
  _, errors = process.communicate(timeout=280)
  assert process.returncode == 1, errors[-3000:]
  assert 'in hang' in (tmp_path / 'stacks.0.txt').read_text()
