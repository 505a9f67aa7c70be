"""What devices exchange in an HLO module: among whom, and how many bytes.

Rings of the devices of a group. How long that takes is in `roofline`.
"""

import math
import re
from typing import NamedTuple

import numpy as np

from launch import hlo_text

KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all',
         'collective-permute')
_MESH = re.compile(r"mesh\[([^\]]*)\](?:, device_ids=\((.*?)\))? "
                   r"\{([^}]*)\}")
_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")
_IOTA = re.compile(r'\[([\d,]+)\](?:<=\[([\d,]+)\])?(?:T\(([\d,]+)\))?')


class Collective(NamedTuple):
  """Of a kind; the instruction itself; and whether something runs beside it."""
  kind: str
  one: hlo_text.Instruction
  size: int   # bytes of what goes in
  hidden: bool

  @property
  def channel(self) -> str:
    return hlo_text.attribute(self.one, 'channel_id')


def find(module: hlo_text.Module, within: str,
         one: hlo_text.Instruction) -> Collective | None:
  """The collective that an instruction is, or holds; None without one.

  An all-reduce of which a fusion keeps its own share alone is a reduce-scatter.
  """
  scope, hidden, kept = module.computations[within], False, ''
  if one.op == 'fusion':
    scope = module.computations[hlo_text.called(one)['calls'][0]]
    inner = [i for i in scope.instructions.values() if i.op in KINDS]
    hidden = any(i.op == 'custom-call' and
                 hlo_text.target(i) == 'AsyncCollectiveStart'
                 for i in scope.instructions.values())
    kept = scope.instructions[scope.root].op
    if not inner:
      return None
    one = inner[0]
  kind = one.op.removesuffix('-start')
  if kind not in KINDS:
    return None
  size = sum(array.bytes for name in one.operands
             for array in hlo_text.leaves(scope.instructions[name].type))
  if kind == 'all-reduce' and kept == 'dynamic-slice':
    kind = 'reduce-scatter'
  return Collective(kind, one, size, hidden or one.op.endswith('-start'))


def sends(kind: str, size: float, groups, devices: int, slices: int = 1
          ) -> tuple[float, float]:
  """Bytes that a chip sends within its slice, and to other slices.

  Rings, as in Thakur et al. 2005 (Optimization of collective communication
  operations in MPICH): of n chips and an operand of B bytes, all-gather sends
  (n-1) B, reduce-scatter and all-to-all (n-1)/n B, all-reduce twice that, a
  permutation B for each pair. Over s slices with m chips each, between slices
  goes what the chips of one do not have among them: each has 1/m of it.

  Args:
    kind: one of `KINDS`.
    size: B, bytes of the operand on a chip.
    groups: from `hlo_text.groups`; of unlike size, they count by their mean.
    devices, slices: as of `analyse`.
  """
  each = devices // slices
  inside = across = 0.
  if kind == 'collective-permute':
    for source, target in groups:
      inside += size * (source != target and source // each == target // each)
      across += size * (source // each != target // each)
    return inside / devices, across / devices
  for group in groups:
    n = len(group)
    s = len({device // each for device in group})
    m = n / s
    if kind == 'all-gather':
      one, other = (m - 1) * s, s - 1
    elif kind == 'all-to-all':
      one, other = (m - 1) / n, (n - m) / n
    else:
      one, other = (m - 1) / m, (s - 1) / s / m
    twice = 2 if kind == 'all-reduce' else 1
    inside += twice * one * size * n
    across += twice * other * size * n
  return inside / devices, across / devices


def groups(one: hlo_text.Instruction, devices: int) -> list[tuple[int, ...]]:
  """The devices among which a collective exchanges; of a collective-permute
  its (source, target) pairs.

  Lists `{{0,1},{2,3}}`, iota tiles `[2,2]<=[4]T(..)` and named meshes are read.

  Raises:
    ValueError: the text names them in another way.
  """
  found = re.search(r'\b(?:replica_groups|source_target_pairs)=(.*)', one.rest)
  text = found[1] if found else '{}'
  if text.startswith('mesh'):
    return _by_axes(text)
  if text.startswith('['):
    return [tuple(row) for row in iota(text).tolist()]
  listed = re.match(r'\{(?:\{[\d,]+\},? ?)*\}', text)
  if not listed:
    raise ValueError(f'replica_groups {text[:80]!r} are written in a way that '
                     f'is not known here')
  return [tuple(map(int, row.split(',')))
          for row in re.findall(r'[\d,]+(?=\})', listed[0])] or [
              tuple(range(devices))]


def iota(text: str) -> np.ndarray:
  """`[tiles]<=[dims]T(order)`, or `[dims]T(order)`: numbers 0.. laid out so.
  """
  tiles, dims, order = (part and list(map(int, part.split(',')))
                        for part in _IOTA.match(text).groups())
  out = np.arange(math.prod(tiles)).reshape(dims or tiles)
  out = out.transpose(order or range(out.ndim))
  return out.reshape(tiles) if dims else out


def _by_axes(text: str) -> list[tuple[int, ...]]:
  """Groups over named axes of a mesh, or over parts `'a':(before)size`."""
  axes, order, over = _MESH.match(text).groups()
  sizes = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", axes)}
  dims, where = [], {}
  cuts = {name: (int(before), int(part)) for name, before, part in
          _AXIS.findall(over) if before}
  for name, whole in sizes.items():
    before, part = cuts.get(name, (1, whole))
    where[name] = len(dims) + 1
    dims += [before, part, whole // before // part]
  chosen = [where[name] for name, *_ in _AXIS.findall(over)]
  held = np.arange(math.prod(dims))
  if order:
    held = iota(order) if order.startswith('[') else np.array(
        list(map(int, order.split(','))))
  rest = [i for i in range(len(dims)) if i not in chosen]
  held = held.reshape(dims).transpose(*rest, *chosen)
  return [tuple(row) for row in held.reshape(
      -1, math.prod(dims[i] for i in chosen)).tolist()]
