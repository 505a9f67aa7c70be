"""Small random Qwen2.5-VL models in torch, with `toy`'s prompts.

The torch side gets ids and grids and works out positions, windows and places by
itself. Nothing here is compared; the tests do that.
"""

from typing import Any

import jax
import numpy as np
import torch
import transformers

from medrl import types
from medrl.models import qwen2_5_vl
from tests.oracles import toy

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
TICKS = 4   # positions a second in `torch_model`


def torch_model(seed: int, tied: bool):
  """A model whose every parameter is random, norms and biases too."""
  config = transformers.Qwen2_5_VLConfig(
      text_config=dict(
          vocab_size=toy.VOCAB, hidden_size=64, intermediate_size=96,
          num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
          rms_norm_eps=1e-6, initializer_range=0.1, bos_token_id=1,
          eos_token_id=2, max_position_embeddings=512,
          rope_parameters=dict(rope_type='default', rope_theta=1e4,
                               mrope_section=[2, 3, 3])),
      vision_config=dict(
          depth=4, hidden_size=32, intermediate_size=48, num_heads=2,
          out_hidden_size=64, fullatt_block_indexes=[1, 3],
          initializer_range=0.1, tokens_per_second=TICKS),
      image_token_id=toy.IMAGE, video_token_id=toy.VIDEO,
      vision_start_token_id=toy.START, vision_end_token_id=toy.END,
      tie_word_embeddings=tied)
  torch.manual_seed(seed)
  model = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
  for name, value in model.named_parameters():
    if value.ndim == 1:  # torch starts norms at 1 and biases at 0
      value.data.normal_(0. if name.endswith('bias') else 1., 0.3)
  return model


def torch_inputs(prompts: list[toy.Prompt]) -> dict[str, Any]:
  """What a Hugging Face processor hands over, padded at the right."""
  length = max(len(p.ids) for p in prompts)
  ids = np.stack([toy.padded(p.ids, length) for p in prompts]).astype(np.int64)
  mask = np.stack([toy.padded(np.ones(len(p.ids), np.int64), length)
                   for p in prompts])
  inputs = {'input_ids': ids, 'attention_mask': mask,
            'mm_token_type_ids': ((ids == toy.IMAGE) + 2 * (ids == toy.VIDEO)
                                  ).astype(np.int32)}
  media = [medium for p in prompts for medium in p.images]
  for kind, suffix in ('image', ''), ('video', '_videos'):
    own = [m for m in media if (m[1][0] > 1) == (kind == 'video')]
    if own:
      pixels = np.concatenate([np.repeat(v, 2 // v.shape[1], axis=1)
                               for v, _ in own]).reshape(-1, 2 * 14 * 14, 3)
      pixels = pixels.swapaxes(1, 2)   # channels outermost, as published
      pixels = (pixels / 255 - MEAN[:, None]) / STD[:, None]
      pixels = pixels.reshape(len(pixels), -1).astype(np.float32)
      inputs[f'pixel_values{suffix}'] = pixels
      inputs[f'{kind}_grid_thw'] = np.array([grid for _, grid in own])
      if kind == 'video':   # a tick from patch to patch
        inputs['second_per_grid_ts'] = np.full(len(own), 1 / TICKS)
  return {name: torch.tensor(value) for name, value in inputs.items()}


@torch.no_grad()
def torch_logits(model, prompts: list[toy.Prompt]) -> np.ndarray:
  """Logits [P, S, V]; what stands on pads means nothing."""
  return model(**torch_inputs(prompts)).logits.numpy()


@torch.no_grad()
def torch_soft(model, prompts: list[toy.Prompt]) -> np.ndarray:
  """Soft tokens of all images, in raster order, [n, D]."""
  inputs = torch_inputs(prompts)
  out = model.model.get_image_features(inputs['pixel_values'],
                                       inputs['image_grid_thw'])
  return torch.cat(out.pooler_output).numpy()


def logits(params, config, batch: types.Batch):
  """Ours: soft tokens per stream and logits [P, S, V]."""
  with jax.default_matmul_precision('highest'):
    hidden, _ = toy.prefill(params, config, batch)
    return (qwen2_5_vl.encode(params, config, batch.media),
            hidden @ qwen2_5_vl.head(params, config))
