"""ECG recordings to a `types.Signal` in mV: [leads, samples], named leads.

WFDB records (read by `ecg_wfdb`), CSV tables and DICOM waveforms (`ecg_files`);
here are lead names, derived leads and resampling. It does not draw
(`ecg_paper`), measure (`ecg_measure`) or filter: what was recorded is what is
returned, and a sample that was not recorded is nan.
"""

from collections.abc import Sequence
import fractions
import math
import pathlib
import re

import numpy as np
from scipy import signal as dsp

from medrl import types
from medrl.media import ecg_files
from medrl.media import ecg_wfdb
from medrl.media import files

STANDARD = ('I', 'II', 'III', 'aVR', 'aVL', 'aVF',
            'V1', 'V2', 'V3', 'V4', 'V5', 'V6')
# Of leads I and II, whose electrodes all limb leads share (Einthoven 1912,
# Goldberger 1942).
DERIVED = {'III': (-1., 1.), 'aVR': (-.5, -.5), 'aVL': (1., -.5),
           'aVF': (-.5, 1.)}
RATES = (1., 20_000.)    # samples a second
annotations = ecg_wfdb.annotations
# up / down of a resampling filter; 20 times the larger is its length.
_LARGEST_RATIO = 10_000


def load(path: str, root: str, *, rate: float = 0., leads: Sequence[str] = (),
         seconds: Sequence[float] = (), fill: float | None = None,
         sampling: float | str = 0., unit: str = '') -> types.Signal:
  """Reads a WFDB record (.hea), a CSV table or a DICOM waveform.

  Args:
    path: of the header, the table or the DICOM file, below `root`.
    root: the data root; the files that a WFDB header names lie below it too.
    rate: samples a second to resample to; 0 keeps those of the file.
    leads: to keep, in this order; III, aVR, aVL and aVF are worked out of I and
      II where the file lacks them. () keeps all leads in the file's order,
      except those of a WFDB or DICOM file that are no voltage.
    seconds: (start, end) of the part to read; an end of 0 is that of the file.
    fill: mV in place of samples that were not recorded; None leaves them nan.
    sampling: of a CSV: samples a second, or the name of its column of seconds,
      with '/ms' behind the name where it holds milliseconds.
    unit: of a CSV: 'V', 'mV' or 'uV'.

  Returns:
    The signal in mV.

  Raises:
    ValueError: outside `root`, damaged, too long, of another format, without
      a lead asked for, or an option that has no meaning here.
    FileNotFoundError: there is no such file.
    ImportError: wfdb or pydicom is not installed.
  """
  span = _span(seconds)
  if pathlib.PurePath(path).suffix.lower() == '.hea':
    _only_of_tables(path, sampling, unit)
    signal = ecg_wfdb.read(path, root, span)
    return _shaped(signal, path, rate=rate, leads=leads, fill=fill)
  return decode(files.read(path, root), path, rate=rate, leads=leads,
                seconds=seconds, fill=fill, sampling=sampling, unit=unit)


def decode(data: bytes, name: str, *, rate: float = 0.,
           leads: Sequence[str] = (), seconds: Sequence[float] = (),
           fill: float | None = None, sampling: float | str = 0.,
           unit: str = '') -> types.Signal:
  """As `load`, of the bytes of a CSV table or a DICOM file named `name`.

  Raises:
    ValueError: as in `load`; a WFDB record, which is several files.
    ImportError: pydicom is not installed.
  """
  span = _span(seconds)
  if data[128:132] == b'DICM':
    _only_of_tables(name, sampling, unit)
    signal = ecg_files.decode_dicom(data, name, span)
  elif pathlib.PurePath(name).suffix.lower() in ('.csv', '.tsv', '.txt'):
    signal = ecg_files.decode_table(data, name, span, sampling, unit)
  else:
    raise ValueError(f'{name!r} is no ECG that can be read here; expected a '
                     'WFDB header (.hea, as a file and not embedded), a table '
                     '(.csv, .tsv, .txt) or a DICOM file')
  return _shaped(signal, name, rate=rate, leads=leads, fill=fill)


def lead_name(name: str) -> str:
  """The usual spelling of a lead: 'Lead I (Einthoven)' is 'I', 'AVR' is 'aVR'.

  A name that is no standard lead, such as 'MLII', is kept as it is.
  """
  bare = re.sub(r'\(.*?\)|\b(lead|ecg|ekg)\b|^(lead|ecg|ekg)_|[\s:]+', '',
                name.strip().replace('\x00', ''), flags=re.IGNORECASE)
  known = {lead.lower(): lead for lead in STANDARD}
  return known.get(bare.lower(), name.strip())


def select(signal: types.Signal, leads: Sequence[str]) -> types.Signal:
  """The leads named, in that order; limb leads are derived where they lack.

  Raises:
    ValueError: a lead is neither there nor derivable, or there twice.
  """
  if not isinstance(leads, (list, tuple)):
    raise ValueError(f'leads is {leads!r}; expected a list of names')
  rows = [_lead(signal, lead_name(str(lead))) for lead in leads]
  names = tuple(lead_name(str(lead)) for lead in leads)
  values = np.stack(rows) if rows else np.zeros((0, signal.values.shape[1]))
  return types.Signal(values.astype(np.float32), signal.rate, names,
                      signal.unit)


