"""Where arrays lie, and that every crossing of host and device is counted."""

import jax
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from experiments import base
from medrl import params
from medrl import sharding
from medrl.models import qwen2_5_vl

RULES = {'embed': 'fsdp', 'mlp': 'tensor', 'vocab': 'tensor', 'layers': ''}


def mesh_of(data, fsdp, tensor):
  return jax.sharding.AbstractMesh((data, fsdp, tensor), sharding.AXES)


@pytest.mark.parametrize('sizes, shape', [
    ({}, (8, 1, 1)), ({'fsdp': 4}, (2, 4, 1)),
    ({'data': 1, 'fsdp': -1, 'tensor': 2}, (1, 4, 2)),
    ({'data': 2, 'fsdp': 2, 'tensor': 2}, (2, 2, 2))])
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


def test_one_process_gathers_its_own_rows():
  rows = [{'record': 'a', 'value': 1.5}, {'record': 'ü', 'value': None}]
  assert sharding.gather_json(rows) == rows
