"""Times TRL's GRPO step on the work of `bench.py --preset=cpu_yardstick`.

  python launch/bench_trl.py --tokenizer FOLDER [FOLDER] [--steps=3]

Needs an environment of its own, with torch (a build for the CPU), transformers,
trl 1.16 and pillow, and torchvision installed without its dependencies: the
processor's classes want it, and two of its operators are declared here where
they have no matching build. `--tokenizer` is the folder of a released
Qwen2.5-VL's tokenizer and chat template, or several that hold its files
together. Nothing of medrl is run; sizes, pictures and the question are those
of `bench_presets` and `bench_data`, written out again for transformers.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

PROMPTS, GROUP, TOKENS, SIDE, BETA = 4, 8, 64, 224, 0.01
QUESTION = 'Is there a lesion in the picture? Answer yes or no.'
TEXT = dict(
    hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, intermediate_size=704, vocab_size=152_064,
    tie_word_embeddings=True, max_position_embeddings=4096,
    rope_parameters={'rope_type': 'default', 'rope_theta': 1e6,
                     'mrope_section': [8, 12, 12]})
VISION = dict(
    depth=4, hidden_size=128, num_heads=4, intermediate_size=256,
    out_hidden_size=256, fullatt_block_indexes=[1, 3])


def libraries():
  """torch, transformers and trl; exits with what to install where absent."""
  try:
    import torch
    # Without its own build torchvision fails at import for want of these.
    library = torch.library.Library('torchvision', 'DEF')
    for operator in ('nms(Tensor dets, Tensor scores, float threshold)',
                     'qnms(Tensor dets, Tensor scores, float threshold)'):
      library.define(f'{operator} -> Tensor')
    import transformers
    import trl
  except ImportError as error:
    raise SystemExit(f'{error}; this script needs torch, transformers, trl and '
                     f'torchvision (without its dependencies) in an '
                     f'environment of their own, see its first lines')
  return torch, transformers, trl, library


def make_model(transformers, folder: pathlib.Path) -> int:
  """Writes random float32 weights and their config; returns the parameters."""
  # Ids of the special tokens, as released.
  config = transformers.Qwen2_5_VLConfig(
      text_config=TEXT, vision_config=VISION, image_token_id=151_655,
      video_token_id=151_656, vision_start_token_id=151_652,
      vision_end_token_id=151_653, tie_word_embeddings=True)
  model = transformers.Qwen2_5_VLForConditionalGeneration(config)
  model.generation_config.eos_token_id = [151_645, 151_643]
  model.save_pretrained(folder)
  return model.num_parameters()


def make_processor(transformers, sources, folder: pathlib.Path):
  """The released processor, of a tokenizer's files."""
  for source in sources:
    for file in pathlib.Path(source).iterdir():
      if file.name != 'config.json':   # the model's is written already
        shutil.copy(file, folder)
  template = json.loads((folder / 'chat_template.json').read_text())
  return transformers.Qwen2_5_VLProcessor(
      image_processor=transformers.Qwen2VLImageProcessor(),
      tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
      video_processor=transformers.Qwen2VLVideoProcessor(),
      chat_template=template['chat_template'])


def records():
  """Four prompts of one picture of noise each."""
  import datasets
  rows = []
  for seed in range(PROMPTS):
    pixels = np.random.default_rng(seed).integers(
        0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    rows.append({'prompt': [{'role': 'user', 'content': QUESTION}],
                 'image': Image.fromarray(pixels)})
  return datasets.Dataset.from_list(rows)


def evens(completion_ids, **more):
  """The share of even ids, as the benchmark's reward."""
  del more
  return [sum(i % 2 == 0 for i in ids) / len(ids) for ids in completion_ids]


def settings(trl, flags, folder: pathlib.Path):
  """TRL's own defaults but for what the yardstick prescribes."""
  return trl.GRPOConfig(
      output_dir=str(folder), max_steps=flags.steps,
      per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP,
      gradient_accumulation_steps=1, max_completion_length=TOKENS,
      generation_kwargs={'min_new_tokens': TOKENS}, beta=BETA,
      temperature=1.0, gradient_checkpointing=flags.gradient_checkpointing,
      use_cpu=True, bf16=False, model_init_kwargs={'dtype': 'float32'},
      logging_steps=1, report_to='none', save_strategy='no',
      disable_tqdm=True, seed=0)


def clock(transformers):
  """A callback that keeps the seconds of each step, generation included."""
  class Clock(transformers.TrainerCallback):

    def __init__(self):
      self.begun, self.seconds = 0., []

    def on_step_begin(self, args, state, control, **more):
      self.begun = time.perf_counter()

    def on_step_end(self, args, state, control, **more):
      self.seconds.append(time.perf_counter() - self.begun)

  return Clock()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--tokenizer', required=True, nargs='+')
  parser.add_argument('--steps', default=3, type=int)
  parser.add_argument('--threads', default=2, type=int)
  parser.add_argument('--gradient_checkpointing', default=True,
                      action=argparse.BooleanOptionalAction,
                      help='recompute layers when going back, TRL\'s default')
  flags = parser.parse_args()
  torch, transformers, trl, _ = libraries()
  torch.set_num_threads(flags.threads)
  torch.manual_seed(0)
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    count = make_model(transformers, folder)
    timer = clock(transformers)
    trainer = trl.GRPOTrainer(
        model=str(folder), reward_funcs=evens, train_dataset=records(),
        args=settings(trl, flags, folder / 'out'),
        processing_class=make_processor(transformers, flags.tokenizer, folder),
        callbacks=[timer])
    trainer.train()
  logged = [row for row in trainer.state.log_history if 'loss' in row]
  print(json.dumps({
      'trl': trl.__version__, 'torch': torch.__version__,
      'transformers': transformers.__version__, 'parameters': count,
      'threads': flags.threads, 'load': os.getloadavg()[0],
      'gradient_checkpointing': flags.gradient_checkpointing,
      'shapes': {'prompts': PROMPTS, 'group': GROUP, 'new_tokens': TOKENS,
                 'vocab': TEXT['vocab_size'], 'beta': BETA},
      'completion_length': logged[-1]['completions/mean_length'],
      'loss': logged[-1]['loss'], 'steps_s': timer.seconds,
      'best_s': min(timer.seconds),
      'median_s': statistics.median(timer.seconds)}))


if __name__ == '__main__':
  main()
