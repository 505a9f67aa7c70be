"""What a compiled program does on each device, counted from its text.

FLOPs of products, bytes through memory, bytes that collectives send, arrays
that devices hold the same of, the largest arrays: for an optimised, partitioned
module as `compiled.as_text()` gives it, on a CPU or for a TPU that is not here.
Loops count as often as they run. Nothing is timed here: see `roofline`. What
memory a program needs is better asked of `compiled.memory_analysis()`; its
`cost_analysis()` counts the body of a loop once.
"""

import collections
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

from launch import hlo_buffers
from launch import hlo_collectives
from launch import hlo_loops
from launch import hlo_text
from launch import hlo_work

LARGE = 64 * 2 ** 20   # bytes from which an array that is repeated is told


class Kernel(NamedTuple):
  """What runs as one: a fusion, a product, a copy, a collective.

  All of one turn; it runs `times`. `sent` are the bytes that a chip sends
  within its slice, `across` those between slices. `hidden` where the schedule
  lets something else run in the meantime. What `flops` and `bytes` are of:
  `products` has (least dimension, FLOPs) of each, `moves` (bytes of an array,
  those of them that are read or written).
  """
  name: str
  flops: float
  bytes: float
  kind: str = ''
  sent: float = 0.
  across: float = 0.
  hidden: bool = False
  times: float = 1.
  products: tuple[tuple[int, int], ...] = ()
  moves: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a program does on a device, loops multiplied out.

  Attributes:
    flops: of products; a multiply-add is two.
    bytes: read from and written to the device's memory; see `hlo_work`.
    collectives: kind (`hlo_collectives.KINDS`) -> bytes that a chip sends,
      within its slice and to others together.
    across: bytes that a chip sends to other slices.
    replicated: arrays of at least `large` bytes that several devices hold the
      same of, largest first.
    largest: the five largest arrays, of one shape only the first.
    custom: name of a custom call -> how often it runs. But for products of a
      library its FLOPs are in none of the above: add what the model counts.
    unknown: loops that the compiler knows no count of -> what was taken.
    kernels: all of it, one by one, in order.
  """
  flops: float
  bytes: float
  collectives: dict[str, float]
  across: float
  replicated: list[hlo_buffers.Buffer]
  largest: list[hlo_buffers.Buffer]
  custom: dict[str, float]
  unknown: dict[str, float]
  kernels: list[Kernel]


class _Setting(NamedTuple):
  module: hlo_text.Module
  devices: int
  slices: int
  trips: Mapping[str, float] | float
  unknown: dict[str, float]


def analyse(text: str, devices: int,
            trips: Mapping[str, float] | float = 1, slices: int = 1,
            large: int = LARGE) -> Facts:
  """Counts what a module does on one of its devices.

  Args:
    text: `compiled.as_text()`.
    devices: it is partitioned over.
    trips: turns of a loop that the compiler knows no count of: a number for
      all, or by the path of the loop (jax's op_name without the jit), such as
      {'while': 64}; a loop that is not named there counts once. Turns of an
      inner loop are those within one of the outer loop, and may be a fraction.
    slices: of equal size, whose devices follow each other.
    large: bytes from which an array is told that devices hold the same.

  Raises:
    ValueError: the text is no compiled module.
  """
  module = hlo_text.parse(text)
  setting = _Setting(module, devices, slices, trips, {})
  kernels = list(_kernels(setting, module.entry, 1.))
  sums = collections.defaultdict(float)
  custom = collections.defaultdict(float)
  for kernel in kernels:
    if kernel.kind in hlo_collectives.KINDS:
      sums[kernel.kind] += kernel.times * (kernel.sent + kernel.across)
    elif kernel.kind:
      custom[kernel.kind] += kernel.times
  arrays = sorted(hlo_buffers.buffers(module, devices), reverse=True)
  return Facts(
      flops=sum(k.times * k.flops for k in kernels),
      bytes=sum(k.times * k.bytes for k in kernels),
      collectives=dict(sums),
      across=sum(k.times * k.across for k in kernels),
      replicated=hlo_buffers.distinct(
          one for one in arrays if one.copies > 1 and one.bytes >= large),
      largest=hlo_buffers.distinct(arrays, 5, by_shape=True),
      custom=dict(custom), unknown=setting.unknown, kernels=kernels)


def _kernels(s: _Setting, within: str, times: float) -> Iterator[Kernel]:
  """All that runs in a computation and in what it calls, in order."""
  begun = set()
  for name, one in s.module.computations[within].instructions.items():
    called = hlo_text.called(one)
    if one.op == 'while':
      turns = times * _turns(s, within, one)
      yield from _kernels(s, called['condition'][0], turns)
      yield from _kernels(s, called['body'][0], turns)
    elif one.op == 'conditional':
      branches = called.get('branch_computations') or (
          called['true_computation'] + called['false_computation'])
      yield from max((list(_kernels(s, branch, times)) for branch in branches),
                     key=_size)
    elif one.op in ('call', 'async-start'):
      for inner in called.get('to_apply') or called['calls']:
        yield from (kernel._replace(hidden=kernel.hidden or one.op != 'call')
                    for kernel in _kernels(s, inner, times))
    elif not hlo_work.free(one):
      yield _kernel(s, within, name, begun)._replace(times=times)


def _custom(one: hlo_text.Instruction) -> str:
  """A custom call's name: of a Pallas kernel, its own."""
  *_, last, made = '/', *hlo_text.path(one).split('/')
  return last if made == 'pallas_call' else hlo_text.target(one)


def _size(kernels: list[Kernel]) -> tuple[float, float, float]:
  """By which a branch is the largest: calls that hide their FLOPs come first.
  """
  return (sum(k.times for k in kernels
              if k.kind and k.kind not in hlo_collectives.KINDS),
          sum(k.times * k.flops for k in kernels),
          sum(k.times * (k.bytes + k.sent + k.across) for k in kernels))


def _turns(s: _Setting, within: str, one: hlo_text.Instruction) -> float:
  known = hlo_loops.trips(s.module, within, one.name)
  if known is not None:
    return known
  path = hlo_text.path(one)
  turns = s.trips.get(path, 1) if isinstance(s.trips, Mapping) else s.trips
  s.unknown[path] = turns
  return turns


def _kernel(s: _Setting, within: str, name: str, begun: set[str]) -> Kernel:
  """An instruction that does something, with what is fused into it.

  `begun` are channels of collectives that earlier instructions of the
  computation hold: libtpu fuses a piece of one into each that it runs beside.
  """
  one = s.module.computations[within].instructions[name]
  products = tuple(hlo_work.products(s.module, within, name))
  moves = tuple(hlo_work.traffic(s.module, within, name))
  kernel = Kernel(hlo_text.path(one), sum(flops for _, flops in products),
                  sum(moved for _, moved in moves), products=products,
                  moves=moves, hidden=one.op.endswith('-start'))
  if one.op == 'custom-call':
    return kernel._replace(kind=_custom(one))
  found = hlo_collectives.find(s.module, within, one)
  if not found or found.channel in begun:
    return kernel
  if one.op == 'fusion':
    begun.add(found.channel)
  sent, across = hlo_collectives.sends(
      found.kind, found.size, hlo_collectives.groups(found.one, s.devices),
      s.devices, s.slices)
  return kernel._replace(kind=found.kind, sent=sent, across=across,
                         hidden=found.hidden)
