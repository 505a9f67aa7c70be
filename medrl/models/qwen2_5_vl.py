"""Qwen2.5-VL: wiring, published sizes and the Hugging Face table.

`forward` is the one path for prefill, scoring and decoding. Nothing here
samples, scores or trains.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax

from medrl import params as params_lib
from medrl import sharding
from medrl import types
from medrl.models import decoder
from medrl.models import group_mask
from medrl.models import kv_cache
from medrl.models import vit_qwen

Spec = params_lib.Spec


@dataclasses.dataclass(frozen=True)
class Config:
  """A decoder and a vision tower."""
  text: decoder.Config
  vision: vit_qwen.Config

  def __post_init__(self):
    if self.vision.out != self.text.hidden:
      raise ValueError(f'the vision tower gives width {self.vision.out}, the '
                       f'decoder takes {self.text.hidden}')


def _published(hidden, layers, heads, kv_heads, ffn, vocab, tied, vision_ffn):
  return Config(
      decoder.Config(hidden, layers, heads, kv_heads, ffn, vocab, tied,
                     1e6, (16, 24, 24)),
      vit_qwen.Config(32, 1280, 16, vision_ffn, hidden, (7, 15, 23, 31)))


# Sizes of the released checkpoints; 32B and 72B rest on assembled sources (the
# 72B's vision ffn and vocabulary, the 32B's depth and window were not seen in a
# published file).
CONFIGS = {
    'qwen2_5_vl_3b': _published(2048, 36, 16, 2, 11008, 151936, True, 3420),
    'qwen2_5_vl_7b': _published(3584, 28, 28, 4, 18944, 152064, False, 3420),
    'qwen2_5_vl_32b': _published(5120, 64, 40, 8, 27648, 152064, False, 3456),
    'qwen2_5_vl_72b': _published(8192, 80, 64, 8, 29568, 152064, False, 3456),
    # The embedded default: learns phantoms and small films on two cores.
    'tiny': Config(
        decoder.Config(128, 4, 4, 2, 384, 1024, True, 1e4, (4, 6, 6)),
        vit_qwen.Config(4, 128, 4, 256, 128, (1, 3))),
    # For tests of the machinery: too small to learn from pictures.
    'toy': Config(
        decoder.Config(32, 2, 4, 2, 64, 1024, True, 1e4, (1, 1, 2)),
        vit_qwen.Config(2, 32, 2, 48, 32, (1,))),
}


def with_options(config: Config, vocab: int = 0, remat: str = 'none',
                 rows: Any = group_mask.PlainRows(),
                 pin: sharding.Rows = sharding.Rows()) -> Config:
  """The same sizes with another vocabulary (0: unchanged), remat policy,
  attention of whole rows (`group_mask.PlainRows`, `splash.Rows`), and what
  keeps rows on their devices (`sharding.Rows`)."""
  wiring = dict(remat=remat, rows=rows, pin=pin)
  return Config(
      dataclasses.replace(config.text, vocab=vocab or config.text.vocab,
                          **wiring),
      dataclasses.replace(config.vision, **wiring))


def from_hf(raw: Mapping[str, Any]) -> Config:
  """Reads a checkpoint's config.json, flat (2025) or nested (transformers 5).

  Raises:
    ValueError: another model type, or an option this family does not have.
  """
  if raw.get('model_type') != 'qwen2_5_vl':
    raise ValueError(f'config.json has model_type {raw.get("model_type")!r}, '
                     f'expected qwen2_5_vl')
  text = {**raw, **(raw.get('text_config') or {})}
  rope = text.get('rope_scaling') or text.get('rope_parameters')
  if text.get('use_sliding_window'):
    raise ValueError('use_sliding_window is on in config.json; no published '
                     'Qwen2.5-VL uses it and this decoder has none')
  theta = text.get('rope_theta') or rope['rope_theta']
  vision = raw['vision_config']
  return Config(
      decoder.Config(
          text['hidden_size'], text['num_hidden_layers'],
          text['num_attention_heads'], text['num_key_value_heads'],
          text['intermediate_size'], text['vocab_size'],
          raw['tie_word_embeddings'], float(theta),
          tuple(rope['mrope_section']), text['rms_norm_eps']),
      vit_qwen.Config(
          vision['depth'], vision['hidden_size'], vision['num_heads'],
          vision['intermediate_size'], vision['out_hidden_size'],
          tuple(vision['fullatt_block_indexes']), vision['patch_size'],
          vision['temporal_patch_size'], vision['spatial_merge_size'],
          vision['window_size'], vision['tokens_per_second']))


def layout(config: Config, min_pixels: int = 3136,
           max_pixels: int = 12_845_056) -> types.Layout:
  """What the processor must know; pixel bounds default to the checkpoint's."""
  v = config.vision
  return types.Layout(
      v.patch, v.merge, v.temporal, v.window, min_pixels, max_pixels,
      {'image_pad': '<|image_pad|>', 'video_pad': '<|video_pad|>',
       'vision_start': '<|vision_start|>', 'vision_end': '<|vision_end|>',
       'im_start': '<|im_start|>', 'im_end': '<|im_end|>',
       'pad': '<|endoftext|>'}, v.tokens_per_second)


