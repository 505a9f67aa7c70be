"""ECGs in tables and DICOM waveforms, as signals in mV; limits of all readers.

WFDB records, which are several files, are read in `ecg_wfdb`; options that
shape a signal are in `ecg`; pixels of DICOM are in `dicom`.
"""

import csv
import io
import math
import re
from typing import Any

import numpy as np

from medrl import types
from medrl.media import files

UNITS = {'V': 1e3, 'mV': 1., 'uV': 1e-3}
# Leads times samples held at once: 24 hours of two leads at 360 a second.
MAX_VALUES = 1 << 26
_MAX_TABLE = 1 << 27    # bytes: text is read as a whole
INSTALL = 'install with: pip install -r launch/requirements-media.txt'

Span = tuple[float, float]


def decode_table(data: bytes, name: str, span: Span, sampling: float | str,
                 unit: str) -> types.Signal:
  """Columns of numbers in `unit` under a header of lead names.

  Empty cells, 'nan' and 'inf' were not recorded. Columns are separated by a
  comma, semicolon or tab.

  Raises:
    ValueError: no rate or unit is declared, a cell is no number, rows differ in
      length, or times are uneven.
  """
  if str(unit) not in UNITS:
    raise ValueError(f'{name!r}: unit is {unit!r}; a table needs one of '
                     f'{", ".join(UNITS)}')
  if len(data) > _MAX_TABLE:
    raise ValueError(f'{name!r} has {len(data)} bytes; expected at most '
                     f'{_MAX_TABLE} of a table: cut it or use WFDB')
  names, values = files.decoded(name, 'a table of leads',
                                lambda: _table(data))
  if isinstance(sampling, str):
    column, _, scale = sampling.partition('/')
    if column not in names or scale not in ('', 's', 'ms'):
      raise ValueError(
          f'{name!r}: sampling is {sampling!r}; expected samples a second or '
          f'one of the columns {", ".join(names)}, with \'/ms\' behind it '
          'where it holds milliseconds')
    place = names.index(column)
    times = values[place] * (1e-3 if scale == 'ms' else 1)
    rate = _rate_of_times(times, name)
    names = names[:place] + names[place + 1:]
    values = np.delete(values, place, axis=0)
  else:
    rate = rate_of(sampling, name)
  start, end = samples(span, rate, values.shape[1], len(names), name)
  return types.Signal((values[:, start:end] * UNITS[unit]).astype(np.float32),
                      rate, tuple(names))


def decode_dicom(data: bytes, name: str, span: Span) -> types.Signal:
  """The first original multiplex group of a DICOM waveform (PS3.3 C.10.9).

  Of the file only the waveform sequence is read. Channels that are no voltage
  are left out; the padding value is nan.

  Raises:
    ValueError: no waveform, or damaged.
    ImportError: pydicom is not installed.
  """
  try:
    import pydicom
    from pydicom import waveforms
  except ImportError as error:
    raise ImportError(f'DICOM needs pydicom; {INSTALL}') from error

  def read() -> types.Signal:
    dataset = pydicom.dcmread(io.BytesIO(data),
                              specific_tags=['WaveformSequence'])
    groups = dataset.get('WaveformSequence') or []
    if not groups:
      raise ValueError('it has no waveform')
    index = next((i for i, group in enumerate(groups) if group.get(
        'WaveformOriginality', 'ORIGINAL') == 'ORIGINAL'), 0)
    group = groups[index]
    rate = rate_of(float(group.SamplingFrequency), name)
    start, end = samples(span, rate, int(group.NumberOfWaveformSamples),
                          int(group.NumberOfWaveformChannels), name)
    values = waveforms.multiplex_array(dataset, index, as_raw=True)[start:end]
    return _channels(group, values, rate)

  return files.decoded(name, 'a DICOM waveform', read)


