"""Readers of ECGs against wfdb, pydicom, scipy and what the data set says."""

import json
import pathlib

import numpy as np
import pytest
from scipy import signal as dsp

from medrl import types
from medrl.media import ecg

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
RECORDS = DATA / 'ecg'
WAVEFORM = 'files/waveform_ecg.dcm'
needs_records = pytest.mark.skipif(
    not RECORDS.is_dir(), reason='needs shared/data/ecg')
needs_dicom = pytest.mark.skipif(
    not (DATA / 'dicom' / WAVEFORM).is_file(), reason='needs shared/data/dicom')


def _index():
  if not RECORDS.is_dir():
    return []
  lines = (RECORDS / 'index.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def _signal(values, rate=100., leads=('I', 'II')):
  return types.Signal(np.asarray(values, np.float32), rate, leads)


@pytest.mark.parametrize('row', _index(), ids=lambda row: row['record'])
def test_records_hold_what_the_table_says(row):
  signal = ecg.load(row['record'] + '.hea', str(RECORDS))
  kept = [i for i, unit in enumerate(row['units']) if unit == 'mV']
  assert signal.leads == tuple(ecg.lead_name(row['leads'][i]) for i in kept)
  assert signal.rate == row['fs'] and signal.unit == 'mV'
  assert signal.values.shape == (len(kept), row['samples'])
  assert signal.values.dtype == np.float32
  np.testing.assert_allclose(np.nanmean(signal.values, axis=1, dtype=float),
                             np.array(row['mean'])[kept], atol=1e-5)


@needs_records
@pytest.mark.parametrize('name', ['100', '100_3chan', 'ptbxl_00001_lr'])
def test_records_equal_those_of_wfdb(name):
  wfdb = pytest.importorskip('wfdb')
  values, _ = wfdb.rdsamp(str(RECORDS / 'wfdb' / name))
  signal = ecg.load(f'wfdb/{name}.hea', str(RECORDS))
  np.testing.assert_array_equal(signal.values, values.T.astype(np.float32))


@needs_records
def test_a_part_is_a_part_of_the_whole():
  whole = ecg.load('wfdb/100.hea', str(RECORDS))
  part = ecg.load('wfdb/100.hea', str(RECORDS), seconds=[60, 70.5])
  np.testing.assert_array_equal(part.values, whole.values[:, 21600:25380])
  last = ecg.load('wfdb/100.hea', str(RECORDS), seconds=[1800, 0])
  np.testing.assert_array_equal(last.values, whole.values[:, 648000:])


@needs_dicom
def test_a_waveform_equals_that_of_pydicom():
  pydicom = pytest.importorskip('pydicom')
  full = DATA / 'dicom' / WAVEFORM
  values = pydicom.dcmread(full).waveform_array(0) / 1000   # it is in uV
  signal = ecg.load(WAVEFORM, str(DATA / 'dicom'))
  assert signal.leads == ecg.STANDARD and signal.rate == 1000
  np.testing.assert_allclose(signal.values, values.T, atol=1e-6)
  again = ecg.decode(full.read_bytes(), 'embedded', leads=['V2', 'I'],
                     seconds=[1, 2])
  assert again.leads == ('V2', 'I')
  np.testing.assert_array_equal(again.values, signal.values[[7, 0], 1000:2000])


TABLE = b'time,AVR,i ,V1\n0,1000,-500,\n2,2000,nan,3\n4,3000,0,inf\n'


def test_a_table_in_microvolts_with_times_in_milliseconds():
  signal = ecg.decode(TABLE, 'x.csv', sampling='time/ms', unit='uV')
  assert signal.leads == ('aVR', 'I', 'V1') and signal.rate == 500
  np.testing.assert_allclose(signal.values, [
      [1, 2, 3], [-.5, np.nan, 0], [np.nan, .003, np.nan]], rtol=1e-6)
  filled = ecg.decode(TABLE, 'x.csv', sampling='time/ms', unit='uV', fill=0.)
  np.testing.assert_allclose(filled.values[2], [0, .003, 0], rtol=1e-6)


@pytest.mark.parametrize('separator', [';', '\t'])
def test_a_table_of_declared_rate(tmp_path, separator):
  text = separator.join(['II', 'MLII']) + '\n' + separator.join(['.001', '2'])
  (tmp_path / 'a.csv').write_text('\ufeff' + text)
  signal = ecg.load('a.csv', str(tmp_path), sampling=250, unit='V')
  assert signal.leads == ('II', 'MLII') and signal.rate == 250
  np.testing.assert_allclose(signal.values, [[1], [2000]], rtol=1e-6)


@pytest.mark.parametrize('digits', [3, 6])
def test_rounded_times_give_the_rate(digits):
  rows = [f'{round(i / 360, digits)},0' for i in range(3600)]
  data = '\n'.join(['t,I', *rows]).encode()
  assert ecg.decode(data, 'x.csv', sampling='t', unit='mV').rate == 360


@pytest.mark.parametrize('data, options, message', [
    (b'I,II\n1,2\n', {'sampling': 100}, 'unit'),
    (b'I,II\n1,2\n', {'unit': 'mV'}, 'sampling'),
    (b'I,II\n1,2\n', {'unit': 'mV', 'sampling': 'time'}, "'time'"),
    (b'I,II\n1,2\n', {'unit': ['mV'], 'sampling': 100}, 'unit'),
    (b'1,2\n1,2\n', {'unit': 'mV', 'sampling': 100}, 'lead names'),
    (b'I,II\n1,2\n3\n', {'unit': 'mV', 'sampling': 100}, '1 have not'),
    (b'I,II\n1,two\n', {'unit': 'mV', 'sampling': 100}, 'two'),
    (b'I,II\n', {'unit': 'mV', 'sampling': 100}, '0 rows'),
    (b'', {'unit': 'mV', 'sampling': 100}, 'cannot be read'),
    (b't,I\n0,1\n1,1\n1,1\n9,1\n', {'unit': 'mV', 'sampling': 't'}, 'even'),
    (b't,I\n0,1\n', {'unit': 'mV', 'sampling': 't'}, 'even'),
    (b't,I\n0,1\nnan,1\n', {'unit': 'mV', 'sampling': 't'}, 'even'),
])
def test_a_table_that_says_too_little(data, options, message):
  with pytest.raises(ValueError, match=message):
    ecg.decode(data, 'x.csv', **options)


@pytest.mark.parametrize('options, message', [
    ({'leads': ['V9']}, 'V9'), ({'leads': 'II'}, 'list of names'),
    ({'rate': -5}, 'rate'), ({'rate': 'fast'}, 'rate'),
    ({'seconds': 5}, 'seconds'), ({'seconds': [2, 1]}, 'seconds'),
    ({'seconds': [5, 6]}, 'lasts'), ({'fill': 'zero'}, 'fill'),
])
def test_options_are_checked(options, message):
  with pytest.raises(ValueError, match=message):
    ecg.decode(b'I,II\n1,2\n', 'x.csv', sampling=100, unit='mV', **options)


@needs_records
def test_options_of_tables_are_not_for_records():
  with pytest.raises(ValueError, match='for tables'):
    ecg.load('wfdb/100.hea', str(RECORDS), unit='uV')


@pytest.mark.parametrize('name', ['x.hea', 'x.png', 'x'])
def test_what_is_no_single_file_is_not_decoded(name):
  with pytest.raises(ValueError, match='no ECG'):
    ecg.decode(b'100 2 360 650000', name)


@pytest.mark.parametrize('written, name', [
    ('Lead I (Einthoven)', 'I'), ('AVR', 'aVR'), ('avf', 'aVF'), ('v5', 'V5'),
    ('ECG II', 'II'), ('ECG_V1', 'V1'), ('Lead aVL', 'aVL'), ('MLII', 'MLII'),
    (' V ', 'V'), ('ABP', 'ABP')])
def test_lead_names(written, name):
  assert ecg.lead_name(written) == name


def test_limb_leads_are_derived_and_those_there_are_kept():
  signal = _signal([[1., 2.], [5., 3.], [9., 9.]], leads=('I', 'II', 'aVF'))
  chosen = ecg.select(signal, ['aVF', 'III', 'aVR', 'aVL', 'I'])
  # Einthoven: I + III = II; Goldberger: aVR + aVL + aVF = 0 (here of derived).
  np.testing.assert_array_equal(chosen.values, [
      [9, 9], [4, 1], [-3, -2.5], [-1.5, .5], [1, 2]])
  with pytest.raises(ValueError, match='derived from I and II'):
    ecg.select(_signal([[1.]], leads=('I',)), ['III'])
  with pytest.raises(ValueError, match='2 leads are called'):
    ecg.select(_signal([[1.], [2.]], leads=('I', 'I')), ['I'])


@needs_records
def test_derived_leads_are_those_recorded():
  signal = ecg.load('wfdb/ptbxl_00001_lr.hea', str(RECORDS))
  derived = ecg.select(types.Signal(signal.values[:2], 100., ('I', 'II')),
                       ['III', 'aVR', 'aVL', 'aVF'])
  np.testing.assert_allclose(derived.values, signal.values[2:6], atol=.0021)


@pytest.mark.parametrize('old, new, up, down', [
    (360., 500., 25, 18), (1000., 500., 1, 2), (100., 250., 5, 2)])
def test_resampling_is_that_of_scipy(old, new, up, down):
  values = np.random.default_rng(0).normal(size=(2, 777)).cumsum(1)
  values = values.astype(np.float32)
  expected = dsp.resample_poly(values.astype(float), up, down, axis=1,
                               padtype='line')
  result = ecg.resample(_signal(values, old), new)
  assert result.rate == new
  np.testing.assert_allclose(result.values, expected, rtol=1e-5, atol=1e-5)


def test_resampling_keeps_time_and_level():
  # A tone far below both rates is the same tone, offset and all.
  def tone(time):
    return 3 + np.sin(2 * np.pi * 4 * time)
  signal = _signal([tone(np.arange(360 * 4) / 360)], 360., ('I',))
  result = ecg.resample(signal, 250).values[0]
  expected = tone(np.arange(1000) / 250)
  np.testing.assert_allclose(result[50:-50], expected[50:-50], atol=2e-3)


def test_what_was_not_recorded_stays_so_and_spoils_nothing():
  values = np.full((2, 400), 2., np.float32)
  values[0, 100:151] = np.nan
  values[1] = np.nan
  result = ecg.resample(_signal(values), 200).values
  assert np.isnan(result[1]).all()
  missing = np.flatnonzero(np.isnan(result[0]))
  # Samples 100 to 150 at 100 a second are 1.0 to 1.5 s: 200 to 300 at 200, and
  # one to each side that lies between a known sample and a missing one.
  assert missing[0] == 199 and missing[-1] == 301 and len(missing) == 103
  np.testing.assert_allclose(result[0][~np.isnan(result[0])], 2, atol=5e-3)


def test_a_rate_that_no_filter_reaches():
  with pytest.raises(ValueError, match='simpler ratio'):
    ecg.resample(_signal([[1., 2.]], 19_999.), 1.7)


@needs_dicom
@pytest.mark.parametrize('damage', [
    lambda d: d[:4000], lambda d: d[:len(d) // 2], lambda d: d[:132],
    lambda d: d[:140] + b'\xff' * 400 + d[540:]])
def test_a_damaged_waveform_is_a_clear_error(damage):
  pytest.importorskip('pydicom')
  data = (DATA / 'dicom' / WAVEFORM).read_bytes()
  with pytest.raises(ValueError, match='cannot be read as a DICOM waveform'):
    ecg.decode(damage(data), 'x.dcm')


@needs_dicom
def test_a_dicom_image_is_no_waveform():
  pytest.importorskip('pydicom')
  name = 'files/CT_small.dcm'
  with pytest.raises(ValueError, match='no waveform'):
    ecg.load(name, str(DATA / 'dicom'))
