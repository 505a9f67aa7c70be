"""P, QRS and T of the average beat of an ECG, measured in all leads at once.

QRS begins and ends where the leads move faster than noise. T ends, and P
begins, at the corner of a level and a foot that rises from it, fitted to all
leads by least squares: the tangent of Lepeschkin and Surawicz (Circulation
6:378, 1952), except that the foot may be bent, since a wave that fades out ends
after its tangent. Beats are found in `ecg_measure` and averaged in `ecg_beat`.
"""

import math

import numpy as np
from scipy import ndimage
from scipy import signal as dsp

from medrl.media import ecg_beat

# Half windows in s of the slopes: wider where noise asks for it.
_SLOPES = (.007, .011, .016, .024)
_STILL = .07            # of the fastest slope of QRS: below it QRS is over
_STILL_FOR = .008       # s
_MOMENT = .2            # of that slope: below it the leads are nearly at rest
_SLOW, _SLOW_T = .2, .6    # of that slope: P and T are slower
_LEAST_LIMB = .02       # s
_HALF_QRS = .07         # s from the centre, in which the fastest slope lies
_LONGEST_HALF = .16     # s from there to an end of QRS
_SMOOTH = .008          # s, of the Gaussian under which waves are looked for
_LONGEST_PR = .36       # s
_LONGEST_LIMB = .3      # s from a peak to its foot
_LEAST_WAVE = .02       # mV of P over the leads
_POWERS = (1., 1.5, 2.)     # of a foot: straight to bent


def measure(values: np.ndarray, at: np.ndarray,
            rate: float) -> dict[str, float]:
  """PR, QRS and QT of the average beat.

  Args:
    values: mV [leads, samples]; nan where nothing was recorded.
    at: [beats], centres of QRS in samples.
    rate: samples a second, some 500.

  Returns:
    `pr_ms`, `qrs_ms`, `qt_ms`; nan where a wave does not stand out.
  """
  spans = dict.fromkeys(('pr_ms', 'qrs_ms', 'qt_ms'), math.nan)
  if not len(at):
    return spans
  beat = ecg_beat.average(values, at, rate)
  qrs = _qrs(beat, rate)
  if qrs is None:
    return spans
  onset, offset = qrs
  t_end = _t_end(beat, onset, offset, rate)
  p_onset = _p_onset(beat, onset, t_end, rate)
  ends = (onset - p_onset, offset - onset, t_end - onset)
  return {name: 1e3 * float(end) / rate for name, end in zip(spans, ends)}


def _qrs(beat: ecg_beat.Beat, rate: float) -> tuple[int, int] | None:
  """Onset and offset of QRS in samples of the beat."""
  leads, size = beat.values.shape
  low = max(beat.centre - int(_HALF_QRS * rate), 0)
  high = beat.centre + int(_HALF_QRS * rate)
  if not leads or size < 2 * int(_SLOPES[-1] * rate) + 3:
    return None
  for half in _SLOPES:
    slopes = dsp.savgol_filter(beat.values, 2 * int(half * rate) + 1, 2,
                               deriv=1, axis=1)
    speed = np.sqrt((slopes ** 2).sum(0))
    peak = low + int(speed[low:high].argmax())
    noise = ecg_beat.noise_level(speed, leads)
    if noise < _STILL * speed[peak]:
      break
  still = max(noise, _STILL * speed[peak])
  # Where P ends is no question of its level, since no other is known yet.
  onset = _still(speed[::-1], np.ones(size), size - 1 - peak, still, rate)
  if onset is None:
    return None
  onset = size - 1 - onset
  offset = _still(speed, _size(beat, onset, rate), peak, still, rate)
  if offset is None:
    return None
  # A corner is seen by about half of a half window too early; the narrowest
  # one makes up for feet that begin too gently to be seen.
  early = int(round(.5 * (half - _SLOPES[0]) * rate))
  return onset + early, max(offset - early, onset + early + 1)


def _still(speed: np.ndarray, away: np.ndarray, peak: int, still: float,
           rate: float) -> int | None:
  """Where the leads come to rest after `peak`, or nearly so before a wave.

  Args:
    speed: [samples] of the leads.
    away: [samples], distance of the leads from their level.
    peak: where QRS is fastest.
    still: speed of a rest.
    rate: samples a second.
  """
  stop = min(peak + int(_LONGEST_HALF * rate), len(speed))
  slow = speed[peak:stop] < still
  run = max(int(_STILL_FOR * rate), 1)
  resting = np.convolve(slow, np.ones(run), 'valid') > run - .5
  rest = peak + int(resting.argmax()) if resting.any() else None
  # A wave that follows at once leaves a moment, but no rest: that comes after
  # its peak or its end. It is no part of QRS if it is slow, or if it leads away
  # from the level to which QRS has come back.
  end = stop - 1 if rest is None else rest
  start = peak + int(.02 * rate)
  before = max(end - int(_LEAST_LIMB * rate), start)
  (lows,) = dsp.argrelmin(speed[start:before])
  lows = start + lows[speed[start + lows] < _MOMENT * speed[peak]]
  for low in lows[speed[lows].argsort()]:
    after = speed[low:end + 1].max() / speed[peak]
    back = away[low] < .5 * away[low:end + 1].max()
    if after < _SLOW or after < _SLOW_T and back:
      return int(low)
  return rest


