"""Foreign rewards, written as their documentation shows, run unchanged.

The files below follow the shape, and not the wording, of the examples in
verl's docs/preparation/reward_function.rst, TRL's docs/source/grpo_trainer.md
and EasyR1's examples/reward_function (math.py, r1v.py, dapo.py).
"""

import functools
import sys

import pytest

from medrl import types
from medrl.rewards import adapters
from medrl.rewards import compose
from medrl.rewards import pool

RECORD = types.Record(
    id='r7', question='Which side?', answer='B', answer_type='choice',
    options={'A': 'left', 'B': 'right'}, source='films', task='side',
    media=(types.Media('a.png'),), meta={'answer_label': 'right', 'hard': 2})
GROUP = [types.Completion(text, ids=tuple(range(n))) for text, n in [
    ('<think>it is</think><answer>B</answer>', 7),
    ('<answer>A</answer>', 3), ('I cannot say', 20)]]

VERL = '''
import re

import numpy as np


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
  found = re.findall(r'<answer>(.*?)</answer>', solution_str, re.DOTALL)
  return 1.0 if found and found[-1].strip() == ground_truth else 0.0


def with_extras(data_source, solution_str, ground_truth, extra_info=None,
                bonus=0.5, **kwargs):
  assert data_source == 'films' and extra_info['answer_label'] == 'right'
  right = ground_truth in solution_str
  return {'score': right + bonus * right, 'acc': right, 'pred': solution_str,
          'hard': extra_info['hard'], 'shape': np.zeros(2)}


async def patient(data_source, solution_str, ground_truth, extra_info):
  return len(solution_str) / 100
'''

TRL = '''
import asyncio
import re


def by_tokens(completion_ids, **kwargs):
  return [float(len(ids)) for ids in completion_ids]


def by_format(completions, **kwargs):
  pattern = r'^<think>.*?</think><answer>.*?</answer>$'
  contents = [completion[0]['content'] for completion in completions]
  return [1.0 if re.match(pattern, c) else 0.0 for c in contents]


def by_reference(completions, ground_truth, **kwargs):
  found = [re.search(r'<answer>(.*?)</answer>', c) for c in completions]
  return [1.0 if f and f.group(1) == gt else 0.0
          for f, gt in zip(found, ground_truth)]


def one_task(prompts, completions, task, **kwargs):
  out = []
  for prompt, completion, t in zip(prompts, completions, task):
    if t == 'side' and 'answer' in completion:
      out.append(1.0 if 'B' in completion else -1.0)
    else:
      out.append(None)
  return out


async def slowly(prompts, completions, trainer_state, log_extra, log_metric,
                 environments, images, hard, **kwargs):
  await asyncio.sleep(0.01)
  assert prompts[0] == 'Which side?\\nA. left\\nB. right'
  assert images == [['a.png']] * 3 and environments == [None] * 3
  log_extra('words', [len(c.split()) for c in completions])
  log_extra('text', completions)
  log_metric('asked', 3)
  return [trainer_state.global_step + h for h in hard]


class Stateful:
  def __init__(self):
    self.calls = 0

  def __call__(self, completions, **kwargs):
    self.calls += 1
    return [float(self.calls)] * len(completions)


stateful = Stateful()
'''

EASYR1 = '''
import re
from typing import Any

REWARD_NAME = 'sides'
REWARD_TYPE = 'batch'


def compute_score(reward_inputs: list[dict[str, Any]],
                  format_weight: float = 0.1) -> list[dict[str, float]]:
  if not isinstance(reward_inputs, list):
    raise ValueError('use reward_type=batch')
  scores = []
  for reward_input in reward_inputs:
    found = re.search(r'<answer>(.*?)</answer>', reward_input['response'])
    shape = float(found is not None)
    right = float(bool(found) and found[1] == reward_input['ground_truth'])
    scores.append({
        'overall': (1 - format_weight) * right + format_weight * shape,
        'format': shape, 'accuracy': right,
        'long': reward_input['response_length']})
  return scores
'''

ONE_BY_ONE = '''
REWARD_NAME = 'one'
REWARD_TYPE = 'sequential'


def compute_score(reward_input, limit=10):
  if not isinstance(reward_input, dict):
    raise ValueError('use reward_type=sequential')
  return {'overall': float(reward_input['response_length'] <= limit)}
'''

OLDER = ONE_BY_ONE.replace("REWARD_TYPE = 'sequential'", '')


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('foreign')
  for name, source in [('their_verl', VERL), ('their_trl', TRL),
                       ('their_easyr1', EASYR1), ('their_one', ONE_BY_ONE),
                       ('their_older', OLDER)]:
    (folder / f'{name}.py').write_text(source)
  return folder


@pytest.fixture(params=['file', 'dotted'])
def path(request, folder, monkeypatch):
  """Both ways to name a function."""
  if request.param == 'file':
    return lambda name: '{}/{}.py:{}'.format(folder, *name.split('.'))
  monkeypatch.syspath_prepend(folder)
  return lambda name: name


def reward(adapter, path, **options):
  return compose.build({'foreign': {
      'fn': f'medrl.rewards.adapters.{adapter}', 'weight': 1.0,
      'options': {'path': path, **options}}})


