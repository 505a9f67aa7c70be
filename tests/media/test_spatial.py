"""Against Pillow, NumPy and the parser of boxes, and properties of thousands.

Sizes, boxes and chains of transforms are drawn from seeds.
"""

import numpy as np
from PIL import Image
import pytest

from medrl.media import masks
from medrl.media import spatial
from medrl.rewards import points as point_rules
from medrl.rewards.parse import boxes as parse

FRAMES = tuple(spatial.EXTENTS)


def draw_boxes(rng, size, n=50, least=0.):
  """Boxes inside of an image, of floats, of `least` pixels a side or more."""
  low = rng.random((n, 2)) * (np.array(size) - least)
  high = low + least + rng.random((n, 2)) * (np.array(size) - least - low)
  return np.concatenate([low, high], 1)


def draw_size(rng, most=4000):
  return tuple(float(v) for v in np.exp(
      rng.uniform(np.log(2), np.log(most), 2)).astype(int))


def draw_step(rng, size):
  """One transform of an image, and the same done to pixels by others."""
  w, h = map(int, size)
  kind = rng.integers(6)
  if kind == 0:
    target = tuple(float(v) for v in rng.integers(1, 90, 2))
    return spatial.resize(size, target)
  if kind == 1:
    x1, y1 = int(rng.integers(w)), int(rng.integers(h))
    return spatial.crop(size, (x1, y1, int(rng.integers(x1, w)) + 1,
                               int(rng.integers(y1, h)) + 1))
  if kind == 2:
    return spatial.pad(size, *map(int, rng.integers(0, 9, 4)))
  if kind == 3:
    return spatial.letterbox(size, draw_size(rng, 90))
  if kind == 4:
    return spatial.flip(size, ('horizontal', 'vertical')[rng.integers(2)])
  return spatial.rotate(size, int(rng.integers(-4, 5)))


def draw_chain(rng, size, length=6):
  steps = []
  for _ in range(int(rng.integers(1, length + 1))):
    steps.append(draw_step(rng, steps[-1].target if steps else size))
  return steps


def inside_all(steps, points):
  """Whether points of the last image lie in every image on the way back."""
  seen = np.ones(points.shape[:-1], bool)
  for step in reversed(steps):
    points = spatial.apply_points(spatial.inverse(step), points)
    near = points + 1e-7
    seen &= ((near >= 0) & (near < np.array(step.source))).all(-1)
  return seen


# Frames.

def test_a_box_in_every_frame():
  size = (400., 200.)
  box = {'pixel': [100, 50, 400, 200], 'unit': [.25, .25, 1, 1],
         '999': [249.75, 249.75, 999, 999], '1000': [250, 250, 1000, 1000],
         '224': [56, 56, 224, 224]}
  for source in FRAMES:
    for target in FRAMES:
      np.testing.assert_allclose(
          spatial.convert([box[source]], source, target, size), [box[target]],
          rtol=1e-14)
  np.testing.assert_allclose(
      spatial.convert([[100, 50]], 'pixel', '1000', size), [[250, 250]])


def test_quanta_are_what_a_step_is_in_pixels():
  assert spatial.quantum('999', (3996, 999)) == (4., 1.)
  assert spatial.quantum('unit', (10000, 500)) == (1., .05)
  assert spatial.quantum('pixel', (4000, 30)) == (1., 1.)


@pytest.mark.parametrize('frame', FRAMES)
def test_a_written_box_comes_back_within_half_a_step(frame):
  """Half a pixel where a step is at most a pixel; else half of the step.

  Boxes are of two steps a side or more, so no edges fall together.
  """
  worst = 0.
  for seed in range(200):
    rng = np.random.default_rng(seed)
    size = draw_size(rng)
    quantum = np.array(spatial.quantum(frame, size))
    least = np.minimum(2 * quantum, np.array(size) * .9)
    if (2 * quantum > least).any():
      continue
    boxes = draw_boxes(rng, size, least=least)
    text = spatial.written(
        spatial.convert(boxes, 'pixel', frame, size), 'list', frame)
    back = np.array(parse.boxes(text, frame, size).value)
    gap = np.abs(back - boxes) / np.tile(quantum, 2)
    worst = max(worst, gap.max())
    assert gap.max() <= .5 + 1e-9
    assert (np.abs(back - boxes) <= np.tile(
        np.maximum(quantum, 1), 2) / 2 + 1e-6).all()
  assert worst > .49   # the bound is no looser than it needs to be


