"""Overlaps worked by hand, published properties, and what boxes earn."""

import numpy as np
import pytest

from medrl import types
from medrl.rewards import box

UNIT = (0, 0, 10, 10)


def record(answer=(10, 10, 20, 20), kind='box', **meta):
  return types.Record(id='r', question='Where?', answer=answer,
                      answer_type=kind,
                      meta={'width': 200, 'height': 100, **meta})


def value(content, of=None, **options):
  """Returns the reward of one answer, None where it is unparsed."""
  said = types.Completion(f'<answer>{content}</answer>')
  found = box.score(of or record(), [said], {}, **options)
  return found.total[0] if found.parsed[0] else None


@pytest.mark.parametrize('other, iou, giou', [
    (UNIT, 1.0, 1.0),
    # 5x5 shared, union 175, hull 15x15 = 225: 1/7 - 50/225.
    ((5, 5, 15, 15), 25 / 175, 25 / 175 - 50 / 225),
    ((2, 2, 4, 7), 0.1, 0.1),              # inside: hull is the union
    ((10, 0, 20, 10), 0.0, 0.0),           # touching sides fill the hull
    ((20, 0, 30, 10), 0.0, -100 / 300),    # disjoint
    ((90, 90, 100, 100), 0.0, -0.98),      # far: towards -1
    ((3, 3, 3, 9), 0.0, 0.0),              # no area
    ((8, 8, 2, 2), 0.0, 0.0),              # corners swapped on both axes
])
def test_iou_and_giou_by_hand(other, iou, giou):
  for a, b in ((UNIT, other), (other, UNIT)):
    assert box.iou(a, b) == pytest.approx(iou, abs=1e-12)
    assert box.giou(a, b) == pytest.approx(giou, abs=1e-12)


def test_giou_is_bounded_below_iou_and_free_of_scale():
  # arXiv 1902.09630, section 3: GIoU <= IoU, -1 < GIoU <= 1, invariance.
  rng = np.random.default_rng(0)
  for low, size, low2, size2 in rng.uniform(1, 50, (200, 4, 2)):
    a, b = (*low, *(low + size)), (*low2, *(low2 + size2))
    assert -1 < box.giou(a, b) <= box.iou(a, b) <= 1
    big_a, big_b = (tuple(7 * v for v in x) for x in (a, b))
    assert box.giou(big_a, big_b) == pytest.approx(box.giou(a, b))


def test_matching_is_optimal_where_greedy_is_not():
  similarity = {('p', 'x'): 0.9, ('p', 'y'): 0.8, ('q', 'x'): 0.7,
                ('q', 'y'): 0.1}
  # Greedy takes p-x and is left with q-y: 1.0. Optimal: p-y, q-x: 1.5.
  pair = lambda p, g: similarity[p, g]
  assert box.matched('pq', 'xy', pair) == pytest.approx(0.75)
  assert box.matched('p', 'xy', pair) == pytest.approx(0.45)   # one missed
  assert box.matched('pq', 'x', pair) == pytest.approx(0.45)   # one invented


@pytest.mark.parametrize('predicted, gold, expected', [
    ((), (), 1.0), ((UNIT,), (), 0.0), ((), (UNIT,), 0.0),
    ((UNIT, UNIT), (UNIT,), 0.5)])
def test_empty_and_repeated_boxes(predicted, gold, expected):
  assert box.matched(predicted, gold, box.iou) == expected


@pytest.mark.parametrize('other, diou, hit', [
    (UNIT, 1.0, 1.0),
    # Centres (5, 5) and (10, 10): 50 apart squared, of 450 in the hull.
    ((5, 5, 15, 15), 25 / 175 - 50 / 450, 1.0),    # centre on the corner
    ((2, 2, 4, 7), 0.1 - (4 + 0.25) / 200, 1.0),
    ((10, 0, 20, 10), -100 / 500, 0.0),
    ((20, 0, 30, 10), -400 / 1000, 0.0),
    ((9, 9, 10, 10), 0.01 - 40.5 / 200, 1.0),      # inside, off centre
    ((-90, -90, 110, 110), 0.0025 - 50 / 80000, 1.0),
    ((-90, -90, 111, 110), 100 / 40200 - 55.25 / 80401, 0.0),
    ((3, 3, 3, 9), 0.0, 0.0), ((8, 8, 2, 2), 0.0, 0.0),   # no area
])
def test_diou_and_centre_hit_by_hand(other, diou, hit):
  for a, b in ((UNIT, other), (other, UNIT)):
    assert box.diou(a, b) == pytest.approx(diou, abs=1e-12)
  assert box.centre_hit(other, UNIT) == hit


