"""Rotary positions: 1-D, multimodal 3-D (M-RoPE) and 2-D for patches.

All give `cos, sin` of half a head's width; `rotate` applies them. Positions
come from the processor; nothing here knows about images.
"""

import jax.numpy as jnp


def frequencies(width: int, theta: float):
  """Inverse frequencies [width / 2] (Su et al. 2021, section 3.2.2)."""
  return theta ** -(jnp.arange(0, width, 2, dtype=jnp.float32) / width)


def multimodal(positions, head_dim: int, theta: float, sections):
  """M-RoPE with chunked sections (Wang et al. 2024, Qwen2-VL, section 2.1).

  Args:
    positions: int32 [..., 3] temporal, row and column position of each token.
    head_dim: width of a head.
    theta: rotary base.
    sections: how many of the `head_dim / 2` frequencies turn with each axis.

  Returns:
    cos, sin: float32 [..., head_dim / 2].

  Raises:
    ValueError: the sections do not add up to half a head.
  """
  if sum(sections) != head_dim // 2:
    raise ValueError(f'mrope sections {tuple(sections)} must add up to half '
                     f'the head width, {head_dim // 2}')
  axis = jnp.repeat(jnp.arange(3), jnp.array(sections),
                    total_repeat_length=head_dim // 2)
  turned = positions.astype(jnp.float32)[..., axis]
  angles = turned * frequencies(head_dim, theta)
  return jnp.cos(angles), jnp.sin(angles)


def planar(coords, head_dim: int, theta: float = 10_000.0):
  """2-D rotary for patches: half the frequencies per row, half per column.

  Args:
    coords: int32 [..., 2] row and column of each patch.

  Returns:
    cos, sin: float32 [..., head_dim / 2].
  """
  base = frequencies(head_dim // 2, theta)
  angles = coords.astype(jnp.float32)[..., None] * base
  angles = angles.reshape(*coords.shape[:-1], head_dim // 2)
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x, cos, sin):
  """Turns `x` [..., heads, head_dim] by angles [..., head_dim / 2].

  The two halves of a head are one pair each ("rotate half"), as in the
  published checkpoints; computed in float32, returned in the dtype of `x`.
  """
  cos, sin = cos[..., None, :], sin[..., None, :]
  left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate(
      [left * cos - right * sin, right * cos + left * sin], axis=-1)
  return turned.astype(x.dtype)
