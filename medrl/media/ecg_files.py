"""What is inside WFDB records, tables and DICOM waveforms, as signals in mV.

A WFDB header names further files; each must lie below the data root, and none
is fetched. Options that shape a signal are in `ecg`; pixel data of DICOM is in
`dicom`.
"""

import csv
import io
import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from medrl import types
from medrl.media import files

UNITS = {'V': 1e3, 'mV': 1., 'uV': 1e-3, 'nV': 1e-6}
# Leads times samples held at once: 24 hours of two leads at 360 a second.
MAX_VALUES = 1 << 26
_INSTALL = 'install with: pip install -r launch/requirements-media.txt'
# Bytes a sample of what is not compressed (signal(5) of the WFDB manual).
_BYTES = {'8': 1, '16': 2, '24': 3, '32': 4, '61': 2, '80': 1, '160': 2,
          '212': 1.5, '310': 4 / 3, '311': 4 / 3}
_PACKED = ('508', '516', '524')    # FLAC
_MAX_HEADER = 1 << 20
_MAX_SEGMENTS = 10_000

Span = tuple[float, float]


def read_wfdb(path: str, root: str, span: Span) -> types.Signal:
  """The voltages of a WFDB record in mV, of `span` in s.

  A signal with several samples a frame is averaged over the frame. Signals that
  are no voltage (a pulse, a pressure) are left out.

  Raises:
    ValueError: the header or a file that it names is damaged, lies outside
      `root` or is shorter than it says; or too much is asked for.
    FileNotFoundError: a file is missing.
    ImportError: wfdb is not installed.
  """
  wfdb = _wfdb()
  name = _record(path, root)
  header = files.decoded(path, 'a WFDB header', lambda: wfdb.rdheader(name))
  _check_header(wfdb, header, name, root)
  if not header.sig_len and not header.n_sig:
    raise ValueError(f'{path!r} has no signals')
  rate = _rate(header.fs, path)
  length = header.sig_len if header.sig_len else math.inf
  start, end = _samples(span, rate, length, header.n_sig, path)
  record = files.decoded(path, 'a WFDB record', lambda: wfdb.rdrecord(
      name, sampfrom=start, sampto=end))
  scales = [UNITS.get(_unit(unit)) for unit in record.units]
  kept = [i for i, scale in enumerate(scales) if scale]
  if not kept:
    raise ValueError(f'{path!r} has no voltage; its units are {record.units}')
  values = record.p_signal.T[kept] * np.array([[scales[i]] for i in kept])
  return types.Signal(values.astype(np.float32), rate,
                      tuple(str(record.sig_name[i]) for i in kept))


def annotations(path: str, root: str) -> tuple[np.ndarray, tuple[str, ...]]:
  """The annotations of a WFDB file such as '100.atr'.

  Returns:
    int64 [n] samples from 0, increasing, and the n symbols of the WFDB
    manual: 'N' for a normal beat, '+' for a change of rhythm.

  Raises:
    ValueError: outside `root`, or damaged.
    FileNotFoundError: there is no such file.
    ImportError: wfdb is not installed.
  """
  wfdb = _wfdb()
  files.read(path, root, limit=MAX_VALUES)
  whole = _record(path, root)
  # wfdb looks at the header beside it for a rate.
  _check_below(pathlib.Path(whole + '.hea'), root)
  extension = pathlib.PurePath(path).suffix[1:]
  found = files.decoded(path, 'WFDB annotations',
                        lambda: wfdb.rdann(whole, extension))
  return np.asarray(found.sample, np.int64), tuple(found.symbol)


