"""What --dry_run prints and saves, and whether the work it foretells is true.
"""

import dataclasses
import json
import math
import pathlib
import re
import shutil
import stat

import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from experiments import phantom
from experiments import ultrasound
from medrl import build
from medrl import costs
from medrl import feed
from medrl import lookup
from medrl import params as params_lib
from medrl import sharding
from medrl import types
from medrl.evals import dry_run
from medrl.media import image as image_lib
from medrl.models import qwen2_5_vl

DATA = pathlib.Path(__file__).parents[2] / '../shared/data'
real = pytest.mark.skipif(not (DATA / 'derived_vqa').is_dir(),
                          reason='the data folder is not here')


def shown(config, workdir, capsys):
  dry_run.show(config, workdir)
  return capsys.readouterr().out


def saved(workdir):
  return [np.asarray(Image.open(path))
          for path in sorted((workdir / 'dry_run').glob('*.png'))]


def test_phantom(tmp_path, capsys):
  config = phantom.get_config('runlocal')
  config.data.options.update(count=12, tasks=('change', 'side'))
  config.data.buckets = ((64, 64), (80, 128))
  config.rl.minibatches, config.rl.kl_weight = 2, .1
  config.sft.length = 96
  (tmp_path / 'dry_run').mkdir(mode=0o700)
  (tmp_path / 'dry_run/9.png').write_text('of an earlier dry run')
  out = shown(config, tmp_path, capsys)
  assert 'remat: none' in out and '12 records, 12 of them looked at' in out
  assert 'bucket (64, 64): 6 records' in out
  assert 'bucket (80, 128): 6 records' in out
  record = feed.records(config, 'train')[0]
  assert record.task == 'change' and record.question in out
  assert out.count('<|image_pad|>') == 2
  assert f'{record.demonstration}\nthe answer is {record.answer}; ' in out
  assert re.search(r"reward 1\.1, of which \{'answer': 1\.0, 'format': 1\.0\}",
                   out)
  first, second = saved(tmp_path)
  for found, media in zip((first, second), record.media):
    wanted = lookup.resolve(media.loader)(media.path, '', **media.options)
    np.testing.assert_array_equal(found, wanted)
  assert ("{'sample': 1, 'old log-probs': 1, 'reference': 1, 'teachers': 0, "
          "'update': 3}") in out
  assert '127,840 parameters; ' in out and 'reference 0.2' in out
  assert not (tmp_path / 'checkpoints').exists()


def lengths(out, name):
  """Records in a histogram."""
  rows = re.search(f'{name}:\n((?: .*\n)+)', out)[1].splitlines()
  return sum(int(row.split()[3]) for row in rows)


def test_lengths_add_up(tmp_path, capsys):
  config = phantom.get_config('runlocal')
  config.data.options.count = 24
  out = shown(config, tmp_path, capsys)
  for name in 'prompt tokens', 'patches', 'demonstration tokens':
    assert lengths(out, name) == 24


@real
def test_real_pictures(tmp_path, capsys):
  config = ultrasound.get_config('runlocal')
  config.data.root = str(DATA)
  config.data.options.limit = 12
  out = shown(config, tmp_path, capsys)
  assert 'bucket (72, 64): 12 records' in out
  record = feed.records(config, 'train')[0]
  assert record.question in out and 'A. normal' in out
  np.testing.assert_array_equal(
      saved(tmp_path)[0], image_lib.load(record.media[0].path, str(DATA)))
  folder = (tmp_path / 'dry_run').stat()
  assert stat.S_IMODE(folder.st_mode) == 0o700


def lines(images):
  return '\n'.join(json.dumps(dict(
      id=f'r{i}', images=names, question=f'Is it {i}?', answer='yes',
      answer_type='yesno')) for i, names in enumerate(images))


@real
def test_two_pictures_none_and_a_missing_one(tmp_path, capsys):
  names = [f'benign_{i}.jpg' for i in (1, 2)]
  (tmp_path / 'data').mkdir()
  for name in names:
    shutil.copy(DATA / 'busi/images' / name, tmp_path / 'data')
  (tmp_path / 'data/mine.jsonl').write_text(
      lines([names[:1], [], names, ['absent.jpg']]))
  config = ultrasound.get_config('runlocal')
  config.data.root = str(tmp_path / 'data')
  config.data.options = dict(file='mine.jsonl', validation=0., test=0.)
  config.data.buckets = ((32, 0), (96, 192))
  config.sft.demonstrate, config.sft.steps = '', 0
  config.data.on_bad = 'skip'
  out = shown(config, tmp_path / 'run', capsys)
  assert '4 records, 4 of them looked at' in out
  assert re.search(r'1 cannot be used \("skip" .*FileNotFoundError', out)
  assert 'bucket (32, 0): 1 records' in out
  assert 'bucket (96, 192): 2 records' in out
  assert out.count('<|image_pad|>') == 2 and 'Is it 2?' in out
  assert '<think></think><answer>yes</answer>' in out
  assert [x.shape for x in saved(tmp_path / 'run')] == [
      image_lib.load(n, config.data.root).shape for n in names]


