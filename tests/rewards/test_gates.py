"""Gates and products of rewards by hand, failures and hidden labels too."""

import ml_collections
import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import gates
from medrl.rewards import lift

RECORD = types.Record(id='r', question='', answer='yes', answer_type='yesno')
SEEN = []


def values(record, completions, context, *, at='right'):
  del record, context
  column = {'right': (1.0, 1.0, 0.0), 'shape': (1.0, 0.0, 1.0),
            'branch': (0.5, 0.49, 1.0), 'bonus': (0.5, 0.25, -1.0)}[at]
  return types.Score(column, spans=tuple(
      ((0, 1, value),) for value in column), parsed=(True, at != 'shape', True))


def failing(record, completions, context):
  raise KeyError('patient 7')


@lift.declare(label_free=True)
def spy(record, completions, context):
  SEEN.append(record.answer)
  return types.Score((0.0,) * len(completions))


def term(at):
  return {'fn': f'{__name__}.values', 'options': {'at': at}}


def run(name, **options):
  group = [types.Completion('x')] * 3
  return getattr(gates, name)(RECORD, group, {}, **options)


@pytest.mark.parametrize('name, options, expected, why', [
    ('gated', {'when': term('right'), 'then': term('bonus')}, (.5, .25, 0),
     'bonus only if right'),
    ('gated', {'when': term('branch'), 'then': term('right'), 'least': 0.5},
     (1, 0, 0), 'in the right branch only'),
    ('gated', {'when': term('right'), 'then': term('bonus'), 'otherwise': -2},
     (.5, .25, -2), 'a price for a shut gate'),
    ('gated', {'when': f'{__name__}.values', 'then': term('bonus')},
     (.5, .25, 0), 'a name alone is a term'),
    ('every', {'terms': [term('right'), term('shape')]}, (1, 0, 0), 'hard AND'),
    ('every', {'terms': [term('right'), term('branch')], 'least': 0.5},
     (1, 0, 0), 'hard AND at a half'),
    ('every', {'terms': [term('branch')]}, (0, 0, 1), 'of one'),
    ('product', {'terms': [term('bonus'), term('shape')]}, (.5, 0, -1),
     'by format'),
    ('product', {'terms': [term('bonus')] * 3}, (.125, .015625, -1), 'cubed'),
])
def test_value(name, options, expected, why):
  score = run(name, **options)
  assert score.total == pytest.approx(expected), why
  assert score.errors == 0 and score.valid == (True,) * 3


def test_parsed_is_where_all_are():
  assert run('product', terms=[term('bonus'), term('shape')]).parsed == (
      True, False, True)


def test_spans():
  score = run('gated', when=term('right'), then=term('bonus'))
  assert score.spans == (((0, 1, .5),), ((0, 1, .25),), ())
  score = run('product', terms=[term('bonus'), term('branch')])
  assert score.spans[0] == ((0, 1, .25), (0, 1, .25))
  assert score.spans[1] == ((0, 1, .25 * .49), (0, 1, .49 * .25))


@pytest.mark.parametrize('name, options', [
    ('gated', {'when': f'{__name__}.failing', 'then': term('bonus')}),
    ('gated', {'when': term('right'), 'then': f'{__name__}.failing'}),
    ('every', {'terms': [f'{__name__}.failing', term('right')]}),
    ('product', {'terms': [term('right'), f'{__name__}.failing']})])
def test_a_failure_inside_voids_the_group(name, options, caplog):
  score = run(name, **options)
  assert score.errors == 1 and score.valid == (False,) * 3
  assert 'patient' not in caplog.text


def test_the_label_is_hidden_inside_too():
  SEEN.clear()
  run('gated', when=term('right'), then=f'{__name__}.spy')
  assert SEEN == [None]


def test_in_a_composition():
  reward = compose.build({'morphology': {
      'fn': 'medrl.rewards.gates.gated', 'weight': 0.5, 'options': {
          'when': term('branch'), 'least': 0.5, 'then': term('bonus')}}})
  score = reward(RECORD, [types.Completion('x')] * 3, {})
  assert score.total == (.25, 0, -.5)


@pytest.mark.parametrize('name, options, message', [
    ('every', {'terms': []}, 'at least one term'),
    ('product', {'terms': 'a.b'}, 'at least one term'),
    ('product', {'terms': [{**term('right'), 'weight': 2.}]}, 'weigh the gate'),
    ('every', {'terms': ['medrl.rewards.vote.majorty']}, 'did you mean'),
    ('every', {'terms': [{'fn': f'{__name__}.values', 'options': {'et': 1}}]},
     "no option 'et'")])
def test_wrong_terms(name, options, message):
  with pytest.raises(ValueError, match=message):
    run(name, **options)


def test_a_config_dict_is_a_mapping_too():
  terms = ml_collections.ConfigDict({'x': {
      'fn': 'medrl.rewards.gates.gated', 'weight': 1.0, 'options': {
          'when': term('right'), 'then': {
              'fn': 'medrl.rewards.gates.product',
              'options': {'terms': (term('bonus'), term('shape'))}}}}})
  score = compose.build(terms)(RECORD, [types.Completion('x')] * 3, {})
  assert score.total == (.5, 0, 0) and score.errors == 0