@pytest.mark.parametrize('frame', FRAMES)
def test_small_boxes_keep_an_area_and_move_by_a_step_at_most(frame):
  for seed in range(100):
    rng = np.random.default_rng(seed)
    size = draw_size(rng)
    boxes = draw_boxes(rng, size, n=100)
    boxes[:, 2:] = np.minimum(
        boxes[:, :2] + rng.random((100, 2)) * 2 + 1e-3, size)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2] > 1e-4).all(1)]
    text = spatial.written(
        spatial.convert(boxes, 'pixel', frame, size), 'list', frame)
    back = np.array(parse.boxes(text, frame, size).value)   # refuses no area
    step = np.tile(spatial.quantum(frame, size), 2)
    assert (np.abs(back - boxes) <= step * (1 + 1e-9)).all()


def test_a_step_of_four_pixels_is_why_half_a_pixel_is_impossible():
  size = (3996., 3996.)
  box = np.array([[402., 402., 802., 802.]])   # halfway between two steps
  back = spatial.convert(spatial.rounded(
      spatial.convert(box, 'pixel', '999', size), '999'), '999', 'pixel', size)
  assert np.abs(back - box).max() == pytest.approx(2.)


# Text.

@pytest.mark.parametrize('form', spatial.FORMS)
@pytest.mark.parametrize('frame', FRAMES)
@pytest.mark.parametrize('n', (0, 1, 3))
def test_what_is_written_is_what_is_read(form, frame, n):
  rng = np.random.default_rng(n)
  size = (640., 480.)
  boxes = spatial.convert(
      draw_boxes(rng, size, n, least=20.), 'pixel', frame, size)
  text = spatial.written(boxes, form, frame)
  found = parse.boxes(text, frame)
  np.testing.assert_allclose(
      np.array(found.value).reshape(-1, 4), spatial.rounded(boxes, frame)
      if n else np.zeros((0, 4)), rtol=0, atol=1e-12)


def test_forms_are_those_of_the_data_sets():
  boxes = [[12.4, 30.5, 200, 399], [0, 0, 5, 5]]
  assert spatial.written(boxes, 'box', '999') == (
      '<box>[[12, 31, 200, 399], [0, 0, 5, 5]]</box>')
  assert spatial.written(boxes[:1], 'qwen', 'pixel') == (
      '<|box_start|>(12,31),(200,399)<|box_end|>')
  assert spatial.written(boxes[1:], 'location', '224') == (
      '<location> [[0, 0, 5, 5]]')
  assert spatial.written([[.5, .25, 1, 1]], 'list', 'unit') == (
      '[[0.5000, 0.2500, 1.0000, 1.0000]]')


def test_points_are_written_as_they_are_read():
  text = spatial.written([[3.5, 4.2], [10, 0]], 'list', 'pixel')
  assert text == '[[4, 4], [10, 0]]'
  assert point_rules.read(text).value == ((4., 4.), (10., 0.))


@pytest.mark.parametrize('values,form,frame', [
    ([[0, 0, 2, 2]], 'list', 'unit'), ([[0, 0, 0, 2]], 'list', 'pixel'),
    ([[-1, 0, 2, 2]], 'list', 'pixel'), ([[0, 0, np.nan, 2]], 'list', 'pixel'),
    ([[1, 1]], 'box', 'pixel'), ([[0, 0, 2, 2]], 'tag', 'pixel'),
    ([[0, 0, 2, 2]], 'list', '512'), ([0, 0, 2, 2], 'list', 'pixel'),
    ([[0, 0, 2]], 'list', 'pixel')])
def test_what_no_parser_would_read_is_not_written(values, form, frame):
  with pytest.raises(ValueError):
    spatial.written(values, form, frame)


# Transforms.

def test_points_and_boxes_survive_random_chains_both_ways():
  count = 0
  for seed in range(1500):
    rng = np.random.default_rng(seed)
    size = draw_size(rng, 60)
    steps = draw_chain(rng, size)
    whole = spatial.compose(*steps)
    boxes = draw_boxes(rng, size, 10)
    one_by_one, points = boxes, boxes[:, :2]
    for step in steps:
      one_by_one = spatial.apply_boxes(step, one_by_one)
      points = spatial.apply_points(step, points)
    moved = spatial.apply_boxes(whole, boxes)
    np.testing.assert_allclose(moved, one_by_one, atol=1e-7)
    np.testing.assert_allclose(
        spatial.apply_points(whole, boxes[:, :2]), points, atol=1e-7)
    back = spatial.inverse(whole)
    assert (back.source, back.target) == (whole.target, whole.source)
    np.testing.assert_allclose(
        spatial.apply_boxes(back, moved), boxes, atol=1e-6)
    np.testing.assert_allclose(
        spatial.apply_points(back, points), boxes[:, :2], atol=1e-6)
    count += len(boxes)
  assert count == 15000


