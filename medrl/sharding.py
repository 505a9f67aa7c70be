"""Mesh, logical axis -> mesh axis, and every crossing of host and device.

Arrays cross through `Crossing` alone, so that a step's crossings can be counted
and any other one is an error under `jax.transfer_guard('disallow')`. No model,
no config.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import json
import math

import jax
from jax.experimental import mesh_utils
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from medrl import types

AXES = ('data', 'fsdp', 'sequence', 'tensor')
# Prompts are split over both: fsdp shards parameters over data-parallel peers.
BATCH_AXES = ('data', 'fsdp')
LONG = 'sequence'      # over it go tokens and patches within a prompt
HOST = 'pinned_host'   # the memory that copies to a device need no buffer from


def make_mesh(data: int = -1, fsdp: int = 1, sequence: int = 1, tensor: int = 1,
              slices: int = 1, devices=None) -> jax.sharding.Mesh:
  """A mesh of all devices with axes data, fsdp, sequence and tensor.

  Over the network between slices go data alone or, where data is too small,
  fsdp too. Within a slice of TPUs an axis follows wires where that is possible.

  Args:
    data, fsdp, sequence, tensor: sizes; at most one is -1 and takes what is
      left.
    slices: groups of devices with a fast network of their own. Devices that do
      not tell theirs are cut into so many groups of neighbours.
    devices: by default, all of all processes.

  Raises:
    ValueError: the sizes do not multiply to the number of devices, there are
      other slices than that, they do not divide data and fsdp, or devices that
      hold the same prompts belong to several processes.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = [data, fsdp, sequence, tensor]
  if sizes.count(-1) == 1:
    rest = math.prod(s for s in sizes if s != -1)
    sizes[sizes.index(-1)] = len(devices) // rest
  if math.prod(sizes) != len(devices) or min(sizes) < 1:
    raise ValueError(
        f'mesh data={data}, fsdp={fsdp}, sequence={sequence}, tensor={tensor} '
        f'does not fit {len(devices)} devices; set config.mesh so that they '
        f'multiply to it')
  across = _across(sizes, slices)
  within = (sizes[0] // across[0], sizes[1] // across[1], *sizes[2:])
  placed = [next(filter(_by_process, _layouts(within, part)), None)
            for part in _slices(devices, slices)]
  if any(part is None for part in placed):
    raise ValueError(
        f'mesh sequence={sizes[2]}, tensor={sizes[3]} spans several processes, '
        f'each of which reads prompts of its own; set config.mesh.sequence '
        f'times config.mesh.tensor to a divisor of the devices of a process')
  placed = np.stack(placed).reshape(*across, *within).swapaxes(1, 2)
  return jax.sharding.Mesh(placed.reshape(sizes), AXES)


def _across(sizes, slices: int) -> tuple[int, int]:
  """How many parts of data and of fsdp lie on different slices."""
  data = math.gcd(sizes[0], max(slices, 1))
  if slices < 1 or sizes[1] % (slices // data):
    raise ValueError(
        f'{slices} slices divide neither mesh data={sizes[0]} nor, together '
        f'with it, fsdp={sizes[1]}; set config.mesh so that data * fsdp is a '
        f'multiple of the slices')
  return data, slices // data


def _slices(devices: list, count: int) -> list[list]:
  """The devices of each slice, in order; raises ValueError for other counts."""
  if not hasattr(devices[0], 'coords'):   # no TPU: neighbours by process
    each = len(devices) // count
    return [devices[i * each:(i + 1) * each] for i in range(count)]
  found = {}
  for device in devices:   # a slice that is not here may have no number
    number = device.slice_index if hasattr(device, 'slice_index') else 0
    found.setdefault(number, []).append(device)
  if len(found) != count or len({len(part) for part in found.values()}) > 1:
    raise ValueError(
        f'mesh slices={count}, but the devices form slices of '
        f'{[len(found[k]) for k in sorted(found)]}; set config.mesh.slices to '
        f'their number')
  return [found[k] for k in sorted(found)]


def _layouts(sizes, devices: list) -> Iterator[np.ndarray]:
  """Meshes of one slice, the ones with the shorter ways first."""
  if hasattr(devices[0], 'coords'):
    for whole in (False, True):   # whether processes stay together
      try:
        yield mesh_utils.create_device_mesh(sizes, devices,
                                            contiguous_submeshes=whole)
      except (AssertionError, NotImplementedError, ValueError):
        pass   # its axes do not make up such sizes
  placed = np.empty(len(devices), object)
  placed[:] = sorted(devices, key=lambda device: device.process_index)
  yield placed.reshape(sizes)


def _by_process(placed: np.ndarray) -> bool:
  """Whether devices that differ in sequence and tensor alone share a process.
  """
  return all(len({device.process_index for device in peers.flat}) == 1
             for peers in placed.reshape(-1, *placed.shape[2:]))


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


def of_batch(mesh, tree):
  """Shardings of a tree that holds batches: rows, and of media their second
  axis too, patches or samples, over sequence."""
  rows = batch(mesh)
  long = rows
  if mesh.shape[LONG] > 1:
    long = NamedSharding(mesh, PartitionSpec(BATCH_AXES, LONG))

  def leaf(path, _):
    named = [key.name for key in path
             if isinstance(key, jax.tree_util.GetAttrKey)]
    return long if 'media' in named else rows
  return jax.tree_util.tree_map_with_path(leaf, tree)


def of_rollout(mesh) -> types.Rollout:
  """Shardings of a rollout, as a prefix of its tree."""
  fields = range(len(types.Rollout._fields))
  prompt = types.Batch(*range(len(types.Batch._fields)))
  return of_batch(mesh, types.Rollout(*fields)._replace(prompt=prompt))


def check_bucket(mesh, bucket: tuple[int, int], window: int) -> None:
  """Raises ValueError where a bucket does not divide over the mesh's sequence.

  Args:
    mesh: the mesh.
    bucket: prompt tokens and patches.
    window: patches of an attention window, which stay together.
  """
  parts = mesh.shape[LONG]
  for what, size, least in (('prompt tokens', bucket[0], 1),
                            ('patches', bucket[1], window)):
    if size % (parts * least):
      raise ValueError(
          f'bucket {tuple(bucket)}: its {size} {what} do not divide over mesh '
          f'axis {LONG!r} of size {parts}; declare a multiple of '
          f'{parts * least} in config.data.buckets')


@dataclasses.dataclass(frozen=True)
class Rows:
  """Keeps an array's leading axis over data and fsdp, within a program.

  Where parameters are split over fsdp too, XLA would else split the width of
  what is computed with them instead, and each device hold the rows of all.
  Without a mesh, arrays stay as they lie.
  """
  mesh: jax.sharding.Mesh | None = None

  @property
  def parts(self) -> int:
    """How many parts of a prompt lie on devices of their own."""
    return 1 if self.mesh is None else self.mesh.shape[LONG]

  def __call__(self, x, long: int = 0):
    """`x`, whole but for its rows and, where one is given, its axis `long`.

    Raises:
      ValueError: that axis does not divide over sequence.
    """
    if self.mesh is None:
      return x
    if not long or self.parts == 1:
      return jax.lax.with_sharding_constraint(x, batch(self.mesh))
    return self._laid(x, 0, long, None)

  def split(self, x, long: int, rows: int = 0):
    """`x` with its axis `long` over sequence, if that has parts, and `rows`
    over data and fsdp; of the others the compiler decides."""
    if self.parts == 1:
      return x
    return self._laid(x, rows, long, PartitionSpec.UNCONSTRAINED)

  def _laid(self, x, rows: int, long: int, other):
    if x.shape[long] % self.parts:
      raise ValueError(
          f'axis {long} of {x.shape} does not divide over mesh axis {LONG!r} '
          f'of size {self.parts}; declare prompts (and where completions stand '
          f'behind them, their lengths) in multiples of it')
    axes = [other] * x.ndim
    axes[rows], axes[long] = BATCH_AXES, LONG
    return jax.lax.with_sharding_constraint(
        x, NamedSharding(self.mesh, PartitionSpec(*axes)))


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
    """Host rows of this process -> global arrays, laid as `of_batch` says."""
    self.ups += 1
    # Over several processes jax does not count it as explicit.
    with jax.transfer_guard_host_to_device('allow'):
      return jax.tree.map(
          lambda x, target: jax.make_array_from_process_local_data(
              target, np.asarray(x)), tree, of_batch(self.mesh, tree))

  def fetch(self, tree):
    """Device arrays -> NumPy, each process its own rows; replicated ones whole.
    """
    self.fetches += 1
    return jax.tree.map(_local, tree)


def _local(x):
  if x.is_fully_addressable or x.is_fully_replicated:
    return np.asarray(jax.device_get(x))
  shards = {tuple(part.start or 0 for part in shard.index): shard
            for shard in x.addressable_shards}
  # Each axis of what is here: where its pieces begin, in the order they stand.
  begins = [sorted(set(axis)) for axis in zip(*shards)]
  each = next(iter(shards.values())).data.shape
  out = np.empty([len(b) * n for b, n in zip(begins, each)], x.dtype)
  for start, shard in shards.items():
    at = [b.index(s) * n for b, s, n in zip(begins, start, each)]
    out[tuple(slice(a, a + n) for a, n in zip(at, each))] = jax.device_get(
        shard.data)
  return out


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
