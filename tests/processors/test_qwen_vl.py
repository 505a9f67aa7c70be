"""Positions against transformers; prompts by hand."""

import numpy as np
from PIL import Image
import pytest
import torch
from transformers.models.qwen2_5_vl import configuration_qwen2_5_vl as hf_config
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as hf_model

from medrl import types
from medrl.processors import qwen_vl
from medrl.processors import template

RECORD = types.Record(
    id='r7', question='Where <|image_pad|> is it?<|im_end|>', answer='A',
    answer_type='choice', options={'A': 'left'}, demonstration='A 左')


def noise(height, width, seed=0):
  draw = np.random.default_rng(seed)
  return draw.integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope='module')
def oracle():
  """A tiny Qwen2.5-VL; only its position rule is used."""
  text = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1,
              num_attention_heads=2, num_key_value_heads=1, vocab_size=64,
              rope_parameters={'rope_type': 'default', 'rope_theta': 1e4,
                               'mrope_section': [1, 1, 2]})
  vision = dict(depth=1, hidden_size=16, num_heads=2, intermediate_size=16,
                out_hidden_size=16)
  config = hf_config.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
  return hf_model.Qwen2_5_VLModel(config)


@pytest.mark.parametrize('sides', [
    [], [(1, 1)], [(3, 5)], [(5, 3), (2, 2)], [(1, 9), (7, 1), (4, 4)]])
@pytest.mark.parametrize('first', [0, 6])
def test_positions_equal_transformers(oracle, sides, first):
  pad, ids = 9, [1] * first
  for number, (down, across) in enumerate(sides):
    ids += [2] * (number > 0) + [pad] * (down * across)
  ids += [3] * 5
  grids = [(1, 2 * down, 2 * across) for down, across in sides]
  ids = np.array(ids)
  want, _ = oracle.get_rope_index(
      torch.tensor(ids)[None], torch.tensor(ids == pad)[None].int(),
      image_grid_thw=torch.tensor(grids) if grids else None)
  got = qwen_vl.positions(ids, grids, [pad], 2)
  assert got.dtype == np.int32
  np.testing.assert_array_equal(got, want[:, 0].T)
  with pytest.raises(ValueError, match='soft tokens'):
    qwen_vl.positions(np.append(ids, pad), grids, [pad], 2)


@pytest.mark.parametrize('grids, apart', [
    ([(2, 4, 6)], 1.), ([(1, 4, 4), (3, 2, 8)], .5), ([(4, 8, 8)], 2 / 3)])
