"""Policy losses in three words: a ratio, a surrogate and a reduction.

All take arrays [P, G, T] (any leading axes will do) and are written so that a
token outside the mask changes neither value nor gradient, whatever it holds.
Not here: advantages, the KL term, and anything that knows a model or a config.

Contracts:
  ratio      `(logps, old_logps, mask) -> ratio [P, G, T]`
  surrogate  `(ratio, advantages, logps, mask, *, low, high)
             -> (loss [P, G, T], clipped bool [P, G, T])`
  reduction  `(losses, mask, weights=None, *, length=None) -> Mean`
Further keywords are options. `low` and `high` are numbers or broadcast against
the ratio (a range of clipping for each completion: [P, G, 1]). `clipped` is
True where a bound took the token's gradient, or capped its weight.

A reduction returns (total, weight). Totals and weights summed over
micro-batches give the unsplit loss exactly; an average of averages does not.

At the extremes: a log-prob of -inf counts as -1e9, and two of them as a ratio
of 1; a ratio is at most exp(20) for a token and exp(10) for a completion, and
beyond that has no gradient. With finite advantages all losses are then finite.
A completion without tokens adds nothing, and only reductions that say so count
it.
"""

import chex
import jax
import jax.numpy as jnp

from medrl import metrics
from medrl.rl import gaps


def token_ratio(logps: jax.Array, old_logps: jax.Array, mask: jax.Array, *,
                bound: float = 20.) -> jax.Array:
  """exp(logp - old logp) of each token, 1 outside the mask.

  The log ratio is clamped to +-`bound` first, beyond which no gradient flows:
  20 as verl, EasyR1 and OpenRLHF; TRL and NeMo RL clamp nothing.
  """
  gap = gaps.log_ratio(logps, old_logps, mask)
  return jnp.exp(jnp.clip(gap, -bound, bound))


def sequence_ratio(logps: jax.Array, old_logps: jax.Array, mask: jax.Array, *,
                   top: float = 10.) -> jax.Array:
  """exp of a completion's mean log ratio, given to each of its tokens: GSPO.

  Token form: its value is the sequence's ratio s, its gradient s * d logp of
  the token alone, so that advantages may differ between tokens. The log is
  clamped to at most `top`. Group Sequence Policy Optimization, arXiv
  2507.18071, equations 7 and 14.
  """
  gap = gaps.log_ratio(logps, old_logps, mask)
  straight = gap - jax.lax.stop_gradient(gap)
  mean = jax.lax.stop_gradient(gaps.mean(gap, mask))
  return jnp.exp(jnp.minimum(straight + mean, top))


def geometric_ratio(logps: jax.Array, old_logps: jax.Array, mask: jax.Array, *,
                    top: float = 10.) -> jax.Array:
  """The geometric mean of a completion's ratios, with its whole gradient.

  Values are those of `sequence_ratio`; here each token's ratio moves with all
  log-probs of its completion, as in TRL's and NeMo RL's GSPO. With one
  advantage for a completion and `sequence_mean` the gradients are the same.
  """
  gap = gaps.log_ratio(logps, old_logps, mask)
  mean = jnp.broadcast_to(gaps.mean(gap, mask), gap.shape)
  return jnp.exp(jnp.minimum(mean, top))


def clip(ratio: jax.Array, advantages: jax.Array, logps: jax.Array,
         mask: jax.Array, *, low, high) -> tuple[jax.Array, jax.Array]:
  """-min(r A, clip(r, 1 - low, 1 + high) A): PPO, arXiv 1707.06347, eq. 7.

  DAPO (arXiv 2503.14476, eq. 10) sets `high` above `low`. `logps` and `mask`
  are not read. `clipped` is True where the clipped term is the smaller one.
  """
  chex.assert_equal_shape([ratio, advantages, logps, mask])
  free = ratio * advantages
  bound = jnp.clip(ratio, 1 - low, 1 + high) * advantages
  return -jnp.minimum(free, bound), bound < free


