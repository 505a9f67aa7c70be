"""A run that is killed or stopped ends as one that was left alone."""

import os
import pathlib
import random
import signal
import time

import pytest

from medrl.trainers import session
from tests.trainers import runs

pytestmark = pytest.mark.skipif(not pathlib.Path('/proc').is_dir(),
                                reason='finds processes in /proc')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Folder of the run that nothing interrupts."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  runs.finish(runs.train(folder))
  return folder


def check(folder, whole, cold=3, steps=6):
  """Each step once, and every value the same."""
  found, expected = runs.logged(folder), runs.logged(whole)
  assert [r['step'] for r in found['metrics']] == list(range(steps + 1))
  assert [r['step'] for r in found['sft/metrics']] == [*range(1, cold + 1)]
  assert len(found['rollouts']) == 4 * steps   # of four prompts each
  for name, rows in expected.items():
    assert found[name] == rows, name


def held(folder, moment, *flags):
  """Starts the run, waits until it is at the moment, and says which file lets
  it go on."""
  mark = folder.with_name(moment.replace('/', ' '))
  process = runs.train(folder, *flags, MEDRL_HOLD=moment,
                       MEDRL_HOLD_MARK=str(mark))
  runs.wait_for(process, mark)
  return process, mark


@pytest.mark.slow   # the default run stops and resumes runs in test_refill
def test_killed_and_stopped(whole, tmp_path):
  folder = tmp_path / 'run'
  # In the cold start, at the last moment at which RL has not begun.
  process, mark = held(folder, 'save@sft/2')
  process.send_signal(signal.SIGTERM)
  mark.unlink()
  runs.finish(process)
  assert not (folder / 'metrics.jsonl').exists()
  # Inside the scoring of step 2, which like every step has eight answers.
  process, _ = held(folder, 'reward@10')
  runs.kill(process)
  assert not runs.survivors(process)
  # Inside the asynchronous save of step 2, while step 3 may be under way.
  process, _ = held(folder, 'save@run/2')
  assert (folder / 'checkpoints/2.orbax-checkpoint-tmp').exists()
  runs.kill(process)
  assert not runs.survivors(process)
  assert not (folder / 'checkpoints/2').exists()
  # A terminal's Ctrl-C meets the workers too. Step 5 is none that is saved.
  process, mark = held(folder, 'reward@34')
  os.killpg(process.pid, signal.SIGINT)
  mark.unlink()
  runs.finish(process, session.STOPPED)
  assert (folder / 'checkpoints/5').exists()
  assert not runs.survivors(process)
  assert 'going on from step 5' in runs.finish(runs.train(folder))
  check(folder, whole)


@pytest.mark.slow
def test_ten_kills(tmp_path):
  """Eight at moments drawn uniformly over half the time of a whole run, so
  that the run needs most of them; one inside scoring, one inside a save."""
  longer = ('--config.sft.steps=80', '--config.rl.steps=120')
  whole = tmp_path / 'whole/run'
  runs.finish(runs.train(whole, *longer))   # fills the compile cache
  clock = time.monotonic()
  runs.finish(runs.train(tmp_path / 'timed/run', *longer))
  half = (time.monotonic() - clock) / 2
  draw = random.Random(0)
  folders, at = [tmp_path / '0/run'], []
  while len(at) < 10:
    folder = folders[-1]
    moment = {3: 'reward@3', 7: 'save@run'}.get(len(at))
    if moment:
      process, _ = held(folder, moment, *longer)
    else:
      process = runs.train(folder, *longer)
      time.sleep(draw.uniform(0, half))
    if process.poll() is None:
      at.append([len(runs.lines(folder / name)) for name in
                 ('sft/metrics.jsonl', 'metrics.jsonl')])
    else:   # at its end before it was killed
      folders.append(tmp_path / f'{len(folders)}/run')
    runs.kill(process)
    assert not runs.survivors(process)
  runs.finish(runs.train(folder, *longer))
  print(f'lines logged at each kill: {at}, within {half:.0f} s')
  for folder in folders:
    check(folder, whole, 80, 120)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_is_not_caught_and_a_second_sigterm_is(number):
  before = signal.getsignal(number)
  with session.stop_requests() as asked:
    assert not asked()
    os.kill(os.getpid(), number)
    assert asked() == number
    caught = signal.getsignal(number) is not before
    assert caught == (number == signal.SIGTERM)
  assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts():
  # A shell's background jobs are born with SIGINT ignored.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with pytest.raises(KeyboardInterrupt), session.stop_requests() as asked:
      os.kill(os.getpid(), signal.SIGINT)
      # Another thread may be given it: two at once could be taken for one.
      while not asked():
        time.sleep(.01)
      os.kill(os.getpid(), signal.SIGINT)
      time.sleep(10)
  finally:
    signal.signal(signal.SIGINT, before)
