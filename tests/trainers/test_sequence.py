"""Prompts that lie on several devices: the numbers of one device.

A mesh whose sequence has parts splits a prompt's tokens, patches and keys. On
eight fake devices, in processes of their own; what the kernel of a TPU does
with such rows is in tests/models/test_splash.
"""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import base
from medrl import costs
from medrl import sharding
from medrl.models import group_mask
from medrl.models import qwen2_5_vl
from medrl.rl import logps
from medrl.rollout import sampler
from medrl.rollout import sampling
from medrl.rollout import slots
from medrl.trainers import objective
from medrl.trainers import outline
from medrl.trainers import programs
from medrl.trainers import scoring
from medrl.trainers import update
from tests import elsewhere
from tests.oracles import toy
from tests.trainers import hlo
from tests.trainers import runs
from tests.trainers import test_update

MESH = (1, 2, 2, 2)   # data, fsdp, sequence, tensor
CONFIG = test_update.CONFIG
LENGTH, PATCHES = 64, 256   # of a prompt; two windows of 64 on a device
BLOCK = 12   # no divisor of what it cuts, whose largest one below is taken
OPTIONS = sampling.Options(group=3, length=6, stop=tuple(range(30, 50)),
                           banned=(toy.START, toy.END, toy.IMAGE, toy.VIDEO))
# Relative, of each tensor's norm: float32, another order of the same sums.
TOLERANCE = 1e-5


def stretched(batch):
  """Pads a batch to `LENGTH` tokens and `PATCHES` patches."""
  length = batch.ids.shape[1]
  def fill(x, size, value=0):
    widths = [(0, 0), (0, size - x.shape[1])] + [(0, 0)] * (x.ndim - 2)
    return np.pad(x, widths, constant_values=value)
  def patches(m):
    slot = np.where(m.slot < length, m.slot, LENGTH)
    return m._replace(slot=fill(slot, PATCHES // 4, LENGTH), **{
        name: fill(getattr(m, name), PATCHES)
        for name in ('values', 'coords', 'window', 'image')})
  return batch._replace(
      ids=fill(batch.ids, LENGTH), positions=fill(batch.positions, LENGTH),
      mask=fill(batch.mask, LENGTH),
      media={k: patches(m) for k, m in batch.media.items()})


def train_batch():
  """Text, one image and several, padded, with two completions each."""
  batch = test_update.train_batch()
  rollout = batch.rollout
  return batch._replace(rollout=rollout._replace(
      prompt=stretched(rollout.prompt)))


def wired(mesh, block: int = 0):
  return qwen2_5_vl.with_options(
      CONFIG, rows=group_mask.PlainRows(block, mesh), pin=sharding.Rows(mesh))


def laid(mesh, rules):
  return jax.device_put(
      toy.params(0, CONFIG),
      sharding.of_specs(mesh, qwen2_5_vl.specs(CONFIG), rules))


def measured(mesh, block: int, layout: str):
  """Logits of prompts; log-probs, loss and gradients of completions: norms."""
  scorer = scoring.Scorer(qwen2_5_vl, wired(mesh, block), jnp.float32, 64,
                          (toy.IMAGE,), logps.token_logps, layout=layout)
  batch = train_batch()
  batch = jax.device_put(batch, sharding.of_batch(mesh, batch))

  def loss(trained, part):
    found = scoring.policy_logps(scorer, trained, part.rollout)
    mean, means, maxima = objective.rl_loss(test_update.WORDS, *found, part)
    return mean, means | {'logps': found[0]}, maxima

  @jax.jit
  def measure(params, batch):
    grads, means, _ = update.gradient(loss, params, batch, 1)
    hidden, _ = toy.prefill(params, scorer.config, batch.rollout.prompt)
    logits = hidden @ qwen2_5_vl.head(params, CONFIG)
    real = batch.rollout.prompt.mask[..., None]
    return grads, means['logps'], jnp.where(real, logits, 0.)

  with jax.default_matmul_precision('highest'):
    grads, *found = measure(laid(mesh, dict(base.get_config().sharding)), batch)
  named = {jax.tree_util.keystr(path): np.asarray(x)
           for path, x in jax.tree_util.tree_leaves_with_path(grads)}
  return named | dict(zip(('logps', 'logits'), map(np.asarray, found)))


def worst(got, want):
  """The largest gap of a tensor, as a share of that tensor's norm."""
  gaps = {name: float(np.linalg.norm(got[name] - x) / np.linalg.norm(x))
          for name, x in want.items()}
  name = max(gaps, key=gaps.get)
  return gaps[name], name


def print_numbers(*cases):
  """On eight devices against one: the worst tensor of each case."""
  mesh = sharding.make_mesh(*MESH)
  one = sharding.make_mesh(devices=jax.devices()[:1])
  want = measured(one, 0, 'beside')
  assert min(map(np.linalg.norm, want.values())) > 1e-6
  print(json.dumps([worst(measured(mesh, block, layout), want)
                    for block, layout in cases]))


def check_numbers(*cases):
  found = elsewhere.printed(__name__, f'print_numbers{cases!r}',
                            elsewhere.fake_devices())
  assert max(gap for gap, _ in found) <= TOLERANCE, found


def test_ac_logits_logps_and_gradients_of_split_prompts_are_those_of_one():
  check_numbers((BLOCK, 'behind'))


