"""Work of a step counted from shapes: FLOPs by part, bytes of decoding.

Only what any implementation must do: each prompt once a group, real tokens
without padding, nothing twice. Nothing is measured here.
"""

import dataclasses
import math

from flax import traverse_util

from medrl import params as params_lib

# Passes over a step's tokens in units of one forward pass: the update goes
# forward and back, the reference and the sampler forward.
PASSES = {'forward': 1, 'backward': 2, 'reference': 1, 'sampling': 1}


@dataclasses.dataclass(frozen=True)
class Shapes:
  """A step's real sizes, padding left out. Totals are over the whole batch."""
  prompts: int
  group: int
  prompt_tokens: int      # over all prompts
  patches: int            # over all prompts
  completion_tokens: int  # over all completions
  iterations: int         # of the decode loop


def products(specs, model, shapes: Shapes) -> dict[str, int]:
  """2ND of one forward pass, by part: parameters of matrix products times the
  places they are applied at, two FLOPs each; attention scores are left out.

  Returns:
    vision, prompt, completion (both without the head), and head, which works on
    completion tokens alone.
  """
  flat = traverse_util.flatten_dict(specs, sep='/')
  def held(prefix):
    return sum(math.prod(spec.shape) for path, spec in flat.items()
               if path.startswith(prefix) and spec.init == 'normal')
  merger = held('vision/merger/')
  tower = held('vision/') - merger
  soft = shapes.patches // model.vision.merge ** 2
  layers = held('decoder/layers/')
  head = model.text.hidden * model.text.vocab
  return {'vision': 2 * (tower * shapes.patches + merger * soft),
          'prompt': 2 * layers * shapes.prompt_tokens,
          'completion': 2 * layers * shapes.completion_tokens,
          'head': 2 * head * shapes.completion_tokens}


def floor(specs, model, shapes: Shapes, rate: float
          ) -> dict[str, dict[str, float]]:
  """What a GRPO step with a reference costs at least.

  Args:
    specs, model, shapes: see `products`.
    rate: FLOP/s that every product is granted.

  Returns:
    pass -> {flops, seconds}, and `whole`.
  """
  one = sum(products(specs, model, shapes).values())
  times = PASSES | {'whole': sum(PASSES.values())}
  return {name: {'flops': n * one, 'seconds': n * one / rate}
          for name, n in times.items()}


def parts(family, model, shapes: Shapes) -> dict[str, int]:
  """FLOPs of each timed part, attention included, by `family.flops`.

  Completions enter with their mean length, whose square attention grows with
  (a bound from below). The update is three passes forward, no recompute.
  """
  p, g = shapes.prompts, shapes.group
  s = shapes.prompt_tokens // p
  n = shapes.patches // p
  t = shapes.completion_tokens // (p * g)
  encode = p * family.flops(model, 0, 0, n, g)
  prefill = p * family.flops(model, s, 0, 0, g)
  whole = p * family.flops(model, s, t, n, g)
  return {'encode': encode, 'prefill': prefill,
          'decode': whole - encode - prefill, 'sample': whole, 'score': whole,
          'update': 3 * whole}


def decode_bytes(specs, model, shapes: Shapes, itemsize: int) -> int:
  """Bytes that decoding must read: weights once an iteration, a group's prompt
  keys once a token of the group, and each completion's own.

  `itemsize` is of weights and of keys alike.
  """
  c = model.text
  weights = params_lib.count(specs['decoder'])
  weights += c.hidden * c.vocab
  token = 2 * c.layers * c.kv_heads * c.head_dim
  written = shapes.completion_tokens
  before = shapes.prompt_tokens / shapes.prompts / shapes.group
  own = written / shapes.prompts / shapes.group / 2
  return int(itemsize * (shapes.iterations * weights
                         + token * written * (before + own)))
