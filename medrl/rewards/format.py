"""Whether a completion has the shape the prompt asked for.

Says nothing about what is inside the tags; see `answer` for that.
"""

import re

from medrl import types
from medrl.rewards import lift

_TAGS = ('<think>', '</think>', '<answer>', '</answer>')
_THINK = re.compile(
    r'\s*<think>.*</think>\s*<answer>.*</answer>\s*', re.DOTALL)
_ANSWER = re.compile(r'\s*<answer>.*</answer>\s*', re.DOTALL)


@lift.per_completion
def tags(record: types.Record, text: str, *, think: bool = True) -> float:
  """Returns 1.0 iff the text is one think block, then one answer block.

  Each tag stands exactly once and only white space lies around the blocks
  (Med-R1, arXiv 2503.13939; the peers' pattern without the once-only rule lets
  `<answer>` be repeated). With `think=False` the text is one answer block and
  holds no think tag. As a reward, called with (record, completions, context).
  """
  del record
  pattern, expected = (_THINK, 1) if think else (_ANSWER, 0)
  once = all(text.count(tag) == (expected if 'think' in tag else 1)
             for tag in _TAGS)
  return float(once and pattern.fullmatch(text) is not None)
