"""Every recipe's words exist and fit together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import lookup
from medrl.rl import advantages
from medrl.rl import recipes

FIELDS = {'advantage', 'ratio', 'surrogate', 'reduce', 'clip_low', 'clip_high',
          'kl', 'kl_weight', 'updates'}


@pytest.mark.parametrize('name', recipes.RECIPES)
def test_first_step_raises_good_completions_and_lowers_bad_ones(name):
  recipe = recipes.RECIPES[name]
  assert set(recipe) == FIELDS
  assert bool(recipe['kl']) == (recipe['kl_weight'] > 0)
  advantage, ratio, surrogate, reduce = (
      lookup.resolve(recipe[word])
      for word in ('advantage', 'ratio', 'surrogate', 'reduce'))
  mask = jnp.ones((1, 2, 3), bool).at[0, 0, 2].set(False)
  old = jnp.full((1, 2, 3), -1.)
  scores = advantage(jnp.array([[1., 0.]]), advantages.Info(
      mask, jnp.ones((1, 2), bool), jnp.zeros((1, 2, 3)), old))

  def loss(logps):
    term, _ = surrogate(ratio(logps, old, mask), scores, logps,
                        low=recipe['clip_low'], high=recipe['clip_high'])
    if recipe['kl']:
      term += recipe['kl_weight'] * lookup.resolve(recipe['kl'])(logps, old)
    mean = reduce(term, mask, length=3)
    return mean.total / mean.weight

  gradient = jax.grad(loss)(old)
  np.testing.assert_array_equal(
      jnp.sign(gradient), [[[-1, -1, 0], [1, 1, 1]]])