def test_text_alone(tmp_path, capsys):
  (tmp_path / 'mine.jsonl').write_text(lines([[], []]))
  config = ultrasound.get_config('runlocal')
  config.data.root = str(tmp_path)
  config.data.options = dict(file='mine.jsonl', validation=0., test=0.)
  config.data.buckets = ((32, 0),)
  out = shown(config, tmp_path / 'run', capsys)
  assert 'bucket (32, 0): 2 records' in out and '<|image_pad|>' not in out
  assert not saved(tmp_path / 'run')


def test_no_usable_record_is_an_error(tmp_path, capsys):
  config = phantom.get_config('runlocal')
  config.data.options.count = 4
  config.data.buckets = ((8, 64),)
  with pytest.raises(ValueError, match='no record can be used'):
    dry_run.show(config, tmp_path)
  out = capsys.readouterr().out
  assert '4 cannot be used' in out and 'prompt too long' in out
  # What bucket they would need is what one wants to know.
  assert lengths(out, 'prompt tokens') == 4


def products(jaxpr, full: float) -> float:
  """FLOPs of all matrix products of a traced function, two a multiply-add.

  Of a condition, the branches count by how often they are taken: the second
  in the share `full` of all passes.
  """
  total = 0.
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'dot_general':
      (left, _), _ = eqn.params['dimension_numbers']
      shape = eqn.invars[0].aval.shape
      total += 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(
          shape[axis] for axis in left)
    elif eqn.primitive.name == 'cond':
      none, taken = (products(b.jaxpr, full) for b in eqn.params['branches'])
      total += (1 - full) * none + full * taken
    else:
      times = eqn.params['length'] if eqn.primitive.name == 'scan' else 1
      total += times * sum(products(inner, full)
                           for inner in core.jaxprs_in_params(eqn.params))
  return total


@pytest.mark.parametrize('size', ['toy', 'tiny'])
def test_flops_are_those_of_the_traced_program(size):
  """But for attention, which the program computes whole and masks."""
  config = qwen2_5_vl.CONFIGS[size]
  prompt, completion, patches, group = 96, 32, 128, 3
  t, v = config.text, config.vision

  def forward(params, batch, tokens, positions):
    soft = qwen2_5_vl.encode(params, config, batch.media)
    _, cache, _ = qwen2_5_vl.forward(
        params, config, batch.ids[:, None], batch.positions[:, None],
        batch.mask[:, None], soft=soft)
    hidden, _, _ = qwen2_5_vl.forward(
        params, config, tokens, positions, tokens >= 0, cache=cache)
    return hidden @ qwen2_5_vl.head(params, config)

  def array(*shape, dtype=jnp.int32):
    return jax.ShapeDtypeStruct((1, *shape), dtype)

  image = types.Patches(
      array(patches, v.patch_values, dtype=jnp.uint8), array(patches, 2),
      array(patches), array(patches), array(patches // 4))
  batch = types.Batch(array(prompt), array(prompt, 3),
                      array(prompt, dtype=bool), {'image': image})
  traced = jax.make_jaxpr(forward)(
      params_lib.abstract(qwen2_5_vl.specs(config)), batch,
      array(group, completion), array(group, completion, 3))
  counted = products(traced.jaxpr, len(v.full_blocks) / v.depth)
  future = prompt ** 2 / 2 + group * completion ** 2 / 2
  wanted = qwen2_5_vl.flops(config, prompt, completion, patches, group)
  assert counted - 4 * t.layers * t.hidden * future == wanted


@pytest.mark.parametrize('freeze', [(), ('vision',)])
def test_memory(tmp_path, freeze):
  config = phantom.get_config('runlocal')
  config.data.options.count = 4
  config.model.freeze = freeze
  config.model.compute_dtype = 'bfloat16'
  config.rl.kl_weight = .1
  run = build.run(config, tmp_path)
  count = params_lib.count(run.specs)
  frozen = params_lib.count(run.specs['vision']) if freeze else 0
  tokens = config.rollout.prompts * (64 + config.rollout.group * 8)
  # Toy: 2 layers, keys and values, 2 heads of 8, 2 bytes each.
  assert costs.memory(run) == {
      'state': 16 * (count - frozen) + 2 * frozen, 'reference': 2 * count,
      'sampling weights': 2 * count,
      'keys and values': 2 * 2 * 2 * 8 * 2 * tokens}
  assert f'{count:,} parameters' in costs.describe(run)


def test_memory_is_that_of_one_device(tmp_path):
  config = phantom.get_config('runlocal')
  config.data.options.count = 4
  run = build.run(config, tmp_path)
  whole = costs.memory(run)
  run = dataclasses.replace(run, mesh=jax.sharding.AbstractMesh(
      (1, 2, 1, 2), sharding.AXES))
  config.sharding.kv_heads = ''
  split = {'fsdp': 2, 'tensor': 2, '': 1}
  share = sum(math.prod(s.shape) // math.prod(
      {over: split[over] for over in map(config.sharding.get, s.axes)}.values())
              for s in jax.tree.leaves(run.specs))
  found = costs.memory(run)
  assert found['state'] == 16 * share < whole['state'] / 2
  assert whole['sampling weights'] / 2 < found['sampling weights']
  assert found['keys and values'] == whole['keys and values'] // 2