def test_a_mask_takes_the_value_at_its_pixels_centres():
  """Longhand, pixel by pixel, through random chains."""
  for seed in range(120):
    rng = np.random.default_rng(seed)
    size = draw_size(rng, 24)
    w, h = map(int, size)
    steps = draw_chain(rng, size)
    whole = spatial.compose(*steps)
    labels = rng.integers(1, 200, (h, w), dtype=np.uint8)
    moved = spatial.apply_mask(whole, labels)
    assert moved.dtype == labels.dtype
    assert moved.shape[::-1] == whole.target
    ys, xs = np.indices(moved.shape)
    seen = inside_all(steps, np.stack([xs + .5, ys + .5], -1))
    at = spatial.apply_points(spatial.inverse(whole),
                              np.stack([xs + .5, ys + .5], -1))
    for y, x in zip(ys.ravel(), xs.ravel()):
      u, v = np.floor(at[y, x] + 1e-7).astype(int)
      inside = bool(seen[y, x])
      assert not inside or 0 <= u < w and 0 <= v < h
      assert moved[y, x] == (labels[v, u] if inside else 0)


def test_masks_and_boxes_go_the_same_way_within_half_a_pixel():
  """A box of pixels, as a mask and as a box, through chains and back."""
  checked = 0
  for seed in range(1500):
    rng = np.random.default_rng(seed)
    size = draw_size(rng, 120)
    whole = spatial.compose(*draw_chain(rng, size, 4))
    w, h = map(int, size)
    x1, y1 = int(rng.integers(w)), int(rng.integers(h))
    box = np.array([x1, y1, rng.integers(x1, w) + 1, rng.integers(y1, h) + 1])
    mask = np.zeros((h, w), bool)
    mask[box[1]:box[3], box[0]:box[2]] = True
    moved = spatial.apply_boxes(whole, box)
    cut, _ = spatial.clipped(moved, spatial.visible(whole))
    found = masks.box(spatial.apply_mask(whole, mask))
    if found is None:    # it lies between centres: narrower than a pixel
      assert (cut[2:] - cut[:2]).min() <= 1 + 1e-6
      continue
    assert np.abs(found - cut).max() <= .5 + 1e-6
    back = spatial.inverse(whole)
    again = masks.box(spatial.apply_mask(
        back, spatial.apply_mask(whole, mask)))
    if again is not None and (cut == moved).all():
      # Half a pixel of either grid, in pixels of the source.
      step = np.abs(np.array(back.scale))
      assert (np.abs(again - box) <= np.tile(step / 2 + .5, 2) + 1e-6).all()
      checked += 1
  assert checked > 500


def test_a_mask_returns_from_larger_grids_unchanged():
  for seed in range(300):
    rng = np.random.default_rng(seed)
    size = draw_size(rng, 40)
    w, h = map(int, size)
    mask = rng.random((h, w)) < .3
    larger = tuple(s + float(rng.integers(0, 60)) for s in size)
    steps = [spatial.resize(size, larger)]
    steps.append(spatial.rotate(larger, int(rng.integers(4))))
    steps.append(spatial.pad(steps[-1].target, 3, 0, 5, 1))
    steps.append(spatial.flip(steps[-1].target, 'vertical'))
    whole = spatial.compose(*steps)
    back = spatial.apply_mask(spatial.inverse(whole),
                              spatial.apply_mask(whole, mask))
    np.testing.assert_array_equal(back, mask)


def test_padding_does_not_bring_back_what_a_crop_cut_away():
  whole = spatial.compose(spatial.crop((10, 10), (4, 4, 6, 6)),
                          spatial.pad((2, 2), 4, 4, 4, 4))
  moved = spatial.apply_mask(whole, np.ones((10, 10), bool))
  assert moved.sum() == 4 and moved[4:6, 4:6].all()
  assert spatial.visible(whole).tolist() == [4, 4, 6, 6]
  cut, keep = spatial.clipped([[0, 0, 10, 5]], spatial.visible(whole))
  assert cut.tolist() == [[4, 4, 6, 5]] and keep.all()
  assert spatial.inverse(spatial.inverse(whole)) == whole
  nothing = spatial.compose(whole, spatial.crop((10, 10), (0, 0, 2, 2)))
  assert not spatial.apply_mask(nothing, np.ones((10, 10), bool)).any()


