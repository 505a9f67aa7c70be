import pytest

from medrl.data import encodings
from medrl.data import gold

OPTIONS = {'A': 'Red', 'B': 'Green', 'C': 'Blue, pale', 'D': 'E. coli'}


@pytest.mark.parametrize('value, encoding', [
    ('C', 'letter'), (' c. ', 'letter'), ('（Ｃ）', 'letter'),
    (2, 'index0'), ('2', 'index0'), (2., 'index0'),
    (3, 'index1'), ('3', 'index1'),
    ('Blue, pale', 'text'), ('blue,  PALE.', 'text'), ('Ｂlue， pale', 'text'),
    (['C'], 'letters'), (['C', 'C'], 'letters'),
    ('C: Blue, pale', 'colon'), ('C：Blue, pale', 'colon'),
    ('C) Blue, pale', 'paren'), ('(C) blue, pale', 'paren'),
    ('C. Blue, pale', 'paren'), ('C、Blue, pale', 'paren'),
    ('<answer> C </answer>', 'tag'), ('<answer>C) Blue, pale</answer>', 'tag'),
    ('C', 'commas')])
def test_nine_encodings_of_one_answer(value, encoding):
  assert gold.keys(value, OPTIONS, encoding) == ('C',)
  if encoding != 'index1':   # which none but a declaration can tell
    assert gold.keys(value, OPTIONS) == ('C',)


@pytest.mark.parametrize('value, encoding', [
    (['D', 'B'], 'letters'), ('BD', 'letters'), ('B,D', 'commas'),
    ('D， B', 'commas'), ('Green; E. coli', 'commas'), ('B、D', 'commas'),
    ('<answer> B, D </answer>', 'tag'), ([1, 3], 'index0')])
def test_several_answers_in_the_order_of_the_options(value, encoding):
  assert gold.keys(value, OPTIONS, encoding, several=True) == ('B', 'D')
  assert gold.keys(value, OPTIONS, several=True) == ('B', 'D')
  with pytest.raises(encodings.Unusable) as caught:
    gold.keys(value, OPTIONS, encoding)
  assert caught.value.reason == 'several answers to a single choice'


@pytest.mark.parametrize('value, options, why', [
    ('B', {'A': 'B', 'B': 'A'}, 'letter of one option, text of another'),
    ('2', {'A': '0', 'B': '2', 'C': '4'}, 'index of C, text of B'),
    (2, {'A': '0', 'B': '2', 'C': '4'}, 'the same of a number'),
    ('red', {'A': 'Red', 'B': 'RED'}, 'text of two options'),
    ('a, b', {'A': 'a, b', 'B': 'a', 'C': 'b'}, 'a text, or two')])
def test_what_reads_in_two_ways_is_never_guessed(value, options, why):
  with pytest.raises(encodings.Unusable) as caught:
    gold.keys(value, options, several=True)
  assert caught.value.reason == 'ambiguous answer', why


@pytest.mark.parametrize('value, options, encoding, key', [
    ('B', {'A': 'B', 'B': 'A'}, 'letter', 'B'),
    ('B', {'A': 'B', 'B': 'A'}, 'text', 'A'),
    (2, {'A': '0', 'B': '2', 'C': '4'}, 'index0', 'C'),
    (2, {'A': '0', 'B': '2', 'C': '4'}, 'index1', 'B'),
    # Blood groups: 'AB' would be two letters, where several may be right.
    ('AB', {'A': 'A', 'B': 'B', 'C': 'AB', 'D': 'O'}, 'auto', 'C'),
    ('B', {'A': 'A', 'B': 'B', 'C': 'AB', 'D': 'O'}, 'auto', 'B'),
    ('red', {'A': 'red', 'B': 'RED'}, 'auto', 'A'),   # the exact one
    (2, {'A': 'x', 'C': 'z'}, 'index0', 'C')])        # a gap keeps places
def test_declared_or_agreeing_readings(value, options, encoding, key):
  assert gold.keys(value, options, encoding) == (key,)


@pytest.mark.parametrize('value, encoding, reason', [
    ('', 'auto', 'no answer'), (None, 'auto', 'no answer'),
    ([], 'letters', 'no answer'), (float('nan'), 'auto', 'no answer'),
    ('E', 'auto', 'answer not among the options'),
    (4, 'index0', 'answer not among the options'),
    (0, 'index1', 'answer not among the options'),
    (-1, 'index0', 'answer not among the options'),
    (True, 'auto', 'answer not among the options'),
    (1.5, 'auto', 'answer not among the options'),
    ('B: Red', 'colon', 'answer not among the options'),   # they disagree
    ('A', 'tag', 'answer not among the options'),
    ('A,Z', 'commas', 'answer not among the options'),
    ('x' * 1_000_000, 'auto', 'cell too long')])
def test_unusable_answers(value, encoding, reason):
  with pytest.raises(encodings.Unusable) as caught:
    gold.keys(value, OPTIONS, encoding)
  assert caught.value.reason == reason
  assert len(str(caught.value)) < 1000


def test_unknown_encoding():
  with pytest.raises(ValueError, match="did you mean 'letter"):
    gold.keys('A', OPTIONS, 'leter')
