"""A step's seconds by the roofline of the very programs that ran.

Sampling, preparing (the reference scores there), the update and the weights to
sample with, at rates that `bench_ceilings` measured in the same run. What the
host does between programs is not in it. Nothing is timed here.
"""

import math

import jax

from launch import hlo
from launch import roofline
from medrl import accelerators
from medrl.trainers import state as state_lib


def programs(bench, iterations: int) -> dict[str, hlo.Facts]:
  """What each program of a step does: sample, prepare, update, weigh.

  Args:
    bench: behind a step, a `bench_parts.Bench`.
    iterations: of the decode loop, which the compiler cannot know.
  """
  scored, _, key = bench.last
  session, state, made = bench.session, bench.state, bench.programs
  weights = state_lib.merge(state.trained, state.frozen)
  found = {'sample': made['sample'][scored.bucket],
           'prepare': made['prepare'][key], 'update': made['update'][key],
           'weigh': session.weigh.lower(weights).compile()}
  trips = turns(session.run.config.rollout, iterations)
  return {name: hlo.analyse(program.as_text(), session.run.mesh.size, trips)
          for name, program in found.items()}


def turns(rollout, iterations: int) -> dict[str, float]:
  """Turns of the sampler's loops by their path: of the outer one, and how many
  chunks of prompts are encoded within one such."""
  chunk = min(rollout.chunk or rollout.prompts,
              rollout.resident or rollout.prompts)
  encoded = math.ceil(rollout.prompts / chunk)
  return {'while': iterations, 'while/body/while': encoded / iterations}


def chip(ceilings) -> accelerators.Chip:
  """This machine, as one that is alone: what was measured, and no network."""
  return accelerators.Chip('here', 0, ceilings['matrix_flops'],
                           ceilings['copy_bytes'], math.inf, math.inf)


def estimate(facts, ceilings, curves: roofline.Curves, spent) -> dict:
  """Seconds by the model, beside the measured ones.

  Args:
    facts: from `programs`.
    ceilings, curves: of the same run.
    spent: measured seconds of a step: `whole`, and by part of the loop.

  Returns:
    estimate_s, estimate_over_step (its ratio to the measured step), and
    `estimate`: `programs`, name -> seconds (see `roofline.seconds`), FLOPs and
    bytes; `turns` that were taken of loops; and the rates by size.
  """
  here = chip(ceilings)
  whole = roofline.step(facts, dict.fromkeys(facts, 1), here, curves=curves)
  programs = {name: roofline.seconds(one, here, curves=curves) | {
      'flops': one.flops, 'bytes': one.bytes} for name, one in facts.items()}
  return {
      'estimate_s': whole, 'estimate_over_step': whole / spent['whole'],
      'estimate': {'programs': programs, 'turns': facts['sample'].unknown,
                   'product_flops': curves.products,
                   'move_bytes': curves.moves}}


def run(result, command: str, date: str) -> dict:
  """A benchmark's result as `roofline.record` keeps it."""
  return {'key': [result['preset'], jax.default_backend()],
          'step_s': round(result['whole_step_s'], 4), 'command': command,
          'date': date, 'device': result['device']}


def text(result) -> list[str]:
  """Lines for people."""
  parts = ', '.join(
      f'{name} {one["total"]:.3f} ({one["flops"] / 1e9:,.1f} GFLOP, '
      f'{one["bytes"] / 1e9:,.1f} GB)'
      for name, one in result['estimate']['programs'].items())
  return [f'estimate: {result["estimate_s"]:.3f} s, '
          f'{result["estimate_over_step"]:.2f} of the measured step; {parts}']
