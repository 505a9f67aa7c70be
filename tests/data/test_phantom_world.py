import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage

from medrl.data import phantom_world as pw

QUIET = pw.Difficulty(noise=0.)


def shape(state, time=0):
  """What a lesion adds to a picture without noise: bool [112, 112]."""
  empty = dataclasses.replace(state, lesions=())
  change = pw.draw(state, time).astype(int) - pw.draw(empty, time)
  return change[:, :, 0] > state.contrast / 2


@pytest.mark.parametrize('index', range(12))
def test_state_is_what_is_seen(index):
  state = pw.world(3, index, QUIET)
  labels, count = ndimage.label(shape(state))
  assert count == len(state.lesions)
  for lesion in state.lesions:
    mask = labels == labels[int(lesion.y), int(lesion.x)]
    rows, columns = np.nonzero(mask)
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(pw.box(state, lesion), seen, atol=1)
    # A filled ellipse of semi-axis a has the variance a^2 / 4 along it.
    spread = np.linalg.eigvalsh(np.cov(columns, rows))
    np.testing.assert_allclose(
        4 * np.sqrt(spread) * state.spacing, [lesion.short, lesion.long],
        atol=1.5 * state.spacing)
    organ = next(o for o in state.organs if o.name == lesion.organ)
    inside = np.hypot((columns + .5 - organ.x) / organ.a,
                      (rows + .5 - organ.y) / organ.b)
    assert inside.max() < 1.1


def test_change_is_what_is_seen():
  areas = {}
  for index in range(150):
    state = pw.world(0, index, QUIET)
    if len(state.lesions) == 1:
      ratio = shape(state, 0).sum() / shape(state, 1).sum()
      areas.setdefault(state.change, []).append(ratio)
  expected = {'grew': pw.FACTOR ** 2, 'shrank': pw.FACTOR ** -2, 'unchanged': 1}
  assert areas.keys() == expected.keys()
  for change, ratios in areas.items():
    np.testing.assert_allclose(ratios, expected[change], rtol=.25)


def test_image_left_is_patient_right():
  sides = {'liver': 'right', 'spleen': 'left', 'right kidney': 'right',
           'left kidney': 'left'}
  for organ in pw.world(0, 0).organs:
    assert (organ.x < pw.SIZE / 2) == (sides[organ.name] == 'right')
  for index in range(50):
    state = pw.world(0, index)
    for lesion in state.lesions:
      assert pw.side(state, lesion) == sides[lesion.organ]


def test_same_seed_same_world_and_image():
  state = pw.world(1, 2)
  assert state == pw.world(1, 2) != pw.world(2, 1)
  image = pw.draw(state, 0)
  assert image.shape == (112, 112, 3) and image.dtype == np.uint8
  np.testing.assert_array_equal(image, pw.draw(pw.world(1, 2), 0))
  assert (image != pw.draw(state, 1)).any()  # another study, other noise
  np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_state_survives_json():
  for index in range(5):
    state = pw.world(0, index)
    text = json.dumps(dataclasses.asdict(state))
    assert pw.from_dict(json.loads(text)) == state


def test_sizes_keep_to_the_range():
  hard = pw.Difficulty(smallest=6, largest=11)
  sizes = {round(pw.pixels(s, x)) for s in (
      pw.world(0, i, hard) for i in range(100)) for x in s.lesions}
  assert sizes == set(range(6, 12))


@pytest.mark.parametrize('fields', [
    {'smallest': 20}, {'smallest': 12, 'largest': 10}, {'contrast': 200.},
    {'noise': -1.}])
def test_impossible_difficulty(fields):
  with pytest.raises(ValueError, match='expected'):
    pw.Difficulty(**fields)


def test_a_hasty_reader_errs_as_described():
  seen = 0
  for index in range(200):
    state = pw.world(0, index)
    small = [pw.pixels(state, x) < pw.OVERLOOKED
             for x in state.lesions]
    counted = pw.misread(state, 'count')
    assert len(counted.lesions) == small.count(False)
    asked = pw.misread(state, 'side')
    assert len(asked.lesions) == (small.count(False) or min(1, len(small)))
    boxed = pw.misread(state, 'box')
    for lesion in state.lesions:
      places = [x for x in asked.lesions if (x.x, x.y) == (lesion.x, lesion.y)]
      for wrong in places:
        seen += 1
        assert pw.side(asked, wrong) != pw.side(
            state, lesion)
        # Pixels are right, and taken for millimetres.
        assert wrong.long == pytest.approx(pw.pixels(state, lesion))
        assert (wrong.organ == lesion.organ) == ('kidney' not in lesion.organ)
      for wide in boxed.lesions:
        if (wide.x, wide.y) == (lesion.x, lesion.y):
          x1, _, x2, _ = pw.box(state, lesion)
          u1, _, u2, _ = pw.box(boxed, wide)
          assert (u2 - u1) / (x2 - x1) == pytest.approx(
              pw.LOOSE, abs=2.1 / (x2 - x1))   # both are rounded
  assert seen > 100
