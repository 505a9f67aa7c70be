"""Saved groups scored again: the same numbers, and what a file must hold."""

import json

import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import rescore

TERMS = {'answer': {'fn': 'medrl.rewards.answer.score', 'weight': 1.0},
         'format': {'fn': 'medrl.rewards.format.tags', 'weight': 0.5,
                    'options': {'think': False}}}
RECORDS = [
    types.Record('a', 'q', 'yes', 'yesno', task='present'),
    types.Record('b', 'q', 'B', 'choice', options={'A': 'x', 'B': 'y'},
                 task='side'),
    types.Record('c', 'q', 3.0, 'float', tolerance={'rel': .1}, task='size'),
    types.Record('d', 'q', [1, 2, 30, 40], 'box', task='box'),
    types.Record('e', 'q', None, 'text'),
]
TEXTS = ['<answer>yes</answer>', '<answer>B</answer>', '<answer>3.2</answer>',
         '<answer>[1, 2, 30, 40]</answer>', 'none of it', '\ud800\u80ba']


def row(record, score, texts=TEXTS, step=3):
  """The line that a trainer writes."""
  return {
      'step': step, 'record': record.id, 'task': record.task, 'prompt': 'p',
      'answer': record.answer, 'answer_type': record.answer_type,
      'options': dict(record.options), 'tolerance': dict(record.tolerance),
      'completions': [
          {'text': t, 'finish': 'stop', 'reward': score.total[i],
           'parts': {n: v[i] for n, v in score.parts.items()}}
          for i, t in enumerate(texts)]}


@pytest.fixture
def scores():
  reward = compose.build(TERMS)
  group = [types.Completion(t) for t in TEXTS]
  return [reward(r, group, {}) for r in RECORDS]


@pytest.fixture
def rollouts(tmp_path, scores):
  path = tmp_path / 'rollouts.jsonl'
  path.write_text(''.join(json.dumps(row(r, s)) + '\n'
                          for r, s in zip(RECORDS, scores)))
  return path


def test_the_same_reward_gives_the_same_numbers(rollouts, scores):
  reward = compose.build(TERMS)
  pairs = list(rescore.rescore(
      rescore.read(rollouts), lambda part: [reward(*s) for s in part], {}))
  assert [score for _, score in pairs] == scores
  table = list(rescore.summary(pairs))
  assert [line.split()[0] for line in table[:7]] == [
      'task', '-', 'box', 'present', 'side', 'size', 'all']
  _, groups, texts, before, after, changed, order, *_ = table[6].split()
  assert (groups, texts, changed, order) == ('5', '30', '0', '0')
  assert before == after


def run(capsys, *arguments):
  code = 0
  try:
    rescore.main([str(a) for a in arguments])
  except SystemExit as stop:
    code = stop.code
  return code, *capsys.readouterr()


def test_another_reward_in_workers(rollouts, scores, tmp_path, capsys):
  out = tmp_path / 'again.jsonl'
  code, table, _ = run(
      capsys, rollouts, '--reward', 'medrl.rewards.format.tags', '--options',
      '{"think": false}', '--workers', 2, '--out', out)
  assert code == 0 and 'part tags: mean 0.6667' in table
  written = [json.loads(line) for line in out.read_text().splitlines()]
  for new, old in zip(written, map(json.loads, rollouts.open())):
    assert [c['reward'] for c in new['completions']] == [1, 1, 1, 1, 0, 0]
    assert [c['text'] for c in new['completions']] == TEXTS
    assert new['completions'][0]['parts'] == {'tags': 1.0}
    assert {k: v for k, v in new.items() if k != 'completions'} == {
        k: v for k, v in old.items() if k != 'completions'}
  assert oct(out.stat().st_mode & 0o777) == '0o600'
  # What was written can be scored again in its turn.
  code, table, _ = run(capsys, out, '--reward', 'medrl.rewards.format.tags',
                       '--options', '{"think": false}')
  assert code == 0
  assert table.splitlines()[6].split()[3:7] == ['0.6667', '0.6667', '0', '0']


def test_what_moved_is_counted():
  saved = rescore.Saved(row(RECORDS[0], types.Score((1., 0., 0.)), 'abc'),
                        RECORDS[0], [])
  for total, expected in [
      ((1., 0., 0.), ['0', '0']), ((2., 0., 0.), ['1', '0']),
      ((0., 1., 0.), ['2', '1']), ((1., 0., .5), ['1', '1'])]:
    score = types.Score(total, {}, (True,) * 3, (True,) * 3)
    line = list(rescore.summary([(saved, score)]))[-1]
    assert line.split()[5:7] == expected, total


