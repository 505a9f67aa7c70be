"""Advantages against longhand numbers."""

import chex
import jax
import numpy as np
import pytest

from medrl.rl import advantages

SCORES = np.array([[1., 3.], [2., 2.], [0., 1.]], np.float32)
OF_GROUPS = ('group_norm', 'center', 'leave_one_out', 'opo')


def info(valid, length=3, **more):
  shape = (*np.shape(valid), length)
  mask = np.ones(shape, bool)
  mask[:, 0, -1] = False
  return advantages.Info(mask, np.array(valid), np.zeros(shape, np.float32),
                         np.zeros(shape, np.float32), **more)


def all_valid(scores):
  return info(np.ones(scores.shape, bool))


def ragged(seed=0):
  """Scores [4, 6], of which a third is invalid, and masks with gaps."""
  rng = np.random.default_rng(seed)
  scores = rng.normal(size=(4, 6)).astype(np.float32)
  valid = rng.random((4, 6)) < .7
  mask = np.arange(7) < rng.integers(0, 8, (4, 6, 1))
  mask[..., 2] = False
  given = info(valid, 7)._replace(mask=mask)
  return np.where(valid, scores, np.nan), given


def longhand(scores, given, one):
  """`one(rewards, lengths)` of each group's valid members, as [P, G, T]."""
  out = np.zeros(given.mask.shape)
  for p, kept in enumerate(given.valid):
    values = one(scores[p, kept], given.mask[p, kept].sum(-1))
    out[p, kept] = np.where(given.mask[p, kept], values[:, None], 0)
  return out


def others(rewards, statistic):
  return np.array([statistic(np.delete(rewards, i))
                   for i in range(len(rewards))])


GROUPS = {
    'group_norm': ({}, lambda r, n: (r - r.mean()) / (r.std(ddof=1) + 1e-6)),
    'population': ({'ddof': 0, 'eps': 1e-8},
                   lambda r, n: (r - r.mean()) / (r.std() + 1e-8)),
    'left out of the mean': (
        {'leave_out': 'mean'},
        lambda r, n: (r - others(r, np.mean)) / (r.std(ddof=1) + 1e-6)),
    'left out of both': (
        {'leave_out': 'both', 'eps_where': 'positive'},
        lambda r, n: (r - others(r, np.mean)) / (
            others(r, lambda o: o.std(ddof=1)) + 1e-6)),
    'center': ({}, lambda r, n: r - r.mean()),
    'leave_one_out': ({}, lambda r, n: r - others(r, np.mean)),
    'opo': ({}, lambda r, n: r - (n * r).sum() / n.sum()),
}


@pytest.mark.parametrize('jitted', [False, True])
@pytest.mark.parametrize('name', GROUPS)
def test_of_groups_is_longhand_over_the_valid(name, jitted):
  options, one = GROUPS[name]
  scores, given = ragged()
  function = getattr(advantages, name if name in OF_GROUPS else 'group_norm')
  def call(s, g):
    return function(s, g, **options)
  result = (jax.jit(call) if jitted else call)(scores, given)
  np.testing.assert_allclose(result, longhand(scores, given, one), rtol=1e-4,
                             atol=1e-5)


def whitened(values, there, ddof, eps, floor):
  kept = values[there]
  variance = kept.var(ddof=ddof)
  scale = np.sqrt(max(variance, eps) if floor else variance + eps)
  return np.where(there, (values - kept.mean()) / scale, 0)


@pytest.mark.parametrize('jitted', [False, True])
@pytest.mark.parametrize('baseline', ['none', 'group'])
@pytest.mark.parametrize('ddof, eps, how', [(1, 1e-8, 'add'), (0, .5, 'floor'),
                                            (0, 1e-8, 'floor')])
def test_whiten_is_over_all_tokens_of_the_batch(baseline, ddof, eps, how,
                                                jitted):
  scores, given = ragged(1)
  rng = np.random.default_rng(2)
  penalty = rng.normal(size=given.mask.shape).astype(np.float32)
  given = given._replace(penalty=penalty)
  def call(s, g):
    return advantages.whiten(s, g, baseline=baseline, ddof=ddof, eps=eps,
                             eps_how=how)
  result = (jax.jit(call) if jitted else call)(scores, given)
  mean = np.nanmean(scores, -1, keepdims=True) if baseline == 'group' else 0
  there = given.mask & given.valid[..., None]
  values = np.where(there, (scores - mean)[..., None] - penalty, 0)
  np.testing.assert_allclose(
      result, whitened(values, there, ddof, eps, how == 'floor'), rtol=1e-4,
      atol=1e-5)


