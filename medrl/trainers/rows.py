"""Which completion tokens share a row, so that scoring meets few pads.

Completions of a step differ in length; whole ones are packed into rows of a
fixed size, and the number of rows into one of a few. Done on the host, once it
knows the lengths. Prompts are not packed: `data.packing` does that for
demonstrations.
"""

from collections.abc import Sequence
import dataclasses

import jax
import numpy as np

from medrl import build
from medrl import metrics
from medrl.data import batching
from medrl.data import packing


@dataclasses.dataclass(frozen=True)
class Split:
  """How the prompts of a step are divided before they are scored.

  A part of the mesh holds neighbouring prompts; of those a mini-batch takes
  every n-th and a micro-batch of it again, as `update.microbatched` does.
  """
  parts: int
  minibatches: int
  microbatches: int

  @property
  def groups(self) -> int:
    return self.parts * self.minibatches * self.microbatches

  def check(self, name: str, count: int) -> None:
    """Raises ValueError where `count` rows do not divide."""
    if count % self.groups:
      raise ValueError(
          f'{name} {count} does not divide by {self.groups}: {self.parts} '
          f'parts of the mesh times {self.minibatches} mini-batches times '
          f'{self.microbatches} micro-batches')

  def members(self, count: int) -> list[np.ndarray]:
    """Which of `count` rows each group has, in the order of its array."""
    rows = np.arange(count).reshape(self.parts, -1, self.microbatches,
                                    self.minibatches)
    return list(rows.transpose(0, 3, 2, 1).reshape(self.groups, -1))


def counts(config, mesh) -> tuple[int, ...]:
  """The declared numbers of packed rows of a whole step, () for none.

  Raises:
    ValueError: they, or the rows' length, do not fit the rest of the config.
  """
  pack, length = config.rl.pack, config.rollout.length
  if not pack.tokens:
    return ()
  if pack.tokens < length or list(pack.rows) != sorted(set(pack.rows)) or (
      not pack.rows or pack.rows[0] < 1):
    raise ValueError(
        f'rl.pack has rows of {pack.tokens} tokens, {tuple(pack.rows)} of them;'
        f' expected at least the {length} of rollout.length, and growing '
        f'numbers')
  whole = Split(build.parts(mesh), config.rl.minibatches,
                config.rl.microbatches)
  for name, count in (('rollout.prompts', config.rollout.prompts),
                      *(('rl.pack.rows', n) for n in pack.rows)):
    whole.check(name, count)
  return tuple(pack.rows)


def of_step(run: build.Run, there: np.ndarray):
  """The plan of a step's completions, and the key of its programs.

  Args:
    run: the run.
    there: bool [P, G, T], tokens of the completions of this process.

  Returns:
    int32 [R, M] of this process, or None; and the number of rows over all
    processes, 0 for None.
  """
  declared = counts(run.config, run.mesh)
  if not declared:
    return None, 0
  peers, rl = jax.process_count(), run.config.rl
  split = Split(build.parts(run.mesh) // peers, rl.minibatches,
                rl.microbatches)
  found = plan(there, rl.pack.tokens, [n // peers for n in declared], split,
               build.agree)
  return found, 0 if found is None else len(found) * peers


def padding(there: np.ndarray, source) -> metrics.Mean:
  """Places for completion tokens that hold none, of this process."""
  places = there.size if source is None else source.size
  return metrics.Mean(places - there.sum(), places)


def plan(there: np.ndarray, room: int, counts: Sequence[int], split: Split,
         agree: batching.Agree | None = None):
  """The smallest declared number of rows that holds all completions.

  Args:
    there: bool [P, G, T], tokens of the completions of this process.
    room: tokens of a row, at least T.
    counts: numbers of rows of this process, growing.
    split: of this process's prompts.
    agree: over several processes, see `batching.bucket_for`.

  Returns:
    int32 [R, room], see `scoring.policy_logps`; None where no number is enough,
    and completions then have rows of their own.
  """
  packed = [_packed(there[members], room)
            for members in split.members(len(there))]
  most = max(map(len, packed)) * split.groups
  least = next((i for i, n in enumerate(counts) if n >= most), len(counts))
  least = agree(least) if agree else least
  if least == len(counts):
    return None
  pad = there.size // split.groups
  out = np.full((counts[least], room), pad, np.int32)
  for members, rows in zip(split.members(counts[least]), packed):
    for at, row in zip(members, rows):
      out[at, :len(row)] = row
  return out


def _packed(there: np.ndarray, room: int) -> list[np.ndarray]:
  """Rows of token numbers p G T + g T + t, of one group's prompts [P, G, T]."""
  length = there.shape[-1]
  tokens = [i * length + np.flatnonzero(mask)
            for i, mask in enumerate(there.reshape(-1, length))]
  tokens = [t for t in tokens if len(t)]
  rows = packing.best_fit([(len(t), 0) for t in tokens], (room, 0))
  return [np.concatenate([tokens[i] for i in row]) for row in rows]