def dual_clip(ratio: jax.Array, advantages: jax.Array, logps: jax.Array,
              mask: jax.Array, *, low, high, c: float = 3.
              ) -> tuple[jax.Array, jax.Array]:
  """`clip`, at most -c A where A < 0: arXiv 1912.09729, equation 5.

  A bad token that has become much likelier does not drive the update alone. c
  is 3 in verl; it is TRL's `delta` where that exceeds 1 + high.
  """
  losses, clipped = clip(ratio, advantages, logps, mask, low=low, high=high)
  most = jnp.where(advantages < 0, -c * advantages, jnp.inf)
  return jnp.minimum(losses, most), clipped | (most < losses)


def unclipped(ratio: jax.Array, advantages: jax.Array, logps: jax.Array,
              mask: jax.Array, *, low, high) -> tuple[jax.Array, jax.Array]:
  """-r A: the policy gradient weighed by the ratio, without any bound.

  On policy the ratio is 1 and this is `gpg` with another value (NeMo RL's
  force_on_policy_ratio). Nothing but ratio and advantage is read.
  """
  del low, high
  chex.assert_equal_shape([ratio, advantages, logps, mask])
  return -ratio * advantages, jnp.zeros(ratio.shape, bool)


def gpg(ratio: jax.Array, advantages: jax.Array, logps: jax.Array,
        mask: jax.Array, *, low, high) -> tuple[jax.Array, jax.Array]:
  """-A logp: REINFORCE, as in GPG, arXiv 2504.02546. No ratio, no bound."""
  del low, high
  chex.assert_equal_shape([ratio, advantages, logps, mask])
  return -advantages * gaps.known(logps, mask), jnp.zeros(ratio.shape, bool)


def cispo(ratio: jax.Array, advantages: jax.Array, logps: jax.Array,
          mask: jax.Array, *, low, high, absolute: bool = False
          ) -> tuple[jax.Array, jax.Array]:
  """-sg[clip(r, 1 - low, 1 + high)] A logp: MiniMax-M1, arXiv 2506.13585.

  No token loses its gradient; `low` of 1 or more sets no lower bound.
  `clipped` is True where the weight was capped.

  Bounds are relative as in verl and NeMo RL. EasyR1's clip of log r to
  [log(1 - low), log(1 + high)] is the same one; its example's low 0 and high 4
  keep the weight within [1, 5]. `absolute`: the weight is at most `high`, and
  `low` is not read (TRL, whose example is 5).
  """
  chex.assert_equal_shape([ratio, advantages, logps, mask])
  bottom, top = (0., high) if absolute else (1 - low, 1 + high)
  weight = jax.lax.stop_gradient(jnp.clip(ratio, bottom, top))
  clipped = (ratio < bottom) | (ratio > top)
  return -weight * advantages * gaps.known(logps, mask), clipped


def sapo(ratio: jax.Array, advantages: jax.Array, logps: jax.Array,
         mask: jax.Array, *, low, high, positive: float = 1.,
         negative: float = 1.05) -> tuple[jax.Array, jax.Array]:
  """-sigmoid(tau (r - 1)) 4 / tau A: a soft clip. SAPO, arXiv 2511.20347.

  tau is `positive` where A > 0, else `negative`; at r = 1 the slope is 1
  whatever tau is. Nothing is clipped; `low` and `high` are not read.
  """
  del low, high
  chex.assert_equal_shape([ratio, advantages, logps, mask])
  tau = jnp.where(advantages > 0, positive, negative)
  gate = jax.nn.sigmoid(tau * (ratio - 1)) * 4 / tau
  return -gate * advantages, jnp.zeros(ratio.shape, bool)