@pytest.mark.parametrize('jitted', [False, True])
@pytest.mark.parametrize('over', ['tokens', 'completions'])
def test_per_part_normalises_terms_before_and_the_sum_after(over, jitted):
  scores, given = ragged(3)
  more = np.random.default_rng(4).normal(size=scores.shape)
  parts = {'right': scores, 'format': np.float32(100 * more)}
  given = given._replace(parts=parts)
  weights = {'right': 1., 'format': .5}
  def call(s, g):
    return advantages.per_part(s, g, weights=weights, over=over)
  result = (jax.jit(call) if jitted else call)(np.zeros_like(scores), given)
  normal = GROUPS['group_norm'][1]
  flat = given._replace(mask=np.ones_like(given.mask))
  total = sum(weights[name] * longhand(part, flat, normal)
              for name, part in parts.items())
  there = given.mask & given.valid[..., None]
  if over == 'completions':
    kept = total[..., 0][given.valid]
    total = (total - kept.mean()) / (kept.std(ddof=1) + 1e-8)
    expected = np.where(there, total, 0)
  else:
    expected = whitened(total, there, 1, 1e-16, False)
  np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_per_part_takes_a_term_without_weight_for_one_and_needs_some():
  assert advantages.per_part.needs == ('parts',)
  given = all_valid(SCORES)
  with pytest.raises(ValueError, match='take group_norm'):
    advantages.per_part(SCORES, given)
  alone = advantages.per_part(SCORES, given._replace(parts={'a': SCORES}))
  both = advantages.per_part(SCORES, given._replace(
      parts={'a': SCORES, 'b': SCORES}), weights={'a': 1.})
  np.testing.assert_allclose(alone, both, rtol=1e-5)   # 2 x, normalised


# What each peer's formula gives for two rewards, 1 and 3.
@pytest.mark.parametrize('options, expected', [
    ({'eps': 1e-6}, .7071063),                        # verl, EasyR1
    ({'eps': 1e-4}, 1 / (2**.5 + 1e-4)),              # TRL
    ({'eps': 1e-9}, .7071068),                        # OpenRLHF
    ({'eps': 1e-8, 'ddof': 0}, 1.),                   # TRL, asynchronous
    # NeMo RL: one other has no deviation, so r - other's stays undivided.
    ({'leave_out': 'both', 'eps_where': 'positive'}, 2.),
    ({'leave_out': 'mean'}, 2**.5),
])
def test_peers_differ_for_two_rewards(options, expected):
  scores = np.array([[1., 3.]], np.float32)
  result = advantages.group_norm(scores, all_valid(scores), **options)
  np.testing.assert_allclose(result[0, :, 0], [-expected, expected], rtol=1e-6)


def test_left_out_of_both_gives_nemo_rls_published_baselines():
  """Its own test: rewards 1 2 3 have baselines 2.5 2 1.5 and deviations
  0.7071 1.4142 0.7071."""
  scores = np.array([[1., 2., 3.], [4., 5., 6.]], np.float32)
  result = advantages.group_norm(scores, all_valid(scores), leave_out='both',
                                 eps_where='positive', eps=0.)
  np.testing.assert_allclose(
      result[..., 0], [[-1.5 / .707107, 0, 1.5 / .707107]] * 2, rtol=1e-5)


@pytest.mark.parametrize('where, expected', [('always', 2 / 3),
                                             ('positive', 1.)])
def test_epsilon_is_added_everywhere_or_where_something_deviates(where,
                                                                 expected):
  scores = np.array([[0., 2., 2.]], np.float32)
  result = advantages.group_norm(scores, all_valid(scores), eps=.5, ddof=0,
                                 eps_where=where, leave_out='mean')
  deviation = scores.std()
  np.testing.assert_allclose(result[0, 0, 0], -2 / (deviation + .5), rtol=1e-6)
  np.testing.assert_allclose(result[0, 1, 0], 1 / (deviation + .5), rtol=1e-6)
  if where == 'positive':   # where others agree, nothing divides
    result = advantages.group_norm(scores, all_valid(scores), eps=.5,
                                   leave_out='both', eps_where=where)
    np.testing.assert_allclose(result[0, 0, 0], -2.)
    np.testing.assert_allclose(result[0, 1, 0], expected / (2**.5 + .5),
                               rtol=1e-6)


@pytest.mark.parametrize('name, options, expected', [
    ('group_norm', {}, 4 / (1 + 1e-6)), ('center', {}, 4.), ('opo', {}, 4.),
    # Over tokens: four of 4 and five of 1.
    ('whiten', {'baseline': 'group'},
     (4 - 21 / 9) / np.std([4] * 4 + [1] * 5, ddof=1))])
def test_a_group_of_one_is_0_or_its_raw_reward(name, options, expected):
  scores = np.array([[4., 9.], [1., 7.], [1., 7.]], np.float32)
  valid = np.array([[True, False]] * 3)
  given = info(valid, 4)._replace(mask=np.ones((3, 2, 4), bool))
  mask = np.array(given.mask)
  mask[1, :, 1:], mask[2, :, :] = False, True
  given = given._replace(mask=mask)
  advantage = getattr(advantages, name)
  zero = advantage(scores, given, **options)
  assert (np.asarray(zero) == 0).all()
  raw = advantage(scores, given, single='raw', **options)
  np.testing.assert_allclose(raw[0, 0], expected, rtol=1e-5)
  assert (np.asarray(raw[:, 1]) == 0).all()


