"""Tables for `parse.choice`, and real questions read back."""

import json
import pathlib

import pytest

from medrl.rewards.parse import choice
from medrl.rewards.parse import spans
from tests.rewards.parse import cases_choice as cases
from tests.rewards.parse import readings

SHARED = pathlib.Path(__file__).parents[4] / 'shared' / 'data'


@pytest.mark.parametrize('text, expected, why', cases.CHOICE)
def test_choice(text, expected, why):
  found = choice.choice(text, cases.OPTIONS)
  assert readings.value(found, text) == expected, why


@pytest.mark.parametrize('options, text, expected, why', [
    (options, *row) for options, rows in (
        (cases.CHINESE, cases.CHOICE_CHINESE),
        (cases.NUMBERED, cases.CHOICE_NUMBERED)) for row in rows])
def test_other_options(options, text, expected, why):
  assert readings.value(choice.choice(text, options), text) == expected, why


@pytest.mark.parametrize('text, first, last', cases.CHOICE_LAST)
def test_first_and_last(text, first, last):
  for which, expected in (('first', first), ('last', last)):
    found = choice.choice(text, cases.OPTIONS, which)
    assert readings.value(found, text) == expected


@pytest.mark.parametrize('text, expected, why', cases.CHOICES)
def test_choices(text, expected, why):
  found = choice.choices(text, cases.OPTIONS)
  keys = None if expected is None else frozenset(expected)
  assert readings.value(found, text) == keys, why


def test_twenty_six_options():
  for key in cases.ALPHABET:
    for text in (key, f'({key})', f'{key}. finding number', f'答案是{key}'):
      assert choice.choice(text, cases.ALPHABET).value == key, text
  # Options go up to N here: a refusal must not become {'A', 'N'}.
  assert choice.choices('N/A', cases.ALPHABET) is None
  assert choice.choice('N/A', cases.ALPHABET) is None
  assert choice.choice('I', cases.ALPHABET).value == 'I'
  assert choice.choice('I think so', cases.ALPHABET) is None


def test_a_letter_beats_the_text_of_another_option():
  options = {'A': 'B', 'B': 'A', 'C': 'same', 'D': 'Same.'}
  assert choice.choice('A', options).value == 'A'
  assert choice.choice('same', options) is None


def test_letters_in_a_row_may_be_a_blood_group():
  options = {'A': 'AB', 'B': 'A', 'C': '0'}
  assert choice.choices('AB', options) is None
  assert choice.choices('AC', options).value == {'A', 'C'}


def test_none_may_be_an_option():
  options = {'A': 'fever', 'B': 'None of the above'}
  assert choice.choices('none of the above', options).value == {'B'}
  assert choice.choice('None of the above.', options).value == 'B'


@pytest.mark.parametrize('text, expected', [
    ('A: -5', None), ('B: -5', 'B'), ('A - 5', 'A'), ('C: (1/2) / 3', 'C'),
    ('C (1/2)', None), ('-5', 'B')])
def test_signs_and_brackets_belong_to_the_option(text, expected):
  options = {'A': '5', 'B': '-5', 'C': '(1/2) / 3'}
  assert readings.value(choice.choice(text, options), text) == expected


def test_choice_says_where_and_how():
  assert choice.choice('x\nanswer: B.', cases.OPTIONS) == spans.Parsed(
      'B', (10, 11), 'cue')
  assert choice.choice(r'so \boxed{ C }', cases.OPTIONS) == spans.Parsed(
      'C', (11, 12), 'boxed')
  assert choice.choice(' malignant ', cases.OPTIONS).span == (1, 10)
  assert choice.choice('Smooth.\nB', cases.OPTIONS) == spans.Parsed(
      'B', (8, 9), 'last line')


def test_which_must_be_known():
  with pytest.raises(ValueError, match="which='any'"):
    choice.choice('answer: B', cases.OPTIONS, 'any')


@pytest.mark.parametrize('name', [
    'medqa_usmle_test', 'medmcqa_val', 'medxpertqa_text'])
def test_every_form_of_every_option_of_real_questions(name):
  path = SHARED / 'medical_mcq' / f'{name}.jsonl'
  if not path.exists():
    pytest.skip(f'{path.name} is not on this machine')
  for line in path.read_text().splitlines()[:400]:
    options = json.loads(line)['options']
    texts = [spans.normalise(t) for t in options.values()]
    for key, text in options.items():
      forms = [
          key, f'({key})', f'{key}.', f'{key}: {text}', f'**{key}**. {text}',
          f'The answer is {key}.', rf'\boxed{{{key}}}', f'答案：{key}',
          f'The correct answer is **{key}. {text}**', f'{key}\n\nIt is so.']
      if texts.count(spans.normalise(text)) == 1 and len(text) > 1:
        forms.append(text)
      for form in forms:
        found = choice.choice(form, options)
        assert readings.value(found, form) == key, (form, options)
