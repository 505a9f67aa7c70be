"""Log-probs of given tokens, and the entropy, without a [..., V] array.

The head is walked through in chunks of the vocabulary with a running
log-sum-exp; the backward pass computes each chunk's logits again. Exact in
value and in gradient. Not here: the model that makes `hidden`, and sampling.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

# The logit of a banned id: exp gives 0 exactly, yet sums and products with a
# mask stay finite, which -inf does not.
_NEVER = -1e30


class _Options(NamedTuple):
  """What is static: see `token_logps`."""
  chunk: int
  temperature: float
  soft_cap: float
  entropy: bool


def token_logps(hidden: jax.Array, head: jax.Array, targets: jax.Array, *,
                chunk: int, temperature: float = 1.0, soft_cap: float = 0.0,
                banned: jax.Array | None = None, entropy: bool = True,
                shards: int = 1) -> tuple[jax.Array, jax.Array | None]:
  """Log-prob of each target and entropy of its distribution, both float32.

  Args:
    hidden: [..., D], the model's last layer, normalised; float32 or bfloat16.
    head: [D, V]. Its rows of V are walked through as they lie in the array
      [V, D] whose transpose it is, as of every family here; one that lies in
      memory as [D, V] is copied once a pass.
    targets: int [...], in [0, V).
    chunk: ids of a shard a step. Peak memory is a few float32 arrays
      [..., chunk] instead of [..., V]. Accelerators want thousands; on a CPU
      [..., chunk] had better fit its cache.
    temperature: divides the logits; a Python number.
    soft_cap: logits become soft_cap * tanh(logits / soft_cap) before the
      temperature (Gemma 2, arXiv:2408.00118, section 2); 0 leaves them.
    banned: bool [V], ids the policy cannot emit (image pads): the
      distribution is the one over the other ids. A banned target has a
      log-prob of about -1e30 and no gradient through its own logit.
    entropy: False saves a pass over each chunk.
    shards: number of parts of equal size that the vocabulary is split into
      over devices. All are walked through at once and joined at the end, so
      that no device needs another's part of the head.

  Returns:
    logps [...] and entropy [...] in nats, or None for the entropy.

  Raises:
    ValueError: `chunk`, `temperature` or `shards` is not positive, `soft_cap`
      is negative, or `shards` does not divide V.
  """
  width, size = head.shape
  if chunk <= 0 or temperature <= 0 or shards <= 0 or soft_cap < 0:
    raise ValueError(
        f'chunk {chunk}, temperature {temperature} and shards {shards} must '
        f'all be positive, soft_cap {soft_cap} positive or 0 for none')
  if size % shards:
    raise ValueError(
        f'a vocabulary of {size} rows does not split into {shards} shards; '
        f'pad the head, or leave its vocabulary axis whole and shards at 1')
  chex.assert_shape(targets, hidden.shape[:-1])
  chex.assert_axis_dimension(hidden, -1, width)
  if banned is not None:
    chex.assert_shape(banned, (size,))
    banned = banned.reshape(shards, -1)
  # Rows as one axis: with several, XLA's CPU compiler makes slow gradients.
  logps, spread = _token_logps(
      hidden.reshape(-1, width), head.T.reshape(shards, -1, width),
      targets.reshape(-1), banned,
      _Options(chunk, temperature, soft_cap, entropy))
  logps = logps.reshape(targets.shape)
  return logps, spread.reshape(targets.shape) if entropy else None


# From here on: hidden [R, D], table [shards, V / shards, D], targets [R],
# banned [shards, V / shards], and tiles [shards, ids, R]. The ids of a tile are
# a major axis, because XLA's CPU compiler vectorises sums over such alone.
#
# A custom rule, because the transpose of a slice in a scan would add a whole
# table of zeros at each chunk.
@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _token_logps(hidden, table, targets, banned, options):
  result, _ = _forward(hidden, table, targets, banned, options)
  return result


def _forward(hidden, table, targets, banned, options):
  def step(carry, start, size):
    top, mass, tilt, chosen = carry
    tile = _tile(hidden, table, banned, start, size, options)
    new_top = jnp.maximum(top, tile.logits.max(1))
    old = jnp.exp(top - new_top)
    shifted = tile.logits - new_top[:, None]
    part = jnp.exp(shifted)
    if options.entropy:
      # The sum of exp(l - top) (l - top): taken relative to the top, so that
      # the entropy keeps its digits when all logits are large. Without the
      # choice, which changes nothing, XLA's CPU compiler takes the sum for a
      # matrix product with one row and runs it twelve times slower.
      parts = jnp.where(part > 0, part * shifted, 0)
      tilt = old * (tilt + mass * (top - new_top)) + parts.sum(1)
    mass = old * mass + part.sum(1)
    place = _places(targets, table) - start
    here = (place >= 0) & (place < size)
    found = jnp.take_along_axis(
        tile.logits, jnp.clip(place, 0, size - 1)[:, None], 1)[:, 0]
    return new_top, mass, tilt, chosen + jnp.where(here, found, 0)

  zero = jnp.zeros((table.shape[0], *targets.shape), jnp.float32)
  tops, masses, tilts, chosen = _walk(
      step, (zero + _NEVER, zero, zero, zero), table, options)
  top = tops.max(0)
  share = jnp.exp(tops - top)
  mass = (share * masses).sum(0)
  tilt = (share * (tilts + masses * (tops - top))).sum(0)
  log_mass = top + jnp.log(mass)
  entropy = jnp.log(mass) - tilt / mass
  return ((chosen.sum(0) - log_mass, entropy),
          (hidden, table, targets, banned, log_mass, entropy))


def _backward(options, residuals, cotangents):
  hidden, table, targets, banned, log_mass, entropy = residuals
  logp_bar, entropy_bar = cotangents
  dtype = jnp.result_type(hidden, table)

  def step(carry, start, size):
    hidden_bar, table_bar = carry
    tile = _tile(hidden, table, banned, start, size, options)
    logps = tile.logits - log_mass
    # d logp = 1[target] - p;  d H = -p (log p + H).
    pull = -logp_bar
    if options.entropy:
      pull = pull - entropy_bar * (logps + entropy)
    ids = start + jnp.arange(size)[:, None]
    hit = ids == _places(targets, table)[:, None]
    bar = jnp.exp(logps) * pull + jnp.where(hit, logp_bar, 0)
    bar = bar * tile.slope
    if banned is not None:
      bar = jnp.where(tile.allowed, bar, 0)
    bar = bar.astype(dtype)
    # A sum of its own for each shard: joined here, each step would wait for
    # the other devices.
    hidden_bar += _product('scd,scr->sdr', tile.part, bar)
    new = _product('scr,rd->scd', bar, hidden).astype(table.dtype)
    return hidden_bar, jax.lax.dynamic_update_slice_in_dim(
        table_bar, new, start, 1)

  hidden_bar, table_bar = _walk(
      step, (jnp.zeros((table.shape[0], *hidden.T.shape), jnp.float32),
             jnp.zeros_like(table)), table, options)
  return hidden_bar.sum(0).T.astype(hidden.dtype), table_bar, None, None


_token_logps.defvjp(_forward, _backward)


def _walk(step: Callable, carry, table, options: _Options):
  """`step(carry, first id in each shard, number of ids)` over all of them."""
  size = table.shape[1]
  chunk = min(options.chunk, size)
  whole, rest = divmod(size, chunk)
  # The rest has a size of its own: overlapping the chunk before it would need
  # a mask in every step. It comes first, as XLA copies what a loop hands on to
  # an update in place.
  if rest:
    carry = step(carry, whole * chunk, rest)
  return jax.lax.fori_loop(
      0, whole, lambda i, carry: step(carry, i * chunk, chunk), carry)


class _Tile(NamedTuple):
  """Some ids of each shard."""
  part: jax.Array             # [shards, ids, D]
  logits: jax.Array           # float32 [shards, ids, R], as they are drawn from
  slope: jax.Array | float    # d logits / d (part . hidden)
  allowed: jax.Array | None   # [shards, ids, 1]


def _tile(hidden, table, banned, start, size, options: _Options) -> _Tile:
  part = jax.lax.dynamic_slice_in_dim(table, start, size, 1)
  logits = _product('scd,rd->scr', part, hidden)
  slope = 1 / options.temperature
  if options.soft_cap:
    bent = jnp.tanh(logits / options.soft_cap)
    logits = options.soft_cap * bent
    slope = slope * (1 - bent * bent)
  if options.temperature != 1:
    logits = logits / options.temperature
  allowed = None
  if banned is not None:
    allowed = ~jax.lax.dynamic_slice_in_dim(banned, start, size, 1)[..., None]
    logits = jnp.where(allowed, logits, _NEVER)
  return _Tile(part, logits, slope, allowed)


def _places(targets, table):
  """Where each target is in each shard [shards, R]; out of range elsewhere."""
  shards, size, _ = table.shape
  return targets - size * jnp.arange(shards)[:, None]


def _product(dimensions: str, a, b):
  return jnp.einsum(dimensions, a, b, preferred_element_type=jnp.float32)
