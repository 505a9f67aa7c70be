"""Real records of all sorts, shuffled: what is compiled, and when.

Also that nothing crosses between host and device behind the loop's back.
"""

import dataclasses
import logging
import pathlib

import jax
import numpy as np
import pytest

from medrl import metrics
from medrl import types
from medrl.data import jsonl
from medrl.data import pipeline
from medrl.rewards import lift
from tests.trainers import small

SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
STEPS, MORE = 50, 54
BUCKETS = ((112, 64), (160, 256))
PROGRAMS = ('heldout_greedy', 'sample', 'prepare', 'update')


def records(root, split):
  """All derived questions, with one text-only and one two-image a dozen."""
  found = jsonl.read(root, 'derived_vqa/vqa.jsonl')
  if split != 'train':
    found = found[::400]
  busi = [r for r in found if r.task == 'busi_class']
  yield from found
  for record in found[::12]:
    yield dataclasses.replace(record, id=f'{record.id}-text', images=())
  for one, two in zip(busi[::2], busi[1::2]):
    yield types.Record(
        id=f'{one.id}-{two.id}', images=one.images + two.images,
        question='Is it the same class in both images?', answer_type='yesno',
        answer='yes' if one.meta['cls'] == two.meta['cls'] else 'no')


@lift.per_completion
def guarded(record, text):
  """1 where an implicit transfer fails, as it must within the loop."""
  del record
  try:
    jax.numpy.add(np.ones(3, np.float32), np.float32(len(text)))
  except jax.errors.JaxRuntimeError:
    return 1.
  return 0.


def train(folder, monkeypatch, caplog, **changed):
  """Trains, and tells in order what was compiled and which step began."""
  events = []

  def compiled(event, seconds, **more):
    del seconds
    if event == '/jax/core/compile/backend_compile_duration':
      events.append(('compile', more.get('fun_name')))

  draw = pipeline.Pipeline.__next__
  def begins(self):
    events.append(('step', None))
    return draw(self)

  monkeypatch.setattr(pipeline.Pipeline, '__next__', begins)
  jax.monitoring.register_event_duration_secs_listener(compiled)
  caplog.set_level(logging.INFO)
  caplog.clear()
  try:
    lines = small.train(folder, data__dataset=f'{__name__}.records',
                        data__root=str(SHARED), data__options={},
                        eval__options={}, data__buckets=BUCKETS,
                        processor__max_pixels=12544, checkpoint__every=100,
                        **changed)
  finally:
    jax.monitoring.unregister_event_duration_listener(compiled)
    monkeypatch.undo()
  announced = [r.getMessage().split(' in ')[0] for r in caplog.records
               if r.getMessage().startswith('compiled ')]
  return lines, events, announced


@pytest.mark.skipif(not SHARED.is_dir(),
                    reason='needs shared/data beside the repository')
def test_ac8_shuffled_records_of_all_sorts_compile_nothing_in_the_loop(
    tmp_path, monkeypatch, caplog):
  lines, events, announced = train(tmp_path, monkeypatch, caplog,
                                   rl__steps=STEPS)
  planned = sorted(f'compiled {p} {b}' for p in PROGRAMS for b in BUCKETS)
  assert sorted(announced) == planned
  first = events.index(('step', None))
  print(events, [(l.get("data/bucket_prompt"), round(l.get("data/padding_patches",0),2), round(l.get("data/padding_prompt",0),2)) for l in lines.values()], sum(l.get("time/step",0) for l in lines.values()))
  assert len([e for e in events[first:] if e[0] == 'step']) == STEPS
  assert [e for e in events[first:] if e[0] == 'compile'] == []
  used = {(line['data/bucket_prompt'], line['data/bucket_patches'])
          for step, line in lines.items() if step}
  assert used == set(BUCKETS)   # both, or the steps would show little
  for step in range(1, STEPS + 1):
    assert 0 < lines[step]['data/padding_prompt'] < 1
    assert 0 < lines[step]['data/padding_patches'] < 1
    assert lines[step]['time/fetches'] == 2
  # Restored, the same programs and again none in the loop.
  lines, events, announced = train(tmp_path, monkeypatch, caplog,
                                   rl__steps=MORE)
  assert sorted(announced) == planned and sorted(lines) == list(range(MORE + 1))
  first = events.index(('step', None))
  assert len(events[first:]) == MORE - STEPS
