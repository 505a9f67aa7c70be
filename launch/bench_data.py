"""What a benchmark feeds: random pictures, one question, a reward of no work.

Not data to learn from, and nothing here is timed by itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medrl import types

QUESTION = 'Is there a lesion in the picture? Answer yes or no.'
SYSTEM = 'You are a helpful assistant.'


def records(root: str, split: str, *, prompts: int,
            sides: Sequence[tuple[int, int]], repeats: int = 1
            ) -> list[types.Record]:
  """`prompts` questions about one random picture each, the sizes in turn.

  Args:
    root, split: not used.
    prompts: different ones.
    sides: (height, width) of the pictures in pixels.
    repeats: each prompt comes as often, one after the other.
  """
  del root, split
  out = []
  for number in range(prompts):
    height, width = sides[number % len(sides)]
    out += repeats * [types.Record(
        id=f'bench/{number}', question=QUESTION, answer='yes',
        answer_type='yesno', source='bench', task='bench',
        media=(types.Media(f'{height}/{width}/{number}',
                           'launch.bench_data.picture'),))]
  return out


def picture(path: str, root: str) -> np.ndarray:
  """Noise, uint8 [h, w, 3], of the path `height/width/seed`."""
  del root
  height, width, seed = map(int, path.split('/'))
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def evens(record: types.Record, completions: list[types.Completion],
          context: dict[str, Any]) -> types.Score:
  """The share of even ids: differs within a group, and costs nothing."""
  del record, context
  total = tuple(sum(i % 2 == 0 for i in c.ids) / max(len(c.ids), 1)
                for c in completions)
  everywhere = (True,) * len(total)
  return types.Score(total, {'evens': total}, everywhere, everywhere)
