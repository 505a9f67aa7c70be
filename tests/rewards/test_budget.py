"""Lengths by hand, with the papers' own numbers where they give some."""

import math

import pytest

from medrl import types
from medrl.rewards import budget


def score(name, length, meta=None, **options):
  record = types.Record(id='r', question='', answer=None, answer_type='text',
                        meta=meta or {})
  group = [types.Completion('a' * length, ids=(7,) * length)]
  return getattr(budget, name)(record, group, {}, **options).total[0]


@pytest.mark.parametrize('name, length, options, expected, why', [
    ('exact', 300, {'budget': 300}, 1.0, 'on the budget'),
    ('exact', 1050, {'budget': 300}, 0.5, '750 of 1500 too long'),
    ('exact', 0, {'budget': 750}, 0.5, 'too short costs the same'),
    ('exact', 4000, {'budget': 300}, -1.0, 'clipped'),
    ('exact', 400, {'budget': 300, 'scale': 1 / 0.0003}, 0.97,
     'L1: 1 - 0.0003 * 100'),
    ('maximum', 300, {'budget': 300}, 0.0, 'on the budget'),
    ('maximum', 50, {'budget': 300}, 0.5, '250 of 500 below'),
    ('maximum', 550, {'budget': 300}, -0.5, '250 of 500 above'),
    ('maximum', 0, {'budget': 2000}, 1.0, 'clipped'),
    ('maximum', 2000, {'budget': 300}, -1.0, 'clipped'),
    ('maximum', 1300, {'budget': 300, 'scale': 1 / 0.0003, 'centre': 0.5,
                       'low': 0.0}, 0.2, 'L1: 0.5 - 0.0003 * 1000'),
    ('maximum', 9000, {'budget': 300, 'scale': 1 / 0.0003, 'centre': 0.5,
                       'low': 0.0}, 0.0, 'L1: clipped to [0, 1]'),
    ('overlong', 1536, {'limit': 2048, 'buffer': 512}, 0.0, 'ECG-R1: free'),
    ('overlong', 1792, {'limit': 2048, 'buffer': 512}, -0.5, 'half way'),
    ('overlong', 2048, {'limit': 2048, 'buffer': 512}, -1.0, 'at the limit'),
    ('overlong', 3072, {'limit': 2048, 'buffer': 512}, -1.0, 'TRL stops'),
    ('overlong', 3072, {'limit': 2048, 'buffer': 512, 'low': -math.inf}, -3.0,
     'verl goes on'),
    ('overlong', 0, {'limit': 8, 'buffer': 8}, 0.0, 'all of it is buffer'),
    ('overlong', 4, {'limit': 8, 'buffer': 8}, -0.5, 'all of it is buffer'),
    ('cosine', 8192, {}, 0.0, 'WiNGPT: none up to 8K'),
    ('cosine', 12288, {}, -0.25, 'half way'),
    ('cosine', 10240, {}, -0.25 * (1 - math.sqrt(0.5)), 'a quarter'),
    ('cosine', 16384, {}, -0.5, 'all of it'),
    ('cosine', 20000, {}, -0.5, 'no more than that'),
    ('cosine', 3, {'start': 0, 'limit': 6, 'most': 2.0}, -1.0, 'other numbers'),
])
def test_value(name, length, options, expected, why):
  assert score(name, length, **options) == pytest.approx(expected,
                                                         abs=1e-12), why


@pytest.mark.parametrize('asked, length, expected, why', [
    ({'budget': 300}, 1050, 0.5, 'positive is exact'),
    ({'budget': -300}, 50, 0.5, 'negative is a maximum'),
    ({'budget': -1}, 50, 0.0, '-1 is none'),
    ({'budget': 1.5}, 9000, -1.0, 'above 1 is exact'),
    ({'budget': -2.5}, 1, 0.003, 'below -1 is a maximum'),
    ({}, 50, 0.0, 'none'),
])
def test_the_kind_of_budget_by_record(asked, length, expected, why):
  assert score('signed', length, asked) == expected, why


def test_the_budget_of_the_record():
  assert score('exact', 300, {'budget': 300}) == 1.0
  assert score('exact', 300, {'budget': 300}, budget=1050) == 0.5


@pytest.mark.parametrize('name, meta, options, message', [
    ('exact', {}, {}, 'has no budget'),
    ('maximum', {}, {}, 'has no budget'),
    ('exact', {'budget': '300'}, {}, "budget '300'"),
    ('exact', {'budget': -300}, {}, 'positive number'),
    ('exact', {'budget': math.nan}, {}, 'positive number'),
    ('maximum', {'budget': True}, {}, 'positive number'),
    ('signed', {'budget': 0}, {}, 'budget 0'),
    ('signed', {'budget': 1}, {}, 'budget 1'),
    ('signed', {'budget': None}, {}, 'budget None'),
    ('signed', {'budget': 0.5}, {}, 'budget 0.5'),
    ('signed', {'budget': -0.5}, {}, 'budget -0.5'),
    ('signed', {'budget': -0.999}, {}, 'budget -0.999'),
    ('signed', {'budget': math.inf}, {}, 'budget inf'),
    ('exact', {}, {'budget': 9, 'scale': 0.0}, 'scale = 0.0'),
    ('maximum', {}, {'budget': 9, 'low': 1.0}, 'span'),
    ('overlong', {}, {'limit': 8, 'buffer': 0}, 'buffer = 0'),
    ('overlong', {}, {'limit': 8, 'buffer': 9}, 'room'),
    ('overlong', {}, {'limit': 8, 'buffer': 4, 'low': 0.0}, 'span'),
    ('cosine', {}, {'start': 9, 'limit': 9}, 'range = 0'),
    ('cosine', {}, {'most': math.nan}, 'most = nan'),
])
def test_refused(name, meta, options, message):
  with pytest.raises(ValueError, match=message):
    score(name, 3, meta, **options)


def test_text_without_ids_is_refused_and_nothing_is_not():
  record = types.Record(id='r', question='', answer=None, answer_type='text')
  with pytest.raises(ValueError, match='2 characters has no token ids'):
    budget.exact(record, [types.Completion('ab')], {}, budget=4)
  assert budget.overlong(record, [types.Completion('')], {}, limit=4,
                         buffer=2).total == (0.0,)
