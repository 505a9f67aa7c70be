"""Real records of all sorts, shuffled: what is compiled, and when."""

import dataclasses
import logging
import pathlib

import jax
import pytest

from medrl import types
from medrl.data import jsonl
from medrl.data import pipeline
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
    yield dataclasses.replace(record, id=f'{record.id}-text', media=())
  for one, two in zip(busi[::2], busi[1::2]):
    yield types.Record(
        id=f'{one.id}-{two.id}', media=one.media + two.media,
        question='Is it the same class in both images?', answer_type='yesno',
        answer='yes' if one.meta['cls'] == two.meta['cls'] else 'no')


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


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(),
                    reason='needs shared/data beside the repository')
def test_ac8_shuffled_records_of_all_sorts_compile_nothing_in_the_loop(
    tmp_path, monkeypatch, caplog):
  lines, events, announced = train(tmp_path, monkeypatch, caplog,
                                   rl__steps=STEPS)
  planned = sorted(f'compiled {p} {b}' for p in PROGRAMS for b in BUCKETS)
  check(events, announced, planned, STEPS)
  used = {(line['data/bucket_prompt'], line['data/bucket_patches'])
          for step, line in lines.items() if step}
  assert used == set(BUCKETS)   # both, or the steps would show little
  for step in range(1, STEPS + 1):
    assert 0 < lines[step]['data/padding_prompt'] < 1
    assert 0 <= lines[step]['data/padding_patches'] < 1
    assert lines[step]['time/fetches'] == 2
  lines, events, announced = train(tmp_path, monkeypatch, caplog,
                                   rl__steps=MORE)
  assert sorted(lines) == list(range(MORE + 1))   # it did restore
  check(events, announced, planned, MORE - STEPS)


def check(events, announced, planned, steps):
  """All programs were announced and compiled before the first step."""
  assert sorted(announced) == planned
  first = events.index(('step', None))
  assert events[first:] == [('step', None)] * steps
  large = [name for _, name in events[:first]
           if name in ('jit(sample)', 'jit(prepare)', 'jit(step)')]
  assert len(large) == len(planned)
