"""Packed supervised rows give the loss and the gradient of plain ones."""

import jax
import numpy as np
import pytest

from medrl import build
from medrl import feed
from medrl.data import batching
from medrl.data import mixture
from medrl.data import packing
from medrl.data import pipeline
from medrl.trainers import session as session_lib
from medrl.trainers import sft
from medrl.trainers import objective
from medrl.trainers import scoring
from tests.trainers import small

LENGTH = 40


def test_loss_and_gradient_equal_plain_rows(tmp_path):
  config = small.config()
  config.data.options = {'count': 8, 'poison': -1}
  run = build.run(config, tmp_path)
  settings = build.settings(run, 6, target_length=LENGTH, room=(256, 256))
  records = feed.records(config, 'train', count=6)
  stream = pipeline.Pipeline([mixture.Source(records)], build.encoder(run),
                             settings)
  plain, examples = next(stream)
  target = batching.stack_targets(examples, LENGTH, run.pad)
  packed = packing.pack(examples, (3, 6), settings)
  assert len(packed.segments) == 3 and packed.target.sum() == target[1].sum()
  scorer = session_lib.scorer(run)
  params = build.initial_params(run)

  def of_plain(params, batch, tokens, mask):
    rollout = scoring.given(batch, tokens, mask)
    logps, entropy = scoring.policy_logps(scorer, params, rollout)
    return objective.sft_loss(logps, entropy, rollout.action_mask)[0].total

  def of_packed(params, packed):
    logps, entropy = scoring.packed_logps(scorer, params, packed)
    return objective.sft_loss(logps, entropy, packed.target)[0].total

  with jax.default_matmul_precision('highest'):
    want, slope = jax.jit(jax.value_and_grad(of_plain))(params, plain, *target)
    got, packed_slope = jax.jit(jax.value_and_grad(of_packed))(params, packed)
  np.testing.assert_allclose(got, want, rtol=1e-5)
  def check(a, b):
    # Sums of float32 in another order, over tensors of up to 1e5 entries.
    assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(a) + 1e-6
  jax.tree.map(check, slope, packed_slope)


def test_packed_training(tmp_path):
  config = small.config(sft__steps=2, sft__length=LENGTH)
  config.sft.pack = dict(tokens=256, patches=256, rows=(2,))
  config.data.options = {'count': 16, 'poison': -1}
  assert sft.row_counts(config.sft) == (2, 4)
  sft.train(config, tmp_path)
  lines = small.logged(tmp_path)
  assert [lines[i]['data/bucket_prompt'] for i in (1, 2)] == [256, 256]
  # Four prompts of some 60 tokens fill two rows of 256 by half or more.
  assert all(lines[i]['data/padding_prompt'] < .6 for i in (1, 2))
  config.sft.pack.rows = (3,)
  config.sft.microbatches = 2
  with pytest.raises(ValueError, match='does not divide the 3'):
    sft.row_counts(config.sft)
