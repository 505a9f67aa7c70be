"""By hand, and on the series of the Hannover chest films."""

import collections
import dataclasses
import datetime
import json
import pathlib
import random

import pytest

from medrl import types
from medrl.data import studies

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'


def view(study='', date='', kind='PA', subject='Doe', name=''):
  return studies.View(subject, study, date, kind,
                      types.Media(name or f'{study}{date}{kind}.png'))


def hannover():
  file = DATA / 'covid_cxr_hannover' / 'labels.jsonl'
  if not file.exists():
    pytest.skip(f'no {file}')
  rows = [json.loads(line) for line in file.read_text().splitlines()]
  # `admission_offset` is that of the admission from the image, so the image
  # was taken that many days after it.
  return rows, [studies.View(
      row['patient_id'], '', -float(row['admission_offset'])
      if row['admission_offset'] else '', row['projection'],
      types.Media(row['image'])) for row in rows]


# Real series.

def test_series_of_hannover_are_in_order():
  rows, views = hannover()
  found = studies.histories(views)
  assert len(found) == len({row['patient_id'] for row in rows}) == 55
  shown = [v for history in found for study in history for v in study.views]
  assert sorted(v.media.path for v in shown) == sorted(
      row['image'] for row in rows)
  wanted = collections.defaultdict(set)
  for row in rows:
    wanted[row['patient_id']].add(row['admission_offset'] or row['image_id'])
  for history in found:
    assert len({v.subject for study in history for v in study.views}) == 1
    assert len(history) == len(wanted[history[0].views[0].subject])
    moments = [s.moment for s in history if s.moment is not None]
    assert moments == sorted(moments)
    known = [days for days in studies.offsets(history) if days is not None]
    assert all(days <= 0 for days in known)
    assert not known or known == [m - moments[-1] for m in moments]


def test_the_intensive_care_of_hannover_agrees_with_the_order():
  """The day of admission to intensive care, told by each image, is one day."""
  rows, _ = hannover()
  days = collections.defaultdict(set)
  for row in rows:
    if row['icu_admission_offset'] and row['admission_offset']:
      days[row['patient_id']].add(float(row['icu_admission_offset'])
                                  - float(row['admission_offset']))
  assert sum(len(some) == 1 for some in days.values()) >= .9 * len(days) > 20


def test_pairs_of_hannover_are_longhand():
  rows, views = hannover()
  found = [pair for history in studies.histories(views)
           for pair in studies.pairs(history)]
  wanted = 0
  for one in views:
    earlier = [other.date for other in views if other.subject == one.subject
               and '' not in (one.date, other.date) and other.date < one.date]
    if earlier:
      wanted += 1
      pair = next(p for p in found if p.current is one)
      assert pair.prior.subject == one.subject
      assert pair.days == one.date - max(earlier) == (
          one.date - pair.prior.date)
  assert len(found) == wanted > 100


def test_no_text_of_hannover_names_anyone():
  rows, views = hannover()
  for history in studies.histories(views):
    _, text = studies.shown(history)
    one = history[0].views[0]
    assert one.subject not in text and one.subject not in repr(history)


# Dates.

@pytest.mark.parametrize('date,days', [
    ('2020-01-31', 737455), ('20200131', 737455), (' 2020-01-31 ', 737455),
    ('2020-01-31T12:00', 737455.5), ('2020-01-31 06:00:00', 737455.25),
    (-3, -3), (2.5, 2.5), ('', None), (None, None), (float('nan'), None)])
def test_moments(date, days):
  assert studies.moment(date) == days
  assert studies.moment('2020-01-31') == datetime.date(2020, 1, 31).toordinal()


def test_what_is_no_date_is_not_repeated():
  with pytest.raises(ValueError) as error:
    studies.moment('Doe 31/01/1950')
  assert '1950' not in str(error.value) and 'Doe' not in str(error.value)
  assert '99/99/9999' in str(error.value)
  with pytest.raises(ValueError, match='as text'):
    studies.moment(20200131)


@pytest.mark.parametrize('days,text', [
    (0, 'same day'), (-1, '1 day earlier'), (1, '1 day later'),
    (-120, '120 days earlier'), (None, 'date not recorded')])
def test_offsets_in_words(days, text):
  assert studies.offset_text(days) == text


def test_days_are_of_the_calendar():
  late, early = map(studies.moment, ('2020-01-31T23:50', '2020-02-01T00:10'))
  assert studies.days_between(late, early) == 1
  assert studies.days_between(early, early + .9) == 0


# Order.

@pytest.mark.parametrize('text,plane', [
    ('PA', 'frontal'), ('AP', 'frontal'), ('Portable', 'frontal'),
    ('ap_portable', 'frontal'), ('LATERAL', 'lateral'), ('LL', 'lateral'),
    ('XTABLE LATERAL', 'lateral'), ('LAO', 'oblique'), ('AP LLD', 'decubitus'),
    ('lateral decubitus', 'decubitus'), ('L MLO', 'l mlo'), ('', 'other view')])