def specs(config: Config):
  """Parameter declarations; `head` is absent where it is the embedding."""
  c = config.text
  tree = {
      'embed': Spec((c.vocab, c.hidden), ('vocab', 'embed'), scale=0.02),
      'decoder': decoder.specs(c),
      'vision': vit_qwen.specs(config.vision),
  }
  if not c.tied:
    tree['head'] = Spec((c.vocab, c.hidden), ('vocab', 'embed'),
                        scale=c.hidden ** -0.5)
  return tree


def head(params, config: Config):
  """The output matrix [D, V]; the embedding's transpose where tied."""
  return params['embed' if config.text.tied else 'head'].T


def encode(params, config: Config, media):
  """Soft tokens and their places: stream -> ([P, U, D], slot [P, U])."""
  dtype = params['embed'].dtype
  return {name: (vit_qwen.encode(params['vision'], config.vision, patches,
                                 dtype), patches.slot)
          for name, patches in media.items()}


def forward(params, config: Config, ids, positions, mask, soft=None,
            cache=None, segments=None, groups=None, place=None,
            columns: int = 0):
  """Token ids to hidden states.

  Args:
    params: tree of `specs(config)` in the compute dtype.
    config: sizes.
    ids: int32 [P, G, T].
    positions: int32 [P, G, T, 3].
    mask: bool [P, G, T], False on pads.
    soft: what `encode` gave, put in place of placeholder ids (G = 1 only). The
      places are explicit, so an id the policy writes is never taken for one.
    cache: None or a `kv_cache.Cache`.
    segments, groups, place, columns: see `decoder.forward`.

  Returns:
    hidden [P, G, T, D], cache, aux (empty).
  """
  x, pin = params['embed'][ids], config.text.pin
  for tokens, slot in (soft or {}).values():
    # Where tokens go is not known ahead, so where a prompt lies on several
    # devices, each puts all of them, and a part of their width.
    x, tokens = pin.split(x, 3), pin.split(tokens, 2)
    # Row by row, so that a mesh over rows moves nothing.
    x = jax.vmap(lambda row, at, new: row.at[0, at].set(new, mode='drop'))(
        x, slot, tokens.astype(x.dtype))
  hidden, cache = decoder.forward(params['decoder'], config.text, x, positions,
                                  mask, cache, segments, groups, place,
                                  columns)
  return hidden, cache, {}


def init_cache(config: Config, prefilled, group: int, room: int):
  """Room for the completions behind a prefilled prompt."""
  return kv_cache.init_cache(config.text, prefilled, group, room)


def share(cache, parts: int):
  """See `kv_cache.share`."""
  return kv_cache.share(cache, parts)


