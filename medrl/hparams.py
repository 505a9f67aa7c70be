"""What TensorBoard compares runs by: what a run changed, and how it ended.

Not here: curves (medrl/metrics.py), tables of many runs (launch/collect.py).
This file loads no jax; its layer is that of metrics.
"""

from collections.abc import Mapping
import json
import math
import os
import pathlib
import tempfile
import time
from typing import Any

from medrl import paths


def _shown(value: Any) -> bool | float | str:
  """`value` as TensorBoard holds it: anything else becomes its JSON."""
  if isinstance(value, (bool, str)):
    return value
  if isinstance(value, (int, float)):
    return float(value)
  return json.dumps(value, default=str)


def write(folder: str | os.PathLike, config: Mapping[str, Any],
          result: Mapping[str, Any]) -> None:
  """Writes the hyper-parameter summary of one finished run.

  It is a run of its own below the run's (`tensorboard/hparams`), and replaces
  the one that is there.

  Args:
    folder: the run's, on a disk or in an object store.
    config: what differs from the study's default, by flat key: 'rl.clip_high'
      -> 0.28.
    result: the run's. Its finite numbers become metrics `result/<key>`; texts
      (a path) are left out.

  Raises:
    OSError: it cannot be written.
  """
  # Loaded where they are used, as they take a second.
  from tensorboardX import event_file_writer
  from tensorboardX import summary
  from tensorboardX.proto import event_pb2
  metrics = {f'result/{key}': float(value) for key, value in result.items()
             if isinstance(value, (int, float)) and not isinstance(value, bool)
             and math.isfinite(value)}
  shown = {key: _shown(value) for key, value in config.items()}
  target = paths.at(folder) / 'tensorboard' / 'hparams'
  with tempfile.TemporaryDirectory(prefix='medrl-') as scratch:
    # Its own writer is a thread, which nobody hears fail.
    file = event_file_writer.EventsWriter(str(pathlib.Path(scratch, 'events')))
    for part in (*summary.hparams(shown, metrics),
                 *(summary.scalar(*metric) for metric in metrics.items())):
      file.write_event(event_pb2.Event(wall_time=time.time(), summary=part))
    file.close()
    if target.exists():
      for old in target.glob('events.*'):
        old.unlink()
    paths.copy(scratch, target)
