"""token_logps with the vocabulary split over devices: equal, and nothing moves.

Over eight fake devices, and compiled for a TPU that is not here. Both in
processes of their own: jax counts its devices once.
"""

import json
import math
import re

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from medrl import sharding
from medrl.rl import logps
from tests import elsewhere

SPECS = {'whole_width': PartitionSpec(None, 'tensor'),
         'split_width': PartitionSpec('fsdp', 'tensor')}
_DTYPES = r'(?:f32|bf16|f16|s32|u32|s8|u8|pred)'


def loss(hidden, head, targets, chunk, shards):
  both = logps.token_logps(hidden, head, targets, chunk=chunk, shards=shards)
  return (both[0] - .1 * both[1]).mean(), both


def program(mesh, spec, sizes, dtype, shards):
  """Value and gradient compiled for a mesh, and how its arguments lie on it."""
  rows, width, size, chunk = sizes
  laid = (sharding.batch(mesh), NamedSharding(mesh, spec), sharding.batch(mesh))
  abstract = [jax.ShapeDtypeStruct(shape, kind, sharding=where)
              for shape, kind, where in zip(
                  ((rows // 8, 8, width), (width, size), (rows // 8, 8)),
                  (dtype, dtype, jnp.int32), laid)]
  function = jax.value_and_grad(lambda *a: loss(*a, chunk, shards), (0, 1),
                                has_aux=True)
  out = (None, (laid[0], laid[1]))
  return jax.jit(function, out_shardings=out).lower(*abstract).compile(), laid


def facts(compiled):
  """What a program's text says: its largest array, and what moves how."""
  text = compiled.as_text()
  shapes = [[int(n) for n in found.split(',')] for found in
            re.findall(rf'\b{_DTYPES}\[([\d,]+)\]', text)]
  gathers = re.findall(
      r'= (.*?) all-gather(?:-start)?\(.*dimensions=\{(\d+)\}', text)
  return {
      'largest': max(math.prod(shape) for shape in shapes),
      # The length of each axis that is gathered, from the last shape named:
      # where it starts early, the one before is what goes in.
      'gathered': [int(re.findall(r'\[([\d,]+)\]', result)[-1].split(',')[
          int(axis)]) for result, axis in gathers],
      'all_to_all': 'all-to-all' in text}


def print_fake():
  """Eight devices of the CPU: facts, and the distance from the unsharded."""
  mesh = sharding.make_mesh(1, 2, 1, 4)
  sizes = rows, width, size, chunk = 208, 16, 4000, 96
  keys = jax.random.split(jax.random.key(0), 3)
  arrays = (jax.random.normal(keys[0], (rows // 8, 8, width)),
            jax.random.normal(keys[1], (width, size)),
            jax.random.randint(keys[2], (rows // 8, 8), 0, size))
  right = jax.jit(jax.value_and_grad(
      lambda *a: loss(*a, chunk, 1), (0, 1), has_aux=True))(*arrays)
  found = {}
  for name, spec in SPECS.items():
    compiled, laid = program(mesh, spec, sizes, jnp.float32, 4)
    result = compiled(*jax.device_put(arrays, laid))
    found[name] = facts(compiled) | {
        'gaps': [float(np.linalg.norm(a - b) / np.linalg.norm(b))
                 for a, b in zip(*map(jax.tree.leaves, (result, right)))],
        'grad_specs': [str(x.sharding.spec) for x in result[1]]}
  # As if nobody had said that the vocabulary is split.
  found['unaware'] = facts(program(mesh, SPECS['whole_width'], sizes,
                                   jnp.float32, 1)[0])
  print(json.dumps(found))


def print_tpu():
  mesh = sharding.make_mesh(1, 4, 1, 4, devices=elsewhere.topology('v5e:4x4'))
  print(json.dumps({
      name: facts(program(mesh, spec, (512, 256, 14336, 1024), jnp.bfloat16,
                          4)[0])
      for name, spec in SPECS.items()}))


@pytest.fixture(scope='module')
def fake():
  return elsewhere.printed(__name__, 'print_fake()', elsewhere.fake_devices())


@pytest.fixture(scope='module')
def tpu():
  return elsewhere.printed(__name__, 'print_tpu()', elsewhere.tpu())


def check(found, width, largest):
  """Of the head, at most the width is gathered, a chunk at a time.

  `largest` is the greatest of a shard of the head as it is stored, a chunk of
  it with its width whole, and a tile of a chunk's logits: a gathered head, its
  gradient, or all logits of a shard would be larger.
  """
  assert found['largest'] <= largest
  assert set(found['gathered']) <= {width}
  assert not found['all_to_all']


@pytest.mark.parametrize('name', SPECS)
def test_fake_devices(fake, name):
  found = fake[name]
  fsdp = 2 if name == 'split_width' else 1
  check(found, 16, max(1000 * 16 // fsdp, 96 * 16, 208 // 2 * 96))
  assert bool(found['gathered']) == (name == 'split_width')
  # Float32, summed in another order.
  assert max(found['gaps']) < 1e-6
  assert found['grad_specs'][1] == str(SPECS[name])


def test_the_check_fails_where_shards_are_not_known(fake):
  assert fake['unaware']['largest'] >= 4000 * 16


@pytest.mark.parametrize('name', SPECS)
def test_tpu(tpu, name):
  fsdp = 4 if name == 'split_width' else 1
  check(tpu[name], 256, max(3584 * 256 // fsdp, 1024 * 256, 512 // 4 * 1024))