@pytest.mark.parametrize('adapter, name, options, expected', [
    ('verl', 'their_verl.compute_score', {}, (1, 0, 0)),
    ('verl', 'their_verl.with_extras', {}, (1.5, 0, 0)),
    ('verl', 'their_verl.with_extras', {'arguments': {'bonus': 2}}, (3, 0, 0)),
    ('verl', 'their_verl.patient', {}, (.38, .18, .12)),
    ('trl', 'their_trl.by_tokens', {}, (7, 3, 20)),
    ('trl', 'their_trl.by_format', {'conversational': True}, (1, 0, 0)),
    ('trl', 'their_trl.by_reference', {}, (1, 0, 0)),
    ('trl', 'their_trl.one_task', {}, (1, -1, 0)),
    ('trl', 'their_trl.slowly', {}, (14, 14, 14)),
    ('trl', 'their_trl.stateful', {}, None),
    ('easyr1', 'their_easyr1.compute_score', {}, (1, .1, 0)),
    ('easyr1', 'their_easyr1.compute_score',
     {'arguments': {'format_weight': .5}}, (1, .5, 0)),
    ('easyr1', 'their_one.compute_score', {}, (1, 1, 0)),
    ('easyr1', 'their_older.compute_score', {'kind': 'sequential'}, (1, 1, 0)),
])
def test_a_foreign_reward_in_a_composition(path, adapter, name, options,
                                           expected):
  score = reward(adapter, path(name), **options)(RECORD, GROUP, {'step': 12})
  assert score.errors == 0 and score.valid == (True,) * 3
  if expected is None:   # it counts its calls, so it was made once
    assert score.total[0] >= 1 and len(set(score.total)) == 1
  else:
    assert score.total == pytest.approx(expected)


def test_parts_are_the_numbers_and_never_text(folder):
  score = adapters.verl(RECORD, GROUP, {},
                        path=f'{folder}/their_verl.py:with_extras')
  assert score.parts == {'score': score.total, 'acc': (1, 0, 0),
                         'hard': (2, 2, 2)}
  score = adapters.trl(RECORD, GROUP, {},
                       path=f'{folder}/their_trl.py:slowly')
  assert score.parts == {'trl': (2, 2, 2), 'asked': (3, 3, 3),
                         'words': (2, 1, 3), 'applies': (1, 1, 1)}
  score = adapters.trl(RECORD, GROUP, {},
                       path=f'{folder}/their_trl.py:one_task')
  assert score.parts['applies'] == (1, 1, 0)
  score = adapters.easyr1(RECORD, GROUP, {},
                          path=f'{folder}/their_easyr1.py:compute_score')
  assert score.parts['long'] == (7, 3, 20)


@pytest.mark.parametrize('answer, meta, gold', [
    (3.5, {}, '3.5'), ([1, 2, 3, 4], {}, '[1, 2, 3, 4]'), ('yes', {}, 'yes'),
    (3.5, {'ground_truth': {'value': 3}}, {'value': 3})])
def test_ground_truth_is_text_unless_the_data_say_so(answer, meta, gold):
  kind = 'box' if isinstance(answer, list) else 'text'
  record = types.Record('r', 'q', answer, kind, meta=meta)
  assert adapters._gold(record) == gold


def test_meta_comes_first(tmp_path):
  (tmp_path / 'f.py').write_text(
      'def compute_score(data_source, solution_str, ground_truth, extra_info):'
      '\n  return float(data_source == "a" and ground_truth == "g")\n')
  record = types.Record('r', 'q', 'x', 'text', source='b',
                        meta={'data_source': 'a', 'ground_truth': 'g'})
  assert adapters.verl(record, GROUP, {}, path=f'{tmp_path}/f.py:compute_score'
                       ).total == (1.0,) * 3


WRONG = '''
REWARD_TYPE = 'both'
def none(**kwargs): return None
def text(**kwargs): return 'good'
def nan(**kwargs): return float('nan')
def other(**kwargs): return {'reward': 1.0}
def fewer(inputs): return []
def raises(**kwargs): raise KeyError('patient 7')
constant = 3
'''


@pytest.mark.parametrize('adapter, name, options, error', [
    ('verl', 'none', {}, "finite number as 'score'"),
    ('verl', 'text', {}, "finite number as 'score'"),
    ('verl', 'nan', {}, "finite number as 'score'"),
    ('verl', 'other', {}, r"got the keys \['reward'\]"),
    ('verl', 'constant', {}, 'is a int, not a function'),
    ('verl', 'raise', {}, "did you mean 'raises'"),
    ('easyr1', 'fewer', {}, "is 'both'; give the option kind"),
    ('easyr1', 'fewer', {'kind': 'batch'}, '0 scores for 3 completions'),
])
def test_what_is_wrong_is_said(tmp_path, adapter, name, options, error):
  (tmp_path / 'wrong.py').write_text(WRONG)
  with pytest.raises(ValueError, match=error):
    getattr(adapters, adapter)(RECORD, GROUP, {}, **options,
                               path=f'{tmp_path}/wrong.py:{name}')


def test_a_missing_file_and_one_that_does_not_import(tmp_path):
  with pytest.raises(FileNotFoundError, match='dotted name'):
    adapters.load(f'{tmp_path}/no.py:f')
  (tmp_path / 'bad.py').write_text('1 / 0')
  before = set(sys.modules)
  for _ in range(2):   # a half-made module must not be found the second time
    with pytest.raises(ZeroDivisionError):
      adapters.load(f'{tmp_path}/bad.py:f')
  assert set(sys.modules) == before


def test_in_a_pool_a_hanging_verl_reward_costs_its_sample(tmp_path):
  (tmp_path / 'slow.py').write_text(
      'import time\n'
      'def compute_score(data_source, solution_str, ground_truth, extra_info):'
      '\n  time.sleep(60 * ("cannot" in solution_str))\n  return 1.0\n')
  make = functools.partial(functools.partial, adapters.verl,
                           path=f'{tmp_path}/slow.py:compute_score')
  with pool.open_pool(make, workers=1, limit_s=.5) as p:
    score, = p.score([(RECORD, GROUP, {})])
  assert score.total == (1.0, 1.0, 0.0)
  assert p.failed == {'errors': 0, 'timeouts': 1}
