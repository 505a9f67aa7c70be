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
  for organ in pw.world(0, 0).organs:
    assert (organ.x < pw.SIZE / 2) == (pw.SIDES[organ.name] == 'right')
  assert pw.SIDES['liver'] == 'right' and pw.SIDES['spleen'] == 'left'


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
  sizes = {round(pw.pixels(s, l)) for s in (
      pw.world(0, i, hard) for i in range(100)) for l in s.lesions}
  assert sizes == set(range(6, 12))


@pytest.mark.parametrize('fields', [
    {'smallest': 20}, {'smallest': 12, 'largest': 10}, {'contrast': 200.},
    {'noise': -1.}])
def test_impossible_difficulty(fields):
  with pytest.raises(ValueError, match='expected'):
    pw.Difficulty(**fields)
