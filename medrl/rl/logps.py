"""Log-probs of given tokens, and the entropy, without a [..., V] array.

The head is walked through in chunks of the vocabulary with a running
log-sum-exp; the backward pass computes each chunk's logits again. Exact in
value and in gradient. Not here: the model that makes `hidden`, and sampling.
"""

import functools

import chex
import jax
import jax.numpy as jnp

# The logit of a banned id: exp gives 0 exactly, yet sums and products with a
# mask stay finite, which -inf does not.
_NEVER = -1e30


def token_logps(hidden: jax.Array, head: jax.Array, targets: jax.Array, *,
                chunk: int, temperature: float = 1.0,
                banned: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
  """Log-prob of each target and entropy of its distribution, both float32.

  Args:
    hidden: [..., D], the model's last layer, normalised; float32 or bfloat16.
    head: [D, V]. Its chunks are slices; the head itself is never copied.
    targets: int [...], in [0, V).
    chunk: ids a step, at most V are used. Peak memory is a few float32 arrays
      [..., chunk] instead of [..., V].
    temperature: divides the logits; a Python number.
    banned: bool [V], ids the policy cannot emit (image pads): the
      distribution is the one over the other ids. A banned target has a
      log-prob of about -1e30 and no gradient through its own logit.

  Returns:
    logps [...] and entropy [...] in nats.

  Raises:
    ValueError: `chunk` or `temperature` is not positive.
  """
  if chunk <= 0 or temperature <= 0:
    raise ValueError(f'chunk {chunk} and temperature {temperature} must both '
                     f'be positive')
  chex.assert_rank(head, 2)
  chex.assert_shape(targets, hidden.shape[:-1])
  chex.assert_axis_dimension(hidden, -1, head.shape[0])
  if banned is not None:
    chex.assert_shape(banned, (head.shape[1],))
  chunk = min(chunk, head.shape[1])
  # Rows as one axis: with several, XLA's CPU compiler makes slow gradients.
  logps, entropy = _token_logps(hidden.reshape(-1, head.shape[0]), head,
                                targets.reshape(-1), banned, chunk, temperature)
  return logps.reshape(targets.shape), entropy.reshape(targets.shape)


# A custom rule, because the transpose of a slice in a scan would add a whole
# [D, V] of zeros at each chunk.
@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _token_logps(hidden, head, targets, banned, chunk, temperature):
  result, _ = _forward(hidden, head, targets, banned, chunk, temperature)
  return result


def _forward(hidden, head, targets, banned, chunk, temperature):
  def step(index, carry):
    top, mass, tilt, chosen = carry
    logits, _, hit = _chunk_logits(
        index, hidden, head, targets, banned, chunk, temperature)
    new_top = jnp.maximum(top, logits.max(-1))
    # `tilt` is the sum of exp(l - top) (l - top): taken relative to the top,
    # so that the entropy keeps its digits when all logits are large.
    old = jnp.exp(top - new_top)
    shifted = logits - new_top[..., None]
    part = jnp.exp(shifted)
    tilt = old * (tilt + mass * (top - new_top)) + (part * shifted).sum(-1)
    mass = old * mass + part.sum(-1)
    chosen = chosen + jnp.where(hit, logits, 0).sum(-1)
    return new_top, mass, tilt, chosen

  zero = jnp.zeros(targets.shape, jnp.float32)
  top, mass, tilt, chosen = jax.lax.fori_loop(
      0, -(-head.shape[1] // chunk), step, (zero + _NEVER, zero, zero, zero))
  log_mass = top + jnp.log(mass)
  entropy = jnp.log(mass) - tilt / mass
  return ((chosen - log_mass, entropy),
          (hidden, head, targets, banned, log_mass, entropy))


def _backward(chunk, temperature, residuals, cotangents):
  hidden, head, targets, banned, log_mass, entropy = residuals
  logp_bar, entropy_bar = (c[..., None] for c in cotangents)
  rows = tuple(range(targets.ndim))
  dtype = jnp.result_type(hidden, head)

  def step(index, carry):
    hidden_bar, head_bar = carry
    logits, start, hit = _chunk_logits(
        index, hidden, head, targets, banned, chunk, temperature)
    logps = logits - log_mass[..., None]
    probs = jnp.exp(logps)
    # d logp = 1[target] - p;  d H = -p (log p + H).
    bar = (logp_bar * ((hit & (logits > _NEVER)) - probs)
           - entropy_bar * probs * (logps + entropy[..., None]))
    bar = (bar / temperature).astype(dtype)
    part = jax.lax.dynamic_slice_in_dim(head, start, chunk, 1)
    hidden_bar += jnp.einsum('...v,dv->...d', bar, part,
                             preferred_element_type=jnp.float32)
    column = jnp.tensordot(hidden, bar, axes=(rows, rows),
                           preferred_element_type=jnp.float32)
    # Added, because the last chunk overlaps the one before it: there it is 0.
    before = jax.lax.dynamic_slice_in_dim(head_bar, start, chunk, 1)
    head_bar = jax.lax.dynamic_update_slice_in_dim(
        head_bar, before + column.astype(head_bar.dtype), start, 1)
    return hidden_bar, head_bar

  hidden_bar, head_bar = jax.lax.fori_loop(
      0, -(-head.shape[1] // chunk), step,
      (jnp.zeros(hidden.shape, jnp.float32), jnp.zeros_like(head)))
  return hidden_bar.astype(hidden.dtype), head_bar, None, None


_token_logps.defvjp(_forward, _backward)


def _chunk_logits(index, hidden, head, targets, banned, chunk, temperature):
  """Logits float32 [..., chunk] of chunk `index`, its first id, and its hits.

  The last chunk begins early enough to end at V; ids that the chunk before it
  has covered count as banned and are never hits.
  """
  first = index * chunk
  start = jnp.minimum(first, head.shape[1] - chunk)
  part = jax.lax.dynamic_slice_in_dim(head, start, chunk, 1)
  logits = jnp.einsum('...d,dv->...v', hidden, part,
                      preferred_element_type=jnp.float32) / temperature
  ids = start + jnp.arange(chunk)
  fresh = ids >= first
  allowed = fresh
  if banned is not None:
    allowed &= ~jax.lax.dynamic_slice_in_dim(banned, start, chunk, 0)
  hit = (ids == targets[..., None]) & fresh
  return jnp.where(allowed, logits, _NEVER), start, hit
