"""Published rewards that ask the model, inside steps of a toy policy.

The policy has had a short cold start, so that what it writes has an answer and
reasoning to ask about; no signal comes from a fixture.
"""

import logging

import pytest

from medrl.trainers import signals
from tests.trainers import small

REWARDS = {
    'gap': 'medrl.rewards.consistency.image_gap',           # CAPO
    'again': 'medrl.rewards.consistency.rederived',         # CAPO
    'spread': 'medrl.rewards.spread.distribution',          # DARE
    'sure': 'medrl.rewards.consistency.confidence_gain',    # Med-RwR
    'steps': 'medrl.rewards.process.step_values',           # MICS
}


@pytest.mark.slow   # test_signals has each signal, and two steps of all
def test_ac7_published_rewards_run_on_signals_of_the_model(tmp_path, caplog):
  with caplog.at_level(logging.INFO):
    lines = small.train(
        tmp_path, rl__steps=2, rl__credit_weight=0.5,
        rewards={n: {'fn': fn, 'weight': 1.} for n, fn in REWARDS.items()},
        sft__steps=200, sft__prompts=16, sft__length=40, rollout__length=40,
        sft__optim__learning_rate=5e-3,
        data__dataset='medrl.data.phantom.records',
        data__options={'count': 64, 'tasks': ('side',), 'permute': False},
        eval__options={'count': 4})
  for step in (1, 2):
    line = lines[step]
    print(f'step {step}: ' + ', '.join(
        f'{name} {line["reward/part/" + name]:.4f}' for name in REWARDS),
        f'unparsed {line["reward/unparsed"]:.2f}')
    assert line['reward/errors'] == 0
    assert line['optim/update_norm'] > 0
    # Half of sigmoid is what an image that is not looked at earns.
    assert 0 < line['reward/part/gap'] < 1
    assert any(line[f'reward/part/{n}'] for n in ('again', 'spread', 'steps'))
  told = [r.getMessage() for r in caplog.records
          if r.getMessage().startswith('signal ')]
  print('\n'.join(told))
  assert {t.split()[1] for t in told} == {
      'token_logps', 'logps/masked', 'rederived_answer', 'token_entropy',
      'option_logps', 'continuations'} <= set(signals.MAKERS)
