"""Compiles the programs of a step for a slice, and works out their figures.

Nothing is printed here, and no flag read.
"""

from collections.abc import Sequence
import dataclasses
import logging
import time
from typing import Any

import jax

from launch import compile_counts
from launch import compile_memory
from launch import compile_programs
from launch import hlo
from launch import roofline
from medrl import accelerators
from medrl import sharding
from medrl.trainers import outline

# What the attention kernels are called in a program.
_KERNELS = 'splash_mha'
# Chips with more memory, whose slices have the same shapes.
_ROOMIER = {'v5e': 'v6e'}


def of_slice(config, topology: str, slices: int = 1,
             names: Sequence[str] = (), model=None) -> dict[str, Any]:
  """Figures of the step's programs on so many slices of a topology.

  Args:
    config: of the run; it is changed.
    topology, slices: see `accelerators.devices`.
    names: of the programs to compile, by default all.
    model: sizes, or None for those that the config names.

  Returns:
    topology, slices, chips, chip_bytes, mesh, batch, `programs` by name, `fits`
    and, where all were compiled, step_seconds_estimate and measured.

  Raises:
    ValueError: the config does not fit the slice's shape, or there is none.
  """
  chip = accelerators.CHIPS[accelerators.parse(topology)[0]]
  config.mesh.slices = slices
  compile_programs.largest_alone(config)
  mesh = sharding.make_mesh(
      **config.mesh, devices=accelerators.devices(topology, slices))
  session = outline.open_session(outline.open_run(config, mesh, model))
  found, facts = programs(session, chip, slices, names)
  _name_buffers(found, config, topology, slices, model)
  of = compile_programs.sizes(session.run)
  out = {'model': config.model.checkpoint or config.model.size,
         'topology': topology, 'slices': slices, 'chips': mesh.size,
         'chip_bytes': chip.hbm_bytes, 'mesh': dict(mesh.shape),
         'batch': of._asdict(), 'programs': found,
         'fits': all(one['fits'] for one in found.values())}
  whole = ('weigh', 'sample', 'prepare', 'update')
  if set(whole) <= facts.keys():
    out['step_seconds_estimate'] = roofline.step(
        {name: facts[name] for name in whole}, dict.fromkeys(whole, 1), chip,
        config.model.compute_dtype)
    out['measured'] = roofline.measured((out['model'], topology))
  return out


def _name_buffers(found, config, topology: str, slices: int, model) -> None:
  """Tells the largest buffers of programs that the compiler refuses without
  naming any: those of the same programs where there is more memory."""
  refused = [name for name, one in found.items()
             if 'held' not in one and not one['largest'][0]['shape']]
  chip, _, shape = topology.partition(':')
  if not refused or chip not in _ROOMIER:
    return
  logging.info('%s: compiling for %s, to name their buffers',
               ', '.join(refused), _ROOMIER[chip])
  there = of_slice(config, f'{_ROOMIER[chip]}:{shape}', slices, refused, model)
  for name, one in there['programs'].items():
    if 'held' in one:   # else it is refused there too
      found[name]['largest'] = one['largest']


def programs(session, chip: accelerators.Chip, slices: int = 1,
             names: Sequence[str] = (), large: int = hlo.LARGE):
  """Compiles programs of a session and tells what each does and holds.

  Args:
    session: in outline.
    chip: what the devices of its mesh are.
    slices: that they form.
    names: by default, all.
    large: bytes from which an array that chips hold the same of is told.

  Returns:
    name -> figures, and name -> `hlo.Facts` of those that the compiler made.
  """
  run, made = session.run, compile_programs.programs(session)
  of = compile_programs.sizes(run)
  counted = compile_counts.flops(run, of)
  floor = compile_counts.sent(run, of)
  kernels = compile_counts.attention(run, of)
  out, facts = {}, {}
  for name in names or made:
    logging.info('compiling %s for %s', name, dict(run.mesh.shape))
    program, began = made[name], time.monotonic()
    compiled, held = _compiled(program)
    held['compile_seconds'] = time.monotonic() - began
    held['held_beside'] = compile_memory.of_arrays(program.beside)
    held['fits'] = compiled is not None and (
        held['bytes_per_chip'] + held['held_beside'] <= chip.hbm_bytes)
    held['flops_counted'] = counted[name] / run.mesh.size
    held['collective_floor'] = floor[name]
    if compiled is not None:
      facts[name] = hlo.analyse(compile_memory.text(compiled), run.mesh.size,
                                turns(of), slices, large)
      if name in kernels and any(one.startswith(_KERNELS)
                                 for one in facts[name].custom):
        facts[name] = _with_kernels(facts[name], run, kernels[name])
      held |= _work(facts[name], run, chip, program)
    out[name] = held
  return out, facts


def _compiled(program: compile_programs.Program):
  """The executable, or None, and what it holds on a chip.

  Raises:
    jax.errors.JaxRuntimeError: the compiler fails by another reason than a
      chip's memory.
  """
  try:
    compiled = program.compile()
  except jax.errors.JaxRuntimeError as error:
    held = compile_memory.refusal(str(error))
    if held is None:
      raise
    return None, held
  held = compile_memory.held(compiled)
  return compiled, {'bytes_per_chip': sum(held.values()), 'held': held}


def turns(of: compile_programs.Sizes) -> dict[str, float]:
  """Of the sampler's loops, by their path: where no completion ends early, and
  of the inner one the share of a chunk that is encoded in a turn."""
  calls = of.calls
  return {'while': calls['decode'],
          'while/body/while': calls['prefill'] / calls['decode']}


def _with_kernels(facts: hlo.Facts, run, flops: float) -> hlo.Facts:
  """With what attention kernels do, by the model's count over all chips: the
  text does not tell it."""
  each = round(flops / run.mesh.size)
  kernel = hlo.Kernel('attention kernels', flops=each, bytes=0.,
                      products=((run.model.text.head_dim, each),))
  return dataclasses.replace(facts, flops=facts.flops + each,
                             kernels=[*facts.kernels, kernel])


def _work(facts: hlo.Facts, run, chip, program) -> dict[str, Any]:
  spent = roofline.seconds(facts, chip, run.config.model.compute_dtype)
  return {
      'flops': facts.flops, 'memory_traffic': facts.bytes,
      'collective_bytes': facts.collectives, 'across_slices': facts.across,
      'seconds_estimate': spent['total'], 'seconds': spent,
      'unknown_loops': facts.unknown,
      'largest': list(map(compile_memory.as_dict, facts.largest)),
      'replicated': list(map(compile_memory.as_dict, compile_memory.replicated(
          run, facts.replicated, program.sampling)))}
