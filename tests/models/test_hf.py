"""Checkpoint files: what loads, and what is said about those that do not."""

import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy
import torch

from medrl.models import hf
from medrl.models import qwen2_5_vl
from tests.oracles import qwen

FILE = 'model.safetensors'


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  folder = tmp_path_factory.mktemp('saved')
  model = qwen.torch_model(0, tied=False).to(torch.bfloat16)
  model.save_pretrained(folder)
  return folder


@pytest.fixture
def folder(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'checkpoint')


def load(folder, dtype=np.float32):
  config = qwen2_5_vl.from_hf(hf.read_config(folder))
  return hf.load(folder, qwen2_5_vl.specs(config), qwen2_5_vl.HF_TABLE,
                 qwen2_5_vl.HF_PREFIXES, dtype)


def rewrite(folder, change):
  tensors = safetensors_numpy.load_file(folder / FILE)
  safetensors_numpy.save_file(change(tensors), folder / FILE)


@pytest.mark.parametrize('dtype', [np.float32, ml_dtypes.bfloat16])
def test_bfloat16_files_load_to_the_last_bit(folder, dtype):
  params = load(folder, dtype)
  raw = safetensors_numpy.load_file(folder / FILE)
  assert raw['lm_head.weight'].dtype == ml_dtypes.bfloat16
  assert params['head'].dtype == dtype
  np.testing.assert_array_equal(params['head'].astype(np.float32),
                                raw['lm_head.weight'].astype(np.float32))
  out = raw['model.layers.3.self_attn.o_proj.weight'].astype(np.float32)
  np.testing.assert_array_equal(  # head 1 of layer 3
      params['decoder']['layers']['out'][3, 1].astype(np.float32),
      out[:, 16:32].T)


def test_shards_and_the_prefixes_of_transformers_5_load(folder):
  want = load(folder)
  prefixes = {'model.': 'model.language_model.', 'visual.': 'model.visual.',
              'lm_head.': 'lm_head.'}
  names = {name: new + name[len(old):]
           for name in safetensors_numpy.load_file(folder / FILE)
           for old, new in prefixes.items() if name.startswith(old)}
  tensors = safetensors_numpy.load_file(folder / FILE)
  (folder / FILE).unlink()
  for shard in range(2):
    safetensors_numpy.save_file(
        {names[name]: tensors[name] for name in sorted(tensors)[shard::2]},
        folder / f'model-{shard + 1}-of-2.safetensors')
  got = load(folder)
  np.testing.assert_array_equal(got['vision']['patch'], want['vision']['patch'])
  np.testing.assert_array_equal(got['decoder']['layers']['up'],
                                want['decoder']['layers']['up'])


def test_wrong_tensors_are_listed_at_once(folder):
  def change(tensors):
    del tensors['model.layers.2.mlp.up_proj.weight']
    tensors['model.layers.2.mlp.side_proj.weight'] = np.ones(3)
    tensors['model.norm.weight'] = np.ones(65)
    # The right number of values in the wrong order.
    key = 'model.layers.1.self_attn.k_proj.weight'
    tensors[key] = np.ascontiguousarray(tensors[key].T)
    return tensors
  rewrite(folder, change)
  with pytest.raises(ValueError) as error:
    load(folder)
  for part in ('missing model.layers.2.mlp.up_proj.weight',
               'surplus model.layers.2.mlp.side_proj.weight',
               'model.norm.weight has shape (65,)',
               'model.layers.1.self_attn.k_proj.weight has shape (64, 32)'):
    assert part in str(error.value)


def test_a_tied_checkpoint_may_repeat_its_head(folder):
  raw = hf.read_config(folder) | {'tie_word_embeddings': True}
  params = hf.load(folder, qwen2_5_vl.specs(qwen2_5_vl.from_hf(raw)),
                   qwen2_5_vl.HF_TABLE)
  assert 'head' not in params


def test_a_truncated_file_is_named(folder):
  path = folder / FILE
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(ValueError, match=f'{FILE}.*not a whole safetensors'):
    load(folder)


def test_missing_files_are_named(tmp_path, folder):
  with pytest.raises(FileNotFoundError, match='config.json.*is missing'):
    hf.read_config(tmp_path)
  (folder / FILE).unlink()
  with pytest.raises(FileNotFoundError, match='no .safetensors file'):
    load(folder)


@pytest.mark.parametrize('change, message', [
    ({'model_type': 'qwen2_vl'}, "model_type 'qwen2_vl', expected qwen2_5_vl"),
    ({'model_type': None}, 'model_type None'),
    ({'text_config': {'use_sliding_window': True}}, 'use_sliding_window'),
])
def test_other_models_are_refused(saved, change, message):
  with pytest.raises(ValueError, match=message):
    qwen2_5_vl.from_hf(hf.read_config(saved) | change)
