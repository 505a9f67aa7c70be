"""The jitted step: gradient over micro-batches, update. Any loss.

A gradient is that of a total divided by a weight, both summed over micro-
batches, so neither micro-batches nor devices change it. No model and no loss is
here: see `scoring` and `objective`.
"""

import jax
import jax.numpy as jnp
import optax

from medrl import sharding
from medrl.trainers import state as state_lib


def check_plan(section: str, prompts: int, minibatches: int,
               microbatches: int) -> None:
  """Raises ValueError where the prompts of a step do not divide.

  Args:
    section: of the config, for the message.
    prompts: a step.
    minibatches: updates a pass.
    microbatches: accumulated within an update.
  """
  parts = minibatches * microbatches
  if min(minibatches, microbatches) < 1 or prompts % parts:
    raise ValueError(
        f'{section}.minibatches {minibatches} times {section}.microbatches '
        f'{microbatches} does not divide the {prompts} prompts of a step; '
        f'change one of them')


def microbatched(tree, count: int):
  """[P, ...] -> [count, P / count, ...]; each takes every count-th row.

  So a row stays on the device that holds it.
  """
  def leaf(x):
    return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)
  return jax.tree.map(leaf, tree)


def parted(tree, minibatches: int, microbatches: int):
  """[P, ...] -> [n, P / n, ...], all micro-batches of all mini-batches."""
  def leaf(x):
    # A row is [which, micro-batch, mini-batch], from the slowest.
    # Sizes are given: an array may be empty.
    each = x.shape[0] // minibatches // microbatches
    x = x.reshape(each, microbatches, minibatches, *x.shape[1:]).swapaxes(0, 2)
    return x.reshape(minibatches * microbatches, each, *x.shape[3:])
  return jax.tree.map(leaf, tree)


def rejoined(tree, minibatches: int, microbatches: int):
  """The inverse of `parted`."""
  def leaf(x):
    rows = x.shape[0] * x.shape[1]
    x = x.reshape(minibatches, microbatches, *x.shape[1:])
    return x.swapaxes(0, 2).reshape(rows, *x.shape[3:])
  return jax.tree.map(leaf, tree)


def gradient(loss, trained, batch, count: int):
  """Gradient of the mean loss over all micro-batches, and the metrics.

  Args:
    loss: `(trained, part) -> (Mean, means, maxima)`.
    trained: parameters.
    batch: pytree with a leading P.
    count: micro-batches.
  """
  def total(trained, part):
    mean, means, maxima = loss(trained, part)
    return mean.total, (mean.weight, means, maxima)

  def one(part):
    grads, (weight, means, maxima) = jax.grad(total, has_aux=True)(trained,
                                                                   part)
    return (grads, weight, means), maxima

  if count == 1:
    sums, maxima = one(batch)
  else:
    parts = microbatched(batch, count)
    shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], parts))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[0])
    def add(carry, part):
      new, maxima = one(part)
      return jax.tree.map(jnp.add, carry, new), maxima
    sums, maxima = jax.lax.scan(add, zero, parts)
    maxima = jax.tree.map(jnp.max, maxima)
  grads, weight, means = sums
  # A batch in which nothing counts has a gradient of zero, not of 0 / 0.
  grads = jax.tree.map(lambda g: g / jnp.maximum(weight, 1e-9), grads)
  return grads, means, maxima


def apply(state: state_lib.TrainState, grads, tx, rate):
  """One optimiser update, or none where the gradient is not finite.

  Args:
    state: the state; its `step` is left alone, as a trainer step may hold
      several updates.
    grads: of the trained parameters.
    tx: from `state.optimizer`.
    rate: learning rate by number of updates, for the metric.

  Returns:
    the state and metrics.
  """
  norm = optax.tree.norm(grads)
  sound = jnp.isfinite(norm)
  safe = jax.tree.map(lambda g: jnp.where(sound, g, 0.), grads)
  updates, opt_state = tx.update(safe, state.opt_state, state.trained,
                                 sound=sound)
  def keep(new, old):
    # Moments on the host were kept where they were brought.
    return jax.tree.map(
        lambda n, o: n if sharding.on_host(o) else jnp.where(sound, n, o),
        new, old)
  trained = keep(optax.apply_updates(state.trained, updates), state.trained)
  adam = state.opt_state[1][0]   # (clip, (adam, ...)): see state.optimizer
  values = {
      'optim/grad_norm': norm,
      'optim/learning_rate': rate(adam.count),
      'optim/update_norm': jnp.where(sound, optax.tree.norm(updates), 0.),
      'optim/param_norm': optax.tree.norm(trained),
      'optim/skipped': 1. - sound,
  }
  state = state.replace(trained=trained,
                        opt_state=keep(opt_state, state.opt_state))
  return state, values


def step(state: state_lib.TrainState, batch, loss, tx, rate, plan):
  """One trainer step: `epochs` passes of `minibatches` updates over a batch.

  Args:
    state: donated by the caller's jit.
    batch: pytree with a leading P.
    loss: `(trained, frozen, part) -> (Mean, means, maxima)`.
    tx, rate: optimiser and its schedule.
    plan: (epochs, minibatches, microbatches).

  Returns:
    the state one step on, and metrics: name -> Mean or number; numbers are
    means over the updates, maxima over all of them, `optim/skipped` a sum.
  """
  epochs, minibatches, microbatches = plan

  def one(state, part):
    grads, means, maxima = gradient(
        lambda t, b: loss(t, state.frozen, b), state.trained, part,
        microbatches)
    state, values = apply(state, grads, tx, rate)
    return state, (means, maxima, values)

  if epochs * minibatches == 1:
    state, (means, maxima, values) = one(state, batch)
  else:
    parts = microbatched(batch, minibatches)
    def epoch(state, _):
      return jax.lax.scan(one, state, parts)
    state, (means, maxima, values) = jax.lax.scan(epoch, state, None, epochs)
    means = jax.tree.map(jnp.sum, means)
    maxima = jax.tree.map(jnp.max, maxima)
    skipped = jnp.sum(values['optim/skipped'])
    values = jax.tree.map(jnp.mean, values) | {'optim/skipped': skipped}
  return state.replace(step=state.step + 1), means | maxima | values
