"""Rates and intervals against truth by construction, annotations, a machine."""

import math
import pathlib

import numpy as np
import pytest

from medrl import types
from medrl.media import ecg
from medrl.media import ecg_beat
from medrl.media import ecg_measure
from medrl.media import ecg_synthetic
from medrl.media import ecg_waves

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
needs_records = pytest.mark.skipif(
    not (DATA / 'ecg').is_dir(), reason='needs shared/data/ecg')
NAMES = ('rate', 'pr_ms', 'qrs_ms', 'qt_ms')


def _cases(count, seed):
  """Intervals that fit and signals with noise and wander of any size."""
  rng = np.random.default_rng(seed)
  for i in range(count):
    truth = ecg_synthetic.draw_intervals(rng)
    yield truth, ecg_synthetic.synthesise(
        **truth, seed=i, noise=rng.uniform(0, .05), wander=rng.uniform(0, .4))


def test_two_hundred_ecgs_of_known_rate_and_intervals():
  errors = np.array([
      [found[name] - truth[name] for name in NAMES]
      for truth, signal in _cases(200, 21)   # of no set that was tuned on
      for found in [ecg_measure.intervals(signal)]])
  size = np.abs(errors)
  print('mean and worst errors', dict(zip(NAMES, zip(
      size.mean(0).round(2), size.max(0).round(2)))))
  # nan, which is not measured, fails as well.
  assert (size[:, 0] <= 1).all()
  assert (size[:, 1:] <= 20).all()


def test_other_rates_of_sampling_and_fewer_leads():
  for truth, signal in _cases(12, 7):
    for rate in (125, 1000):
      found = ecg_measure.intervals(ecg.resample(signal, rate))
      assert all(abs(found[n] - truth[n]) <= 20 for n in NAMES)
    found = ecg_measure.heart_rate(ecg.select(signal, ['II']))
    assert found == pytest.approx(truth['rate'], abs=1)


@needs_records
def test_beats_of_record_100_are_those_annotated():
  pytest.importorskip('wfdb')
  root = str(DATA / 'ecg')
  signal = ecg.load('wfdb/100.hea', root)
  samples, symbols = ecg.annotations('wfdb/100.atr', root)
  true = samples[[s != '+' for s in symbols]] / 360
  rate = 60 * (len(true) - 1) / (true[-1] - true[0])
  assert ecg_measure.heart_rate(signal) == pytest.approx(rate, abs=.1)
  found = ecg_measure.beats(signal)
  # The usual tolerance is 150 ms (ANSI/AAMI EC57); here all are within 100.
  far = np.abs(found[:, None] - true).min(1) > .1
  missed = np.abs(found[:, None] - true).min(0) > .1
  assert far.sum() == 0 and missed.sum() <= 2


@pytest.mark.skipif(not (DATA / 'dicom').is_dir(), reason='needs shared/data')
def test_a_real_ecg_is_measured_as_the_machine_did():
  pytest.importorskip('pydicom')
  signal = ecg.load('files/waveform_ecg.dcm', str(DATA / 'dicom'))
  found = ecg_measure.intervals(signal)
  # Its WaveformAnnotationSequence: RR 982, PR 161, QRS 75, QT 368 ms.
  assert found['rr_ms'] == pytest.approx(982, abs=2)
  assert found['pr_ms'] == pytest.approx(161, abs=20)
  assert found['qrs_ms'] == pytest.approx(75, abs=20)
  assert found['qt_ms'] == pytest.approx(368, abs=20)


def test_corrected_intervals():
  signal = ecg_synthetic.synthesise(120, 120, 80, 300, noise=0, wander=0)
  found = ecg_measure.intervals(signal)
  assert found['rr_ms'] == pytest.approx(500, abs=.5)
  assert found['qtc_bazett_ms'] == pytest.approx(
      found['qt_ms'] / math.sqrt(.5), rel=1e-3)
  assert found['qtc_fridericia_ms'] == pytest.approx(
      found['qt_ms'] / .5 ** (1 / 3), rel=1e-3)


