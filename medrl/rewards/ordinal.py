"""Rules about grades that stand in an order, such as BI-RADS or a stage.

The order is that of the record's options, so these must not be permuted. A
grade that was never among the options is not here.
"""

from collections.abc import Sequence

from medrl import types
from medrl.rewards import lift
from medrl.rewards.parse import blocks
from medrl.rewards.parse import choice

METRICS = ('exact', 'distance', 'quadratic')


def agreement(value: str, target: str, grades: Sequence[str],
              metric: str = 'quadratic') -> float:
  """Returns how near two of K grades, at places i and j, are, in [0, 1].

  'exact' is 1[i = j]; 'distance' is 1 - |i - j| / (K - 1); 'quadratic' is
  1 - ((i - j) / (K - 1))^2, the weight of an agreement in the quadratic-
  weighted kappa (Cohen 1968). The middle grade, said whatever is shown, earns
  at least 1/2 by 'distance' and 3/4 by 'quadratic'.

  Raises:
    ValueError: a grade or the metric is unknown.
  """
  grades = list(grades)
  if metric not in METRICS:
    raise ValueError(f'metric {metric!r}: expected one of {METRICS}')
  for grade in (value, target):
    if grade not in grades:
      raise ValueError(f'grade {grade!r}: expected one of {grades}')
  if metric == 'exact' or value == target:
    return float(value == target)
  far = abs(grades.index(value) - grades.index(target)) / (len(grades) - 1)
  return 1.0 - (far if metric == 'distance' else far ** 2)


@lift.per_completion
def score(record: types.Record, text: str, *,
          metric: str = 'quadratic') -> float | None:
  """Rewards a grade by `agreement`, in [0, 1].

  The grade is read from the answer block as the key or the text of an option.
  As a reward, called with (record, completions, context).

  Raises:
    ValueError: the record has no options, its answer is hidden, or the metric
      is unknown.
  """
  if not record.options or record.answer is None:
    raise ValueError(
        f'record {record.id!r}: answer {record.answer!r}, options '
        f'{list(record.options)}; ordinal.score needs a grade among options')
  block = blocks.answer(text)
  found = block and choice.choice(block.value, record.options)
  if found is None:
    return None
  return agreement(found.value, record.answer, list(record.options), metric)
