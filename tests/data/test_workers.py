import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from medrl import types
from medrl.data import mixture
from medrl.data import workers

ROOT = pathlib.Path(__file__).parents[2]
RECORDS = [types.Record(id=str(i), question='?', answer='yes',
                        answer_type='yesno') for i in range(6)]


def report(record, root):
  """What jax is to the process that encodes."""
  import jax
  from jax._src import xla_bridge
  return types.Example(record, prompt=f'{os.getpid()} '
                       f'{jax.config.jax_platforms} '
                       f'{xla_bridge.backends_are_initialized()}')


def fail(record, root):
  raise RuntimeError(f'cannot encode {record.id}')


def stream(encode, count, repeat=False):
  sources = (mixture.Source(RECORDS, 'root'),)
  draw = workers.Draw(
      sources, mixture.order(sources, 0, shuffle=False, repeat=repeat),
      workers.Share(2), encode, accept=kept)
  return iter(workers.read(workers.examples(draw), count, 2))


def kept(example):
  return example


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


@pytest.mark.parametrize('rows, count, start', [
    (4, 1, 0), (2, 2, 0), (1, 4, 8), (3, 2, 5)])
def test_shares_make_up_the_stream(rows, count, start):
  shares = [workers.Share(rows, i, count, start) for i in range(count)]
  for total in range(start, start + 20):
    drawn = [s.place(n) for s in shares for n in range(s.draws(total))]
    assert sorted(drawn) == list(range(start, total))
  # Process by process, a batch's rows are in the order of the stream.
  batch = [s.place(n) for s in shares for n in range(rows)]
  assert batch == list(range(start, start + rows * count))


def test_spares_stand_in_for_bad_records():
  sources = (mixture.Source(RECORDS), mixture.Source(RECORDS[:2], name='two'))
  def encode(record, root):
    if int(record.id) % 2:
      raise OSError('gone')
    return types.Example(record)
  draw = workers.Draw(
      sources, mixture.order(sources, 0, shuffle=True, repeat=True),
      workers.Share(1), encode, kept, attempts=20)
  found = [draw(i) for i in range(40)]
  assert all(e.valid for e in found)
  assert {e.record.id for e in found} == {'0', '2', '4'}
  skipped = [pair for e in found for pair in e.skipped]
  assert {r for r, _ in skipped} == {'1', '3', '5'}
  assert {why for _, why in skipped} == {'OSError: gone'}


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