@pytest.mark.slow
def test_ac_split_prompts_in_the_other_layouts():
  check_numbers((0, 'beside'), (BLOCK, 'beside'), (0, 'behind'))


def print_tokens():
  """On eight devices: what the refilled slots write, against lockstep on one.
  """
  mesh = sharding.make_mesh(*MESH)
  rules = {k: '' if v == 'fsdp' else v
           for k, v in base.get_config().sharding.items()}
  batch, numbers = train_batch().rollout.prompt, np.arange(8, dtype=np.int32)
  key = jax.random.key(3)
  options = dataclasses.replace(OPTIONS, parts=2, slots=6, resident=4, chunk=2)

  def run(rollout, mesh, rules, options):
    program = jax.jit(functools.partial(
        rollout, qwen2_5_vl, wired(mesh, BLOCK), options=options))
    with jax.default_matmul_precision('highest'):
      return program(laid(mesh, rules),
                     jax.device_put(batch, sharding.of_batch(mesh, batch)),
                     key, jax.device_put(numbers, sharding.batch(mesh)))

  one = sharding.make_mesh(devices=jax.devices()[:1])
  want = run(sampler.rollout, one, rules, OPTIONS)
  got = run(slots.rollout, mesh, rules, options)
  print(json.dumps({n: float(np.abs(np.asarray(getattr(got, n), np.float32)
                                    - np.asarray(getattr(want, n))).max())
                    for n in ('tokens', 'token_mask', 'finished', 'logps')}))


@pytest.mark.slow
def test_ac_refilled_slots_of_split_prompts_write_what_one_device_does():
  gaps = elsewhere.printed(__name__, 'print_tokens()',
                           elsewhere.fake_devices())
  assert gaps.pop('logps') <= TOLERANCE
  assert not any(gaps.values()), gaps


def print_sampler():
  """What the text of the sampling program says, see `hlo`."""
  opened = hlo.session(sharding.make_mesh(*MESH), 'float32')
  program = programs.samplers(opened)[hlo.PROMPT, hlo.PATCHES]
  print(json.dumps(hlo.facts(program.as_text())))


@pytest.mark.slow
def test_ac_keys_of_prompts_are_split_and_not_gathered_by_token():
  found = elsewhere.printed(__name__, 'print_sampler()',
                            elsewhere.fake_devices())
  text, parts = hlo.MODEL.text, MESH[2]
  each = text.kv_heads // MESH[3] * text.head_dim   # of a token, on a device
  held = [shape for shape in found['shapes']
          if shape[0] == text.layers and shape[-1] == text.head_dim
          and {hlo.PROMPT, hlo.PROMPT // parts} & set(shape)]
  share = text.layers * hlo.RESIDENT * hlo.PROMPT // parts * each
  assert max(map(math.prod, held)) == share, held
  # A prompt that is encoded gathers its own, keys beside values; of those that
  # are held, which have an axis of prompts, nothing is gathered.
  gathered = {tuple(shape) for shape, _ in found['gathered']
              if hlo.PROMPT in shape and shape[-1] == text.head_dim}
  assert gathered == {(1, hlo.PROMPT, 2 * each // text.head_dim,
                       text.head_dim)}


@pytest.mark.slow
def test_a_run_on_split_prompts_logs_what_one_device_does(tmp_path):
  """Cold start, then RL with blocked attention."""
  flags = ('--config.data.buckets=((64, 128),)', '--config.rl.steps=2',
           '--config.model.attention=blocked', '--config.data.workers=0',
           '--config.model.attention_block=16')
  def start(name, devices, *mesh):
    return runs.train(tmp_path / name, *flags, *mesh, devices=devices)
  one = start('one', 1)
  several = start('several', 4, '--config.mesh.fsdp=2',
                  '--config.mesh.sequence=2')
  for process in (one, several):
    runs.finish(process)
  want, got = (runs.logged(tmp_path / name)['metrics']
               for name in ('one', 'several'))
  assert [row['step'] for row in got] == [row['step'] for row in want]
  runs.close(got, want, 1e-5)


@pytest.mark.parametrize('bucket, says', [
    ((130, 256), "bucket (130, 256): its 130 prompt tokens.*'sequence' of size "
     '4'),
    ((128, 128), "bucket (128, 128): its 128 patches.*'sequence' of size 4")])
def test_a_bucket_that_does_not_divide_is_named(bucket, says):
  mesh = jax.sharding.AbstractMesh((1, 1, 4, 1), sharding.AXES)
  says = says.replace('(', r'\(').replace(')', r'\)')
  with pytest.raises(ValueError, match=says):
    sharding.check_bucket(mesh, bucket, 64)
  sharding.check_bucket(mesh, (128, 256), 64)


def test_keys_are_counted_by_device():
  found = []
  for parts in (1, 4):
    config = base.get_config('runlocal')
    config.data.buckets = ((256, 1024),)
    run = outline.open_run(config, jax.sharding.AbstractMesh(
        (1, 1, parts, 1), sharding.AXES))
    found.append(costs.memory(run)['keys and values'])
  r, text = config.rollout, run.model.text
  each = 2 * text.layers * text.kv_heads * text.head_dim * 4
  own = r.prompts * r.group * r.length
  assert found == [each * (r.prompts * 256 + own), each * (r.prompts * 64 + own)]