def decode_table(data: bytes, name: str, span: Span, sampling: float | str,
                 unit: str) -> types.Signal:
  """Columns of numbers in `unit` under a header of lead names.

  Empty cells, 'nan' and 'inf' were not recorded. Columns are separated by a
  comma, semicolon or tab.

  Raises:
    ValueError: no rate or unit is declared, a cell is no number, rows differ in
      length, or times are uneven.
  """
  if unit not in UNITS:
    raise ValueError(f'{name!r}: unit is {unit!r}; a table needs one of '
                     f'{", ".join(UNITS)}')
  names, values = files.decoded(name, 'a table of leads',
                                lambda: _table(data))
  if isinstance(sampling, str):
    column, _, scale = sampling.partition('/')
    if column not in names or scale not in ('', 's', 'ms'):
      raise ValueError(f'{name!r}: sampling is {sampling!r}; expected samples a '
                       f'second or one of the columns {", ".join(names)}, with '
                       "'/ms' behind it where it holds milliseconds")
    place = names.index(column)
    times = values[place] * (1e-3 if scale == 'ms' else 1)
    rate = _rate_of(times, name)
    names = names[:place] + names[place + 1:]
    values = np.delete(values, place, axis=0)
  else:
    rate = _rate(sampling, name)
  start, end = _samples(span, rate, values.shape[1], len(names), name)
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
    raise ImportError(f'DICOM needs pydicom; {_INSTALL}') from error

  def read() -> types.Signal:
    dataset = pydicom.dcmread(io.BytesIO(data),
                              specific_tags=['WaveformSequence'])
    groups = dataset.get('WaveformSequence') or []
    if not groups:
      raise ValueError('it has no waveform')
    index = next((i for i, group in enumerate(groups) if group.get(
        'WaveformOriginality', 'ORIGINAL') == 'ORIGINAL'), 0)
    group = groups[index]
    rate = _rate(float(group.SamplingFrequency), name)
    start, end = _samples(span, rate, int(group.NumberOfWaveformSamples),
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
    scale = UNITS.get(_unit(units[0].CodeValue)) if units else None
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


def _wfdb() -> Any:
  try:
    import wfdb
  except ImportError as error:
    raise ImportError(f'WFDB records need wfdb; {_INSTALL}') from error
  return wfdb


def _record(path: str, root: str) -> str:
  """The record's name as wfdb wants it: an absolute path without its ending.

  Links are followed for the check only, since the files beside a linked header
  are links too.
  """
  full = pathlib.Path(os.path.abspath(os.path.join(root, path)))
  files.locate(str(full), root)
  _check_below(full, root)
  if full.suffix == '.hea' and full.stat().st_size > _MAX_HEADER:
    raise ValueError(f'{path!r} has {full.stat().st_size} bytes; expected at '
                     f'most {_MAX_HEADER} of a header')
  return str(full.with_suffix(''))


def _check_below(full: pathlib.Path, root: str) -> None:
  # wfdb opens names through fsspec, to which these mean other places.
  if '::' in str(full) or '://' in str(full) or not files.within(full, root):
    raise ValueError(f'{str(full)!r} is a URL or leads outside the data root '
                     f'{root!r}; copy the file below the root')


def _check_header(wfdb: Any, header: Any, name: str, root: str,
                  nested: bool = False) -> None:
  """All files that a header names are there, below the root and long enough."""
  folder = pathlib.Path(name).parent
  if hasattr(header, 'seg_name'):
    if nested or len(header.seg_name) > _MAX_SEGMENTS:
      raise ValueError(f'{name!r}: {len(header.seg_name)} segments, or segments '
                       'within segments')
    for segment in set(header.seg_name) - {'~'}:
      _check_name(segment, folder, segment + '.hea', root)
      inner = files.decoded(
          segment, 'a WFDB header',
          lambda segment=segment: wfdb.rdheader(str(folder / segment)))
      _check_header(wfdb, inner, str(folder / segment), root, nested=True)
    return
  if not header.n_sig or not header.file_name:
    return
  if len(header.file_name) != header.n_sig:
    raise ValueError(f'{name!r}: {header.n_sig} signals are announced and '
                     f'{len(header.file_name)} described')
  for file in set(header.file_name) - {'~'}:
    full = _check_name(file, folder, file, root)
    rows = [i for i, other in enumerate(header.file_name) if other == file]
    _check_length(header, rows, full)


def _check_name(name: str, folder: pathlib.Path, file: str,
                root: str) -> pathlib.Path:
  if '://' in name or '::' in name or os.path.isabs(name):
    raise ValueError(f'the header names {name!r}; expected a file beside it')
  full = folder / file
  _check_below(full, root)
  if not full.is_file():
    raise FileNotFoundError(f'no file {str(full)!r}, which the WFDB header '
                            'beside it names')
  return full


def _check_length(header: Any, rows: list[int], full: pathlib.Path) -> None:
  """A file is as long as its header says, before anything is allocated."""
  formats = {header.fmt[i] for i in rows}
  width = _BYTES.get(next(iter(formats))) if len(formats) == 1 else None
  if width is None and not formats <= set(_PACKED):
    raise ValueError(f'{str(full)!r}: format {sorted(map(str, formats))}; '
                     f'expected one of {", ".join([*_BYTES, *_PACKED])}')
  if width and header.sig_len:
    frame = sum(header.samps_per_frame[i] or 1 for i in rows)
    need = int(header.sig_len * frame * width) + (header.byte_offset[
        rows[0]] or 0)
    if full.stat().st_size < need:
      raise ValueError(f'{str(full)!r} has {full.stat().st_size} bytes; its '
                       f'header says {header.sig_len} samples, {need} bytes')


def _samples(span: Span, rate: float, length: float, leads: int,
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


def _rate(rate: Any, name: str) -> float:
  if not isinstance(rate, (int, float)) or not 1 <= rate <= 20_000:
    raise ValueError(f'{name!r}: {rate!r} samples a second; expected 1 to '
                     '20000 (of a table: say them by sampling)')
  return float(rate)


def _rate_of(times: np.ndarray, name: str) -> float:
  """Samples a second of even times in s."""
  steps = np.diff(times)
  if not steps.size or not np.isfinite(times).all() or steps.mean() <= 0 or (
      np.abs(steps - steps.mean()).max() > .1 * steps.mean()):
    raise ValueError(f'{name!r}: its times are not even and increasing; '
                     'resample it beforehand')
  # Times that are rounded give 499.9987 for 500.
  rate = 1 / float(steps.mean())
  whole = round(rate)
  return _rate(float(whole) if abs(rate - whole) < 1e-3 * rate else rate, name)


def _unit(unit: Any) -> str:
  """'uV' of 'µV', 'MV' (as some devices write mV) or 'mv'."""
  bare = re.sub('[\u00b5\u03bc]', 'u', str(unit).strip())
  return {'v': 'V', 'mv': 'mV', 'uv': 'uV', 'nv': 'nV'}.get(bare.lower(), bare)


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
