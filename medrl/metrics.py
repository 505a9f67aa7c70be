"""Every metric's name and meaning, weighted means, and the files they go to.

Not here: computing a metric (whoever measures it), reading values from a
device (`sharding.fetch`), progress bars (trainers). This file loads no jax.

A run's folder holds `metrics.jsonl` (one line a step), `tensorboard/` (the
same numbers) and, unless switched off, `rollouts.jsonl` (completions, which
may quote patient data, hence readable by their owner only). In an object
store, where nothing can be appended, they are copies as old as the last save.
"""

from collections.abc import Iterable, Mapping
import json
import math
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
from typing import Any, NamedTuple

from medrl import lookup
from medrl import paths

_FILES = ('metrics.jsonl', 'rollouts.jsonl')
_FLUSH_S = 10.   # TensorBoard's file goes to disk so often, at most

GROUPS = ('reward', 'rollout', 'loss', 'policy', 'optim', 'data', 'time',
          'eval')

# `*` stands for any non-empty rest, `<suite>` for one path segment.
DEFINITIONS = {
    'reward/total': 'Mean weighted reward over valid completions.',
    'reward/total_std': 'Mean over groups of the rewards\' standard deviation.',
    'reward/part/*': 'Mean of one reward term before weighting.',
    'reward/kl': 'Mean KL that is taken from the reward (rl.kl_in), '
                 'coefficient included, per token.',
    'reward/errors': 'Number of reward terms that raised in this step.',
    'reward/timeouts': 'Number of samples among them that a worker was killed '
                       'for, as they took too long.',
    'reward/unparsed': 'Fraction of completions in which no answer was found.',
    'rollout/length': 'Mean tokens the policy wrote per completion.',
    'rollout/finished': 'Fraction of completions ended by a stop id.',
    'rollout/slot_use': 'Fraction of decode slots and iterations in which a '
                        'completion was being written.',
    'rollout/tokens_per_pass': 'Mean tokens of an iteration of a slot, drafts '
                               'that were right included.',
    'rollout/entropy': 'Mean entropy of the sampler per token, in nats.',
    'rollout/logp_gap': 'Mean over tokens of the absolute difference between '
                        'the sampler\'s and the scorer\'s log-probs, in nats.',
    'rollout/logp_gap_max': 'Largest such difference in the step, in nats.',
    'rollout/correction': 'Mean weight that a correction (rl.correction, '
                          'rl.rejection) gives a token.',
    'rollout/correction_cut': 'Fraction of tokens at which a bound of the '
                              'correction acted.',
    'rollout/correction_rejected': 'Fraction of tokens that it gives no '
                                   'weight.',
    'rollout/correction_sample_size': 'Effective sample size of its weights, '
                                      'as a share of the tokens; mean over '
                                      'micro-batches.',
    'rollout/staleness': 'Mean trainer steps between the weights that wrote a '
                         'group and those that learn from it (rl.overlap, '
                         'rollout.refill.carry).',
    'rollout/attempts': 'Batches sampled for the step (rollout.refill), after '
                        'which reward/ is of all groups sampled in it.',
    'loss/total': 'The number that is differentiated.',
    'loss/policy': 'The surrogate\'s share of loss/total, sign included.',
    'loss/kl': 'The reference KL\'s share of loss/total, coefficient included.',
    'loss/entropy': 'The entropy bonus\'s share of loss/total, sign and '
                    'coefficient included.',
    'loss/distill': 'The teachers\' share of loss/total, coefficient '
                    'included.',
    'loss/sft': 'Mean cross-entropy of demonstration tokens, in nats a token.',
    'policy/clip_fraction': 'Fraction of tokens whose gradient the clip cut.',
    'policy/ratio_max': 'Largest probability ratio, new to old, in the step.',
    'policy/entropy': 'Mean entropy of the policy in the update, in nats a '
                      'token.',
    'policy/kl_ref': 'Mean KL estimate from the reference, in nats a token.',
    'policy/kl_teacher': 'Mean of log policy less log teacher, in nats a '
                         'token: their reverse KL, on the policy\'s own '
                         'samples.',
    'policy/kl_old': 'Mean KL estimate from the sampling policy, in nats a '
                     'token.',
    'optim/grad_norm': 'Global L2 norm of the gradient before clipping.',
    'optim/learning_rate': 'Learning rate of this update.',
    'optim/skipped': 'Number of updates skipped for a non-finite gradient.',
    'optim/update_norm': 'Global L2 norm of the parameters\' change.',
    'optim/param_norm': 'Global L2 norm of the trained parameters.',
    'data/uniform_groups': 'Fraction of groups whose rewards are all equal, '
                           'which teach nothing.',
    'data/missing_groups': 'Number of groups that the batch of the step lacked '
                           'when rollout.refill.attempts were used up.',
    'data/carried_groups': 'Number of groups of the step\'s batch that the '
                           'step before had left over (rollout.refill.carry).',
    'data/padding_prompt': 'Fraction of prompt places that are padding.',
    'data/padding_completion': 'Fraction of places for completion tokens, in '
                               'scoring and update, that are padding.',
    'data/padding_patches': 'Fraction of patch places that are padding.',
    'data/bucket_prompt': 'Prompt length of the step\'s bucket, in tokens.',
    'data/bucket_patches': 'Patches of the step\'s bucket, per prompt.',
    'data/seen': 'Places of the record stream drawn since the run began.',
    'data/bad/*': 'Records dropped since the run began for the named reason.',
    'time/step': 'Wall time of the whole step, in seconds.',
    'time/data': 'Time waiting for the next batch, in seconds.',
    'time/sample': 'Time sampling completions, in seconds; with rl.overlap '
                   'the wait for what was under way.',
    'time/signals': 'Time for what rewards ask of the model, in seconds.',
    'time/reward': 'Time in rewards on the host, in seconds.',
    'time/hidden_reward': 'Share of time/reward in which the device wrote the '
                          'next rollout (rl.overlap).',
    'time/prepare': 'Time for old and reference log-probs, in seconds.',
    'time/update': 'Time in the update, in seconds.',
    'time/evaluate': 'Time in evaluation suites, in seconds.',
    'time/save': 'Time the loop waited for a checkpoint, in seconds.',
    'time/compile': 'Time compiling programs, in seconds.',
    'time/tokens_per_second': 'Tokens the policy wrote per second of '
                              'time/sample, over all devices.',
    'time/fetches': 'Number of device-to-host reads in the step.',
    'eval/<suite>/accuracy': 'Fraction right over all records; an unparsed '
                             'answer is wrong.',
    'eval/<suite>/accuracy_parsed': 'Fraction right among parsed answers.',
    'eval/<suite>/balanced_accuracy': 'Mean over true answers (classes) of '
                                      'the accuracy within each.',
    'eval/<suite>/parse_rate': 'Fraction of completions with an answer found.',
    'eval/<suite>/mean_iou': 'Mean intersection over union of boxes; an '
                             'unparsed box counts 0.',
    'eval/<suite>/mean_jaccard': 'Mean Jaccard index of labels or states; an '
                                 'unparsed answer counts 0.',
    'eval/<suite>/skipped': 'Records that could not be encoded and were left '
                            'out (on_bad skip).',
    'eval/<suite>/length': 'Mean tokens per completion.',
    'eval/<suite>/finished': 'Fraction of completions ended by a stop id.',
    'eval/<suite>/accuracy/*': 'The same on the records of the named task.',
    'eval/<suite>/accuracy_parsed/*': 'The same on the named task.',
    'eval/<suite>/balanced_accuracy/*': 'The same on the named task.',
    'eval/<suite>/parse_rate/*': 'The same on the named task.',
    'eval/<suite>/mean_iou/*': 'The same on the named task.',
    'eval/<suite>/mean_jaccard/*': 'The same on the named task.',
}


