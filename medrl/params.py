"""Parameters declared once; init, abstract values, axes and count derive.

A tree of `Spec` is a nested dict. This file knows no model and no mesh:
`sharding.py` turns the logical axes into shardings.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Spec:
  """One parameter: its shape, a logical name for each axis, and its start.

  `init` is 'normal' (std `scale`), 'zeros' or 'ones'. The axis named 'layers'
  stacks the layers of a scan.
  """
  shape: tuple[int, ...]
  axes: tuple[str, ...]
  init: str = 'normal'
  scale: float = 0.02

  def __post_init__(self):
    if len(self.shape) != len(self.axes):
      raise ValueError(f'shape {self.shape} and axes {self.axes} differ in '
                       f'length')
    if self.init not in ('normal', 'zeros', 'ones'):
      raise ValueError(f'init {self.init!r} is not normal, zeros or ones')


def init(key: jax.Array, specs, dtype=jnp.float32):
  """Random parameters of the tree `specs`; one key per leaf, in path order."""
  leaves, treedef = jax.tree.flatten(specs)
  keys = jax.random.split(key, len(leaves))

  def leaf(key, spec):
    if spec.init == 'normal':
      value = spec.scale * jax.random.normal(key, spec.shape, jnp.float32)
    else:
      value = jnp.full(spec.shape, float(spec.init == 'ones'), jnp.float32)
    return value.astype(dtype)

  return treedef.unflatten([leaf(k, s) for k, s in zip(keys, leaves)])


def abstract(specs, dtype=jnp.float32):
  """Shapes and dtypes of the parameters, without their values."""
  return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype), specs)


def count(specs) -> int:
  """Number of parameters in the tree."""
  return sum(math.prod(s.shape) for s in jax.tree.leaves(specs))


def cast(params, dtype):
  """Every floating leaf in `dtype`; a view where it already is."""
  def leaf(x):
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
  return jax.tree.map(leaf, params)
