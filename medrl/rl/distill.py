"""On-policy distillation: a teacher's log-probs of what the policy wrote.

Each is `(ratio, logps, teacher_logps, mask, *, options) -> losses [P, G, T]`
float32, on samples of the old policy: `ratio` is the token's, new to old, and
corrects for that; on policy it is 1. With x = teacher - policy, values are
unbiased estimates of the divergence and gradients, in the mean over samples,
its gradient exactly (`reverse_k2`: only the gradient). Only the probability of
the sampled token is asked for, never the teacher's whole distribution.

At the extremes: a log-prob of -inf counts as -1e9 and x is clamped to +-20, so
losses are finite. Not here: the teachers, their mixture, and the coefficient.

Sources: GKD, arXiv 2306.13649; MiniLLM, arXiv 2306.08543; NeMo RL's OPD.
"""

import jax
import jax.numpy as jnp

from medrl.rl import gaps

_BOUND = 20.0


def reverse(ratio: jax.Array, logps: jax.Array, teacher_logps: jax.Array,
            mask: jax.Array) -> jax.Array:
  """-r x: policy gradient with the advantage teacher - policy.

  KL(policy || teacher), which seeks a mode of the teacher.
  """
  return ratio * -jax.lax.stop_gradient(_gap(logps, teacher_logps, mask))


def reverse_k2(ratio: jax.Array, logps: jax.Array, teacher_logps: jax.Array,
               mask: jax.Array) -> jax.Array:
  """sg[r] x^2 / 2: the gradient of `reverse`, of a value that is never < 0."""
  gap = _gap(logps, teacher_logps, mask)
  return jax.lax.stop_gradient(ratio) * gap**2 / 2


def forward(ratio: jax.Array, logps: jax.Array, teacher_logps: jax.Array,
            mask: jax.Array, *, cap: float = 20.,
            baseline: bool = True) -> jax.Array:
  """sg[r e^x] x: KL(teacher || policy), which covers the teacher.

  e^x makes the policy's samples the teacher's. It has a high variance where
  they differ, and does not see what the policy never writes.

  Args:
    ratio, logps, teacher_logps, mask: see above.
    cap: e^x is at most this, which is at least 1; biased where it acts.
    baseline: weighs gradients by e^x - 1 instead of e^x: of the same mean, and
      0 where teacher and policy agree. The value then is e^x x - e^x + 1, of
      the same mean too and never negative.
  """
  gap = _gap(logps, teacher_logps, mask)
  weight = jax.lax.stop_gradient(ratio)
  tilt = jnp.minimum(jax.lax.stop_gradient(jnp.exp(gap)), cap)
  if not baseline:
    return weight * tilt * gap
  # The last two terms have the value 1 - e^x and the gradient d logp.
  straight = jax.lax.stop_gradient(gap) - gap
  return weight * (tilt * gap + (1 - tilt) + straight)


def _gap(logps, teacher_logps, mask):
  """x, 0 outside the mask."""
  gap = -gaps.log_ratio(logps, teacher_logps, mask)
  return jnp.clip(gap, -_BOUND, _BOUND)
