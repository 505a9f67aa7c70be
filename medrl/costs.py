"""What a run holds in memory and works, before it starts. Nothing is measured.
"""

import math

from flax import traverse_util
import jax
import jax.numpy as jnp

from medrl import build
from medrl import params as params_lib
from medrl import sharding


def memory(run: build.Run) -> dict[str, int]:
  """Bytes that each device is expected to hold all the time, by what it is.

  Activations are not counted: what a program needs is said when it is
  compiled. What `model.offload` names lies in the host's memory.
  """
  config = run.config
  frozen = tuple(f'{path}/' for path in config.model.freeze)

  def held(rules, size):
    laid = traverse_util.flatten_dict(
        sharding.of_specs(run.mesh, run.specs, rules), sep='/')
    specs = traverse_util.flatten_dict(run.specs, sep='/')
    return sum(math.prod(laid[path].shard_shape(spec.shape)) * size(f'{path}/')
               for path, spec in specs.items())

  dtype, away = run.dtype.itemsize, config.model.offload
  kept = jnp.dtype(config.model.reference_dtype).itemsize
  moment = jnp.dtype(config.rl.optim.moment_dtype).itemsize
  text, r, mesh = run.model.text, config.rollout, run.mesh.shape
  # Master, gradient and the sum of the micro-batches' in float32; two moments.
  each = 8 + 4 * (config.rl.microbatches > 1) + 2 * moment * (
      'moments' not in away)
  state = held(config.sharding,
               lambda p: dtype if p.startswith(frozen) else each)
  slots = r.slots or r.prompts * r.group
  prompt = max(map(tuple, config.data.buckets))[0] // mesh[sharding.LONG]
  tokens = ((r.resident or r.prompts) * prompt
            + slots * r.length) // build.parts(run.mesh)
  stored = {'int8': 1 + 4 / text.head_dim}.get(
      r.kv, jnp.dtype(r.kv if r.kv not in ('', 'int8') else run.dtype).itemsize)
  heads = text.kv_heads // (
      mesh['tensor'] if config.sharding.kv_heads == 'tensor' else 1)
  return {
      'state': state,
      'reference': held(config.sharding, lambda p: kept) * (
          bool(config.rl.kl_weight) and 'reference' not in away),
      'sampling weights': held(build.sampling_rules(config), lambda p: dtype),
      'keys and values': int(2 * text.layers * heads * text.head_dim * stored
                             * tokens)}


def describe(run: build.Run) -> str:
  """The start line: parameters, work, memory, devices, mesh."""
  bucket = max(map(tuple, run.config.data.buckets))
  r = run.config.rollout
  work = run.family.flops(run.model, bucket[0], r.length, bucket[1], r.group)
  tokens = bucket[0] + r.group * r.length
  held = {what: size for what, size in memory(run).items() if size}
  parts = ', '.join(f'{what} {size / 2**20:,.1f}'
                    for what, size in held.items())
  return (f'{params_lib.count(run.specs):,} parameters; '
          f'{work / tokens / 1e6:,.1f} MFLOP a token forward in the largest '
          f'bucket {bucket}; {sum(held.values()) / 2**20:,.1f} MiB a device '
          f'expected without activations ({parts}); {jax.device_count()} x '
          f'{jax.devices()[0].device_kind} over {jax.process_count()} '
          f'processes, mesh {dict(run.mesh.shape)}')
