"""Equality of expressions, and what a hostile one costs."""

import os
import time

import pytest

from medrl import types
from medrl.rewards import symbolic

pytest.importorskip('math_verify', reason='rewards packages are not installed')


@pytest.mark.parametrize('content, expected', [
    ('5', '5'), (' $5$ ', '5'), ('$$5$$.', '5'), (r'\(5\)', '5'),
    (r'\[5\]', '5'), (r'$\boxed{5}$', '5'), (r'\boxed{\frac{1}{2}}',
                                            r'\frac{1}{2}'),
    ('2\nx', '2 x'),
    ('$1$ or $2$', None), (r'\boxed{1} \boxed{2}', None), ('', None),
    ('$$', None), ('$', None), ('x' * 501, None)])
def test_expression(content, expected):
  assert symbolic.expression(content) == expected


@pytest.mark.parametrize('value, target, expected, why', [
    ('1/2', '0.5', True, 'a fraction'), (r'\frac{1}{2}', '0.5', True, 'LaTeX'),
    ('2x+1', '1+2x', True, 'order'), ('x^2-1', '(x-1)(x+1)', True, 'expanded'),
    ('x=5', '5', True, 'an assignment'), ('50\\%', '0.5', True, 'percent'),
    ('1,000', '1000', True, 'thousands'), ('10^3', '1000', True, 'a power'),
    (r'2\times 10^{-3}', '0.002', True, 'scientific'),
    (r'\sqrt{2}', '2^{1/2}', True, 'a root'),
    ('3.141593', r'\pi', True, 'six decimals'),
    ('3.1416', r'\pi', False, 'four decimals'),
    ('x', 'y', False, 'symbols have names'), ('5.1', '5', False, 'near'),
    ('1,2', '2', False, 'a list'), ('1 or 2', '2', False, 'two answers'),
    (r'\{1,2,3\}', '2', False, 'a set that holds it'),
    ('[1,5]', '2', False, 'an interval around it'),
    ('x<6', '5', False, 'a relation that holds for it'),
    ('x=x', '5', False, 'true of everything'), ('1=1', '5', False, 'true'),
    (r'\infty', '5', False, 'infinity'), ('0/0', '5', False, 'no number'),
    ('((((', '5', None, 'no expression'),
    ('__import__("os").system("false")', '5', None, 'code is not run'),
])
def test_equal(value, target, expected, why):
  assert symbolic.equal(value, target, 10.0) is expected, why


def score(content, gold='0.5', **options):
  record = types.Record(id='r', question='', answer=gold, answer_type='text')
  out = symbolic.score(
      record, [types.Completion(f'0.5<answer>{content}</answer>')], {},
      **options)
  return out.total[0], out.parsed[0]


def test_score():
  assert score(r'$\frac{1}{2}$') == (1.0, True)
  assert score('0.6') == (0.0, True)
  assert score('one half, or so $1$ $2$') == (0.0, False)
  with pytest.raises(ValueError, match='is no expression'):
    score('0.5', gold='$1$ or $2$')


def test_what_takes_too_long_is_killed_and_the_next_one_is_answered():
  symbolic.equal('1', '2', 10.0)   # the start is not counted
  start = time.perf_counter()
  assert score('9^{9^{9^{9}}}', seconds=.3) == (0.0, False)
  assert time.perf_counter() - start < 30.0   # it would run for ever
  assert score(r'\frac{2}{4}', seconds=10.0) == (1.0, True)


def test_one_worker_serves_many_questions_and_a_fork_starts_its_own():
  symbolic.equal('1', '2', 10.0)
  worker = symbolic._worker(os.getpid())   # pylint: disable=protected-access
  process = worker._process                # pylint: disable=protected-access
  symbolic.equal('1', '3', 10.0)
  assert worker._process is process and process.poll() is None
  assert symbolic._worker(os.getpid() + 1) is not worker


def test_a_worker_that_ended_is_replaced():
  symbolic.equal('1', '2', 10.0)
  worker = symbolic._worker(os.getpid())   # pylint: disable=protected-access
  worker._process.kill()
  assert symbolic.equal('2', '2.0', 10.0) is None
  assert symbolic.equal('2', '2.0', 10.0) is True
