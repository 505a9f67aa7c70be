"""Images of patients as studies in time order, and what is said of them.

Dates go in and offsets in days come out: no text made here holds a date, a
patient or a study. Reads no files and splits nothing into parts for training
(`splits`); tables and visits are `tables`.
"""

import collections
from collections.abc import Iterable, Sequence
import dataclasses
import datetime
import math
import re

from medrl import types

Date = str | float

# Images of one study are shown in this order, other views after them by name.
PLANES = ('frontal', 'lateral', 'oblique', 'decubitus')
UNDATED = 'date not recorded'
# A view's words -> its plane, the first that fits: 'AP LLD' is a decubitus.
_WORDS = (
    ('decubitus', {'decubitus', 'lld', 'rld'}),
    ('lateral', {'lateral', 'lat', 'll', 'rl'}),
    ('oblique', {'oblique', 'lao', 'rao', 'lpo', 'rpo'}),
    ('frontal', {'frontal', 'pa', 'ap', 'portable', 'posteroanterior',
                 'anteroposterior'}))
_PROJECTIONS = ('pa', 'ap')
_MAX_VIEW = 30          # characters of a view that is none of these
# Some 2,700 years: a larger number is a date written as one.
_MAX_DAYS = 1_000_000


@dataclasses.dataclass(frozen=True)
class View:
  """An image of a patient, as a row of a data set tells of it.

  `date` is a day or a time in ISO 8601 ('2180-05-06', '21800506',
  '2180-05-06T07:30'), a number of days from any day of the patient's own, or
  '' if unknown. `study` is '' where there is no number of an examination, and
  `subject` where the patient is unknown. `view` is as written: 'PA', 'LATERAL'.
  """
  subject: str = dataclasses.field(repr=False)   # reprs end up in logs
  study: str = dataclasses.field(repr=False)
  date: Date = dataclasses.field(repr=False)
  view: str
  media: types.Media


@dataclasses.dataclass(frozen=True)
class Study:
  """Images of one examination, in the order in which they are shown.

  `moment` is in days (see `moment`), of the earliest of them; None if unknown.
  """
  moment: float | None = dataclasses.field(repr=False)
  views: tuple[View, ...]


@dataclasses.dataclass(frozen=True)
class Pair:
  """An image and the same view of the patient, `days` earlier (1 or more)."""
  current: View
  prior: View
  days: int


def moment(date: Date | None) -> float | None:
  """A date in days, the time of day as their fraction; None if unknown.

  Raises:
    ValueError: not a date; the message shows its form and not its digits.
  """
  if date is None or date == '' or date != date:
    return None
  if isinstance(date, str):
    try:
      time = datetime.datetime.fromisoformat(date.strip())
    except ValueError:
      form = re.sub(r'\d', '9', re.sub(r'[^\W\d]', 'a', date))[:40]
      raise ValueError(f'a date of the form {form!r}; expected YYYY-MM-DD, a '
                       'time after it, or a number of days') from None
    return time.toordinal() + (time.hour + (
        time.minute + time.second / 60) / 60) / 24
  if abs(date) > _MAX_DAYS:
    raise ValueError(f'a number of days above {_MAX_DAYS}; give a date such as '
                     '20200131 as text')
  return float(date)


def days_between(start: float | None, end: float | None) -> int | None:
  """Calendar days from one moment to another; None where one is unknown."""
  if start is None or end is None:
    return None
  return math.floor(end) - math.floor(start)


def offset_text(days: int | None) -> str:
  """'120 days earlier', '1 day later', 'same day' or 'date not recorded'."""
  if days is None:
    return UNDATED
  if not days:
    return 'same day'
  unit = 'day' if abs(days) == 1 else 'days'
  return f'{abs(days)} {unit} {"earlier" if days < 0 else "later"}'


def plane(view: str) -> str:
  """One of PLANES, or the view's own words in lower case, or 'other view'."""
  words = re.findall(r'[^\W_]+', view.lower())
  for name, known in _WORDS:
    if known.intersection(words):
      return name
  return ' '.join(words)[:_MAX_VIEW].strip() or 'other view'


