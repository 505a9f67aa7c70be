"""Scores of a test run, each with a bootstrap interval. NumPy only.

A row is a dict of one scored answer:

  record       hash of the record; pairs two runs
  task         name of the task, '' for none
  answer_type  one of `medrl.types.ANSWER_TYPES`
  answer       the truth
  prediction   the canonical answer given, or None
  value        1 or 0, the IoU for boxes, the Jaccard index for labels and
               states, or None where nothing was parsed
  cluster      patient or image: rows that share one are not independent
  label        options only: text of the right option, as letters are permuted

Not here: parsing and rewarding (rewards), running a model (run). Percentile
intervals of few clusters are too narrow, and of a perfect score they are a
single point: read `n` with them (with n clusters and no failure, failure rates
up to about 3 / n remain possible).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

BOXES = ('box', 'boxes')
OPTIONS = ('choice', 'ordinal')
SETS = ('labels', 'states')
DISCRETE = ('choice', 'ordinal', 'yesno', 'yesnomaybe', 'int')

Row = Mapping[str, Any]


def summarise(rows: Sequence[Row], *, samples: int = 1000, seed: int = 0,
              level: float = 0.95) -> dict[str, dict[str, float]]:
  """Every score of `rows`, overall and as `<score>/<task>`.

  Scores: `accuracy` (every type but boxes, labels and states; unparsed is
  wrong), `accuracy_parsed` (among parsed answers), `balanced_accuracy` (mean
  recall over the true answers of the types in `DISCRETE`; unparsed is wrong),
  `mean_iou` (boxes; unparsed is 0), `mean_jaccard` (labels and states; unparsed
  is 0) and `parse_rate`. A score without a row to
  count is absent. The draws of a score do not depend on the other scores or on
  the order of the rows.

  Returns:
    Score -> value, low, high, n (rows counted), invalid (rows of its answer
    types that were not parsed).

  Raises:
    ValueError: no rows, or a row that breaks the description above.
  """
  if not rows:
    raise ValueError('no rows to summarise; expected at least one scored '
                     'answer: is the test split empty?')
  for row in rows:
    _check(row)
  result = {}
  tasks = sorted({row['task'] for row in rows if row['task']})
  for task in [None, *tasks]:
    part = [row for row in rows if task in (None, row['task'])]
    suffix = '' if task is None else f'/{task}'
    for name, (counted, classes, invalid) in _scores(part).items():
      if counted:
        score = _interval(counted, classes, samples, seed, level)
        result[name + suffix] = {**score, 'n': len(counted),
                                 'invalid': invalid}
  return result


def score_of(answer_type: str) -> str:
  """The score that answers of a type count in."""
  if answer_type in BOXES:
    return 'mean_iou'
  return 'mean_jaccard' if answer_type in SETS else 'accuracy'


def difference(rows_a: Sequence[Row], rows_b: Sequence[Row], *,
               score: str = 'accuracy', samples: int = 1000, seed: int = 0,
               level: float = 0.95) -> dict[str, float]:
  """A score of run a minus that of run b on the same records.

  Rows are paired by `record` and the pairs' clusters (those of `rows_a`) are
  drawn together, so what makes a record hard cancels.

  Args:
    rows_a, rows_b: answers of the runs; those that do not count in `score` are
      left out.
    score: 'accuracy', 'mean_iou' or 'mean_jaccard'; see `score_of`.
    samples, seed, level: of the bootstrap.

  Returns:
    value, low, high, n (pairs).

  Raises:
    ValueError: no rows, a record twice in one run, or in one run only.
  """
  first, second = (_by_record(rows, run, score)
                   for rows, run in ((rows_a, 'a'), (rows_b, 'b')))
  alone = sorted(first.keys() ^ second.keys())
  if alone:
    raise ValueError(f'{len(alone)} records are in one run only, such as '
                     f'{alone[0]!r}; compare runs on the same records')
  if not first:
    raise ValueError(f'no rows to compare; expected answers that count in '
                     f'{score!r}')
  records = sorted(first)
  values = np.array([_number(first[r]) - _number(second[r]) for r in records])
  clusters = _codes([first[r]['cluster'] for r in records])
  found = _bootstrap(lambda weight: weight @ values / weight.sum(), clusters,
                     samples, seed, level, (-1.0, 1.0))
  return {**found, 'n': len(values)}


def _scores(rows):
  """Score -> (rows with a number, class of each or None, rows unparsed)."""
  plain, boxes, sets = (
      [r for r in rows if score_of(r['answer_type']) == score]
      for score in ('accuracy', 'mean_iou', 'mean_jaccard'))
  discrete = [r for r in rows if r['answer_type'] in DISCRETE]

  def unparsed(part):
    return sum(r['value'] is None for r in part)

  def numbers(part):
    return [(_number(r), r['cluster']) for r in part]

  parsed = [r for r in plain if r['value'] is not None]
  rate = [(float(r['value'] is not None), r['cluster']) for r in rows]
  classes = [f'{r["answer_type"]}:{_label(r)}' for r in discrete]
  return {
      'accuracy': (numbers(plain), None, unparsed(plain)),
      'accuracy_parsed': (numbers(parsed), None, unparsed(plain)),
      'balanced_accuracy': (numbers(discrete), classes, unparsed(discrete)),
      'mean_iou': (numbers(boxes), None, unparsed(boxes)),
      'mean_jaccard': (numbers(sets), None, unparsed(sets)),
      'parse_rate': (rate, None, unparsed(rows)),
  }


def _interval(counted, classes, samples, seed, level):
  """Mean over classes (one class if None) of the class's mean, as a score."""
  values = np.array([value for value, _ in counted])
  clusters = _codes([cluster for _, cluster in counted])
  group = (np.zeros(len(values), int) if classes is None else _codes(classes))
  size = group.max() + 1

  def statistic(weight):
    count = np.bincount(group, weight, size)
    total = np.bincount(group, weight * values, size)
    # A class that a resample happens to miss has no recall there.
    seen = count > 0
    return (total[seen] / count[seen]).mean()

  return _bootstrap(statistic, clusters, samples, seed, level, (0.0, 1.0))


