"""Credit down a small tree of skin diseases, by hand."""

import pytest

from medrl import types
from medrl.rewards import taxonomy

PARENTS = {
    'neoplasm': 'disease', 'inflammation': 'disease',
    'melanocytic': 'neoplasm', 'keratinocytic': 'neoplasm',
    'Melanoma': 'melanocytic', 'naevus': 'melanocytic',
    'nodular melanoma': 'melanoma', 'psoriasis': 'inflammation'}


@pytest.mark.parametrize('value, target, gold_depth, deeper, why', [
    ('melanoma', 'melanoma', 1, 1, 'equal'),
    ('MELANOMA.', 'melanoma', 1, 1, 'normalised'),
    ('naevus', 'melanoma', 2 / 3, 2 / 3, 'a sibling'),
    ('melanocytic', 'melanoma', 2 / 3, 2 / 3, 'the parent'),
    ('keratinocytic', 'melanoma', 1 / 3, 1 / 3, 'a cousin'),
    ('neoplasm', 'melanoma', 1 / 3, 1 / 3, 'the grandparent'),
    ('psoriasis', 'melanoma', 0, 0, 'nothing but the root'),
    ('disease', 'melanoma', 0, 0, 'the root is said for free'),
    ('nodular melanoma', 'melanoma', 1, 3 / 4, 'more than is known'),
    ('nodular melanoma', 'neoplasm', 1, 1 / 4, 'a leaf is a safe bet'),
    ('eczema', 'melanoma', 0, 0, 'not in the tree'),
    ('disease', 'disease', 1, 1, 'the root itself'),
    ('melanoma', 'disease', 0, 0, 'no depth to share'),
])
def test_agreement(value, target, gold_depth, deeper, why):
  assert taxonomy.agreement(value, target, PARENTS) == pytest.approx(
      gold_depth), why
  assert taxonomy.agreement(value, target, PARENTS, True) == pytest.approx(
      deeper), why


def test_path():
  assert taxonomy.path('melanoma', PARENTS) == (
      'disease', 'neoplasm', 'melanocytic', 'melanoma')
  assert taxonomy.path('eczema', PARENTS) == ()


@pytest.mark.parametrize('parents, message', [
    ({'a': 'b', 'b': 'a'}, 'below itself'), ({'a': 'a'}, 'below itself'),
    ({'a': 'b', 'A': 'c'}, 'has the parents'), ({'x': 'y'}, 'not in the tree')])
def test_what_is_no_tree(parents, message):
  with pytest.raises(ValueError, match=message):
    taxonomy.agreement('a', 'a', parents)


@pytest.mark.parametrize('kind, answer, content, expected', [
    ('text', 'melanoma', 'Naevus', 2 / 3), ('text', 'melanoma', ' ', None),
    ('choice', 'B', 'A', 2 / 3), ('choice', 'B', 'B: melanoma', 1.0),
    ('choice', 'B', 'A or B', None),
    ('text', 'melanoma', "I don't know", None)])
def test_score(kind, answer, content, expected):
  record = types.Record(id='r', question='', answer=answer, answer_type=kind,
                        options={'A': 'naevus', 'B': 'melanoma'})
  out = taxonomy.score(
      record, [types.Completion(f'<answer>{content}</answer>')], {},
      parents=PARENTS)
  assert out.total == (pytest.approx(expected or 0.0),)
  assert out.parsed == (expected is not None,)
