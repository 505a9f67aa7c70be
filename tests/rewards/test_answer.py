"""Each answer type from text to number, and any string at all."""

import dataclasses
import json
import pathlib
import random
import re

import pytest

from medrl import lookup
from medrl import types
from medrl.rewards import answer
from medrl.rewards import compose
from medrl.rewards import text as text_rules

SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
SAMPLES = {
    'choice': 'B', 'choices': ['A', 'C'], 'ordinal': 'B', 'yesno': 'no',
    'yesnomaybe': 'maybe', 'int': 3, 'float': 2.5, 'interval': 20,
    'quantity': 12, 'dimensions': [30, 20], 'date': '2014-09-03',
    'duration': (14, 1), 'labels': ['Edema', 'Effusion'],
    'states': {'Edema': 'positive', 'Effusion': 'negative'},
    'box': [0, 0, 10, 10], 'boxes': [[0, 0, 10, 10], [20, 20, 30, 30]],
    'text': 'left lung'}
OPTIONS = {'A': 'normal', 'B': 'benign', 'C': 'malignant'}
FIELDS = {'interval': {'meta': {'limits': (19, 21)}},
          'quantity': {'unit': 'mm'}, 'dimensions': {'unit': 'mm'}}


def record(kind, gold=None, **changes):
  fields = {'id': 'r', 'question': '', 'answer_type': kind,
            'answer': SAMPLES[kind] if gold is None else gold,
            'options': OPTIONS, **FIELDS.get(kind, {}), **changes}
  return types.Record(**fields)


def tagged(content):
  return f'<think>A, yes, 7, [1,2,3,4]</think>\n<answer>{content}</answer>'


def test_every_answer_type_has_a_sample():
  assert set(SAMPLES) == set(types.ANSWER_TYPES)


@pytest.mark.parametrize('kind, content, expected, predicted', [
    ('choice', '(B)', 1.0, 'B'), ('choice', 'A', 0.0, 'A'),
    ('choice', 'A or B', None, None),
    ('choices', 'A, C', 1.0, ('A', 'C')), ('choices', 'C and A', 1.0,
                                           ('A', 'C')),
    ('choices', 'A', 0.0, ('A',)), ('choices', 'A, B, C', 0.0,
                                    ('A', 'B', 'C')),
    ('choices', 'lesion', None, None),
    ('ordinal', 'B', 1.0, 'B'), ('ordinal', 'malignant', 0.0, 'C'),
    ('ordinal', '2', None, None),
    ('yesno', 'No.', 1.0, 'no'), ('yesno', 'yes', 0.0, 'yes'),
    ('yesno', 'normal', None, None),
    ('yesnomaybe', 'Maybe.', 1.0, 'maybe'), ('yesnomaybe', 'no', 0.0, 'no'),
    ('int', '3.0 lesions', 1.0, 3), ('int', '3.4', 0.0, 3.4),
    ('int', 'a few', None, None),
    ('float', '2.5 mm', 1.0, 2.5), ('float', '2.4', 0.0, 2.4),
    ('interval', '19', 1.0, 19), ('interval', '21.0', 1.0, 21),
    ('interval', '21.1', 0.0, 21.1), ('interval', '19-21', None, None),
    ('date', '09/03/2014', 1.0, '2014-09-03'),
    ('date', '03/09/2014', 0.0, '2014-03-09'), ('date', 'soon', None, None),
    ('duration', '14 weeks 1 day', 1.0, (14, 1)),
    ('duration', '14 weeks 2 days', 0.0, (14, 2)),
    ('duration', 'long', None, None),
    ('labels', 'effusion; edema', 1.0, ('edema', 'effusion')),
    ('labels', 'edema', .5, ('edema',)), ('labels', '', None, None),
    ('states', 'edema: 1; effusion: 0', 1.0,
     (('edema', 'positive'), ('effusion', 'negative'))),
    ('states', 'edema: 1', .5, (('edema', 'positive'),)),
    ('states', 'edema', None, None),
    ('box', '[0,0,10,5]', 0.5, (0, 0, 10, 5)),
    ('box', '[20,0,30,10]', 0.0, (20, 0, 30, 10)),
    ('boxes', '[[20,20,30,30],[0,0,10,5]]', 0.75,
     ((20, 20, 30, 30), (0, 0, 10, 5))),
    ('text', 'Left lung.', 1.0, 'left lung'), ('text', ' ', None, None),
])
def test_correct_and_prediction(kind, content, expected, predicted):
  text = tagged(content)
  assert answer.correct(record(kind), text) == expected
  assert answer.prediction(record(kind), text) == predicted
  score = answer.score(record(kind), [types.Completion(text)], {})
  assert score.total == (expected or 0.0,)
  assert score.parsed == (expected is not None,)


