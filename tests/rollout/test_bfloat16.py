"""Sampler and scorer in bfloat16: how far their log-probs are apart.

Random layers of Qwen2.5-VL-3B's width, cut to what fits: fewer of them, fewer
ids, no tower. In float32 they agree to 1e-5, see tests/trainers.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import params as params_lib
from medrl.models import qwen2_5_vl
from medrl.models import vit_qwen
from medrl.rl import logps
from medrl.rollout import sampling
from medrl.rollout import slots
from medrl.trainers import scoring
from tests.oracles import toy

# Width, heads, keys, ffn and rotary sections are the published ones.
PUBLISHED = qwen2_5_vl.CONFIGS['qwen2_5_vl_3b'].text
PROMPTS, GROUP, LENGTH = 2, 4, 32
STD = 0.02   # initializer_range of the published config.json


def config(layers: int, vocab: int) -> qwen2_5_vl.Config:
  """Cut, with a tower that no prompt here has a picture for."""
  return qwen2_5_vl.Config(
      dataclasses.replace(PUBLISHED, layers=layers, vocab=vocab),
      vit_qwen.Config(1, 16, 2, 24, PUBLISHED.hidden, (0,)))


def weights(model):
  """As transformers draws them: all matrices of one deviation, no bias."""
  specs = jax.tree.map(lambda s: dataclasses.replace(s, scale=STD),
                       qwen2_5_vl.specs(model))
  make = jax.jit(lambda key: params_lib.init(key, specs, jnp.bfloat16))
  return make(jax.random.key(0))


def gaps(model, params, kept: str):
  """|sampler's log-prob - scorer's| of all tokens, in nats."""
  batch = toy.batch([toy.prompt(i, words=20 + 12 * i) for i in range(PROMPTS)])
  # Half as many slots as completions, so that slots are refilled.
  options = sampling.Options(group=GROUP, length=LENGTH, stop=(1,), kv=kept,
                             slots=PROMPTS * GROUP // 2)
  scorer = scoring.Scorer(qwen2_5_vl, model, jnp.bfloat16, 2048, (),
                          logps.token_logps)

  @jax.jit
  def both(params, batch):
    rollout = slots.rollout(qwen2_5_vl, model, params, batch,
                            jax.random.key(1),
                            np.arange(PROMPTS, dtype=np.int32), options)
    found, _ = scoring.policy_logps(scorer, params, rollout, entropy=False)
    return rollout, found

  rollout, found = jax.tree.map(np.asarray, both(params, batch))
  mask = rollout.action_mask
  assert mask.sum() > 0.9 * mask.size and np.isfinite(found[mask]).all()
  assert rollout.logps[mask].std() > 0.2   # not the log-probs of a constant
  return np.abs(rollout.logps - found)[mask]


def check(model, kept: str):
  found = gaps(model, weights(model), kept)
  far = (found > 0.1).mean()
  print(f'\n{model.text.layers} layers, {model.text.vocab} ids, keys in '
        f'{kept or "bfloat16"}: mean {found.mean():.4f} nats, {far:.2%} of '
        f'{len(found)} tokens above 0.1, largest {found.max():.3f}')
  return found.mean(), far


@pytest.mark.parametrize('kept', ['', 'int8'])
def test_ac10_sampler_and_scorer_agree(kept):
  mean, far = check(config(2, 8192), kept)
  if not kept:   # of int8 it is only told
    assert mean < 0.02 and far <= 0.01


@pytest.mark.slow   # a minute
@pytest.mark.parametrize('kept', ['', 'int8'])
def test_ac10_sampler_and_scorer_agree_over_more_layers(kept):
  mean, far = check(config(6, 32768), kept)
  if not kept:
    assert mean < 0.02 and far <= 0.01
