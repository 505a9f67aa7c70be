"""Policies change what is kept and no value, on a small layer of our own.

That the decoder and the tower are wrapped in them is in
tests/trainers/test_remat; what a TPU keeps, here.
"""

import json

import jax
from jax.experimental import topologies
from jax.extend import core
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import sharding
from medrl.models import remat
from tests import elsewhere

HEADS = 2


def shapes(layers, rows, length, width):
  """(weights, activations) of the stand-in, abstract."""
  sizes = {name: (width, width) for name in ('query', 'key', 'value', 'out')}
  sizes |= {'gate': (width, 4 * width), 'up': (width, 4 * width),
            'down': (4 * width, width)}
  def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)
  return ({k: leaf(layers, *s) for k, s in sizes.items()},
          leaf(rows, length, width))


def layer(x, w):
  """Attention and gated MLP with the marks that a decoder layer has."""
  def linear(y, name):
    # As one product of matrices, which has no batch axes.
    return (y.reshape(-1, y.shape[-1]) @ w[name]).reshape(*y.shape[:-1], -1)
  y = jnp.tanh(x)
  q, k, v = (remat.mark(linear(y, n).reshape(*y.shape[:2], HEADS, -1),
                        'query_key_value') for n in ('query', 'key', 'value'))
  scores = jax.nn.softmax(jnp.einsum('bthd,bshd->bhts', q, k))
  y = remat.mark(jnp.einsum('bhts,bshd->bthd', scores, v).reshape(x.shape),
                 'attention')
  x = remat.mark(x + linear(y, 'out'), 'mlp_input')
  y = jnp.tanh(x)
  return x + linear(jax.nn.silu(linear(y, 'gate')) * linear(y, 'up'),
                    'down'), None


def gradient(name):
  def loss(w, x):
    return jnp.mean(jax.lax.scan(remat.wrap(layer, name), x, w)[0] ** 2)
  return jax.jit(jax.value_and_grad(loss, (0, 1)))


def products(jaxpr) -> int:
  """Matrix products of a program and of all that it calls."""
  count = 0
  for equation in jaxpr.eqns:
    count += equation.primitive.name == 'dot_general'
    for value in equation.params.values():
      if isinstance(value, core.ClosedJaxpr):
        value = value.jaxpr
      if isinstance(value, core.Jaxpr):
        count += products(value)
  return count


# Nine products forward, twice as many for their gradients, and what is computed
# again: with dots attention's two; its scores, gate and up where what it gives
# is kept; queries, keys and values where they are not; and where nothing is,
# all but `down`, whose result no gradient asks for.
AGAIN = {'none': 0, 'dots': 2, 'minimal': 6, 'offload': 3, 'full': 8}


@pytest.mark.parametrize('name', remat.NAMES)
def test_a_policy_computes_again_what_it_says_and_changes_no_number(name):
  random = np.random.default_rng(0)
  w, x = jax.tree.map(lambda s: random.normal(0, .2, s.shape).astype(
      np.float32), shapes(3, 2, 8, 16))
  traced = gradient(name).trace(w, x)
  assert products(traced.jaxpr.jaxpr) == 9 + 18 + AGAIN[name]
  got, want = gradient(name)(w, x), gradient('none')(w, x)
  # The same float32 products; compilers may fuse what is between them.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-6), got, want)


def test_what_keeps_less_needs_less_memory():
  abstract = shapes(6, 4, 32, 64)
  held = [gradient(name).lower(*abstract).compile().memory_analysis()
          .temp_size_in_bytes for name in ('full', 'minimal', 'dots', 'none')]
  assert held == sorted(held) and len(set(held)) == 4, held


@pytest.mark.parametrize('call', [remat.check,
                                  lambda name: remat.wrap(layer, name)])
def test_an_unknown_policy_is_refused(call):
  with pytest.raises(ValueError, match="'some' is not among none, dots, min"):
    call('some')


def test_a_mark_that_no_policy_keeps_is_refused():
  with pytest.raises(ValueError, match="'gate' is not among the marks query_"):
    remat.mark(jnp.ones(2), 'gate')


def print_tpu():
  """Temporary bytes of a device and of its host, compiled for a TPU."""
  devices = topologies.get_topology_desc(
      platform='tpu', topology_name='v5e:2x2').devices
  whole = sharding.replicated(sharding.make_mesh(devices=devices))
  abstract = jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=whole),
      shapes(16, 2, 256, 128))
  memory = gradient('offload').lower(*abstract).compile().memory_analysis()
  print(json.dumps((memory.temp_size_in_bytes, memory.host_temp_size_in_bytes)))


def test_on_a_tpu_offloaded_activations_lie_on_the_host():
  here, host = elsewhere.printed(__name__, 'print_tpu()', elsewhere.tpu())
  # Queries, keys, values, what attention gives and the MLP's input.
  kept = 16 * 5 * 2 * 256 * 128 * 4
  assert host == kept
  assert here < kept
