"""The mask of rows against loops and against attention without any mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from medrl.models import attention
from medrl.models import group_mask

# Float32 sums of at most 30 products of numbers near 1, in another order.
TOLERANCE = dict(rtol=0, atol=5e-6)
ROWS, HEADS, KV_HEADS, WIDTH = 2, 4, 2, 8


def owners(groups):
  """Of each slot of a row: 'prompt', or the number of its completion."""
  prompt, each, group = groups
  return ['prompt'] * prompt + [g for g in range(group) for _ in range(each)]


@pytest.mark.parametrize('groups', [
    (4, 3, 2), (3, 1, 5), (5, 7, 1), (0, 3, 2), (6, 0, 0), (6, 4, 0)])
def test_a_slot_sees_the_prompt_and_its_own_completion_up_to_itself(groups):
  owner = owners(groups)
  want = [[key <= query and owner[key] in ('prompt', owner[query])
           for key in range(len(owner))] for query in range(len(owner))]
  slots = np.arange(len(owner))
  for xp in (np, jnp):
    places = xp.asarray(slots)
    with np.errstate(all='raise'):   # T = 0 divides nothing
      got = group_mask.sees(places[:, None], places, groups)
    np.testing.assert_array_equal(got, np.array(want, bool))


def test_without_groups_a_row_is_causal_or_has_no_order():
  slots = np.arange(5)
  np.testing.assert_array_equal(group_mask.sees(slots[:, None], slots),
                                np.tri(5, dtype=bool))
  assert group_mask.sees(slots[:, None], slots, ordered=False).all()


@pytest.mark.parametrize('groups', [None, (4, 3, 2)])
@pytest.mark.parametrize('packed', [False, True])
def test_real_tokens_see_no_pads_and_every_slot_sees_itself(groups, packed):
  random = np.random.default_rng(0)
  mask = random.random((ROWS, 10)) < 0.6
  segments = np.sort(random.integers(1, 4, (ROWS, 10)), axis=1)
  own = group_mask.ids(mask, segments if packed else None)
  seen = np.asarray(group_mask.dense(np.arange(10), own, own, groups))
  for row, query, key in np.argwhere(seen):
    assert mask[row, query] == mask[row, key]
    if packed and mask[row, query]:
      assert segments[row, query] == segments[row, key]
  assert seen[:, range(10), range(10)].all()
  both = mask[:, :, None] & mask[:, None, :]
  if packed:
    both &= segments[:, :, None] == segments[:, None, :]
  slots = np.arange(10)
  allowed = group_mask.sees(slots[:, None], slots, groups)
  np.testing.assert_array_equal(seen & mask[:, :, None], both & allowed)


@pytest.mark.parametrize('length, groups', [
    (10, (4, 3, 3)), (10, (10, 0, 1)), (4, (10, -3, 2)), (10, (11, -1, 1))])
def test_another_row_is_refused_with_what_was_expected(length, groups):
  with pytest.raises(ValueError, match=rf'row of {length} slots is not .* of '
                     rf'{groups[0]} slots with {groups[2]} completions'):
    group_mask.check(length, groups)


def arrays(length, seed=0):
  """Queries, keys, values and the weights of the loss, float32."""
  random = np.random.default_rng(seed)
  return [random.normal(size=(ROWS, length, n, WIDTH)).astype(np.float32)
          for n in (HEADS, KV_HEADS, KV_HEADS, HEADS)]


def plain(tensors, mask, groups=None, segments=None, ordered=True, block=0):
  """Real tokens' attention by `PlainRows`, and gradients of all inputs."""
  rows = group_mask.PlainRows(block)
  queries, keys, values, weights = tensors
  weights = weights * mask[..., None, None]

  @jax.jit
  @jax.value_and_grad
  def loss(inputs):
    return jnp.sum(weights * rows(*inputs, mask, groups, segments, ordered))

  out = rows(queries, keys, values, mask, groups, segments, ordered)
  total, grads = loss((queries, keys, values))
  return np.asarray(out)[mask], [total, *grads]


def alone(tensors, sequences, ordered=True):
  """As `plain`: each sequence by itself, through torch's attention.

  Args:
    tensors: what `arrays` gives.
    sequences: (row, its slots in order, how many first ones are another
      sequence's too) of each.
    ordered: whether it is causal.
  """
  *leaves, weights = [torch.tensor(x) for x in tensors]
  for leaf in leaves:
    leaf.requires_grad_()
  out, total = torch.zeros(leaves[0].shape), 0.
  for row, slots, known in sequences:
    inputs = [leaf[row, slots].transpose(0, 1)[None] for leaf in leaves]
    each = torch.nn.functional.scaled_dot_product_attention(
        *inputs, is_causal=ordered, enable_gqa=True)[0].transpose(0, 1)
    out[row, slots] = each.detach()
    fresh = slots[known:]
    total = total + (each[known:] * weights[row, fresh]).sum()
  total.backward()
  return out.numpy(), [total.item(), *(leaf.grad for leaf in leaves)]


