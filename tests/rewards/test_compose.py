"""Weights, failures, what a label-free term sees, and wrong configs."""

import ml_collections
import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import lift

RECORD = types.Record(
    id='r', question='q', answer='yes', answer_type='yesno',
    demonstration='yes', meta={'gold': 'yes'})
GROUP = [types.Completion('<answer>yes</answer>', signals={
             'token_logps': 1.0, 'reference_answer': 'yes'}),
         types.Completion('<answer>no</answer>'),
         types.Completion('?')]
SEEN = []


@lift.per_completion
def length(record, text, *, per=1.0):
  return len(text) * per


@lift.declare(needs=('embedding', 'token_logps'))
def ones(record, completions, context):
  return types.Score((1.0,) * len(completions))


@lift.declare(label_free=True, needs=('token_logps',))
def spy(record, completions, context):
  SEEN.append((record, [c.signals for c in completions]))
  return types.Score((0.0,) * len(completions))


def marked(record, completions, context):
  return types.Score((1.0,) * len(completions), spans=tuple(
      ((0, 2, 0.5), (i, i + 1, -1.0)) for i in range(len(completions))))


def parted(record, completions, context):
  size = len(completions)
  return types.Score((1.0,) * size, {'critical': tuple(range(size))})


def unmarked(record, completions, context):
  return types.Score((1.0,) * len(completions), spans=((),))


def broken(record, completions, context):
  raise KeyError('patient 7')


def infinite(record, completions, context):
  return types.Score((0.0, float('inf'), 0.0))


def short(record, completions, context):
  return types.Score((1.0,))


def unlifted(record, text):
  return 1.0


def term(name, weight=1.0, **options):
  fn = name if '.' in name else f'{__name__}.{name}'
  return {'fn': fn, 'weight': weight, 'options': options}


def test_weights_and_parts():
  reward = compose.build({
      'right': term('medrl.rewards.answer.score', 2.0),
      'long': term('length', -0.5, per=0.1),
      'unused': term('broken', 0.0)})
  score = reward(RECORD, GROUP, {})
  assert score.parts == {'right': (1.0, 0.0, 0.0),
                         'long': pytest.approx((2.0, 1.9, 0.1))}
  assert score.total == pytest.approx((2 - 1.0, -0.95, -0.05))
  assert score.parsed == (True, True, False)
  assert score.valid == (True, True, True) and score.errors == 0


@pytest.mark.parametrize('name', ['broken', 'infinite', 'short', 'unmarked'])
def test_a_failing_term_is_counted_and_voids_the_group(name, caplog):
  reward = compose.build({'one': term('ones'), 'bad': term(name, 3.0)})
  for _ in range(2):
    score = reward(RECORD, GROUP, {})
  assert score.total == (1.0, 1.0, 1.0)
  assert score.parts['bad'] == (0.0, 0.0, 0.0)
  assert score.valid == (False, False, False) and score.errors == 1
  assert len(caplog.records) == 1 and 'patient' not in caplog.text


def test_a_label_free_term_cannot_see_the_label():
  SEEN.clear()
  compose.build({'spy': term('spy')})(RECORD, GROUP, {})
  (record, signals), = SEEN
  assert (record.answer, record.demonstration, record.meta) == (None, '', {})
  assert record.question == 'q'
  assert signals == [{'token_logps': 1.0}, {}, {}]
  assert RECORD.answer == 'yes'


def test_spans_are_weighted_and_joined():
  reward = compose.build({'a': term('marked', 2.0), 'b': term('ones', 3.0),
                          'c': term('marked', -1.0)})
  assert reward(RECORD, GROUP, {}).spans[1] == (
      (0, 2, 1.0), (1, 2, -2.0), (0, 2, -0.5), (1, 2, 1.0))
  # A failed term has none.
  reward = compose.build({'a': term('marked'), 'b': term('broken')})
  assert reward(RECORD, GROUP, {}).spans[2] == ((0, 2, 0.5), (2, 3, -1.0))


def test_a_terms_own_parts_are_kept():
  score = compose.build({'a': term('parted', 2.0)})(RECORD, GROUP, {})
  assert score.total == (2.0, 2.0, 2.0)
  assert score.parts == {'a': (1.0, 1.0, 1.0), 'a/critical': (0., 1., 2.)}


def test_needs_of_the_terms_in_use():
  terms = {'a': term('ones'), 'b': term('spy'), 'c': term('length')}
  assert compose.needs(terms) == ('embedding', 'token_logps')
  terms['a']['weight'] = 0.0
  assert compose.needs(terms) == ('token_logps',)


def test_terms_inside_a_gate_are_checked_and_asked_for():
  gate = {'fn': 'medrl.rewards.gates.gated', 'weight': 1.0, 'options': {
      'when': {'fn': f'{__name__}.ones'}, 'then': f'{__name__}.length'}}
  assert compose.needs({'g': gate}) == ('embedding', 'token_logps')
  assert not compose.build({'g': gate}).per_completion
  gate['options']['when'] = 'medrl.rewards.format.tags'
  assert compose.build({'g': gate}).per_completion
  # A pool sends single texts without the signals of their group.
  assert not compose.build({'a': term(
      'medrl.rewards.consistency.rederived')}).per_completion
  gate['options']['then'] = {'fn': f'{__name__}.length',
                             'options': {'pre': 2}}
  with pytest.raises(ValueError, match="'g.1.'.*did you mean 'per'"):
    compose.build({'g': gate})
  gate['options']['then'] = {'fn': f'{__name__}.length', 'weight': 2.0}
  with pytest.raises(ValueError, match='weigh the outer one'):
    compose.build({'g': gate})


def test_a_config_dict_is_a_mapping_too():
  terms = ml_collections.ConfigDict({
      'tags': {'fn': 'medrl.rewards.format.tags', 'weight': 1,
               'options': {'think': False}}})
  assert compose.build(terms)(RECORD, GROUP, {}).total == (1.0, 1.0, 0.0)


def test_empty_group():
  assert compose.build({'one': term('ones')})(RECORD, [], {}).total == ()


@pytest.mark.parametrize('terms, message', [
    ({}, 'every weight is 0'),
    ({'a': term('ones', 0.0)}, 'every weight is 0'),
    ({'a': {'fn': 'x.y'}}, "'a' has no 'weight'"),
    ({'a': {**term('ones'), 'wieght': 1}}, "did you mean 'weight'"),
    ({'a': term('ones', float('nan'))}, 'not finite'),
    ({'a': term('length', pre=2)}, "did you mean 'per'"),
    ({'a': term('unlifted')}, 'lift.per_completion'),
    ({'a': term('RECORD')}, 'not a function'),
    ({'a': term('medrl.rewards.answer.scor', 0.0)}, "did you mean 'score'"),
])
def test_wrong_terms_are_refused_even_at_weight_0(terms, message):
  with pytest.raises(ValueError, match=message):
    compose.build(terms)
