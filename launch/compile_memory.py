"""What a compiled program holds on a chip, and what of it is held twice.

Sizes come from the executable's own plan; where the compiler refuses to make
one, from what it says. Nothing is compiled here.
"""

from collections.abc import Sequence
import math
import re
from typing import Any

import jax
import jax.numpy as jnp

from launch import hlo_buffers
from medrl import build
from medrl import sharding

# What functions of programs call arguments that hold rows of a batch.
_ROWS = ('batch', 'rollout', 'scores', 'soft', 'cache', 'hidden')
_PARAMETER = re.compile(r' parameter\((\d+)\)(, sharding=)?')
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
_USED = re.compile(r'Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm')
# What libtpu 0.0.51 says instead, without a list.
_TEMPORARY = re.compile(r'HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds')
_ALLOCATION = re.compile(r'\n\s*\d+\. Size: ([\d.]+)([KMGT]?)B?\n'
                         r'(.*?)={10,}', re.DOTALL)


def held(compiled) -> dict[str, int]:
  """Bytes on a chip by what they are; donated arguments count once."""
  found = compiled.memory_analysis()
  return {'arguments': found.argument_size_in_bytes,
          'outputs': found.output_size_in_bytes - found.alias_size_in_bytes,
          'temporaries': found.temp_size_in_bytes,
          'code': found.generated_code_size_in_bytes}


def text(compiled) -> str:
  """The text of an executable, with how each argument lies on the devices: as
  XLA tells it for a CPU, and not for a TPU."""
  head, entry, rest = compiled.as_text().partition('\nENTRY ')
  body, end, rest = rest.partition('\n}')
  arrays, structure = jax.tree.flatten(compiled.in_avals)
  # None for arguments that nothing reads; they are no parameters.
  laid = structure.flatten_up_to(compiled.input_shardings)
  given = [(x.shape, place) for x, place in zip(arrays, laid, strict=True)
           if place is not None]
  # Constants of the program come first.
  before = len(_PARAMETER.findall(body)) - len(given)
  def told(found):
    number = int(found[1]) - before
    if found[2] or number < 0:
      return found[0]
    return f'{found[0]}, sharding={_spelt(*given[number])}'
  return head + entry + _PARAMETER.sub(told, body) + end + rest


def _spelt(shape, place) -> str:
  """A sharding in XLA's words, by which devices have the same part."""
  parts = {}
  for number, part in enumerate(place.devices_indices_map(shape).values()):
    parts.setdefault(str(part), []).append(number)
  if len(parts) == 1:
    return '{replicated}'
  order = ','.join(str(n) for part in parts.values() for n in part)
  same = len(next(iter(parts.values())))
  return f'{{devices=[{len(parts)},{same}]{order} last_tile_dim_replicate}}'


def of_arrays(tree: Any) -> int:
  """Bytes of abstract arrays on a chip, those in host memory left out."""
  size = 0
  for x in jax.tree.leaves(tree):
    if x.sharding.memory_kind != sharding.HOST:
      size += math.prod(x.sharding.shard_shape(x.shape)) * (
          8 if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
          else x.dtype.itemsize)
  return size


def refusal(message: str) -> dict[str, Any] | None:
  """What a compiler says that runs out of a chip's memory, or None where it
  says something else.

  Returns:
    bytes_per_chip that it would take, and its largest buffers as
    {bytes, shape, op, name}, largest first.
  """
  used = _USED.search(message)
  if not used and (told := _TEMPORARY.search(message)):
    size = _bytes(told[1], told[2])
    return {'bytes_per_chip': size, 'largest': [{
        'bytes': size, 'shape': '', 'op': 'all temporaries together',
        'name': '(the compiler names none of them)'}]}
  if not used:
    return None
  buffers = []
  for number, unit, more in _ALLOCATION.findall(message):
    shape = re.search(r'Shape: (\S+?\])', more)
    name = re.search(r'op_name="((?:[^"\\]|\\.)*)"', more)
    label = re.search(r'XLA label: %?([\w.\-]+)', more)
    kind = re.search(r'Allocation type: (.+)', more)
    buffers.append({
        'bytes': _bytes(number, unit), 'shape': shape[1] if shape else '',
        'op': kind[1].strip() if kind else '',
        'name': (name or label or [None, ''])[1]})
  return {'bytes_per_chip': _bytes(used[1], used[2]),
          'largest': sorted(buffers, key=lambda one: -one['bytes'])[:5]}


def _bytes(number: str, unit: str) -> int:
  return round(float(number) * _UNITS[unit])


def replicated(run: build.Run, buffers: Sequence[hlo_buffers.Buffer],
               sampling: bool) -> list[hlo_buffers.Buffer]:
  """Those that several chips hold the same of where a rule could split them.

  Rules split rows over data and fsdp, prompts over sequence, heads, MLP and
  vocabulary over tensor, parameters over fsdp and tensor. So these are meant:
  activations in each chip of a tensor group, which work on the same rows; a
  layer's parameters, gathered while it runs; while sampling all parameters,
  which each token needs; what slices have of each other's state; and arrays of
  one number, which wait to be written to.

  Args:
    run: what the program is of.
    buffers: from `hlo.Facts.replicated`.
    sampling: whether the program reads the weights of sampling.
  """
  shape, slices = run.mesh.shape, run.config.mesh.slices
  groups = math.prod(shape.values()) // shape['tensor']
  each, whole = _sizes_of_parameters(run)
  def meant(one):
    size = math.prod(one.shape)
    if one.op == 'broadcast':
      return True
    if sampling and size in each | whole:
      return one.copies <= groups
    if one.op == 'parameter' and not one.name.startswith(_ROWS):
      return one.copies <= slices
    return one.copies <= shape['tensor'] or size in each
  return [one for one in buffers if not meant(one)]


def _sizes_of_parameters(run: build.Run) -> tuple[set[int], set[int]]:
  """Elements that a chip has of a layer's parameters, and of whole ones, where
  nothing is split over fsdp."""
  laid = sharding.of_specs(run.mesh, run.specs,
                           build.sampling_rules(run.config))
  each, whole = set(), set()
  specs = jax.tree.leaves(run.specs)
  for spec, place in zip(specs, jax.tree.leaves(laid), strict=True):
    size = math.prod(place.shard_shape(spec.shape))
    whole.add(size)
    if spec.axes[0] == 'layers':
      each.add(size // spec.shape[0])
  return each, whole


def as_dict(one: hlo_buffers.Buffer) -> dict[str, Any]:
  return {'bytes': one.bytes, 'shape': str(list(one.shape)), 'op': one.op,
          'name': one.name, 'copies': one.copies}
