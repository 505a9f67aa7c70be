"""Each answer type from text to number, and any string at all."""

import json
import math
import pathlib
import random

import pytest

from medrl import types
from medrl.rewards import answer
from medrl.rewards import compose

SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
SAMPLES = {
    'choice': 'B', 'yesno': 'no', 'int': 3, 'float': 2.5,
    'box': [0, 0, 10, 10], 'boxes': [[0, 0, 10, 10], [20, 20, 30, 30]],
    'text': 'left lung'}


def record(kind, gold=None, **changes):
  return types.Record(
      id='r', question='', answer_type=kind, options={'A': 'yes', 'B': 'no'},
      answer=SAMPLES[kind] if gold is None else gold, **changes)


def tagged(content):
  return f'<think>A, yes, 7, [1,2,3,4]</think>\n<answer>{content}</answer>'


def test_every_answer_type_has_a_sample():
  assert set(SAMPLES) == set(types.ANSWER_TYPES)


@pytest.mark.parametrize('kind, content, expected, predicted', [
    ('choice', '(B)', 1.0, 'B'), ('choice', 'A', 0.0, 'A'),
    ('choice', 'A or B', None, None),
    ('yesno', 'No.', 1.0, 'no'), ('yesno', 'yes', 0.0, 'yes'),
    ('int', '3.0 lesions', 1.0, 3), ('int', '3.4', 0.0, 3.4),
    ('int', 'few', None, None),
    ('float', '2.5 mm', 1.0, 2.5), ('float', '2.4', 0.0, 2.4),
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
])
def test_options(kind, content, options, expected):
  score = answer.score(
      record(kind), [types.Completion(tagged(content))], {}, **options)
  assert score.total[0] == pytest.approx(expected)


def test_tolerance_of_the_record():
  assert answer.correct(
      record('float', tolerance={'abs': 0.1}), tagged('2.4')) == 1.0


def test_text_outside_the_block_is_never_the_answer():
  text = 'The answer is B. \\boxed{B} <answer>A</answer> B'
  assert answer.prediction(record('choice'), text) == 'A'
  found = answer.read(record('choice'), text)
  assert text[slice(*found.span)] == 'A'
  assert answer.prediction(record('choice'), 'B') is None


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
    yield piece * 2000


def test_any_string_gives_finite_numbers():
  options = [{}, {'box_metric': 'giou', 'text_metric': 'f1'}]
  reward = compose.build({
      **{f'answer{i}': {'fn': 'medrl.rewards.answer.score', 'weight': 1.0,
                        'options': o} for i, o in enumerate(options)},
      'tags': {'fn': 'medrl.rewards.format.tags', 'weight': 0.5},
      'vote': {'fn': 'medrl.rewards.vote.majority', 'weight': 0.5}})
  texts = list(junk(random.Random(0)))
  for kind in types.ANSWER_TYPES:
    for i in range(0, len(texts), 8):
      group = [types.Completion(t) for text in texts[i:i + 8]
               for t in (text, f'<answer>{text}</answer>')]
      score = reward(record(kind), group, {})
      assert score.errors == 0 and all(score.valid)
      assert all(math.isfinite(v) for v in score.total)
      assert all(0 <= v <= 1 for p in score.parts.values() for v in p)


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
  assert seen == set(types.ANSWER_TYPES) - {'text'}
