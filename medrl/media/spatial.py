"""Boxes, points and masks moved exactly between frames and through resizes.

One convention everywhere, that of `data.phantom_world`: coordinates are of
pixel edges, so an image of w pixels spans 0 to w, x2 and y2 of a box are
exclusive, and the centre of pixel i lies at i + 0.5. Sizes are (width, height),
arrays of points [.., 2] are (x, y) and of boxes [.., 4] (x1, y1, x2, y2).

Floats are moved without rounding. What is written is rounded to steps of its
frame, so it comes back within half a step: half a pixel where a step is a pixel
at most, and otherwise half of `quantum` (a 0-999 step in 4,000 pixels is 4).
A mask is resampled at pixel centres, so its outline moves by half a pixel of
the new grid at most, once: `compose` transforms first and apply the whole.

What makes no sense (an unknown frame, an empty size or crop, arrays of another
shape) is a ValueError everywhere. Not here: text to boxes
(`rewards.parse.boxes`), masks to boxes (`masks`), and pixels of images, which
are resampled where they are resized.
"""

from collections.abc import Sequence
import dataclasses
import math

import numpy as np

Size = tuple[float, float]

# What 1 side of an image is in each frame; None stands for its pixels.
EXTENTS = {'pixel': None, 'unit': 1., '999': 999., '1000': 1000., '224': 224.}
# Decimals of what is written: four of 'unit' are a pixel in images of 10,000.
DIGITS = {'pixel': 0, 'unit': 4, '999': 0, '1000': 0, '224': 0}
FORMS = ('list', 'box', 'qwen', 'location')
# Noise of the arithmetic, and no distance: it must not decide on which side of
# an edge a centre falls, nor push a box out of its frame.
_SLACK = 1e-7


def extent(frame: str, size: Size) -> Size:
  """What an image of `size` pixels spans, across and down, in a frame."""
  if frame not in EXTENTS:
    raise ValueError(f'frame {frame!r}: expected one of {", ".join(EXTENTS)}')
  side = EXTENTS[frame]
  return _size(size if side is None else (side, side))


