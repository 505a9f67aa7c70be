"""The average beat of an ECG, without noise and without what sways below it.

Averaging beats leaves what repeats with them. The sway of the baseline is what
does not: a spline through what the average beat leaves of the signal, found in
turns with the beat itself (backfitting), so that neither a high-pass filter nor
a guess of the isoelectric line bends ST and T. Beats are found in
`ecg_measure`; the waves of the average one in `ecg_waves`.
"""

from typing import NamedTuple

import numpy as np
from scipy import interpolate
from scipy import ndimage
from scipy import stats

MOST_BEATS = 120     # the first of a long recording stand for it
# Seconds of the average beat before and after its centre, and the most that a
# fast rhythm leaves of them, in RR intervals.
_BEFORE, _AFTER = (.5, .85), (.85, .95)
_HALF_QRS = .09      # s
_ALIKE = .7          # correlation of QRS with the median one, or it is ectopic
_KNOTS = 1.          # s between the knots of the spline
_SHORTEST = .5       # s of a lead in which a sway can be told
_ROUNDS = 3
# Noise of three leads that are sums of others is no noise of its own.
_MOST_INDEPENDENT = 8


class Beat(NamedTuple):
  """`values` mV [leads, samples], QRS about the sample `centre`."""
  values: np.ndarray
  centre: int
  cycle: float     # samples of the median RR interval


def average(values: np.ndarray, at: np.ndarray, rate: float) -> Beat:
  """The average of the beats that are alike.

  Args:
    values: mV [leads, samples]; nan where nothing was recorded.
    at: [beats], one or more, centres of QRS in samples.
    rate: samples a second.

  Returns:
    The beat, of those leads that know all of it (none may be left).
  """
  at = at[:MOST_BEATS]
  cycle = float(np.median(np.diff(at))) if len(at) > 1 else rate
  values = values[:, :int(at[-1] + 2 * cycle)]
  at = _alike(values, at, rate)
  before = int(.4 * cycle)
  level = values
  for _ in range(_ROUNDS):
    beat = _mean(level, at, before, int(cycle) - before)
    rest = values - _repeat(beat, at, before, values.shape[1])
    level = values - _sway(rest, rate)
  before, after = (int(min(seconds * rate, share * cycle))
                   for seconds, share in (_BEFORE, _AFTER))
  beat = _mean(level, at, before, after)
  return Beat(beat[np.isfinite(beat).all(1)], before, cycle)


def noise_level(norms: np.ndarray, leads: int, share: float = .1) -> float:
  """What 99.5 % of the noise in a norm over leads stays below.

  The lowest `share` of the samples is taken for the lowest share of noise that
  is normal in each lead, so that waves may fill the rest.

  Args:
    norms: [samples], root of the sum of squares over the leads.
    leads: how many.
    share: of the samples.
  """
  freedom = min(leads, _MOST_INDEPENDENT)
  ratio = stats.chi.ppf(.995, freedom) / stats.chi.ppf(share, freedom)
  return float(np.quantile(norms, share) * ratio)


def _windows(size: int, at: np.ndarray, before: int, after: int) -> np.ndarray:
  """Indices [beats, before + after] around beats; `size` beyond the ends."""
  index = np.rint(at).astype(np.int64)[:, None] + np.arange(-before, after)
  return np.where((index >= 0) & (index < size), index, size)


def _parts(values: np.ndarray, at: np.ndarray, before: int,
           after: int) -> np.ndarray:
  """Samples [leads, beats, before + after]; nan beyond the ends."""
  padded = np.pad(values, ((0, 0), (0, 1)), constant_values=np.nan)
  return padded[:, _windows(values.shape[1], at, before, after)]


def _alike(values: np.ndarray, at: np.ndarray, rate: float) -> np.ndarray:
  """The beats whose QRS is like the median one; all if most are not."""
  half = int(_HALF_QRS * rate)
  parts = _parts(values, at, half, half + 1)
  known = np.isfinite(parts)
  parts = np.where(known, parts, 0)
  count = np.maximum(known.sum(2, keepdims=True), 1)
  parts = np.where(known, parts - parts.sum(2, keepdims=True) / count, np.nan)
  # A lead without a beat at all has no median, and counts for nothing.
  empty = ~known.any(1)
  middle = np.nanmedian(np.where(empty[:, None], 0, parts), axis=1)[:, None]
  parts = np.where(known, parts, 0)
  sizes = (parts ** 2).sum((0, 2)) * (middle ** 2 * known).sum((0, 2))
  like = (parts * middle).sum((0, 2)) > _ALIKE * np.sqrt(sizes)
  return at[like] if like.sum() > len(at) / 2 else at


def _mean(values: np.ndarray, at: np.ndarray, before: int,
          after: int) -> np.ndarray:
  """Mean beat [leads, before + after]; nan where no beat was recorded."""
  parts = _parts(values, at, before, after)
  known = np.isfinite(parts)
  count = known.sum(1)
  total = np.where(known, parts, 0).sum(1)
  return np.divide(total, count, out=np.full(total.shape, np.nan),
                   where=count > 0)


def _repeat(beat: np.ndarray, at: np.ndarray, before: int,
            size: int) -> np.ndarray:
  """The beat at each of its places, 0 between them: [leads, size]."""
  out = np.zeros((len(beat), size + 1))
  index = _windows(size, at, before, beat.shape[1] - before)
  out[:, index] = np.nan_to_num(beat)[:, None]
  return out[:, :-1]


def _sway(rest: np.ndarray, rate: float) -> np.ndarray:
  """A cubic spline through each stretch of each lead; 0 through short ones."""
  sway = np.zeros_like(rest)
  known = np.isfinite(rest)
  # Leads that were recorded at the same time share the fit.
  alike: dict[bytes, list[int]] = {}
  for row, mask in enumerate(known):
    alike.setdefault(mask.tobytes(), []).append(row)
  for rows in alike.values():
    for (part,) in ndimage.find_objects(ndimage.label(known[rows[0]])[0]):
      count = part.stop - part.start
      if count < _SHORTEST * rate:
        continue
      spans = max(int(count / rate / _KNOTS), 1)
      inner = np.linspace(0, count - 1, spans + 1)
      knots = np.concatenate([[0.] * 3, inner, [count - 1.] * 3])
      place = np.arange(float(count))
      spline = interpolate.make_lsq_spline(place, rest[rows, part].T, knots)
      sway[rows, part] = spline(place).T
  return sway