@pytest.mark.parametrize('kind, content, options, expected', [
    ('box', '[20,0,30,10]', {'box_metric': 'giou'}, (1 - 1 / 3) / 2),
    ('box', 'none', {'box_metric': 'giou'}, 0.0),
    ('boxes', '[[0,0,10,10]]', {'box_metric': 'giou'}, 0.5),
    ('text', 'lung', {'text_metric': 'f1'}, 2 / 3),
    ('text', 'the left lung', {'text_metric': 'normalised'}, 1.0),
    ('choices', 'A', {'choices_metric': 'jaccard'}, .5),
    ('choices', 'A', {'choices_metric': 'f1'}, 2 / 3),
    ('labels', 'edema', {'labels_metric': 'exact'}, 0.0),
    ('states', 'edema: 1', {'labels_metric': 'f1'}, 2 / 3),
    ('ordinal', 'C', {'ordinal_metric': 'quadratic'}, .75),
    ('ordinal', 'C', {'ordinal_metric': 'distance'}, .5),
    ('float', 'N/A', {'abstained': .25}, .25),
    ('float', 'few', {'abstained': .25}, 0.0),
])
def test_options(kind, content, options, expected):
  score = answer.score(
      record(kind), [types.Completion(tagged(content))], {}, **options)
  assert score.total[0] == pytest.approx(expected)


def test_tolerance_of_the_record():
  assert answer.correct(
      record('float', tolerance={'abs': 0.1}), tagged('2.4')) == 1.0


def test_units_are_converted():
  pytest.importorskip('pint', reason='rewards packages are not installed')
  for kind, content, expected in (
      ('quantity', '1.2 cm', 1.0), ('quantity', '12 mm', 1.0),
      ('quantity', '12 cm', 0.0), ('quantity', '12 s', None),
      ('dimensions', '2 x 3 cm', 1.0), ('dimensions', '30 x 20 mm', 1.0),
      ('dimensions', '30 x 21 mm', 0.0)):
    assert answer.correct(record(kind), tagged(content)) == expected, content


def test_limits_surround_the_answer_of_the_record_and_no_other():
  given = record('interval')
  assert answer.agreement(given, 19, 20) == 1.0
  assert answer.agreement(given, 19, 19.5) == 0.0   # two votes that differ
  hidden = types.Record(id='r', question='', answer=None,
                        answer_type='interval', tolerance={'rel': .1})
  assert answer.agreement(hidden, 19, 20) == 1.0


@pytest.mark.parametrize('kind, gold, content, correct, predicted, why', [
    ('float', 2.5, "I don't know", 0.0, None, 'abstained where it is known'),
    ('float', 'N/A', 'cannot be determined', 1.0, None, 'and where it is not'),
    ('float', 'N/A', '2.5', 0.0, 2.5, 'an answer to what has none'),
    ('float', 'N/A', 'few', None, None, 'neither'),
    ('float', 2.5, 'cannot be calculated without 2.5 mg', 0.0, None,
     'a number in an abstention is none'),
    ('date', 'N/A', 'N/A', 1.0, None, 'of another type'),
    ('labels', ['Edema'], "I don't know", 0.0, None, 'not a label'),
    ('text', 'left lung', 'unknown', 0.0, None, 'free text'),
    ('text', 'Unknown', 'unknown.', 1.0, None, 'where it is the answer'),
    ('text', 'Unknown', 'N/A', 0.0, None, 'texts are compared'),
    ('choice', 'B', "I don't know", 0.0, None, 'no option'),
])
def test_abstention(kind, gold, content, correct, predicted, why):
  given = record(kind, gold)
  assert answer.correct(given, tagged(content)) == correct, why
  assert answer.prediction(given, tagged(content)) == predicted, why


def test_an_option_may_read_like_an_abstention():
  given = record('choice', 'B', options={'A': 'benign',
                                         'B': 'Cannot be determined'})
  assert answer.prediction(given, tagged('cannot be determined')) == 'B'
  assert answer.correct(given, tagged('cannot be determined')) == 1.0