def test_what_was_not_recorded_is_no_pause():
  signal = ecg_synthetic.synthesise(80, 150, 90, 350, seconds=20)
  values = signal.values.copy()
  values[:, 4000:6500] = np.nan
  values[3] = np.nan
  holed = types.Signal(values, signal.rate, signal.leads)
  found = ecg_measure.intervals(holed)
  assert found['rate'] == pytest.approx(80, abs=.5)
  assert found['pr_ms'] == pytest.approx(150, abs=20)
  times = ecg_measure.beats(holed)
  assert not ((times > 8.1) & (times < 12.9)).any()


def test_a_beat_of_another_kind_does_not_bend_the_average():
  signal = ecg_synthetic.synthesise(60, 160, 90, 400, seconds=12)
  wide = ecg_synthetic.synthesise(60, 160, 90, 400, seconds=12, noise=0,
                                  wander=0)
  values = signal.values.copy()
  at = ecg_measure.beats(signal)[5]
  part = slice(int((at - .15) * 500), int((at + .45) * 500))
  values[:, part] -= 2 * wide.values[:, part]
  found = ecg_measure.intervals(types.Signal(values, 500., signal.leads))
  assert [found[n] for n in NAMES[1:]] == pytest.approx(
      [160, 90, 400], abs=12)


@pytest.mark.parametrize('values', [
    np.zeros((2, 3000)), np.full((1, 3000), np.nan), np.ones((3, 20)),
    np.full((1, 1), 2.)])
def test_what_has_no_beats_has_no_rate(values):
  leads = tuple('abc'[:len(values)])
  signal = types.Signal(values.astype(np.float32), 500., leads)
  assert len(ecg_measure.beats(signal)) == 0
  assert math.isnan(ecg_measure.heart_rate(signal))
  assert all(math.isnan(v) for v in ecg_measure.intervals(signal).values())


def test_signals_that_cannot_be_measured():
  with pytest.raises(ValueError, match='at least one lead'):
    ecg_measure.beats(types.Signal(np.zeros((0, 9), np.float32), 500., ()))
  with pytest.raises(ValueError, match='expected mV'):
    ecg_measure.intervals(
        types.Signal(np.zeros((1, 9), np.float32), 500., ('I',), 'uV'))


def test_a_single_beat_has_no_rate():
  signal = ecg_synthetic.synthesise(60, 160, 90, 400, seconds=10, noise=0,
                                    wander=0)
  at = ecg_measure.beats(signal)[4]
  part = signal.values[:, int((at - .45) * 500):int((at + .5) * 500)]
  single = types.Signal(part, 500., signal.leads)
  assert len(ecg_measure.beats(single)) == 1
  assert math.isnan(ecg_measure.heart_rate(single))


@pytest.mark.parametrize('power', [1, 1.5, 2])
@pytest.mark.parametrize('corner', [20., 33.5])
def test_a_corner_is_found_whatever_its_foot(power, corner):
  time = np.arange(60)
  foot = np.clip(corner - time, 0, None) ** power
  values = np.outer([1., -.3], foot / foot.max()) + [[5.], [2.]]
  assert ecg_waves.corner(values) == corner
  noise = np.random.default_rng(0).normal(0, .01, values.shape)
  assert ecg_waves.corner(values + noise) == pytest.approx(corner, abs=5)


def test_the_sway_of_the_baseline_is_not_in_the_average_beat():
  clean, swayed = (ecg_synthetic.synthesise(
      50, 160, 90, 420, seconds=20, noise=0, wander=w) for w in (0., .4))
  at = ecg_measure.beats(clean) * 500
  first, second = (ecg_beat.average(s.values.astype(float), at, 500.)
                   for s in (clean, swayed))
  difference = second.values - first.values
  difference -= difference.mean(1, keepdims=True)
  assert np.abs(difference).max() < .02     # mV, of a sway of 0.4


@pytest.mark.parametrize('leads', [1, 2, 8])
def test_noise_stays_below_its_level(leads):
  noise = np.random.default_rng(0).normal(size=(leads, 20_000))
  norms = np.sqrt((noise ** 2).sum(0))
  norms[:4000] += 50                        # waves
  level = ecg_beat.noise_level(norms, leads)
  below = (norms[4000:] < level).mean()
  assert .985 < below <= 1