def histories(views: Iterable[View]) -> tuple[tuple[Study, ...], ...]:
  """The studies of each patient in time order; patients as they first come.

  Images of one study number are one study, dated by its earliest image. Where
  there is no number, the images of one day are one study, and an image without
  a date is one of its own. A row without a patient shares none with other rows,
  but for those of its study. Studies of one moment stay in the order of the
  rows, and so do those without a date, which come before all others: an old
  image is not taken for the current one. Images of a study are ordered by
  plane as in PLANES, PA before AP.

  Raises:
    ValueError: a patient has both dates and numbers of days, or see `moment`.
  """
  patients = collections.defaultdict(lambda: collections.defaultdict(list))
  for number, view in enumerate(views):
    when = moment(view.date)
    day = number if when is None else math.floor(when)
    study = ('study', view.study) if view.study else (
        'row' if when is None else 'day', day)
    patient = (view.subject,) if view.subject else (
        study if view.study else ('row', number))
    patients[patient][study].append((when, view))
  return tuple(_ordered(list(found.values())) for found in patients.values())


def _ordered(groups: Sequence[list]) -> tuple[Study, ...]:
  written = {isinstance(view.date, str) for group in groups
             for when, view in group if when is not None}
  if len(written) > 1:
    raise ValueError('a patient has dates in some rows and numbers of days in '
                     'others; give one of them')
  found = []
  for group in groups:
    times = [when for when, _ in group if when is not None]
    found.append(Study(min(times, default=None), tuple(sorted(
        (view for _, view in group), key=_place))))
  return tuple(sorted(found, key=lambda study: (
      -math.inf if study.moment is None else study.moment)))


def _place(view: View) -> tuple[int, str, int]:
  name = plane(view.view)
  order = PLANES.index(name) if name in PLANES else len(PLANES)
  projection = _projection(view.view)
  return order, name, (_PROJECTIONS + ('',)).index(projection)


def _projection(view: str) -> str:
  words = re.findall(r'[^\W_]+', view.lower())
  return next((p for p in _PROJECTIONS if p in words), '')


def offsets(history: Sequence[Study],
            current: int = -1) -> tuple[int | None, ...]:
  """Days of each study from the current one, negative if it is earlier."""
  return tuple(days_between(history[current].moment, study.moment)
               for study in history)


def shown(history: Sequence[Study], current: int = -1, limit: int = 8,
          newest_first: bool = True) -> tuple[tuple[types.Media, ...], str]:
  """The images of a study and of those before it, and what they are.

  'Image 1: frontal (PA), current. Image 2: frontal (AP), 120 days earlier.'
  Later studies are never shown. 'Same day' is said of another study of the day.

  Args:
    history: studies of one patient in time order.
    current: the study that is asked about.
    limit: of images; the oldest are left out, which the text says.
    newest_first: the current study first, or else last.

  Raises:
    ValueError: `limit` is below 1.
  """
  if limit < 1:
    raise ValueError(f'limit {limit}: expected at least one image')
  current = range(len(history))[current]
  days = offsets(history, current)
  rows = [(number, view) for number in range(current, -1, -1)
          for view in history[number].views]
  left, rows = len(rows) - limit, rows[:limit]
  if not newest_first:
    rows.sort(key=lambda row: row[0])   # stable: planes keep their order
  said = [f'Image {place}: {_named(view)}, '
          f'{"current" if number == current else offset_text(days[number])}.'
          for place, (number, view) in enumerate(rows, 1)]
  if left > 0:
    said.append(f'{left} further image{"s" * (left > 1)} not shown.')
  return tuple(view.media for _, view in rows), ' '.join(said)


def _named(view: View) -> str:
  name, projection = plane(view.view), _projection(view.view)
  return f'{name} ({projection.upper()})' if projection else name


def pairs(history: Sequence[Study]) -> tuple[Pair, ...]:
  """Each image with the same plane in the nearest study of an earlier day.

  Where that study has several, the same projection (PA, AP) goes first, then
  their order. Images without a date, or without such a study, are in no pair.
  """
  found = []
  for number, study in enumerate(history):
    for view in study.views:
      for earlier in reversed(history[:number]):
        days = days_between(earlier.moment, study.moment)
        same = [other for other in earlier.views
                if plane(other.view) == plane(view.view)]
        if days and same:
          best = min(same, key=lambda other: (
              _projection(other.view) != _projection(view.view)))
          found.append(Pair(view, best, days))
          break
  return tuple(found)
