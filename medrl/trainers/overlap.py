"""Batches and the rollouts of them, the next one perhaps under way already.

With `config.rl.overlap` the rollout of a step is given to the device before
the rewards of the step before are computed, so that the host scores while the
device samples. What is drawn ahead was written by the policy of one update
earlier (one-step-off), so its log-probs are the sampler's of then, and the loss
has to say what it makes of them, see `check`. Rewards are not computed here.
"""

from collections.abc import Iterator
from concurrent import futures
import contextlib
import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import sharding
from medrl import types
from medrl.data import batching
from medrl.evals import run as evals
from medrl.trainers import kept
from medrl.trainers import prepare
from medrl.trainers import session as session_lib


def check(config) -> None:
  """Raises ValueError where a stale rollout would be learnt from as if fresh.

  A correction weighs tokens by what the policy before the update thinks of them
  against what it thought when they were drawn: in a rollout's only update that
  costs no pass, else the old log-probs are scored. With `rl.old_logps`
  'sampler' the ratio itself is between the new policy and the one that drew,
  and the clip bounds it.
  """
  words = prepare.objective(config)
  for name, on in (('rl.overlap', config.rl.overlap),
                   ('rollout.refill.carry', config.rollout.refill.carry)):
    if on and words.old == 'scored' and not words.corrects:
      raise ValueError(
          f'{name} learns from what an older policy wrote; give rl.correction '
          f"(medrl.rl.corrections.token_tis) or rl.old_logps='sampler'")


class Policy(NamedTuple):
  """Who writes now."""
  weights: Any   # for sampling, on the device
  key: Any       # the run's, on the device
  step: int      # trainer steps that it has learnt from


class Draw(NamedTuple):
  """A batch and the rollout of it, which the device may still be writing."""
  bucket: tuple[int, int]
  examples: list[types.Example]   # of this process's rows
  places: list[int]               # of their records in the stream
  step: int                       # trainer steps behind the weights
  number: Any                     # int32 [] on the device, keys its draws
  rollout: types.Rollout          # on the device
  values: dict[str, Any]          # metrics of the data


class Draws:
  """Batches with their rollouts, in the order of the record stream.

  Draws of tokens are keyed by the number of the batch in the run, whichever
  step it serves. One batch a step makes that the step's own number.
  """

  def __init__(self, session, batches, programs, ahead: list[kept.Group]):
    """Args:
      session: the open session.
      batches: its pipeline, moved to where the run is.
      programs: bucket -> sampling program.
      ahead: the groups that were under way when the run was saved, or none.
    """
    self._run, self._batches = session.run, batches
    self._programs = programs
    prompts = session.run.config.rollout.prompts
    self.numbers = session.run.crossing.up(
        evals.numbers(session.run, prompts))
    whole = sharding.replicated(session.run.mesh)
    first = batches.seen // prompts - bool(ahead)
    self._number = jax.jit(lambda: jnp.int32(first), out_shardings=whole)()
    self._next = jax.jit(lambda n: n + 1, out_shardings=whole).lower(
        self._number).compile()
    self._ahead = self._restored(ahead) if ahead else None

  def take(self, policy: Policy, spent: dict[str, float]) -> Draw:
    """The next draw: the one under way, or else one by `policy`."""
    self.launch(policy, spent)
    draw, self._ahead = self._ahead, None
    return draw

  def launch(self, policy: Policy, spent: dict[str, float]) -> None:
    """Starts the next draw, if none is under way, and does not wait for it.

    Args:
      policy: who writes it.
      spent: seconds by name, to which the wait for records is added.
    """
    if self._ahead:
      return
    with timed(spent, 'time/data'):
      batch, examples = next(self._batches)
      values = session_lib.data_metrics(self._batches, batch)
      up = self._run.crossing.up(batch)
    settings = self._batches.settings
    first = (self._batches.seen - settings.prompts
             * (settings.process_count - settings.process_index))
    bucket = batching.bucket_of(batch)
    rollout = self._programs[bucket](policy.weights, up, policy.key,
                                     self._number, self.numbers)
    self._ahead = Draw(
        bucket, examples, list(range(first, first + len(examples))),
        policy.step, self._number, rollout, values)
    self._number = self._next(self._number)
    self._done = _watch(rollout)

  def hidden(self, start: float, end: float) -> float:
    """Seconds between two moments in which the device wrote what is under way.

    Both lie behind its launch, and `end` is now.
    """
    if not self._ahead:
      return 0.
    until = self._done.result() if self._done.done() else end
    return max(min(until, end) - start, 0.)

  def under_way(self) -> list[kept.Group]:
    """The groups of what was launched and not taken; waits for the device."""
    if not self._ahead:
      return []
    draw = self._ahead
    arrays = self._run.crossing.fetch(draw.rollout._replace(prompt=()))
    return [kept.Group(place, draw.step, example, row, [], None)
            for place, example, row in zip(draw.places, draw.examples,
                                           kept.rows(arrays))]

  def _restored(self, groups: list[kept.Group]) -> Draw:
    batch, arrays = kept.joined(groups, self._batches.settings)
    values = session_lib.data_metrics(self._batches, batch)
    rollout = self._run.crossing.up(arrays)
    draw = Draw(batching.bucket_of(batch), [g.example for g in groups],
                [g.place for g in groups], groups[0].step, self._number,
                rollout, values)
    self._number = self._next(self._number)
    self._done = _watch(rollout)
    return draw


@contextlib.contextmanager
def timed(spent: dict[str, float], name: str) -> Iterator[None]:
  """Adds the seconds of what is inside to `spent[name]`."""
  started = time.monotonic()
  try:
    yield
  finally:
    spent[name] = spent.get(name, 0.) + time.monotonic() - started


def _watch(rollout: types.Rollout) -> futures.Future:
  """Tells the moment at which the device is done, without a wait here."""
  done = futures.Future()

  def wait():
    try:
      jax.block_until_ready(rollout.tokens)
      done.set_result(time.monotonic())
    # The loop meets the same error where it reads the tokens.
    except Exception as error:
      done.set_exception(error)

  threading.Thread(target=wait, daemon=True).start()
  return done