class Mean(NamedTuple):
  """A mean on its way: sum of weighted values, and sum of weights.

  Means of unequal microbatches must not be averaged themselves, so they travel
  as a pair and are divided once, at the end. Being a tuple, `a + b` joins the
  two; use `merge`. Fields may be numbers or arrays of any backend.
  """
  total: Any
  weight: Any


def merge(a: Mean, b: Mean) -> Mean:
  """The mean over both sets of values."""
  return Mean(a.total + b.total, a.weight + b.weight)


def value(mean: Mean) -> float | None:
  """The mean as a host number; None if nothing was weighed (host only)."""
  weight = float(mean.weight)
  return float(mean.total) / weight if weight else None


def _pattern(name: str) -> str:
  return re.escape(name).replace(r'\*', '.+').replace('<suite>', '[^/]+')


_KNOWN = re.compile('|'.join(map(_pattern, DEFINITIONS)))


def check(names: Iterable[str]) -> None:
  """Raises ValueError for a name without definition, naming the nearest."""
  for name in names:
    if not _KNOWN.fullmatch(name):
      # A suite's name would drown the letters that were mistyped.
      plain = re.sub('^eval/[^/]+/', 'eval/<suite>/', name)
      raise ValueError(
          f'metric {name!r} is not defined: '
          f'{lookup.nearest(plain, list(DEFINITIONS))} A new one needs a line '
          f'in medrl/metrics.py DEFINITIONS, in one of the groups '
          f'{", ".join(GROUPS)}.')