def _bootstrap(statistic: Callable[[np.ndarray], float], clusters: np.ndarray,
               samples: int, seed: int, level: float,
               bounds: tuple[float, float]) -> dict[str, float]:
  """Percentile interval of `statistic(weight of each row)` over clusters.

  With a single cluster nothing is known of the spread: the interval is all
  that the score can be.
  """
  if samples < 1 or not 0 < level < 1:
    raise ValueError(f'samples {samples} must be positive and level {level} '
                     f'lie between 0 and 1')
  value = float(statistic(np.ones(len(clusters))))
  number = clusters.max() + 1
  if number < 2:
    return {'value': value, 'low': bounds[0], 'high': bounds[1]}
  rng = np.random.default_rng(seed)
  draws = [statistic(np.bincount(rng.integers(number, size=number),
                                 minlength=number)[clusters].astype(float))
           for _ in range(samples)]
  low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
  return {'value': value, 'low': float(low), 'high': float(high)}


def _codes(names):
  """Integers 0..n-1 of `names`, in sorted order, whatever their type."""
  return np.unique([str(name) for name in names], return_inverse=True)[1]


def _number(row):
  return 0.0 if row['value'] is None else float(row['value'])


def _label(row):
  return row['label'] if row['answer_type'] in OPTIONS else row['answer']


def _by_record(rows, run, score):
  """Record -> row, of the answers that count in `score`."""
  found = {}
  for row in rows:
    _check(row)
    if score_of(row['answer_type']) != score:
      continue
    if row['record'] in found:
      raise ValueError(f'record {row["record"]!r} is twice in run {run}; '
                       f'expected one answer a record')
    found[row['record']] = row
  return found


def _check(row):
  needed = {'record', 'task', 'answer_type', 'answer', 'prediction', 'value',
            'cluster'}
  if row.get('answer_type') in OPTIONS:
    needed.add('label')
  missing = sorted(needed - row.keys())
  if missing:
    raise ValueError(f'row of record {row.get("record")!r} lacks '
                     f'{", ".join(missing)}; it has: {", ".join(sorted(row))}')
  value = row['value']
  if value is not None and not 0 <= value <= 1:
    raise ValueError(f'record {row["record"]!r}: value {value!r} is not in '
                     f'[0, 1]; give None where nothing was parsed')
