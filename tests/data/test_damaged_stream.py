"""Damaged and hostile files in a stream: counted by reason, none lost.

`tests/media/test_damage.py` has what each reader says of each file; here is
what becomes of them between workers and batches.
"""

import collections
import pathlib

import pytest

from medrl import build
from medrl import types
from medrl.data import batching
from medrl.data import mixture
from medrl.data import pipeline
from medrl.media import cache
from medrl.models import qwen2_5_vl
from medrl.processors import template
from medrl.processors import text as text_lib
from tests.media import damage
from tests.media import hostile

for _package in ('av', 'nibabel', 'pydicom', 'tensorstore', 'wfdb'):
  pytest.importorskip(_package)

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
LEAST = 200


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  if not DATA.exists():
    pytest.skip('no ../shared/data beside the repository')
  base = tmp_path_factory.mktemp('stream')
  root, outside = base / 'root', base / 'outside'
  root.mkdir()
  outside.mkdir()
  # Every third of the damaged ones: the rest differ in where bits are flipped.
  return root, [*damage.of_each_kind(root, damage.sources(DATA))[::3],
                *hostile.paths(root, DATA, outside)]


def open_stream(root, cases, folder, **changed):
  layout = qwen2_5_vl.layout(qwen2_5_vl.CONFIGS['tiny'], 784, 12544)
  tokenizer = text_lib.build(['Is it?'] * 20, list(layout.specials.values()),
                             320, folder / 'tokenizer')
  records = [types.Record(str(i), 'Is it?', 'yes', 'yesno',
                          media=(types.Media(c.path, options=c.options),))
             for i, c in enumerate(cases)]
  encode = build.Encoder('medrl.processors.qwen_vl', tokenizer, layout,
                         template.Prompt('', '{question}'),
                         cache.Cache(16 << 20))
  settings = batching.Settings(
      prompts=8, buckets=((512, 2048),), pad_id=0, merge_units=4, frames=2,
      patch_width=build.patch_values(layout), on_bad='skip', workers=2,
      **changed)
  return pipeline.Pipeline([mixture.Source(records, str(root))], encode,
                           settings)


def test_each_is_drawn_once_and_bad_ones_have_a_reason(files, tmp_path):
  root, cases = files
  assert len(cases) >= LEAST
  stream = open_stream(root, cases, tmp_path, shuffle=False, repeat=False)
  found = list(iter(stream.draw, None))
  stream.close()
  assert [e.record.id for e in found] == [str(i) for i in range(len(cases))]
  for case, example in zip(cases, found):
    assert example.valid or len(example.reason) > 15, case.path
    assert case.want != 'error' or not example.valid, case.path
    assert case.want != 'good' or example.valid, example.reason
  bad = collections.Counter(e.reason.partition(':')[0].replace(' ', '_')
                            for e in found if not e.valid)
  assert stream.counts == bad
  print(f'{len(cases)} files, {sum(bad.values())} bad: {dict(bad)}')
  assert {'Undecodable', 'OutsideRoot', 'FileNotFoundError'} <= set(bad)
  # What is wrong with a file is no accident of our own code.
  assert not {'TypeError', 'KeyError', 'IndexError', 'AttributeError',
              'MemoryError', 'AssertionError'} & set(bad)


def test_an_endless_stream_goes_on_past_them(files, tmp_path):
  root, cases = files
  stream = open_stream(root, cases, tmp_path)
  drawn = [e for _ in range(6) for e in next(stream)[1]]
  stream.close()
  assert len(drawn) == 48 == stream.seen
  assert all(cases[int(e.record.id)].want != 'error' for e in drawn)
  assert sum(stream.counts.values()) == sum(len(e.skipped) for e in drawn) > 48