def test_ternary():
  given = record('boxes')
  texts = ['[[0,0,10,10],[20,20,30,30]]', '[[0,0,10,10]]', '[]',
           "I don't know", 'garbled']
  group = [types.Completion(tagged(t)) for t in texts]
  score = answer.ternary(given, group, {})
  assert score.total == (1.0, 0.0, -1.0, 0.0, -1.0)
  assert score.parsed == (True, True, True, True, False)
  assert score.parts['abstained'] == (0.0, 0.0, 0.0, 1.0, 0.0)
  score = answer.ternary(given, group, {}, right=2.0, abstained=.5, wrong=0.0)
  assert score.total == (2.0, 1.0, 0.0, .5, 0.0)
  score = answer.ternary(record('int', 'N/A'), group[3:] + [
      types.Completion(tagged('3'))], {})
  assert score.total == (1.0, -1.0, -1.0)


@pytest.mark.parametrize('count', [2, 5, 10, 25, 26])
def test_choices_of_any_number_of_options(count):
  options = {chr(65 + i): f'finding number {i}' for i in range(count)}
  for key, text in options.items():
    given = record('choice', key, options=options)
    for form in (key, f'({key})', f'{key}.', f'{key}: {text}', text):
      assert answer.correct(given, tagged(form)) == 1.0, form
  assert answer.prediction(given, tagged(chr(65 + count))) is None


def test_text_outside_the_block_is_never_the_answer():
  text = 'The answer is B. \\boxed{B} <answer> (A) </answer> B'
  assert answer.prediction(record('choice'), text) == 'A'
  found = answer.read(record('choice'), text)
  assert text[slice(*found.span)] == 'A'
  assert answer.prediction(record('choice'), 'B') is None


