"""WFDB formats against what was written, and headers that mean harm."""

import pathlib
import socket
import sys

import numpy as np
import pytest

from medrl.media import ecg

wfdb = pytest.importorskip('wfdb')
RECORDS = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'ecg' / 'wfdb'


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  def refuse(*args, **kwargs):
    raise AssertionError('the network was asked')
  monkeypatch.setattr(socket, 'getaddrinfo', refuse)
  monkeypatch.setattr(socket.socket, 'connect', refuse)


def _write(folder, name='r', form='16', units='mV', values=None, **options):
  if values is None:
    values = np.random.default_rng(0).integers(-400, 400, (101, 2)) / 200
  wfdb.wrsamp(name, fs=100, units=[units] * 2, sig_name=['I', 'II'],
              p_signal=values, fmt=[form] * 2, adc_gain=[200.] * 2,
              baseline=[0, 0], write_dir=str(folder), **options)
  return values


@pytest.mark.parametrize('form', ['16', '212', '80', '24', '32'])
@pytest.mark.parametrize('units, scale', [('mV', 1), ('uV', 1e-3), ('V', 1e3)])
def test_formats_and_units(tmp_path, form, units, scale):
  values = np.random.default_rng(1).integers(-120, 120, (101, 2)) / 200
  _write(tmp_path, form=form, units=units, values=values)
  signal = ecg.load('r.hea', str(tmp_path))
  np.testing.assert_allclose(signal.values, values.T * scale, rtol=1e-5,
                             atol=1e-9)


def _longhand_212(data):
  # Two samples of 12 bits in three bytes: low byte, two high halves, low byte.
  first, middle, last = data[::3], data[1::3], data[2::3]
  pairs = np.stack([first | (middle & 15) << 8, last | (middle >> 4) << 8], 1)
  return np.where(pairs > 2047, pairs - 4096, pairs)


@pytest.mark.skipif(not RECORDS.is_dir(), reason='needs shared/data/ecg')
def test_format_212_longhand():
  data = np.frombuffer((RECORDS / '100.dat').read_bytes(), np.uint8)
  samples = _longhand_212(data[:3000].astype(int))
  signal = ecg.load('100.hea', str(RECORDS), seconds=[0, 1000 / 360])
  np.testing.assert_allclose(signal.values.T, (samples - 1024) / 200,
                             atol=1e-6)


@pytest.mark.skipif(not RECORDS.is_dir(), reason='needs shared/data/ecg')
def test_annotations():
  samples, symbols = ecg.annotations('100.atr', str(RECORDS))
  assert len(samples) == len(symbols) == 2274
  assert {s: symbols.count(s) for s in set(symbols)} == {
      '+': 1, 'N': 2239, 'A': 33, 'V': 1}
  assert (np.diff(samples) > 0).all() and samples.dtype == np.int64


def test_an_unrecorded_sample_is_nan(tmp_path):
  values = _write(tmp_path)
  values[3, 1] = np.nan
  _write(tmp_path, values=values)
  signal = ecg.load('r.hea', str(tmp_path))
  assert np.isnan(signal.values[1, 3]) and np.isnan(signal.values).sum() == 1


def test_what_is_no_voltage_is_left_out(tmp_path):
  _write(tmp_path)
  header = tmp_path / 'r.hea'
  lines = header.read_text().splitlines()
  lines[2] = lines[2].replace('/mV', '/mmHg')
  header.write_text('\n'.join(lines))
  assert ecg.load('r.hea', str(tmp_path)).leads == ('I',)
  with pytest.raises(ValueError, match="no lead 'II'"):
    ecg.load('r.hea', str(tmp_path), leads=['II'])
  header.write_text('\n'.join(lines).replace('/mV', '/bpm'))
  with pytest.raises(ValueError, match='no voltage'):
    ecg.load('r.hea', str(tmp_path))


def test_segments_are_joined(tmp_path):
  first = _write(tmp_path, 'a')
  second = _write(tmp_path, 'b', values=-first)
  (tmp_path / 'm.hea').write_text('m/2 2 100 202\na 101\nb 101\n')
  signal = ecg.load('m.hea', str(tmp_path))
  np.testing.assert_allclose(signal.values, np.concatenate([first, second]).T,
                             atol=1e-6)


def test_links_within_the_root_are_followed(tmp_path):
  store = tmp_path / 'store'
  store.mkdir()
  values = _write(store)
  for ending in ('hea', 'dat'):
    (store / f'r.{ending}').rename(store / f'{ending}0')
    (tmp_path / f'r.{ending}').symlink_to(store / f'{ending}0')
  np.testing.assert_allclose(ecg.load('r.hea', str(tmp_path)).values, values.T,
                             atol=1e-6)


