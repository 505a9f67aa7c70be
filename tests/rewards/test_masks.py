"""Masks by hand and against COCO's own code, and what they earn."""

import json

import numpy as np
import pytest

from medrl import types
from medrl.rewards import masks
from tests import soon


def drawn(rng, height, width, share):
  """Blobs rather than noise: runs of many lengths."""
  noise = rng.random((height // 3 + 1, width // 3 + 1)) < share
  return np.kron(noise, np.ones((3, 3), bool))[:height, :width]


@pytest.mark.parametrize('a, b, iou, dice', [
    ([[1, 1, 0, 0]], [[0, 1, 1, 0]], 1 / 3, 1 / 2),
    ([[1, 1, 0, 0]], [[1, 1, 0, 0]], 1, 1),
    ([[1, 1, 0, 0]], [[0, 0, 1, 1]], 0, 0),
    ([[1, 1, 1, 1]], [[0, 0, 0, 1]], 1 / 4, 2 / 5),
    ([[0, 0, 0, 0]], [[0, 0, 0, 1]], 0, 0),
    ([[0, 0, 0, 0]], [[0, 0, 0, 0]], 1, 1),   # rightly nothing
])
def test_overlap_by_hand(a, b, iou, dice):
  a, b = np.array(a, bool), np.array(b, bool)
  for one, other in ((a, b), (b, a)):
    assert masks.iou(one, other) == pytest.approx(iou)
    assert masks.dice(one, other) == pytest.approx(dice)
  # MedPLIB's scorer has Dice by this identity.
  assert dice == pytest.approx(2 * iou / (1 + iou))
  with pytest.raises(ValueError, match='one shape'):
    masks.iou(a, b.T)


def test_run_lengths_by_hand():
  # Down the columns: 0 1 | 1 0 | 0 0.
  mask = np.array([[0, 1, 0], [1, 0, 0]], bool)
  assert masks.to_runs(mask) == [1, 2, 3]
  assert (masks.from_runs([1, 2, 3], (2, 3)) == mask).all()
  assert masks.to_runs(~mask) == [0, 1, 2, 3]   # starts with zeros, always
  assert masks.to_runs(np.zeros((2, 3), bool)) == [6]
  assert masks.to_runs(np.ones((2, 3), bool)) == [0, 6]


@pytest.mark.parametrize('runs', [
    [], [5], [7], [1, 2], [1, 2, 4], [-1, 7], [6, 1, -1], [True, 5], [1.0, 5],
    ['1', 5], [10 ** 400], [None]])
def test_runs_that_do_not_fill_the_image_are_none(runs):
  assert masks.from_runs(runs, (2, 3)) is None


@pytest.mark.parametrize('share', [0, .02, .5, .98, 1])
def test_run_lengths_equal_coco(share):
  coco = pytest.importorskip('pycocotools.mask')
  rng = np.random.default_rng(3)
  for height, width in ((1, 1), (7, 5), (61, 83), (300, 257)):
    mask = drawn(rng, height, width, share)
    packed = coco.encode(np.asfortranarray(mask, np.uint8))
    runs = masks.unpacked(packed['counts'].decode())
    assert runs == masks.to_runs(mask)
    assert (masks.decoded(packed, (height, width)) == mask).all()
    ours = coco.frPyObjects(
        {'size': [height, width], 'counts': masks.to_runs(mask)}, height, width)
    assert (coco.decode(ours) == mask).all()
    other = drawn(rng, height, width, .5)
    expected = coco.iou(
        [packed], [coco.encode(np.asfortranarray(other, np.uint8))], [0])
    if mask.any() or other.any():
      assert masks.iou(mask, other) == pytest.approx(float(expected[0, 0]))


@pytest.mark.parametrize(
    'text', ['\x00', '~', ' ', 'é', '\ud800', '`', 'o' * 99])
def test_what_is_no_compressed_string_is_none(text):
  assert masks.unpacked(text) is None


def test_polygons_by_hand():
  square = [1, 1, 4, 1, 4, 3, 1, 3]
  mask = masks.from_polygons([square], (5, 6))
  assert mask.sum() == 6 and mask[1:3, 1:4].all()
  pairs = [[1, 1], [4, 1], [4, 3], [1, 3]]
  assert (masks.from_polygons([pairs], (5, 6)) == mask).all()
  assert (masks.from_polygons([pairs[::-1]], (5, 6)) == mask).all()
  # Under the diagonal. A centre on a side is inside where the side is its left.
  triangle = masks.from_polygons([[0, 0, 0, 4, 4, 4]], (4, 4))
  assert (triangle == np.tri(4, k=-1)).all()
  above = masks.from_polygons([[0, 0, 4, 0, 4, 4]], (4, 4))
  assert (above == ~triangle).all()   # neighbours share no pixel
  # Two overlapping polygons are a union, one that crosses itself is even-odd.
  both = masks.from_polygons([square, [2, 1, 6, 1, 6, 3, 2, 3]], (5, 6))
  assert both.sum() == 10
  bow = masks.from_polygons([[0, 0, 4, 4, 4, 0, 0, 4]], (4, 4))
  assert bow.astype(int).tolist() == [
      [0, 0, 0, 1], [1, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 1]]
  # What lies outside the image is cut, at every side.
  assert masks.from_polygons([[-9, -9, 99, -9, 99, 99, -9, 99]], (5, 6)).all()
  assert not masks.from_polygons([[-9, -9, -1, -9, -1, 99]], (5, 6)).any()
  assert not masks.from_polygons([], (5, 6)).any()


def test_polygons_against_every_centre():
  """Even-odd by the crossings of a ray, one centre at a time."""
  rng = np.random.default_rng(4)
  for corners in (3, 4, 7, 20):
    p = rng.uniform(-5, 25, (corners, 2))
    mask = masks.from_polygons([p.ravel().tolist()], (20, 20))
    for y in range(20):
      for x in range(20):
        inside = False
        for (ax, ay), (bx, by) in zip(p, np.roll(p, -1, 0)):
          if (ay <= y + .5) != (by <= y + .5):
            at = ax + (y + .5 - ay) * (bx - ax) / (by - ay)
            inside ^= bool(at <= x + .5)
        assert mask[y, x] == inside


def test_polygons_equal_coco_but_at_the_outline():
  coco = pytest.importorskip('pycocotools.mask')
  rng = np.random.default_rng(5)
  for _ in range(40):
    n = rng.integers(3, 12)
    angle = np.sort(rng.uniform(0, 2 * np.pi, n))
    p = 60 + rng.uniform(10, 55, (n, 1)) * np.stack(
        [np.cos(angle), np.sin(angle)], 1)
    flat = p.ravel().tolist()
    theirs = coco.decode(coco.frPyObjects([flat], 120, 120))[..., 0] > 0
    ours = masks.from_polygons([flat], (120, 120))
    wrong = np.argwhere(ours != theirs)[:, ::-1] + .5
    a, b = p, np.roll(p, -1, 0)
    along = np.clip((((wrong[:, None] - a) * (b - a)).sum(-1)
                     / ((b - a) ** 2).sum(-1)), 0, 1)[..., None]
    far = np.hypot(*np.moveaxis(wrong[:, None] - a - along * (b - a), -1, 0))
    assert far.size == 0 or far.min(1).max() < 1
  # With whole-numbered sides there is no outline to differ by.
  box = [20, 30, 80, 30, 80, 90, 20, 90]
  theirs = coco.decode(coco.frPyObjects([box], 120, 120))[..., 0] > 0
  assert (masks.from_polygons([box], (120, 120)) == theirs).all()


@pytest.mark.parametrize('polygons', [
    [[1, 1, 2, 2]], [[1, 1, 2, 2, 3]], [[1, 1, 2, 2, 3, float('nan')]],
    [[1, 1, 2, 2, 3, float('inf')]], [[1, 1, 2, 2, 3, '3']],
    [[1, 1, 2, 2, 3, True]],
    [[1, 1, 2, 2, 3, 10 ** 400]], [[]], ['abcdef'], [None], [[[1, 1], [2, 2]]],
    [[[1, 1, 1], [2, 2, 2], [3, 3, 3]]], [[[1, 1], 2, 2, 3, 3]],
    [list(range(6000))], [[0, 0, 9, 0, 9, 9, 0, 9]] * 17])
def test_what_is_no_polygon_or_too_many_is_none(polygons):
  assert masks.from_polygons(polygons, (9, 9)) is None


RIGHT = [20, 10, 40, 10, 40, 30, 20, 30]   # 20 x 20 pixels


def record(mask=(RIGHT,), **meta):
  return types.Record(
      id='r', question='Where?', answer='', answer_type='text',
      meta={'mask': mask, 'width': 100, 'height': 50, **meta})


def value(content, of=None, **options):
  text = content if isinstance(content, str) else json.dumps(content)
  said = types.Completion(f'<answer>{text}</answer>')
  found = masks.score(of or record(), [said], {}, **options)
  return found.total[0] if found.parsed[0] else None


RUNS = masks.to_runs(masks.from_polygons([RIGHT], (50, 100)))


@pytest.mark.parametrize('content, options, expected, why', [
    ([RIGHT], {}, 1.0, 'polygons'), (RIGHT, {}, 1.0, 'one polygon'),
    ([[20, 10], [40, 10], [40, 30], [20, 30]], {}, 1.0, 'one, of points'),
    ([[[20, 10], [40, 10], [40, 30], [20, 30]]], {}, 1.0, 'polygons of points'),
    ({'counts': RUNS}, {}, 1.0, 'run lengths'),
    ({'counts': RUNS, 'size': [50, 100]}, {}, 1.0, 'with a size'),
    ({'counts': RUNS, 'size': [100, 50]}, {}, None, 'another size'),
    ({'counts': RUNS, 'size': 5000}, {}, None, 'no size'),
    ({'counts': [10 ** 12], 'size': [10 ** 6, 10 ** 6]}, {}, None, 'a bomb'),
    ({'counts': RUNS[:-1]}, {}, None, 'a run short'),
    ({'size': [50, 100]}, {}, None, 'no counts'),
    ({'counts': 'PPYo1'}, {}, None, 'not of this image'),
    ([20, 10, 40, 10, 40, 20, 20, 20], {}, 2 / 3, 'half: Dice'),
    ([20, 10, 40, 10, 40, 20, 20, 20], {'metric': 'iou'}, 1 / 2, 'half: IoU'),
    ([0, 0, 100, 0, 100, 50, 0, 50], {'metric': 'iou'}, .08, 'the whole image'),
    ([200, 200, 400, 200, 400, 600, 200, 600], {'frame': '1000'}, 1.0, '1000'),
    ([.2, .2, .4, .2, .4, .6, .2, .6], {'frame': 'unit'}, 1.0, 'unit'),
    ([], {}, 0.0, 'no mask'), ('none', {}, None, 'a word'), ('', {}, None, ''),
    (f'```json\n{[RIGHT]}\n```', {}, 1.0, 'fenced'),
    ('[[20, 10, 40', {}, None, 'cut off'), ('"meta"', {}, None, 'a string'),
    ('{"mask": "gold"}', {}, None, 'asks for the right one'),
    ('null', {}, None, 'null'), ('1', {}, None, 'a number'),
    ('true', {}, None, 'a truth'), ('[NaN,1,2,3,4,5]', {}, None, 'NaN'),
])
def test_reward(content, options, expected, why):
  assert value(content, **options) == (
      None if expected is None else pytest.approx(expected)), why


@pytest.mark.parametrize('rows, expected', [
    (20, 3.), (17, 3.), (16, 2.), (15, 2.), (14, 1.), (11, 1.), (10, 0.)])
def test_steps_are_paid_above_the_threshold(rows, expected):
  # Ophiuchus: IoU > 0.8 -> 3, > 0.7 -> 2, > 0.5 -> 1; IoU is rows / 20.
  content = [20, 10, 40, 10, 40, 10 + rows, 20, 10 + rows]
  assert value(content, metric='iou', steps=((.5, 1), (.7, 2), (.8, 3))) == (
      expected)


@pytest.mark.parametrize('rows, steps, expected, why', [
    (18, ((.5, 2), (.8, 1)), 1., 'IoU 0.9: the greatest step, not the dearest'),
    (12, ((.5, 2), (.8, 1)), 2., 'IoU 0.6 reaches the first only'),
    (18, ((.8, 1), (.5, 2)), 1., 'in whatever order they stand'),
    (8, ((.5, 2), (.8, 1)), 0., 'IoU 0.4 reaches none'),
    (8, ((.1, -1), (.5, 2)), -1., 'a step may cost'),
])
def test_the_greatest_step_reached_counts(rows, steps, expected, why):
  content = [20, 10, 40, 10, 40, 10 + rows, 20, 10 + rows]
  assert value(content, metric='iou', steps=steps) == expected, why


def test_no_mask_is_right_where_there_is_none():
  assert value([], record(())) == 1.0
  assert value([RIGHT], record(())) == 0.0


def test_the_right_mask_is_the_records_alone():
  """A mask in the completion's signals or in the context changes nothing."""
  wrong = [[0, 0, 10, 0, 10, 10, 0, 10]]
  said = types.Completion(f'<answer>{wrong}</answer>',
                          signals={'mask': wrong, 'gold': wrong})
  context = {'mask': wrong, 'meta': {'mask': wrong}}
  found = masks.score(record(), [said], context)
  assert found.total == (0.0,)
  with pytest.raises(ValueError, match='cannot be read'):
    masks.score(record(None), [said], {'mask': wrong})


@pytest.mark.parametrize('of, options, message', [
    (record(width=0), {}, 'width'), (record(None), {}, 'cannot be read'),
    (record({'counts': [1, 2]}), {}, 'cannot be read'),
    (record(), {'metric': 'bce'}, "metric 'bce'"),
    (record(), {'frame': 'inch'}, "frame 'inch'")])
def test_a_wrong_record_or_option_raises(of, options, message):
  for content in ([RIGHT], 'nothing'):
    with pytest.raises(ValueError, match=message):
      value(content, of, **options)


def triangles(count):
  return str([[0, 0, 999, 0, 0, 999]] * count)


@pytest.mark.parametrize('content', [
    '[' * 60000, '[' * 30000 + ']' * 30000, '{"counts": "' + 'o' * 60000 + '"}',
    '{"counts": "' + '1' * 60000 + '"}', '[' + '1,' * 30000 + '1]',
    '{"counts": [' + '1,' * 30000 + '1]}', '9' * 60000, triangles(15),
    triangles(3000), str([[i % 7 * 99, i % 3 * 500] for i in range(2000)])])
def test_any_text_gives_a_number_soon(content):
  of = record(width=1000, height=1000)
  said = [types.Completion(f'<answer>{content}</answer>')]
  with soon.soon():
    found = masks.score(of, said, {})
  assert 0 <= found.total[0] <= 1
