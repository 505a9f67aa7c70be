"""What a layer keeps for its gradient, by name; the rest is computed again.

Models mark the activations that a policy may keep (`mark`), and wrap the body
of their scan over layers (`wrap`). No model is here.

| name | kept of a layer | computed again |
|---|---|---|
| none | everything | nothing |
| dots | results of products without batch axes | attention, norms, gates |
| minimal | `attention`, `mlp_input` | all products but attention's |
| offload | as minimal and `query_key_value`, in host memory | gate and up |
| full | nothing but its input | all |
"""

from collections.abc import Callable

import jax
from jax import ad_checkpoint

from medrl import sharding

NAMES = ('none', 'dots', 'minimal', 'offload', 'full')
# Rotated queries, keys and values; what attention gives, before its output
# product; the residual stream between attention and MLP.
MARKS = ('query_key_value', 'attention', 'mlp_input')


def mark(x, name: str):
  """`x`, which policies know by the name.

  Raises:
    ValueError: no policy keeps such a name.
  """
  if name not in MARKS:
    raise ValueError(f'{name!r} is not among the marks {", ".join(MARKS)}')
  return ad_checkpoint.checkpoint_name(x, name)


def check(name: str) -> None:
  """Raises ValueError where no policy has this name."""
  if name not in NAMES:
    raise ValueError(f'remat {name!r} is not among {", ".join(NAMES)}')


def wrap(layer: Callable, name: str) -> Callable:
  """The layer, with the same values and gradients, under a policy.

  Products of an attention kernel with a gradient of its own are computed again
  unless it marks its residuals 'attention' too.

  Args:
    layer: a function of arrays; the body of a scan, or called in a loop.
    name: one of `NAMES`, config.model.remat.

  Raises:
    ValueError: no policy has this name.
  """
  check(name)
  if name == 'none':
    return layer
  policies = jax.checkpoint_policies
  policy = {
      'dots': policies.dots_with_no_batch_dims_saveable,
      'minimal': policies.save_only_these_names('attention', 'mlp_input'),
      'offload': policies.save_and_offload_only_these_names(
          names_which_can_be_saved=[], names_which_can_be_offloaded=MARKS,
          offload_src='device', offload_dst=sharding.HOST),
      'full': policies.nothing_saveable,
  }[name]
  # A scan needs no prevention of common subexpressions, unrolled layers do.
  return jax.checkpoint(layer, policy=policy)
