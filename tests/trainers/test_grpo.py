"""The RL loop seen from its files: what a step must and must not do.

Compilations are counted in test_shapes, other people's code in test_plugins.
"""

import gc
import json
import shutil
import stat

import jax
import numpy as np
import pytest

from medrl import build
from medrl import checkpoint
from medrl import metrics
from medrl.evals import run as evals
from medrl.rewards import rescore
from medrl.trainers import grpo
from tests.trainers import small


PLAIN = {'data__options__poison': 2, 'rewards': {
    name: {'fn': f'tests.trainers.small.{name}', 'weight': 1.}
    for name in ('spread', 'guarded')}}


def everything(folder, step):
  """Parameters and moments of a step by their place in the tree."""
  state = folder / 'checkpoints' / str(step) / 'state'
  names, _ = checkpoint._leaves(state)
  return {'/'.join(n): np.asarray(checkpoint.open_array(
      folder / 'checkpoints', step, '/'.join(n)).read().result())
          for n in names if n[0] in ('trained', 'opt_state')}


def same(a, b) -> bool:
  return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
  """Three on-policy steps, of which a record spoils the first or second."""
  folder = tmp_path_factory.mktemp('plain')
  return folder, small.train(folder, **PLAIN)


@pytest.fixture(scope='module')
def anchored(tmp_path_factory):
  """Two steps with a KL and a frozen vision tower, then a third on resuming."""
  folder = tmp_path_factory.mktemp('anchored')
  changed = {'rl__kl_weight': 0.1, 'model__freeze': ('vision',),
             'model__reference_dtype': 'float32', 'log__rollouts': False}
  small.train(folder, rl__steps=2, **changed)
  frozen = folder / 'checkpoints' / 'frozen'
  before = {p: p.stat().st_mtime_ns for p in frozen.rglob('*')}
  lines = small.train(folder, rl__steps=3, **changed)
  return folder, lines, before


def test_ac5_on_policy_nothing_is_clipped_and_sampler_equals_scorer(plain):
  for step in (1, 2, 3):
    line = plain[1][step]
    assert line['policy/clip_fraction'] == 0 and line['policy/ratio_max'] == 1
    assert 0 < line['rollout/logp_gap_max'] <= 1e-5


def test_ac5_only_updates_after_a_rollouts_first_are_off_policy(tmp_path):
  small.seen.clear()
  lines = small.train(
      tmp_path, rl__epochs=2, rl__minibatches=2, rl__microbatches=2,
      rl__steps=2, rl__surrogate='tests.trainers.small.noted_clip')
  jax.effects_barrier()
  # Two micro-batches in each of the 2 x 2 updates of a step.
  assert len(small.seen) == 16
  for step in range(2):
    gaps, clipped = np.array(small.seen[8 * step:8 * step + 8]).T
    assert gaps[:2].max() <= 1e-5 and not clipped[:2].any()
    assert gaps[2:].min() > 1e-4
    assert lines[step + 1]['rollout/logp_gap_max'] <= 1e-5
    assert lines[step + 1]['policy/clip_fraction'] == pytest.approx(
        clipped.sum() / (2 * 8 * lines[step + 1]['rollout/length']))
  # A step is one step, however many updates it holds.
  assert sorted(lines) == [0, 1, 2]
  state = everything(tmp_path, 2)
  assert state['opt_state/1/0/count'] == 8


def test_an_update_that_is_not_finite_is_skipped_dumped_and_survived(plain):
  folder, lines = plain
  skipped = [step for step in (1, 2, 3) if lines[step]['optim/skipped']]
  assert skipped and skipped[0] < 3
  for step in (1, 2, 3):
    before, after = everything(folder, step - 1), everything(folder, step)
    for name, value in after.items():
      assert np.isfinite(value).all(), name
    dumped = folder / 'skipped' / f'{step}.0.npz'
    assert dumped.exists() == (step in skipped)
    if step not in skipped:
      assert not same(before['trained/embed'], after['trained/embed'])
      continue
    assert same(before, after)
    assert stat.S_IMODE(dumped.stat().st_mode) == 0o600
    assert stat.S_IMODE(dumped.parent.stat().st_mode) == 0o700
    with np.load(dumped) as arrays:
      assert np.abs(arrays['advantages']).max() > 1e37
      assert arrays['rollout.tokens'].shape == (4, 2, 8)


