"""Beats and the heart rate of an ECG.

Beats are found by the energy of the slopes of QRS and thresholds that adapt to
signal and noise (Pan and Tompkins, IEEE Trans Biomed Eng 32:230, 1985), of all
leads at once and with filters that do not shift in time. `intervals` measures
the average beat; what it says of P, QRS and T is in `ecg_waves`. It does not
name rhythms or diagnoses.
"""

import math

import numpy as np
from scipy import interpolate
from scipy import ndimage
from scipy import signal as dsp

from medrl import types
from medrl.media import ecg
from medrl.media import ecg_waves

# Samples a second at which everything is measured: 2 ms are a tenth of the
# accuracy that is asked of an interval.
RATE = 500.
_FEW = 250.            # samples a second: below, QRS is hardly sampled
_BAND = (5., 15.)      # Hz, where QRS stands out from P, T and muscle
_WINDOW = .12          # s, over which slope energy is summed
_HALF_QRS = .09        # s, around the centre of a beat
_SHORTEST = .5         # s: nothing is found in less
_REFRACTORY = .2       # s, in which no second beat can follow
_T_WAVE = .36          # s, within which a T wave may look like a beat
_T_SHARE = .4          # of the energy of a beat: more is no T wave
_ALIKE = .8            # correlation of a beat at an end with the average
_RIM = .2              # s from an end where a beat must be alike
_SEARCH_BACK = 1.66    # RR intervals without a beat before a second look
_LONGEST_GAP = .3      # s without any lead that break an RR interval


def beats(signal: types.Signal) -> np.ndarray:
  """Times of the beats, in s from the first sample: float64 [beats].

  A time is the centre of the energy of QRS, which lies within some 20 ms of the
  R peak.

  Raises:
    ValueError: the signal has no lead or not a sample.
  """
  return _found(_prepared(signal)) / RATE


def heart_rate(signal: types.Signal) -> float:
  """Beats a minute: 60 over the mean RR interval; nan with under two beats.

  RR intervals over a stretch of more than 0.3 s that no lead recorded are left
  out.

  Raises:
    ValueError: as in `beats`.
  """
  rr = _rr(signal, beats(signal))
  return 60 / float(rr.mean()) if rr.size else math.nan


def intervals(signal: types.Signal) -> dict[str, float]:
  """Rate and intervals of the average beat; nan where one cannot be measured.

  All leads count: an onset is the first and an offset the last that the leads
  have in common. P is nan where no P wave stands out before QRS, as in atrial
  fibrillation.

  Returns:
    `rate` in beats a minute; `rr_ms`, the mean; `pr_ms` (onset of P to onset of
    QRS), `qrs_ms`, `qt_ms` (onset of QRS to end of T), and QT corrected for
    rate, `qtc_bazett_ms` (QT over the square root of RR in s; Heart 7:353,
    1920) and `qtc_fridericia_ms` (over its cube root; Acta Med Scand 53:469,
    1920).

  Raises:
    ValueError: as in `beats`, or another unit than mV.
  """
  if signal.unit != 'mV':
    raise ValueError(f'the signal is in {signal.unit!r}; expected mV')
  values = _prepared(signal)
  at = _found(values)
  rr = _rr(signal, at / RATE)
  mean = float(rr.mean()) if rr.size else math.nan
  waves = ecg_waves.measure(values, at, RATE)
  qt = waves['qt_ms']
  return {'rate': 60 / mean, 'rr_ms': 1e3 * mean, **waves,
          'qtc_bazett_ms': qt / mean ** .5,
          'qtc_fridericia_ms': qt / mean ** (1 / 3)}


def _prepared(signal: types.Signal) -> np.ndarray:
  """float64 [leads, samples] at `RATE`, only leads that hold something."""
  values = np.asarray(_at_rate(signal), np.float64)
  if not values.size:
    raise ValueError(f'the signal is {list(values.shape)}; expected at least '
                     'one lead and one sample')
  kept = values[np.isfinite(values).any(1)]
  return kept if len(kept) else np.full((1, values.shape[1]), np.nan)


def _at_rate(signal: types.Signal) -> np.ndarray:
  """The values at `RATE`; between few samples without the ringing of a filter.
  """
  if signal.rate >= _FEW or signal.values.shape[1] < 2:
    return ecg.resample(signal, RATE).values
  values = np.asarray(signal.values, np.float64)
  count = values.shape[1]
  place = np.arange(int((count - 1) * RATE / signal.rate) + 1) * (
      signal.rate / RATE)
  new = interpolate.pchip_interpolate(np.arange(count), ecg.bridge(values),
                                      place, axis=1)
  missing = np.isnan(values)
  left = np.floor(place).astype(np.int64)
  right = np.minimum(np.ceil(place).astype(np.int64), count - 1)
  new[missing[:, left] | missing[:, right]] = np.nan
  return new


def _filtered(values: np.ndarray) -> np.ndarray:
  """The leads in the band of QRS, without a shift in time."""
  band = dsp.butter(2, _BAND, 'bandpass', fs=RATE, output='sos')
  return dsp.sosfiltfilt(band, ecg.bridge(values))


