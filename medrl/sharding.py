"""Mesh, logical axis -> mesh axis, and every crossing of host and device.

Arrays cross through `Crossing` alone, so that a step's crossings can be counted
and any other one is an error under `jax.transfer_guard('disallow')`. No model,
no config.
"""

from collections.abc import Mapping
import dataclasses
import json
import math

import jax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

AXES = ('data', 'fsdp', 'tensor')
# Prompts are split over both: fsdp shards parameters over data-parallel peers.
BATCH_AXES = ('data', 'fsdp')
HOST = 'pinned_host'   # the memory that copies to a device need no buffer from


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, devices=None):
  """A mesh of all devices with axes data, fsdp and tensor.

  Args:
    data, fsdp, tensor: sizes; at most one is -1 and takes what is left.
    devices: by default, all of all processes.

  Raises:
    ValueError: the sizes do not multiply to the number of devices, or devices
      that hold the same prompts belong to several processes.
  """
  devices = jax.devices() if devices is None else devices
  sizes = [data, fsdp, tensor]
  if sizes.count(-1) == 1:
    rest = math.prod(s for s in sizes if s != -1)
    sizes[sizes.index(-1)] = len(devices) // rest
  if math.prod(sizes) != len(devices) or min(sizes) < 1:
    raise ValueError(
        f'mesh data={data}, fsdp={fsdp}, tensor={tensor} does not fit '
        f'{len(devices)} devices; set config.mesh so that they multiply to it')
  placed = np.asarray(devices).reshape(sizes)
  for row in placed.reshape(-1, sizes[2]):
    if len({device.process_index for device in row}) > 1:
      raise ValueError(
          f'mesh tensor={sizes[2]} spans several processes, each of which '
          f'reads prompts of its own; set config.mesh.tensor to at most the '
          f'devices of a process')
  return jax.sharding.Mesh(placed, AXES)


def of_specs(mesh, specs, rules: Mapping[str, str]):
  """Shardings of a tree of `params.Spec`, by one rule per logical axis.

  Args:
    mesh: the mesh.
    specs: tree of Specs.
    rules: logical axis -> mesh axis, or '' for replicated. Every axis a Spec
      names must be there.

  Raises:
    ValueError: an axis without a rule, or a size its mesh axis does not divide.
  """
  def leaf(spec):
    chosen = []
    for size, axis in zip(spec.shape, spec.axes):
      if axis not in rules:
        raise ValueError(f'no sharding rule for the axis {axis!r}; '
                         f'config.sharding has {sorted(rules)}')
      over = rules[axis]
      if over and size % mesh.shape[over]:
        raise ValueError(
            f'axis {axis!r} of size {size} does not divide over mesh axis '
            f'{over!r} of size {mesh.shape[over]}; change config.sharding')
      taken = over in chosen   # an array uses a mesh axis once
      chosen.append(over if over and not taken else None)
    return NamedSharding(mesh, PartitionSpec(*chosen))
  return jax.tree.map(leaf, specs)


def replicated(mesh):
  return NamedSharding(mesh, PartitionSpec())


def batch(mesh):
  """Leading axis over data and fsdp, the rest whole."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


@dataclasses.dataclass(frozen=True)
class Rows:
  """Keeps an array's leading axis over data and fsdp, within a program.

  Where parameters are split over fsdp too, XLA would else split the width of
  what is computed with them instead, and each device hold the rows of all.
  """
  mesh: jax.sharding.Mesh

  def __call__(self, x):
    return jax.lax.with_sharding_constraint(x, batch(self.mesh))


def like_params(mesh, abstract, params_sharding):
  """Shardings of an optimiser state: a leaf that mirrors a parameter is laid
  out as it is, any other is replicated.

  A subtree mirrors the parameters where its structure is theirs.
  """
  structure = jax.tree.structure(params_sharding)

  def mirrors(tree):
    return jax.tree.structure(tree) == structure

  def subtree(tree):
    return params_sharding if mirrors(tree) else replicated(mesh)

  return jax.tree.map(subtree, abstract, is_leaf=mirrors)


def to_host(laid):
  """The same shardings in the devices' hosts' memory, pinned.

  A program brings what lies there to the device where it uses it, see
  `to_device`, and leaves it there by its output shardings.

  Raises:
    ValueError: the backend of these devices has no such memory.
  """
  def leaf(sharding):
    device = sharding.mesh.devices.flat[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
      raise ValueError(
          f'{device.platform} has the memories {kinds} and not {HOST!r}; set '
          f'config.model.offload=()')
    return sharding.with_memory_kind(HOST)
  return jax.tree.map(leaf, laid)


def on_host(x) -> bool:
  """Whether an array, traced or not, lies in host memory (`to_host`)."""
  return jax.typeof(x).memory_space == jax.memory.Space.Host


def to_device(tree):
  """Arrays of a program, those in host memory copied to the device."""
  return jax.tree.map(
      lambda x: jax.device_put(x, jax.memory.Space.Device) if on_host(x)
      else x, tree)


@dataclasses.dataclass
class Crossing:
  """Moves arrays between this process and the mesh, and counts the moves."""
  mesh: jax.sharding.Mesh
  ups: int = 0
  fetches: int = 0

  def up(self, tree):
    """Host rows of this process -> global arrays split by row."""
    self.ups += 1
    target = batch(self.mesh)
    # Over several processes jax does not count it as explicit.
    with jax.transfer_guard_host_to_device('allow'):
      return jax.tree.map(
          lambda x: jax.make_array_from_process_local_data(target,
                                                           np.asarray(x)),
          tree)

  def fetch(self, tree):
    """Device arrays -> NumPy, each process its own rows; replicated ones whole.
    """
    self.fetches += 1
    return jax.tree.map(_local, tree)


def _local(x):
  if x.is_fully_addressable or x.is_fully_replicated:
    return np.asarray(jax.device_get(x))
  rows = {}
  for shard in x.addressable_shards:
    rows.setdefault(shard.index[0].start or 0, shard)
  return np.concatenate([np.asarray(jax.device_get(rows[k].data))
                         for k in sorted(rows)])


def gather_json(items: list) -> list:
  """Joins a JSON-able list of each process, in process order, on all of them.

  For small host values, rows of an evaluation or of a log; not for arrays.
  """
  if jax.process_count() == 1:
    return items
  mine = np.frombuffer(json.dumps(items).encode(), np.uint8)
  with jax.transfer_guard('allow'):   # it is host values that travel
    sizes = multihost_utils.process_allgather(np.int32(len(mine))).reshape(-1)
    padded = np.zeros(sizes.max(), np.uint8)
    padded[:len(mine)] = mine
    rows = multihost_utils.process_allgather(padded)
  rows = rows.reshape(len(sizes), -1)
  return [item for row, size in zip(rows, sizes)
          for item in json.loads(row[:size].tobytes())]