def test_ac8_two_fetches_a_step_and_the_share_of_padding(plain):
  for step in (1, 2, 3):
    assert plain[1][step]['time/fetches'] == 2
    assert 0 < plain[1][step]['data/padding_prompt'] < 1
    assert 0 <= plain[1][step]['data/padding_patches'] < 1


def test_ac8_the_loop_refuses_implicit_transfers(plain):
  assert [plain[1][s]['reward/part/guarded'] for s in (1, 2, 3)] == [1] * 3


def test_rollouts_are_private_and_name_no_patient(plain):
  folder, lines = plain
  path = folder / 'rollouts.jsonl'
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  rows = metrics.read(path)
  assert [r['step'] for r in rows] == [1] * 4 + [2] * 4 + [3] * 4
  group = rows[0]['completions']
  assert len(group) == 2   # whole, so that it can be scored again
  assert {'text', 'ids', 'finish', 'reward', 'parts'} <= set(group[0])
  (saved, *_), = [[s] for s in rescore.read(path) if s.row == rows[0]]
  assert saved.record.answer == rows[0]['answer'] is not None
  again = small.spread(saved.record, saved.completions, {})
  assert again.total == pytest.approx([c['reward'] - c['parts']['guarded']
                                       for c in group])
  # Eight records were drawn from, and an id pairs a record between steps.
  assert len({r['record'] for r in rows}) <= 8
  for file in folder.rglob('*'):
    if file.is_file():
      assert small.SUBJECT.encode() not in file.read_bytes(), file


def test_result_and_reference(plain):
  folder, lines = plain
  result = json.loads((folder / 'result.json').read_text())
  assert set(result) == {'accuracy_before_rl', 'accuracy_after_rl', 'workdir'}
  # Without a KL there is no reference, on disk or in the metrics.
  assert not (folder / 'checkpoints' / 'frozen').exists()
  assert not any('kl' in name for name in lines[1])