LINE = ' 16 200(0)/mV 16 0 0 0 0 I\n'
HOSTILE = {
    'absolute': ('r 1 100 10\n/etc/hostname' + LINE, 'beside it'),
    'parent': ('r 1 100 10\n../secret.dat' + LINE, 'beside it'),
    'url': ('r 1 100 10\nhttp://example.org/x.dat' + LINE, 'beside it'),
    'bucket': ('r 1 100 10\ns3://bucket/x.dat' + LINE, 'beside it'),
    'chain': ('r 1 100 10\nfile::x.dat' + LINE, 'beside it'),
    'link': ('r 1 100 10\nout.dat' + LINE, 'outside the data root'),
    'missing': ('r 1 100 10\nnone.dat' + LINE, 'names'),
    'huge': ('r 1 100 99999999999999\nin.dat' + LINE, '20 bytes'),
    'short': ('r 1 100 11\nin.dat' + LINE, '20 bytes'),
    'wide': ('r 1 100 10\nin.dat 16x9999999 200(0)/mV 16 0 0 0 0 I\n',
             '20 bytes'),
    'format': ('r 1 100 10\nin.dat 77 200(0)/mV 16 0 0 0 0 I\n', '77'),
    'rate': ('r 1 0 10\nin.dat' + LINE, 'samples a second'),
    'few lines': ('r 9 100 10\nin.dat' + LINE, '9 signals'),
    'empty': ('', 'cannot be read'),
    'noise': ('\x00\x01\x02\n\x03', 'cannot be read'),
    'no signals': ('r 0 100 0\n', 'no signals'),
    'itself': ('r/1 1 100 10\nr 10\n', 'within segments'),
    'segment outside': ('r/1 1 100 10\n../other 10\n', 'beside it'),
    'segment missing': ('r/1 1 100 10\nother 10\n', 'names'),
}


@pytest.mark.parametrize('kind', HOSTILE)
def test_headers_that_mean_harm(tmp_path, kind):
  text, message = HOSTILE[kind]
  root = tmp_path / 'root'
  root.mkdir()
  (tmp_path / 'secret.dat').write_bytes(b'\1' * 20)
  (root / 'in.dat').write_bytes(b'\1' * 20)
  (root / 'out.dat').symlink_to(tmp_path / 'secret.dat')
  (root / 'r.hea').write_text(text)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    ecg.load('r.hea', str(root))


def test_a_header_outside_the_root(tmp_path):
  root = tmp_path / 'root'
  root.mkdir()
  _write(tmp_path)
  (root / 'l.hea').symlink_to(tmp_path / 'r.hea')
  for path in ('../r.hea', str(tmp_path / 'r.hea'), 'l.hea'):
    with pytest.raises(ValueError, match='outside the data root'):
      ecg.load(path, str(root))


def test_annotations_that_mean_harm(tmp_path):
  root = tmp_path / 'root'
  root.mkdir()
  (tmp_path / 'r.hea').write_text('r 1 100 10\n')
  (root / 'r.hea').symlink_to(tmp_path / 'r.hea')
  (root / 'r.atr').write_bytes(b'\x12\x04\x00\x00')
  with pytest.raises(ValueError, match='outside the data root'):
    ecg.annotations('r.atr', str(root))
  with pytest.raises(FileNotFoundError):
    ecg.annotations('s.atr', str(root))
  (root / 'd.atr').write_bytes(b'\xff' * 31)
  with pytest.raises(ValueError, match='cannot be read'):
    ecg.annotations('d.atr', str(root))


def test_a_recording_too_long_is_read_in_parts(tmp_path, monkeypatch):
  values = _write(tmp_path)
  monkeypatch.setattr('medrl.media.ecg_files.MAX_VALUES', 100)
  with pytest.raises(ValueError, match='read a part by seconds'):
    ecg.load('r.hea', str(tmp_path))
  part = ecg.load('r.hea', str(tmp_path), seconds=[.5, 1])
  np.testing.assert_allclose(part.values, values[50:100].T, atol=1e-6)


def test_an_absent_package_says_what_to_install(tmp_path, monkeypatch):
  _write(tmp_path)
  monkeypatch.setitem(sys.modules, 'wfdb', None)
  with pytest.raises(ImportError, match='requirements-media.txt'):
    ecg.load('r.hea', str(tmp_path))
  monkeypatch.setitem(sys.modules, 'pydicom', None)
  with pytest.raises(ImportError, match='requirements-media.txt'):
    ecg.decode(b'\0' * 128 + b'DICM', 'x')


@pytest.mark.parametrize('cut', [1, 7, 60, 200])
def test_cut_files(tmp_path, cut):
  _write(tmp_path)
  whole = (tmp_path / 'r.dat').read_bytes()
  (tmp_path / 'r.dat').write_bytes(whole[:-cut])
  with pytest.raises(ValueError, match='bytes'):
    ecg.load('r.hea', str(tmp_path))
