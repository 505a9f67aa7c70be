"""Teachers: loaded from where they are, frozen, kept by digest, and passed on.

With them what else comes beside the rewards, factors of a sample. What is
learnt from either is tested with the objective.
"""

import json
import shutil

from flax import traverse_util
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from medrl import build
from medrl import types
from medrl.evals import run as evals
from medrl.trainers import grpo
from medrl.trainers import scored
from medrl.trainers import teachers
from tests.trainers import small

DISTILL = {'rl__distill': 'medrl.rl.distill.reverse', 'rl__distill_weight': 1.,
           'model__reference_dtype': 'float32', 'rl__steps': 2}
EXAMPLES = [types.Example(types.Record('r', question, None, 'text'))
            for question in ('a', 'bb')]


def train(folder, **changed):
  c = small.config(**DISTILL | changed)
  grpo.train(c, folder)
  return small.logged(folder)


def other(folder):
  """Another policy of the same run's tokenizer, further trained."""
  return {'start': str(folder), 'weight': 2.}


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
  """A run that was pushed away from where it began."""
  folder = tmp_path_factory.mktemp('teacher') / 'run'
  small.train(folder, rl__steps=1, rl__optim__learning_rate=3e-3)
  return folder


@pytest.fixture(scope='module')
def student(teacher, tmp_path_factory):
  """A run that begins where the teacher did, without any reward."""
  folder = tmp_path_factory.mktemp('student') / 'run'
  folder.mkdir()
  shutil.copytree(teacher / 'tokenizer', folder / 'tokenizer')
  return folder, train(folder, teachers={'one': other(teacher)},
                       rl__optim__learning_rate=1e-3)


def test_a_teacher_is_held_as_it_was_saved(teacher, student):
  folder, lines = student
  run = build.run(small.config(), folder)
  want, step = evals.load_policy(run, teacher / 'checkpoints')
  assert step == 1
  config = small.config(**DISTILL, teachers={'one': other(teacher)})
  run = build.run(config, folder)
  got = teachers._teacher(run, 'one')
  jax.tree.map(np.testing.assert_array_equal, got, want)
  for leaf, held in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
    assert leaf.sharding == held.sharding and leaf.dtype == 'float32'
  assert lines[1]['policy/kl_teacher'] != 0


@pytest.mark.slow
def test_a_run_goes_on_with_the_teacher_it_began_with(
    teacher, student, tmp_path):
  folder, lines = student
  # The teacher's own folder is gone, and the values are those of before.
  copy = tmp_path / 'run'
  shutil.copytree(folder, copy)
  shutil.rmtree(copy / 'checkpoints' / '2')
  again = train(copy, teachers={'one': {'start': '/gone', 'weight': 2.}},
                rl__optim__learning_rate=1e-3)
  for name, value in lines[2].items():
    if not name.startswith('time/'):
      assert again[2][name] == value, name
  with pytest.raises(ValueError, match="with the teachers .'one'., without "
                     "'two'; start a new run"):
    train(folder, teachers={'two': other(teacher)}, rl__steps=3)


def save_released(run, params, folder):
  """Writes parameters as the family's released checkpoints are."""
  text, vision = run.model.text, run.model.vision
  folder.mkdir()
  (folder / 'config.json').write_text(json.dumps({
      'model_type': 'qwen2_5_vl', 'tie_word_embeddings': text.tied,
      'hidden_size': text.hidden, 'num_hidden_layers': text.layers,
      'num_attention_heads': text.heads, 'num_key_value_heads': text.kv_heads,
      'intermediate_size': text.ffn, 'vocab_size': text.vocab,
      'rope_theta': text.rope_theta, 'rms_norm_eps': text.eps,
      'rope_scaling': {'mrope_section': text.mrope_section},
      'vision_config': {
          'depth': vision.depth, 'hidden_size': vision.hidden,
          'num_heads': vision.heads, 'intermediate_size': vision.ffn,
          'out_hidden_size': vision.out, 'patch_size': vision.patch,
          'fullatt_block_indexes': vision.full_blocks,
          'window_size': vision.window,
          'temporal_patch_size': vision.temporal,
          'spatial_merge_size': vision.merge,
          'tokens_per_second': vision.tokens_per_second}}))
  flat = traverse_util.flatten_dict(params, sep='/')
  specs = traverse_util.flatten_dict(run.specs, sep='/')
  tensors = {}
  for path, name, turned in run.family.HF_TABLE:
    if path not in flat:   # the head of a tied checkpoint
      continue
    stacked = specs[path].axes[0] == 'layers'
    for i, value in enumerate(flat[path] if stacked else [flat[path]]):
      value = np.asarray(value)
      if turned:
        value = value.reshape(-1, value.shape[-1]).T
      tensors[name.format(i)] = np.ascontiguousarray(value)
  safetensors_numpy.save_file(tensors, folder / 'model.safetensors')


def test_released_weights_teach_too_if_the_model_is_the_same(tmp_path):
  run = build.run(small.config(), tmp_path)
  params = build.initial_params(run)
  folder = tmp_path / 'released'
  save_released(run, params, folder)
  config = small.config(model__reference_dtype='float32', teachers={
      'big': {'checkpoint': str(folder), 'weight': 1.}})
  run = build.run(config, tmp_path)
  got = teachers._teacher(run, 'big')
  jax.tree.map(np.testing.assert_array_equal, got, params)
  told = json.loads((folder / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps(
      told | {'rope_theta': told['rope_theta'] / 2}))
  with pytest.raises(ValueError, match='expected a model as the policy'):
    teachers._teacher(run, 'big')


def test_another_tokenizer_is_refused(teacher, tmp_path):
  config = small.config(processor__vocab=300, teachers={'one': other(teacher)})
  run = build.run(config, tmp_path)
  with pytest.raises(ValueError, match='tokens have other meanings'):
    teachers._teacher(run, 'one')


@pytest.mark.parametrize('told, says', [
    ({'weight': 1.}, 'teachers.one is .*either checkpoint'),
    ({'start': 'a', 'checkpoint': 'b', 'weight': 1.}, 'either checkpoint'),
    ({'start': 'a'}, 'expected a weight'),
    ({'strat': 'a', 'weight': 1.}, "teachers.one.strat.*'start'")])
def test_a_teacher_that_is_told_wrongly(told, says):
  with pytest.raises(ValueError, match=says):
    teachers.check(small.config(teachers={'one': told}))


def test_without_a_weight_none_is_loaded(tmp_path):
  config = small.config(teachers={'one': {'start': '/gone', 'weight': 1.}})
  assert teachers.wanted(config) == []


@pytest.mark.parametrize('given, says', [
    (lambda record: (1., -1.), 'gave .*at least 0'),
    (lambda record: (1., 1., 1.), 'two finite numbers')])
def test_factors_of_a_sample_are_checked(monkeypatch, given, says):
  monkeypatch.setattr(small, 'factors', given, raising=False)
  with pytest.raises(ValueError, match=says):
    scored.factors('tests.trainers.small.factors', EXAMPLES, 3)


def test_factors_of_a_sample_are_those_of_its_record(monkeypatch):
  monkeypatch.setattr(small, 'factors', lambda record: (
      len(record.question), .5), raising=False)
  clip, kl = scored.factors('tests.trainers.small.factors', EXAMPLES, 3)
  assert clip.dtype == kl.dtype == np.float32
  assert clip.tolist() == [[1] * 3, [2] * 3] and kl.tolist() == [[.5] * 3] * 2
