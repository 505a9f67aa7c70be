"""Completions of prescribed, very unequal length: three ways to sample them.

Each is named by `config.rollout.fn` and gives the same tokens, as draws depend
on (step, prompt, member, position) alone. Stop ids are banned in a benchmark,
so a budget is all that ends a completion.
"""

import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np

from medrl import types
from medrl.rollout import sampler
from medrl.rollout import sampling
from medrl.rollout import slots

GROUP = 16   # completions a prompt of `cpu_ragged`, which `unshared` undoes
RATIO = 6.   # longest over mean


def lengths(count: int, longest: int, seed: int = 0) -> np.ndarray:
  """Log-normal lengths int32 [count], 1 to `longest`, in random order.

  Quantiles rather than draws, so that their mean is `longest / RATIO` for any
  count above about 30 (with fewer the longest stands out less).
  """
  places = [(i + .5) / count for i in range(count)]
  z = np.array([statistics.NormalDist().inv_cdf(p) for p in places])
  # The largest quantile is RATIO means: exp(z s - s^2 / 2) = RATIO.
  spread = z[-1] - math.sqrt(max(z[-1] ** 2 - 2 * math.log(RATIO), 0.))
  sizes = np.exp(spread * z)
  sizes = np.round(sizes * longest / sizes[-1]).astype(np.int32)
  return np.random.default_rng(seed).permutation(np.maximum(sizes, 1))


def budgets(prompts, options: sampling.Options):
  """Tokens that each completion may have, int32 [P, G]."""
  count = prompts.shape[0] * options.group
  table = jnp.asarray(lengths(count, options.length))
  return table.reshape(-1, options.group)[prompts]


def refilled(family, config, params, batch: types.Batch, key, prompts,
             options: sampling.Options) -> types.Rollout:
  """A completion that ends leaves its slot to the next; see `slots.rollout`."""
  limits = slots.Limits(budget=budgets(prompts, options))
  return slots.rollout(family, config, params, batch, key, prompts, options,
                       limits)


def lockstep(family, config, params, batch: types.Batch, key, prompts,
             options: sampling.Options) -> types.Rollout:
  """All rows go on until the longest is done; `sampler.rollout` and a cut."""
  out = sampler.rollout(family, config, params, batch, key, prompts, options)
  return cut(out, budgets(prompts, options), options.pad)


def unshared(family, config, params, batch: types.Batch, key, prompts,
             options: sampling.Options) -> types.Rollout:
  """Lockstep, and each completion has its prompt to itself.

  `prompts` number the completions, member by member: `options.group` is 1.
  """
  def one(number):
    of_prompt = jax.random.fold_in(key, number // GROUP)
    return jax.random.fold_in(of_prompt, number % GROUP)
  keys = jax.vmap(one)(prompts)[:, None]
  state = sampler.start(family, config, params, batch, keys, options)
  state = sampler.decode(family, config, params, state, options,
                         options.length)
  out = sampler.finish(batch, state)
  return cut(out, budgets(prompts, options), options.pad)


def cut(out: types.Rollout, limits, pad: int) -> types.Rollout:
  """The first `limits` [P, G] tokens of each completion."""
  kept = jnp.arange(out.tokens.shape[-1]) < limits[..., None]
  return out._replace(
      tokens=jnp.where(kept, out.tokens, pad),
      action_mask=out.action_mask & kept, token_mask=out.token_mask & kept,
      passes=jnp.minimum(out.passes, limits),
      **{name: jnp.where(kept, getattr(out, name), 0.)
         for name in ('logps', 'drawn_logps', 'entropy')})
