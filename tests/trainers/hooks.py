"""What the study names: records, and a reward that can hold a run.

The environment names the moment: `MEDRL_HOLD=reward@5` holds the fifth answer
that this process scores, `save@sft/2` the rename that ends the asynchronous
save of step 2 in the folder `sft`, `save@sft` that of whatever step comes
first. Not the config, which may not differ.
"""

import itertools
import os
import pathlib
import time

from medrl.rewards import lift

_calls = itertools.count(1)


def demonstrations(records, seed):
  """Those that the records have; so the cold start loads this module too."""
  del seed
  return records


def _hold(*moments: str) -> None:
  if os.environ.get('MEDRL_HOLD') in moments:
    mark = pathlib.Path(os.environ['MEDRL_HOLD_MARK'])
    mark.touch()
    while mark.exists():   # until the test removes it, or kills
      time.sleep(.01)


@lift.per_completion
def score(record, text):
  """A number that differs within nearly every group, whatever is written."""
  del record
  _hold(f'reward@{next(_calls)}')
  return (sum(text.encode()) % 7) / 7


def _slow(rename):
  """`rename` that may be held where Orbax ends the save of a step."""
  def held(source, target, *rest, **options):
    if '.orbax-checkpoint-tmp' in pathlib.Path(source).name:
      folder, below, step = pathlib.Path(target).parts[-3:]
      if below == 'checkpoints':
        _hold(f'save@{folder}/{step}', f'save@{folder}')
    return rename(source, target, *rest, **options)
  return held


if os.environ.get('MEDRL_HOLD', '').startswith('save'):
  os.rename, os.replace = _slow(os.rename), _slow(os.replace)
