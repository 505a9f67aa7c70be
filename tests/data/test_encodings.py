import json

import numpy as np
import pytest

from medrl.data import encodings
from tests import soon

AB = {'A': 'red', 'B': 'blue'}
DEEP = '[' * 300 + ']' * 300


@pytest.mark.parametrize('row', [
    {'A': 'red', 'B': 'blue', 'C': '', 'D': None, 'question': 'q'},
    {'Choice A': ' red ', 'Choice B': 'blue', 'Choice C': float('nan')},
    {'option_A': 'red', 'option_B': 'blue'},     # C and D are missing
    {'opa': 'red', 'opb': 'blue', 'ope': 'nan'},
    {'A': ' A:red ', 'B': ' B:blue '}])          # PMC-VQA's own letters
def test_four_families_of_columns(row):
  assert encodings.columns(row) == AB


@pytest.mark.parametrize('value, encoding', [
    ({'A': 'red', 'B': 'blue'}, 'mapping'),
    ({'b': 'blue', 'a': 'red'}, 'mapping'),               # sorted by letter
    ({'Ａ': 'red', '（Ｂ）': 'blue'}, 'mapping'),            # full width
    ({'A': 'red', 'B': 'blue', 'E': None}, 'mapping'),    # parquet's structs
    (['red', 'blue'], 'list'),
    (['A: red', 'B: blue'], 'list'),                      # GEMeX
    (['A、red', 'B、blue'], 'list'),
    ([{'letter': 'A', 'content': 'red'}, {'letter': 'B', 'content': 'blue'}],
     'pairs'),
    ([{'key': 'A', 'value': 'red'}, {'key': 'B', 'value': 'blue'}], 'pairs'),
    ("['red', 'blue']", 'literal'),                       # MMMU
    ("('red', \"blue\")", 'literal'),
    ('["red", "blue"]', 'json'),
    ('{"A": "red", "B": "blue"}', 'json'),                # MedVLThinker
    ('A. red | B. blue', 'joined'),                       # MedBookVQA
    ('red｜blue', 'joined'),
    ('(A) red (B) blue', 'inline'),
    ('A)red, B)blue', 'inline')])
def test_one_form_from_every_encoding(value, encoding):
  assert encodings.options(value, encoding) == AB
  if value != 'red｜blue':   # auto wants ' | ', as text may hold a bare one
    assert encodings.options(value) == AB


@pytest.mark.parametrize('text, stem, options', [
    ('Which?\nAnswer Choices: (A) red (B) blue', 'Which?', AB),
    ('Which? A)red, B)blue', 'Which?', AB),
    ('Which of A. or B. is it?\nOptions:\nA) red\nB) blue',
     'Which of A. or B. is it?', AB),
    ('哪个？选项：Ａ．红 Ｂ．蓝', '哪个？', {'A': '红', 'B': '蓝'}),
    ('哪个？A、红 B、蓝', '哪个？', {'A': '红', 'B': '蓝'}),
    ('Which? A: 25(OH)D, B: E. coli', 'Which?', {'A': '25(OH)D',
                                                'B': 'E. coli'}),
    # What cannot be told apart is text of the last option.
    ('Which? A) red B) blue\nAnswer.', 'Which?', {'A': 'red',
                                                 'B': 'blue\nAnswer.'})])
def test_options_inside_a_question(text, stem, options):
  assert encodings.inline(text) == (stem, options)


def test_inline_until():
  assert encodings.inline('Q? A) red B) blue\nAnswer with a letter.',
                          until='Answer with') == ('Q?', AB)


@pytest.mark.parametrize('text', [
    'Which is right?',                        # none
    'Only A) red',                            # one
    'Vitamin A) or: A) red B) blue',          # A twice in one style
    'Q? A) red C) blue',                      # out of order
    'Q? (A) red (B) blue: A. one B. two'])    # two styles
