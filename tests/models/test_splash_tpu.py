"""Splash attention compiles with its gradient for TPUs that are not here.

Ahead of time, in a process of its own, since libtpu refuses XLA's flags for the
CPU. What it computes is in test_splash.
"""

import json
import re
import time

import jax
from jax.experimental import topologies
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import pytest

from medrl import sharding
from medrl.models import group_mask
from medrl.models import splash
from tests import elsewhere


# Topology, mesh, H, K, d, L and groups (None: causal, packed).
TARGETS = {
    'gqa': ('v5e:4x4', (1, 4, 1, 4), 28, 4, 128, 5120, (1024, 512, 8)),
    'gqa_other_chip': ('v6e:4x4', (1, 4, 1, 4), 28, 4, 128, 5120,
                       (1024, 512, 8)),
    'width_64': ('v5e:4x4', (4, 4, 1, 1), 4, 4, 64, 1024, (512, 256, 2)),
    'width_80': ('v5e:4x4', (4, 4, 1, 1), 4, 2, 80, 1024, (512, 256, 2)),
    'packed': ('v5e:4x4', (4, 4, 1, 1), 4, 2, 128, 1024, None),
    'split': ('v5e:4x4', (1, 4, 4, 1), 28, 4, 128, 5120, (1024, 512, 8)),
    'repeated_keys': ('v5e:4x4', (1, 4, 1, 4), 16, 2, 128, 640, (256, 128, 3)),
}
# Tells libtpu that it is no part of a pod, and need not be alone here.


def compiled(target, make=splash.Rows, policy=None):
  """Compiles attention with gradient in two recomputed layers, for a TPU."""
  topology, sizes, heads, kv_heads, width, length, groups = target
  mesh = sharding.make_mesh(*sizes, devices=topologies.get_topology_desc(
      platform='tpu', topology_name=topology).devices)
  rows = mesh.shape['data'] * mesh.shape['fsdp']

  def abstract(shape, dtype, *axes):
    spec = PartitionSpec(sharding.BATCH_AXES, sharding.LONG, *axes)
    return jax.ShapeDtypeStruct((rows, length, *shape), dtype,
                                sharding=NamedSharding(mesh, spec))

  def loss(query, key, value, mask, segments):
    layer = jax.checkpoint(lambda x, _: (make(mesh)(
        x, key, value, mask, groups, None if groups else segments), None),
                           policy=policy)
    out, _ = jax.lax.scan(layer, query, None, length=2)
    return jnp.sum(out.astype(jnp.float32) ** 2)

  # Key heads that do not divide over `tensor` are whole on each device.
  query, key = (abstract((n, width), jnp.bfloat16, 'tensor' if
                         n % mesh.shape['tensor'] == 0 else None)
                for n in (heads, kv_heads))
  began = time.perf_counter()
  program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(
      query, key, key, abstract((), bool), abstract((), jnp.int32)).compile()
  text = program.as_text()
  return {
      'seconds': time.perf_counter() - began,
      'temp_bytes': program.memory_analysis().temp_size_in_bytes,
      'kernels': sorted(re.findall(
          r'splash_mha_(\w+?)_segmented.*tpu_custom_call', text)),
      'square': f'{length},{length}]' in text,
      'exchanged': sorted(set(re.findall(
          r' (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)'
          r'(?:-start)?\(', text)))}


def print_compiled():
  try:
    topologies.get_topology_desc(platform='tpu', topology_name='v5e:4x4')
  except Exception as error:   # whatever libtpu has against this machine
    print(json.dumps({'absent': repr(error)}))
    return
  saved = compiled(TARGETS['width_64'], policy=(
      jax.checkpoint_policies.save_only_these_names(splash.SAVED)))
  print(json.dumps({'saved': saved} | {
      k: compiled(v) for k, v in TARGETS.items()}))


def print_memory():
  """Temporary bytes for one row a device, splash and plain."""
  target = ('v5e:4x4', (4, 4, 1, 1), *TARGETS['gqa'][2:])
  print(json.dumps({
      'splash': compiled(target),
      'plain': compiled(target, lambda mesh: group_mask.PlainRows())}))


@pytest.fixture(scope='module')
def programs():
  return elsewhere.printed(__name__, 'print_compiled()', elsewhere.tpu())


@pytest.mark.parametrize('target', TARGETS)
def test_compiles_with_gradient_for_a_tpu(programs, target):
  found = programs[target]
  # Forward in the layers, and once more where the gradient recomputes them.
  assert found['kernels'] == ['dkv', 'dq', 'fwd', 'fwd']
  assert not found['square'], 'an array of L x L'
  if target == 'split':   # keys come together, their gradients go apart
    assert {*found['exchanged']} == {'all-gather', 'reduce-scatter'}
  elif target != 'repeated_keys':   # their gradients add up over devices
    assert not found['exchanged'], 'rows and heads need nothing of each other'


def test_a_remat_policy_can_save_what_the_gradient_needs(programs):
  assert programs['saved']['kernels'] == ['dkv', 'dq', 'fwd']


@pytest.mark.slow   # the plain program alone takes half a minute
def test_needs_a_fraction_of_the_memory_of_plain_attention():
  found = elsewhere.printed(__name__, 'print_memory()', elsewhere.tpu())
  assert found['plain']['square'], 'the check for L x L finds it where it is'
  assert found['splash']['temp_bytes'] * 10 < found['plain']['temp_bytes']
