"""Distances by hand, how points are read, and what they earn."""


import pytest

from medrl import types
from medrl.rewards import points
from tests import soon


@pytest.mark.parametrize('content, expected, why', [
    ('[12, 34]', ((12, 34),), 'one'),
    ('(12, 34)', ((12, 34),), 'round'),
    ('[[1, 2], [3.5, 4e1]]', ((1, 2), (3.5, 40)), 'several'),
    ('(1, 2), (3, 4)', ((1, 2), (3, 4)), 'several, round'),
    ('[(1, 2), (3, 4)]', None, 'the innermost square bracket holds no pair'),
    ('The tip is at [1, 2].', ((1, 2),), 'prose'),
    ('{"point_2d": [1, 2], "label": "sella"}', ((1, 2),), 'Qwen JSON'),
    ('[{"point_2d": [1, 2]},\n{"point_2d": [3, 4]}]', ((1, 2), (3, 4)), 'two'),
    ('[-1, 2]', ((-1, 2),), 'beyond the image'),
    ('[1, 2] [1, 2]', ((1, 2), (1, 2)), 'the same twice is two'),
    ('[]', (), 'none, said'), ('[[]]', None, 'neither'),
    ('[1, 2, 3]', None, 'three numbers'), ('[1]', None, 'one'),
    ('[1, 2, 3, 4]', None, 'a box'), ('[1; 2]', None, 'semicolon'),
    ('[1, 2] [3]', None, 'a bad point is not dropped'),
    ('[[1, 2], [3', None, 'cut off'), ('1, 2', None, 'no brackets'),
    ('(1, 2) (in pixels)', None, 'a bracket that is no point'),
    ('[nan, 1]', None, 'nan'), ('[inf, 1]', None, 'inf'),
    ('[1e999, 1]', None, 'not finite'), ('[1e7, 1]', None, 'no image so large'),
    (f'[{"9" * 5000}, 1]', None, 'int() would raise'),
    ('[１, ２]', ((1, 2),), 'full width'), ('[.5, 1.]', ((.5, 1),), 'no zero'),
    ('[1_0, 2]', None, 'underscore'), ('[a, b]', None, 'letters'),
    ('', None, 'empty'), ('N/A', None, 'declined'), ('][', None, 'reversed'),
])
def test_read(content, expected, why):
  found = points.read(content)
  assert (None if found is None else found.value) == expected, why


def test_span_is_that_of_the_points():
  found = points.read('at [1, 2] and [3, 4].')
  assert found.span == (3, 20)


@pytest.mark.parametrize('a, b, spacing, expected', [
    ((0, 0), (3, 4), (1, 1), 5), ((3, 4), (0, 0), (.5, .5), 2.5),
    ((0, 0), (3, 4), (2, 1), 52 ** .5), ((7, 7), (7, 7), (1, 1), 0)])
def test_error(a, b, spacing, expected):
  assert points.error(a, b, spacing) == pytest.approx(expected)


def test_mean_radial_error_and_its_refusals():
  gold = [(0, 0), (10, 0)]
  assert points.mean_radial_error([(3, 4), (10, 1)], gold) == 3
  assert points.mean_radial_error([(3, 4), (10, 1)], gold, (.1, .1)) == (
      pytest.approx(.3))
  for wrong in ([], [(1, 2)]):
    with pytest.raises(ValueError, match='as many'):
      points.mean_radial_error(wrong, gold)


@pytest.mark.parametrize('distance, metric, expected', [
    (0, 'success', 1), (2, 'success', 1), (0.1 * 20, 'success', 1),
    (2.0001, 'success', 0), (0, 'linear', 1), (.5, 'linear', .75),
    (2, 'linear', 0), (9, 'linear', 0)])
def test_near(distance, metric, expected):
  assert points.near(distance, 2.0, metric) == pytest.approx(expected)