def test_no_guess_at_options_in_a_question(text):
  with pytest.raises(encodings.Unusable) as caught:
    encodings.inline(text)
  assert caught.value.reason == 'no options'


@pytest.mark.parametrize('value, reason', [
    (['red'], 'fewer than two options'),
    ({'A': 'red', 'B': ''}, 'fewer than two options'),
    ({'A': 'red', 'a': 'blue'}, 'options unreadable'),
    ({'1': 'red', '2': 'blue'}, 'options unreadable'),
    (['x'] * 27, 'options unreadable'),
    ([['red'], ['blue']], 'options unreadable'),
    ([{'letter': 'A', 'text': 'red'}], 'options unreadable'),
    (7, 'options unreadable'),
    (str(np.array(['red', 'blue'])), 'text unreadable'),   # no comma between
    ("['red'", 'text unreadable'),
    ("[open('x')]", 'text unreadable'),
    ("['red', 1-1]", 'text unreadable'),
    ("[b'red', 'blue']", 'text unreadable')])
def test_unusable_options(value, reason):
  with pytest.raises(encodings.Unusable) as caught:
    encodings.options(value)
  assert caught.value.reason == reason


@pytest.mark.parametrize('options', [
    ['A. fumigatus', 'C. albicans'],          # not their own letters
    ['A. fumigatus', 'Candida'],              # not all
    ['A', 'B']])                              # nothing behind
def test_a_letter_that_is_text_stays(options):
  assert list(encodings.options(options).values()) == options


def test_a_gap_keeps_letters():
  assert encodings.columns({'A': 'x', 'B': '-', 'C': 'z'}, '{}', ('-',)) == {
      'A': 'x', 'C': 'z'}


@pytest.mark.parametrize('row', [
    {'A': 'x', 'B': 'y', 'opa': 'x', 'opb': 'y'}, {'q': 'x'}])
def test_no_or_two_families(row):
  with pytest.raises(encodings.Unusable, match='Choice'):
    encodings.columns(row)


def test_named_columns_in_order():
  row = {'3': ' B', '2': 'A ', '1': 'q'}
  assert encodings.columns(row, ['2', '3', '4']) == {'A': 'A', 'B': 'B'}


def test_python_values_are_read_and_never_run():
  value = ['it\'s', "two", 3, None, True, -1.5e3, {'a': (1,)}]
  assert encodings.parsed(repr(value)) == value
  assert encodings.parsed(json.dumps({'a': [1, 'x']})) == {'a': [1, 'x']}


@pytest.mark.parametrize('text', [
    DEEP, '[' * 100_000, "['" + "\\'" * 90_000, '-' * 100_000 + '1',
    '[' + '1+' * 50_000 + '1]', '9' * 100_000, 'x' * 1_000_000,
    '{"a":' * 5_000 + '1' + '}' * 5_000, "['a' " * 30_000, '(' * 150_000,
    ' ' * 190_000 + '[', "['" + '(A) ' * 40_000])
def test_hostile_text_is_refused_at_once(text):
  with soon.soon(), pytest.raises(encodings.Unusable) as caught:
    encodings.options(text)
  assert len(str(caught.value)) < 1000


@pytest.mark.parametrize('call', [
    lambda: encodings.options([], 'jsn'), lambda: encodings.inline('x', 'A-'),
    lambda: encodings.columns({'A': 1}, 'Choice')])
def test_a_wrong_name_is_an_error_of_the_config(call):
  with pytest.raises(ValueError, match='expected|did you mean') as caught:
    call()
  assert not isinstance(caught.value, encodings.Unusable)


@pytest.mark.parametrize('text, inside', [
    ('<answer> C </answer>', 'C'), ('<|answer|>a; b<|/answer|>', 'a; b'),
    ('<|answer|>a<|\\answer|>', 'a'), ('<answer>a</answer><answer>', None),
    ('C', None), ('<answer>C', None)])
def test_tagged(text, inside):
  assert encodings.tagged(text, 'answer') == inside
