"""The benchmark: presets, counted work, and its JSON. Times are not tested."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch import bench
from launch import bench_ceilings
from launch import bench_counts
from launch import bench_estimate
from launch import bench_presets
from launch import bench_ragged
from launch import bench_trl
from launch import roofline
from medrl import params
from medrl import types
from medrl.models import qwen2_5_vl
from medrl.rollout import sampling

# Layers, width, key width, ffn, head columns; and tokens of the text.
LONGHAND = {
    'cpu_yardstick': (4, 256, 2 * 64, 704, 152_064),
    'gpu_3b': (36, 2048, 2 * 128, 11008, 151_936),
    'gpu_7b': (28, 3584, 4 * 128, 18944, 152_064),
}


def shapes_of(name):
  """A step without padding, as the preset's pictures and lengths give it."""
  preset, config = bench_presets.find(name), bench_presets.config_of(name)
  p, r = preset['prompts'], config.rollout
  patches = sum(h * w // 196 for h, w in (
      preset['sides'][i % len(preset['sides'])] for i in range(p)))
  return bench_counts.Shapes(
      prompts=p, group=r.group, prompt_tokens=patches // 4 + 34 * p,
      patches=patches, completion_tokens=p * r.group * r.length,
      iterations=r.length)


def test_yardstick_is_the_published_work():
  preset = bench_presets.find('cpu_yardstick')
  config = bench_presets.config_of('cpu_yardstick')
  model = bench_presets.sizes(preset)
  assert params.count(qwen2_5_vl.specs(model)) == 43_087_488
  assert (model.text.layers, model.text.hidden) == (4, 256)
  assert (model.vision.depth, model.vision.hidden) == (4, 128)
  assert model.text.vocab == 152_064
  assert (config.rollout.prompts, config.rollout.group) == (4, 8)
  assert config.rollout.length == 64 and config.rl.kl_weight == 0.01
  assert preset['sides'] == ((224, 224),)
  assert config.model.compute_dtype == 'float32'


def test_other_trainer_has_the_same_sizes():
  text, vision = bench_trl.TEXT, bench_trl.VISION
  raw = {'model_type': 'qwen2_5_vl', **text, 'rms_norm_eps': 1e-6,
         'rope_scaling': text['rope_parameters'], 'rope_theta': 1e6,
         'vision_config': {**vision, 'patch_size': 14, 'window_size': 112,
                           'temporal_patch_size': 2, 'spatial_merge_size': 2,
                           'tokens_per_second': 2.}}
  assert qwen2_5_vl.from_hf(raw) == bench_presets.YARDSTICK
  shapes = shapes_of('cpu_yardstick')
  assert (shapes.prompts, shapes.group, shapes.completion_tokens) == (
      bench_trl.PROMPTS, bench_trl.GROUP,
      bench_trl.PROMPTS * bench_trl.GROUP * bench_trl.TOKENS)


@pytest.mark.parametrize('name', sorted(bench_presets.PRESETS))
def test_prompts_fit_their_bucket(name):
  preset, config = bench_presets.find(name), bench_presets.config_of(name)
  ((tokens, patches),) = config.data.buckets
  for height, width in preset['sides']:
    # Nothing is resized.
    assert not height % 28 and not width % 28 and height * width >= 3136
    # 34 tokens of text, see bench_data; patches come in whole windows.
    assert height * width // 784 + 34 <= tokens
    assert height * width // 196 <= patches
  if preset['platform'] == 'gpu':
    shapes = shapes_of(name)
    sample = shapes.prompt_tokens / shapes.prompts + config.rollout.length
    assert abs(sample - 675) < 10


@pytest.mark.parametrize('name', sorted(LONGHAND))
def test_products_longhand(name):
  layers, width, keys, ffn, vocab = LONGHAND[name]
  model = bench_presets.sizes(bench_presets.find(name))
  shapes, v = shapes_of(name), model.vision
  layer = 2 * width * width + 2 * width * keys + 3 * width * ffn
  block = 4 * v.hidden ** 2 + 3 * v.hidden * v.ffn
  merged = 4 * v.hidden
  found = bench_counts.products(qwen2_5_vl.specs(model), model, shapes)
  assert found == {
      'vision': 2 * shapes.patches * (1176 * v.hidden + v.depth * block)
                + 2 * shapes.patches // 4 * merged * (merged + width),
      'prompt': 2 * layers * layer * shapes.prompt_tokens,
      'completion': 2 * layers * layer * shapes.completion_tokens,
      'head': 2 * width * vocab * shapes.completion_tokens}


@pytest.mark.parametrize('name', sorted(LONGHAND))
def test_floor_is_ten_nd(name):
  model = bench_presets.sizes(bench_presets.find(name))
  specs, shapes = qwen2_5_vl.specs(model), shapes_of(name)
  nd = sum(bench_counts.products(specs, model, shapes).values()) / 2
  found = bench_counts.floor(specs, model, shapes, rate=2e9)
  assert {n: part['flops'] / nd for n, part in found.items()} == {
      'forward': 2, 'backward': 4, 'reference': 2, 'sampling': 2, 'whole': 10}
  assert found['whole']['seconds'] == pytest.approx(10 * nd / 2e9)