def compare(got, want, mask):
  np.testing.assert_allclose(got[0], want[0][mask], **TOLERANCE)
  # The loss adds 400 numbers to one near 10.
  np.testing.assert_allclose(got[1][0], want[1][0], rtol=2e-5)
  for ours, theirs in zip(got[1][1:], want[1][1:], strict=True):
    np.testing.assert_allclose(ours, theirs, **TOLERANCE)


def test_group_row_is_each_completion_behind_its_prompt_alone():
  groups = prompt, each, group = 7, 5, 3
  mask = np.ones((ROWS, prompt + each * group), bool)
  real = [(5, (5, 2, 1)), (7, (3, 5, 4))]   # tokens of prompt, of completions
  sequences = []
  for row, (asked, written) in enumerate(real):
    mask[row, asked:prompt] = False
    for g, count in enumerate(written):
      start = prompt + g * each
      mask[row, start + count:start + each] = False
      slots = [*range(asked), *range(start, start + count)]
      sequences.append((row, slots, asked if g else 0))
  tensors = arrays(mask.shape[1])
  compare(plain(tensors, mask, groups), alone(tensors, sequences), mask)


@pytest.mark.parametrize('ordered', [True, False])
@pytest.mark.parametrize('block', [0, 4])
def test_packed_row_is_each_segment_alone(ordered, block):
  segments = np.array([[1] * 4 + [2] * 7 + [3] * 3, [1] * 9 + [0] * 5])
  if not ordered:   # images lie between each other
    segments[0, [1, 6]], segments[1, 3] = segments[0, [6, 1]], 2
  mask = segments > 0
  sequences = [(row, np.flatnonzero(segments[row] == s).tolist(), 0)
               for row in range(ROWS) for s in set(segments[row]) - {0}]
  tensors = arrays(segments.shape[1])
  compare(plain(tensors, mask, None, segments, ordered, block),
          alone(tensors, sequences, ordered), mask)


@pytest.mark.parametrize('groups, block', [
    (None, 1), (None, 400), ((7, 5, 3), 11), ((10, 4, 3), 21)])
def test_blocks_of_queries_are_the_whole_row(groups, block):
  length = groups[0] + groups[1] * groups[2] if groups else 20
  mask = np.random.default_rng(1).random((ROWS, length)) < .8
  tensors = arrays(length)
  got = plain(tensors, mask, groups, block=block)
  want = plain(tensors, mask, groups)
  for one, other in zip([got[0], *got[1]], [want[0], *want[1]], strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=5e-6)


def test_blocks_hold_no_whole_row_of_scores():
  """In the gradient neither; the check finds them where they are."""
  length, block = 96, 8
  x = jax.ShapeDtypeStruct((1, length, 2, WIDTH), jnp.float32)
  def temporaries(rows):
    def loss(q, k, v):
      return jnp.sum(rows(q, k, v, jnp.ones((1, length), bool)) ** 2)
    program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, x, x).compile()
    return program.as_text()
  whole = f'{length},{length}]'
  assert whole in temporaries(group_mask.PlainRows())
  assert whole not in temporaries(group_mask.PlainRows(block))


def test_group_row_equals_two_segments_with_one_softmax():
  groups = prompt, each, group = 6, 4, 3
  queries, keys, values, _ = arrays(prompt + each * group)
  mask = np.ones((ROWS, prompt + each * group), bool)
  mask[0, 4:prompt] = mask[1, -1] = False
  own_mask = mask[:, prompt:].reshape(ROWS, group, each)
  split = [x[:, prompt:].reshape(ROWS, group, each, *x.shape[2:])
           for x in (queries, keys, values)]
  want = attention.attend(split[0], [
      attention.Segment(keys[:, None, :prompt], values[:, None, :prompt],
                        mask[:, None, None, :prompt]),
      attention.Segment(*split[1:], attention.causal(own_mask))])
  got = group_mask.PlainRows()(queries, keys, values, mask, groups)
  got = got[:, prompt:].reshape(want.shape)
  np.testing.assert_allclose(got[own_mask], want[own_mask], **TOLERANCE)
