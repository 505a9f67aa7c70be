"""Windows against the standard's pseudo-code, NumPy and pydicom."""

import numpy as np
import pydicom
import pydicom.pixels
import pytest

from medrl.media import windows

RNG = np.random.default_rng(0)
WHOLE = RNG.integers(-2000, 3000, (40, 50)).astype(np.int16)


def longhand(values, c, w, function):
  """PS3.3 C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1, line by line."""
  out = []
  for x in np.asarray(values, np.float64).ravel():
    if function == 'SIGMOID':
      out.append(255 / (1 + np.exp(min(-4 * (x - c) / w, 700))))
      continue
    shift, width = (0.5, w - 1) if function == 'LINEAR' else (0, w)
    if x <= c - shift - width / 2:
      out.append(0)
    elif x > c - shift + width / 2:
      out.append(255)
    else:
      out.append(((x - (c - shift)) / width + 0.5) * 255)
  return np.reshape(out, np.shape(values))


@pytest.mark.parametrize('function', windows.FUNCTIONS)
@pytest.mark.parametrize('centre, width', [
    (-600, 1500), (40.5, 80), (0, 1), (0.5, 1), (1234, 2), (15000, 30000)])
@pytest.mark.parametrize('dtype', ['<i2', '>i2', 'i4', 'f4', 'f8'])
def test_functions_are_those_of_the_standard(function, centre, width, dtype):
  values = WHOLE.astype(dtype)
  got = windows.window(values, centre, width, function)
  assert got.dtype == np.uint8 and got.shape == values.shape
  wanted = longhand(values, centre, width, function)
  assert np.abs(got - wanted).max() <= 0.5001


@pytest.mark.parametrize('function', windows.FUNCTIONS)
def test_functions_are_those_of_pydicom(function):
  found = pydicom.Dataset()
  found.WindowCenter, found.WindowWidth = 50, 350
  found.VOILUTFunction, found.BitsStored = function, 8
  found.PhotometricInterpretation = 'MONOCHROME2'
  found.PixelRepresentation = 0
  wanted = pydicom.pixels.apply_windowing(WHOLE, found)
  got = windows.window(WHOLE, 50, 350, function)
  assert np.abs(got - wanted).max() <= 0.5001


@pytest.mark.parametrize('function', windows.FUNCTIONS)
@pytest.mark.parametrize('rescale', [(0.684, 200.), (-1., -1024.), (2., 0.)])
def test_rescaling_is_that_of_the_values(function, rescale):
  got = windows.window(WHOLE, 40, 400, function, rescale)
  wanted = longhand(WHOLE * rescale[0] + rescale[1], 40, 400, function)
  assert np.abs(got - wanted).max() <= 0.5001


@pytest.mark.parametrize('dtype', ['u1', 'i1', '<u2', '>i2'])
def test_a_table_of_many_integers_gives_what_the_function_does(dtype):
  limits = np.iinfo(dtype)
  many = RNG.integers(limits.min, limits.max + 1, 70_000).astype(dtype)
  few = many[:200]

  def through(x):
    return 255 / (1 + np.exp(-x / np.float32(limits.max)))

  np.testing.assert_array_equal(windows.mapped(many, through)[:200],
                                windows.mapped(few, through))
  assert len(np.unique(windows.mapped(many, through))) > 50


def test_values_that_are_no_numbers_are_black():
  got = windows.window(np.array([np.nan, -np.inf, np.inf, 0.]), 0, 10)
  np.testing.assert_array_equal(got, [0, 0, 255, 128])


def test_automatic_is_between_percentiles():
  for values in (RNG.normal(0, 300, 50_000).astype(np.int16),
                 RNG.normal(0, 300, 50_000).astype(np.float32)):
    got = windows.automatic(values)
    low, high = np.percentile(values, (0.5, 99.5))
    assert abs(got.centre - got.width / 2 - low) <= 1
    assert abs(got.centre + got.width / 2 - high) <= 1
    shown = windows.window(values, *got)
    assert 0.003 < (shown == 0).mean() < 0.009
    assert 0.003 < (shown == 255).mean() < 0.009


def test_automatic_of_odd_images():
  mask = np.zeros((100, 100), np.uint8)
  mask[0, 0] = 1   # fewer than one in 200
  np.testing.assert_array_equal(
      windows.window(mask, *windows.automatic(mask)), mask * 255)
  flat = np.full((4, 4), 7, np.int16)
  assert not windows.window(flat, *windows.automatic(flat)).any()
  assert windows.automatic(np.array([np.nan, 3., 5.])).centre == 4
  padded = np.where(RNG.random((80, 80)) < 0.5, -2000, 100).astype(np.int16)
  padded[0, 0] = 300
  assert windows.automatic(padded, (-2000, -2000)).centre == 200
  assert windows.automatic(np.full(9, -2000), (-2000, -2000)).width == 1
  # An even choice of many values: as of all.
  many = np.arange(3 << 20, dtype=np.int32)
  assert abs(windows.automatic(many).centre - many.mean()) < 10


def test_looked_up_clips_at_the_ends():
  lut = windows.Lut(-2, np.array([10, 20, 30], np.uint16), 8)
  np.testing.assert_array_equal(
      windows.looked_up(np.array([-9, -2, -1, 0, 7]), lut),
      [10, 10, 20, 30, 30])


def test_choose():
  header = (windows.Window(1, 2, 'LINEAR'), windows.Window(3, 4))
  assert windows.choose(WHOLE, 'header', header) == header[0]
  assert windows.choose(WHOLE, 'header') == windows.automatic(WHOLE)
  assert windows.choose(WHOLE, 'automatic', header) == windows.automatic(WHOLE)
  assert windows.choose(WHOLE, 'lung') == (-600, 1500, 'LINEAR_EXACT')
  assert windows.choose(WHOLE, [5, 6]) == (5, 6, 'LINEAR_EXACT')


@pytest.mark.parametrize('wanted', [
    'lungs', '', [1], [1, 0], [1, -3], ['a', 2], [float('nan'), 2],
    [1, 0.5, 'LINEAR'], [1, 2, 'linear'], 5, None])
def test_choose_refuses(wanted):
  with pytest.raises(ValueError, match='window|width'):
    windows.choose(WHOLE, wanted)


def test_window_refuses_a_rescaling_that_is_none():
  with pytest.raises(ValueError, match='slope'):
    windows.window(WHOLE, 1, 2, rescale=(0., 1.))
