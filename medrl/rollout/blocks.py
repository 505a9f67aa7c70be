"""A vocabulary in blocks: the passes over logits that a draw is made of.

A running sum over all ids is slow where sums by block are fast; a draw chooses
a block and then walks through it alone. Logits are [..., B, L] here, of rows
that have nothing to do with each other. What is drawn, and of which options, is
`sampling`'s.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

MASKED = -1e30    # the logit of what is never drawn; finite, so 0 * it is 0
_BLOCKS = 512
_LEAST = 32       # ids of a block, so that a small vocabulary is one
_GUESS = 64       # largest ids among which the edge of top-p is guessed


def split(values):
  """[..., V] as [..., B, L]; padded with ids that are never drawn.

  Of the numbers of blocks that divide V the one nearest to 512 in ratio, for
  to pad is to write out; a vocabulary that is small or has none is padded.
  """
  vocab = values.shape[-1]
  exact = [n for n in range(_BLOCKS // 8, 8 * _BLOCKS) if vocab % n == 0
           and vocab // n >= _LEAST]
  if exact:
    count = min(exact, key=lambda n: max(n, _BLOCKS) / min(n, _BLOCKS))
    return values.reshape(*values.shape[:-1], count, vocab // count)
  length = max(_LEAST, -(-vocab // _BLOCKS))
  count = -(-vocab // length)
  widths = [(0, 0)] * (values.ndim - 1) + [(0, count * length - vocab)]
  values = jnp.pad(values, widths, constant_values=MASKED)
  return values.reshape(*values.shape[:-1], count, length)


# The passes over [..., B, L] below share no array, not even a difference: what
# two of them use XLA would write out in full, which takes longer than a pass.


def policy(blocks, peaks):
  """What is needed of the distribution at temperature 1, [...] each.

  Args:
    blocks: [..., B, L], logits.
    peaks: [..., B], their maxima.

  Returns:
    the largest logit; the log of the mass over that of the likeliest id; the
    entropy in nats, as that of the block and the mean of those within blocks.
  """
  top = jnp.max(peaks, axis=-1)
  masses = jnp.sum(jnp.exp(blocks - peaks[..., None]), axis=-1)
  weights = masses * jnp.exp(peaks - top[..., None])
  mass = jnp.sum(weights, axis=-1)
  base = peaks + jnp.log(masses)
  lost = (peaks - base) + jnp.log(masses)   # by rounding of large logits
  logps = blocks - base[..., None]
  within = -jnp.sum(jnp.exp(logps) * logps, axis=-1) * jnp.exp(lost) - lost
  share = weights / mass[..., None]
  among = jnp.where(share > 0, jnp.log(share), 0.)
  return top, jnp.log(mass), jnp.sum(share * (within - among), axis=-1)


def largest(blocks, peaks, count: int):
  """The `count` largest values [..., count], descending, and their ids int32.

  They lie in the `count` blocks with the largest peaks. These are looked
  through in the order of ids, so that of ties the lower ids are taken, as by
  `jax.lax.top_k` over all.
  """
  few, length = blocks.shape[-2:]
  count = min(count, few * length)
  # Apart, or XLA takes a top-k and a slice of it for a sort of everything.
  apart = jax.lax.optimization_barrier
  where = jnp.sort(apart(jax.lax.top_k(peaks, min(count, few)))[1], axis=-1)
  found = jnp.take_along_axis(blocks, where[..., None], axis=-2)
  found = found.reshape(*found.shape[:-2], -1)
  best, places = apart(jax.lax.top_k(found, count))
  ids = (jnp.take_along_axis(where, places // length, axis=-1) * length
         + places % length)
  return best, ids.astype(jnp.int32)


def reach(blocks, peaks, weights, scale: float, top_p: float):
  """The limit that just leaves `top_p` of the mass, and what it leaves.

  Bisection over the bits of floats, which for floats that are not negative are
  in their order; it ends at the exact distance of an id, after at most 31
  passes. A guess from the largest ids usually ends it after two. Either way
  the result is the same: sums in one order never fall when a term is added.

  Args:
    blocks: [..., B, L], logits.
    peaks: [..., B], their maxima.
    weights: [..., B], masses over that of the likeliest id.
    scale: 1 / temperature.
    top_p: in (0, 1).

  Returns:
    the limit float32 [...], at most 0: an id whose logit lies further below
    the largest is out; and the masses [..., B] of the others.
  """
  reached = top_p * jnp.sum(weights, axis=-1)
  best = largest(blocks, peaks, _GUESS)[0]
  best = jnp.max(peaks, axis=-1, keepdims=True) - best
  short = jnp.cumsum(jnp.exp(-best * scale), axis=-1) < reached[..., None]
  rank = jnp.minimum(jnp.sum(short, axis=-1), best.shape[-1] - 1)
  guess = jax.lax.bitcast_convert_type(at(best, rank), jnp.int32)

  def look(carry):
    step, near, far, kept = carry
    middle = near + (far - near) // 2
    tried = jnp.where(step < 2, guess - step, middle)
    tried = jnp.where((tried > near) & (tried < far), tried, middle)
    limit = -jax.lax.bitcast_convert_type(tried, jnp.float32)
    weights = above(limit, blocks, peaks, scale)
    enough = jnp.sum(weights, axis=-1) >= reached
    return (step + 1, jnp.where(enough, near, tried),
            jnp.where(enough, tried, far),
            jnp.where(enough[..., None], weights, kept))

  near = jnp.full(reached.shape, -1)
  # All ids beyond, were they as likely as those there, would be too few.
  far = math.log(math.prod(blocks.shape[-2:]) / (1 - top_p)) / scale + 1
  far = jnp.full(reached.shape, np.float32(far).view(np.int32))
  _, _, far, weights = jax.lax.while_loop(
      lambda carry: jnp.any(carry[2] - carry[1] > 1), look,
      (0, near, far, weights))
  return -jax.lax.bitcast_convert_type(far, jnp.float32), weights


def above(limit, blocks, peaks, scale: float):
  """Masses [..., B] of the ids within the limit [...] of the largest logit.

  A product in place of a choice, which XLA's library of sums on a CPU has not:
  what lies beyond the limit does so by at least a float's last digit.
  """
  gaps = blocks - jnp.max(peaks, axis=-1)[..., None, None]
  beyond = jnp.minimum(gaps - limit[..., None, None], 0.)
  return jnp.sum(jnp.exp((gaps - MASKED * beyond) * scale), axis=-1)


def at(values, index):
  """[...], of each row of [..., n] the value at `index` [...]."""
  return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]


def block(blocks, index):
  """[..., L], the block `index` [...] of each row."""
  return jnp.take_along_axis(blocks, index[..., None, None], axis=-2)[..., 0, :]


def pick(weights, target):
  """The first place whose running sum exceeds the target, and what is left.

  Args:
    weights: [..., n], not negative.
    target: [...], below their sum.

  Returns:
    place int32 [...], where the weight is positive, and target less the sum
    before it.
  """
  sums = jnp.cumsum(weights, axis=-1)
  # A parallel sum is not monotone in its last digit, so a place of weight 0
  # may stand above the target; over a large vocabulary that shows.
  possible = weights > 0
  hit = (sums > target[..., None]) & possible
  last = weights.shape[-1] - 1 - jnp.argmax(possible[..., ::-1], axis=-1)
  place = jnp.where(jnp.any(hit, axis=-1), jnp.argmax(hit, axis=-1),
                    last).astype(jnp.int32)
  return place, target - at(sums - weights, place)
