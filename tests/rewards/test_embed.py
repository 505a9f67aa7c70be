"""Cosines longhand, embedders that misbehave, and a real HTTP server."""

import math

import numpy as np
import pytest

from medrl import types
from medrl.rewards import embed
from medrl.rewards import judge
from tests.rewards import servers

RECORD = types.Record(id='r', question='q', answer='east', answer_type='text')
VECTORS = {'east': [2, 0], 'same': [2, 0], 'north': [0, 3], 'west': [-1, 0],
           'north-east': [1, 1], 'nowhere': [0, 0], 'far': [1e-30, 0]}


def compass(texts):
  return np.array([VECTORS[t] for t in texts], np.float32)


def group(*answers):
  return [types.Completion(f'<answer>{a}</answer>' if a else 'east')
          for a in answers]


def scored(answers, embedder, **options):
  return embed.score(RECORD, group(*answers),
                     {'embedders': {'default': embedder}}, **options)


@pytest.mark.parametrize('answer, expected', [
    ('east', 1.0), ('same', 1.0), ('north', 0.0), ('west', 0.0),
    ('north-east', math.sqrt(.5)), ('nowhere', 0.0), ('far', 1.0)])
def test_cosine_longhand(answer, expected):
  score = scored([answer], compass)
  assert score.total == pytest.approx((expected,), abs=1e-7)
  assert score.parsed == (True,) and score.valid == (True,)


def test_floor_and_no_answer():
  asked = []

  def spy(texts):
    asked.append(texts)
    return compass(texts)
  score = scored(['east', 'north-east', '', 'north-east'], spy, least=.8)
  assert score.total == pytest.approx((1.0, 0.0, 0.0, 0.0))
  assert score.parsed == (True, True, False, True)
  assert asked == [['east', 'north-east']]   # each text once


@pytest.mark.parametrize('wrong', [
    [1.0, 2.0], [[1.0]], [[1.0], [float('nan')]], [[1.0], [float('inf')]],
    np.zeros((2, 2, 2))])
def test_other_than_a_finite_vector_each(wrong):
  with pytest.raises(ValueError, match='expected a finite vector'):
    scored(['north'], lambda texts: wrong)


def test_a_hidden_answer():
  with pytest.raises(ValueError, match='no answer'):
    embed.score(types.Record('r', 'q', None, 'text'), group('a'),
                {'embedders': {'default': compass}})


def test_a_server_in_batches_then_offline(tmp_path, monkeypatch):
  monkeypatch.setenv('no_proxy', '127.0.0.1')

  def answer(number, path, body):
    rows = [{'index': i, 'embedding': VECTORS[t]}
            for i, t in enumerate(body['input'])]
    return 200, {'data': rows[::-1]}   # the order is in the index

  options = {'model': 'm', 'folder': str(tmp_path)}
  with servers.serving(answer) as (url, seen):
    made = embed.http(server={'url': url}, mode='record', batch=2, **options)
    score = scored(['east', 'north', 'north-east'], made)
    assert score.total == pytest.approx((1.0, 0.0, math.sqrt(.5)))
  assert sorted(len(body['input']) for _, body, _ in seen) == [1, 2]
  replay = judge.build({'default': {
      'fn': 'medrl.rewards.embed.http',
      'options': {'server': {}, 'mode': 'replay', **options}}})
  assert scored(['east', 'north', 'north-east'], replay['default']) == score
  with pytest.raises(LookupError, match='1 of 2 answers are not in'):
    scored(['west'], replay['default'])


@pytest.mark.parametrize('answer, reason', [
    ((400, {}), 'HTTP 400'),
    ((200, {'data': []}), 'broken answer'),
    ((200, {'data': [{'index': 0, 'embedding': [1]}]}), 'broken answer'),
    ((200, {'data': [{'index': 0, 'embedding': [1]},
                     {'index': 1, 'embedding': [1, 2]}]}), 'broken answer'),
    ((200, b'{"data": [{"index": 0, "embedding": [NaN]}]}'), 'broken answer'),
])
def test_a_server_that_fails_is_an_error_and_is_not_kept(
    answer, reason, tmp_path, monkeypatch):
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  with servers.serving(lambda *_: answer) as (url, _):
    made = embed.http(model='m', server={'url': url, 'retries': 0},
                      folder=str(tmp_path), mode='record')
    with pytest.raises(RuntimeError, match=reason):
      scored(['north'], made)
  assert not list(tmp_path.rglob('*.json'))


def test_a_local_function_and_its_memory(tmp_path):
  made = embed.local(path=f'{__name__}.compass', folder=str(tmp_path),
                     mode='record')
  np.testing.assert_array_equal(made(['east', 'north']), [[2, 0], [0, 3]])
  assert len(list(tmp_path.rglob('*.json'))) == 2
