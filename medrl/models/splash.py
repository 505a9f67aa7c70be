"""Splash attention over rows, causal or of a prompt and its completions (TPU).

The kernel is jax's own. Here are its mask, which is that of `group_mask` and
never dense, and its block sizes; `row_parts` lays rows, heads and queries over
a mesh. What a slot may see is not decided here; decoding against a cache is not
done here.
"""

import dataclasses
import functools
import math

import jax
from jax.experimental.pallas.ops.tpu import splash_attention
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from medrl import sharding
from medrl.models import group_mask
from medrl.models import row_parts

LANES = 128   # a block's sides, and the width of a head, are multiples of it
# What the gradient needs of the forward kernel bears this name: a remat policy
# that saves it does not run the kernel twice.
SAVED = 'attention'


@dataclasses.dataclass(frozen=True)
class RowMask(splash_attention.Mask):
  """The mask of a row of `length` slots, computed block by block when asked.

  Equal masks have equal hashes, by which the kernel's tables are cached.
  """
  length: int
  groups: group_mask.Groups | None = None

  @property
  def shape(self) -> tuple[int, int]:
    return self.length, self.length

  def __getitem__(self, idx) -> np.ndarray:
    slots = np.arange(self.length, dtype=np.int32)
    query, key = (slots[part] for part in idx)
    prompt = self.groups[0] if self.groups else self.length
    # Of a long prompt's blocks, thousands, nearly half are such.
    if key[-1] <= query[0] and key[-1] < prompt:
      return np.ones((len(query), len(key)), bool)
    return group_mask.sees(query[:, None], key, self.groups)


def block_size(length: int, groups: group_mask.Groups | None, most: int,
               parts: int = 1) -> int:
  """The largest block of at most `most` slots that divides what a row holds.

  Blocks end where the prompt and the completions end, so a block is seen
  wholly, not at all, or is one of the diagonal; and where one of the `parts`
  ends that a row's queries are split into.

  Raises:
    ValueError: L, S or T is no multiple of 128, or `most` is below it.
  """
  sizes = (length, *(groups[:2] if groups else ()))
  if most < LANES or any(size % LANES for size in sizes) or (
      length % (parts * LANES)):
    raise ValueError(
        f'splash attention takes blocks of at least {LANES} slots: got a row '
        f'of {length} in {parts} parts, groups {groups} and blocks of at most '
        f'{most}; declare prompt and completion lengths and patches in '
        f'multiples of {LANES} (512 is fast), rows in that times the parts, or '
        f'choose blocked attention')
  whole = math.gcd(*sizes, length // parts)
  return max(block for block in range(LANES, most + 1, LANES)
             if whole % block == 0)


@functools.lru_cache(maxsize=64)
def _kernel(mask: splash_attention.Mask, heads: int, block: int, parts: int,
            interpret: bool):
  """The kernel of one bucket; its tables take seconds where rows are long."""
  masks = splash_attention.MultiHeadMask([mask] * heads)
  sizes = splash_attention.BlockSizes(
      block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block,
      block_q_dq=block, block_kv_dq=block)
  # The tables outlive the trace that asks for them first, and a program that
  # runs under a transfer guard may be it; they end as constants of programs.
  with jax.ensure_compile_time_eval(), jax.transfer_guard('allow'):
    made = splash_attention.make_splash_mha(
        masks, block_sizes=sizes, head_shards=1, q_seq_shards=parts,
        residual_checkpoint_name=SAVED, interpret=interpret)
    return jax.tree.map(np.asarray, made)


def attend_rows(queries, keys, values, mask, groups=None, segments=None,
                ordered=True, *, mesh, block: int = 512,
                interpret: bool = False):
  """Softmax attention within rows, scaled by d ** -0.5 (FlashAttention, Dao
  2023; blocks that nothing sees are skipped).

  Args:
    queries: [P, L, H, d].
    keys, values: [P, L, K, d]; H is a multiple of K.
    mask: bool [P, L], False on pads: at the right of the prompt's S slots and
      of each completion's T.
    groups: None (causal), or the static (S, T, G); see `group_mask`.
    segments: None, or int32 [P, L], from 1: packed rows.
    ordered: False where slots have no order: patches.
    mesh: a mesh of `sharding.make_mesh`; see `row_parts`.
    block: slots of a block at most.
    interpret: run without a TPU, slowly; for tests.

  Returns:
    [P, L, H, d] in the dtype of the queries; softmax in float32. What a pad
    gets is finite and of pads alone.

  Raises:
    ValueError: sizes that the kernel does not take, or rows that do not divide
      over the mesh.
  """
  length, heads, width = queries.shape[1:]
  group_mask.check(length, groups)
  axis, _ = row_parts.heads_over(mesh, heads, keys.shape[2])
  parts = mesh.shape[sharding.LONG]
  seen = RowMask(length, groups)
  block = block_size(length, groups, block, parts)
  if not ordered:   # the queries of one part see what those of another do
    seen, parts = splash_attention.FullMask((length // parts, length)), 1
  kernel = _kernel(seen, heads // mesh.shape[axis] if axis else heads, block,
                   parts, interpret)
  tables, tables_over = (), ()
  if parts > 1:   # each device has the tables of its queries
    tables = (kernel,)
    tables_over = (kernel.manual_sharding_spec(
        NamedSharding(mesh, PartitionSpec(None, sharding.LONG))),)

  def local(queries, keys, values, own, all_ids, begin, kernel=kernel):
    del begin   # the tables know
    pad = ((0, 0), (0, 0), (0, 0), (0, -width % LANES))
    blocks = [jnp.swapaxes(jnp.pad(x, pad), 1, 2)
              for x in (queries * width ** -0.5, keys, values)]
    out = jax.vmap(lambda q, k, v, i, j: kernel(
        q, k, v, segment_ids=splash_attention.SegmentIds(i, j)))(
            *blocks, own, all_ids)
    return jnp.swapaxes(out, 1, 2)[..., :width]

  return row_parts.over(mesh, local, queries, keys, values,
                        group_mask.ids(mask, segments), tables, tables_over)


@dataclasses.dataclass(frozen=True)
class Rows:
  """`attend_rows` with its mesh and blocks bound: a hashable, static value."""
  mesh: jax.sharding.Mesh
  block: int = 512
  interpret: bool = False

  def __call__(self, queries, keys, values, mask, groups=None, segments=None,
               ordered=True):
    return attend_rows(queries, keys, values, mask, groups, segments, ordered,
                       mesh=self.mesh, block=self.block,
                       interpret=self.interpret)