@pytest.mark.parametrize('kind, fields, message', [
    ('choice', {'answer': 'D'}, "'D' is not among the options"),
    ('choices', {'answer': ['A', 'D']}, 'is not among the options'),
    ('choices', {'answer': 'AC'}, 'is a string; expected a list of keys'),
    ('ordinal', {'answer': 1}, '1 is not among the options'),
    ('quantity', {'unit': ''}, "'quantity' has no unit"),
    ('dimensions', {'unit': ''}, "'dimensions' has no unit"),
    ('interval', {'meta': {}}, "needs meta['limits']"),
    ('interval', {'meta': {'limits': (3, 2)}}, 'low <= high'),
    ('letter', {}, "answer_type 'letter' is unknown; expected one of choice,"),
])
def test_records_that_are_refused(kind, fields, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    record(kind, **{'gold': 'x', **fields} if kind == 'letter' else fields)


def test_records_keep_choices_in_the_order_of_the_options():
  for keys in ({'C', 'A'}, frozenset('CA'), ['C', 'A', 'A'], ('A', 'C')):
    assert record('choices', keys).answer == ('A', 'C')
  assert record('choices', ()).answer == ()


def test_wrong_calls_say_why():
  hidden = types.Record(id='r', question='', answer=None, answer_type='yesno')
  with pytest.raises(ValueError, match="'r' has no answer"):
    answer.correct(hidden, tagged('yes'))
  with pytest.raises(ValueError, match="box_metric 'diou'"):
    answer.agreement(record('box'), (0, 0, 1, 1), (0, 0, 1, 1),
                     box_metric='diou')


def junk(rng):
  """Yields strings of bytes, of code points, and of pieces that parse."""
  pieces = ['<answer>', '</answer>', '<think>', '</think>', 'A', ' B. ', 'yes',
            'no', '\\boxed{', '}', '[', ']', '1', '9' * 400, ',', 'e', '-', '.',
            '1e308', 'nan', '[0,0,1,1]', 'answer is ', '\n', '\ud800', '\0',
            '１', '²', '%', 'x10^']
  for _ in range(150):
    yield bytes(rng.choices(range(256), k=60)).decode('latin-1')
    yield ''.join(chr(rng.randrange(0x110000)) for _ in range(40))
    yield ''.join(rng.choices(pieces, k=rng.randrange(1, 40)))
  for piece in pieces:
    yield (piece * 2000)[:65536]


ANSWERS = 'medrl.rewards.answer.score'
# Reward, options, types of answer it is for, lowest and highest value.
REWARDS = [
    (ANSWERS, {}, types.ANSWER_TYPES, 0, 1),
    (ANSWERS, {'box_metric': 'giou', 'text_metric': 'f1', 'abstained': .5,
               'choices_metric': 'jaccard', 'labels_metric': 'f1',
               'ordinal_metric': 'distance'}, types.ANSWER_TYPES, 0, 1),
    ('medrl.rewards.answer.ternary', {}, types.ANSWER_TYPES, -1, 1),
    ('medrl.rewards.abstain.score', {}, types.ANSWER_TYPES, -1, 1),
    ('medrl.rewards.number.score', {'rel': .1, 'whole': True},
     ('int', 'float', 'interval'), 0, 1),
    ('medrl.rewards.dates.score', {'order': 'dmy'}, ('date', 'duration'), 0, 1),
    ('medrl.rewards.labels.score', {}, ('labels', 'states'), 0, 1),
    ('medrl.rewards.ordinal.score', {}, ('ordinal', 'choice'), 0, 1),
    ('medrl.rewards.taxonomy.score', {'parents': {'left lung': 'lung'}},
     ('text',), 0, 1),
    *(('medrl.rewards.text.score', {'metric': m}, ('text', 'choice'), 0, 1)
      for m in text_rules.METRICS)]


@pytest.mark.parametrize('name, options, kinds, low, high', REWARDS)
def test_any_string_gives_a_number_within_the_range(
    name, options, kinds, low, high):
  reward = compose.build(
      {'x': {'fn': name, 'weight': 1.0, 'options': options}})
  texts = list(junk(random.Random(0)))[::2 if len(kinds) > 2 else 1]
  group = [types.Completion(t) for text in texts
           for t in (text, f'<answer>{text}</answer>')]
  for kind in kinds:
    for gold in {str(SAMPLES[kind]): SAMPLES[kind], 'N/A': 'N/A'}.values():
      if gold == 'N/A' and (kind in ('choice', 'choices', 'ordinal', 'text')
                            or kind == 'boxes'):
        continue
      score = reward(record(kind, gold), group, {})
      assert score.errors == 0 and all(score.valid), (kind, gold)
      assert all(low <= v <= high for v in score.total), (kind, gold)
      assert score == reward(record(kind, gold), group, {}), (kind, gold)


@pytest.mark.parametrize('name, options, kinds', [
    ('medrl.rewards.symbolic.score', {'seconds': .2}, ('text',)),
    *(('medrl.rewards.lexical.score', {'metric': m}, ('text',))
      for m in ('bleu', 'chrf++', 'rougeL', 'meteor', 'merge'))])
def test_so_do_the_rewards_by_other_packages(name, options, kinds):
  pytest.importorskip('sacrebleu', reason='rewards packages are not installed')
  texts = list(junk(random.Random(0)))[::3]
  group = [types.Completion(f'<answer>{text}</answer>') for text in texts]
  for kind in kinds:
    score = lookup.resolve(name)(record(kind), group, {}, **options)
    assert all(0 <= v <= 1 for v in score.total)


def test_labels_are_hidden_from_predictions_and_votes_can_be_counted():
  for kind in types.ANSWER_TYPES:
    given = record(kind)
    hidden = dataclasses.replace(given, answer=None, meta={})
    for text in list(junk(random.Random(1)))[::3]:
      value = answer.prediction(given, tagged(text))
      assert value == answer.prediction(hidden, tagged(text)), kind
      if value is not None:
        hash(value)
        json.dumps(value)
        # Boxes are matched in time that grows with the cube of their number.
        if kind != 'boxes' or len(value) < 100:
          assert answer.agreement(hidden, value, value) == 1.0, (kind, value)


def test_the_labels_of_the_derived_questions_are_right_answers():
  path = SHARED / 'derived_vqa' / 'vqa.jsonl'
  if not path.exists():
    pytest.skip(f'{path.name} is not on this machine')
  seen = set()
  for row in map(json.loads, path.read_text().splitlines()):
    label = row['answer']
    given = types.Record(
        id=row['id'], question='', answer=label, answer_type=row['answer_type'],
        options=row.get('options', {}), tolerance=row.get('tolerance', {}))
    text = label if isinstance(label, str) else json.dumps(label)
    assert answer.correct(given, tagged(text)) == 1.0, row['id']
    seen.add(row['answer_type'])
  assert seen == {'choice', 'yesno', 'int', 'float', 'box', 'boxes'}