def _plain(item: Any) -> Any:
  """`item` as strict JSON allows it: nan and inf become strings."""
  if isinstance(item, Mapping):
    return {str(k): _plain(v) for k, v in item.items()}
  if isinstance(item, (list, tuple)):
    return [_plain(v) for v in item]
  if item is None or isinstance(item, (str, bool, int)):
    return item
  number = float(item)
  return number if math.isfinite(number) else str(number)


def _open(path: pathlib.Path, mode: int):
  # The mode belongs to the creation: a chmod after it leaves a moment in
  # which others can open the file.
  return open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode), 'a',
              encoding='utf-8')


def _line(file, row: Mapping[str, Any]) -> None:
  file.write(json.dumps(_plain(row), allow_nan=False) + '\n')
  file.flush()


class _Events:
  """TensorBoard's event file. Written here and now: tensorboardX's own writer
  does it in a thread, and where that one fails, on a full disk, the run waits
  for it for ever."""

  def __init__(self, folder: pathlib.Path, purge_step: int | None):
    # tensorboardX loads torch for type annotations if it finds it, a second
    # and 200 MB; None in sys.modules makes that import fail, as where it is
    # absent.
    hidden = 'torch' not in sys.modules
    if hidden:
      sys.modules['torch'] = None
    try:
      from tensorboardX import event_file_writer
      from tensorboardX import summary
      from tensorboardX.proto import event_pb2
    finally:
      if hidden:
        del sys.modules['torch']
    self._event, self._scalar = event_pb2.Event, summary.scalar
    folder.mkdir(parents=True, exist_ok=True)
    # By itself it is named by the second, and a restart may be as quick.
    self._file = event_file_writer.EventsWriter(
        str(folder / 'events'), f'.{time.time_ns() % 10**9}')
    self._flushed = time.monotonic()
    if purge_step is not None:
      # Events of earlier files from this step on are hidden by it.
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._write(purge_step, session_log=start)

  def _write(self, step: int, **what: Any) -> None:
    event = self._event(step=step, wall_time=time.time(), **what)
    self._file.write_event(event)

  def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
    for name, number in numbers.items():
      self._write(step, summary=self._scalar(name, number))
    if time.monotonic() > self._flushed + _FLUSH_S:
      self._file.flush()
      self._flushed = time.monotonic()

  def flush(self) -> None:
    self._file.flush()

  def close(self) -> None:
    self._file.close()


