"""Splash attention, interpreted, against plain attention.

That it compiles for a TPU is in test_splash_tpu.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import sharding
from medrl.models import group_mask
from medrl.models import splash
from tests import elsewhere

# Float32 sums of up to 2304 products in blocks, where the plain path has one:
# 3e-6 was seen, with entries up to 6. A mask that is wrong gives 0.1 to 3.
TOLERANCE = 1e-5
ROWS, HEADS, KV_HEADS, WIDTH = 2, 4, 2, 8


def inputs(length, rows=ROWS, heads=HEADS, kv_heads=KV_HEADS):
  """Queries, keys, values and the weights of the loss, float32."""
  random = np.random.default_rng(length)
  return [random.normal(size=(rows, length, n, WIDTH)).astype(np.float32)
          for n in (heads, kv_heads, kv_heads, heads)]


def ragged(length, groups, rows=ROWS):
  """Real tokens: prompts and completions that end early, one empty."""
  random = np.random.default_rng(1)
  prompt, each, group = groups or (length, 0, 0)
  mask = np.zeros((rows, length), bool)
  for row in mask:
    row[:random.integers(prompt // 3, prompt)] = True
    for start in range(prompt, length, each or length):
      row[start:start + random.integers(1, each + 1)] = True
  if group:
    mask[0, -each:] = False
  return mask


def attention_and_gradients(rows, tensors, mask, groups=None, segments=None,
                            ordered=True):
  """Outputs at real tokens, and gradients of a sum over those alone."""
  *qkv, weights = tensors
  real = mask[..., None, None]

  @jax.jit
  def run(qkv):
    def loss(qkv):
      out = rows(*qkv, mask, groups, segments, ordered) * real
      return jnp.sum(out * weights), out
    return jax.grad(loss, has_aux=True)(qkv)

  grads, out = run(tuple(qkv))
  return [np.asarray(x) for x in (out, *grads)]


def interpreted(block=512):
  return splash.Rows(sharding.make_mesh(devices=jax.devices()[:1]), block,
                     interpret=True)


def gaps(tensors, mask, groups=None, segments=None, ordered=True, block=512):
  """Largest differences to plain attention: outputs, then gradients."""
  args = tensors, mask, groups, segments, ordered
  got = attention_and_gradients(interpreted(block), *args)
  want = attention_and_gradients(group_mask.PlainRows(), *args)
  assert all(np.abs(x).max() > 0.1 for x in want)
  for x in got[2:]:   # pads are seen by nobody real
    assert not x[~mask].any()
  return [np.abs(x - y).max() for x, y in zip(got, want, strict=True)]


@pytest.mark.parametrize('length, groups, padded, block', [
    (256, None, False, 512), (384, None, True, 512), (512, None, True, 256),
    (256, (128, 128, 1), False, 512), (640, (256, 128, 3), True, 512),
    (1152, (128, 128, 8), True, 512), (1024, (256, 256, 3), True, 128),
    (128, (128, 128, 0), True, 512)])
def test_equals_plain_attention(length, groups, padded, block):
  mask = ragged(length, groups) if padded else np.ones((ROWS, length), bool)
  assert max(gaps(inputs(length), mask, groups, block=block)) < TOLERANCE


@pytest.mark.slow   # minutes
@pytest.mark.parametrize('padded', [False, True])
@pytest.mark.parametrize('group', [1, 3, 8])
@pytest.mark.parametrize('each', [128, 256])
@pytest.mark.parametrize('prompt', [128, 256])
def test_equals_plain_attention_on_every_bucket(prompt, each, group, padded):
  length, groups = prompt + each * group, (prompt, each, group)
  mask = ragged(length, groups) if padded else np.ones((ROWS, length), bool)
  assert max(gaps(inputs(length), mask, groups)) < TOLERANCE


@pytest.mark.parametrize('length, ends', [
    (384, ([130, 140, 384], [384])), (512, ([200, 400], [7, 256, 300]))])
def test_packed_segments_equal_plain_attention(length, ends):
  segments = np.zeros((ROWS, length), np.int32)
  for row, stops in zip(segments, ends, strict=True):
    for number, stop in reversed(list(enumerate(stops, 1))):
      row[:stop] = number
  assert max(gaps(inputs(length), segments > 0, None, segments)) < TOLERANCE


def test_images_without_order_equal_plain_attention():
  images = np.random.default_rng(3).integers(0, 4, (ROWS, 256))
  assert max(gaps(inputs(256), images > 0, None, images, False)) < TOLERANCE


@pytest.mark.parametrize('wrong', ['siblings', 'pads'])
def test_another_mask_is_told_apart(wrong):
  length, groups = 384, (128, 128, 2)
  mask = ragged(length, groups)
  want = attention_and_gradients(group_mask.PlainRows(), inputs(length), mask,
                                 groups)
  def rows(*args):
    *qkv, mask, groups, segments, _ = args
    if wrong == 'siblings':
      return interpreted()(*qkv, mask, None, segments)
    return interpreted()(*qkv, np.ones_like(mask), groups, segments)
  got = attention_and_gradients(rows, inputs(length), mask, groups)
  assert all(np.abs(x - y).max() > 0.1 for x, y in zip(got, want))


def test_bfloat16_stays_and_is_as_near_as_plain_attention():
  length, groups = 384, (128, 128, 2)
  mask = ragged(length, groups)
  tensors = inputs(length)
  half = [jnp.asarray(x, jnp.bfloat16) for x in tensors]
  exact = attention_and_gradients(group_mask.PlainRows(), tensors, mask, groups)
  def error(rows):
    found = attention_and_gradients(rows, half, mask, groups)
    assert all(x.dtype == jnp.bfloat16 for x in found)
    return [np.abs(x.astype(np.float32) - y).max()
            for x, y in zip(found, exact)]
  for ours, plain in zip(error(interpreted()), error(group_mask.PlainRows())):
    assert ours < 1.5 * plain


@pytest.mark.parametrize('groups', [None, (0, 5, 2), (6, 3, 4), (4, 7, 2)])
def test_lazy_mask_is_the_dense_one(groups):
  length = 18
  groups = groups and (length - groups[1] * groups[2], *groups[1:])
  lazy = splash.RowMask(length, groups)
  dense = group_mask.sees(np.arange(length)[:, None], np.arange(length), groups)
  assert lazy.shape == dense.shape
  for rows in (slice(0, 18), slice(3, 9), slice(12, 18)):
    for columns in (slice(0, 6), slice(6, 18)):
      np.testing.assert_array_equal(lazy[rows, columns], dense[rows, columns])


def test_masks_and_rows_are_static_values():
  mask, same = (splash.RowMask(8, (4, 2, 2)) for _ in range(2))
  assert mask == same and hash(mask) == hash(same)
  assert mask != splash.RowMask(8, (4, 4, 1))
  assert splash.RowMask(8) != splash.RowMask(8, (8, 0, 0))
  assert hash(interpreted()) == hash(interpreted())
  assert interpreted() == interpreted() != interpreted(128)
  traced = []
  @jax.jit
  def run(x):
    traced.append(x)
    return interpreted()(x, x, x, jnp.ones((1, 128), bool))
  x = jnp.ones((1, 128, 1, WIDTH))
  # The tables, made inside a first trace, are no part of it, and programs of
  # the trainers run where implicit transfers are refused.
  splash._kernel.cache_clear()
  with jax.transfer_guard('disallow'):
    first = run(x)
  jax.clear_caches()
  np.testing.assert_array_equal(run(x), first)
  assert len(traced) == 2


@pytest.mark.parametrize('length, groups, most, want', [
    (1024, None, 512, 512), (640, None, 512, 128), (768, None, 512, 384),
    (5120, (1024, 512, 8), 512, 512), (5120, (1024, 512, 8), 1024, 512),
    (5248, (1152, 512, 8), 512, 128), (1280, (512, 256, 3), 512, 256)])
def test_blocks_end_where_the_prompt_and_completions_do(length, groups, most,
                                                        want):
  assert splash.block_size(length, groups, most) == want


def test_blocks_end_where_a_part_does():
  assert splash.block_size(1024, None, 512, 4) == 256
  with pytest.raises(ValueError, match='384 in 2 parts'):
    splash.block_size(384, None, 512, 2)


@pytest.mark.parametrize('length, groups, most', [
    (200, None, 512), (384, (192, 192, 1), 512), (400, (128, 136, 2), 512),
    (1024, None, 64)])
def test_other_lengths_are_refused(length, groups, most):
  with pytest.raises(ValueError, match='multiples of 128'):
    splash.block_size(length, groups, most)


def test_rows_that_are_no_group_are_refused():
  x = jnp.ones((1, 256, 1, WIDTH))
  with pytest.raises(ValueError, match=r'S \+ T \* G = 256'):
    interpreted()(x, x, x, jnp.ones((1, 256), bool), (128, 128, 2))


# Heads that divide over a mesh, and that do not; rows in two parts each.
MESHES = [((2, 2, 1, 2), 4, 2, True), ((1, 2, 1, 4), 4, 2, True),
          ((2, 1, 1, 4), 6, 3, True)]
SPLIT = [((1, 2, 2, 2), 4, 2, True), ((2, 1, 2, 2), 4, 2, False)]


def print_gaps(meshes):
  """On 8 fake devices."""
  length, groups, found = 256, (128, 128, 1), []
  for mesh, heads, kv_heads, ordered in meshes:
    mesh = sharding.make_mesh(*mesh)
    args = (inputs(length, 4, heads, kv_heads), ragged(length, groups, 4),
            groups, None, ordered)
    got = attention_and_gradients(splash.Rows(mesh, interpret=True), *args)
    want = attention_and_gradients(group_mask.PlainRows(), *args)
    found.append([float(np.abs(x - y).max()) for x, y in zip(got, want)])
  try:
    splash.Rows(mesh, interpret=True)(*inputs(256, 3)[:3], ragged(256, None, 3))
  except ValueError as error:
    print(json.dumps([found, str(error)]))


@pytest.mark.parametrize('meshes', [
    'MESHES', pytest.param('SPLIT', marks=pytest.mark.slow)])
def test_any_mesh_gives_the_same(meshes):
  found, refused = elsewhere.printed(__name__, f'print_gaps(m.{meshes})',
                                     elsewhere.fake_devices())
  assert np.max(found) < TOLERANCE, found
  assert re.match('3 rows do not divide over 2 devices', refused)
