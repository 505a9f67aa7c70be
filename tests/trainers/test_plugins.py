"""What lies outside the repository is used by name, without an edit to it."""

import pytest

from tests.trainers import small

WARD = '''
"""A reward, a data set and a rollout with a tool, from another folder."""

import dataclasses

import jax.numpy as jnp

from medrl import types
from medrl.data import phantom
from medrl.rollout import sampler

asked = []


def records(root, split, *, ward):
  for record in phantom.records(root, split, count=6, tasks=('present',)):
    yield dataclasses.replace(record, id=f'{ward}-{record.id}', task=ward)


def reward(record, completions, context, *, bonus):
  asked.append(record.task)
  return types.Score(tuple(bonus + len(c.text) for c in completions))


def rollout(family, config, params, batch, key, prompts, options):
  """Two tokens, two that a tool says, and the rest."""
  keys = sampler.member_keys(key, prompts, options.group)
  state = sampler.start(family, config, params, batch, keys, options)
  state = sampler.decode(family, config, params, state, options, 2)
  said = jnp.full((*state.done.shape, 2), 40, jnp.int32)
  mask = jnp.broadcast_to(~state.done[..., None], said.shape)
  state = sampler.extend(family, config, params, state, said, mask, options)
  state = sampler.decode(family, config, params, state, options,
                         options.length - 4)
  return sampler.finish(batch, state)
'''


@pytest.fixture
def ward(tmp_path, monkeypatch):
  folder = tmp_path / 'elsewhere'
  folder.mkdir()
  (folder / 'ward_seven.py').write_text(WARD)
  monkeypatch.syspath_prepend(folder)


def test_ac12_a_reward_a_data_set_and_a_tool_from_elsewhere_train_two_steps(
    ward, tmp_path):
  lines = small.train(
      tmp_path / 'run', rl__steps=2,
      data__dataset='ward_seven.records', data__options={'ward': 'seven'},
      eval__options={}, rollout__fn='ward_seven.rollout',
      rewards={'longest': {'fn': 'ward_seven.reward', 'weight': 1.,
                           'options': {'bonus': 100}}})
  import ward_seven
  assert ward_seven.asked == ['seven'] * 8   # four prompts, two steps
  for step in (1, 2):
    line = lines[step]
    assert line['reward/part/longest'] > 100 and line['reward/errors'] == 0
    assert line['optim/update_norm'] > 0
    # Of eight tokens a tool said two, which are in the context and not
    # learnt from: the scorer's log-probs are still those of the sampler.
    assert line['rollout/length'] == 6
    assert line['rollout/logp_gap_max'] <= 1e-5


@pytest.mark.parametrize('changed, says', [
    ({'rollout__fn': 'ward_seven.rolout'},
     "ward_seven has no 'rolout'; did you mean 'rollout'"),
    ({'data__dataset': 'ward_seven.records', 'data__options': {'wrd': 'x'}},
     "ward_seven.records has no option 'wrd'.*did you mean 'ward'"),
    ({'rewards': {'longest': {'fn': 'ward_seven.reward', 'weight': 1.,
                              'options': {'bouns': 1}}}},
     "'longest'.*no option 'bouns'; did you mean 'bonus'"),
    ({'model__family': 'medrl.models.qwen'}, "medrl.models has no 'qwen'"),
    ({'data__dataset': 'ward_eight.records'}, "'ward_eight.records'.*PYTHON")])
def test_ac9_a_wrong_name_is_told_with_the_nearest(
    ward, tmp_path, changed, says):
  with pytest.raises(ValueError, match=says):
    small.train(tmp_path, **changed)