def test_flips_turns_crops_and_pads_are_those_of_numpy():
  rng = np.random.default_rng(0)
  image = rng.integers(0, 255, (7, 11, 3), dtype=np.uint8)
  size = (11, 7)
  same = np.testing.assert_array_equal
  apply = spatial.apply_mask
  same(apply(spatial.flip(size, 'horizontal'), image), image[:, ::-1])
  same(apply(spatial.flip(size, 'vertical'), image), image[::-1])
  for quarters in range(-3, 5):
    same(apply(spatial.rotate(size, quarters), image),
         np.rot90(image, quarters))
  same(apply(spatial.crop(size, (2, 1, 9, 6)), image), image[1:6, 2:9])
  same(apply(spatial.pad(size, 1, 2, 3, 4), image),
       np.pad(image, ((2, 4), (1, 3), (0, 0))))


@pytest.mark.parametrize('target', [(22, 14), (5, 3), (11, 7), (100, 1)])
def test_resizing_is_that_of_pillow(target):
  labels = np.random.default_rng(0).integers(0, 255, (7, 11), dtype=np.uint8)
  np.testing.assert_array_equal(
      spatial.apply_mask(spatial.resize((11, 7), target), labels),
      np.asarray(Image.fromarray(labels).resize(
          target, Image.Resampling.NEAREST)))


def test_a_letterbox_keeps_the_ratio_and_the_middle():
  way = spatial.letterbox((100, 50), (64, 64))
  np.testing.assert_allclose(
      spatial.apply_boxes(way, [0, 0, 100, 50]), [0, 16, 64, 48])
  assert spatial.letterbox((1, 1000), (64, 64)).scale[0] == 1.   # not nothing


def test_a_box_follows_a_processor_that_resizes():
  way = spatial.of_smart_resize(480, 640, 476, 644)
  np.testing.assert_allclose(
      spatial.apply_boxes(way, [[320, 240, 640, 480]]), [[322, 238, 644, 476]])
  assert spatial.apply_mask(way, np.ones((480, 640), bool)).shape == (476, 644)


def test_boxes_are_cut_and_small_rests_are_dropped():
  boxes = [[-10, -10, 5, 5], [90, 90, 130, 130], [99.5, 0, 120, 1],
           [200, 0, 210, 9], [5, 5, 5, 9]]
  cut, keep = spatial.clipped(boxes, (100, 100))
  np.testing.assert_allclose(cut[:2], [[0, 0, 5, 5], [90, 90, 100, 100]])
  assert keep.tolist() == [True, True, False, False, False]
  assert spatial.clipped(boxes, (100, 100), least=0.)[1].tolist() == [
      True, True, True, False, False]
  assert spatial.clipped(boxes, (100, 100), share=.1)[1].tolist() == [
      True, False, False, False, False]
  assert spatial.clipped(np.zeros((0, 4)), (9, 9))[1].shape == (0,)


@pytest.mark.parametrize('call', [
    lambda: spatial.convert([[1, 2, 3]], 'pixel', 'unit', (9, 9)),
    lambda: spatial.convert([[1, 2]], 'pixel', 'percent', (9, 9)),
    lambda: spatial.convert([[1, 2]], 'unit', '999', (0, 9)),
    lambda: spatial.quantum('percent', (9, 9)),
    lambda: spatial.crop((9, 9), (1.5, 0, 3, 3)),
    lambda: spatial.crop((9, 9), (3, 0, 3, 3)),
    lambda: spatial.flip((9, 9), 'both'),
    lambda: spatial.compose(),
    lambda: spatial.compose(spatial.resize((9, 9), (5, 5)),
                            spatial.flip((9, 9), 'vertical')),
    lambda: spatial.apply_mask(spatial.flip((9, 8), 'vertical'),
                               np.zeros((9, 8))),
    lambda: spatial.apply_mask(spatial.resize((9, 8), (2.5, 2)),
                               np.zeros((8, 9))),
    lambda: spatial.apply_boxes(spatial.flip((9, 9), 'vertical'), [[1, 2]]),
])
def test_what_makes_no_sense_is_refused(call):
  with pytest.raises(ValueError):
    call()