def test_a_hanging_sample_costs_itself(tmp_path, capsys):
  saved = [row(RECORDS[0], types.Score((0.,) * len(texts)), texts)
           for texts in (['abc', 'hang'], ['exit', 'a'], ['abc', 'ab'])]
  path = tmp_path / 'rollouts.jsonl'
  path.write_text(''.join(json.dumps(r) + '\n' for r in saved))
  code, table, _ = run(
      capsys, path, '--reward', 'tests.rewards.misbehaving.act',
      '--workers', 1, '--limit_s', '.5', '--out', tmp_path / 'out')
  assert code == 0
  rows = list(map(json.loads, (tmp_path / 'out').open()))
  good = rows[2]['completions']
  assert [c['reward'] for c in good] == [3.0, 2.0] and good[0]['valid']
  bad = rows[0]['completions'][1]
  assert bad['reward'] == 0.0 and not bad['valid']
  errors = int(table.splitlines()[-2].split()[-1])
  assert 2 <= errors <= 4


def test_a_saved_question_ids_step_and_meta_are_given_back(tmp_path):
  saved = row(RECORDS[0], types.Score((0.,)), ['x'], step=7)
  saved |= {'question': 'what?', 'source': 's', 'meta': {'k': 1},
            'unit': 'mm'}
  saved['completions'][0] |= {'ids': [1, 2], 'finish': 'length'}
  path = tmp_path / 'rollouts.jsonl'
  path.write_text(json.dumps(saved) + '\n' + '{"torn')
  seen = []

  def scorer(samples):
    seen.extend(samples)
    return [types.Score((0.,), {}, (True,), (True,)) for _ in samples]
  list(rescore.rescore(rescore.read(path), scorer, {'judges': {}}))
  (record, completions, context), = seen
  assert (record.question, record.source, record.meta, record.unit) == (
      'what?', 's', {'k': 1}, 'mm')
  assert completions == [types.Completion('x', (1, 2), finish='length')]
  assert context == {'judges': {}, 'step': 7}


def test_many_lines_go_in_parts(tmp_path):
  path = tmp_path / 'rollouts.jsonl'
  saved = row(RECORDS[0], types.Score((0.,)), ['x'])
  path.write_text((json.dumps(saved) + '\n') * 130)
  sizes = []

  def scorer(samples):
    sizes.append(len(samples))
    return [types.Score((1.,), {}, (True,), (True,))] * len(samples)
  assert len(list(rescore.rescore(rescore.read(path), scorer, {}))) == 130
  assert sizes == [64, 64, 2]


TODAY = {'step': 1, 'record': 'a', 'task': '', 'prompt': 'p', 'completion': 'x',
         'finish': 'stop', 'reward': 1.0, 'parts': {}}


@pytest.mark.parametrize('content, error', [
    (json.dumps(TODAY) + '\n', 'rollouts.jsonl:1: has no answer, answer_type'),
    ('{"a": \n', 'rollouts.jsonl:1: no JSON'),
    ('', 'no rollout in'),
])
def test_files_that_cannot_be_scored(tmp_path, capsys, content, error):
  path = tmp_path / 'rollouts.jsonl'
  path.write_text(content)
  code, out, err = run(capsys, path, '--reward', 'medrl.rewards.format.tags')
  assert code == 2 and out == '' and error in err
  assert len(err.splitlines()) == 1


def test_judges_do_not_go_to_workers(tmp_path, capsys, rollouts):
  config = tmp_path / 'study.py'
  config.write_text(
      'import ml_collections\n'
      'def get_config():\n'
      '  return ml_collections.ConfigDict(dict(rewards=dict(j=dict(\n'
      '      fn="medrl.rewards.judge.score", weight=1.)), judges=dict(\n'
      '      default=dict(fn="medrl.rewards.judge.local", options=dict(\n'
      '          path="tests.rewards.test_judge.always")))))\n')
  code, _, err = run(capsys, rollouts, '--config', config, '--workers', 1)
  assert code == 2 and 'the judges of' in err and '--workers 0' in err
  code, table, _ = run(capsys, rollouts, '--config', config)
  assert code == 0
  # The record without an answer cannot be judged: one error, and no more.
  assert table.splitlines()[6].split()[-1] == '1'