def _channels(group: Any, raw: np.ndarray, rate: float) -> types.Signal:
  """Raw samples [n, channels] to mV by each channel's sensitivity."""
  padding = group.get('WaveformPaddingValue')
  names, rows = [], []
  for channel, column in zip(group.ChannelDefinitionSequence, raw.T,
                             strict=True):
    units = channel.get('ChannelSensitivityUnitsSequence')
    scale = millivolts(units[0].CodeValue) if units else None
    if not scale:
      continue
    # Sensitivity is per unit of the samples, baseline in its unit.
    row = column * float(channel.ChannelSensitivity) * float(
        channel.get('ChannelSensitivityCorrectionFactor') or 1)
    row = (row + float(channel.get('ChannelBaseline') or 0)) * scale
    if padding is not None:
      empty = np.frombuffer(padding, raw.dtype)[0] if isinstance(
          padding, bytes) else padding
      row[column == empty] = np.nan
    names.append(str(channel.ChannelSourceSequence[0].CodeMeaning))
    rows.append(row)
  if not rows:
    raise ValueError('no channel has a unit of voltage')
  return types.Signal(np.stack(rows).astype(np.float32), rate, tuple(names))


def samples(span: Span, rate: float, length: float, leads: int,
            name: str) -> tuple[int, int | None]:
  """First and last sample of a span; None where the header has no length."""
  start = int(round(span[0] * rate))
  end = min(length, span[1] * rate)
  end = None if math.isinf(end) else int(round(end))
  if start >= length:
    raise ValueError(f'{name!r} lasts {length / rate:g} s; seconds begin at '
                     f'{span[0]:g}')
  if end is not None and (end - start) * leads > MAX_VALUES:
    raise ValueError(f'{name!r}: {end - start} samples of {leads} leads are '
                     f'more than {MAX_VALUES} values; read a part by seconds')
  return start, end


def rate_of(rate: Any, name: str) -> float:
  if not isinstance(rate, (int, float)) or not 1 <= rate <= 20_000:
    raise ValueError(f'{name!r}: {rate!r} samples a second; expected 1 to '
                     '20000 (of a table: say them by sampling)')
  return float(rate)


def _rate_of_times(times: np.ndarray, name: str) -> float:
  """Samples a second of times in s, even but for their rounding."""
  last = len(times) - 1
  step = float(times[-1] - times[0]) / max(last, 1)
  even = times[0] + step * np.arange(len(times))
  # A time that is not finite fails the comparison as well.
  if not step > 0 or not np.abs(times - even).max() < .6 * step:
    raise ValueError(f'{name!r}: its times are not even and increasing; '
                     'resample it beforehand')
  # Times that are rounded give 499.9987 for 500.
  whole = round(1 / step)
  near = abs(whole * step - 1) < 1e-4
  return rate_of(float(whole) if near else 1 / step, name)


def millivolts(unit: Any) -> float | None:
  """mV in a unit, whatever its case; None of what is no voltage."""
  bare = re.sub('[\u00b5\u03bc]', 'u', str(unit).strip()).lower()
  return {name.lower(): scale for name, scale in UNITS.items()}.get(bare)


def _table(data: bytes) -> tuple[list[str], np.ndarray]:
  """Header and columns [columns, rows]."""
  text = data.decode('utf-8-sig')
  first = text.partition('\n')[0]
  separator = max(',;\t', key=first.count)
  rows = csv.reader(io.StringIO(text), delimiter=separator)
  names = [cell.strip() for cell in next(rows)]
  if any(_is_number(cell) for cell in names):
    raise ValueError(f'its first line is {first[:80]!r}; expected lead names')
  cells = [row for row in rows if row]
  wrong = [i for i, row in enumerate(cells) if len(row) != len(names)]
  if wrong or not cells:
    raise ValueError(f'{len(cells)} rows, of which {len(wrong)} have not the '
                     f'{len(names)} cells of the header')
  flat = [float(cell.strip() or 'nan') for row in cells for cell in row]
  return names, np.asarray(flat).reshape(len(cells), len(names)).T


def _is_number(cell: str) -> bool:
  try:
    return math.isfinite(float(cell))
  except ValueError:
    return False
