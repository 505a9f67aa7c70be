"""A draft of the next tokens: what followed the last few the time before.

Draws are keyed by position, so a draft is kept exactly as far as the policy
draws the same: the tokens are those without a draft (prompt look-up decoding,
Saxena 2023; the test of speculative decoding, arXiv:2211.17192, in the case of
a shared uniform number). No model drafts here, and nothing is sampled.
"""

import jax.numpy as jnp


def propose(tokens, length, *, ngram: int, width: int):
  """The continuation of the last tokens where they most recently stood.

  The longest match of up to `ngram` tokens counts, of equally long ones the
  most recent. A continuation that reaches the end of the history goes on from
  its own beginning, as text that turns in a circle does.

  Args:
    tokens: int32 [..., C], prompt and completion, padded at the right.
    length: int32 [...], how many there are.
    ngram: tokens to match, at most; at least 1.
    width: tokens to draft; at least 1.

  Returns:
    draft int32 [..., width] and how many of them there are, int32 [...]: all
    or, where the last token did not stand before, none.

  Raises:
    ValueError: `ngram` or `width` is not positive.
  """
  if ngram < 1 or width < 1:
    raise ValueError(f'ngram {ngram} and width {width} must be at least 1')
  size = tokens.shape[-1]
  # Of each place: how many tokens before it equal those before the end.
  place = jnp.arange(size)
  run = jnp.ones(tokens.shape, bool)
  match = jnp.zeros(tokens.shape, jnp.int32)
  for back in range(1, min(ngram, size) + 1):
    last = jnp.maximum(length - back, 0)[..., None]
    last = jnp.take_along_axis(tokens, last, axis=-1)
    run &= (jnp.roll(tokens, back, axis=-1) == last) & (place >= back)
    match += run
  match = jnp.where(place < length[..., None], match, 0)
  best = jnp.argmax(match * size + place, axis=-1)
  found = jnp.max(match, axis=-1) > 0
  circle = jnp.maximum(length - best, 1)[..., None]
  ahead = best[..., None] + jnp.arange(width) % circle
  draft = jnp.take_along_axis(tokens, ahead, axis=-1, mode='clip')
  return (jnp.where(found[..., None], draft, 0),
          jnp.where(found, width, 0).astype(jnp.int32))


def accept(draft, count, drawn):
  """How many tokens of the draft the policy drew: the longest equal prefix.

  Args:
    draft: int32 [..., W].
    count: int32 [...], how many of them there are.
    drawn: int32 [..., W + 1]; entry i was drawn behind i tokens of the draft.

  Returns:
    int32 [...] in [0, W]. Entry `accepted` of `drawn` is a token too: it was
    drawn behind what is right.
  """
  right = (draft == drawn[..., :-1]) & (
      jnp.arange(draft.shape[-1]) < count[..., None])
  return jnp.sum(jnp.cumprod(right, axis=-1), axis=-1).astype(jnp.int32)
