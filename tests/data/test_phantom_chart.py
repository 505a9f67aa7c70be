"""Charts: answers by reading the text alone, and what a hasty reader says."""

import collections
import re

import pytest

from medrl import types
from medrl.data import phantom_chart
from medrl.rewards import answer

RECORDS = list(phantom_chart.records('', 'train', count=48, permute=True))


def read(text):
  """(creatinine, CRP or None) of each visit, as a reader finds them."""
  found = re.findall(r'creatinine: ([\d.]+) mg/dL[^\n]*\n- CRP[^:]*: '
                     r'(?:(\d+) mg/L|not recorded)', text)
  return [(float(c), int(p) if p else None) for c, p in found]


def by_reading(record):
  visits = read(record.question)
  first, last = visits[0][0], visits[-1][0]
  crp = [p for _, p in visits]
  return {
      'chart/last': last,
      'chart/trend': ('unchanged' if first == last else
                      'rose' if last > first else 'fell'),
      'chart/high': sum(p is not None and p > 5 for p in crp),
      'chart/missing': crp.count(None)}[record.task]


@pytest.mark.parametrize('record', RECORDS[:24], ids=lambda r: r.id)
def test_the_answer_is_what_the_text_says(record):
  assert len(read(record.question)) in (3, 4) and not record.media
  given = record.options.get(record.answer, record.answer)
  assert given == by_reading(record)
  assert 'H)' in record.question or by_reading(record) != 1
  assert re.search(r'\d+ days? before the last visit', record.question)


def test_answers_are_balanced_and_gold_earns_all():
  for task, answers in {
      'chart/trend': 3, 'chart/high': 3, 'chart/missing': 3}.items():
    own = [r for r in RECORDS if r.task == task]
    counts = collections.Counter(
        r.options.get(r.answer, r.answer) for r in own)
    assert len(counts) == answers and set(counts.values()) == {4}
  for record in RECORDS:
    score = answer.score(record, [types.Completion(record.demonstration)], {})
    assert score.total == (1.,), record.id


def test_a_hasty_reader_is_often_wrong():
  hasty = list(phantom_chart.records('', 'train', count=48,
                                     demonstration_error=1.))
  right = [r.meta['demonstration_correct'] for r in hasty]
  assert .1 < sum(right) / 48 < .8
  assert [r.answer for r in hasty] == [r.answer for r in RECORDS]