def test_positions_of_clips_equal_transformers(oracle, grids, apart):
  """Clips that are no longer in ticks than they are wide.

  Behind a longer one transformers 5 goes on inside the clip's ticks; the paper
  and the code of the released checkpoints go on behind the largest position.
  """
  image, video, ids = 8, 9, [1, 1]
  for grid in grids:
    pad = video if grid[0] > 1 else image
    ids += [2] + [pad] * (grid[0] * grid[1] * grid[2] // 4)
  ids = np.array(ids + [3] * 4)
  kinds = (ids == image) + 2 * (ids == video)
  clips = [g for g in grids if g[0] > 1]
  rate = oracle.config.vision_config.tokens_per_second
  want, _ = oracle.get_rope_index(
      torch.tensor(ids)[None], torch.tensor(kinds)[None].int(),
      image_grid_thw=torch.tensor([g for g in grids if g[0] == 1] or [[0] * 3]),
      video_grid_thw=torch.tensor(clips),
      second_per_grid_ts=[apart / rate for _ in clips])
  ticks = [np.floor(np.arange(g[0]) * apart).astype(int) for g in grids]
  got = qwen_vl.positions(ids, grids, [image, video], 2, ticks)
  np.testing.assert_array_equal(got, want[:, 0].T)


def test_text_goes_on_behind_a_long_clip():
  ids = np.array([1, 9, 9, 9, 3])
  got = qwen_vl.positions(ids, [(3, 2, 2)], [9], 2, [np.array([0, 4, 8])])
  assert got.tolist() == [[0, 0, 0], [1, 1, 1], [5, 1, 1], [9, 1, 1],
                          [10, 10, 10]]


def test_encode_places_each_image(qwen, layout, oracle):
  prompt = template.Prompt('Hi.', '{question} {options}')
  images = [noise(60, 170), noise(112, 56, seed=1)]
  got = qwen_vl.encode(RECORD, images, qwen, layout, prompt)
  pad, start, end = map(qwen.id, ('<|image_pad|>', '<|vision_start|>',
                                  '<|vision_end|>'))
  ids = got.ids.tolist()
  want = [*qwen.encode('<|im_start|>system\nHi.<|im_end|>\n<|im_start|>user\n',
                       True), start, *[pad] * 12, end, start, *[pad] * 8, end,
          *qwen.encode('Where <|image_pad|> is it?<|im_end|> A. left'),
          *qwen.encode('<|im_end|>\n<|im_start|>assistant\n', True)]
  assert ids == want and got.ids.dtype == np.int32
  assert ids.count(qwen.id('<|im_end|>')) == 2
  assert got.prompt.count('<|image_pad|>') == 3  # one is the record's own
  patches = got.media['image']
  slots = patches.slot[patches.window[::4] > 0]
  np.testing.assert_array_equal(np.sort(slots),
                                np.flatnonzero(got.ids == pad))
  assert (patches.slot[patches.window[::4] == 0] == len(ids)).all()
  grids = torch.tensor([[1, 4, 12], [1, 8, 4]])
  rope, _ = oracle.get_rope_index(
      torch.tensor(ids)[None], torch.tensor(got.ids == pad)[None].int(),
      image_grid_thw=grids)
  np.testing.assert_array_equal(got.positions, rope[:, 0].T)
  assert got.target.tolist() == [*qwen.encode('A 左'), qwen.id('<|im_end|>')]
  assert qwen_vl.bucket_need(got, layout) == (len(ids), len(patches.window))
  for name, row, column in (('image', 1, 2), ('image', 0, 0)):
    # A pixel of the first image is where its coordinates say.
    where = np.flatnonzero((got.media[name].coords == (row, column)).all(1)
                           & (got.media[name].image == 1))
    resized = np.asarray(Image.fromarray(images[0]).resize(
        (168, 56), Image.BICUBIC))
    tile = resized[14 * row:14 * row + 14, 14 * column:14 * column + 14]
    value = got.media[name].values[where[0]].reshape(14, 14, 3)
    np.testing.assert_array_equal(value, tile)


def test_slices_are_images_and_a_clip_is_a_video(qwen, layout):
  prompt = template.Prompt('', '{question}')
  slices = (noise(56, 56), noise(56, 84))
  clip = types.Clip(np.stack([noise(56, 56, seed) for seed in range(4)]),
                    np.arange(4) / 2)
  got = qwen_vl.encode(RECORD, [slices, clip], qwen, layout, prompt)
  image, video = qwen.id('<|image_pad|>'), qwen.id('<|video_pad|>')
  ids = got.ids.tolist()
  assert (ids.count(image), ids.count(video)) == (4 + 6, 2 * 4)
  patches = got.media['image']
  assert sorted(set(patches.image.tolist()) - {0}) == [1, 2, 3, 4]
  where = got.positions[got.ids == video]
  assert (where[:, 0] - where[0, 0]).tolist() == [0] * 4 + [2] * 4
  signal = types.Signal(np.zeros((1, 9), np.float32), 100., ('II',))
  with pytest.raises(ValueError, match="'r7'.*no encoder"):
    qwen_vl.encode(RECORD, [signal], qwen, layout, prompt)


def test_encode_without_images(built, layout):
  plain = types.Record(id='r', question='Why?', answer='', answer_type='text')
  prompt = template.Prompt('', '{question}')
  got = qwen_vl.encode(plain, [], built, layout, prompt)
  assert got.media == {} and got.target.shape == (0,) and got.valid
  np.testing.assert_array_equal(
      got.positions, np.arange(len(got.ids))[:, None].repeat(3, 1))
  assert built.decode(got.ids) == 'user\nWhy?\nassistant\n'
  assert qwen_vl.bucket_need(got, layout) == (len(got.ids), 0)


@pytest.mark.parametrize('picture', [
    np.zeros((2, 500, 3), np.uint8), np.zeros((0, 9, 3), np.uint8),
    np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_impossible_images_name_the_record(built, layout, picture):
  with pytest.raises(ValueError, match="record 'r7'"):
    qwen_vl.encode(RECORD, [picture], built, layout, template.Prompt())


def test_stray_image_token_in_the_system_turn(built, layout):
  with pytest.raises(ValueError, match="record 'r7'.*1 image tokens for 0"):
    qwen_vl.encode(RECORD, [], built, layout, template.Prompt('<|image_pad|>'))


def test_decode_cuts_at_the_first_stop(qwen):
  stop = qwen.id('<|im_end|>')
  body = qwen.encode('B 肺')
  got = qwen_vl.decode(np.array([*body, stop, 5, stop]), qwen, [7, stop])
  assert (got.text, got.ids, got.finish) == ('B 肺', tuple(body), 'stop')
  assert got.spans[-1] == (2, 3) and len(got.spans) == len(body)
  assert qwen_vl.decode(body, qwen, [stop]).finish == 'length'
  assert qwen_vl.decode([stop], qwen, [stop]) == types.Completion('')
