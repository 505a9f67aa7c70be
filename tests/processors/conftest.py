"""The real Qwen tokenizer, a built one, and the layout of Qwen2.5-VL."""

import pathlib
import shutil

import pytest

from medrl import types
from medrl.processors import text

SHARED = pathlib.Path(__file__).parents[3] / 'shared/data/tokenizers'
SPECIALS = {
    'image_pad': '<|image_pad|>', 'video_pad': '<|video_pad|>',
    'vision_start': '<|vision_start|>', 'vision_end': '<|vision_end|>',
    'im_start': '<|im_start|>', 'im_end': '<|im_end|>',
    'pad': '<|endoftext|>',
}
CORPUS = ['Is there an effusion? Yes, a small one on the left.',
          'Answer: B. The mass is 3.2 cm, with calcification. 肺 \U0001fac1',
          'the left lung, the right lung, the heart, the answer'] * 20


@pytest.fixture(scope='session')
def qwen_folder(tmp_path_factory):
  if not SHARED.is_dir():
    pytest.skip('needs shared/data/tokenizers beside the repository')
  folder = tmp_path_factory.mktemp('qwen')
  for source in [*(SHARED / 'qwen2_5_vl').glob('*.json'),
                 *(SHARED / 'qwen_bpe').iterdir()]:
    shutil.copy(source, folder)
  return folder


@pytest.fixture(scope='session')
def qwen(qwen_folder):
  return text.load(qwen_folder)


@pytest.fixture(scope='session')
def built(tmp_path_factory):
  folder = tmp_path_factory.mktemp('built')
  return text.build(CORPUS, list(SPECIALS.values()), 400, folder)


@pytest.fixture(scope='session')
def layout():
  return types.Layout(patch=14, merge=2, temporal=2, window=112,
                      min_pixels=56 * 56, max_pixels=28 * 28 * 1280,
                      specials=SPECIALS)
