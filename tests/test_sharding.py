"""Where arrays lie, and that every crossing of host and device is counted."""

import dataclasses
import itertools

import jax
from jax.experimental import mesh_utils
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from experiments import base
from medrl import params
from medrl import sharding
from medrl import types
from medrl.models import qwen2_5_vl

RULES = {'embed': 'fsdp', 'mlp': 'tensor', 'vocab': 'tensor', 'layers': ''}


def mesh_of(data, fsdp, tensor, sequence=1):
  return jax.sharding.AbstractMesh((data, fsdp, sequence, tensor),
                                   sharding.AXES)


@pytest.mark.parametrize('sizes, shape', [
    ({}, (8, 1, 1, 1)), ({'fsdp': 4}, (2, 4, 1, 1)),
    ({'data': 1, 'fsdp': -1, 'tensor': 2}, (1, 4, 1, 2)),
    ({'fsdp': 2, 'sequence': 2}, (2, 2, 2, 1)),
    ({'slices': 4, 'fsdp': 2}, (4, 2, 1, 1)),
    ({'data': 2, 'fsdp': 2, 'tensor': 2}, (2, 2, 1, 2))])
def test_a_mesh_takes_all_devices(sizes, shape):
  devices = np.array(jax.devices() * 8)
  mesh = sharding.make_mesh(**sizes, devices=list(devices))
  assert tuple(mesh.shape.items()) == tuple(zip(sharding.AXES, shape))


@pytest.mark.parametrize('sizes', [
    {'fsdp': 3}, {'data': 2, 'fsdp': 2}, {'data': -1, 'fsdp': -1},
    {'data': -1, 'tensor': 16}])
def test_a_mesh_that_does_not_fit_is_refused(sizes):
  with pytest.raises(ValueError, match='does not fit 8 devices.*config.mesh'):
    sharding.make_mesh(**sizes, devices=jax.devices() * 8)


@dataclasses.dataclass(frozen=True)
class Chip:
  """A device that is not here; those without coordinates are no TPU's."""
  id: int
  process_index: int
  slice_index: int = 0
  coords: tuple = ()
  core_on_chip: int = 0
  platform: str = 'tpu'
  device_kind: str = 'TPU v4'


@dataclasses.dataclass(frozen=True)
class Core:
  id: int
  process_index: int


