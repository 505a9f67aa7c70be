"""Who sees whom in a row that holds a prompt and all its completions.

A group row is [prompt, S slots | completion 1, T slots | ... | completion G],
L = S + G * T. A slot of the prompt sees the prompt up to itself; a slot of a
completion sees the whole prompt and its own completion up to itself, and none
of its siblings (`groups` is the static (S, T, G)). Without `groups` a row is
plainly causal. On top of that, slots see those of the same id alone: pads have
the id 0 and real tokens 1, or in packed rows their segment. So no pad is seen
by a real token, and every slot sees at least itself.

The rule is index arithmetic and stands here once: `dense` and `PlainRows` apply
it to whole rows, `splash.RowMask` block by block. No kernel is here, and
nothing that runs on an accelerator alone.
"""

import dataclasses

import jax.numpy as jnp

from medrl.models import attention

Groups = tuple[int, int, int]


def sees(query, key, groups: Groups | None = None):
  """Whether slots of a row may see others, by their places alone.

  Args:
    query, key: integers or integer arrays (NumPy or jax) that broadcast.
    groups: None, or (S, T, G); G = 0 is a prompt alone, which is causal.

  Returns:
    bool of the broadcast shape.
  """
  causal = key <= query
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


def dense(mask, groups: Groups | None = None, segments=None):
  """bool [P, L, L]: who sees whom (queries by keys), as an array.

  Raises:
    ValueError: see `check`.
  """
  check(mask.shape[1], groups)
  slots = jnp.arange(mask.shape[1])
  own = ids(mask, segments)
  return sees(slots[:, None], slots, groups) & (
      own[:, :, None] == own[:, None, :])


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
  """`splash.Rows` in plain XLA, on any device: [P, H, L, L] scores at once."""

  def __call__(self, queries, keys, values, mask, groups=None, segments=None):
    """As `splash.attend_rows`, without its bounds on sizes."""
    allowed = dense(mask, groups, segments)[:, None]
    segment = attention.Segment(keys[:, None], values[:, None], allowed)
    return attention.attend(queries[:, None], [segment])[:, 0]
