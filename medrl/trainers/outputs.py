"""What a loop leaves for people: logs, a progress bar, the result, bad batches.

Checkpoints are `session`'s; the format of logs is `medrl.metrics`'.
"""

import json
import logging

import jax
import numpy as np
import tqdm

from medrl import metrics
from medrl import paths
from medrl import sharding


def writer(session, step: int):
  """The log files, cut to the restored step; process 0 alone has them.

  A run that restored nothing gives -1: not even the evaluation before the first
  step is kept, as it comes again.
  """
  if jax.process_index():
    return None
  log = session.run.config.log
  return metrics.Writer(session.folder, step=step, tensorboard=log.tensorboard,
                        rollouts=log.rollouts)


def progress(session, name: str, start: int, total: int):
  """A progress bar, on process 0 and where the config wants it."""
  hidden = jax.process_index() or not session.run.config.log.progress
  return tqdm.tqdm(total=total, initial=start, desc=name, disable=bool(hidden),
                   dynamic_ncols=True, mininterval=1.0)


def dump(session, step: int, arrays) -> None:
  """Writes the arrays of a skipped step for a look; owner-readable only."""
  path = session.folder / 'skipped' / f'{step}.{jax.process_index()}.npz'
  paths.folder(path.parent, private=True)
  flat = {jax.tree_util.keystr(p, simple=True, separator='.'): x
          for p, x in jax.tree_util.tree_leaves_with_path(arrays)}
  with paths.new(path, private=True) as file:
    np.savez(file, **flat)
  logging.warning('step %d had a gradient that is not finite and was skipped; '
                  'its batch is in %s', step, path)


def conclude(workdir) -> dict[str, float | str]:
  """A finished run's result, written to `result.json`.

  That file tells a finished run from one that was stopped or died.
  """
  result = read_result(workdir) | {'workdir': str(workdir)}
  if jax.process_index() == 0:
    paths.write(paths.at(workdir) / 'result.json', json.dumps(result))
  return result


def read_result(folder) -> dict[str, float]:
  """Held-out accuracy at the first and the last evaluation of a run.

  The same on all processes, though only process 0 has the logs.
  """
  found = [] if jax.process_index() else [_read_result(folder)]
  return sharding.gather_json(found)[0]


def _read_result(folder) -> dict[str, float]:
  rows = [r for r in metrics.read(paths.at(folder) / 'metrics.jsonl')
          if 'eval/heldout_greedy/parse_rate' in r]
  def accuracy(row):
    name = 'eval/heldout_greedy/'
    for score in ('accuracy', 'mean_iou'):
      if name + score in row:
        return row[name + score]
    raise KeyError(json.dumps(row))
  return {'accuracy_before_rl': accuracy(rows[0]),
          'accuracy_after_rl': accuracy(rows[-1])}
