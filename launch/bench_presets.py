"""The benchmark's presets: small dicts, and how they become a config.

A preset names the `platform` it is for, the `model` (sizes, or a name of the
family's), the pictures of its prompts and what differs in the config. Nothing
is built or run here.
"""

from experiments import base
from launch import bench_data
from launch import bench_ragged
from medrl import lookup
from medrl.models import decoder
from medrl.models import qwen2_5_vl
from medrl.models import vit_qwen

# The tokenizer's ids in a released Qwen2.5-VL; rows beyond them are padding.
TOKENS = 151_665
# A random Qwen2.5-VL of 43 M parameters under the real vocabulary.
YARDSTICK = qwen2_5_vl.Config(
    decoder.Config(hidden=256, layers=4, heads=4, kv_heads=2, ffn=704,
                   vocab=152_064, tied=True, rope_theta=1e6,
                   mrope_section=(8, 12, 12)),
    vit_qwen.Config(depth=4, hidden=128, heads=4, ffn=256, out=256,
                    full_blocks=(1, 3)))
# The same under fewer ids, for a step of many tokens on a small machine.
SMALL = qwen2_5_vl.with_options(YARDSTICK, vocab=32_768)
MIXED = ((224, 224), (112, 168), (336, 336), (168, 280))

_ACCELERATOR = {
    'model.compute_dtype': 'bfloat16', 'model.reference_dtype': 'bfloat16',
    'model.remat': 'full',
}
_RAGGED = {'rollout.length': 144, 'data.buckets': ((192, 576),)}

PRESETS = {
    # The work of the yardstick that other trainers were timed at: four prompts
    # with one image, eight completions of exactly 64 tokens.
    'cpu_yardstick': dict(
        platform='cpu', model=YARDSTICK, prompts=4, sides=((224, 224),),
        config={'rollout.group': 8, 'rollout.length': 64,
                'data.buckets': ((98, 256),)}),
    'cpu_ragged': dict(
        platform='cpu', model=SMALL, prompts=16, sides=MIXED,
        config=_RAGGED | {'rollout.fn': 'launch.bench_ragged.refilled',
                          'rollout.group': bench_ragged.GROUP,
                          'rollout.slots': 8, 'rollout.resident': 4,
                          'rollout.chunk': 2, 'rl.pack.tokens': 288,
                          'rl.pack.rows': (24,)}),
    # The same, and the whole batch waits for the longest completion.
    'cpu_ragged_lockstep': dict(
        platform='cpu', model=SMALL, prompts=16, sides=MIXED,
        config=_RAGGED | {'rollout.fn': 'launch.bench_ragged.lockstep',
                          'rollout.group': bench_ragged.GROUP}),
    # The same completions without what makes it fast: nothing is refilled, and
    # a prompt is encoded for each of its completions.
    'cpu_ragged_unshared': dict(
        platform='cpu', model=SMALL, prompts=16, sides=MIXED,
        repeats=bench_ragged.GROUP,
        config=_RAGGED | {'rollout.fn': 'launch.bench_ragged.unshared',
                          'rollout.group': 1,
                          # All pictures at once take 35 GB.
                          'rl.microbatches': 16}),
    # About 675 tokens a sample: 324 of the image, some 40 of text, 312 written.
    'gpu_3b': dict(
        platform='gpu', model='qwen2_5_vl_3b', prompts=64, sides=((504, 504),),
        config=_ACCELERATOR | {
            'rollout.group': 8, 'rollout.length': 312,
            'data.buckets': ((384, 1344),), 'rl.microbatches': 16}),
    'gpu_7b': dict(
        platform='gpu', model='qwen2_5_vl_7b', prompts=32, sides=((504, 504),),
        config=_ACCELERATOR | {
            'rollout.group': 8, 'rollout.length': 312,
            'data.buckets': ((384, 1344),), 'rl.microbatches': 16,
            # All in float32 would need more than a card of 139 GiB has.
            'rl.optim.moment_dtype': 'bfloat16'}),
    # To see that the benchmark itself works.
    'toy': dict(
        platform='cpu', model='toy', prompts=2, sides=((56, 56), (56, 112)),
        config={'rollout.group': 3, 'rollout.length': 4,
                'data.buckets': ((64, 64),)}),
}


def find(name: str) -> dict:
  """The preset of a name; raises ValueError, which lists them all."""
  if name not in PRESETS:
    raise ValueError(f'preset {name!r}: {lookup.nearest(name, [*PRESETS])}')
  return PRESETS[name]


def check(name: str, platform: str) -> None:
  """Raises ValueError where a preset is for another platform than `platform`.
  """
  wanted = find(name)['platform']
  if wanted != platform:
    raise ValueError(
        f'preset {name!r} needs a {wanted}, and jax runs on {platform!r} here; '
        f'take another preset, or --dry_run, which compiles and runs nothing')


def sizes(preset) -> qwen2_5_vl.Config:
  model = preset['model']
  return qwen2_5_vl.CONFIGS[model] if isinstance(model, str) else model


def config_of(name: str):
  """The config of a run: the full default, and what the preset changes."""
  preset = find(name)
  c = base.get_config()
  # Its vocabulary holds the tokenizer that a run builds for itself.
  c.model.size = preset['model'] if isinstance(preset['model'], str) else 'tiny'
  c.processor.update(dict(system=bench_data.SYSTEM, user='{question}',
                          max_pixels=12_845_056))
  c.data.dataset = 'launch.bench_data.records'
  repeats = preset['repeats'] if 'repeats' in preset else 1
  c.data.options = dict(prompts=preset['prompts'], sides=preset['sides'],
                        repeats=repeats)
  c.rewards = {'evens': {'fn': 'launch.bench_data.evens', 'weight': 1.}}
  c.rollout.prompts = preset['prompts'] * repeats
  c.rl.kl_weight = 0.01
  c.rl.optim.update(dict(learning_rate=1e-6, warmup=0))
  c.model.reference_dtype = 'float32'
  c.mesh.update(dict(data=1))
  c.update_from_flattened_dict(preset['config'])
  return c
