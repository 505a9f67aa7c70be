"""The decoder and the tower under every policy: the same loss and gradients.

What a policy keeps of a layer is in tests/models/test_remat.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.models import qwen2_5_vl
from medrl.models import remat
from medrl.rl import logps
from medrl.trainers import scoring
from tests.oracles import toy


@functools.cache
def batch():
  """Three prompts of text and images, with two ragged completions each."""
  random = np.random.default_rng(0)
  prompts = toy.batch([toy.prompt(i, sizes, words=3 + i) for i, sizes in
                       enumerate([(), [(56, 84)], [(28, 28), (56, 56)]])])
  tokens = random.integers(10, toy.VOCAB, (3, 2, 5)).astype(np.int32)
  mask = np.arange(5) < random.integers(1, 6, (3, 2, 1))
  return toy.rollout(prompts, tokens, mask)


@functools.cache
def measured(name):
  """Loss, gradients and temporary bytes under a policy."""
  config = qwen2_5_vl.with_options(toy.CONFIG, remat=name)
  scorer = scoring.Scorer(qwen2_5_vl, config, jnp.float32, 64, (toy.IMAGE,),
                          logps.token_logps)
  def loss(params, rollout):
    found, entropy = scoring.policy_logps(scorer, params, rollout)
    return jnp.sum(found * (1 + jnp.arange(5))) + jnp.sum(entropy ** 2)
  with jax.default_matmul_precision('highest'):
    inputs = toy.params(0), batch()
    program = jax.jit(jax.value_and_grad(loss)).lower(*inputs).compile()
    return *program(*inputs), program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize('name', remat.NAMES[1:])
def test_a_policy_changes_no_loss_and_no_gradient(name):
  (loss, grads, _), (want, wanted, _) = measured(name), measured('none')
  assert float(loss) == pytest.approx(float(want), rel=1e-6)
  for (path, got), there in zip(jax.tree_util.tree_leaves_with_path(grads),
                                jax.tree.leaves(wanted)):
    # Sums of the same float32 products, perhaps in another order.
    apart = np.linalg.norm(got - there) / np.linalg.norm(there)
    assert apart < 1e-5, (jax.tree_util.keystr(path), apart)


def test_policies_that_keep_less_need_less():
  # On a CPU host memory is the device's, so that offloading saves nothing.
  held = [measured(name)[2] for name in ('full', 'minimal', 'dots', 'none')]
  assert held == sorted(held) and held[0] < held[-1], held
