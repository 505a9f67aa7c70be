"""Who sees whom in a row that holds a prompt and all its completions.

A group row is [prompt, S slots | completion 1, T slots | ... | completion G],
L = S + G * T. A slot of the prompt sees the prompt up to itself; a slot of a
completion sees the whole prompt and its own completion up to itself, and none
of its siblings (`groups` is the static (S, T, G)). Without `groups` a row is
plainly causal; or its slots have no order, as patches, and each sees all. On
top of that, slots see those of the same id alone: pads have the id 0 and real
tokens 1, or in packed rows their segment, as patches have their image. So no
pad is seen by a real token, and every slot sees at least itself.

The rule is index arithmetic and stands here once: `PlainRows` applies it to
whole rows or to blocks of queries, `splash.RowMask` block by block. No kernel
is here, and nothing that runs on an accelerator alone.
"""

import dataclasses

import jax
import jax.numpy as jnp

from medrl import sharding
from medrl.models import attention
from medrl.models import row_parts

Groups = tuple[int, int, int]


def sees(query, key, groups: Groups | None = None, ordered: bool = True):
  """Whether slots of a row may see others, by their places alone.

  Args:
    query, key: integers or integer arrays (NumPy or jax) that broadcast.
    groups: None, or (S, T, G); G = 0 is a prompt alone, which is causal.
    ordered: False where every slot may see every other one.

  Returns:
    bool of the broadcast shape.
  """
  causal = key <= query
  if not ordered:
    return causal | True
  if groups is None or not groups[2]:
    return causal
  prompt, length, _ = groups
  same = (query - prompt) // length == (key - prompt) // length
  return causal & ((key < prompt) | same)


def ids(mask, segments=None):
  """int32 [P, L]: slots of one id see each other; 0 is a pad.

  Args:
    mask: bool [P, L], False on pads.
    segments: None (real tokens are 1), or int32 [P, L], from 1.
  """
  mask = mask.astype('int32')
  return mask if segments is None else segments.astype('int32') * mask


def dense(slots, own, keys, groups: Groups | None = None,
          ordered: bool = True):
  """bool [P, T, L]: what queries see of a row, as an array.

  Args:
    slots: int32 [T], places of the queries in the row.
    own: int32 [P, T], their `ids`.
    keys: int32 [P, L], the `ids` of the row.
    groups, ordered: see `sees`.
  """
  places = jnp.arange(keys.shape[1])
  return sees(slots[:, None], places, groups, ordered) & (
      own[:, :, None] == keys[:, None, :])


def check(length: int, groups: Groups | None):
  """Raises ValueError where a row of `length` slots is no such group row."""
  if groups is None:
    return
  prompt, each, group = groups
  if min(groups) < 0 or group and not each or prompt + each * group != length:
    raise ValueError(
        f'a row of {length} slots is not a prompt of {prompt} slots with '
        f'{group} completions of {each}; give groups (S, T, G) with '
        f'S + T * G = {length} and T > 0, or None for a causal row')


@dataclasses.dataclass(frozen=True)
class PlainRows:
  """`splash.Rows` in plain XLA, on any device.

  Scores are [P, H, L, L] at once; or, with a `block`, those of as many queries
  of a row, computed again for the gradient. Where a mesh has a `sequence`,
  each device has the queries of its part.
  """
  block: int = 0
  mesh: jax.sharding.Mesh | None = None

  def __call__(self, queries, keys, values, mask, groups=None, segments=None,
               ordered=True):
    """As `splash.attend_rows`, without its bounds on sizes."""
    check(mask.shape[1], groups)
    own = ids(mask, segments)

    def local(queries, keys, values, own, all_ids, begin):
      slots = begin + jnp.arange(own.shape[1])
      def some(part):
        queries, own, slots = part
        allowed = dense(slots, own, all_ids, groups, ordered)[:, None]
        return attention.attend(queries[:, None], [attention.Segment(
            keys[:, None], values[:, None], allowed)])[:, 0]
      return _by_blocks(some, self.block, queries, own, slots)

    if sharding.Rows(self.mesh).parts == 1:
      return local(queries, keys, values, own, own, 0)
    return row_parts.over(self.mesh, local, queries, keys, values, own)


def _by_blocks(some, block: int, queries, own, slots):
  """`some` of as many queries [P, L, H, d], ids [P, L] and places [L] at a time
  as the largest divisor of L that is no larger than `block`; 0 is all."""
  length = len(slots)
  if not 0 < block < length:
    return some((queries, own, slots))
  size = max(n for n in range(1, block + 1) if not length % n)
  def cut(x, axis):
    lead, rest = x.shape[:axis], x.shape[axis + 1:]
    return jnp.moveaxis(x.reshape(*lead, -1, size, *rest), axis, 0)
  out = jax.lax.map(jax.checkpoint(some),
                    (cut(queries, 1), cut(own, 1), cut(slots, 0)))
  return jnp.moveaxis(out, 0, 1).reshape(queries.shape)
