"""Chips by name, slices of them that are not here, and the platform that is.

What a chip can do is what its maker publishes; nothing is measured. Devices of
a slice that is not here compile programs and run none.
"""

import dataclasses
import logging
import math

import jax
from jax.experimental import topologies


@dataclasses.dataclass(frozen=True)
class Chip:
  """Published figures of one chip. Rates are bytes or FLOPs a second.

  `flops_bf16` is of dense products. `ici_bytes_per_s` is what a chip sends at
  most to others of its slice (a GPU: of its node), over all its links and in
  one direction; `dcn_bytes_per_s` its share of the network between them.
  """
  name: str
  hbm_bytes: int
  flops_bf16: float
  hbm_bytes_per_s: float
  ici_bytes_per_s: float
  dcn_bytes_per_s: float


# Capacity as published, in GB of 10^9 bytes; what compilers grant is a little
# more (15.75 GiB of a v5e). Half of a bidirectional rate is one direction.
CHIPS = {chip.name: chip for chip in (
    # cloud.google.com/tpu/docs/v5e: 16 GB, 197 TFLOP/s, 819 GB/s, ICI 400 GB/s
    # bidirectional; network 6.4 Tbit/s for a pod of 256.
    Chip('v5e', 16 * 10**9, 197e12, 819e9, 200e9, 3.125e9),
    # cloud.google.com/tpu/docs/v6e: 32 GB, 918 TFLOP/s, 1600 GB/s, ICI 3200
    # Gbit/s; network 25.6 Tbit/s for a pod of 256.
    Chip('v6e', 32 * 10**9, 918e12, 1600e9, 400e9, 12.5e9),
    # cloud.google.com/tpu/docs/v5p: 95 GB, 459 TFLOP/s, 2765 GB/s, ICI 4800
    # Gbit/s; network 200 Gbit/s for a host of four.
    Chip('v5p', 95 * 10**9, 459e12, 2765e9, 600e9, 6.25e9),
    # nvidia.com, H100 SXM: 80 GB, 989 TFLOP/s without sparsity, 3.35 TB/s,
    # NVLink 900 GB/s in both directions; DGX H100: 400 Gbit/s a GPU.
    Chip('h100', 80 * 10**9, 989e12, 3350e9, 450e9, 50e9),
    # nvidia.com, H200 SXM: 141 GB, 4.8 TB/s, the rest as the H100.
    Chip('h200', 141 * 10**9, 989e12, 4800e9, 450e9, 50e9),
)}
# Number of axes of a TPU slice's shape: a plane or a box of chips.
_AXES = {'v5e': 2, 'v6e': 2, 'v5p': 3}
# What may be asked for -> jax's name of it.
_PLATFORMS = {'cpu': 'cpu', 'tpu': 'tpu', 'gpu': 'gpu', 'cuda12': 'gpu',
              'cuda13': 'gpu'}


def parse(topology: str) -> tuple[str, tuple[int, ...]]:
  """'v5e:8x8' -> ('v5e', (8, 8)): chip and shape of a TPU slice.

  Raises:
    ValueError: the text, with what is known.
  """
  name, _, shape = topology.partition(':')
  sides = tuple(int(s) for s in shape.split('x') if s.isdecimal())
  if name not in _AXES or len(sides) != _AXES[name] or 0 in sides or (
      'x'.join(map(str, sides)) != shape):
    raise ValueError(
        f'topology {topology!r} is not CHIP:SHAPE with one of '
        + ', '.join(f'{chip}:{"x".join("abc"[:axes])}'
                    for chip, axes in _AXES.items())
        + '; such as v5e:8x8 or v5p:4x4x4')
  return name, sides


def devices(topology: str, slices: int = 1) -> list:
  """Devices of TPU slices that are not here, to compile for.

  libtpu has to be told beforehand that it is no part of a pod, or it asks its
  cloud: `launch/compile.py` sets that environment.

  Args:
    topology: see `parse`.
    slices: how many such slices, joined by the data centre's network.

  Raises:
    ValueError: no such topology, by its text or by libtpu.
    RuntimeError: libtpu is not installed.
  """
  parse(topology)
  more = {'num_slices': slices} if slices > 1 else {}
  try:
    found = topologies.get_topology_desc(
        platform='tpu', topology_name=topology, **more).devices
  except RuntimeError as error:
    if 'not installed' in str(error):
      raise RuntimeError(
          'compiling for a TPU that is not here needs libtpu; pip install '
          'libtpu in the version of tests/requirements.txt') from error
    raise ValueError(f'libtpu has no {slices} x {topology}: '
                     f'{str(error)[:300]}') from error
  return list(found)


def count(topology: str, slices: int = 1) -> int:
  """Chips of so many slices."""
  return slices * math.prod(parse(topology)[1])


def found() -> str:
  """The platform that jax runs on here and what its devices are: 'cpu: cpu',
  'gpu: NVIDIA H200'."""
  device = jax.devices()[0]
  return f'{device.platform}: {device.device_kind}'


def check(asked: str) -> None:
  """Logs the platform that was found, and refuses another than asked for.

  Args:
    asked: cpu, tpu, gpu, cuda12 or cuda13; '' takes any.

  Raises:
    ValueError: a platform other than the one asked for, or an unknown word.
  """
  if asked and asked not in _PLATFORMS:
    raise ValueError(f'accelerator {asked!r} is none of '
                     f'{", ".join(_PLATFORMS)}')
  here = found()
  logging.info('running on %s', here)
  if asked and jax.default_backend() != _PLATFORMS[asked]:
    raise ValueError(
        f'accelerator {asked!r} was asked for, and jax runs on {here}; install '
        f'that accelerator\'s jax (launch/local.sh --accelerator={asked}), see '
        f'that JAX_PLATFORMS allows it, or ask for another one')
