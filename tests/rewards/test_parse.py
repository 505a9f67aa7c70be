"""Adversarial strings for every parser, and real questions read back."""

import json
import pathlib

import pytest

from medrl.rewards import parse

SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
OPTIONS = {'A': 'normal', 'B': 'benign lesion', 'C': 'malignant',
           'D': 'E. coli', 'E': 'hepatitis C'}


def value(parsed):
  return None if parsed is None else parsed.value


@pytest.mark.parametrize('text, expected', [
    ('<answer>A</answer>', 'A'),
    ('<answer>\nA\n</answer>', '\nA\n'),  # peers' pattern without DOTALL fails
    ('<answer>A</answer> <answer>B</answer>', 'B'),
    ('<answer>A <answer>B</answer>', 'B'),
    ('<answer></answer>', ''),
    ('<answer>A', None),
    ('<answer>A</answer> <answer>B', None),
    ('A</answer>', None),
    ('</answer>A<answer>', None),
    ('', None),
])
def test_answer_block(text, expected):
  parsed = parse.answer_block(text)
  assert value(parsed) == expected
  if parsed:
    assert text[slice(*parsed.span)] == expected


@pytest.mark.parametrize('text, expected', [
    ('A', 'A'), ('(A)', 'A'), ('A.', 'A'), ('A)', 'A'), ('b', 'B'),
    ('**B**', 'B'), ('（B）', 'B'), ('option B', 'B'), ('\n B \n', 'B'),
    ('B: benign lesion', 'B'), ('B benign lesion', 'B'), ('(C) other', 'C'),
    ('answer is B', 'B'), ('Answer:\n(C) malignant', 'C'),
    ('The answer is C (malignant).', 'C'), ('the answer is a', 'A'),
    (r'\boxed{B}', 'B'), (r'so \boxed{\text{B. benign lesion}}', 'B'),
    ('Benign  LESION.', 'B'), ('the answer is malignant. It is dark.', 'C'),
    ('B because the margin is smooth', 'B'), ('B. The margin is smooth', 'B'),
    ('A or B? The answer is B', 'B'),
    ('E. coli', 'D'), ('hepatitis C', 'E'),  # a text with a letter in it
    # Articles, pronouns, genera and diseases are not letters.
    ('a benign lesion', None), ('A benign lesion', None),
    ('A patient with pain', None), ('I think so', None),
    ('the answer is a benign mass', None), ('C. difficile', None),
    ('answer: E. faecalis', None), ('chronic hepatitis C', None),
    # Two letters, a contradiction, a negation, a copy of the list.
    ('A or B', None), ('A, B', None), ('A) B)', None), ('AB', None),
    ('B: malignant', None), ('A) wrong, B) right', None),
    ('(A) is wrong', None), ('not A', None), ('the answer is not A', None),
    ('A: normal\nB: benign lesion\nC: malignant', None),
    ('The answer is A. No, the answer is B', None),
    (r'\boxed{A} \boxed{B}', None),
    ('F', None), ('', None), (' \n', None), ('lesion', None),
])
def test_choice(text, expected):
  assert value(parse.choice(text, OPTIONS)) == expected


def test_a_letter_beats_the_text_of_another_option():
  options = {'A': 'B', 'B': 'A', 'C': 'same', 'D': 'Same.'}
  assert parse.choice('A', options).value == 'A'
  assert parse.choice('same', options) is None


@pytest.mark.parametrize('text, expected', [
    ('A: -5', None), ('B: -5', 'B'), ('A - 5', 'A'), ('C: (1/2) / 3', 'C'),
    ('C (1/2)', None), ('-5', 'B')])
def test_signs_and_brackets_belong_to_the_option(text, expected):
  options = {'A': '5', 'B': '-5', 'C': '(1/2) / 3'}
  assert value(parse.choice(text, options)) == expected


def test_choice_says_where_and_how():
  assert parse.choice('x\nanswer: B.', OPTIONS) == parse.Parsed(
      'B', (10, 11), 'cue')
  assert parse.choice(r'so \boxed{ C }', OPTIONS) == parse.Parsed(
      'C', (11, 12), 'boxed')
  assert parse.choice(' malignant ', OPTIONS).span == (1, 10)


@pytest.mark.parametrize('name', [
    'medqa_usmle_test', 'medmcqa_val', 'medxpertqa_text'])
def test_every_form_of_every_option_of_real_questions(name):
  path = SHARED / 'medical_mcq' / f'{name}.jsonl'
  if not path.exists():
    pytest.skip(f'{path.name} is not on this machine')
  for line in path.read_text().splitlines()[:400]:
    options = json.loads(line)['options']
    texts = [parse.normalise(t) for t in options.values()]
    for key, text in options.items():
      forms = [key, f'({key})', f'{key}.', f'{key}: {text}', f'**{key}**. '
               f'{text}', f'The answer is {key}.', rf'\boxed{{{key}}}']
      if texts.count(parse.normalise(text)) == 1 and len(text) > 1:
        forms.append(text)
      assert {value(parse.choice(f, options)) for f in forms} == {key}, options


