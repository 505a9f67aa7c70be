"""Rows of verl, for reinforcement learning: prompts with checkable answers.

`data_source, prompt: [{role, content}], images, ability, reward_model:
{style, ground_truth}, extra_info`, in parquet or JSON lines. MedVLThinker puts
the options as JSON into `extra_info.options`; images may be null. As verl
(volcengine) and MedVLThinker (UCSC-VLAA) write them. `reward_model.style` is
not obeyed: rewards are the config's.
"""

from collections.abc import Iterator
from typing import Any

from medrl import types
from medrl.data import cells
from medrl.data import fields as fields_lib
from medrl.data import parquet
from medrl.data import reading
from medrl.data import sharegpt
from medrl.data import tabular

DEFAULTS = {'question': '@question', 'answer': 'reward_model.ground_truth',
            'images': {'column': 'images', 'kind': 'embedded',
                       'optional': True},
            'task': 'ability', 'meta': {'system': '@system',
                                        'data_source': 'data_source'}}


def records(root: str, split: str, *, file: Any, fields: Any = (),
            places: str = 'match', parts: Any = None, limit: int = 0,
            on_bad: str = 'error', home: Any = None) -> Iterator[types.Record]:
  """Records of one split of files of verl rows.

  Args:
    root: data root.
    split: 'train', 'validation' or 'test'.
    file: as in `reading.records`.
    fields: laid over `DEFAULTS`. A prompt mostly holds instructions and the
      options as text, which this project adds itself: where the row has the
      parts, take {'question': 'extra_info.question', 'options':
      'extra_info.options'}.
    places: 'match' or 'optional'; see `sharegpt.Talk`.
    parts, limit, on_bad, home: as in `reading.records`.

  Yields:
    Records, in the files' order.

  Raises:
    FileNotFoundError, ValueError: as in `reading.records`.
  """
  talk = sharegpt.Talk('prompt', 'last', places)

  def rows(name):
    source = parquet if name.endswith('.parquet') else tabular
    return source.rows(root, name)

  yield from reading.records(
      rows, root, split, file=file,
      spec=fields_lib.parse(fields, DEFAULTS), parts=parts, limit=limit,
      on_bad=on_bad, home=home,
      build=lambda row, spec: sharegpt.build(
          row, spec, talk, {'<image>': cells.images(row, spec.images)}))
