"""Starts runs as a user does, in processes that can be killed.

Not a test. Every run is the leader of a session of its own, so that a signal
to its group meets all it started and what is left of it can be found.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests import conftest

ROOT = pathlib.Path(__file__).parents[2]
STUDY = pathlib.Path(__file__).with_name('study.py')
TIMEOUT = 900   # seconds after which a run counts as hung, beside others too


def environment(devices: int = 1, **more) -> dict[str, str]:
  """Of a CPU run with so many fake devices."""
  return {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT),
          'XLA_FLAGS': f'{conftest.QUICK} '
                       f'--xla_force_host_platform_device_count={devices}',
          **more}


def start(folder, *arguments, devices=1, **more) -> subprocess.Popen:
  """`python *arguments`, its output in `<folder>/output.<number>`."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  log = folder / f'output.{len(list(folder.glob("output.*")))}'
  with open(log, 'wb') as file:
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=file,
        stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True,
        env=environment(devices, **more))
  process.log = log
  return process


def train(folder, *flags, **options) -> subprocess.Popen:
  """Starts, or goes on with, the study of these tests in a folder."""
  return start(folder, '-m', 'medrl.main', f'--config={STUDY}',
               f'--workdir={folder}', *flags, **options)


def finish(process, status: int = 0) -> str:
  """Waits for the end and returns the output; fails on another status."""
  try:
    found = process.wait(TIMEOUT)
  except subprocess.TimeoutExpired:
    found = f'nothing for {TIMEOUT} s'
  finally:
    end(process)
  text = process.log.read_text()
  assert found == status, f'exit {found}, expected {status}:\n{text[-3000:]}'
  return text


def kill(process) -> None:
  """Kills the run itself, and not what it started."""
  process.kill()
  process.wait()


def wait_for(process, path) -> None:
  """Waits until a run has made a file; fails where it ends before."""
  deadline = time.monotonic() + TIMEOUT
  while not pathlib.Path(path).exists():
    hung = time.monotonic() > deadline
    if hung or process.poll() is not None:
      end(process)
      raise AssertionError(f'no {path}:\n{process.log.read_text()[-3000:]}')
    time.sleep(.01)


def members(process) -> list[int]:
  """Live processes of a run's session, orphans included."""
  found = []
  for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = stat.read_text().rpartition(')')[2].split()
    except (FileNotFoundError, ProcessLookupError):
      continue
    if int(fields[3]) == process.pid and fields[0] != 'Z':
      found.append(int(stat.parent.name))
  return found


def survivors(process, seconds: float = 20) -> list[int]:
  """What a dead run has left behind, after so long a wait."""
  deadline = time.monotonic() + seconds
  while members(process) and time.monotonic() < deadline:
    time.sleep(.1)
  return members(process)


def end(process) -> None:
  """Ends what is left of a run, so that no test leaves a process."""
  for pid in {*members(process), *([process.pid] * (process.poll() is None))}:
    try:
      os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
      pass
  process.wait()


def lines(path) -> list[str]:
  """The lines of a file, none where it is not there."""
  path = pathlib.Path(path)
  return path.read_text().splitlines() if path.exists() else []


def logged(folder) -> dict[str, list]:
  """All lines of a run's logs, cold start included, without times."""
  found = {}
  for name in ('sft/metrics', 'metrics', 'rollouts'):
    found[name] = [{k: v for k, v in json.loads(line).items()
                    if not k.startswith('time/')}
                   for line in lines(pathlib.Path(folder) / f'{name}.jsonl')]
  return found


def close(found, want, relative: float) -> None:
  """Asserts that rows are equal but for rounding, naming what is not."""
  assert len(found) == len(want)
  for got, row in zip(found, want):
    assert got.keys() == row.keys()
    for name, value in row.items():
      if isinstance(value, float):
        value = pytest.approx(value, rel=relative, abs=1e-6)
      assert got[name] == value, (row['step'], name)
