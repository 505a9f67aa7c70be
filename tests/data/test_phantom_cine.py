import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from medrl import types
from medrl.data import phantom_cine as pc

PATHS = [f'phantom/2/{index}/cine' for index in range(24)]


def seen(path):
  """The loop, and the area of the dark chamber in each frame, in pixels."""
  clip = pc.clip(path, '')
  smooth = ndimage.gaussian_filter(
      clip.frames[..., 0].astype(float), (0, 1, 1))
  return clip, (smooth < 50).sum((1, 2)).astype(float)


def test_a_clip_is_frames_at_times():
  state = pc.cine(2, 0)
  clip = pc.clip(PATHS[0], '')
  assert isinstance(clip, types.Clip)
  assert clip.frames.shape == (16, 112, 112, 3)
  assert clip.frames.dtype == np.uint8 and clip.times.dtype == np.float64
  np.testing.assert_allclose(np.diff(clip.times), 1 / state.rate)
  np.testing.assert_array_equal(clip.frames, pc.clip(PATHS[0], '').frames)
  assert (clip.frames != pc.clip(PATHS[1], '').frames).any()


@pytest.mark.parametrize('path', PATHS)
def test_the_period_is_that_of_the_areas(path):
  """Autocorrelation of the loop, which begins again where it ends."""
  state = pc.cine(*map(int, path.split('/')[1:3]))
  clip, areas = seen(path)
  assert areas.min() > 300
  # Sampled finer by zeros in the spectrum: five beats have 3.2 frames each.
  spectrum = np.zeros(257, complex)
  spectrum[:9] = np.fft.rfft(areas - areas.mean())
  fine = np.fft.irfft(spectrum, 512)
  correlation = [fine @ np.roll(fine, lag) for lag in range(512)]
  tops = [lag for lag in range(1, 300) if correlation[lag] > max(
      correlation[lag - 1], correlation[lag + 1])
          and correlation[lag] > .9 * correlation[0]]
  period = tops[0] / 512 * 16 / state.rate   # s
  lasting = clip.times[-1] + clip.times[1]
  assert round(lasting / period) == state.beats
  assert 60 / period == pytest.approx(pc.bpm(state), rel=.05)


@pytest.mark.parametrize('path', PATHS)
def test_the_needle_moves_as_said(path):
  state = pc.cine(*map(int, path.split('/')[1:3]))
  clip, _ = seen(path)
  places = []
  for frame in clip.frames[..., 0].astype(float):
    bright = ndimage.gaussian_filter(frame, 2.)
    places.append(np.unravel_index(bright.argmax(), bright.shape)[::-1])
  x, y = np.subtract(places[-1], places[0])
  found = ('right' if x > 0 else 'left') if abs(x) > abs(y) else (
      'down' if y > 0 else 'up')
  assert found == state.direction
  assert max(abs(x), abs(y)) == pytest.approx(15 * state.speed, abs=2)


@pytest.mark.parametrize('path', PATHS)
def test_the_phase_is_that_of_the_areas(path):
  state = pc.cine(*map(int, path.split('/')[1:3]))
  _, areas = seen(path)
  change = areas[state.asked + 1] - areas[state.asked - 1]
  assert pc.phase(state) == ('filling' if change > 0 else 'emptying')
  assert abs(change) > 60


def test_every_answer_occurs_at_every_frame_rate():
  states = [pc.cine(0, index) for index in range(400)]
  assert {(s.rate, s.beats) for s in states} == {
      (rate, beats) for rate in pc.RATES for beats in pc.BEATS}
  assert {s.direction for s in states} == set(pc.DIRECTIONS)


def test_a_hasty_reader_counts_twice_and_mirrors():
  state = dataclasses.replace(pc.cine(0, 0), direction='left')
  wrong = pc.misread(state, 'cine/rate')
  assert pc.bpm(wrong) == pytest.approx(2 * pc.bpm(state), abs=.1)
  assert wrong.direction == 'right'
  late = pc.misread(state, 'cine/phase')
  np.testing.assert_allclose(pc.widths(late), np.roll(pc.widths(state), -2))
