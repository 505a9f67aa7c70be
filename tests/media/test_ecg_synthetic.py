"""Synthetic ECGs hold the intervals that they are said to have, exactly."""

import numpy as np
import pytest

from medrl.media import ecg_synthetic

CASES = [(30, 300, 150, 600), (60, 160, 90, 400), (150, 100, 80, 230),
         (220, 80, 80, 172)]


@pytest.mark.parametrize('rate, pr, qrs, qt', CASES)
def test_waves_begin_and_end_where_they_should(rate, pr, qrs, qt):
  signal = ecg_synthetic.synthesise(rate, pr, qrs, qt, sampling=1000, noise=0,
                                    wander=0, seed=3)
  active = np.abs(signal.values).max(0) > 1e-7
  change = np.diff(active.astype(int))
  starts, ends = (np.flatnonzero(change == d) for d in (1, -1))
  # Of a whole beat: P, QRS, T begin and end in turn.
  cycle = 6e4 / rate
  size = np.abs(signal.values).max(0)
  first = starts[(starts > 400) & (starts + 2 * cycle < 1e4)]
  bumps = [(s, ends[ends > s][0]) for s in first if (ends > s).any()]
  tops = [size[s:e + 1].max() for s, e in bumps]
  middle = int(np.argmax(tops[:4]))
  (p_on, _), (on, off) = bumps[middle - 1] if middle else bumps[middle + 2], (
      bumps[middle])
  if not middle:
    p_on -= cycle
  _, t_end = bumps[middle + 1]
  # A raised cosine is below float noise for a sample or two at its feet.
  assert on - p_on == pytest.approx(pr, abs=4)
  assert off - on == pytest.approx(qrs, abs=4)
  assert t_end - on == pytest.approx(qt, abs=4)
  following = bumps[middle + 3][0]
  assert following - on == pytest.approx(cycle, abs=2)


def test_leads_obey_einthoven_and_goldberger_with_noise_and_wander():
  signal = ecg_synthetic.synthesise(75, 160, 90, 380, noise=.05, wander=.3)
  lead = dict(zip(signal.leads, signal.values.astype(float)))
  np.testing.assert_allclose(lead['I'] + lead['III'], lead['II'], atol=1e-6)
  np.testing.assert_allclose(
      lead['aVR'] + lead['aVL'] + lead['aVF'], 0, atol=1e-6)
  np.testing.assert_allclose(lead['aVR'], -(lead['I'] + lead['II']) / 2,
                             atol=1e-6)


def test_noise_and_wander_are_as_large_as_asked():
  options = dict(seconds=60, seed=5)
  clean = ecg_synthetic.synthesise(60, 160, 90, 400, noise=0, wander=0,
                                   **options).values
  noisy = ecg_synthetic.synthesise(60, 160, 90, 400, noise=.04, wander=0,
                                   **options).values - clean
  assert noisy[:3].std(axis=1) == pytest.approx(.04, rel=.03)
  # White: neighbours know nothing of each other.
  assert abs(np.corrcoef(noisy[0, 1:], noisy[0, :-1])[0, 1]) < .02
  sway = ecg_synthetic.synthesise(60, 160, 90, 400, noise=0, wander=.4,
                                  **options).values - clean
  assert .1 < np.abs(sway[:3]).max() <= .4
  power = np.abs(np.fft.rfft(sway[0])) ** 2
  assert power[:30].sum() > .97 * power.sum()    # below 0.5 Hz


def test_the_seed_and_nothing_else_decides():
  first, again, other = (
      ecg_synthetic.synthesise(70, 150, 100, 380, seed=seed).values
      for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > .1
  assert first.shape == (12, 5000) and first.dtype == np.float32


@pytest.mark.parametrize('values, message', [
    ((29, 160, 90, 400), 'rate of 30'), ((60, 50, 90, 400), 'PR of 80'),
    ((60, 160, 200, 400), 'QRS of 60'), ((60, 160, 90, 800), 'QT of 150'),
    ((60, 160, 120, 200), 'QRS . 90'), ((200, 120, 80, 240), 'PR . QT'),
    ((float('nan'), 160, 90, 400), 'rate of')])
def test_what_no_heart_does_is_refused(values, message):
  assert ecg_synthetic.obstacle(*values)
  with pytest.raises(ValueError, match=message):
    ecg_synthetic.synthesise(*values)


@pytest.mark.parametrize('options', [
    {'seconds': 0}, {'sampling': 10}, {'noise': -1}, {'wander': float('inf')}])
def test_options_out_of_range_are_refused(options):
  with pytest.raises(ValueError, match='expected'):
    ecg_synthetic.synthesise(60, 160, 90, 400, **options)


def test_drawn_intervals_fit_at_every_rate():
  rng = np.random.default_rng(0)
  drawn = [ecg_synthetic.draw_intervals(rng, rate)
           for rate in np.linspace(30, 220, 200)]
  assert not any(ecg_synthetic.obstacle(**case) for case in drawn)
  assert {ecg_synthetic.draw_intervals(rng)['rate'] // 40
          for _ in range(100)} >= {1, 2, 3, 4}
  with pytest.raises(ValueError, match='rate'):
    ecg_synthetic.draw_intervals(rng, 300)