def init_slots(config: Config, sizes, kept: str, dtype):
  """See `kv_cache.init_slots`."""
  return kv_cache.init_slots(config.text, sizes, kept, dtype)


def admit(cache, prefilled, rows):
  """See `kv_cache.admit`."""
  return kv_cache.admit(cache, prefilled, rows)


def flops(config: Config, prompt: int, completion: int, patches: int,
          group: int) -> int:
  """Forward FLOPs of one prompt and its completions, multiply-adds as two.

  Matrix products and attention scores; the prompt counts once per group, as it
  is encoded; causal attention counts half.
  """
  t, v = config.text, config.vision
  tokens = prompt + group * completion
  per_layer = t.hidden * t.head_dim * (2 * t.heads + 2 * t.kv_heads) + (
      3 * t.hidden * t.ffn)
  seen = prompt * prompt // 2 + group * completion * (
      prompt + completion // 2)
  text = t.layers * (2 * tokens * per_layer
                     + 4 * seen * t.heads * t.head_dim)
  text += 2 * group * completion * t.hidden * t.vocab
  block = 4 * v.hidden ** 2 + 3 * v.hidden * v.ffn
  spans = len(v.full_blocks) * patches + (
      v.depth - len(v.full_blocks)) * v.row
  merged = v.hidden * v.merge ** 2
  vision = 2 * patches * (v.patch_values * v.hidden + v.depth * block)
  vision += 4 * patches * spans * v.hidden
  vision += 2 * (patches // v.merge ** 2) * merged * (merged + v.out)
  return text + vision


def _linear(ours: str, theirs: str):
  return [(f'{ours}/weight', f'{theirs}.weight', True),
          (f'{ours}/bias', f'{theirs}.bias', False)]


_L, _V = 'model.layers.{}', 'visual.blocks.{}'
# (our path, published tensor name with {} for a stacked layer, transposed).
# A published matrix is [out, in]; ours is [in, out] with heads split.
HF_TABLE = (
    ('embed', 'model.embed_tokens.weight', False),
    ('head', 'lm_head.weight', False),
    ('decoder/norm', 'model.norm.weight', False),
    *_linear('decoder/layers/query', f'{_L}.self_attn.q_proj'),
    *_linear('decoder/layers/key', f'{_L}.self_attn.k_proj'),
    *_linear('decoder/layers/value', f'{_L}.self_attn.v_proj'),
    ('decoder/layers/out', f'{_L}.self_attn.o_proj.weight', True),
    ('decoder/layers/gate', f'{_L}.mlp.gate_proj.weight', True),
    ('decoder/layers/up', f'{_L}.mlp.up_proj.weight', True),
    ('decoder/layers/down', f'{_L}.mlp.down_proj.weight', True),
    ('decoder/layers/attention_norm', f'{_L}.input_layernorm.weight', False),
    ('decoder/layers/mlp_norm', f'{_L}.post_attention_layernorm.weight', False),
    ('vision/patch', 'visual.patch_embed.proj.weight', True),
    *_linear('vision/blocks/qkv', f'{_V}.attn.qkv'),
    *_linear('vision/blocks/out', f'{_V}.attn.proj'),
    *_linear('vision/blocks/gate', f'{_V}.mlp.gate_proj'),
    *_linear('vision/blocks/up', f'{_V}.mlp.up_proj'),
    *_linear('vision/blocks/down', f'{_V}.mlp.down_proj'),
    ('vision/blocks/norm1', f'{_V}.norm1.weight', False),
    ('vision/blocks/norm2', f'{_V}.norm2.weight', False),
    ('vision/merger/norm', 'visual.merger.ln_q.weight', False),
    *_linear('vision/merger/hidden', 'visual.merger.mlp.0'),
    *_linear('vision/merger/out', 'visual.merger.mlp.2'),
)
# transformers 5 writes other prefixes than the released files.
HF_PREFIXES = (('model.language_model.', 'model.'),
               ('model.visual.', 'visual.'))
