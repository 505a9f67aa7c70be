"""Published sizes: parameter counts, and the stored config.json files."""

import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from medrl import params
from medrl.models import qwen2_5_vl

SHARED = pathlib.Path(__file__).parents[3] / 'shared/data/model_configs'
# All parameters, and those of the tower in units of 1e5. 7B is half the bytes
# of the published index; the others were counted in transformers.
COUNTS = {
    '3b': (3_754_622_976, 6687),
    '7b': (8_292_166_656, 6766),
    '32b': (33_452_718_336, 6888),
    '72b': (73_410_777_344, 7046),
}


@pytest.mark.parametrize('size', COUNTS)
def test_counts_equal_the_published_ones(size):
  specs = qwen2_5_vl.specs(qwen2_5_vl.CONFIGS[f'qwen2_5_vl_{size}'])
  total, vision = COUNTS[size]
  assert params.count(specs) == total
  assert round(params.count(specs['vision']) / 1e5) == vision


@pytest.mark.parametrize('size', COUNTS)
def test_configs_equal_the_stored_files(size):
  path = SHARED / f'qwen2.5-vl-{size}.json'
  if not path.is_file():
    pytest.skip('needs shared/data/model_configs beside the repository')
  raw = json.loads(path.read_text())
  assert qwen2_5_vl.from_hf(raw) == qwen2_5_vl.CONFIGS[f'qwen2_5_vl_{size}']


def test_init_follows_its_specs():
  specs = qwen2_5_vl.specs(qwen2_5_vl.CONFIGS['toy'])
  made = jax.eval_shape(lambda k: params.init(k, specs, jnp.bfloat16),
                        jax.random.key(0))
  assert made == params.abstract(specs, jnp.bfloat16)
