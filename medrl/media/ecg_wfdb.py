"""WFDB records and annotations of PhysioNet, by the wfdb package.

A header names further files; each must lie below the data root, and none is
fetched. What it cannot read of a record it does not guess.
"""

import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from medrl import types
from medrl.media import ecg_files
from medrl.media import files

# Bytes a sample of what is not compressed (signal(5) of the WFDB manual).
_BYTES = {'8': 1, '16': 2, '24': 3, '32': 4, '61': 2, '80': 1, '160': 2,
          '212': 1.5, '310': 4 / 3, '311': 4 / 3}
_PACKED = ('508', '516', '524')    # FLAC
_MAX_HEADER = 1 << 20
_MAX_ANNOTATIONS = 1 << 26
_MAX_SEGMENTS = 10_000
# Samples a second, and of a counter, with its base (header(5)).
_NUMBER = r'-?\d+(\.\d*)?'
_RATE = re.compile(rf'{_NUMBER}(/{_NUMBER}(\({_NUMBER}\))?)?')


def read(path: str, root: str, span: ecg_files.Span) -> types.Signal:
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
  header = _header(wfdb, name)
  _check_header(wfdb, header, name, root)
  if not header.sig_len and not header.n_sig:
    raise ValueError(f'{path!r} has no signals')
  rate = ecg_files.rate_of(header.fs, path)
  length = header.sig_len if header.sig_len else math.inf
  start, end = ecg_files.samples(span, rate, length, header.n_sig, path)
  record = files.decoded(path, 'a WFDB record', lambda: wfdb.rdrecord(
      name, sampfrom=start, sampto=end))
  scales = [ecg_files.millivolts(unit) for unit in record.units]
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
  files.read(path, root, limit=_MAX_ANNOTATIONS)
  whole = _record(path, root)
  # wfdb looks at the header beside it for a rate.
  _check_below(pathlib.Path(whole + '.hea'), root)
  extension = pathlib.PurePath(path).suffix[1:]
  found = files.decoded(path, 'WFDB annotations',
                        lambda: wfdb.rdann(whole, extension))
  return np.asarray(found.sample, np.int64), tuple(found.symbol)


def _wfdb() -> Any:
  try:
    import wfdb
  except ImportError as error:
    raise ImportError(f'WFDB records need wfdb; {ecg_files.INSTALL}') from error
  return wfdb


def _record(path: str, root: str) -> str:
  """The record's name as wfdb wants it: an absolute path without its ending.

  Links are followed for the check only, since the files beside a linked header
  are links too.
  """
  full = pathlib.Path(os.path.abspath(os.path.join(root, path)))
  files.locate(str(full), root)
  _check_below(full, root)
  return str(full.with_suffix(''))


def _header(wfdb: Any, name: str) -> Any:
  """What wfdb makes of the header of a record, if that names files beside it.
  """
  path = name + '.hea'
  size = pathlib.Path(path).stat().st_size
  if size > _MAX_HEADER:
    raise ValueError(f'{path!r} has {size} bytes; expected at most '
                     f'{_MAX_HEADER} of a header')
  text = pathlib.Path(path).read_text(encoding='latin-1')
  lines = [line.split() for line in text.splitlines()
           if line.strip() and not line.lstrip().startswith('#')]
  # wfdb takes as much of a number as it knows: 1 of 1e300.
  if lines and len(lines[0]) > 2 and not _RATE.fullmatch(lines[0][2]):
    raise ValueError(f'{path!r} has {lines[0][2]!r} samples a second; expected '
                     f'a number, as in header(5)')
  for file in {words[0] for words in lines[1:]}:
    # A folder is no more meant than a URL: names are of files beside it.
    if any(mark in file for mark in ('/', '\\', ':', '..')):
      raise ValueError(f'{path!r} names {file!r}; expected a file beside it')
  return files.decoded(path, 'a WFDB header', lambda: wfdb.rdheader(name))


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
      raise ValueError(f'{name!r}: {len(header.seg_name)} segments, or '
                       'segments within segments')
    for segment in set(header.seg_name) - {'~'}:
      _check_file(folder / (segment + '.hea'), root)
      inner = _header(wfdb, str(folder / segment))
      _check_header(wfdb, inner, str(folder / segment), root, nested=True)
    return
  if not header.n_sig or not header.file_name:
    return
  if len(header.file_name) != header.n_sig:
    raise ValueError(f'{name!r}: {header.n_sig} signals are announced and '
                     f'{len(header.file_name)} described')
  for file in set(header.file_name) - {'~'}:
    _check_file(folder / file, root)
    rows = [i for i, other in enumerate(header.file_name) if other == file]
    _check_length(header, rows, folder / file)


def _check_file(full: pathlib.Path, root: str) -> None:
  _check_below(full, root)
  if not full.is_file():
    raise FileNotFoundError(f'no file {str(full)!r}, which the WFDB header '
                            'beside it names')


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
