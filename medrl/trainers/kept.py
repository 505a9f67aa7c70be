"""Groups on the host: what a run holds between two steps, also in a file.

Those are groups carried over (`refill`) and a rollout drawn ahead (`overlap`),
which a restart could not draw again, as the weights that wrote them are gone.
Of prompts the places in the record stream are kept, from where they are read
again. What is kept, and why, is not decided here.
"""

import dataclasses
import io
import json
from typing import Any

import jax
import numpy as np

from medrl import build
from medrl import paths
from medrl import sharding
from medrl import types
from medrl.data import batching
from medrl.evals import run as evals


@dataclasses.dataclass(frozen=True)
class Group:
  """A prompt with its completions."""
  place: int                # of its record in the stream
  step: int                 # trainer steps behind the weights that wrote it
  example: types.Example
  arrays: types.Rollout     # its row, without the leading P; `prompt` is ()
  texts: list[types.Completion]
  score: types.Score | None   # None where it is not scored yet


def rows(arrays: types.Rollout) -> list[types.Rollout]:
  """The rows of a rollout on the host, whose `prompt` is ()."""
  return [jax.tree.map(lambda x: x[row], arrays)
          for row in range(len(arrays.tokens))]


def joined(groups: list[Group], settings: batching.Settings
           ) -> tuple[types.Batch, types.Rollout]:
  """The groups as one batch of the smallest bucket that holds all prompts,
  over all processes, and the rollout of it; both on the host.

  A rollout's own arrays do not depend on the bucket it was sampled in.
  """
  batch = batching.stack_smallest([g.example for g in groups], settings,
                                  build.agree)
  arrays = jax.tree.map(lambda *x: np.stack(x), *[g.arrays for g in groups])
  return batch, arrays._replace(prompt=batch)


def write(session, step: int, groups: dict[str, list[Group]]) -> int:
  """Keeps groups of this process beside the checkpoint of a step.

  Owner-readable only, as completions may quote patients. Files of steps whose
  checkpoints are gone are removed.

  Args:
    session: whose folder and checkpoints.
    step: about to be saved.
    groups: what they are for -> groups.

  Returns:
    how many processes have written such a file; 0 where none has a group.
  """
  folder = session.folder / 'kept'
  if not any(sharding.gather_json([any(map(len, groups.values()))])):
    return 0
  arrays, about = {}, {}
  for kind, members in groups.items():
    about[kind] = [
        [g.place, g.step, g.score and dataclasses.asdict(g.score)]
        for g in members]
    for name in _fields() if members else ():
      arrays[f'{kind}.{name}'] = np.stack(
          [getattr(g.arrays, name) for g in members])
  paths.folder(folder, private=True)
  with paths.new(_path(folder, step, jax.process_index()), True) as file:
    np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8),
             **arrays)
  if jax.process_index() == 0:
    there = {step, *session.manager.all_steps()}
    for old in folder.glob('*.npz'):
      if int(old.name.partition('.')[0]) not in there:
        old.unlink()
  return jax.process_count()


def read(session, step: int, count: int, batches) -> dict[str, list[Group]]:
  """What `write` has kept, of this process's share.

  Args:
    session: as for `write`.
    step: that was restored.
    count: of processes that wrote; where there are as many, each has its own
      groups again, else they are shared out.
    batches: the pipeline, which reads the prompts again.

  Raises:
    ValueError: a file is not there, so the run cannot go on as it would have.
  """
  index, processes = jax.process_index(), jax.process_count()
  if count == processes:
    return _read(session, _path(session.folder / 'kept', step, index), batches)
  parts = [_read(session, _path(session.folder / 'kept', step, i), batches)
           for i in range(count)]
  out = {}
  for kind in parts[0] if parts else ():
    every = [group for part in parts for group in part[kind]]
    share = -(-len(every) // processes)
    out[kind] = every[index * share:(index + 1) * share]
  return out


def _read(session, path, batches) -> dict[str, list[Group]]:
  if not path.is_file():
    raise ValueError(f'{path} is not there; without it the step of that number '
                     f'cannot be gone on from. Remove its checkpoint to go on '
                     f'from the one before.')
  out = {}
  with np.load(io.BytesIO(path.read_bytes())) as file:
    for kind, members in json.loads(file['about'].tobytes()).items():
      if not members:
        out[kind] = []
        continue
      arrays = types.Rollout(**{name: file[f'{kind}.{name}']
                                for name in _fields()}, prompt=())
      examples = batches.at([place for place, _, _ in members])
      texts = evals.completions(session.run, arrays.tokens, arrays.action_mask)
      out[kind] = [
          Group(place, wrote, example, row, said, score and _score(score))
          for (place, wrote, score), example, row, said in zip(
              members, examples, rows(arrays), texts)]
  return out


def _fields() -> list[str]:
  return [name for name in types.Rollout._fields if name != 'prompt']


def _path(folder, step: int, process: int):
  return folder / f'{step}.{process}.npz'


def _score(fields: dict[str, Any]) -> types.Score:
  """A Score from JSON, where tuples are lists."""
  def plain(value):
    if isinstance(value, dict):
      return {key: plain(v) for key, v in value.items()}
    return tuple(map(plain, value)) if isinstance(value, list) else value
  return types.Score(**{name: plain(v) for name, v in fields.items()})
