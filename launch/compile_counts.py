"""What a program must compute and send at least, from shapes and shardings.

FLOPs by the family's own count, and the bytes that a chip sends to others where
parameters are gathered once a use, gradients reduced once, and the sums of
split products exchanged once. Nothing is compiled here.
"""

import math

from flax import traverse_util

from launch import compile_programs
from medrl import build
from medrl import sharding
from medrl.trainers import prepare


def flops(run: build.Run, of: compile_programs.Sizes) -> dict[str, float]:
  """Program -> FLOPs of one call over all chips, multiply-adds as two.

  The update counts as three passes forward: nothing is computed again. The head
  counts where tokens are scored or drawn. `weigh` only moves.
  """
  (length, patches), group = of.bucket, of.group
  def forward(prompt, completion, patches):
    return run.family.flops(run.model, prompt, completion, patches, group)
  whole = of.prompts * forward(length, of.length, patches)
  written = forward(length, of.length, 0) - forward(length, 0, 0)
  return {
      'weigh': 0., 'encode': of.chunk * forward(0, 0, patches),
      'prefill': of.chunk * forward(length, 0, 0),
      'decode': of.slots * written / (group * of.length),
      'sample': whole, 'score': whole,
      'prepare': passes(run.config) * whole,
      'update': 3 * run.config.rl.epochs * whole}


def passes(config) -> int:
  """Scoring passes of `prepare`: the reference, the old policy, teachers."""
  words = prepare.objective(config)
  old = not words.on_policy and words.old != 'sampler'
  return (bool(words.kl_weight) + old
          + len(words.teachers) * bool(words.distill_weight))


def attention(run: build.Run, of: compile_programs.Sizes) -> dict[str, float]:
  """Program -> FLOPs of attention within whole rows, over all chips.

  They are what a kernel does that the compiled text tells nothing of. A
  gradient has five products where the forward pass has two; a layer that keeps
  nothing runs it once more.
  """
  text, vision, (length, patches) = run.model.text, run.model.vision, of.bucket
  each = 4 * text.layers * text.heads * text.head_dim
  image = 4 * len(vision.full_blocks) * vision.hidden * patches ** 2
  prompt = each * length ** 2 / 2
  written = each * of.group * of.length * (length + of.length / 2)
  rl = run.config.rl
  again = 0 if run.config.model.remat in ('none', 'minimal') else 1
  score = of.prompts * (image + prompt + written)
  return {'encode': of.chunk * image, 'prefill': of.chunk * prompt,
          'sample': of.prompts * (image + prompt), 'score': score,
          'prepare': passes(run.config) * score,
          'update': rl.epochs * (1 + again + 2.5) * score}


def sent(run: build.Run, of: compile_programs.Sizes
         ) -> dict[str, dict[str, float]]:
  """Program -> kind -> bytes that a chip sends at least in one call.

  'parameters': gathered over fsdp in the compute dtype once a use, a use being
  a pass over a micro-batch, forward or back. 'gradients': summed over fsdp and
  data once an update. 'activations': products that are split over tensor, two
  sums a layer forward and two back. 'keys': those of a prompt that is split
  over sequence, gathered once a layer, and their gradients scattered.
  """
  gather, reduce = _parameters(run)
  rl = run.config.rl
  uses = rl.minibatches * rl.microbatches
  (length, patches), parts = of.bucket, build.parts(run.mesh)
  def moved(prompts, tokens, patches):
    each = prompts / parts
    return {'activations': each * _sums(run, tokens, patches),
            'keys': each * _keys(run, tokens, patches)}
  def times(number, kinds):
    return {kind: number * size for kind, size in kinds.items()}
  whole = moved(of.prompts, length + of.group * of.length, patches)
  encode, prefill = moved(of.chunk, 0, patches), moved(of.chunk, length, 0)
  decode = {'activations': of.slots / parts * _sums(run, 1, 0, split=False)}
  score = {'parameters': uses * gather, **whole}
  sample = {'keys': of.prompts / of.chunk * (encode['keys'] + prefill['keys']),
            'activations': of.calls['decode'] * decode['activations']
            + of.prompts / of.chunk * (encode['activations']
                                       + prefill['activations'])}
  return {
      'weigh': {'parameters': gather}, 'encode': encode, 'prefill': prefill,
      'decode': decode, 'sample': sample, 'score': score,
      'prepare': times(passes(run.config), score),
      'update': {'parameters': 2 * rl.epochs * uses * gather,
                 'gradients': rl.epochs * rl.minibatches * reduce,
                 **times(2 * rl.epochs, whole)}}


def _parameters(run: build.Run) -> tuple[float, float]:
  """Bytes that a chip sends to gather all parameters once over fsdp, and to sum
  their gradients once over fsdp and data; rings."""
  specs = traverse_util.flatten_dict(run.specs, sep='/')
  laid = traverse_util.flatten_dict(
      sharding.of_specs(run.mesh, run.specs, run.config.sharding), sep='/')
  shape, size = run.mesh.shape, run.dtype.itemsize
  gather = reduce = 0.
  for path, spec in specs.items():
    own = size * math.prod(laid[path].shard_shape(spec.shape))
    split = 'fsdp' in laid[path].spec
    if split:
      gather += own * (shape['fsdp'] - 1)
      reduce += own * (shape['fsdp'] - 1)
    peers = shape['data'] * (1 if split else shape['fsdp'])
    reduce += 2 * own * (peers - 1) / peers
  return gather, reduce


def _sums(run: build.Run, tokens: int, patches: int, split: bool = True
          ) -> float:
  """Bytes that a chip sends for one row's sums over the tensor axis, forward:
  two a layer, as a ring sends them. `split` over sequence each chip has some of
  the tokens."""
  over, size = run.mesh.shape['tensor'], run.dtype.itemsize
  text, vision = run.model.text, run.model.vision
  each = tokens * text.hidden * text.layers
  each += patches * vision.hidden * vision.depth
  parts = run.mesh.shape[sharding.LONG] if split else 1
  return 2 * size * each * 2 * (over - 1) / over / parts


def _keys(run: build.Run, tokens: int, patches: int) -> float:
  """Bytes that a chip sends so that all of a sequence group have the keys and
  values of one row, of text layers and of blocks that see whole images."""
  over, size = run.mesh.shape[sharding.LONG], run.dtype.itemsize
  text, vision = run.model.text, run.model.vision
  each = 2 * tokens * text.kv_heads * text.head_dim * text.layers
  each += 2 * patches * vision.hidden * len(vision.full_blocks)
  return size * each * (over - 1) / over / run.mesh.shape['tensor']
