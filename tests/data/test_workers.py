import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from medrl import types
from medrl.data import workers

ROOT = pathlib.Path(__file__).parents[2]
RECORDS = [types.Record(id=str(i), question='?', answer='yes',
                        answer_type='yesno') for i in range(6)]


def report(record):
  """What jax is to the process that encodes."""
  import jax
  from jax._src import xla_bridge
  return types.Example(record, prompt=f'{os.getpid()} '
                       f'{jax.config.jax_platforms} '
                       f'{xla_bridge.backends_are_initialized()}')


def fail(record):
  raise RuntimeError(f'cannot encode {record.id}')


def stream(encode, count, **options):
  options = {'shuffle_seed': -1, 'repeat': False, 'part': slice(None)} | options
  dataset = workers.examples(RECORDS, encode, **options)
  return iter(workers.read(dataset, count, 2))


def test_workers_hold_no_accelerator(monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)  # or they inherit it
  reader = stream(report, 2)
  found = [e.prompt.split() for e in reader]
  reader.close()
  assert len({pid for pid, _, _ in found} - {str(os.getpid())}) == 2
  assert {tuple(rest) for _, *rest in found} == {('cpu', 'False')}


@pytest.mark.parametrize('count', [0, 2])
def test_an_error_is_an_example(count):
  reader = stream(fail, count)
  found = list(reader)
  reader.close()
  assert [e.record.id for e in found] == [r.id for r in RECORDS]
  assert not any(e.valid for e in found)
  assert found[4].reason == 'RuntimeError: cannot encode 4'


SCRIPT = '''
import time
from tests.data import test_workers
if __name__ == '__main__':
  reader = test_workers.stream(test_workers.report, 2, repeat=True)
  print(*{next(reader).prompt.split()[0] for _ in range(6)}, flush=True)
  time.sleep(600)
'''


def alive(pid):
  try:
    status = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except FileNotFoundError:
    return False
  return status.rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.skipif(not pathlib.Path('/proc').is_dir(), reason='needs /proc')
def test_workers_end_when_their_parent_is_killed(tmp_path):
  script = tmp_path / 'script.py'
  script.write_text(SCRIPT)
  parent = subprocess.Popen(
      [sys.executable, str(script)], stdout=subprocess.PIPE, text=True,
      env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'})
  try:
    pids = parent.stdout.readline().split()
    assert len(pids) == 2 and all(map(alive, pids))
  finally:
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
  deadline = time.monotonic() + 20
  while any(map(alive, pids)) and time.monotonic() < deadline:
    time.sleep(.1)
  left = [pid for pid in pids if alive(pid)]
  for pid in left:
    os.kill(int(pid), signal.SIGKILL)
  assert not left