def record(gold=((10, 10), (50, 50)), **meta):
  return types.Record(
      id='r', question='Where?', answer='', answer_type='text',
      meta={'points': gold, 'spacing': .1, 'width': 200, 'height': 100, **meta})


def value(content, of=None, **options):
  said = types.Completion(f'<answer>{content}</answer>')
  found = points.score(of or record(), [said], {}, **options)
  return found.total[0] if found.parsed[0] else None


@pytest.mark.parametrize('content, options, expected, why', [
    ('[[10, 10], [50, 50]]', {}, 1.0, 'both'),
    ('[[10, 30], [50, 50]]', {}, 1.0, '20 pixels of .1 mm are 2 mm'),
    ('[[10, 31], [50, 50]]', {}, .5, '2.1 mm'),
    ('[[10, 31], [50, 50]]', {'threshold': 2.5}, 1.0, 'at 2.5 mm'),
    ('[[10, 31], [50, 50]]', {'unit': 'px', 'threshold': 20}, .5, 'pixels'),
    ('[[10, 20], [50, 50]]', {'metric': 'linear'}, .75, '1 of 2 mm'),
    ('[[50, 50], [10, 10]]', {}, 0.0, 'exchanged'),
    ('[[50, 50], [10, 10]]', {'ordered': False}, 1.0, 'in no order'),
    ('[10, 10]', {}, .5, 'one missed'),
    ('[10, 10]', {'ordered': False}, .5, 'one missed'),
    ('[[10, 10], [50, 50], [1, 1], [2, 2]]', {}, .5, 'two invented'),
    ('[[10, 10], [10, 10]]', {'ordered': False}, .5, 'one point matches once'),
    ('[]', {}, 0.0, 'none'), ('none', {}, None, 'a word'),
    ('[[50, 100], [250, 500]]', {'frame': '1000'}, 1.0, 'thousandths'),
])
def test_reward(content, options, expected, why):
  assert value(content, **options) == (
      None if expected is None else pytest.approx(expected)), why


def test_spacing_across_and_down():
  of = record([[0, 0]], spacing=(1., .1))
  assert value('[0, 20]', of) == 1 and value('[20, 0]', of) == 0
  assert value('[]', record([])) == 1 and value('[1, 1]', record([])) == 0


def test_a_grid_does_not_pay():
  grid = str([[x, y] for x in range(0, 200, 10) for y in range(0, 100, 10)])
  assert value(grid, ordered=False) == pytest.approx(2 / 200)


@pytest.mark.parametrize('of, options, message', [
    (record(spacing=None), {}, "needs meta\\['spacing'\\]"),
    (record(spacing=0), {}, 'spacing 0'), (record(spacing=(1, -1)), {}, '-1'),
    (record(None), {}, 'needs meta'), (record([[1]]), {}, 'points'),
    (record(), {'unit': 'cm'}, "unit 'cm'"),
    (record(), {'metric': 'mre'}, "metric 'mre'"),
    (record(), {'threshold': 0}, 'threshold 0'),
    (record(), {'frame': 'inch'}, "frame 'inch'"),
    (record(width=0), {'frame': 'unit'}, 'width'),
])
def test_a_wrong_record_or_option_raises(of, options, message):
  for content in ('[1, 2]', 'nothing'):
    with pytest.raises(ValueError, match=message):
      value(content, of, **options)


@pytest.mark.parametrize('text', [
    '', '\0\ud800', '<answer>' + '[' * 64000 + '</answer>',
    '<answer>' + '(' * 32000 + ')' * 32000 + '</answer>',
    '<answer>' + '[1,2],' * 10000 + '</answer>',
    '<answer>[' + '1,' * 30000 + ']</answer>',
    '<answer>[' + '1' * 60000 + ']</answer>', 'no block: [[10, 10], [50, 50]]'])
def test_any_text_gives_a_number_soon(text):
  with soon.soon():
    for ordered in (True, False):
      found = points.score(record(), [types.Completion(text)], {},
                           ordered=ordered)
      assert 0 <= found.total[0] < 0.01
