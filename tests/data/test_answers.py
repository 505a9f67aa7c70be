import pytest

from medrl.data import answers
from medrl.data import encodings


@pytest.mark.parametrize('value, kind, expected', [
    ('Yes', 'yesno', 'yes'), (True, 'yesno', 'yes'), ('否', 'yesno', 'no'),
    ('不是', 'yesno', 'no'), ('maybe', 'yesnomaybe', 'maybe'),
    ('3', 'int', 3), (3.0, 'int', 3), ('25.238', 'float', 25.238),
    (19, 'float', 19.), ('25.2', 'interval', 25.2),
    ('2 cm', 'quantity', 20.), (20, 'quantity', 20.),
    ('30 x 13 mm', 'dimensions', [30., 13.]), ([3, 2], 'dimensions', [3., 2.]),
    ('09/23/2014', 'date', '2014-09-23'), ('2014-09-23', 'date', '2014-09-23'),
    ("('14 weeks', '1 days')", 'duration', (14, 1)), ([14, 1], 'duration',
                                                      (14, 1)),
    ('a; b ;', 'labels', ['a', 'b']), (['a'], 'labels', ['a']),
    ('{"a": "positive"}', 'states', {'a': 'positive'}),
    ([1, 2, 3, 4], 'box', [1, 2, 3, 4]), ('[1, 2, 3, 4]', 'box', [1, 2, 3, 4]),
    ([[1, 2, 3, 4]], 'boxes', [[1, 2, 3, 4]]), ([], 'boxes', []),
    (' A word. ', 'text', 'A word.'), (3, 'text', '3'),
    ('N/A', 'int', 'N/A'), ('N/A', 'date', 'N/A'), ('N/A', 'text', 'N/A')])
def test_typed(value, kind, expected):
  found = answers.typed(value, kind, unit='mm')
  assert found == expected and type(found) is type(expected)


def test_order_and_separator():
  assert answers.typed('03/04/2020', 'date', order='dmy') == '2020-04-03'
  assert answers.typed('a, b', 'labels', separator=',') == ['a', 'b']


@pytest.mark.parametrize('value, kind', [
    ('perhaps', 'yesno'), ('maybe', 'yesno'), ('2.5', 'int'), (True, 'int'),
    ('nan', 'float'), ('inf', 'float'), ('1e999', 'float'), ('two', 'float'),
    ('two', 'quantity'), ('31/31/2020', 'date'), ([1, -1], 'duration'),
    ([1], 'labels'), ({'a': 'perhaps'}, 'states'), ([1, 2, 3], 'box'),
    ([3, 2, 1, 4], 'box'), ([[1]], 'boxes'), ('x', 'box'), (['x'], 'text')])
def test_not_of_its_type(value, kind):
  with pytest.raises(encodings.Unusable):
    answers.typed(value, kind, unit='mm')


def test_four_states_of_columns():
  """CheXpert: blank is not negative."""
  row = {'Edema': '1.0', 'Fracture': 0, 'Pneumonia': '-1.0', 'Cardiomegaly': ''}
  assert answers.states(row, list(row)) == {
      'Edema': 'positive', 'Fracture': 'negative', 'Pneumonia': 'uncertain',
      'Cardiomegaly': 'not mentioned'}
  with pytest.raises(encodings.Unusable, match='Edema'):
    answers.states({'Edema': '2'}, ['Edema'])
