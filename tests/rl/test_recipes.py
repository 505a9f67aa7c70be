"""Recipes: words that exist and fit, and the numbers of the peers they name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import base
from medrl.rl import advantages
from medrl.rl import recipes
from medrl.rl import words

MASK = np.ones((1, 2, 3), bool)
MASK[0, 0, 2] = False


def laid(name, **changed):
  rl = base.get_config().rl
  rl.update(dict(changed, recipe=name))
  return words.laid(rl)


def info(scores, mask):
  zeros = np.zeros(mask.shape, np.float32)
  return advantages.Info(mask, np.ones(scores.shape, bool), zeros, zeros,
                         {'a': scores, 'b': scores})


def made(name):
  """The recipe's `(loss of log-probs, given advantages)` and advantage."""
  rl = laid(name)
  bind = functools.partial(words.bind, rl)
  ratio, reduce = bind('ratio'), bind('reduce', ('length',))
  surrogate, kl = bind('surrogate', ('low', 'high')), bind('kl')

  def loss(logps, old, ref, gain, mask):
    term, _ = surrogate(ratio(logps, old, mask), gain, logps, mask,
                        low=rl.clip_low, high=rl.clip_high)
    if rl.kl_weight and rl.kl_in == 'loss':
      term += rl.kl_weight * kl(logps, ref)
    mean = reduce(term, mask, length=3)
    return mean.total / mean.weight

  return loss, bind('advantage')


@pytest.mark.parametrize('name', ['', *recipes.RECIPES])
def test_first_step_raises_good_completions_and_lowers_bad_ones(name):
  assert set(recipes.RECIPES.get(name, {})) <= set(recipes.BASE)
  loss, advantage = made(name)
  old = np.full(MASK.shape, -1., np.float32)
  scores = np.float32([[1., 0.]])
  gain = advantage(scores, info(scores, MASK))
  gradient = jax.grad(loss)(old, old, old, gain, MASK)
  np.testing.assert_array_equal(
      jnp.sign(gradient), [[[-1, -1, 0], [1, 1, 1]]])


def clipped(r, a, low=.2, high=.2):
  return np.maximum(-r * a, -np.clip(r, 1 - low, 1 + high) * a)


def verl(r, a, x):
  """Dual clip of 3; no KL."""
  worst = clipped(r, a)
  return np.where(a < 0, np.minimum(worst, -3 * a), worst)


def nemo_rl(r, a, x):
  return clipped(r, a) + .01 * np.minimum(np.exp(x) - 1 - x, 10)


# Advantages of rewards 1 and 3, of 1 alone, and the loss of a token, from what
# each peer's code says (`recipes` has the commits).
PEERS = {
    'verl': (2 / (2 * (2**.5 + 1e-6)), 1 / (1 + 1e-6), verl),
    'trl': (1 / (2**.5 + 1e-4), 0, lambda r, a, x: clipped(r, a)),
    'openrlhf': (1 / (2**.5 + 1e-9), 0, lambda r, a, x: clipped(r, a)),
    'nemo_rl': (2, 0, nemo_rl),
}


@pytest.mark.parametrize('peer', PEERS)
def test_presets_are_the_peers_definitions(peer):
  unit, alone, token = PEERS[peer]
  loss, advantage = made(peer)
  scores = np.float32([[1., 3.]])
  gain = advantage(scores, info(scores, MASK))
  np.testing.assert_allclose(gain[0, 1], unit, rtol=1e-6)
  np.testing.assert_allclose(gain[0, 0], [-unit, -unit, 0], rtol=1e-6)
  one = np.float32([[1.]])
  np.testing.assert_allclose(advantage(one, info(one, MASK[:, 1:]))[0, 0],
                             alone, rtol=1e-6)
  # Ratios within, below and above the clip, and far above for bad tokens.
  r = np.float32([[[.5, 4., 1.], [.5, 1.1, 2.]]])
  old = np.full(MASK.shape, -2., np.float32)
  ref = old + np.float32([[[.3, -4, 0], [1, -1, 5]]])
  found = loss(old + np.log(r), old, ref, gain, MASK)
  expected = token(r, np.asarray(gain), ref - old - np.log(r))[MASK].mean()
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_else_the_peers_presets_say():
  """TRL masks a completion's product of ratios beyond 3 and has no clamp in
  its KL; OpenRLHF's k1 goes into the returns; none but TRL corrects."""
  rl = laid('trl')
  product = words.bind(rl, 'correction')
  gaps = np.log(np.float32([[[1.4, 2.1], [1.5, 2.1]]]))
  weights, _ = product(gaps, 0 * gaps, np.ones(gaps.shape, bool))
  np.testing.assert_allclose(weights[0, :, 0], [2.94, 0], rtol=1e-5)
  np.testing.assert_allclose(
      words.bind(rl, 'kl')(np.float32(0), np.float32(25)), np.exp(25) - 26,
      rtol=1e-5)
  rl = laid('openrlhf')
  assert (rl.kl_in, rl.kl_weight) == ('return', .01)
  assert words.bind(rl, 'kl')(np.float32(0), np.float32(-25)) == 10
  for name in ('verl', 'openrlhf', 'nemo_rl'):
    assert not words.named(laid(name), 'correction')


