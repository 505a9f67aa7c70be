"""A run on a disk that fills, that cannot be written, that another run has, in
a store; and one whose whole process group is asked to stop."""

import os
import pathlib
import signal
import subprocess
import time

from etils import epath
import pytest

from medrl import build
from medrl import checkpoint
from medrl.evals import run as evals
from medrl.trainers import grpo
from tests.store import store   # noqa: F401, a fixture
from tests.trainers import runs
from tests.trainers import small


@pytest.fixture
def disk(tmp_path):
  """A disk of its own, and a function that mounts it with other options."""
  place = tmp_path / 'disk'
  place.mkdir()
  def mount(options):
    return subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'medrl',
                           str(place)], capture_output=True, check=False)
  if mount('size=64m').returncode:
    pytest.skip('may not mount a disk')
  yield place, lambda options: mount(f'remount,{options}')
  subprocess.run(['umount', '--lazy', str(place)], check=True)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Folder of the run that nothing interrupts."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  runs.finish(runs.train(folder))
  return folder


def same(folder, whole):
  found, want = runs.logged(folder), runs.logged(whole)
  for name, rows in want.items():
    assert found[name] == rows, name


def last(text: str) -> str:
  return text.splitlines()[-1]


def held(folder, moment):
  mark = folder.with_name('mark')
  process = runs.train(folder, MEDRL_HOLD=moment, MEDRL_HOLD_MARK=str(mark))
  runs.wait_for(process, mark)
  return process, mark


@pytest.mark.slow
def test_ac8_a_disk_that_fills_and_one_that_is_read_only(disk, tmp_path,
                                                         whole):
  place, mount = disk
  folder = place / 'run'
  outputs = tmp_path / 'outputs'
  def go(status):
    process = runs.start(outputs, '-m', 'medrl.main',
                         f'--config={runs.STUDY}', f'--workdir={folder}')
    return runs.finish(process, status)
  size = sum(f.stat().st_size for f in (whole / 'checkpoints').rglob('*')
             if f.is_file())
  # The cold start's two checkpoints fit, and one or two of RL's three.
  mount(f'size={int(size * 1.6)}')
  text = go(1)
  assert 'No space left on device' in last(text), text[-2000:]
  assert last(text).startswith('OSError: ')
  kept = {name: checkpoint.steps(folder / name) for name in (
      'sft/checkpoints', 'checkpoints')}
  assert kept['sft/checkpoints']
  print('on a full disk:', last(text), kept)
  mount('size=200m,ro')
  text = go(1)
  assert f'--workdir={folder} cannot be written (Read-only' in last(text)
  mount('size=200m,rw')
  go(0)
  same(folder, whole)


@pytest.mark.slow
def test_ac8_a_second_run_is_refused_and_a_dead_one_is_not(tmp_path, whole):
  folder = tmp_path / 'run'
  first, mark = held(folder, 'reward@10')
  before = sorted(p.name for p in folder.iterdir())
  second = runs.train(folder, '--config.seed=1')
  words = last(runs.finish(second, 1))
  assert 'BlockingIOError: ' in words and f'pid {first.pid} on' in words
  assert sorted(p.name for p in folder.iterdir()) == sorted(
      [*before, second.log.name])
  runs.kill(first)
  mark.unlink()
  text = runs.finish(runs.train(folder))
  assert f'last held by pid {first.pid} on' in text
  same(folder, whole)


@pytest.mark.slow
def test_sigterm_to_the_whole_group_spares_the_workers(tmp_path, whole):
  folder = tmp_path / 'run'
  process, mark = held(folder, 'reward@18')
  assert len(runs.members(process)) > 1   # data.workers is 1
  os.killpg(process.pid, signal.SIGTERM)
  time.sleep(1)
  os.killpg(process.pid, signal.SIGTERM)   # as a script above passes it on
  mark.unlink()
  text = runs.finish(process, 0)
  assert 'stopped by SIGTERM and saved' in text
  assert checkpoint.steps(folder / 'checkpoints')[-1] == 3
  assert not runs.survivors(process)
  assert 'going on from step 3' in runs.finish(runs.train(folder))
  same(folder, whole)


@pytest.mark.slow
def test_a_step_that_hangs_is_shown_and_ended(tmp_path):
  folder, mark = tmp_path / 'run', tmp_path / 'mark'
  process = runs.train(
      folder, '--config.hosts.step_timeout_s=60.',
      '--config.hosts.end_after_s=5.', MEDRL_HOLD='reward@10',
      MEDRL_HOLD_MARK=str(mark))
  text = runs.finish(process, 1)
  stacks = (folder / 'stacks.0.txt').read_text()
  for found in (text, stacks):
    assert 'step 2 of process 0 has taken more than 60 s' in found
    assert 'hooks.py' in found and 'in _hold' in found


@pytest.mark.slow
def test_a_run_in_a_store(store, monkeypatch, tmp_path):   # noqa: F811
  """Stopped and gone on with; all but the arrays goes through epath."""
  folder = 'gs://bucket/run'
  place = checkpoint._path
  monkeypatch.setattr(checkpoint, '_path', lambda path: place(
      str(path).replace('gs://', f'{store}/')))
  want = small.train(tmp_path / 'disk')
  build.write_config(small.config(), folder)
  grpo.train(small.config(rl__steps=2), folder)
  grpo.train(small.config(), folder)
  found = small.logged(epath.Path(folder))
  assert sorted(found) == sorted(want)
  for step in (1, 2, 3):
    assert found[step]['reward/total'] == want[step]['reward/total']
  assert evals.evaluate(small.config(), folder)
  names = {p.name for p in (store / 'bucket/run').iterdir()}
  assert {'config.json', 'result.json', 'metrics.jsonl', 'rollouts.jsonl',
          'tokenizer', 'checkpoints', 'eval.json', 'answers.jsonl'} <= names
  assert not pathlib.Path('gs:').exists()