class Writer:
  """The open log files of one run; one process holds them.

  `step` is the step that was restored (0 for a fresh start): later lines, left
  by a run that was killed, are cut from both JSON files and hidden in
  TensorBoard (by a session-start event with purge step `step + 1`). None keeps
  everything. `rollouts=False` writes no completions to disk.

  Of a folder in an object store the files are in `here`, a folder on this
  machine's disk that its owner alone can enter, and go up at each `publish`.
  """

  def __init__(self, folder: str | os.PathLike, *, step: int | None = None,
               tensorboard: bool = True, rollouts: bool = True):
    self._folder = paths.at(folder)
    self.here = _down(self._folder)
    for name in _FILES:
      cut(self.here / name, step)
    self._metrics = _open(self.here / _FILES[0], 0o666)
    self._rollouts = None
    if rollouts:
      self._rollouts = _open(self.here / _FILES[1], 0o600)
      os.fchmod(self._rollouts.fileno(), 0o600)  # one that was there before
    self._events = tensorboard and _Events(
        self.here / 'tensorboard', None if step is None else step + 1)

  def write(self, step: int, values: Mapping[str, Any]) -> dict[str, float]:
    """Appends one line, flushed; returns the numbers, for a progress bar.

    `values` are host numbers or `Mean`s by defined name; a mean of nothing is
    left out. A non-finite number becomes 'nan', 'inf' or '-inf' in the file.
    """
    check(values)
    numbers = {n: value(v) if isinstance(v, Mean) else float(v)
               for n, v in values.items()}
    numbers = {n: v for n, v in numbers.items() if v is not None}
    _line(self._metrics, {'step': int(step), **numbers})
    if self._events:
      self._events.scalars(int(step), numbers)
    return numbers

  def rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends a line per row, each with its step; nothing if switched off."""
    if self._rollouts:
      for row in rows:
        _line(self._rollouts, {'step': int(step), **row})

  def publish(self) -> None:
    """Copies the files to an object store; on a disk they are there already.

    To be called before each save: a restart cuts what is newer than the
    save, and could not make up for what is missing.
    """
    if paths.remote(self._folder):
      if self._events:
        self._events.flush()
      paths.copy(self.here, self._folder)

  def close(self) -> None:
    self.publish()
    for file in (self._metrics, self._rollouts, self._events):
      if file:
        file.close()
    if paths.remote(self._folder):
      shutil.rmtree(self.here)


def _down(folder) -> pathlib.Path:
  """Where the log files of a folder are written, with those to go on with."""
  if not paths.remote(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder
  here = pathlib.Path(tempfile.mkdtemp(prefix='medrl-logs-'))
  for name in _FILES:
    if (folder / name).exists():
      paths.copy(folder / name, here / name)
  return here


def _lines(path):
  """Yields (bytes, dict) for each whole line; a torn last line is left out."""
  with path.open('rb') as file:
    for number, line in enumerate(file, 1):
      if not line.endswith(b'\n'):  # the writer was killed within this line
        return
      try:
        yield line, json.loads(line)
      except ValueError as error:
        raise ValueError(f'{path}:{number} is not JSON ({error}); remove the '
                         f'line or the file.') from None


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines of a log as dicts; `float()` undoes 'nan' and 'inf'."""
  return [row for _, row in _lines(paths.at(path))]


def cut(path: str | os.PathLike, step: int | None) -> None:
  """Keeps the whole lines whose 'step' is at most `step` (None: all of them)
  of a file on this machine's disk.

  The file is replaced by rename, so a kill leaves the old one or the new one.
  A missing file is left missing.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
  try:
    with open(handle, 'wb') as file:
      os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
      file.writelines(line for line, row in _lines(path)
                      if step is None or row['step'] <= step)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise
