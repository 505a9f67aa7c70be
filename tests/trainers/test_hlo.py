"""What the compiled programs of a step never hold: AC6 of the fast path.

For eight fake devices and for a TPU that is not here, in processes of their
own: jax counts its devices once, and libtpu refuses the CPU's flags.
"""

import math

import jax
import pytest

from medrl.models import qwen2_5_vl
from tests import elsewhere
from tests.trainers import hlo

TENSOR = 2
TEXT = hlo.MODEL.text
SPLIT = TEXT.vocab // TENSOR
STEP = ('sample', 'prepare', 'prepare_packed', 'update', 'update_packed')


@pytest.fixture(scope='module', params=[
    'cpu', pytest.param('tpu', marks=pytest.mark.slow)])
def programs(request):
  env = elsewhere.tpu() if request.param == 'tpu' else elsewhere.fake_devices()
  return elsewhere.printed(hlo.__name__, f'print_facts({request.param!r})', env)


def parameters(found):
  """What a program gathers that is a piece of a parameter of the model, or as
  large as one, whole or of a layer."""
  sizes = set()
  for spec in jax.tree.leaves(qwen2_5_vl.specs(hlo.MODEL)):
    size = math.prod(spec.shape)
    each = size // spec.shape[0] if spec.axes[0] == 'layers' else size
    if spec.init == 'normal':   # as small as the others are activations too
      sizes |= {size, each, size // TENSOR, each // TENSOR}
  return [(shape, path) for shape, path in found['gathered']
          if path or math.prod(shape) in sizes]


def whole_logits(name, found):
  """Shapes as large as the logits of the rows that a device scores at a time,
  or with a shard of the vocabulary for each of their tokens."""
  rows, length = hlo.TOKENS[name]
  return [shape for shape in found['shapes']
          if math.prod(shape) >= rows * length * SPLIT
          or {SPLIT, TEXT.vocab} & set(shape)
          and {length, rows * length} & set(shape)]


def largest(found, *sizes):
  """Elements of the largest array with all these sizes among its own."""
  return max(math.prod(shape) for shape in found['shapes']
             if set(sizes) <= set(shape))


def test_sampling_gathers_no_parameter(programs):
  assert not parameters(programs['sample'])


def test_the_check_finds_parameters_that_are_gathered(programs):
  found = [path for _, path in parameters(programs['sharded'])]
  assert {"['decoder']['layers']['gate']", "['decoder']['layers']['up']"} <= {
      *found}


@pytest.mark.parametrize('name', STEP)
def test_no_program_holds_logits_of_all_tokens(programs, name):
  assert not whole_logits(name, programs[name])


def test_the_check_finds_logits_of_all_tokens(programs):
  assert whole_logits('naive', programs['naive'])


@pytest.mark.parametrize('name', STEP[1:])
def test_each_device_scores_rows_of_its_own(programs, name):
  rows, length = hlo.TOKENS[name]
  assert largest(programs[name], hlo.CHUNK) == rows * length * hlo.CHUNK


def test_keys_are_split_and_those_of_prompts_held_once_a_group(programs):
  head = TEXT.layers * TEXT.kv_heads // TENSOR * TEXT.head_dim
  for count, length in ((hlo.RESIDENT, hlo.PROMPT), (hlo.SLOTS, hlo.LENGTH)):
    found = largest(programs['sample'], length, TEXT.head_dim)
    assert found == head * count * length