@pytest.mark.parametrize('text, expected', [
    ('yes', 'yes'), ('No', 'no'), ('**No**.', 'no'), ('YES!', 'yes'),
    ('No, there is no effusion', 'no'), ('Yes, there is no effusion', 'yes'),
    ('no\nbecause it is clear', 'no'), ('The answer is yes', 'yes'),
    (r'\boxed{no}', 'no'), ('no (normal)', 'no'), ('"No"', 'no'),
    # Peers search substrings, so these count as no.
    ('normal', None), ('I know', None), ('nodule', None), ('diagnosis', None),
    ('No effusion', None), ('no-contrast CT', None), ('yesterday', None),
    ('no evidence of effusion, so yes', None), ('yes and no', None),
    ('yes/no', None), ('Yes. No.', None), ('The answer is not yes', None),
    ('I don’t think yes', None), ('There is no effusion', None),
    ('yeſ', None), ('', None),
])
def test_yesno(text, expected):
  assert value(parse.yesno(text)) == expected


@pytest.mark.parametrize('text, expected', [
    ('5', 5), ('-5', -5), ('−5', -5), ('+5.', 5), ('.5', 0.5),
    ('1,234', 1234), ('1,234,567.8', 1234567.8), ('1.234,5', 1234.5),
    ('1.234.567', 1234567), ('12,5', 12.5), ('0,125', 0.125),
    ('1\u202f234 mL', 1234), ('1e5', 1e5), ('1E-3 g', 1e-3), ('5mm', 5),
    ('4.5 x 10^9/L', 4.5e9), ('50%', 50), ('5 (that is 5.0)', 5),
    ('90 mL/min/1.73 m2', 90), ('about 3 lesions', 3), ('x = -2.5', -2.5),
    ('9' * 40, int('9' * 40)),
    ('9' * 5000, None), ('1e999', None), ('1e' + '9' * 5000, None),
    ('nan', None), ('inf', None), ('-Infinity', None), ('five', None),
    ('3 or 4', None), ('3-5', None), ('3–5', None), ('120/80', None),
    ('5 ± 1', None), ('<5', None), ('≥ 5', None), ('3 (50%)', None),
    ('1,2,3', None), ('1,23,456', None), ('12.03.2020', None),
    ('10^9', None), ('1_000', None), ('0x10', None), ('5x10 mm', None),
    ('39w2d', None), ('COVID-19', None), ('CO2', None), ('٣', None),
    ('', None),
])
def test_number(text, expected):
  assert value(parse.number(text)) == expected


def test_number_keeps_integers_and_says_percent():
  assert isinstance(parse.number('3').value, int)
  assert isinstance(parse.number('3.0').value, float)
  assert parse.number('50 %') == parse.Parsed(50, (0, 4), 'percent')


@pytest.mark.parametrize('text, expected', [
    ('[1, 2, 3, 4]', ((1, 2, 3, 4),)),
    ('[[1,2,3,4],\n[5,6,7.5,8e1]]', ((1, 2, 3, 4), (5, 6, 7.5, 80))),
    ('[{"bbox_2d": [1,2,3,4], "label": "x"}]', ((1, 2, 3, 4),)),
    ('The box is [-1,2,3,4].', ((-1, 2, 3, 4),)),
    ('[]', ()),
    ('[[1,2,3,4],[5,6', None),       # cut off
    ('[1,2,3,4] [4,3,2,1]', None),   # a bad box is not dropped
    ('[3,2,1,4]', None), ('[1,2,1,4]', None), ('[1,2,3]', None),
    ('[1,2,3,4,5]', None), ('[nan,1,2,3]', None), ('[0,0,inf,1]', None),
    ('[0,0,1e999,1]', None), ('[0,0,1e9,1]', None), ('[a,b,c,d]', None),
    (f'[0,0,{"9" * 5000},1]', None), ('[' * 3000 + ']' * 3000, None),
    ('none', None), ('', None),
])
def test_boxes(text, expected):
  assert value(parse.boxes(text)) == expected


@pytest.mark.parametrize('text, expected', [
    ('[[1,2,3,4]]', (1, 2, 3, 4)), ('[1,2,3,4] [1,2,3,4]', (1, 2, 3, 4)),
    ('[1,2,3,4] [1,2,3,5]', None), ('[]', None)])
def test_box_is_the_only_one(text, expected):
  assert value(parse.box(text)) == expected


@pytest.mark.parametrize('text, expected', [
    (' Left  Lung. ', 'left lung'), ('ER+', 'er+'), (' . ', None), ('', None)])
def test_text(text, expected):
  assert value(parse.text(text)) == expected