def test_planes(text, plane):
  assert studies.plane(text) == plane


def test_studies_are_grouped_and_ordered():
  rows = [view('s2', '2020-03-01', 'LATERAL'), view('s1', '2020-01-01', 'AP'),
          view('s2', '2020-03-02', 'AP'), view('s3', '', 'PA'),
          view('s2', '2020-03-01', 'PA'), view('s4', '2020-01-01', 'PA')]
  history, = studies.histories(rows)
  assert [[v.study for v in study.views] for study in history] == [
      ['s3'], ['s1'], ['s4'], ['s2'] * 3]   # undated first, equal days as given
  assert [v.view for v in history[3].views] == ['PA', 'AP', 'LATERAL']
  assert studies.offsets(history) == (None, -60, -60, 0)
  assert studies.offsets(history, 1) == (None, 0, 0, 60)


def test_without_numbers_a_day_is_a_study():
  rows = [view(date=3), view(date=3, kind='LL'), view(date=1), view(), view()]
  history, = studies.histories(rows)
  assert [len(study.views) for study in history] == [1, 1, 1, 2]


def test_unknown_patients_are_kept_apart():
  rows = [view('s1', 1, subject=''), view('s1', 1, 'LL', subject=''),
          view('', 1, subject=''), view('', 1, subject='')]
  assert [len(history[0].views) for history in studies.histories(rows)] == [
      2, 1, 1]


def test_order_depends_on_rows_only_where_days_are_equal():
  rows = [view(f's{n}', n, kind) for n in range(9) for kind in ('LL', 'PA')]
  wanted = studies.histories(rows)
  for seed in range(20):
    random.Random(seed).shuffle(rows)
    assert studies.histories(rows) == wanted


def test_dates_and_days_do_not_mix():
  with pytest.raises(ValueError, match='numbers of days'):
    studies.histories([view('a', 3), view('b', '2020-01-01')])
  studies.histories([view('a', 3), view('b', '')])


# Words.

def test_what_is_said_of_images():
  history, = studies.histories([
      view('s1', '2020-01-01', 'AP'), view('s2', '2020-04-30', 'LL'),
      view('s2', '2020-04-30', 'frontal'), view('s3', '2020-05-01', 'PA')])
  media, text = studies.shown(history, 1)
  assert text == ('Image 1: frontal, current. Image 2: lateral, current. '
                  'Image 3: frontal (AP), 120 days earlier.')
  assert [m.path[:2] for m in media] == ['s2', 's2', 's1']
  media, text = studies.shown(history, 1, newest_first=False)
  assert text == ('Image 1: frontal (AP), 120 days earlier. Image 2: frontal, '
                  'current. Image 3: lateral, current.')
  assert [m.path[:2] for m in media] == ['s1', 's2', 's2']
  media, text = studies.shown(history, limit=2)
  assert text == ('Image 1: frontal (PA), current. Image 2: frontal, 1 day '
                  'earlier. 2 further images not shown.')
  with pytest.raises(ValueError, match='at least one'):
    studies.shown(history, limit=0)


def test_one_media_shown_twice_keeps_its_places():
  same = types.Media('x.png')
  history, = studies.histories(
      [studies.View('p', '', day, 'PA', same) for day in (0, 5)])
  assert studies.shown(history, newest_first=False)[1] == (
      'Image 1: frontal (PA), 5 days earlier. Image 2: frontal (PA), current.')


def test_no_identifier_and_no_date_is_said():
  history, = studies.histories([
      view(f'study77{n}', f'2020-0{n}-11', subject='Jane Doe')
      for n in range(1, 6)] + [view('study999', '', subject='Jane Doe')])
  said = studies.shown(history)[1] + studies.shown(
      history, newest_first=False)[1] + repr([
          dataclasses.replace(v, media=types.Media('x'))
          for study in history for v in study.views])
  for secret in ('Jane', 'Doe', 'study', '2020', '77', '999', '-0'):
    assert secret not in said


def test_pairs_prefer_the_projection_and_need_an_earlier_day():
  history, = studies.histories([
      view('s0', ''), view('s1', 0, 'PA'), view('s2', 4, 'AP'),
      view('s2', 4, 'PA'), view('s3', 4, 'PA'), view('s4', 9, 'AP'),
      view('s4', 9, 'LL')])
  found = [(p.current.study, p.current.view, p.prior.study, p.prior.view,
            p.days) for p in studies.pairs(history)]
  assert found == [('s2', 'PA', 's1', 'PA', 4), ('s2', 'AP', 's1', 'PA', 4),
                   ('s3', 'PA', 's1', 'PA', 4), ('s4', 'AP', 's3', 'PA', 5)]