@pytest.mark.parametrize('name', sorted(LONGHAND))
def test_parts_are_products_and_attention(name):
  model = bench_presets.sizes(bench_presets.find(name))
  shapes = shapes_of(name)
  parts = bench_counts.parts(qwen2_5_vl, model, shapes)
  one = bench_counts.products(qwen2_5_vl.specs(model), model, shapes)
  assert parts['encode'] + parts['prefill'] + parts['decode'] == parts['score']
  assert parts['update'] == 3 * parts['score']
  s = shapes.prompt_tokens // shapes.prompts
  t = shapes.completion_tokens // shapes.prompts // shapes.group
  # 4 FLOPs a pair and channel: scores and their use, a multiply and an add.
  pair = 4 * model.text.layers * model.text.heads * model.text.head_dim
  assert parts['prefill'] == one['prompt'] + (
      shapes.prompts * pair * (s * s // 2))
  assert parts['decode'] == one['completion'] + one['head'] + (
      shapes.completion_tokens * pair * (s + t // 2))


def test_decode_bytes_longhand():
  model = bench_presets.YARDSTICK
  shapes = bench_counts.Shapes(prompts=2, group=4, prompt_tokens=200,
                               patches=512, completion_tokens=80, iterations=10)
  specs = qwen2_5_vl.specs(model)
  weights = params.count(specs['decoder']) + 256 * 152_064
  key = 2 * 4 * 2 * 64   # keys and values, layers, heads, width
  # Ten steps: two prompts of 100, and eight completions of 5 on average.
  seen = 10 * (2 * 100 + 8 * 5)
  assert bench_counts.decode_bytes(specs, model, shapes, itemsize=4) == (
      4 * (10 * weights + key * seen))


@pytest.mark.parametrize('count,longest', [(256, 144), (128, 60), (64, 600)])
def test_lengths_are_skewed(count, longest):
  sizes = bench_ragged.lengths(count, longest)
  assert sizes.max() == longest and sizes.min() >= 1
  assert sizes.shape == (count,) and sizes.dtype == np.int32
  # Rounding to whole tokens moves the mean of short ones.
  assert longest / sizes.mean() == pytest.approx(6, rel=.05)
  # Log-normal: the logarithms are symmetric.
  logs = np.log(sizes)
  assert abs(logs.mean() - np.median(logs)) < .1
  np.testing.assert_array_equal(sizes, bench_ragged.lengths(count, longest))


@pytest.mark.slow
def test_ragged_samplers_write_the_same(monkeypatch):
  monkeypatch.setattr(bench_ragged, 'GROUP', 3)
  config = qwen2_5_vl.with_options(qwen2_5_vl.CONFIGS['toy'], vocab=64)
  weights = params.init(jax.random.key(0), qwen2_5_vl.specs(config))
  ids = jax.random.randint(jax.random.key(1), (2, 5), 3, 60)
  positions = jnp.broadcast_to(jnp.arange(5)[None, :, None], (2, 5, 3))
  batch = types.Batch(ids, positions, jnp.ones(ids.shape, bool), {})
  key = jax.random.key(2)
  options = sampling.Options(group=3, length=7, stop=(0,), banned=(0,))
  def run(fn, batch, options):
    rows = jnp.arange(len(batch.ids))
    return jax.jit(lambda w, b: fn(qwen2_5_vl, config, w, b, key, rows,
                                   options))(weights, batch)
  one = run(bench_ragged.lockstep, batch, options)
  two = run(bench_ragged.refilled, batch, dataclasses.replace(
      options, slots=2, resident=1))
  alone = jax.tree.map(lambda x: jnp.repeat(x, 3, axis=0), batch)
  three = run(bench_ragged.unshared, alone,
              sampling.Options(group=1, length=7, stop=(0,), banned=(0,)))
  limits = bench_ragged.lengths(6, 7).reshape(2, 3)
  np.testing.assert_array_equal(one.action_mask.sum(-1), limits)
  for other in (two, three):
    for name in ('tokens', 'action_mask'):
      np.testing.assert_array_equal(
          getattr(one, name), getattr(other, name).reshape(2, 3, 7))
  # All of lockstep's rows wait for the longest.
  assert float(one.capacity.sum()) == 7 * 6
  assert float(two.capacity.sum()) < 7 * 6


@pytest.fixture
def small(monkeypatch):
  """Ceilings of no use that are measured at once."""
  monkeypatch.setitem(bench_ceilings.SIDES, 'cpu', (32, 64))
  monkeypatch.setitem(bench_ceilings.COPIED, 'cpu', 2 ** 16)
  monkeypatch.setitem(bench_ceilings.ROWS, 'cpu', (8, 32))
  monkeypatch.setattr(bench_ceilings, 'BYTES', (2 ** 10, 2 ** 12))
  monkeypatch.setitem(bench_ceilings.COPIES, 'cpu', (2 ** 14,))


@pytest.mark.slow
def test_json(small, capsys):
  bench.main(['--preset=toy', '--json', '--repeats=1', '--against=toy'])
  result = json.loads(capsys.readouterr().out)
  assert result['shapes'] == {
      'prompts': 2, 'group': 3, 'new_tokens': 4, 'vocab': 1024, 'beta': 0.01,
      'prompt_tokens': 34 + 6, 'patches': 24}
  assert result['sampled_tokens'] == 2 * 3 * 4
  assert math.isfinite(result['loss'])
  # One program samples and one scores, in float32.
  assert result['logp_gap'] < 1e-4
  assert set(result['parts']) == {'encode', 'prefill', 'sample', 'decode',
                                  'score', 'update'}
  assert result['slot_utilisation'] == 1
  assert result['compiles']['in_steps'] == 0 < result['compiles']['count']
  for part in result['parts'].values():
    assert 0 < part['best_s'] <= part['median_s']
  loop = sum(result['loop_s'].values())
  assert 0 < loop <= result['whole_step_s'] <= result['whole_step_median_s']
  assert result['samples_per_s'] == pytest.approx(6 / result['whole_step_s'])
  assert min(result['ceilings'].values()) > 0 < result['peak_bytes']
  assert result['padding']['completion'] == 0 < result['padding']['prompt'] < 1
  programs = result['estimate']['programs']
  assert set(programs) == {'sample', 'prepare', 'update', 'weigh'}
  # Forward and back, and the head's logits once more.
  assert 3 < programs['update']['flops'] / programs['prepare']['flops'] < 4
  assert result['estimate_s'] == pytest.approx(
      sum(one['total'] for one in programs.values()))
  assert result['estimate_over_step'] == pytest.approx(
      result['estimate_s'] / result['whole_step_s'])
  assert result['estimate']['turns'] == {'while': 4, 'while/body/while': 1 / 4}
  # The second run of the same preset writes the same.
  assert result['against']['same_completions'] == len(result['written'])


def test_dry_run_makes_nothing(capsys):
  bench.main(['--preset=toy', '--dry_run'])
  text = capsys.readouterr().out
  assert 'held all the time' in text and 'update: arguments' in text


def test_unknown_preset_names_the_nearest():
  with pytest.raises(ValueError, match='gpu_3c.*gpu_3b'):
    bench.main(['--preset=gpu_3c'])


@pytest.mark.parametrize('name', ['gpu_3b', 'gpu_7b'])
def test_no_gpu_is_said(name, monkeypatch):
  monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.5')
  with pytest.raises(ValueError, match=f"{name}.*needs a gpu.*'cpu'"):
    bench.main([f'--preset={name}'])


@pytest.mark.parametrize('changed,encoded', [
    ({}, 1), ({'chunk': 2}, 4), ({'chunk': 2, 'resident': 4}, 4),
    ({'resident': 3}, 3)])
def test_turns_of_the_sampler(changed, encoded):
  rollout = bench_presets.config_of('cpu_ragged').rollout
  rollout.update({'prompts': 8, 'chunk': 0, 'resident': 0} | changed)
  assert bench_estimate.turns(rollout, 100) == {
      'while': 100, 'while/body/while': encoded / 100}


def test_rates_by_size_are_measured(small):
  found = bench_ceilings.curves(jnp.float32, repeats=1)
  assert set(found.products) == {8, 32}
  assert set(found.moves) == {1024, 4096, 16384}
  assert min(*found.products.values(), *found.moves.values()) > 0
  twice = roofline.Curves({8: 2., 32: 0.}, {1024: 0., 4096: 1e30, 16384: 0.})
  best = bench_ceilings.better(found, twice)
  assert best.products == found.products
  assert best.moves == found.moves | {4096: 1e30}


def test_recorded_runs_name_their_command():
  result = {'preset': 'toy', 'whole_step_s': 1.23456, 'device': 'cpu'}
  assert bench_estimate.run(result, 'command', '2026-01-02') == {
      'key': ['toy', 'cpu'], 'step_s': 1.2346, 'command': 'command',
      'date': '2026-01-02', 'device': 'cpu'}


def test_timed_drops_the_first_run():
  calls = []
  found = bench_ceilings.timed(lambda: calls.append(1), repeats=3)
  assert len(calls) == 4 and 0 < found['best_s'] <= found['median_s']


def test_compiles_are_counted():
  with bench_ceilings.compiles() as seconds:
    function = jax.jit(lambda x: x * 3 + 1)
    x = np.ones(3)
    function(x), function(x)
  once = len(seconds)
  jax.jit(lambda x: x * 4 + 1)(np.ones(3))   # closed, so not counted
  assert once == len(seconds) >= 1
