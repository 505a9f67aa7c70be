"""The jitted step: score, loss, gradient, update. Supervised or by reward.

Losses are of arrays; the model enters in `policy_logps` alone. A gradient is
that of a total divided by a weight, both summed over micro-batches, so neither
micro-batches nor devices change it.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from medrl import metrics
from medrl import params as params_lib
from medrl import types
from medrl.trainers import state as state_lib

Mean = metrics.Mean


@dataclasses.dataclass(frozen=True)
class Scorer:
  """What turns parameters and tokens into log-probs; all static.

  `logps` is `rl.logps.token_logps`; `banned` ids are outside the policy.
  """
  family: Any
  config: Any
  dtype: Any
  chunk: int
  banned: tuple[int, ...]
  logps: Callable


@dataclasses.dataclass(frozen=True)
class Objective:
  """The words of a GRPO-family loss; see `rl/recipes.py`.

  `on_policy` says that a rollout gets one update, so the old log-probs are the
  new ones and need no pass of their own.
  """
  ratio: Callable
  surrogate: Callable
  reduce: Callable
  kl: Callable
  low: float
  high: float
  kl_weight: float
  length: int
  on_policy: bool


def policy_logps(scorer: Scorer, params, rollout: types.Rollout):
  """Log-prob and entropy [P, G, T] of each token of a rollout.

  The prompt is encoded once per group and completions attend to it, as they
  did while they were sampled.
  """
  family, config = scorer.family, scorer.config
  params = params_lib.cast(params, scorer.dtype)
  prompt = rollout.prompt
  soft = family.encode(params, config, prompt.media)
  hidden, cache, _ = family.forward(
      params, config, prompt.ids[:, None], prompt.positions[:, None],
      prompt.mask[:, None], soft=soft)
  last = jnp.max(jnp.where(prompt.mask, jnp.arange(prompt.mask.shape[1]), 0),
                 axis=1)
  first = jnp.take_along_axis(hidden, last[:, None, None, None], axis=2)
  group, length = rollout.tokens.shape[1:]
  first = jnp.broadcast_to(first, (first.shape[0], group, *first.shape[2:]))
  written, _, _ = family.forward(params, config, rollout.tokens,
                                 rollout.positions, rollout.token_mask,
                                 cache=cache)
  # A token follows the last one before it that is there; -1 is the prompt.
  places = jnp.where(rollout.token_mask, jnp.arange(length), -1)
  before = jax.lax.cummax(places, axis=2)[..., :-1]
  before = jnp.pad(before, ((0, 0), (0, 0), (1, 0)), constant_values=-1)
  states = jnp.concatenate([first, written], axis=2)
  states = jnp.take_along_axis(states, before[..., None] + 1, axis=2)
  return _logps(scorer, params, states, rollout.tokens, rollout.action_mask)


def packed_logps(scorer: Scorer, params, packed: types.Packed):
  """Log-prob and entropy [R, S] of the learned tokens of packed rows.

  A demonstration stands behind its prompt, so what predicts its first token is
  the prompt's last, of the same segment.
  """
  family, config = scorer.family, scorer.config
  params = params_lib.cast(params, scorer.dtype)
  prompt = packed.prompt
  soft = family.encode(params, config, prompt.media)
  hidden, _, _ = family.forward(
      params, config, prompt.ids[:, None], prompt.positions[:, None],
      prompt.mask[:, None], soft=soft, segments=packed.segments[:, None])
  before = jnp.roll(hidden[:, 0], 1, axis=1)
  return _logps(scorer, params, before, prompt.ids, packed.target)


def _logps(scorer: Scorer, params, states, tokens, mask):
  """Log-prob and entropy of tokens given the states before them, 0 where the
  mask is False."""
  banned = None
  if scorer.banned:
    banned = jnp.zeros(scorer.config.text.vocab, bool).at[
        jnp.array(scorer.banned)].set(True)
  # A place that holds no token has a pad there, which may be banned.
  logps, entropy = scorer.logps(
      states, scorer.family.head(params, scorer.config),
      jnp.where(mask, tokens, 0), chunk=scorer.chunk, banned=banned)
  return jnp.where(mask, logps, 0.), jnp.where(mask, entropy, 0.)


def given(batch: types.Batch, tokens, mask) -> types.Rollout:
  """Demonstrations [P, T] as a rollout with one completion a prompt."""
  reach = jnp.max(jnp.where(batch.mask[..., None], batch.positions, -1),
                  axis=(1, 2))
  positions = reach[:, None] + 1 + jnp.arange(tokens.shape[1])
  zeros = jnp.zeros(tokens.shape, jnp.float32)[:, None]
  return types.Rollout(
      prompt=batch, tokens=tokens[:, None], action_mask=mask[:, None],
      token_mask=mask[:, None],
      positions=jnp.repeat(positions[:, None, :, None], 3, axis=-1),
      logps=zeros, entropy=zeros,
      finished=jnp.ones((tokens.shape[0], 1), bool))


def rl_loss(objective: Objective, logps, entropy, batch: types.TrainBatch):
  """The objective on arrays.

  Args:
    objective: static words.
    logps, entropy: [P, G, T] of the policy being updated.
    batch: advantages, old and reference log-probs.

  Returns:
    Mean of the loss, dict of Means, dict of maxima.
  """
  mask = batch.rollout.action_mask
  old = batch.old_logps
  if objective.on_policy:
    old = jax.lax.stop_gradient(logps)
  ratio = objective.ratio(logps, old, mask)
  losses, clipped = objective.surrogate(
      ratio, batch.advantages, logps, low=objective.low, high=objective.high)
  def reduce(x):
    return objective.reduce(x, mask, batch.weights, length=objective.length)
  policy = reduce(losses)
  count = jnp.sum(mask).astype(jnp.float32)
  def over_tokens(x):
    return Mean(jnp.sum(jnp.where(mask, x, 0.)), count)
  gap = jnp.abs(old - batch.rollout.logps)
  means = {'loss/policy': policy,
           'policy/clip_fraction': over_tokens(clipped.astype(jnp.float32)),
           'policy/entropy': over_tokens(entropy),
           'rollout/logp_gap': over_tokens(gap)}
  total = policy.total
  if objective.kl_weight:
    divergence = objective.kl(logps, batch.ref_logps)
    kl = reduce(divergence)
    kl = Mean(objective.kl_weight * kl.total, kl.weight)
    total = total + kl.total
    means |= {'loss/kl': kl, 'policy/kl_ref': over_tokens(divergence)}
  loss = Mean(total, policy.weight)
  maxima = {'policy/ratio_max': jnp.max(jnp.where(mask, ratio, 0.)),
            'rollout/logp_gap_max': jnp.max(jnp.where(mask, gap, 0.))}
  return loss, means | {'loss/total': loss}, maxima


def sft_loss(logps, entropy, mask):
  """Cross-entropy of demonstration tokens, per token."""
  count = jnp.sum(mask).astype(jnp.float32)
  loss = Mean(-jnp.sum(logps), count)
  return loss, {'loss/sft': loss, 'loss/total': loss,
                'policy/entropy': Mean(jnp.sum(entropy), count)}, {}


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


def rejoined(tree):
  """The inverse of `microbatched`."""
  return jax.tree.map(
      lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


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
  updates, opt_state = tx.update(safe, state.opt_state, state.trained)
  def keep(new, old):
    return jax.tree.map(lambda n, o: jnp.where(sound, n, o), new, old)
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
