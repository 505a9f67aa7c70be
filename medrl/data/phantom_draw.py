"""What phantom pictures are made of: soft ellipses, an abdomen, and grain.

It draws what it is told to, in pixels and grey levels, and knows no state.
"""

from collections.abc import Iterable
import math
from typing import Any

import numpy as np

SIZE = 112                               # pixels a side
BODY = (56., 57., 52., 43.)              # x, y and semi-axes in pixels
_FLESH, _SPINE, _CANAL = 90., 225., 70.  # grey levels


def anatomy(organs: Iterable[Any]) -> np.ndarray:
  """The slice without lesions or noise: grey levels, float64 [112, 112].

  Args:
    organs: upright ellipses with x, y, a, b and grey, as `phantom_world.Organ`.
  """
  image = np.zeros((SIZE, SIZE), np.float64)
  paint(image, *BODY, 0., _FLESH)
  for organ in organs:
    paint(image, organ.x, organ.y, organ.a, organ.b, 0., organ.grey)
  paint(image, 56, 84, 8, 7, 0., _SPINE)
  paint(image, 56, 94, 3, 3, 0., _CANAL)
  return image


def grain(image: np.ndarray, noise: float, stream: tuple) -> np.ndarray:
  """The image with noise of a seed, as uint8; grey levels, same shape."""
  rng = np.random.default_rng(stream)
  noisy = image + rng.normal(0., 1., image.shape) * noise
  return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


def paint(image: np.ndarray, x, y, a, b, angle, grey) -> None:
  """Blends an ellipse into the image, its edge about one pixel soft."""
  # All beyond this is left as it is: the edge ends half a pixel outside.
  reach = max(a, b) * (1 + .5 / min(a, b)) + 1
  top, bottom, left, right = (
      min(max(int(at), 0), SIZE) for at in (
          y - reach, y + reach + 1, x - reach, x + reach + 1))
  part = image[top:bottom, left:right]
  v, u = (axis + .5 for axis in np.ogrid[top:bottom, left:right])
  c, s = math.cos(angle), math.sin(angle)
  along, across = (u - x) * c + (v - y) * s, (v - y) * c - (u - x) * s
  radius = np.hypot(along / a, across / b)
  weight = np.clip((1 - radius) * min(a, b) + .5, 0, 1)
  part += weight * (grey - part)
