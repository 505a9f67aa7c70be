"""Twelve-lead ECGs whose rate, PR, QRS and QT are exact by construction.

Each wave is a raised cosine of compact support: it is zero outside its onset
and offset, so the true intervals are those asked for and not those that some
detector finds. The rhythm is regular. It is no model of the heart: shapes are
plausible, diagnoses are not drawn.
"""

import math

import numpy as np

from medrl import types

LEADS = ('I', 'II', 'III', 'aVR', 'aVL', 'aVF',
         'V1', 'V2', 'V3', 'V4', 'V5', 'V6')
RATES = (30., 220.)          # beats a minute
PR = (80., 320.)             # ms
QRS = (60., 180.)            # ms
QT = (150., 700.)            # ms
# From the end of QRS to the end of T there is an ST segment and a T wave.
SHORTEST_ST_T = 90.          # ms
# Between the end of T and the next P, so that either can be seen at all.
SHORTEST_TP = 20.            # ms

# Dipoles in mV (x left, y down, z to the front), and the part of the QRS or of
# the wave that each covers: (start, end, share of it before the peak).
_WAVES = {
    'p': ((.1, .14, .03), (0., 1., .5)),
    'q': ((-.16, -.05, .28), (0., .46, .4)),
    'r': ((1., .75, -.32), (.1, .76, .5)),
    's': ((-.12, -.22, -.3), (.4, 1., .6)),
    't': ((.25, .2, .24), (0., 1., .6)),
}
# Electrodes over the dipole: the limbs at the corners of Einthoven's triangle
# (their mean, Wilson's terminal, is 0), the chest around it in its plane.
_LIMBS = ((-.5, -3 ** .5 / 6, 0.), (.5, -3 ** .5 / 6, 0.),
          (0., 3 ** .5 / 3, 0.))
_CHEST_DEGREES = (115., 95., 72., 50., 25., 5.)
_CHEST_GAIN = (1.2, 1.6, 1.7, 1.6, 1.4, 1.1)
# The slow drift of electrodes: breathing and below, in Hz.
_WANDER_BAND = (.05, .4)
_WANDER_TONES = 3


def synthesise(rate: float, pr_ms: float, qrs_ms: float, qt_ms: float, *,
               seconds: float = 10., sampling: float = 500.,
               noise: float = .02, wander: float = .1,
               seed: int = 0) -> types.Signal:
  """A regular sinus rhythm in twelve leads, in mV.

  Noise and wander arise at the electrodes, so that Einthoven's and Goldberger's
  equations hold in the sum as well.

  Args:
    rate: beats a minute.
    pr_ms: onset of P to onset of QRS.
    qrs_ms: onset of QRS to its offset.
    qt_ms: onset of QRS to offset of T.
    seconds: length; the first beat begins anywhere before the first RR is over.
    sampling: samples a second.
    noise: standard deviation in mV of the white noise of a limb lead.
    wander: largest sway in mV of a limb lead's baseline, of 0.05 to 0.4 Hz.
    seed: of the patient's axis and sizes, the first beat, noise and wander.

  Raises:
    ValueError: the intervals do not fit into each other (see `obstacle`), or a
      length, rate or size is not in its range.
  """
  reason = obstacle(rate, pr_ms, qrs_ms, qt_ms)
  if reason:
    raise ValueError(f'rate {rate!r}, PR {pr_ms!r}, QRS {qrs_ms!r}, QT '
                     f'{qt_ms!r}: {reason}')
  count = _count(seconds, sampling)
  if not (0 <= noise < math.inf and 0 <= wander < math.inf):
    raise ValueError(f'noise is {noise!r} and wander {wander!r}; expected mV '
                     'of 0 or more')
  rng = np.random.default_rng(seed)
  rr = 60 / rate
  time = np.arange(count) / sampling
  # Phase 0 is the onset of QRS; P belongs to the beat after it.
  phase = (time - rng.uniform(0, rr)) % rr
  dipole = np.zeros((count, 3))
  turn, sizes = _patient(rng)
  for (name, (vector, _)), size in zip(_WAVES.items(), sizes):
    start, end, peak = _span(name, pr_ms / 1e3, qrs_ms / 1e3, qt_ms / 1e3)
    shape = _wave(phase - (rr if name == 'p' else 0), start, end, peak)
    dipole += size * shape[:, None] * (turn @ np.asarray(vector))
  electrodes = _electrodes() @ dipole.T
  electrodes += _disturbance(rng, time, noise, wander)
  return types.Signal(_leads(electrodes).astype(np.float32), float(sampling),
                      LEADS)


def obstacle(rate: float, pr_ms: float, qrs_ms: float, qt_ms: float) -> str:
  """Why no beat has these intervals; '' if one has.

  Beyond the ranges above, ST and T need `SHORTEST_ST_T`, and P must not begin
  before the T of the beat before has ended for `SHORTEST_TP`.
  """
  bounds = (('rate', rate, RATES, '/min'), ('PR', pr_ms, PR, 'ms'),
            ('QRS', qrs_ms, QRS, 'ms'), ('QT', qt_ms, QT, 'ms'))
  for name, value, (low, high), unit in bounds:
    if not low <= value <= high:
      return f'expected a {name} of {low:g} to {high:g} {unit}'
  if qt_ms < qrs_ms + SHORTEST_ST_T:
    return f'expected a QT of at least QRS + {SHORTEST_ST_T:g} ms'
  longest = 6e4 / rate - SHORTEST_TP
  # Nothing is refused for the rounding of 60,000 / rate.
  if pr_ms + qt_ms > longest + 1e-6:
    return f'at this rate expected PR + QT of at most {longest:g} ms'
  return ''