def _size(beat: ecg_beat.Beat, onset: int, rate: float) -> np.ndarray:
  """Smoothed distance [samples] of the leads from their level before QRS."""
  before = beat.values[:, max(onset - int(.02 * rate), 0):max(onset, 1)]
  away = beat.values - np.median(before, axis=1, keepdims=True)
  smooth = ndimage.gaussian_filter1d(away, _SMOOTH * rate, axis=1)
  return np.sqrt((smooth ** 2).sum(0))


def _noise(beat: ecg_beat.Beat, rate: float) -> float:
  """What noise leaves in `_size`, in mV."""
  smooth = ndimage.gaussian_filter1d(beat.values, _SMOOTH * rate, axis=1)
  rough = np.sqrt(((beat.values - smooth) ** 2).sum(0))
  # A Gaussian of s samples leaves 1 / (2 s sqrt(pi)) of the power of noise.
  left = (2 * _SMOOTH * rate * math.pi ** .5) ** -.5
  return ecg_beat.noise_level(rough, len(beat.values)) * left


def _t_end(beat: ecg_beat.Beat, onset: int, offset: int, rate: float) -> float:
  size = _size(beat, onset, rate)
  start = offset + int(.015 * rate)
  stop = int(min(onset + beat.cycle - .03 * rate, len(size) - 1))
  part = size[start:stop]
  if len(part) < .03 * rate:
    return math.nan
  least = max(_noise(beat, rate), .1 * part.max())
  peaks, found = dsp.find_peaks(np.pad(part, 1), prominence=least, width=0)
  peaks = peaks - 1
  if not len(peaks):
    return math.nan
  following = onset + beat.cycle - (start + peaks[-1])
  if len(peaks) > 1 and following < _LONGEST_PR * rate and (
      peaks[-1] - peaks[-2] > .05 * rate):
    # The last is the P wave of the next beat; T ends before that begins.
    rise = peaks[-1] - (found['left_ips'][-1] - 1)
    stop = start + int(peaks[-1] - 2 * max(rise, 2))
    peaks = peaks[:-1]
  peak = start + int(peaks[part[peaks].argmax()])
  return _foot(beat.values, peak, stop, rate)


def _p_onset(beat: ecg_beat.Beat, onset: int, t_end: float,
             rate: float) -> float:
  size = _size(beat, onset, rate)
  longest = min(_LONGEST_PR * rate, .5 * beat.cycle)
  earliest = onset - longest if math.isnan(t_end) else t_end - beat.cycle
  start = int(max(earliest, onset - _LONGEST_PR * rate, 0))
  part = size[start:onset - int(.012 * rate)]
  if len(part) < .03 * rate:
    return math.nan
  least = max(_noise(beat, rate), _LEAST_WAVE)
  peaks, found = dsp.find_peaks(np.pad(part, 1), prominence=least)
  if not len(peaks):
    return math.nan
  peak = start + int(peaks[found['prominences'].argmax()]) - 1
  last = len(size) - 1
  return last - _foot(beat.values[:, ::-1], last - peak, last - start, rate)


def _foot(values: np.ndarray, peak: int, stop: int, rate: float) -> float:
  """Where the wave with this peak ends, before `stop`."""
  part = values[:, peak:max(stop, peak)]
  part = part[:, :int(_LONGEST_LIMB * rate)]
  if part.shape[1] < .016 * rate:
    return math.nan
  smooth = ndimage.gaussian_filter1d(part, .006 * rate, axis=1)
  last = smooth[:, -max(part.shape[1] // 6, 3):]
  away = smooth - np.median(last, axis=1, keepdims=True)
  size = np.sqrt((away ** 2).sum(0))
  below = np.flatnonzero(size < .5 * size[0])
  if not len(below):
    return math.nan
  half = int(below[0])
  steepest = -np.gradient(size)[:half + 5].min()
  limb = size[half] / max(steepest, 1e-9)
  # As much level as limb, so that neither outweighs the other.
  level = max(.06 * rate, .8 * limb)
  return peak + half + corner(part[:, half:int(half + limb + level)])


def corner(values: np.ndarray) -> float:
  """Where a foot that falls to a level reaches it, in samples.

  Fits level + height * max(corner - sample, 0) ** power to all leads, each with
  its own level and height, over corners and powers: the least squares.

  Args:
    values: [leads, samples] from within the foot on.
  """
  count = values.shape[1]
  corners = np.arange(4, max(count, 5), .5)
  centred = values - values.mean(1, keepdims=True)
  best, place = -math.inf, math.nan
  for power in _POWERS:
    foot = np.clip(corners[:, None] - np.arange(count), 0, None) ** power
    foot -= foot.mean(1, keepdims=True)
    fitted = ((centred @ foot.T) ** 2).sum(0) / (foot ** 2).sum(1)
    if fitted.max() > best:
      best, place = fitted.max(), corners[fitted.argmax()]
  return float(place)
