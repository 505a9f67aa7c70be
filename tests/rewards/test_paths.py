"""Path tables after Dr-LLaVA's, with the errors of its keyword parser."""

import random

import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import paths

TABLE = [('good', 'normal', 'healthy'), ('good', 'abnormal', 'AML'),
         ('good', 'abnormal', 'MM'), ('blood', 'inadequate', 'inadequate')]
WORDS = [{'good': ['good quality'], 'blood': ['blood']},
         {'normal': ['normal', 'no abnormality'],
          'abnormal': ['abnormal', 'abnormality'],
          'inadequate': ['inadequate']},
         {'healthy': ['healthy'], 'AML': ['AML'], 'MM': ['MM'],
          'inadequate': ['inadequate']}]


def steps(*texts):
  inside = '\n'.join(f'Step {i}: {t}' for i, t in enumerate(texts, 1))
  return f'<think>{inside}</think><answer>x</answer>'


def one(rule, text, meta=None, **options):
  given = types.Record(id='r', question='', answer='x', answer_type='text',
                       meta=meta or {})
  score = rule(given, [types.Completion(text)], {}, **options)
  for start, end, _ in score.spans[0]:
    assert 0 <= start <= end <= len(text)
  return score


@pytest.mark.parametrize('texts, expected, why', [
    (('good quality', 'abnormal', 'AML'), 1.0, 'a row'),
    (('good quality', 'normal', 'AML'), 0.5, 'normal never leads to AML'),
    (('blood', 'abnormal', 'AML'), 0.5, 'blood never leads to abnormal'),
    (('blood', 'normal', 'AML'), 0.0, 'neither'),
    (('good quality', 'no abnormality', 'healthy'), 1.0,
     'the longest keyword wins'),
    (('good quality', 'abnormal', 'I recommend rest'), 0.5,
     "'mm' is not in 'recommend'"),
    (('good quality', 'abnormal', 'AML or MM'), 0.5, 'two are none'),
    (('good quality', 'abnormal'), 0.5, 'the last step is missing'),
    (('good quality',), 0.0, 'nothing follows'),
])
def test_transitions(texts, expected, why):
  score = one(paths.transitions, steps(*texts), table=TABLE, keywords=WORDS)
  assert score.total[0] == expected and score.parsed == (True,), why


def test_transition_spans_are_the_steps_entered():
  text = steps('good quality', 'normal', 'AML')
  score = one(paths.transitions, text, table=TABLE, keywords=WORDS)
  assert [(text[a:b].strip(), v) for a, b, v in score.spans[0]] == [
      ('normal', 1.0), ('AML', -1.0)]


def test_transitions_need_no_label_and_steps():
  reward = compose.build({'p': {
      'fn': 'medrl.rewards.paths.transitions', 'weight': 1.0,
      'options': {'table': TABLE, 'keywords': WORDS}}})
  assert paths.transitions.label_free
  given = types.Record(id='r', question='', answer='x', answer_type='text')
  score = reward(given, [types.Completion(steps('blood', 'inadequate',
                                                'inadequate')),
                         types.Completion('blood')], {})
  assert score.total == (1.0, 0.0) and score.parsed == (True, False)


@pytest.mark.parametrize('texts, expected, why', [
    (('good quality', 'abnormal', 'AML'), 1.0, 'gold'),
    (('good quality', 'abnormal', 'MM'), 2 / 3, 'another category'),
    (('good quality', 'abnormal', 'cannot say'), 0.5, '(1 + 1 - 0.5) / 3'),
    (('?', '?', '?'), -0.5, 'none matched'),
])
def test_path_against_gold(texts, expected, why):
  score = one(paths.path, steps(*texts), {'path': TABLE[1]}, keywords=WORDS)
  assert score.total[0] == pytest.approx(expected), why


@pytest.mark.parametrize('options, expected, why', [
    ({}, -0.5, 'garbling earns what a walk with no category does'),
    ({'unmatched': -1.0}, -1.0, 'the low end of the range'),
    ({'unmatched': 0.25}, 0.0, 'which is another category here'),
    ({'unparsed': -2.0}, -2.0, 'as asked for'),
    ({'unparsed': 0.0}, 0.0, 'as asked for'),
])
def test_a_path_without_steps_is_the_worst(options, expected, why):
  score = one(paths.path, 'blood', {'path': TABLE[1]}, keywords=WORDS,
              **options)
  assert score.total == (expected,) and score.parsed == (False,), why
  assert score.parts == {'path': (expected,)}, why


@pytest.mark.parametrize('rule, meta, options, message', [
    (paths.transitions, {}, {}, 'needs a row'),
    (paths.transitions, {}, {'table': [('a', 'b')], 'keywords': WORDS}, 'fit'),
    (paths.path, {}, {'keywords': WORDS}, 'path'),
    (paths.path, {'path': ('a', 'b', 'c')}, {'keywords': WORDS}, 'fit'),
])
def test_what_does_not_fit_is_an_error(rule, meta, options, message):
  with pytest.raises(ValueError, match=message):
    one(rule, steps('blood'), meta, **options)


def test_total_on_any_text():
  rng = random.Random(3)
  pieces = ['<think>', '</think>', 'Step 1: blood\n', '\n2. abnormal', '\0',
            '\ud800', 'AML ']
  texts = [''.join(rng.choices(pieces, k=300)) for _ in range(30)]
  texts.append(steps(*['abnormal'] * 3000))
  for text in texts:
    for rule, meta, options in (
        (paths.transitions, {}, {'table': TABLE, 'keywords': WORDS}),
        (paths.path, {'path': TABLE[0]}, {'keywords': WORDS})):
      assert -0.5 <= one(rule, text, meta, **options).total[0] <= 1.0