def slice_of(sides, host, number=0):
  """TPU chips of one slice; a process has the chips of a block `host`."""
  out = []
  for z, y, x in itertools.product(*map(range, reversed(sides))):
    at = (x, y, z)
    block = [a // h for a, h in zip(at, host)]
    wide = [s // h for s, h in zip(sides, host)]
    process = block[0] + wide[0] * (block[1] + wide[1] * block[2])
    processes = wide[0] * wide[1] * wide[2]
    out.append(Chip(len(out), number * processes + process, number, at))
  return out


def placed(devices, **sizes):
  """Devices of the mesh, in its shape."""
  return sharding.make_mesh(**sizes, devices=devices).devices


@pytest.mark.parametrize('sizes, across', [
    (dict(data=4, fsdp=4), (2, 1)), (dict(data=1, fsdp=16), (1, 2)),
    (dict(data=2, fsdp=4, tensor=2), (2, 1)),
    (dict(data=2, fsdp=4, sequence=2), (2, 1))])
def test_data_then_fsdp_go_over_slices_and_the_rest_follows_the_wires(sizes,
                                                                      across):
  devices = slice_of((2, 2, 2), (2, 2, 1)) + slice_of((2, 2, 2), (2, 2, 1), 1)
  got = placed(devices[::-1], **sizes, slices=2)
  whole = got.shape
  want = mesh_utils.create_hybrid_device_mesh(
      (whole[0] // across[0], whole[1] // across[1], *whole[2:]),
      (*across, 1, 1), devices)
  assert got.tolist() == want.tolist()


@pytest.mark.parametrize('slices', [1, 4])
def test_other_slices_than_there_are_are_refused(slices):
  devices = slice_of((2, 2, 1), (2, 2, 1)) + slice_of((2, 2, 1), (2, 2, 1), 1)
  with pytest.raises(ValueError, match=rf'slices={slices}, but the devices form'
                     r' slices of \[4, 4\]'):
    sharding.make_mesh(slices=slices, devices=devices)


def test_slices_that_divide_neither_data_nor_fsdp_are_refused():
  with pytest.raises(ValueError, match='3 slices divide neither mesh data=2'):
    sharding.make_mesh(2, 2, slices=3, devices=[Core(i, i) for i in range(4)])


def test_devices_without_coordinates_are_cut_into_slices_as_they_stand():
  got = placed([Core(i, i // 2) for i in range(8)], data=2, fsdp=2, sequence=2,
               slices=2)
  assert [d.id for d in got.flat] == list(range(8))
  got = placed([Core(i, i // 2) for i in range(8)], data=2, fsdp=4, slices=4)
  assert [d.id for d in got.flat] == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize('sides, host', [
    ((4, 4, 1), (2, 2, 1)), ((4, 4, 4), (2, 2, 1))])
@pytest.mark.parametrize('sequence, tensor', [(4, 1), (1, 4), (2, 2), (2, 1)])
def test_the_devices_of_a_prompt_are_of_one_process(sides, host, sequence,
                                                    tensor):
  got = placed(slice_of(sides, host), sequence=sequence, tensor=tensor)
  for peers in got.reshape(-1, sequence * tensor):
    assert len({device.process_index for device in peers}) == 1


@pytest.mark.parametrize('sizes', [
    dict(tensor=8), dict(sequence=8), dict(sequence=4, tensor=2)])
def test_a_prompt_on_several_processes_is_refused(sizes):
  with pytest.raises(ValueError, match='spans several processes.*config.mesh'):
    placed(slice_of((4, 4, 1), (2, 2, 1)), **sizes)


def test_rules_lay_out_every_axis_and_use_a_mesh_axis_once():
  specs = {'up': params.Spec((2, 8, 16), ('layers', 'embed', 'mlp')),
           'twice': params.Spec((4, 16), ('vocab', 'mlp'))}
  laid = sharding.of_specs(mesh_of(2, 2, 2), specs, RULES)
  assert laid['up'].spec == P(None, 'fsdp', 'tensor')
  assert laid['twice'].spec == P('tensor', None)
  assert laid['up'].shard_shape((2, 8, 16)) == (2, 4, 8)


@pytest.mark.parametrize('spec, says', [
    (params.Spec((8,), ('emebd',)), "'emebd'.*config.sharding has.*embed"),
    (params.Spec((6,), ('embed',)), "'embed' of size 6 does not divide over "
     "mesh axis 'fsdp' of size 4")])
def test_an_axis_without_rule_or_of_a_wrong_size_is_refused(spec, says):
  with pytest.raises(ValueError, match=says):
    sharding.of_specs(mesh_of(1, 4, 2), {'w': spec}, RULES)


@pytest.mark.parametrize('size', list(qwen2_5_vl.CONFIGS))
def test_the_default_rules_name_every_axis_of_every_size(size):
  specs = qwen2_5_vl.specs(qwen2_5_vl.CONFIGS[size])
  rules = dict(base.get_config().sharding)
  sharding.of_specs(mesh_of(1, 2, 2), specs, rules)
  named = {a for s in jax.tree.leaves(specs) for a in s.axes}
  assert named == set(rules)


def test_moments_lie_as_their_parameters_and_the_rest_is_whole():
  mesh = mesh_of(1, 2, 2)
  laid = {'w': sharding.NamedSharding(mesh, P('fsdp'))}
  state = {'moment': {'w': 1}, 'count': 2, 'other': {'v': 3}}
  out = sharding.like_params(mesh, state, laid)
  assert out['moment'] == laid
  assert out['count'].spec == out['other']['v'].spec == P()


def test_crossings_are_counted_and_give_back_what_went_up():
  crossing = sharding.Crossing(sharding.make_mesh())
  tree = {'a': np.arange(8, dtype=np.int32), 'b': np.ones((8, 2), bool)}
  with jax.transfer_guard('disallow'):
    up = crossing.up(tree)
    down = crossing.fetch(up)
  assert (crossing.ups, crossing.fetches) == (1, 1)
  assert up['a'].sharding.is_equivalent_to(sharding.batch(crossing.mesh), 1)
  assert isinstance(down['a'], np.ndarray)
  jax.tree.map(np.testing.assert_array_equal, down, tree)


@dataclasses.dataclass
class Seen:
  """An array of several processes, or a shard of it, as one process has it."""
  index: tuple = ()
  data: np.ndarray | None = None
  dtype: type = int
  addressable_shards: tuple = ()
  is_fully_addressable: bool = False
  is_fully_replicated: bool = False


def test_a_process_fetches_its_rows_whole_where_they_lie_in_parts():
  """Rows 2, 3, 6 and 7 of eight, patches in two parts, each on two devices."""
  whole = np.arange(48).reshape(8, 6)
  parts = [(slice(row, row + 2), slice(at, at + 3))
           for row in (6, 2) for at in (3, 0) for _ in range(2)]
  found = sharding.Crossing(mesh_of(1, 1, 1)).fetch(Seen(
      dtype=whole.dtype,
      addressable_shards=tuple(Seen(at, whole[at]) for at in parts)))
  np.testing.assert_array_equal(found, whole[[2, 3, 6, 7]])


def test_one_process_gathers_its_own_rows():
  rows = [{'record': 'a', 'value': 1.5}, {'record': 'ü', 'value': None}]
  assert sharding.gather_json(rows) == rows


def test_media_of_a_batch_are_split_over_sequence_too():
  tree = {'batch': types.Batch(1, 2, 3, {'image': types.Patches(*range(5))}),
          'numbers': 0}
  found = sharding.of_batch(mesh_of(1, 2, 1, sequence=2), tree)
  rows = P(('data', 'fsdp'))
  assert found['numbers'].spec == found['batch'].ids.spec == rows
  for leaf in found['batch'].media['image']:
    assert leaf.spec == P(('data', 'fsdp'), 'sequence')
  whole = sharding.of_batch(mesh_of(1, 2, 2), tree)
  assert {leaf.spec for leaf in jax.tree.leaves(whole)} == {rows}
  prefix = sharding.of_rollout(mesh_of(1, 2, 1, sequence=2))
  assert prefix.tokens.spec == prefix.prompt.mask.spec == rows
  assert prefix.prompt.media.spec == P(('data', 'fsdp'), 'sequence')


def test_an_axis_that_does_not_divide_over_sequence_is_named():
  pin = sharding.Rows(mesh_of(1, 1, 1, sequence=2))
  with pytest.raises(ValueError, match=r"axis 2 of \(1, 1, 9, 4\).*'sequence'"):
    pin(np.zeros((1, 1, 9, 4)), 2)
  assert sharding.Rows()(3) == 3