def test_iou_equals_coco():
  coco = pytest.importorskip('pycocotools.mask')
  rng = np.random.default_rng(1)
  low, size = rng.uniform(0, 50, (2, 40, 2)), rng.uniform(1, 60, (2, 40, 2))
  xywh = np.concatenate([low, size], -1)
  corners = np.concatenate([low, low + size], -1)
  expected = coco.iou(xywh[0], xywh[1], np.zeros(40, np.uint8))
  found = [[box.iou(a, b) for b in corners[1]] for a in corners[0]]
  np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize('metric', box.PAIRS)
def test_pairs_are_in_range_and_nothing_without_area_pays(metric):
  rng = np.random.default_rng(2)
  pair = box.pair(metric)
  for a, b in rng.integers(-9, 10, (2000, 2, 4)).tolist():
    assert 0 <= pair(a, b) <= 1
    assert pair(a, (5, 5, 5, 5)) == pair((5, 5, 5, 5), a) == 0
  assert pair(UNIT, UNIT) == 1
  assert box.pair(metric, .9)((0, 0, 10, 9), UNIT) == 1


@pytest.mark.parametrize('threshold, expected', [
    (0.0, 0.6), (0.25, 1.0), (0.6, 1.0), (0.61, 0.0)])
def test_threshold_is_reached_when_met(threshold, expected):
  assert box.pair('iou', threshold)((0, 0, 10, 6), UNIT) == expected


def test_counts_by_hand():
  far = (50, 50, 60, 60)
  for over, penalty, expected in (
      ('max', 0, 1 / 2), ('mean', 0, 2 / 3), ('max', .2, .3), ('max', .6, 0)):
    for a, b in (((UNIT, far), (UNIT,)), ((UNIT,), (UNIT, far))):
      assert box.matched(a, b, box.iou, over, penalty) == pytest.approx(
          expected)
  assert box.matched((far,), (UNIT,), box.iou, 'mean') == 0
  with pytest.raises(ValueError, match="over 'gold'"):
    box.matched((UNIT,), (UNIT,), box.iou, 'gold')


def test_f1_of_the_best_matching_is_at_least_that_of_the_highest_iou():
  # By IoU, p-x (.9) and q-y (.1) add up to 1.0, p-y and q-x to 0.98: one hit at
  # .45. Thresholded first, both of the second are hits.
  overlap = {('p', 'x'): 0.9, ('p', 'y'): 0.5, ('q', 'x'): 0.48,
             ('q', 'y'): 0.1}
  def hit(p, g):
    return float(overlap[p, g] >= 0.45)
  assert box.matched('pq', 'xy', hit, 'mean') == 1.0


@pytest.mark.parametrize('content, options, expected, why', [
    ('[10, 10, 20, 20]', {}, 1.0, 'the box'),
    ('[10, 10, 20, 15]', {}, 0.5, 'half of it'),
    ('[10, 10, 20, 15]', {'threshold': .5}, 1.0, 'at the threshold'),
    ('[10, 10, 20, 15]', {'threshold': .75}, 0.0, 'below it'),
    ('[50, 100, 100, 200]', {'frame': '1000'}, 1.0, 'thousandths of 200 x 100'),
    ('[0.05, 0.1, 0.1, 0.2]', {'frame': 'unit'}, 1.0, 'shares of 200 x 100'),
    ('[0, 0, 999, 999]', {'frame': '999'}, 0.005, 'all of 20,000 for 100'),
    ('[0, 0, 224, 224]', {'frame': '224'}, 0.005, 'all of 20,000 for 100'),
    ('[0, 0, 200, 100]', {'metric': 'giou'}, 0.005, 'GIoU = IoU - 0: a half '
     'and more for the whole image'),
    ('[100, 10, 110, 20]', {'metric': 'centre'}, 0.0, 'beside it'),
    ('[14, 14, 16, 16]', {'metric': 'centre'}, 1.0, 'a dot in the middle'),
    ('[10, 10, 20, 20] [1, 1, 2, 2]', {}, None, 'two answers to one question'),
    ('[20, 20, 10, 10]', {}, None, 'reversed'),
    ('[]', {}, None, 'none, where one is asked for'),
    ('It is at the left.', {}, None, 'prose'),
    ('[-50, -50, 20, 20]', {}, 100 / 4900, 'beyond the image, not cut'),
    ('[-50, -50, 20, 20]', {'clamp': True}, 0.25, 'cut to 20 x 20'),
    ('[300, 300, 400, 400]', {'clamp': True, 'metric': 'giou'}, 0.0,
     'nothing is left of it, and no area earns nothing'),
])
def test_reward_of_one_box(content, options, expected, why):
  if options.get('metric') == 'giou' and expected:
    expected = (1 + expected) / 2
  assert value(content, **options) == (
      None if expected is None else pytest.approx(expected)), why


