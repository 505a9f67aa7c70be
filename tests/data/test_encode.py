"""From records to a batch with the real processor, in worker processes."""

import functools

import numpy as np
from PIL import Image

from medrl import lookup
from medrl import types
from medrl.data import batching
from medrl.data import mixture
from medrl.data import phantom
from medrl.data import pipeline
from medrl.processors import qwen_vl
from medrl.processors import template
from medrl.processors import text as text_lib


def real_encode(record, root, *, tokenizer, layout):
  images = [lookup.resolve(m.loader)(m.path, root, **m.options)
            for m in record.media]
  return qwen_vl.encode(record, images, tokenizer, layout,
                        template.Prompt(system=''))


def test_phantoms_and_damaged_files_with_the_real_processor(tmp_path):
  """Two workers read phantoms, a PNG, a truncated PNG and a missing one."""
  Image.fromarray(np.zeros((56, 56, 3), np.uint8)).save(tmp_path / 'good.png')
  whole = (tmp_path / 'good.png').read_bytes()
  (tmp_path / 'cut.png').write_bytes(whole[:len(whole) // 2])
  source = list(phantom.records('', 'train', count=9)) + [
      types.Record(id=name, question='Report?', answer='', answer_type='text',
                   media=(types.Media(name),), demonstration='none')
      for name in ('good.png', 'cut.png', 'none.png')]
  specials = {role: f'<|{role}|>' for role in (
      'image_pad', 'video_pad', 'vision_start', 'vision_end', 'im_start',
      'im_end')} | {'pad': '<|endoftext|>'}
  corpus = [f'{r.question}\n{r.demonstration}'
            for r in phantom.records('', 'train', count=36)]
  text_lib.build(corpus, tuple(specials.values()), 512, tmp_path / 'tokenizer')
  layout = types.Layout(14, 2, 2, 112, 784, 12544, specials)
  call = functools.partial(
      real_encode, layout=layout,
      tokenizer=text_lib.load(tmp_path / 'tokenizer'))
  settings = batching.Settings(
      prompts=10, buckets=((160, 128),), pad_id=0, merge_units=4, workers=2,
      shuffle=False, repeat=False, on_bad='skip', target_length=96)
  stream = pipeline.Pipeline([mixture.Source(source, str(tmp_path))], call,
                             settings)
  (batch, examples), = list(stream)
  stream.close()
  assert [e.record.id for e in examples] == [r.id for r in source[:10]]
  assert stream.counts == {'Undecodable': 1, 'FileNotFoundError': 1}
  first = call(source[0], str(tmp_path))
  pad = first.ids[first.media['image'].slot[0]]
  image = batch.media['image']
  for row in range(10):
    slots = image.slot[row][image.slot[row] < 160]
    assert len(slots) == len(set(slots))
    np.testing.assert_array_equal(
        np.sort(slots), np.flatnonzero(batch.ids[row] == pad))
  # An image of 112 x 112 pixels is 64 patches; the pair of studies is two.
  assert (image.window > 0).sum(axis=1).tolist() == [
      128 if r.task == 'change' else 16 if r.id == 'good.png' else 64
      for r in source[:10]]
