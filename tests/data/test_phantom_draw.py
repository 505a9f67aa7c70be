import numpy as np
import pytest

from medrl.data import phantom_draw


def painted(image, x, y, a, b, angle, grey):
  """Longhand: every pixel of the picture by its own sum."""
  out = image.copy()
  for row in range(phantom_draw.SIZE):
    for column in range(phantom_draw.SIZE):
      u, v = column + .5 - x, row + .5 - y
      along = u * np.cos(angle) + v * np.sin(angle)
      across = v * np.cos(angle) - u * np.sin(angle)
      radius = np.hypot(along / a, across / b)
      weight = min(max((1 - radius) * min(a, b) + .5, 0), 1)
      out[row, column] += weight * (grey - out[row, column])
  return out


@pytest.mark.parametrize('ellipse', [
    (40.2, 61.7, 12., 9., .6, 210.), (56., 57., 52., 43., 0., 90.),
    (3., 110., 9., 2., 2.5, 50.),     # cut by the border
    (50., 50., 6., .4, 1., 255.),     # thinner than a pixel
    (-30., 50., 8., 8., 0., 255.),    # outside
])
def test_only_what_is_near_is_painted_and_all_of_it(ellipse):
  image = np.random.default_rng(0).uniform(0, 255, (112, 112))
  wanted = painted(image, *ellipse)
  phantom_draw.paint(image, *ellipse)
  np.testing.assert_allclose(image, wanted, atol=1e-9)


def test_grain_is_that_of_its_seed():
  flat = np.full((112, 112), 100.)
  one = phantom_draw.grain(flat, 6., (1, 2, 3))
  assert one.dtype == np.uint8
  # 4 standard errors of the mean and of the deviation of 12,544 pixels.
  assert abs(one.mean() - 100) < .25 and abs(one.std() - 6) < .2
  np.testing.assert_array_equal(one, phantom_draw.grain(flat, 6., (1, 2, 3)))
  assert (one != phantom_draw.grain(flat, 6., (1, 2, 4))).any()
  np.testing.assert_array_equal(phantom_draw.grain(flat, 0., (1,)), flat)