TWO = record([[10, 10, 20, 20], [50, 50, 60, 60]], 'boxes')
NAMED = record([[10, 10, 20, 20], [50, 50, 60, 60]], 'boxes',
               labels=['RBC', 'WBC'])


@pytest.mark.parametrize('of, content, options, expected, why', [
    (TWO, '[[50,50,60,60],[10,10,20,20]]', {}, 1.0, 'in any order'),
    (TWO, '[[10,10,20,20]]', {}, 0.5, 'one missed'),
    (TWO, '[[10,10,20,20]]', {'over': 'mean'}, 2 / 3, 'F1'),
    (TWO, '[[10,10,20,20]]', {'penalty': .25}, 0.25, 'and it costs'),
    (TWO, '[[10,10,20,20],[10,10,20,20]]', {}, 0.5, 'twice is once'),
    (TWO, '[]', {}, 0.0, 'none said'), (TWO, 'none', {}, None, 'a word'),
    (record([], 'boxes'), '[]', {}, 1.0, 'rightly none'),
    (record([], 'boxes'), '[[1,1,2,2]]', {}, 0.0, 'invented'),
    (record('N/A', 'boxes'), '[[1,1,2,2]]', {}, 0.0, 'nothing would be right'),
    (record('N/A', 'boxes'), '[]', {}, 0.0, 'nor is none'),
    (NAMED, 'rbc: [10,10,20,20]\nWBC: [50,50,60,60]', {}, 1.0, 'by name'),
    (NAMED, 'WBC: [10,10,20,20]\nRBC: [50,50,60,60]', {}, 0.0, 'exchanged'),
    (NAMED, 'RBC: [10,10,20,20]\nRBC: [50,50,60,60]', {}, 0.5, 'one name'),
    (NAMED, '[[10,10,20,20],[50,50,60,60]]', {}, None, 'without names'),
    (NAMED, '<ref>RBC</ref><box>[[50,100,100,200]]</box>', {'frame': '1000'},
     0.5, 'MedRegA, in thousandths'),
])
def test_reward_of_many_boxes(of, content, options, expected, why):
  assert value(content, of, **options) == (
      None if expected is None else pytest.approx(expected)), why


def test_medmo_by_hand():
  # Thousandths of 200 x 100: [10,10,20,20] and far [100,50,200,100].
  # GIoU of far and [50,50,60,60]: 0 - (150 * 50 - 5100) / 7500 = -.32.
  said = '[[50,100,100,200],[500,500,1000,1000]]'
  assert value(said, TWO, metric='giou', frame='1000', clamp=True) == (
      pytest.approx((1 + (1 - .32) / 2) / 2))


@pytest.mark.parametrize('of, options, message', [
    (record(None), {}, 'needs a box'),
    (record('yes', 'yesno'), {}, 'needs a box'),
    (record([UNIT], 'boxes', labels=[]), {}, '0 names for 1 boxes'),
    (record(width=0), {'frame': '1000'}, "meta\\['width'\\]"),
    (record(width=0), {'clamp': True}, "meta\\['width'\\]"),
    (record(), {'frame': 'inch'}, "frame 'inch'"),
    (record(), {'metric': 'dice'}, "metric 'dice'"),
    (record(), {'over': 'gold'}, "over 'gold'"),
])
def test_a_wrong_record_or_option_raises(of, options, message):
  for content in ('[1, 1, 2, 2]', 'nothing'):
    with pytest.raises(ValueError, match=message):
      value(content, of, **options)


@pytest.mark.parametrize('text', [
    '', '\0\ud800', '<answer>' + '[' * 60000 + '</answer>',
    '<answer>[[' + '1,' * 32000 + ']]</answer>',
    '<answer>' + '[1,2,3,4],' * 6500 + '</answer>',
    'no block: [10, 10, 20, 20]'])
def test_any_text_gives_a_number(text):
  for of in (record(), TWO, NAMED):
    for frame in ('pixel', 'unit'):
      one, again = (box.score(of, [types.Completion(text)], {}, frame=frame)
                    for _ in range(2))
      assert one == again and 0 <= one.total[0] <= 0.01
