"""Corrections against longhand NumPy and the peers' published examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import metrics
from medrl.rl import corrections

SHAPE = (3, 2, 5)
BOTH = pytest.mark.parametrize('jitted', [False, True])


def data(seed=0, spread=.6):
  rng = np.random.default_rng(seed)
  old, sampler = rng.normal(-1, spread, (2, *SHAPE)).astype(np.float32)
  mask = np.arange(5) < rng.integers(1, 6, (3, 2, 1))
  mask[0, 0] = [True, False, True, True, False]
  mask[1, 1] = False
  return old, sampler, mask


def band(value, low, high):
  return value if low <= value <= high else 0.


def keep(yes):
  return np.float64(yes)


# name -> options and `one(gaps)`: weights of a completion's log ratios.
WORDS = {
    'token_tis': ({'cap': 1.5, 'floor': .5},
                  lambda d: np.clip(np.exp(d), .5, 1.5)),
    'token_band': ({'low': .6, 'high': 1.4},
                   lambda d: [band(r, .6, 1.4) for r in np.exp(d)]),
    'sequence_tis': ({'cap': 1.5}, lambda d: min(np.exp(d.sum()), 1.5)),
    'sequence_band': ({'high': 1.5}, lambda d: band(np.exp(d.sum()), 0, 1.5)),
    'geometric_tis': ({'cap': 1.2, 'floor': .6},
                      lambda d: np.clip(np.exp(d.mean()), .6, 1.2)),
    'token_reject': ({'low': .7, 'high': 1.3},
                     lambda d: (np.exp(d) >= .7) & (np.exp(d) <= 1.3)),
    'sequence_reject': ({}, lambda d: keep(.5 <= np.exp(d.sum()) <= 2)),
    'geometric_reject': ({'low': .6, 'high': 1.2},
                         lambda d: keep(.6 <= np.exp(d.mean()) <= 1.2)),
    'k3_reject': ({'top': .2},
                  lambda d: keep((np.exp(d) - d - 1).mean() <= .2)),
    'token_veto': ({'floor': .4}, lambda d: keep((np.exp(d) >= .4).all())),
}
WEIGHS = ('token_tis', 'token_band', 'sequence_tis', 'sequence_band',
          'geometric_tis')


def longhand(name, old, sampler, mask):
  weights, cut = np.zeros(SHAPE), np.zeros(SHAPE, bool)
  for place in np.ndindex(SHAPE[:2]):
    kept = mask[place]
    if kept.any():
      gaps = (old - sampler)[place][kept].astype(float)
      weights[place][kept] = WORDS[name][1](gaps)
      level = name.split('_')[0]
      raw = np.exp({'token': gaps, 'sequence': gaps.sum(),
                    'geometric': gaps.mean()}.get(level, gaps))
      if name not in WEIGHS:
        raw = 1.
      cut[place][kept] = ~np.isclose(weights[place][kept], raw)
  return weights, cut


@BOTH
@pytest.mark.parametrize('name', WORDS)
def test_words(name, jitted):
  def call(*a):
    return getattr(corrections, name)(*a, **WORDS[name][0])
  found = (jax.jit(call) if jitted else call)(*data())
  weights, cut = longhand(name, *data())
  np.testing.assert_allclose(found[0], weights, rtol=1e-5)
  np.testing.assert_array_equal(found[1], cut)
  assert cut.any() and not cut[data()[2]].all()   # or nothing is tested


@pytest.mark.parametrize('name', WORDS)
def test_masked_equals_removed_and_no_gradient_flows(name):
  old, sampler, _ = data(1)
  mask = np.ones(SHAPE, bool)
  mask[..., 3:] = False
  def call(*a):
    return getattr(corrections, name)(*a, **WORDS[name][0])
  dirty = call(np.where(mask, old, np.nan), np.where(mask, sampler, -np.inf),
               mask)
  clean = call(*(x[..., :3] for x in (old, sampler, mask)))
  for a, b in zip(dirty, clean):
    np.testing.assert_allclose(a[..., :3], b, rtol=1e-6)
    assert (np.asarray(a[..., 3:]) == 0).all()
  gradient = jax.grad(lambda x: call(x, sampler, mask)[0].sum())(old)
  assert (np.asarray(gradient) == 0).all()


@pytest.mark.parametrize('name', WORDS)
def test_extremes_are_finite_and_the_same_policy_is_left_alone(name):
  inf = np.inf
  old = np.float32([[[-inf, -1, -inf, 0, 0]], [[-1e30, 0, -500, -1, 0]]])
  sampler = np.float32([[[-1, -inf, -inf, -500, 0]], [[0, -1e30, 0, -1, 0]]])
  function = getattr(corrections, name)
  weights, cut = function(old, sampler, np.ones(old.shape, bool))
  assert np.isfinite(weights).all() and (np.asarray(weights) >= 0).all()
  assert np.asarray(cut).any()
  weights, cut = function(old, old, np.ones(old.shape, bool))
  assert (np.asarray(weights) == 1).all() and not np.asarray(cut).any()
  weights, cut = function(old, sampler, np.zeros(old.shape, bool))
  assert not np.asarray(weights).any() and not np.asarray(cut).any()


@pytest.mark.parametrize('name', ['token_tis', 'sequence_tis',
                                  'geometric_tis'])
def test_without_a_cap_a_weight_is_at_most_exp_20(name):
  old = np.zeros((1, 1, 2), np.float32)
  weights, _ = getattr(corrections, name)(old, old - 500, old == 0, cap=np.inf)
  np.testing.assert_allclose(weights, np.exp(20), rtol=1e-5)


def test_ice_pop_is_nemo_rls_published_example():
  """Weights .6065, 12.182, .8187 in the band [.5, 5]: the second is out."""
  old = np.full((1, 1, 3), -1., np.float32)
  sampler = np.float32([[[-.5, -3.5, -.8]]])
  weights, _ = corrections.token_band(old, sampler, np.ones((1, 1, 3), bool))
  np.testing.assert_allclose(weights[0, 0], [.6065, 0, .8187], atol=1e-4)


def test_truncation_is_nemo_rls_published_example():
  """Ratios 1, 3, .5 capped at 2: a third of the tokens is out of bounds."""
  old = np.log(np.float32([[[1, 3, .5]]]))
  mask = np.ones((1, 1, 3), bool)
  weights, cut = corrections.token_tis(old, np.zeros_like(old), mask)
  np.testing.assert_allclose(weights[0, 0], [1, 2, .5], rtol=1e-6)
  report = corrections.report(weights, cut, mask)
  np.testing.assert_allclose(
      metrics.value(report['rollout/correction_cut']), 1 / 3, rtol=1e-6)


def test_masked_truncation_of_sequences_is_a_product_of_two_words():
  """NeMo RL's seq-mask-tis: raw weights of tokens, completions by their
  geometric mean, .9995 and 1.01 against [.999, 1.002]."""
  gaps = np.float32([[[.0005] * 3, [.01] * 3]])
  mask = np.ones(gaps.shape, bool)
  raw, _ = corrections.token_tis(gaps, np.zeros_like(gaps), mask, cap=np.inf)
  kept, _ = corrections.geometric_reject(gaps, np.zeros_like(gaps), mask,
                                         high=1.002)
  np.testing.assert_allclose(raw * kept, [[np.exp(gaps[0, 0]), [0] * 3]],
                             rtol=1e-6)


def test_trls_mask_keeps_the_product_up_to_3():
  gaps = np.log(np.float32([[[1.5, 1.9], [1.5, 2.1], [.1, .1]]]))
  weights, _ = corrections.sequence_band(gaps, np.zeros_like(gaps),
                                         np.ones(gaps.shape, bool))
  np.testing.assert_allclose(weights[..., 0], [[2.85, 0, .01]], rtol=1e-5)


@BOTH
def test_report_and_mean(jitted):
  weights = np.float32([[[2, 0, 1], [1, 9, 9]], [[9, 9, 9], [3, 3, 9]]])
  mask = np.array([[[1, 1, 1], [1, 0, 0]], [[0, 0, 0], [1, 1, 0]]], bool)
  kept = weights[mask]
  cut = weights == 2
  report = (jax.jit(corrections.report) if jitted else corrections.report)(
      weights, cut, mask)
  found = {name.removeprefix('rollout/correction'): metrics.value(mean)
           for name, mean in report.items()}
  np.testing.assert_allclose(
      [found[''], found['_cut'], found['_rejected'], found['_sample_size']],
      [kept.mean(), 1 / 6, 1 / 6, kept.sum()**2 / (6 * (kept**2).sum())],
      rtol=1e-5)
  mean = corrections.batch_mean
  np.testing.assert_allclose(mean(weights, mask, 'tokens'), kept.mean(),
                             rtol=1e-6)
  np.testing.assert_allclose(mean(weights, mask, 'completions'),
                             (1 + 1 + 3) / 3, rtol=1e-6)
  # Nothing, or nothing left: nothing to divide by.
  assert mean(weights, mask & False, 'tokens') == 1
  assert mean(0 * weights, mask, 'completions') == 1
  with pytest.raises(ValueError, match="over 'rows'"):
    mean(weights, mask, 'rows')


def test_an_empty_batch_reports_nothing():
  nothing = jnp.zeros((1, 1, 2))
  for mean in corrections.report(nothing, nothing > 0, nothing > 0).values():
    assert metrics.value(mean) is None and mean.total == 0
