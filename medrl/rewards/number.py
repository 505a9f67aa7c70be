"""Rules about one number; `array.interval` is the same over arrays.

Does not read text: see `parse.number`.
"""

from collections.abc import Mapping
import math

# Lets '0.315' pass as 0.3 with rel 0.05, though the floats differ by 1.3e-17
# more than allowed; it is also the meaning of equality without a tolerance.
SLACK = 1e-9


def within(value: float, target: float,
           tolerance: Mapping[str, float]) -> float:
  """Returns 1.0 iff |value - target| <= max(rel |target|, abs), ends included.

  Args:
    value: a finite or non-finite number; the latter is never within.
    target: the right number.
    tolerance: 'rel' (a share of the target) and 'abs' (in the target's unit);
      both absent means equal to a relative 1e-9.
  """
  if not (math.isfinite(value) and math.isfinite(target)):
    return 0.0
  limit = max(tolerance.get('rel', 0.0) * abs(target),
              tolerance.get('abs', 0.0))
  return float(abs(value - target) <= limit + SLACK * abs(target))