# Orbax leaves the reads that were under way behind when one has failed.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_ac9_a_truncated_checkpoint_falls_back_with_a_warning(
    plain, tmp_path, caplog):
  folder = tmp_path / 'run'
  shutil.copytree(plain[0], folder)
  state = folder / 'checkpoints' / '3' / 'state'
  largest = max(state.rglob('d/*'), key=lambda p: p.stat().st_size)
  with open(largest, 'r+b') as file:
    file.truncate(largest.stat().st_size // 2)
  lines = small.train(folder, rl__steps=4, **PLAIN)
  gc.collect()   # or what they raise is told in another test
  warnings = [r.getMessage() for r in caplog.records
              if r.levelname == 'WARNING']
  assert any('step 3' in w and 'does not restore' in w for w in warnings)
  assert 'Going on from checkpoint step 2.' in warnings
  assert sorted(lines) == [0, 1, 2, 3, 4]
  # The third step again, on the same records and with the same draws.
  values = {k: v for k, v in plain[1][3].items()
            if k.split('/')[0] not in ('time', 'eval')}
  assert values.items() <= lines[3].items()


def test_the_reference_is_kept_once_and_restored(anchored):
  folder, lines, before = anchored
  frozen = folder / 'checkpoints' / 'frozen'
  assert len(list(frozen.iterdir())) == 2   # the reference, the vision tower
  assert before == {p: p.stat().st_mtime_ns for p in frozen.rglob('*')}
  # 0 but for the rounding of two programs, then the policy moves away.
  assert 0 <= lines[1]['policy/kl_ref'] < 1e-10
  assert 1e-7 < lines[2]['policy/kl_ref'] < lines[3]['policy/kl_ref']
  assert lines[3]['loss/kl'] == pytest.approx(0.1 * lines[3]['policy/kl_ref'])


def test_what_is_frozen_never_moves_and_has_no_moments(anchored):
  folder, _, _ = anchored
  config = small.config(model__freeze=('vision',))
  run = build.run(config, folder)
  policies = [evals.load_policy(run, folder / 'checkpoints', step)[0]
              for step in (0, 3)]
  assert same(*(p['vision'] for p in policies))
  assert not same(policies[0]['decoder'], policies[1]['decoder'])
  assert jax.tree.structure(policies[1]) == jax.tree.structure(run.specs)
  for name in everything(folder, 3):
    assert 'vision' not in name


def test_rollouts_are_off_where_the_config_says_so(anchored):
  assert not (anchored[0] / 'rollouts.jsonl').exists()
  assert (anchored[0] / 'metrics.jsonl').exists()


def test_a_step_whose_rewards_all_fail_teaches_nothing(tmp_path, caplog):
  rewards = {'broken': {'fn': 'tests.trainers.small.broken', 'weight': 1.}}
  lines = small.train(tmp_path, rl__steps=1, rewards=rewards)
  assert lines[1]['reward/errors'] == 4 and 'reward/total' not in lines[1]
  assert lines[1]['optim/grad_norm'] == lines[1]['optim/update_norm'] == 0
  assert small.SUBJECT not in caplog.text


@pytest.mark.parametrize('changed, says', [
    ({'rl__minibatches': 3}, 'rl.minibatches 3 times rl.microbatches 1 does '
     'not divide the 4 prompts'),
    ({'rl__minibatches': 2, 'rl__microbatches': 4}, 'rl.microbatches 4'),
    ({'sft__steps': 1, 'sft__microbatches': 3},
     'sft.microbatches 3 does not divide the 4'),
    ({'model__freeze': ('visio',)}, "model.freeze names 'visio'"),
    ({'eval__options': {'cuont': 4}}, "no option 'cuont'; did you mean"),
    ({'mesh__fsdp': 3}, 'fsdp=3.*config.mesh')])
def test_a_config_that_does_not_fit_is_told_at_the_start(
    tmp_path, changed, says):
  with pytest.raises(ValueError, match=says):
    grpo.train(small.config(**changed), tmp_path)


def test_rewards_of_token_ids_alone_are_computed_on_the_device(
    tmp_path, caplog):
  """The same numbers as on text, in metrics, in rollouts and in the update."""
  terms = {
      'repeat': {'fn': 'medrl.rewards.repetition.tokens', 'weight': 2.,
                 'options': {'n': 1}},
      'long': {'fn': 'medrl.rewards.budget.overlong', 'weight': .5,
               'options': {'limit': 8, 'buffer': 6}},
      'spread': {'fn': 'tests.trainers.small.spread', 'weight': 1.}}
  found = {}
  for device in (True, False):
    folder = tmp_path / str(device)
    caplog.clear()
    with caplog.at_level('INFO'):
      lines = small.train(folder, rl__steps=2, rewards=terms,
                          scoring__device=device)
    told = 'rewards on the device: long, repeat; on text: spread'
    assert (told in caplog.text) == device
    found[device] = lines[2], metrics.read(folder / 'rollouts.jsonl')
  for name in ('reward/total', 'reward/part/repeat', 'reward/part/long',
               'loss/policy', 'optim/grad_norm'):
    # Sums in float32 on one side and in float64 on the other.
    assert found[True][0][name] == pytest.approx(found[False][0][name],
                                                 rel=1e-5, abs=1e-7), name
  assert found[True][0]['reward/part/long'] < 0
  for a, b in zip(found[True][1], found[False][1]):
    for one, two in zip(a['completions'], b['completions']):
      assert one['text'] == two['text']
      assert one['parts'] == pytest.approx(two['parts'], abs=1e-6)
      assert one['reward'] == pytest.approx(two['reward'], abs=1e-5)


def test_workers_score_as_the_loop_does(tmp_path):
  terms = {'tags': {'fn': 'medrl.rewards.format.tags', 'weight': 1.},
           'repeat': {'fn': 'medrl.rewards.repetition.tokens', 'weight': 1.,
                      'options': {'n': 1}}}
  lines = [small.train(tmp_path / str(n), rl__steps=1, rewards=terms,
                       scoring__workers=n, scoring__device=False)[1]
           for n in (0, 2)]
  assert lines[1]['reward/timeouts'] == 0 == lines[1]['reward/errors']
  assert lines[0]['reward/total'] == lines[1]['reward/total']
