"""The arrays that an HLO module has memory for, and which devices repeat them.

Not here: when each is needed. What a program holds at once is told by
`compiled.memory_analysis()`.
"""

import collections
from collections.abc import Iterator
import math
from typing import NamedTuple

from launch import hlo_copies
from launch import hlo_text
from launch import hlo_work


class Buffer(NamedTuple):
  """An array that a program makes or is given: bytes and dimensions on a
  device, and on how many devices it is the same (1: on none but itself)."""
  bytes: int
  shape: tuple[int, ...]
  op: str
  name: str
  copies: float


def buffers(module: hlo_text.Module, devices: int) -> Iterator[Buffer]:
  """Arrays that have memory of their own: arguments, and what runs gives; not
  what is written in place, or what a loop hands on.

  Where another instruction, or a loop, writes on in a buffer, devices have the
  same in it if they have before and behind that.
  """
  copies = hlo_copies.copies(module, devices)
  for within in _running(module):
    computation = module.computations[within]
    later = _later(module, within, copies)
    for name, one in computation.instructions.items():
      argument = one.op == 'parameter' and within == module.entry
      if not argument and not _made(module, within, name):
        continue
      same = copies[within][name]
      for behind in later[name]:
        same = [min(*both) for both in zip(same, behind)]
      for array, count in zip(hlo_text.leaves(one.type), same):
        yield Buffer(array.bytes, array.dims, one.op, hlo_text.path(one), count)


def _made(module: hlo_text.Module, within: str, name: str) -> bool:
  """Whether an instruction makes what it gives."""
  one = module.computations[within].instructions[name]
  if one.op.endswith('-start'):   # it gives no more than what goes in
    return False
  if one.op.endswith('-done') or one.op == 'custom-call':
    return True
  return not hlo_work.free(one) and not hlo_work.put_into(module, within, name)


def _later(module: hlo_text.Module, within: str, copies):
  """Value -> on how many devices those are the same that are written into its
  buffer."""
  out = collections.defaultdict(list)
  scope = module.computations[within].instructions
  for name, one in scope.items():
    if one.op == 'while' and scope[one.operands[0]].op == 'tuple':
      for place, given in enumerate(scope[one.operands[0]].operands):
        out[given].append(hlo_copies.part(one.type, place,
                                          copies[within][name]))
    elif into := hlo_work.put_into(module, within, name):
      out[into].append(copies[within][name])
  return out


def _running(module: hlo_text.Module) -> list[str]:
  """Computations whose instructions run as kernels: none that is fused."""
  found = [module.entry]
  for within in found:
    for one in module.computations[within].instructions.values():
      if one.op in ('while', 'conditional', 'call', 'async-start'):
        names = sum(hlo_text.called(one).values(), [])
        found += [name for name in dict.fromkeys(names) if name not in found]
  return found


def distinct(buffers, most: float = math.inf, by_shape: bool = False
              ) -> list[Buffer]:
  """The first of each name and shape, or of each shape alone."""
  out = {}
  for one in buffers:
    key = (one.bytes, one.shape, '' if by_shape else one.name)
    if len(out) < most:
      out.setdefault(key, one)
  return list(out.values())