def test_published_combinations_have_their_papers_numbers():
  for name, numbers in {'dapo': (.2, .28, 0), 'grpo': (.2, .2, .04),
                        'gspo': (3e-4, 4e-4, 0), 'gmpo': (.4, .4, 0),
                        'cispo': (10, .2, 0), 'cispo_trl': (10, 5, 0),
                        'spine': (.2, .2, .01)}.items():
    rl = laid(name)
    assert (rl.clip_low, rl.clip_high, rl.kl_weight) == numbers, name
  assert laid('forking').options.token_weights.over == 'batch'
  assert recipes.DAPO['updates'] == recipes.CISPO['updates'] == 16


def test_a_recipe_fills_what_is_open_and_explicit_values_win():
  rl = laid('dapo', clip_high=.3, reduce='medrl.rl.losses.sequence_mean')
  assert rl.clip_high == .3 and rl.clip_low == .2
  assert rl.reduce.endswith('sequence_mean')
  assert laid('grpo', kl_weight=0.).kl_weight == 0
  assert laid('trl', correction='none').correction == 'none'
  assert not words.named(laid('trl', correction='none'), 'correction')
  # Options follow their word, one by one.
  rl = laid('verl', options={'surrogate': {'c': 5.}, 'advantage': {'ddof': 0}})
  assert rl.options.surrogate.c == 5
  assert rl.options.advantage.to_dict() == {'eps': 1e-6, 'single': 'raw',
                                            'ddof': 0}
  rl = laid('verl', surrogate='medrl.rl.losses.clip')
  assert rl.options.surrogate.to_dict() == {}
  assert words.bind(rl, 'surrogate', ('low', 'high'))


def test_laying_twice_is_laying_once_and_leaves_the_config_alone():
  config = base.get_config()
  config.rl.recipe = 'nemo_rl'
  config.lock()   # as a flag's is
  before = config.to_json_best_effort()
  once = words.laid(config.rl)
  assert config.to_json_best_effort() == before
  assert words.laid(once).to_json() == once.to_json()
  words.lay(config)
  assert config.rl.to_json() == once.to_json() and config.is_locked
  with pytest.raises(AttributeError, match='clip_hihg'):
    config.rl.clip_hihg = 1


def test_without_a_recipe_it_is_the_projects_own():
  rl = laid('')
  for field in set(recipes.BASE) - {'options', 'updates'}:
    assert rl[field] == recipes.BASE[field], field


@pytest.mark.parametrize('changed, says', [
    ({'recipe': 'dappo'}, "'dappo' is unknown: did you mean 'dapo'"),
    ({'surrogate': 'medrl.rl.losses.clop'}, "losses has no 'clop'"),
    ({'options': {'surrogate': {'c': 3.}}},
     "rl.options.surrogate: medrl.rl.losses.clip has no option 'c'; it has "
     'none'),
    ({'recipe': 'verl', 'options': {'surrogate': {'cc': 3.}}},
     "dual_clip has no option 'cc'.*'c'"),
    ({'options': {'surrogate': {'low': 3.}}}, "no option 'low'")])
def test_a_wrong_name_or_option_is_told(changed, says):
  rl = base.get_config().rl
  with rl.unlocked():
    rl.update(changed)
  with pytest.raises(ValueError, match=says):
    words.bind(words.laid(rl), 'surrogate', ('low', 'high'))
