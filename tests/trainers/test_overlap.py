"""A rollout drawn ahead: one update old, beside the rewards, and never lost."""

import shutil
import signal
import time

import numpy as np
import pytest

from medrl import metrics
from medrl import types
from medrl.trainers import overlap
from tests.trainers import small

events = []    # 'launch' of a rollout, or 'reward' of a group, in order
stop_at = []   # finished steps at which `noted` asks the run to stop


def noted(record, completions, context):
  """A number that differs in most groups; tells when it was asked for."""
  del record
  events.append('reward')
  if context['step'] in stop_at:
    stop_at.clear()
    signal.raise_signal(signal.SIGTERM)
  return types.Score(tuple(
      (sum(c.text.encode()) % 7) / 7 for c in completions))


def slow(record, completions, context):
  """The same, as slow as one that asks a server."""
  time.sleep(.03)
  return noted(record, completions, context)


def train(folder, fn='noted', **changed):
  """Lines and rollouts by step, without times."""
  events.clear()
  changed = {'rl__correction': 'medrl.rl.corrections.token_tis'} | changed
  lines = small.train(folder, rl__steps=4, rewards={
      'noted': {'fn': f'{__name__}.{fn}', 'weight': 1.}}, **changed)
  return lines, metrics.read(folder / 'rollouts.jsonl')


def timeless(lines):
  return {step: {k: v for k, v in line.items() if not k.startswith('time/')}
          for step, line in lines.items()}


def texts(rows, step):
  return [[c['text'] for c in row['completions']]
          for row in rows if row['step'] == step]


@pytest.fixture(scope='module')
def still(tmp_path_factory):
  """A policy that never moves, without and with overlap."""
  folder = tmp_path_factory.mktemp('still')
  return [train(folder / str(on), rl__optim__learning_rate=0., rl__overlap=on,
                rl__correction='', rl__old_logps='sampler')
          for on in (False, True)]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A policy that moves, with overlap, and nothing interrupts it."""
  folder = tmp_path_factory.mktemp('whole')
  launch = overlap._watch
  def watch(rollout):
    events.append('launch')
    return launch(rollout)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(overlap, '_watch', watch)
    found = train(folder / 'run', rl__overlap=True)
  return folder / 'run', *found, list(events)


def test_ac9_a_policy_that_does_not_move_has_the_same_numbers(still):
  (off, before), (on, after) = still
  on = timeless(on)
  ages = [on[step].pop('rollout/staleness') for step in range(1, 5)]
  assert ages == [0, 1, 1, 1]
  off = timeless(off)
  assert on == off and before == after


def test_a_rollout_is_of_the_policy_before_the_last_update(still, whole):
  _, lines, rows, _ = whole
  untouched = still[0][1]
  # Steps 1 and 2 are written by the first policy, step 3 by one that moved.
  for step, same in ((1, True), (2, True), (3, False)):
    assert (texts(rows, step) == texts(untouched, step)) == same, step
  assert [lines[s]['rollout/staleness'] for s in (1, 2, 3, 4)] == [0, 1, 1, 1]
  assert all(lines[s]['time/fetches'] == 2 for s in (1, 2, 3, 4))


def test_the_next_rollout_is_launched_before_rewards_but_after_the_last(whole):
  rewards = ['reward'] * 4
  assert whole[3] == ['launch', *3 * ['launch', *rewards], *rewards]


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_as_one_that_was_not(whole, tmp_path):
  stop_at.append(1)   # within the second step, which is none that is saved
  with pytest.raises(SystemExit):
    train(tmp_path, rl__overlap=True, checkpoint__every=100)
  kept = tmp_path / 'kept' / '2.0.npz'
  assert kept.stat().st_mode & 0o777 == 0o600
  lines, rows = train(tmp_path, rl__overlap=True, checkpoint__every=100)
  assert timeless(lines) == timeless(whole[1])
  assert rows == whole[2]
  assert len(events) == 8   # the two steps that were left


def test_what_is_kept_is_missed_where_it_is_gone(whole, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(whole[0], folder)
  shutil.rmtree(folder / 'checkpoints' / '4')
  (folder / 'kept' / '3.0.npz').unlink()
  with pytest.raises(ValueError, match='3.0.npz is not there'):
    train(folder, rl__overlap=True)


@pytest.mark.parametrize('changed', [
    {'rl__overlap': True}, {'rollout__refill__carry': True}])
def test_what_is_stale_must_be_corrected(tmp_path, changed):
  with pytest.raises(ValueError, match='older policy.*rl.correction'):
    train(tmp_path, rl__correction='', **changed)


@pytest.mark.slow
def test_ac9_rewards_are_hidden_behind_sampling(tmp_path):
  lines, _ = train(tmp_path, 'slow', rl__overlap=True, rollout__length=48,
                   rollout__group=8)
  hidden = [lines[s]['time/hidden_reward'] for s in (1, 2, 3, 4)]
  print('share of reward time hidden, steps 1 to 4:', np.round(hidden, 3))
  assert min(hidden[:3]) > 0 and max(hidden) <= 1
  assert hidden[3] == 0   # nothing follows the last step