def convert(values, source: str, target: str, size: Size) -> np.ndarray:
  """Boxes [.., 4] or points [.., 2] of one frame in another, as float64.

  Nothing is rounded or clipped. Frames are 'pixel' (of the image of `size`),
  'unit' (0 to 1), '999' (0 to 999, MedRegInstruct), '1000' (Qwen3-VL, Gemma)
  and '224' (GEMeX), each from edge to edge of the image. Pixels of the image as
  a processor has resized it (Qwen2.5-VL) are `apply_boxes` of
  `of_smart_resize`.
  """
  _size(size)
  values = _coordinates(values)
  before, after = (np.tile(extent(frame, size), values.shape[-1] // 2)
                   for frame in (source, target))
  return values / before * after   # in this order the far edge stays exact


def quantum(frame: str, size: Size) -> Size:
  """Pixels, across and down, between two values that `written` can write."""
  across, down = extent(frame, size)
  step = 10. ** -DIGITS[frame]
  return size[0] / across * step, size[1] / down * step


def rounded(values, frame: str) -> np.ndarray:
  """Values of a frame, [.., 2] or [.., 4], to its steps; halves go up.

  Where both edges of a box fall on one step, the edge that is nearer to the
  next step is moved there, by one step at most: a box keeps an area, and
  reads as a box. All else moves by half a step at most.
  """
  scale = 10. ** DIGITS[frame]
  exact = _coordinates(values) * scale
  steps = np.floor(exact + .5)
  if steps.shape[-1] == 4:
    low, high = steps[..., :2], steps[..., 2:]
    flat = low == high
    middle = (exact[..., :2] + exact[..., 2:]) / 2
    # At the far end of the frame there is no room above.
    up = flat & (middle >= low) & (low < (EXTENTS[frame] or math.inf) * scale)
    high[up] = low[up] + 1
    low[flat & ~up] = high[flat & ~up] - 1
  return steps / scale


def written(values, form: str, frame: str) -> str:
  """Text of boxes [n, 4], or of points [n, 2], of a frame.

    list      [[x1, y1, x2, y2], ..]; points are written so too
    box       <box>[[x1, y1, x2, y2], ..]</box>, MedRegInstruct (999)
    qwen      <|box_start|>(x1,y1),(x2,y2)<|box_end|> for each, MedSG-Bench
    location  <location> [[x1, y1, x2, y2], ..], GEMeX (224)

  Numbers are `rounded`: integers, in 'unit' four decimals. None is '[]', in
  a location after its tag: an empty tag is not read as no box. What lies
  outside of its frame is refused; `clipped` cuts it.
  """
  values = np.asarray(values, np.float64)
  values = values.reshape(-1, 4) if not values.size else _coordinates(values)
  if form not in FORMS or frame not in EXTENTS:
    raise ValueError(f'form {form!r}, frame {frame!r}; expected one of '
                     f'{", ".join(FORMS)} and of {", ".join(EXTENTS)}')
  if values.ndim != 2 or values.shape[1] == 2 and form != 'list':
    raise ValueError(f'values of shape {values.shape} in form {form!r}; '
                     'expected [n, 4], or [n, 2] in form list')
  _check_inside(values, frame)
  rows = [[f'{v:.{DIGITS[frame]}f}' for v in row]
          for row in rounded(values, frame).tolist()]
  plain = f'[{", ".join("[" + ", ".join(row) + "]" for row in rows)}]'
  if form == 'location':
    return f'<location> {plain}'
  if form == 'list' or not rows:
    return plain
  if form == 'box':
    return f'<box>{plain}</box>'
  return ''.join(f'<|box_start|>({a},{b}),({c},{d})<|box_end|>'
                 for a, b, c, d in rows)


def _check_inside(values: np.ndarray, frame: str) -> None:
  end = EXTENTS[frame] or math.inf
  good = (np.isfinite(values) & (values >= -_SLACK)
          & (values <= end + _SLACK)).all(-1)
  if values.shape[1] == 4:
    good &= (values[:, :2] < values[:, 2:]).all(-1)
  if not good.all():
    raise ValueError(
        f'{values[~good][0].tolist()} is not in frame {frame!r}; expected 0 to '
        f'{end}, for a box x1 < x2 and y1 < y2; cut it with `clipped`')


def clipped(boxes, area: Sequence[float], least: float = 1.,
            share: float = 0.) -> tuple[np.ndarray, np.ndarray]:
  """Boxes [n, 4] cut to an image, and which of them are worth keeping [n].

  Args:
    boxes: in pixels.
    area: (width, height) of the image, or (x1, y1, x2, y2) of a part of it,
      such as `visible` gives.
    least: a box is kept if at least this area is left of it, and any at all.
    share: and at least this share of its own area.
  """
  boxes = _coordinates(boxes, 4)
  area = tuple(area) if len(area) == 4 else (0., 0., *_size(area))
  cut = np.clip(boxes, np.tile(area[:2], 2), np.tile(area[2:], 2))
  left, whole = (np.prod(np.maximum(b[..., 2:] - b[..., :2], 0.), -1)
                 for b in (cut, boxes))
  return cut, (left > 0) & (left >= least) & (left >= share * whole)


@dataclasses.dataclass(frozen=True)
class Transform:
  """Where the points of an image go: `scale * (x, y) + offset` in pixels.

  `source` and `target` are (width, height) before and after; where `swap`, x
  and y change places first. `window` (x1, y1, x2, y2) is the part of the source
  that no crop has cut away, by default all: padding after a crop does not
  bring it back. Made by the functions below.
  """
  scale: tuple[float, float]
  offset: tuple[float, float]
  source: Size
  target: Size
  swap: bool = False
  window: tuple[float, ...] = ()

  def __post_init__(self):
    object.__setattr__(self, 'window', self.window or (0., 0., *self.source))


def resize(size: Size, target: Size) -> Transform:
  """The whole image to another size; its edges meet the new edges.

  That is what Pillow, OpenCV and torch (align_corners False) do.
  """
  size, target = _size(size), _size(target)
  return Transform((target[0] / size[0], target[1] / size[1]), (0., 0.), size,
                   target)


def of_smart_resize(height: int, width: int, new_height: int,
                    new_width: int) -> Transform:
  """`resize` to the size that a processor chose, in the order it gives it."""
  return resize((width, height), (new_width, new_height))


def crop(size: Size, box: Sequence[int]) -> Transform:
  """The part (x1, y1, x2, y2) in whole pixels; it may reach over the image."""
  x1, y1, x2, y2 = box
  if any(v != math.floor(v) for v in box) or x2 <= x1 or y2 <= y1:
    raise ValueError(f'crop {tuple(box)}: expected whole pixels, x1 < x2 and '
                     'y1 < y2')
  size = _size(size)
  return Transform((1., 1.), (-float(x1), -float(y1)), size,
                   (float(x2 - x1), float(y2 - y1)),
                   window=_common((0., 0., *size), (x1, y1, x2, y2)))


def pad(size: Size, left: int, top: int, right: int, bottom: int) -> Transform:
  """So many whole pixels more on each side; fewer where negative."""
  return crop(size, (-left, -top, size[0] + right, size[1] + bottom))


def letterbox(size: Size, target: Size) -> Transform:
  """As large as fits into `target` with the sides' ratio kept, in the middle.

  Sides are rounded to whole pixels, an odd pixel of padding goes to the right
  and bottom. Both axes then differ in scale by less than a pixel's worth.
  """
  size, target = _size(size), _size(target)
  ratio = min(target[0] / size[0], target[1] / size[1])
  inner = tuple(min(max(1, math.floor(side * ratio + .5)), int(most))
                for side, most in zip(size, target))
  left, top = (int(most - side) // 2 for side, most in zip(inner, target))
  return compose(resize(size, inner), crop(
      inner, (-left, -top, target[0] - left, target[1] - top)))


def flip(size: Size, axis: str) -> Transform:
  """Mirrored: 'horizontal' reverses x, 'vertical' y.

  Left and right of a patient change too; boxes follow, words do not.
  """
  if axis not in ('horizontal', 'vertical'):
    raise ValueError(f"axis {axis!r}: expected 'horizontal' or 'vertical'")
  size = _size(size)
  if axis == 'horizontal':
    return Transform((-1., 1.), (size[0], 0.), size, size)
  return Transform((1., -1.), (0., size[1]), size, size)


def rotate(size: Size, quarters: int) -> Transform:
  """Turned anticlockwise by `quarters` of a full turn, as `np.rot90`."""
  width, height = size = _size(size)
  scale, offset = (
      ((1., 1.), (0., 0.)), ((1., -1.), (0., width)),
      ((-1., -1.), (width, height)), ((-1., 1.), (height, 0.)))[quarters % 4]
  swap = quarters % 2 == 1
  return Transform(scale, offset, size, _swapped(size, swap), swap)


def compose(*transforms: Transform) -> Transform:
  """One after the other, each from the size that the one before ended with."""
  if not transforms:
    raise ValueError('no transform; expected at least one')
  first, *others = transforms
  for second in others:
    if second.source != first.target:
      raise ValueError(f'a transform from {second.source} after one to '
                       f'{first.target}; expected the same size')
    scale, offset = (_swapped(v, second.swap)
                     for v in (first.scale, first.offset))
    left = apply_boxes(inverse(first), second.window).tolist()
    first = Transform(
        (second.scale[0] * scale[0], second.scale[1] * scale[1]),
        (second.scale[0] * offset[0] + second.offset[0],
         second.scale[1] * offset[1] + second.offset[1]),
        first.source, second.target, first.swap != second.swap,
        _common(first.window, left))
  return first


def inverse(transform: Transform) -> Transform:
  """The way back. What a crop cut away comes back as 0 in a mask."""
  (sx, sy), (ox, oy) = transform.scale, transform.offset
  return Transform(_swapped((1 / sx, 1 / sy), transform.swap),
                   _swapped((-ox / sx, -oy / sy), transform.swap),
                   transform.target, transform.source, transform.swap,
                   tuple(visible(transform).tolist()))


def visible(transform: Transform) -> np.ndarray:
  """The box [4] of the target on which there is image, and no padding.

  `clipped` by it cuts boxes to what can be seen. It has no area where crops
  have left nothing.
  """
  box = apply_boxes(transform, transform.window)
  return np.clip(box, 0., np.tile(transform.target, 2))


def apply_points(transform: Transform, points) -> np.ndarray:
  """Points [.., 2] in pixels of the target, neither cut nor rounded."""
  points = _coordinates(points, 2)
  if transform.swap:
    points = points[..., ::-1]
  return points * transform.scale + transform.offset


def apply_boxes(transform: Transform, boxes) -> np.ndarray:
  """Boxes [.., 4] in pixels of the target, neither cut nor rounded."""
  boxes = _coordinates(boxes, 4)
  corners = apply_points(transform, boxes.reshape(*boxes.shape[:-1], 2, 2))
  return np.concatenate([corners.min(-2), corners.max(-2)], -1)


def apply_mask(transform: Transform, mask: np.ndarray) -> np.ndarray:
  """A mask or label map [h, w, ..] on the target's pixels, of the same dtype.

  Each target pixel takes the value at its centre, as Pillow's NEAREST does;
  where there was no image it is 0.
  """
  if mask.shape[1::-1] != transform.source or any(
      side != int(side) for side in transform.target):
    raise ValueError(f'a mask of {mask.shape[1::-1]} pixels (width, height) for'
                     f' a transform from {transform.source} to '
                     f'{transform.target}; expected the same, in whole pixels')
  back = inverse(transform)
  # Along the target's axes, in the order in which the source has them.
  sides = _swapped(transform.target, transform.swap)
  window = transform.window
  (columns, across), (rows, down) = (
      _nearest((np.arange(int(side)) + .5) * scale + offset, *limits)
      for side, scale, offset, limits in zip(
          sides, back.scale, back.offset, (window[::2], window[1::2])))
  taken = mask[np.ix_(rows, columns)]
  taken[~down] = 0
  taken[:, ~across] = 0
  return taken.swapaxes(0, 1) if transform.swap else taken


def _nearest(centres: np.ndarray, low: float,
             high: float) -> tuple[np.ndarray, np.ndarray]:
  """Source pixels under centres of the target's, and which there are."""
  centres = centres + _SLACK
  there = (centres >= low) & (centres < high)
  return np.where(there, np.floor(centres), 0).astype(np.int64), there


def _common(a: Sequence[float], b: Sequence[float]) -> tuple[float, ...]:
  """What two boxes have in common; without area if nothing."""
  x1, y1 = (float(max(v)) for v in zip(a[:2], b[:2]))
  x2, y2 = (float(min(v)) for v in zip(a[2:], b[2:]))
  return x1, y1, max(x1, x2), max(y1, y2)


def _swapped(pair: tuple[float, float], swap: bool) -> tuple[float, float]:
  return (pair[1], pair[0]) if swap else pair


def _size(size: Size) -> Size:
  width, height = map(float, size)
  if not (0 < width < math.inf and 0 < height < math.inf):
    raise ValueError(f'size {tuple(size)}: expected (width, height) above 0')
  return width, height


def _coordinates(values, last: int = 0) -> np.ndarray:
  values = np.asarray(values, np.float64)
  if not values.ndim or values.shape[-1] not in ((last,) if last else (2, 4)):
    raise ValueError(f'coordinates of shape {values.shape}; expected '
                     f'[.., {last or "2 or 4"}]')
  return values
