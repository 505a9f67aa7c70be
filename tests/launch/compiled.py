"""Programs over devices that are not there, and what is counted in their text.

For processes of their own, see `tests.elsewhere`; what must come out is in
test_hlo.
"""

import json

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from launch import hlo
from medrl import sharding
from tests import elsewhere
from tests.trainers import hlo as small

ROWS, INNER, COLUMNS = 24, 64, 40   # 40 columns in parts of 10, 24 rows of 6


def mesh():
  return jax.make_mesh((2, 4), ('a', 'b'),
                       axis_types=2 * (jax.sharding.AxisType.Auto,))


def laid(*shape, over=P()):
  return jax.ShapeDtypeStruct(shape, jnp.float32,
                              sharding=NamedSharding(mesh(), over))


def facts(function, *arguments, out=P(), **more) -> hlo.Facts:
  """Of a function compiled for abstract arguments with shardings."""
  made = jax.jit(function, out_shardings=NamedSharding(mesh(), out)).lower(
      *arguments).compile()
  return hlo.analyse(made.as_text(), 8, **more)


def exchanges():
  """Name -> a function that a device runs on its part of [8, 16] floats, whose
  rows are split over 'a' and 'b'."""
  return {
      'all-gather': lambda x: jax.lax.all_gather(x, 'b', tiled=True),
      'all-reduce': lambda x: jax.lax.psum(x, 'b'),
      'reduce-scatter': lambda x: jax.lax.psum_scatter(
          x, 'b', scatter_dimension=1, tiled=True),
      'all-to-all': lambda x: jax.lax.all_to_all(x, 'b', 1, 0, tiled=True),
      'collective-permute': lambda x: jax.lax.ppermute(
          x, 'b', [(i, (i + 1) % 4) for i in range(4)])}


def exchanged(name: str, slices: int = 1) -> hlo.Facts:
  function = jax.shard_map(exchanges()[name], mesh=mesh(),
                           in_specs=P(('a', 'b')), out_specs=P(('a', 'b')),
                           check_vma=False)
  return hlo.analyse(jax.jit(function).lower(
      laid(8, 16, over=P(('a', 'b')))).compile().as_text(), 8, slices=slices)


def layers(x, weights):
  """Whose weights are gathered, as with fsdp, in a loop."""
  def layer(x, w):
    w = jax.lax.with_sharding_constraint(w, NamedSharding(mesh(), P()))
    return jnp.tanh(x @ w), None
  return jax.lax.scan(layer, x, weights)[0]


def print_all():
  """What is counted in all of them, as JSON."""
  over_inner = (laid(ROWS, INNER, over=P(None, 'b')),
                laid(INNER, COLUMNS, over=P('b')))
  out = {name: exchanged(name).collectives for name in exchanges()}
  crossing = exchanged('all-reduce', slices=4)
  out['across'] = [crossing.across, crossing.collectives]
  found = facts(jnp.dot, *over_inner)
  out['inner'] = [found.flops, found.collectives]
  found = facts(layers, laid(ROWS, INNER, over=P('a')),
                laid(5, INNER, INNER, over=P(None, 'b')), out=P('a'))
  out['layers'] = [found.flops, found.collectives]
  for name, over in (('whole', P()), ('rows', P('a')), ('all', P('a', 'b'))):
    found = facts(lambda x: jnp.sin(jnp.cumsum(x, 0)) @ x,
                  laid(64, 64, over=over), out=over, large=64 * 64 * 4 // 8)
    out[name] = [(b.shape, b.op, b.name, b.copies) for b in found.replicated]
  print(json.dumps(out))


def print_step(platform: str):
  """Of the programs of a small GRPO step: for eight fake devices, or for a
  slice of sixteen TPUs that is not here."""
  devices, sizes, dtype = None, (2, 2, 2), 'float32'
  if platform == 'tpu':
    devices, sizes, dtype = elsewhere.topology('v5e:4x4'), (4, 2, 2), 'bfloat16'
  laid = sharding.make_mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2],
                            devices=devices)
  opened = small.session(laid, dtype)
  family, model = opened.run.family, opened.run.model
  prompts = opened.run.config.rollout.prompts
  one = prompts * family.flops(model, small.PROMPT, small.LENGTH, small.PATCHES,
                               small.GROUP)
  # Slots are never idle but at the end; a chunk is a prompt of each part.
  iterations = small.PROMPTS * small.GROUP * small.LENGTH / small.SLOTS
  trips = {'while': iterations, 'while/body/while': small.PROMPTS / iterations}
  out = {}
  for name, program in small.compiled(opened).items():
    found = hlo.analyse(program.as_text(), laid.size, trips,
                        large=32 * 2 ** 10)
    out[name] = {'over_model': found.flops * laid.size / one,
                 'collectives': found.collectives, 'unknown': found.unknown,
                 'custom': found.custom,
                 'same': [(b.copies, b.shape, b.name)
                          for b in found.replicated if b.copies > sizes[2]]}
  print(json.dumps(out))
