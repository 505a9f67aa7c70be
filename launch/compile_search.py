"""Searches the mesh that sends the fewest bytes, and the most prompts that fit.

Few compiles, each of them said: the meshes that look best on paper are compiled
for the update and for `weigh`, and the one that sends the least gets more
prompts until they no longer fit. Not a search over remat or dtypes.
"""

from collections.abc import Callable, Iterator
import dataclasses
import itertools
import logging
import math
from typing import Any

from launch import compile_counts
from launch import compile_memory
from launch import compile_programs
from launch import compile_report
from medrl import accelerators
from medrl import build
from medrl import sharding
from medrl.trainers import outline
from medrl.trainers import session as session_lib

MESHES = 4    # compiled
BATCHES = 6   # compiled, two programs each
# A step's largest: what holds the gradients, and what holds the keys.
LARGEST = ('update', 'sample')


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A mesh with its micro-batches, and what it costs on paper."""
  mesh: dict[str, int]
  microbatches: int
  sent: float    # bytes a chip sends at least in an update and in `weigh`
  held: float    # bytes a chip holds all the time


def search(config, topology: str, slices: int, figures: Callable
           ) -> tuple[dict[str, Any], list[str]]:
  """The result of the best that was found, and what was tried.

  Args:
    config: of the run; it is left with what was found.
    topology, slices: see `accelerators.devices`.
    figures: `(config, topology, slices, names) -> ` a result, see
      `compile_figures.of_slice`.

  Raises:
    ValueError: nothing that was tried fits.
  """
  said = []
  def say(line):
    said.append(line)
    logging.info('%s', line)
  config.mesh.slices = slices
  compile_programs.largest_alone(config)
  devices = accelerators.devices(topology, slices)
  chip = accelerators.CHIPS[accelerators.parse(topology)[0]]
  tried = candidates(config, devices, slices, chip, say)[:MESHES]
  def compiled(names):
    return figures(config, topology, slices, names)
  best = _mesh(config, tried, compiled, say)
  if best is None:
    raise ValueError(
        f'none of the {len(tried)} meshes of {topology} that were compiled '
        f'fits; take more chips, model.remat=full, more rl.microbatches or '
        f'rl.optim.moment_dtype=bfloat16')
  _take(config, best)
  config.rollout.prompts = _prompts(config, compiled, say)
  return compiled(()), said


def _take(config, one: Candidate) -> None:
  config.mesh.update(one.mesh)
  config.rl.microbatches = one.microbatches


def _mesh(config, tried: list[Candidate], compiled, say) -> Candidate | None:
  """The candidate that fits and sends the least, or None."""
  fitting = []
  for number, one in enumerate(tried):
    _take(config, one)
    say(f'mesh {number + 1} of {len(tried)}: {one.mesh}, {one.microbatches} '
        f'micro-batches; on paper {one.sent / 1e9:.2f} GB sent and '
        f'{one.held / 1e9:.2f} held')
    found = compiled(('weigh', 'update'))
    sent = sum(sum(program['collective_bytes'].values())
               for program in found['programs'].values()
               if 'collective_bytes' in program)
    say(f'  {compile_report.verdict(found)}; a chip sends {sent / 1e9:.2f} GB')
    if found['fits']:
      fitting.append((sent, number))
  return tried[min(fitting)[1]] if fitting else None


def _prompts(config, compiled, say) -> int:
  """The most prompts that fit, by doubling or halving those of the config.

  Raises:
    ValueError: none of those that were tried fits.
  """
  def fits(prompts):
    config.rollout.prompts = prompts
    try:
      told = compiled(LARGEST)
    except ValueError as error:   # they no longer divide
      say(f'{prompts} prompts: {error}')
      return False
    say(f'{prompts} prompts: {compile_report.verdict(told)}')
    return told['fits']
  prompts, most, least = config.rollout.prompts, 0, math.inf
  for _ in range(BATCHES):
    if fits(prompts):
      most = prompts
    else:
      least = prompts
    prompts = 2 * most or prompts // 2
    if prompts >= least or not prompts:
      break
  else:
    say(f'no more than {BATCHES} numbers of prompts are tried')
  if not most:
    raise ValueError(f'not even {least} prompts fit')
  return most


def candidates(config, devices, slices: int, chip: accelerators.Chip, say
               ) -> list[Candidate]:
  """Meshes that the model's sizes and a chip's memory allow, those that send
  the least first; says why others are left out.

  A part of the mesh has as many prompts in a micro-batch as the config gives
  it, or one where that is less.
  """
  before = config.mesh.to_dict(), config.rl.microbatches
  each = _each(config, sharding.make_mesh(**config.mesh, devices=devices))
  out = []
  for mesh in meshes(len(devices), slices):
    try:
      config.mesh.update(mesh)
      out.append(_candidate(config, mesh, devices, each, chip))
    except ValueError as error:
      say(f'left out {mesh}: {error}')
  config.mesh.update(before[0])
  config.rl.microbatches = before[1]
  return sorted(out, key=lambda one: one.sent)


def _each(config, mesh) -> int:
  """Prompts of a part of the mesh in a micro-batch."""
  rl = config.rl
  whole = build.parts(mesh) * rl.minibatches * rl.microbatches
  return max(config.rollout.prompts // whole, 1)


def _candidate(config, mesh, devices, each: int, chip) -> Candidate:
  """Raises ValueError where a mesh does not go with the rest."""
  laid = sharding.make_mesh(**config.mesh, devices=devices)
  prompts, rl = config.rollout.prompts, config.rl
  once = build.parts(laid) * rl.minibatches * each
  if prompts % once:
    raise ValueError(f'{prompts} prompts are not {each} or more for each of '
                     f'{build.parts(laid)} parts')
  rl.microbatches = prompts // once
  session = outline.open_session(outline.open_run(config, laid))
  compile_programs.check(session.run)
  sent = compile_counts.sent(session.run, compile_programs.sizes(session.run))
  held = compile_memory.of_arrays((
      session_lib.abstract_state(session), outline.frozen(session),
      session.weights))
  if held > chip.hbm_bytes:
    raise ValueError(f'a chip would hold {held / 1e9:.2f} GB all the time')
  return Candidate(mesh, rl.microbatches, sum(sent['update'].values())
                   + sum(sent['weigh'].values()), held)


def meshes(chips: int, slices: int = 1) -> Iterator[dict[str, int]]:
  """Ways to split chips into fsdp, sequence and tensor; data are the slices."""
  each = chips // slices
  sizes = [n for n in range(1, each + 1) if not each % n]
  for tensor, sequence in itertools.product(sizes, sizes):
    if not each % (tensor * sequence):
      yield dict(data=slices, fsdp=each // (tensor * sequence),
                 sequence=sequence, tensor=tensor)
