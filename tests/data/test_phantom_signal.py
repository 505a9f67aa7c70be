import collections

import numpy as np
import pytest

from medrl import lookup
from medrl import types
from medrl.data import phantom_signal as ps
from medrl.media import ecg
from medrl.media import ecg_measure
from medrl.media import ecg_paper
from medrl.media import ecg_synthetic


def shown(record):
  medium, = record.media
  return lookup.resolve(medium.loader)(medium.path, '', **medium.options)


def counted(signal):
  """Beats a minute by the R waves of lead II, found in longhand."""
  values = signal.values[signal.leads.index('II')]
  steep = np.abs(np.convolve(np.diff(values), np.ones(8), 'same'))
  places, wait, least = [], int(.25 * signal.rate), .45 * steep.max()
  while steep.max() > least:
    top = int(steep.argmax())
    places.append(top)
    steep[max(0, top - wait):top + wait] = 0
  places.sort()
  return 60 * signal.rate * (len(places) - 1) / (places[-1] - places[0])


@pytest.mark.parametrize('index', range(20))
def test_the_rate_is_that_of_the_r_waves(index):
  state = ps.beats(4, index)
  signal = ps.signal(f'phantom/4/{index}/ecg', '')
  assert isinstance(signal, types.Signal)
  assert signal.leads == ecg_synthetic.LEADS
  assert signal.values.shape == (12, 5000) and signal.rate == 500
  assert counted(signal) == pytest.approx(state.rate, abs=1)


@pytest.mark.parametrize('index', range(8))
def test_the_rate_is_that_of_the_drawing(index):
  """By the columns in which the ink goes highest, at 3 pixels a mm."""
  path = f'phantom/4/{index}/ecg'
  strip = ps.drawing(path, '')
  cell, = ecg_paper.geometry(
      ecg.select(ps.signal(path, ''), ('II',)), layout='strips',
      pixels_per_mm=3., length=5.).cells
  ink = strip[cell.top:cell.bottom, round(cell.left):, 0] < 128
  high = np.where(ink.any(0), len(ink) - ink.argmax(0), 0)
  top = high > (high.max() + np.median(high)) / 2
  starts = np.flatnonzero(np.diff(top.astype(int)) == 1)
  seconds = (starts[-1] - starts[0]) / 3 / 25
  assert 60 * (len(starts) - 1) / seconds == pytest.approx(
      ps.beats(4, index).rate, rel=.03)


def test_a_page_has_all_leads():
  page = ps.drawing('phantom/0/0/ecg', '', page=True)
  assert page.shape[0] > 400 and page.shape[1] > 1000
  assert page.size > 8 * ps.drawing('phantom/0/0/ecg', '').size


@pytest.mark.parametrize('task', ['ecg/pr', 'ecg/qrs', 'ecg/qtc'])
def test_measured_intervals_give_the_answer(task):
  name, limit = {'ecg/pr': ('pr_ms', 200), 'ecg/qrs': ('qrs_ms', 120),
                 'ecg/qtc': ('qtc_fridericia_ms', 450)}[task]
  for record in ps.signal_records('', 'train', count=8, tasks=(task,)):
    found = ecg_measure.intervals(shown(record))
    assert record.answer == ('yes' if found[name] > limit else 'no')


def test_all_intervals_can_be_synthesised():
  for index in range(1500):
    state = ps.beats(0, index)
    assert not ecg_synthetic.obstacle(state.rate, state.pr, state.qrs, state.qt)
    assert 35 <= state.rate <= 130 and (state.rate < 60) == (
        ps.rhythm(state) == 'bradycardia')
    assert (state.rate > 100) == (ps.rhythm(state) == 'tachycardia')


@pytest.mark.parametrize('task', ['ecg/pr', 'ecg/qrs', 'ecg/qtc'])
def test_the_rate_gives_no_interval_away(task):
  rates = collections.defaultdict(list)
  for record in ps.records('', 'train', count=300, tasks=(task,)):
    rates[record.answer].append(record.meta['world']['rate'])
  # Deviations of 11 to 30 beats, 150 of each: 3 standard errors.
  spread = np.std(rates['yes'] + rates['no'])
  assert abs(np.mean(rates['yes']) - np.mean(rates['no'])) < .35 * spread


def test_drawing_and_signal_are_of_one_ecg():
  drawn = list(ps.records('', 'test', count=5))
  heard = list(ps.signal_records('', 'test', count=5))
  for one, other in zip(drawn, heard):
    assert one.id == other.id and one.demonstration == other.demonstration
    assert one.media[0].path == other.media[0].path
    image = shown(one)
    assert image.dtype == np.uint8 and image.shape[2] == 3
    assert np.ptp(image) > 100
    np.testing.assert_array_equal(image, shown(one))


def test_a_hasty_reader_takes_a_square_for_50_ms():
  state = ps.beats(0, 0)
  wrong = ps.misread(state, 'ecg/rate')
  assert wrong.rate == pytest.approx(.8 * state.rate)
  assert wrong.pr == pytest.approx(1.25 * state.pr)