def draw_intervals(rng: np.random.Generator,
                   rate: float = 0.) -> dict[str, float]:
  """Intervals that fit: `synthesise(**draw_intervals(rng))` always works.

  QT follows Fridericia's cube root of RR from a corrected QT of 340 to 500 ms,
  cut to what leaves room for P at fast rates.

  Args:
    rng: drawn from.
    rate: beats a minute; 0 draws it over the whole range, evenly.

  Raises:
    ValueError: the rate is out of range.
  """
  rate = rate or rng.uniform(*RATES)
  if not RATES[0] <= rate <= RATES[1]:
    raise ValueError(f'rate is {rate!r}; expected {RATES[0]:g} to '
                     f'{RATES[1]:g} beats a minute')
  room = 6e4 / rate - SHORTEST_TP
  qrs = rng.uniform(QRS[0], min(QRS[1], room - PR[0] - SHORTEST_ST_T))
  shortest = max(QT[0], qrs + SHORTEST_ST_T)
  pr = rng.uniform(PR[0], min(PR[1], room - shortest))
  qt = rng.uniform(340, 500) * (60 / rate) ** (1 / 3)
  qt = float(np.clip(qt, shortest, min(QT[1], room - pr)))
  return {'rate': float(rate), 'pr_ms': float(pr), 'qrs_ms': float(qrs),
          'qt_ms': qt}


def _count(seconds: float, sampling: float) -> int:
  if not (0 < seconds <= 3600 and 50 <= sampling <= 5000):
    raise ValueError(f'seconds is {seconds!r} and sampling {sampling!r}; '
                     'expected up to 3600 s and 50 to 5000 samples a second')
  return max(int(round(seconds * sampling)), 1)


def _span(name: str, pr: float, qrs: float,
          qt: float) -> tuple[float, float, float]:
  """Onset, offset and peak of a wave in s from the onset of QRS."""
  rest = qt - qrs
  # P ends well before QRS, and T takes the larger part of what follows it.
  low, high = {'p': (-pr, -pr + min(.11, .64 * pr)),
               't': (qt - min(.62 * rest + .025, .78 * rest), qt)}.get(
                   name, (0., qrs))
  start, end, peak = _WAVES[name][1]
  onset, offset = low + start * (high - low), low + end * (high - low)
  return onset, offset, onset + peak * (offset - onset)


def _wave(time: np.ndarray, start: float, end: float,
          peak: float) -> np.ndarray:
  """Two half raised cosines, 0 at start and end and beyond, 1 at the peak."""
  up, down = (time - start) / (peak - start), (end - time) / (end - peak)
  limb = np.clip(np.minimum(up, down), 0, 1)
  return .5 - .5 * np.cos(np.pi * limb)


def _patient(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """A turn of the heart by some 15 degrees an axis, and sizes of its waves."""
  turn = np.eye(3)
  for axis in range(3):
    angle = np.clip(rng.normal(0, .26), -.5, .5)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    step = np.eye(3)
    step[first, first] = step[second, second] = math.cos(angle)
    step[first, second], step[second, first] = -math.sin(angle), math.sin(angle)
    turn = step @ turn
  return turn, rng.uniform(.75, 1.3, len(_WAVES))


def _electrodes() -> np.ndarray:
  """Potential per unit of dipole [9, 3]: right arm, left arm, leg, V1 to V6."""
  angles = np.radians(_CHEST_DEGREES)
  gain = np.asarray(_CHEST_GAIN)
  chest = np.stack([gain * np.cos(angles), .1 * gain, gain * np.sin(angles)], 1)
  return np.concatenate([_LIMBS, chest])


def _disturbance(rng: np.random.Generator, time: np.ndarray, noise: float,
                 wander: float) -> np.ndarray:
  """Noise and wander [9, samples] of electrodes, of which a lead is two."""
  shape = (len(_LIMBS) + len(_CHEST_GAIN), _WANDER_TONES)
  tones = rng.uniform(*_WANDER_BAND, shape)[..., None] * time
  tones = np.sin(2 * np.pi * (tones + rng.uniform(size=shape)[..., None]))
  share = rng.dirichlet(np.ones(shape[1]), shape[0])
  sway = np.einsum('et,etn->en', share, tones) * wander / 2
  return sway + rng.normal(0, noise / 2 ** .5, (shape[0], len(time)))


def _leads(electrodes: np.ndarray) -> np.ndarray:
  """Electrodes [9, n] to the twelve leads [12, n] in the order of `LEADS`."""
  right, left, leg = electrodes[:3]
  limb = [left - right, leg - right, leg - left, right - (left + leg) / 2,
          left - (right + leg) / 2, leg - (right + left) / 2]
  return np.concatenate([limb, electrodes[3:] - electrodes[:3].mean(0)])
