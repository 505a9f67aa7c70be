"""DARE's reward, worked out by hand from the paper's formulas."""

import math

import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import spread

RECORD = types.Record(id='r', question='', answer=None, answer_type='int')
# As printed: nats, no pruning to speak of; epsilon next to nothing.
PLAIN = {'effective': 0.0, 'prune': 0.0, 'epsilon': 1e-9, 'alpha': 0.5}


def dare(group, **options):
  """`group`: (answer, entropies of its tokens)."""
  completions = [
      types.Completion(f'<answer>{a}</answer>',
                       signals={'token_entropy': entropies})
      for a, entropies in group]
  return spread.distribution(RECORD, completions, {}, **options).total


SURE, UNSURE = (0.25, 0.25), (0.0, 1.0)     # means 0.25 and 0.5


@pytest.mark.parametrize('group, options, expected, why', [
    # masses 2 / .25 = 8 and 2 / .5 = 4: p = 2/3, 1/3; n / M = 1/2.
    ([(1, SURE), (1, SURE), (2, UNSURE), (2, UNSURE)], {},
     (2 / 3 + .5 * .5 * .75, 2 / 3 + .5 * .5 * .75,
      1 / 3 + .5 * .5 * .5, 1 / 3 + .5 * .5 * .5), 'p + alpha b'),
    ([(1, SURE), (1, UNSURE), (2, (0.375,)), (2, (0.375,))], {'alpha': 0.0},
     (.5, .5, .5, .5), 'u is the mean over the rollouts of an answer: 0.375'),
    ([(1, SURE), (1, SURE), (1, SURE)], {}, (1, 1, 1), 'one answer: b is 0'),
    ([(1, SURE), ('?', SURE)], {}, (1, 0), 'the unparsed count for nothing'),
    ([('?', SURE), ('?', ())], {}, (0, 0), 'nothing to spread'),
    # p = 3/4, 1/4: the second is pruned, and M' = 3 leaves no bonus.
    ([(1, SURE)] * 3 + [(2, SURE)], {'prune': 0.3}, (1, 1, 1, 0), 'pruned'),
    ([(1, SURE)] * 3 + [(2, SURE)], {'prune': 0.25, 'alpha': 0.0},
     (.75, .75, .75, .25), 'at the threshold it survives'),
    ([(1, SURE), (2, SURE)], {'prune': 0.9}, (0, 0), 'all are pruned'),
    # p = 1/2, 1/4, 1/4; over rollouts 2 / 2 + 1 / 4 + 1 / 4 = 1.5.
    ([(1, SURE)] * 2 + [(2, SURE), (3, SURE)], {'over': 'rollouts',
                                                'alpha': 0.0},
     (1 / 3, 1 / 3, 1 / 6, 1 / 6), 'normalised over rollouts, as printed'),
    ([(1, (2.0,)), (2, (2.0,))], {}, (.5 + .5 * .5 * -1,) * 2,
     'in nats as printed, the bonus of an answer above 1 nat is a penalty'),
    ([(1, (2.0,)), (2, (2.0,))], {'effective': math.e ** 4},
     (.5 + .5 * .5 * .5,) * 2, 'u = 2 / 4'),
    ([(1, (9.0,)), (2, (9.0,))], {'effective': math.e ** 4}, (.5, .5),
     'u is clipped to 1: no bonus'),
    # Of the others: a 1 sees 1, 2 at 1/2 each; the 2 sees 1 only.
    ([(1, SURE), (1, SURE), (2, SURE)], {'leave_one_out': True, 'alpha': 0.0},
     (.5, .5, 0), 'leave-one-out'),
    ([(1, SURE), (1, UNSURE), (2, SURE)], {'leave_one_out': True, 'alpha': 0.0},
     (1 / 3, 1 / 2, 0), 'one is judged by the entropy of the others'),
    ([(1, SURE)], {'leave_one_out': True}, (0,), 'no other'),
])
def test_value(group, options, expected, why):
  found = dare(group, **{**PLAIN, **options})
  assert found == pytest.approx(expected, abs=1e-6), why


def test_default_threshold():
  # Up to 15 answers 0.05, which none of 15 equal ones is below.
  assert min(dare([(i, SURE) for i in range(15)])) > 0
  # From 16 on 1 / M: of those said once, those less sure than all are dropped.
  found = dare([(i, SURE) for i in range(15)] + [(15, UNSURE)], epsilon=1e-9)
  assert found[-1] == 0 < min(found[:-1])
  assert min(dare([(i, SURE) for i in range(16)])) > 0


def test_range_at_the_defaults():
  found = dare([(1, (0.0,))] * 3 + [(2, (0.0,))] + [(3, (50.0,))])
  assert all(0 <= v <= 1.2 for v in found)


@pytest.mark.parametrize('entropies, message', [
    ((), 'mean entropy of 0'), ((math.nan,), 'nan'), ((math.inf,), 'inf')])
def test_entropies_that_are_none(entropies, message):
  with pytest.raises(ValueError, match=message):
    dare([(1, entropies)])


def test_without_the_signal():
  with pytest.raises(ValueError, match="no signal 'token_entropy'"):
    spread.distribution(RECORD, [types.Completion('<answer>1</answer>')], {})


@pytest.mark.parametrize('options', [
    {'alpha': 1.5}, {'alpha': math.nan}, {'effective': 1.0}, {'epsilon': 0.0},
    {'over': 'tokens'}])
def test_wrong_options(options):
  with pytest.raises(ValueError, match='expected'):
    dare([], **options)


def test_the_label_changes_nothing():
  reward = compose.build(
      {'d': {'fn': 'medrl.rewards.spread.distribution', 'weight': 1.0}})
  group = [types.Completion(f'<answer>{a}</answer>',
                            signals={'token_entropy': SURE}) for a in (1, 1, 2)]
  one, two = (reward(types.Record(id='r', question='', answer=label,
                                  answer_type='int'), group, {})
              for label in (1, 2))
  assert one == two and one.errors == 0 and one.total[0] > one.total[2]
