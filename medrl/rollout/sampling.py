"""Draws of one token a row from logits: temperature, top-k, top-p.

The policy itself is the distribution at temperature 1 without banned ids; that
is what log-probs and entropy are of. How it is sampled is this file's.
"""

import dataclasses

import jax
import jax.numpy as jnp

MASKED = -1e30


@dataclasses.dataclass(frozen=True)
class Options:
  """How completions are drawn. Frozen, so it can be a static argument.

  `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 are off. `stop` ids end a
  completion and belong to it. `banned` ids are never written.
  """
  group: int
  length: int
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  stop: tuple[int, ...] = ()
  banned: tuple[int, ...] = ()
  pad: int = 0

  def __post_init__(self):
    if self.group < 1 or self.length < 1:
      raise ValueError(f'group {self.group} and length {self.length} must be '
                       f'at least 1')
    if not 0 < self.top_p <= 1 or self.top_k < 0 or self.temperature < 0:
      raise ValueError(
          f'temperature {self.temperature} and top_k {self.top_k} must not be '
          f'negative, and top_p {self.top_p} must lie in (0, 1]')
    if not self.stop:
      raise ValueError('stop must name at least one id')


def ban(logits, banned: tuple[int, ...]):
  """Logits [..., V] without the ids that the policy may not write."""
  if not banned:
    return logits
  return logits.at[..., jnp.array(banned)].set(MASKED)


def log_probs(logits):
  """log p [..., V] and entropy [...] in nats, float32."""
  logp = jax.nn.log_softmax(logits.astype(jnp.float32))
  return logp, -jnp.sum(jnp.exp(logp) * logp, axis=-1)


def draw(logits, uniform, options: Options):
  """One id a row, by inverse CDF with one uniform number a row.

  The inverse CDF costs one pass over the vocabulary, where Gumbel noise needs a
  random number per id.

  Args:
    logits: float32 [..., V], without banned ids.
    uniform: float32 [...] in [0, 1).
    options: temperature, top_k and top_p are read. Of ids that tie at the
      edge of top-k all are kept.

  Returns:
    int32 [...].
  """
  if not options.temperature:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  logits = logits / options.temperature
  if options.top_k and options.top_k < logits.shape[-1]:
    edge = jax.lax.top_k(logits, options.top_k)[0][..., -1:]
    logits = jnp.where(logits < edge, MASKED, logits)
  probs = jax.nn.softmax(logits, axis=-1)
  if options.top_p < 1:
    ranked = jnp.sort(probs, axis=-1, descending=True)
    before = jnp.cumsum(ranked, axis=-1) - ranked
    # The smallest set that reaches top_p: an id stays if those above it do not.
    edge = jnp.min(jnp.where(before < options.top_p, ranked, jnp.inf), axis=-1,
                   keepdims=True)
    probs = jnp.where(probs < edge, 0., probs)
  cdf = jnp.cumsum(probs, axis=-1)
  # Scaled by the last entry: rounding must not leave a gap below 1.
  target = uniform[..., None] * cdf[..., -1:]
  # A parallel sum is not monotone in its last digit, so an id of probability 0
  # may stand above the target; over a large vocabulary that shows.
  possible = probs > 0
  hit = (cdf > target) & possible
  last = logits.shape[-1] - 1 - jnp.argmax(possible[..., ::-1], axis=-1)
  return jnp.where(jnp.any(hit, axis=-1), jnp.argmax(hit, axis=-1),
                   last).astype(jnp.int32)