def gmpo(ratio: jax.Array, advantages: jax.Array, logps: jax.Array,
         mask: jax.Array, *, low, high) -> tuple[jax.Array, jax.Array]:
  """-A times the geometric mean of clipped ratios: GMPO, arXiv 2507.20673.

  Log ratios are clipped to [-low, high] (0.4 in the paper), on the side that
  the advantage's sign gives, then averaged over the completion; A is the mean
  of its tokens'. Every token gets its completion's loss, so that
  `sequence_mean` gives the paper's objective. Takes the token ratio. Weights of
  a correction should be one a completion (verl takes their geometric mean).
  """
  chex.assert_equal_shape([ratio, advantages, logps, mask])
  gap = jnp.log(jnp.maximum(ratio, jnp.finfo(ratio.dtype).tiny))
  sign = jnp.sign(advantages)
  bound = jnp.clip(gap, -low, high)
  kept = sign * jnp.minimum(sign * gap, sign * bound)
  losses = -gaps.mean(advantages, mask) * jnp.exp(gaps.mean(kept, mask))
  return jnp.broadcast_to(losses, gap.shape), sign * bound < sign * gap


def token_mean(losses: jax.Array, mask: jax.Array,
               weights: jax.Array | None = None, *,
               length: int | None = None) -> metrics.Mean:
  """Mean over all tokens of the batch: DAPO. `length` is not read.

  `weights` [P, G, T] multiply the losses and never the count of tokens, here
  and in the other reductions.
  """
  del length
  return metrics.Mean(_masked(losses, mask, weights).sum(),
                      mask.sum().astype(jnp.float32))


def sequence_mean(losses: jax.Array, mask: jax.Array,
                  weights: jax.Array | None = None, *,
                  length: int | None = None,
                  count_empty: bool = False) -> metrics.Mean:
  """Mean over completions of their token means: GRPO. `length` is not read.

  A completion without a token in the mask is counted only with `count_empty`
  (TRL's 'grpo'; verl and OpenRLHF leave it out).
  """
  del length
  count = mask.sum(-1).astype(jnp.float32)
  means = _masked(losses, mask, weights).sum(-1) / jnp.maximum(count, 1)
  return metrics.Mean(means.sum(), _completions(mask, count_empty))


def sequence_sum(losses: jax.Array, mask: jax.Array,
                 weights: jax.Array | None = None, *,
                 length: int | None = None) -> metrics.Mean:
  """Mean over completions of their token sums. `length` is not read.

  A completion's log-prob is such a sum: RLOO; LUSPO with `geometric_ratio`. A
  completion without a token in the mask is not counted.
  """
  del length
  return metrics.Mean(_masked(losses, mask, weights).sum(),
                      _completions(mask, False))


def fixed_length(losses: jax.Array, mask: jax.Array,
                 weights: jax.Array | None = None, *,
                 length: int | None = None) -> metrics.Mean:
  """Mean over completions of sum / `length`: Dr. GRPO, arXiv 2503.20783.

  `length` is a constant, usually the generation budget in tokens, so that a
  token weighs the same in short and long completions. A completion without a
  token in the mask (a padding row) is not counted.

  Raises:
    ValueError: `length` is missing or not positive.
  """
  if length is None or length <= 0:
    raise ValueError(f'length {length!r}: fixed_length divides by a positive '
                     f'number of tokens; give the generation budget')
  return metrics.Mean(_masked(losses, mask, weights).sum() / length,
                      _completions(mask, False))


def token_sum(losses: jax.Array, mask: jax.Array,
              weights: jax.Array | None = None, *,
              length: int | None = None,
              constant: float = 1.) -> metrics.Mean:
  """Sum over tokens / (`constant` x completions). `length` is not read.

  All completions are counted, those without a token too, so that what divides
  does not depend on what was written: TRL's 'dr_grpo' with the generation
  budget as constant; verl's 'token-sum' with 1 / (P G).

  Raises:
    ValueError: `constant` is not positive.
  """
  del length
  if constant <= 0:
    raise ValueError(f'constant {constant!r}: token_sum divides by it; give a '
                     f'positive number')
  return metrics.Mean(_masked(losses, mask, weights).sum() / constant,
                      _completions(mask, True))


def _completions(mask, empty):
  counted = jnp.ones(mask.shape[:-1], bool) if empty else mask.any(-1)
  return counted.sum().astype(jnp.float32)


def _masked(losses, mask, weights):
  chex.assert_equal_shape([losses, mask])
  if weights is not None:
    chex.assert_equal_shape([losses, weights])
    losses = losses * weights
  return jnp.where(mask, losses, 0).astype(jnp.float32)
