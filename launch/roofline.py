"""How long a compiled program should take: counted work over a chip's rates.

A program runs its kernels one after the other, and each takes the longer of its
arithmetic and its memory traffic (Williams, Waterman & Patterson 2009:
Roofline, an insightful visual performance model; here for each kernel, as a
program whose halves are bound by one each gains nothing).

What the schedule starts in one place and waits for in another runs beside the
kernels in between. Copies of that kind are only held to the rate of all traffic
together; what such collectives send is hidden as far as the kernels last. Other
collectives are waited for.

On an accelerator rates are the maker's peaks, so an estimate is a bound from
below: no product reaches the peak, no kernel takes time to start, and all links
of a chip share what it sends. Where rates were measured by size (`Curves`),
those are taken, and the estimate is no bound; kernels of microseconds, whose
start and dispatch are in no curve, still are underrated.

Not here: what a program does (`hlo`), the host's own work between programs.
"""

import bisect
from collections.abc import Mapping
import dataclasses
import json
import math
import pathlib

from launch import hlo

RECORD = pathlib.Path(__file__).with_name('measured.json')
# Products of bfloat16 that XLA makes one of float32 of on a TPU, at the highest
# precision. (Three at `high`; at the default, one.)
_PASSES = {'bfloat16': 1, 'float16': 1, 'float32': 6}


@dataclasses.dataclass(frozen=True)
class Curves:
  """Rates that were measured, by size; in between, by the logarithm of both.

  Attributes:
    products: least dimension of a product -> FLOP/s, in the program's dtype.
    moves: bytes of an array -> bytes/s read or written. Small arrays stay in a
      cache (the memory mountain of Bryant & O'Hallaron 2016, 6.6), and what
      a loop goes through in turn counts by the size of each.
  """
  products: Mapping[int, float]
  moves: Mapping[int, float]


def seconds(facts: hlo.Facts, chip, dtype: str = 'bfloat16',
            curves: Curves | None = None) -> dict[str, float]:
  """What one run of a program takes on a device.

  Args:
    facts: from `hlo.analyse`.
    chip: an `accelerators.Chip`.
    dtype: of its products.
    curves: rates by size instead of the chip's own, where they are known.

  Returns:
    compute, memory, network: as if there was nothing else; and `total`.
  """
  arithmetic, traffic, serial, wait, beside = 0., 0., 0., 0., 0.
  for kernel in facts.kernels:
    product, move = _alone(kernel, chip, dtype, curves)
    network = kernel.sent / chip.ici_bytes_per_s + (
        kernel.across / chip.dcn_bytes_per_s)
    arithmetic += kernel.times * product
    traffic += kernel.times * move
    if kernel.hidden:
      beside += kernel.times * network
    else:
      serial += kernel.times * max(product, move)
      wait += kernel.times * network
  return {'compute': arithmetic, 'memory': traffic, 'network': wait + beside,
          'total': max(serial, traffic, beside) + wait}


def _alone(kernel: hlo.Kernel, chip, dtype: str, curves: Curves | None
           ) -> tuple[float, float]:
  """Seconds of a kernel's arithmetic and of its traffic."""
  if curves is None:
    return (_PASSES[dtype] * kernel.flops / chip.flops_bf16,
            kernel.bytes / chip.hbm_bytes_per_s)
  return (sum(flops / at(curves.products, least)
              for least, flops in kernel.products),
          sum(moved / at(curves.moves, size) for size, moved in kernel.moves
              if size))


def at(curve: Mapping[int, float], size: float) -> float:
  """A curve's value at a size; beyond its ends, that of the end."""
  sizes = sorted(curve)
  place = bisect.bisect_left(sizes, size)
  if place == 0 or place == len(sizes):
    return curve[sizes[min(place, len(sizes) - 1)]]
  low, high = sizes[place - 1:place + 1]
  share = math.log(size / low) / math.log(high / low)
  return curve[low] ** (1 - share) * curve[high] ** share


def step(programs: Mapping[str, hlo.Facts], calls: Mapping[str, float], chip,
         dtype: str = 'bfloat16', curves: Curves | None = None) -> float:
  """Seconds of a step: each program as often as it is called.

  Programs wait for each other, and the host for nothing: rewards, reading and
  logging are not in it.

  Args:
    programs: name -> what it does.
    calls: name -> how often in a step (1 for encode, prefill, score, prepare
      and update; the longest completion's tokens for a decode program that
      writes one token).
    chip, dtype, curves: as of `seconds`.

  Raises:
    ValueError: programs and calls have unlike names.
  """
  if programs.keys() != calls.keys():
    raise ValueError(f'programs {sorted(programs)} and calls {sorted(calls)} '
                     f'name unlike things; say how often each runs')
  return sum(calls[name] * seconds(facts, chip, dtype, curves)['total']
             for name, facts in programs.items())


def measured(key: tuple[str, str], path: pathlib.Path = RECORD) -> dict | None:
  """The run that was measured and recorded, or None.

  Args:
    key: (what was compiled, topology), such as ('cpu_yardstick', 'cpu').
    path: of the record.

  Returns:
    key, step_s, command, date, device.
  """
  found = [one for one in _recorded(path) if tuple(one['key']) == tuple(key)]
  return found[0] if found else None


def record(run: dict, path: pathlib.Path = RECORD) -> None:
  """Keeps a measured run, in place of an older one of its key."""
  others = [one for one in _recorded(path) if one['key'] != run['key']]
  runs = sorted([*others, run], key=lambda one: one['key'])
  path.write_text(json.dumps(runs, indent=1) + '\n')


def _recorded(path: pathlib.Path) -> list[dict]:
  return json.loads(path.read_text()) if path.exists() else []