def _energy(filtered: np.ndarray, known: np.ndarray) -> np.ndarray:
  """Energy of the slopes over the leads that are known: [samples]."""
  energy = np.gradient(filtered, axis=1) ** 2
  # Leads count by how far their beats stand out of what lies between them;
  # only those that last count, so that a change of leads is no change of size.
  share = known.mean(1)
  weights = np.zeros(len(energy))
  for i in np.flatnonzero(share >= .9 * share.max()):
    if share[i]:
      level, floor = np.percentile(energy[i][known[i]], (98, 50))
      weights[i] = 1 / (floor + .02 * level + 1e-12)
  total = (weights[:, None] * known).sum(0)
  return np.divide((weights[:, None] * known * energy).sum(0), total,
                   out=np.zeros(energy.shape[1]), where=total > 0)


def _found(values: np.ndarray) -> np.ndarray:
  """Beats as fractions of a sample of `values`, as `_prepared` gives them."""
  if values.shape[1] < _SHORTEST * RATE:
    return np.zeros(0)
  filtered = _filtered(values)
  energy = _energy(filtered, np.isfinite(values))
  window = ndimage.uniform_filter1d(energy, int(_WINDOW * RATE), mode='nearest')
  half = int(_HALF_QRS * RATE)
  inside = np.arange(-half, half + 1)
  centres = []
  for peak in _choose(window):
    # A beat that the ends cut has no centre.
    if half <= peak < len(energy) - half:
      weights = energy[peak + inside]
      centres.append(peak + np.average(inside, weights=weights))
  return _aligned(filtered, np.asarray(centres))


def _aligned(filtered: np.ndarray, at: np.ndarray) -> np.ndarray:
  """Beats shifted to where they are most like the average beat.

  A beat at either end that is unlike it is the rim of a wave or of a filter,
  and is left out.
  """
  half, reach = int(_HALF_QRS * RATE), int(.03 * RATE)
  pad = half + reach + 1
  size = filtered.shape[1]
  padded = np.pad(filtered, ((0, 0), (pad, pad)))
  near = np.arange(-half, half + 1) + pad
  shifts = np.arange(-reach, reach + 1)
  for _ in range(2):
    if len(at) < 2:
      return at
    whole = np.rint(at).astype(np.int64)
    beat = np.median(padded[:, whole[:, None] + near], axis=1)
    match = np.stack([
        np.einsum('lw,lkw->k', beat, padded[:, whole[:, None] + near + shift])
        for shift in shifts], 1)
    at = np.clip(whole + _peak(match) - reach, 0, size - 1)
  there = padded[:, np.rint(at).astype(np.int64)[:, None] + near]
  size_there = np.sqrt((there ** 2).sum((0, 2)) * (beat ** 2).sum())
  like = match.max(1) > _ALIKE * size_there
  rim = np.minimum(at, size - 1 - at) < _RIM * RATE
  return at[like | ~rim]


def _peak(rows: np.ndarray) -> np.ndarray:
  """Places of the largest of each row, between samples by a parabola."""
  best = np.clip(rows.argmax(1), 1, rows.shape[1] - 2)
  left, top, right = (rows[np.arange(len(rows)), best + d] for d in (-1, 0, 1))
  bend = left - 2 * top + right
  part = np.divide(.5 * (left - right), bend, out=np.zeros_like(top),
                   where=bend < 0)
  return best + np.clip(part, -1, 1)


def _choose(window: np.ndarray) -> list[int]:
  """Peaks of the summed energy that are beats, by adapting thresholds."""
  peaks, _ = dsp.find_peaks(window, distance=int(_REFRACTORY * RATE))
  peaks = peaks[window[peaks] > 1e-9 * window.max(initial=0)]
  if not peaks.size:
    return []
  step = int(2.5 * RATE)
  tops = [window[i:i + step].max() for i in range(0, min(len(window), 4 * step),
                                                  step)]
  level, noise = float(np.median(tops)), 0.
  chosen: list[int] = []
  passed: list[int] = []
  for peak in peaks:
    if len(chosen) > 1:
      rr = np.mean(np.diff(chosen[-9:]))
      missed = [p for p in passed if p - chosen[-1] >= _REFRACTORY * RATE]
      if peak - chosen[-1] > _SEARCH_BACK * rr and missed:
        best = max(missed, key=lambda p: window[p])
        if window[best] > .5 * (noise + .25 * (level - noise)):
          chosen.append(best)
          level = .25 * window[best] + .75 * level
          passed = [p for p in passed if p > best]
    height = window[peak]
    threshold = noise + .25 * (level - noise)
    t_wave = chosen and peak - chosen[-1] < _T_WAVE * RATE and (
        height < _T_SHARE * window[chosen[-1]])
    if height > threshold and not t_wave:
      chosen.append(int(peak))
      level = .125 * height + .875 * level
      passed = []
    else:
      noise = .125 * height + .875 * noise
      passed.append(int(peak))
  # The T wave of a beat before the recording had no beat to be soon after.
  if len(chosen) > 1 and chosen[1] - chosen[0] < _T_WAVE * RATE and (
      window[chosen[0]] < _T_SHARE * window[chosen[1]]):
    chosen.pop(0)
  return chosen


def _rr(signal: types.Signal, at: np.ndarray) -> np.ndarray:
  """RR intervals in s, without those over a gap."""
  empty = np.isnan(np.asarray(signal.values)).all(0)
  labels, count = ndimage.label(empty)
  gaps = [(part[0].start, part[0].stop) for part in
          ndimage.find_objects(labels)[:count]]
  broken = np.zeros(max(len(at) - 1, 0), bool)
  for start, stop in gaps:
    if stop - start > _LONGEST_GAP * signal.rate:
      begin = start / signal.rate
      broken |= (at[:-1] <= begin) & (begin <= at[1:])
  return np.diff(at)[~broken]