@pytest.mark.parametrize('name', OF_GROUPS)
def test_a_penalty_is_taken_from_tokens_of_uniform_groups_too(name):
  penalty = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
  valid = np.array([[True, True], [True, True], [True, False]])
  given = info(valid)
  advantage = getattr(advantages, name)
  there = given.mask & valid[..., None]
  np.testing.assert_allclose(
      advantage(SCORES, given._replace(penalty=penalty)),
      advantage(SCORES, given) - there * penalty, rtol=1e-6)


class Variants(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True, with_device=True,
                 without_device=True)
  def test_uniform_groups(self):
    valid = np.array([[True, True], [True, True], [True, False]])
    result = self.variant(advantages.uniform_groups)(SCORES, valid)
    np.testing.assert_array_equal(result, [False, True, True])


ALL = [*((name, {}) for name in OF_GROUPS), ('whiten', {}),
       ('whiten', {'baseline': 'group'}), ('per_part', {}),
       ('per_part', {'over': 'completions'}),
       ('group_norm', {'leave_out': 'both', 'eps_where': 'positive'})]


@pytest.mark.parametrize('name, options', ALL)
def test_invalid_equals_removed(name, options):
  advantage = getattr(advantages, name)
  whole = np.array([[.3, np.nan, .8, .1]], np.float32)
  valid = np.array([[True, False, True, True]])
  kept = whole[:, [0, 2, 3]]
  result = advantage(whole, info(valid, parts={'a': whole}), **options)
  np.testing.assert_allclose(
      result[:, [0, 2, 3]],
      advantage(kept, all_valid(kept)._replace(parts={'a': kept}), **options),
      rtol=1e-5)
  assert (np.asarray(result[:, 1]) == 0).all()


NOTHING = [
    ([.1] * 7, [True] * 7),             # the mean is not .1 in float32
    ([1.] + [5.] * 6, [True] + [False] * 6),
    ([np.nan] * 7, [False] * 7)]


@pytest.mark.parametrize('name, options', ALL)
def test_nothing_to_learn_is_exactly_zero(name, options):
  advantage = jax.jit(lambda s, g: getattr(advantages, name)(s, g, **options))
  cases = [(np.float32([s]), np.array([v])) for s, v in NOTHING]
  cases.append((np.float32([[4.]]), np.array([[True]])))   # a group of one
  for scores, valid in cases:
    given = info(valid, parts={'a': scores})
    # Nor is there where no completion has a token.
    for mask in (given.mask, np.zeros_like(given.mask)):
      result = advantage(scores, given._replace(mask=mask))
      assert (np.asarray(result) == 0).all(), (scores, mask.any())


def test_zero_length_completions_have_no_value_and_no_part_in_opo():
  scores = np.array([[5., 1., 3.]], np.float32)
  given = all_valid(scores)
  mask = np.array(given.mask)
  mask[0, 0] = False
  result = np.asarray(advantages.opo(scores, given._replace(mask=mask)))
  assert (result[0, 0] == 0).all()
  np.testing.assert_allclose(result[0, 1:, 0], [-1, 1])


def test_a_reward_that_is_nan_but_valid_is_not_hidden():
  scores = np.array([[np.nan, 1.]], np.float32)
  for name, options in ALL[:6]:
    result = getattr(advantages, name)(scores, all_valid(scores), **options)
    assert np.isnan(result[0, 1]).all(), name


@pytest.mark.parametrize('name, options, says', [
    ('group_norm', {'single': 'one'}, "single 'one' is none of zero, raw"),
    ('group_norm', {'leave_out': 'both'}, "give eps_where='positive'"),
    ('whiten', {'baseline': 'mean'}, "baseline 'mean'"),
    ('per_part', {'over': 'batch'}, "over 'batch'")])
def test_an_option_that_is_none_is_told(name, options, says):
  with pytest.raises(ValueError, match=says):
    getattr(advantages, name)(SCORES, all_valid(SCORES), **options)


def test_span_credit_is_normalised_over_the_groups_stretches():
  """Longhand: three credited tokens 1, 1, 4 of a group, one of them alone."""
  nan = np.nan
  credit = np.array([[[1, 1, nan], [nan, 4, 9]],     # 9: not written by it
                     [[2, 2, nan], [nan, 2, nan]],   # all alike
                     [[5, nan, nan], [7, 7, 7]]], np.float32)   # 7: invalid
  given = info([[True, True], [True, True], [True, False]])
  given = given._replace(mask=np.array(given.mask) & np.array(
      [[[1, 1, 1], [1, 1, 0]]] * 3, bool))
  result = np.asarray(advantages.span_credit(credit, given))
  deviation = np.std([1, 1, 4], ddof=1)
  expected = np.zeros_like(credit)
  expected[0, 0, :2] = (1 - 2) / deviation
  expected[0, 1, 1] = (4 - 2) / deviation
  np.testing.assert_allclose(result, expected, atol=1e-5)