def resample(signal: types.Signal, rate: float) -> types.Signal:
  """At another rate, by `scipy.signal.resample_poly`, whose filter is even.

  Beyond its ends a lead goes on as the line through its first and last sample.
  Stretches of nan are bridged by lines for the filter and are nan again in the
  result: wherever one of the two samples around the new one was nan.

  Args:
    signal: n samples.
    rate: samples a second; the result has ceil(n * rate / old rate) samples.

  Raises:
    ValueError: a rate out of range, or too odd a ratio of the two.
  """
  if not isinstance(rate, (int, float)) or not RATES[0] <= rate <= RATES[1]:
    raise ValueError(f'rate is {rate!r}; expected {RATES[0]:g} to '
                     f'{RATES[1]:g} samples a second')
  if rate == signal.rate or not signal.values.shape[1]:
    return types.Signal(signal.values, float(rate), signal.leads, signal.unit)
  ratio = fractions.Fraction(rate / signal.rate).limit_denominator(
      _LARGEST_RATIO)
  up, down = ratio.numerator, ratio.denominator
  if not up or up > _LARGEST_RATIO or abs(
      ratio * signal.rate / rate - 1) > 1e-6:
    raise ValueError(f'cannot resample from {signal.rate!r} to {rate!r} samples'
                     ' a second; choose rates with a simpler ratio')
  values = np.asarray(signal.values, np.float64)
  new = dsp.resample_poly(bridge(values), up, down, axis=1, padtype='line')
  new = new.astype(np.float32)
  missing = np.isnan(values)
  if missing.any():
    place = np.arange(new.shape[1]) * down / up
    left = np.minimum(place.astype(np.int64), values.shape[1] - 1)
    right = np.minimum(np.ceil(place).astype(np.int64), values.shape[1] - 1)
    new[missing[:, left] | missing[:, right]] = np.nan
  return types.Signal(new, float(rate), signal.leads, signal.unit)


def bridge(values: np.ndarray) -> np.ndarray:
  """A copy [leads, samples] in which lines bridge what is not finite.

  Ends are held; a lead without any sample is 0. It is for filters, which nan
  would spoil: what they return is to be masked.
  """
  out = values.copy()
  for row in out:
    known = np.flatnonzero(np.isfinite(row))
    if not known.size:
      row[:] = 0
    elif known.size < row.size:
      row[:] = np.interp(np.arange(row.size), known, row[known])
  return out


def _lead(signal: types.Signal, lead: str) -> np.ndarray:
  """Values [samples] of a lead, or of what Einthoven makes of I and II."""
  count = signal.leads.count(lead)
  if count == 1:
    return signal.values[signal.leads.index(lead)]
  if count:
    raise ValueError(f'{count} leads are called {lead!r}; expected one')
  if lead in DERIVED and all(signal.leads.count(n) == 1 for n in ('I', 'II')):
    first, second = DERIVED[lead]
    return (first * signal.values[signal.leads.index('I')]
            + second * signal.values[signal.leads.index('II')])
  raise ValueError(f'no lead {lead!r}; there is {", ".join(signal.leads)}, and '
                   'III, aVR, aVL and aVF can be derived from I and II')


def _shaped(signal: types.Signal, name: str, *, rate: float,
            leads: Sequence[str], fill: float | None) -> types.Signal:
  """Leads, rate and fill, each where it is asked for."""
  values = np.asarray(signal.values, np.float32)
  # What is infinite was as little recorded as what is nan.
  values[~np.isfinite(values)] = np.nan
  signal = types.Signal(values, signal.rate,
                        tuple(lead_name(lead) for lead in signal.leads))
  try:
    signal = select(signal, leads) if leads else signal
    signal = resample(signal, rate) if rate else signal
  except ValueError as error:
    raise ValueError(f'{name!r}: {error}') from error
  if fill is not None:
    if not isinstance(fill, (int, float)) or not math.isfinite(fill):
      raise ValueError(f'{name!r}: fill is {fill!r}; expected mV or None')
    values = np.where(np.isnan(signal.values), np.float32(fill), signal.values)
    signal = types.Signal(values, signal.rate, signal.leads)
  return signal


def _span(seconds: Sequence[float]) -> tuple[float, float]:
  """(start, end) in s, with an end of infinity for that of the file."""
  listed = list(seconds) if isinstance(seconds, (list, tuple)) else [None]
  if not listed:
    return 0., math.inf
  if len(listed) == 2 and all(isinstance(s, (int, float)) for s in listed):
    start, end = listed[0], listed[1] or math.inf
    if 0 <= start < end:
      return float(start), float(end)
  raise ValueError(f'seconds is {seconds!r}; expected [start, end] with 0 <= '
                   'start < end, or an end of 0 for that of the file')


def _only_of_tables(name: str, sampling: float | str, unit: str) -> None:
  if sampling or unit:
    raise ValueError(f'{name!r} has its own rate and unit; sampling '
                     f'{sampling!r} and unit {unit!r} are for tables')
