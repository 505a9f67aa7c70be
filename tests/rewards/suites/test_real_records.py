"""Right answers score full marks however they are written; others do not.

Gold of real records in ten styles and more (see `styles`), and the same gold
dealt out to the wrong records, which must score at chance.
"""

import collections
import math
import random

import pytest
from scipy import stats

from medrl import lookup
from medrl import types
from tests.rewards.suites import records
from tests.rewards.suites import styles

SIZE, DEALT = 200, 400
LEAST = 0.995
SURE = 0.999


# Points and masks are compared by other rewards than the answer's, as text.
SETS = [n for n in records.SETS
        if n not in ('bccd-points', 'bccd-masks', 'medcalc-text')]
REWARDS = [*(('answer.score', name) for name in SETS),
           ('medcalc.score', 'medcalc'), ('medcalc.score', 'medcalc-fixed'),
           ('ordinal.score', 'busi-grade'), ('labels.score', 'bccd-labels'),
           ('box.score', 'bccd-boxes'), ('report.labels', 'chest-films')]


def _marks(name, record, texts):
  reward = lookup.resolve(f'medrl.rewards.{name}')
  return reward(record, [types.Completion(text) for text in texts], {}).total


@pytest.mark.parametrize('name, data', REWARDS)
def test_gold_scores_full_marks_in_every_style(name, data):
  full, tried = collections.Counter(), collections.Counter()
  found = records.sample(data, SIZE)
  for record in found:
    written = styles.styles(record)
    assert len(written) >= 10
    for style, mark in zip(written, _marks(name, record, written.values())):
      full[style] += mark == pytest.approx(1.0)
      tried[style] += 1
  overall = full.total() / tried.total()
  low = {s: round(full[s] / n, 3) for s, n in tried.items() if full[s] < n}
  print(f'\n{name} {data:16} n={len(found)} styles={len(tried)} '
        f'full={overall:.4f} below 1: {low}')
  assert overall >= LEAST
  assert all(rate >= 0.98 for rate in low.values())


@pytest.mark.parametrize('data', SETS)
def test_gold_of_other_records_scores_at_chance(data):
  """Within 99.9 % intervals around the mean over all wrong pairings."""
  found = list(records.sample(data, DEALT))
  others, rng = found[:], random.Random(1)
  rng.shuffle(others)
  marks = []
  for record, other in zip(found, others):
    if record is not other and _fits(record, other):
      written = styles.styles(record, other.answer)
      style = rng.choice(list(written))
      marks += _marks('answer.score', record, [written[style]])
  low, high, chance = _expected(found, len(marks))
  mean = sum(marks) / len(marks)
  print(f'\n{data:16} n={len(marks)} shuffled={mean:.3f} chance={chance:.3f} '
        f'in [{low:.3f}, {high:.3f}]')
  assert low <= mean <= high


def _fits(record, other):
  """Whether the other's right answer can be given here at all."""
  return record.answer_type == other.answer_type and (
      record.answer_type != 'choice' or other.answer in record.options)


def _expected(found, size):
  """Returns ends of the interval and the mean over pairs, longhand."""
  pairs = [(a, b) for a in found for b in found
           if a is not b and _fits(a, b)]
  pairs = random.Random(2).sample(pairs, min(len(pairs), 20000))
  marks = [_right(a, b.answer) for a, b in pairs]
  chance = sum(marks) / len(marks)
  if set(marks) <= {0.0, 1.0}:
    low, high = stats.binom.interval(SURE, size, chance)
    return low / size, high / size, chance
  spread = math.sqrt(sum((m - chance) ** 2 for m in marks) / len(marks) / size)
  reach = stats.norm.ppf((1 + SURE) / 2) * spread
  return chance - reach, chance + reach, chance


def _right(record, gold):
  """Whether another record's right answer would be right here too."""
  own, kind = record.answer, record.answer_type
  if types.UNANSWERABLE in (own, gold):
    return float(own == gold)
  if kind in ('float', 'quantity'):
    return float(abs(own - gold) <= 0.05 * abs(own) + 1e-9)
  if kind == 'interval':
    low, high = record.meta['limits']
    return float(low - 1e-9 <= gold <= high + 1e-9)
  if kind == 'box':
    return _iou(own, gold)
  if kind == 'boxes':
    most = max(len(own), len(gold))
    return _best(own, gold) / most if most else 1.0
  if kind == 'labels':
    return len({*own} & {*gold}) / len({*own} | {*gold})
  if kind == 'states':
    return len(own.items() & gold.items()) / len(own.items() | gold.items())
  return float(own == gold)


def _iou(a, b):
  width = min(a[2], b[2]) - max(a[0], b[0])
  height = min(a[3], b[3]) - max(a[1], b[1])
  shared = max(width, 0) * max(height, 0)
  areas = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
  return shared / (sum(areas) - shared)


def _best(a, b):
  """The best sum of overlaps of a one-to-one matching, by recursion."""
  if not a or not b:
    return 0.0
  rest = _best(a[1:], b)
  return max([rest] + [_iou(a[0], box) + _best(a[1:], b[:i] + b[i + 1:])
                       for i, box in enumerate(b) if _iou(a[0], box)])
