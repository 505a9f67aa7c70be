"""TrainState: what an update hands back, and how it is made and laid out.

Trained and frozen parameters are two flat-keyed halves of one tree, so an
optimiser never holds state for what does not train.
"""

from collections.abc import Sequence
import functools
from typing import Any

import flax.struct
from flax import traverse_util
import jax
import jax.numpy as jnp
import optax

from medrl import params as params_lib
from medrl import sharding
from medrl.trainers import moments

# What config.model.offload may name.
OFFLOADS = ('reference', 'moments')


@flax.struct.dataclass
class TrainState:
  """Everything an update changes, and the frozen parameters it needs."""
  trained: Any       # nested dict, float32 masters
  frozen: Any        # nested dict in the compute dtype; saved once, apart
  opt_state: Any     # optax state of `trained`
  step: jax.Array    # int32 []: finished trainer steps
  key: jax.Array     # typed key; a step's draws fold `step` in, it never moves


def split(tree, freeze: Sequence[str]):
  """Nested dict -> (trained, frozen), by path prefixes such as 'vision/blocks'.

  Raises:
    ValueError: a prefix that no path has.
  """
  flat = traverse_util.flatten_dict(tree, sep='/')
  def below(path, prefix):
    return path == prefix or path.startswith(prefix + '/')
  for prefix in freeze:
    if not any(below(path, prefix) for path in flat):
      raise ValueError(f'model.freeze names {prefix!r}, but the parameters are '
                       f'{sorted(flat)}')
  frozen = {p: v for p, v in flat.items() if any(below(p, f) for f in freeze)}
  trained = {p: v for p, v in flat.items() if p not in frozen}
  return (traverse_util.unflatten_dict(trained, sep='/'),
          traverse_util.unflatten_dict(frozen, sep='/'))


def merge(trained, frozen):
  """The inverse of `split`."""
  flat = traverse_util.flatten_dict(trained, sep='/')
  flat |= traverse_util.flatten_dict(frozen, sep='/')
  return traverse_util.unflatten_dict(flat, sep='/')


def schedule(options, steps: int):
  """Learning rate by update: linear warm-up, then constant or cosine to 0."""
  warmup = min(options.warmup, max(steps - 1, 0))
  if options.schedule == 'constant':
    after = optax.constant_schedule(options.learning_rate)
  elif options.schedule == 'cosine':
    after = optax.cosine_decay_schedule(options.learning_rate,
                                        max(steps - warmup, 1))
  else:
    raise ValueError(f'optim.schedule {options.schedule!r} is not constant or '
                     f'cosine')
  # From 1 / (warmup + 1), so that the first update is not lost.
  start = options.learning_rate / (warmup + 1)
  rise = optax.linear_schedule(start, options.learning_rate, warmup)
  return optax.join_schedules([rise, after], [warmup])


def optimizer(options, steps: int, specs):
  """Clipped AdamW (Loshchilov & Hutter, arXiv 1711.05101); weight decay on
  matrices, not on norms and biases.

  Args:
    options: config.rl.optim or config.sft.optim.
    steps: number of updates in the whole run.
    specs: tree of `params.Spec` of the trained parameters.
  """
  decayed = jax.tree.map(lambda s: s.init == 'normal', specs)
  return optax.chain(
      optax.clip_by_global_norm(options.clip_norm),
      optax.chain(
          moments.adam(options, specs),
          optax.add_decayed_weights(options.weight_decay, decayed),
          optax.scale_by_learning_rate(schedule(options, steps))))


def shardings(mesh, specs, rules, freeze, tx,
              offload: Sequence[str] = ()) -> TrainState:
  """A TrainState of shardings: moments lie as their parameters do.

  Where `offload` (config.model.offload) names 'moments', in host memory.

  Raises:
    ValueError: a name that is not among `OFFLOADS`, or no such memory.
  """
  for name in offload:
    if name not in OFFLOADS:
      raise ValueError(f'model.offload names {name!r}; it may name '
                       f'{", ".join(OFFLOADS)}')
  trained, frozen = split(specs, freeze)
  laid = sharding.of_specs(mesh, trained, rules)
  opt_state = jax.eval_shape(tx.init, params_lib.abstract(trained))
  away = sharding.to_host(laid) if 'moments' in offload else laid
  whole = sharding.replicated(mesh)
  return TrainState(
      trained=laid, frozen=sharding.of_specs(mesh, frozen, rules),
      opt_state=sharding.like_params(mesh, opt_state, away),
      step=whole, key=whole)


def create(params, seed: int, freeze, tx, laid: TrainState,
           frozen_dtype) -> TrainState:
  """A fresh state around given parameters, which no copy is made of.

  An update that is given the state takes the parameters' memory: what else is
  made from them is made before.

  Raises:
    ValueError: trained parameters that are not float32: with AdamW at usual
      rates a bfloat16 weight does not move at all.
  """
  trained, frozen = split(params, freeze)
  for leaf in jax.tree.leaves(trained):
    if leaf.dtype != jnp.float32:
      raise ValueError(f'a trained parameter is {leaf.dtype}; it needs a '
                       f'float32 master, or its updates round to nothing')

  @functools.partial(jax.jit, out_shardings=laid.replace(trained=None))
  def rest(trained, frozen):
    return TrainState(
        trained=None, frozen=params_lib.cast(frozen, frozen_dtype),
        opt_state=tx.init(trained), step=jnp.zeros((), jnp.int32),
        key=jax.random.key(seed))

  trained = jax.device_put(trained, laid.trained)
  return rest(trained, frozen).replace(trained=trained)


def abstract(state: TrainState) -> TrainState:
  """Shapes, dtypes and shardings of a state, for a restore."""
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      state)
