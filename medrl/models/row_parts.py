"""How whole rows of attention lie on a mesh: rows, heads and parts of queries.

Rows go over data and fsdp, heads over tensor, and a row's queries over
sequence, whose devices each gather the row's keys and values once a layer (the
context parallelism of Grattafiori et al. 2024, Llama 3, section 3.3.2); their
gradients are summed and scattered back. What attends is an argument.
"""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from medrl import sharding

TENSOR = sharding.AXES[-1]


def heads_over(mesh, heads: int, kv_heads: int) -> tuple[str | None, int]:
  """Mesh axis of the heads, and how often key heads repeat to divide over it.

  Where query heads do not divide, all of them run on each device.
  """
  over = mesh.shape[TENSOR]
  copies = over // math.gcd(kv_heads, over)
  if heads % over or heads % (kv_heads * copies):
    return None, 1
  return TENSOR, copies


def over(mesh, local: Callable, queries, keys, values, own, tables=(),
         tables_over=()):
  """Attention of each device's queries.

  Args:
    mesh: of `sharding.make_mesh`.
    local: `(queries, keys, values, own, all_ids, begin, *tables)`: its queries
      [P, T, H, d] with their ids [P, T], the first of which has the place
      `begin` in the row, and the whole row's keys and values [P, L, K, d] and
      ids [P, L] -> [P, T, H, d].
    queries: [P, L, H, d].
    keys, values: [P, L, K, d].
    own: int32 [P, L], ids.
    tables, tables_over: further arguments, and their PartitionSpecs.

  Returns:
    [P, L, H, d].

  Raises:
    ValueError: rows or their slots do not divide over the mesh.
  """
  parts = mesh.shape[sharding.LONG]
  peers = math.prod(mesh.shape[axis] for axis in sharding.BATCH_AXES)
  if queries.shape[0] % peers:
    raise ValueError(
        f'{queries.shape[0]} rows do not divide over {peers} devices of the '
        f'mesh axes {sharding.BATCH_AXES}; batch prompts in a multiple of '
        f'{peers}')
  if queries.shape[1] % parts:
    raise ValueError(
        f'rows of {queries.shape[1]} slots do not divide over mesh axis '
        f'{sharding.LONG!r} of size {parts}; declare lengths in multiples of '
        f'it')
  heads, copies = heads_over(mesh, queries.shape[2], keys.shape[2])
  if copies > 1:
    keys, values = (jnp.repeat(x, copies, axis=2) for x in (keys, values))
  long = sharding.LONG if parts > 1 else None

  def gathered(queries, keys, values, own, all_ids, *tables):
    begin = 0
    if long is not None:
      # One array, so that one message.
      both = jax.lax.all_gather(jnp.concatenate([keys, values], axis=2), long,
                                axis=1, tiled=True)
      keys, values = jnp.split(both, 2, axis=2)
      begin = jax.lax.axis_index(long) * queries.shape[1]
    return local(queries, keys, values, own, all_ids, begin, *tables)

  by_head = PartitionSpec(sharding.BATCH_AXES, long, heads)
  rows = PartitionSpec(sharding.BATCH_AXES)
  part = PartitionSpec(sharding.BATCH_AXES, long)
  return jax.shard_map(
      gathered, mesh=mesh, check_vma=False, out_specs=by_head,
      in_specs=(by_head, by_head, by_head, part, rows, *tables_over))(
          queries, keys, values, own, own, *tables)
