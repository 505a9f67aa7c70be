"""Patches, windows and positions against transformers; prompts by hand."""

import dataclasses

import numpy as np
from PIL import Image
import pytest
import torch
from transformers import vision_utils
from transformers.models.qwen2_5_vl import configuration_qwen2_5_vl as hf_config
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as hf_model
from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as hf

from medrl import types
from medrl.processors import qwen_vl
from medrl.processors import template

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711])
RECORD = types.Record(
    id='r7', question='Where <|image_pad|> is it?<|im_end|>', answer='A',
    answer_type='choice', options={'A': 'left'}, demonstration='A 左')


def noise(height, width, seed=0):
  draw = np.random.default_rng(seed)
  return draw.integers(0, 256, (height, width, 3), np.uint8)


def test_smart_resize_equals_transformers(layout):
  draw = np.random.default_rng(0)
  sizes = np.exp(draw.uniform(0, np.log(6000), (2000, 2))).astype(int)
  for height, width in sizes.tolist():
    least, most = draw.choice([3136, 50_000, 10 ** 6, 4 * 10 ** 6], 2)
    own = dataclasses.replace(layout, min_pixels=int(min(least, most)),
                              max_pixels=int(max(least, most)))
    try:
      want = hf.smart_resize(height, width, 28, own.min_pixels, own.max_pixels)
    except ValueError:
      with pytest.raises(ValueError, match=f'{height} x {width}'):
        qwen_vl.smart_resize(height, width, own)
      continue
    assert qwen_vl.smart_resize(height, width, own) == want


@pytest.mark.parametrize('picture', [
    *[Image.fromarray(noise(*size)) for size in (
        (8, 8), (27, 29), (28, 28), (112, 113), (600, 480), (1300, 2000),
        (10, 1999), (3000, 16))],
    Image.fromarray(noise(300, 200)[..., 0]),
    Image.fromarray(np.dstack([noise(90, 70), np.full((90, 70, 1), 255, 'u1')]))
], ids=lambda p: f'{p.mode}-{p.height}x{p.width}')
def test_patchify_equals_transformers(picture, layout):
  want = hf.Qwen2VLImageProcessorPil(
      size={'shortest_edge': layout.min_pixels,
            'longest_edge': layout.max_pixels})(picture, return_tensors='np')
  values, grid = qwen_vl.patchify(np.asarray(picture.convert('RGB')), layout)
  assert grid == tuple(want['image_grid_thw'][0])
  raw = want['pixel_values'].reshape(len(values), 3, -1)
  raw = (raw * CLIP_STD[:, None] + CLIP_MEAN[:, None]) * 255
  assert np.abs(values - raw.reshape(values.shape)).max() < 1e-3


def random_images(draw, count):
  images = []
  for _ in range(count):
    rows, columns = (2 * draw.integers(1, 14, 2)).tolist()
    shape = rows * columns, 3 * 2 * 14 * 14
    images.append((draw.integers(0, 256, shape, np.uint8), (1, rows, columns)))
  return images


@pytest.mark.parametrize('seed', range(30))
def test_pack_equals_transformers_windows(seed, layout):
  draw = np.random.default_rng(seed)
  images = random_images(draw, draw.integers(1, 5))
  units = sum(len(values) for values, _ in images) // 4
  slots = np.sort(draw.choice(5 * units, units, replace=False))
  got = qwen_vl.pack(images, layout, slots, 5 * units)
  own = got.window > 0
  assert len(own) <= 2 * 4 * units + 64 and len(own) % 64 == 0
  for leaf in (got.values, got.coords, got.window, got.image):
    assert not leaf[~own].any() and len(leaf) == len(own)
  np.testing.assert_array_equal(own, got.image > 0)

  # Each unit once: sorted by slot, all is in the order of transformers.
  order = np.argsort(got.slot, kind='stable')
  np.testing.assert_array_equal(got.slot[order][:units], slots)
  assert (got.slot[order][units:] == 5 * units).all()
  patch = (order[:units, None] * 4 + np.arange(4)).ravel()
  np.testing.assert_array_equal(got.values[patch],
                                np.concatenate([v for v, _ in images]))
  grids = torch.tensor([grid for _, grid in images])
  np.testing.assert_array_equal(
      got.coords[patch], vision_utils.get_vision_position_ids(grids, 2))
  sizes = [len(values) for values, _ in images]
  np.testing.assert_array_equal(
      got.image[patch], np.repeat(np.arange(len(images)) + 1, sizes))

  # The windows are the same sets of units, and each lies in one row.
  index, edges = vision_utils.get_vision_window_index(grids, 2, 112, 14)
  want = {frozenset(index[a // 4:b // 4].tolist())
          for a, b in zip(edges, edges[1:])}
  window = got.window[patch][::4]
  assert (got.window[patch].reshape(-1, 4) == window[:, None]).all()
  assert want == {frozenset(np.flatnonzero(window == w).tolist())
                  for w in set(window.tolist())}
  for w in set(window.tolist()):
    places = np.flatnonzero(got.window == w)
    assert len(set((places // 64).tolist())) == 1
    assert (np.diff(places) == 1).all()
    assert (np.diff(got.slot[places[::4] // 4]) > 0).all()


def test_pack_fills_a_row_with_two_half_windows(layout):
  images = [(np.ones((4 * 24, 1176), np.uint8), (1, 8, 12))] * 2
  got = qwen_vl.pack(images, layout, range(48), 48)
  assert len(got.window) == 3 * 64 and (got.window > 0).all()


def test_pack_refuses(layout):
  values, grid = qwen_vl.patchify(noise(56, 56), layout)
  with pytest.raises(ValueError, match='3 slots for 4 units'):
    qwen_vl.pack([(values, grid)], layout, range(3), 9)
  with pytest.raises(ValueError, match='2 temporal patches'):
    qwen_vl.pack([(values, (2, 2, 4))], layout, range(4), 9)
  odd = dataclasses.replace(layout, window=70)
  with pytest.raises(ValueError, match='not a multiple'):
    qwen_vl.pack([(values, grid)], odd, range(4), 9)


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
  got = qwen_vl.positions(ids, grids, pad, 2)
  assert got.dtype == np.int32
  np.testing.assert_array_equal(got, want[:, 0].T)
  with pytest.raises(ValueError, match='image tokens'):
    qwen_vl.positions(np.append(ids, pad), grids, pad, 2)


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
    value = got.media[name].values[where[0]].reshape(3, 2, 14, 14)
    np.testing.assert_array_equal(value[:, 1].transpose(1, 2, 0), tile)


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
