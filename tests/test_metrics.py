"""Names, weighted means and log files, against numbers worked out by hand."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from medrl import metrics
from tests.store import store   # noqa: F401, a fixture


@pytest.mark.parametrize('number', [float, np.asarray])
def test_merged_mean_is_the_mean_of_all_values(number):
  small = metrics.Mean(number(1. + 2.), number(2.))
  large = metrics.Mean(number(3. + 4. + 5. + 9.), number(4.))
  merged = metrics.merge(small, large)
  assert metrics.value(merged) == pytest.approx(24 / 6)
  # The mean of means is another number, which is why they travel as pairs.
  assert (metrics.value(small) + metrics.value(large)) / 2 != pytest.approx(4)


def test_mean_of_nothing_is_none():
  assert metrics.value(metrics.Mean(0., 0.)) is None


@pytest.mark.parametrize('name', [
    'reward/total', 'reward/part/format', 'data/bad/missing image',
    'eval/heldout_greedy/accuracy', 'eval/heldout_sampled/mean_iou/boxes'])
def test_defined_names_pass(name):
  metrics.check([name])


@pytest.mark.parametrize('name, hint', [
    ('reward/totl', "'reward/total'"),
    ('reward/part/', "'reward/part/*'"),
    ('eval/heldout/acuracy', "'eval/<suite>/accuracy'"),
    ('eval/a/b/accuracy', 'eval/<suite>/'),
    ('train/loss', 'not defined')])
def test_undefined_names_raise_with_the_nearest(name, hint):
  with pytest.raises(ValueError, match='not defined') as caught:
    metrics.check(['loss/total', name])
  assert repr(name) in str(caught.value) and hint in str(caught.value)


def test_every_definition_is_a_sentence_in_a_known_group():
  for name, text in metrics.DEFINITIONS.items():
    assert name.split('/')[0] in metrics.GROUPS, name
    assert text.endswith('.') and len(text) > 20, name


def test_writer_appends_strict_json(tmp_path):
  writer = metrics.Writer(tmp_path, tensorboard=False)
  shown = writer.write(1, {'reward/total': metrics.Mean(3, 2),
                           'loss/sft': metrics.Mean(0, 0),
                           'policy/ratio_max': np.float32('inf')})
  # Read before closing: a line must be on disk when its step has ended.
  text = (tmp_path / 'metrics.jsonl').read_text()
  strict = json.loads(text, parse_constant=lambda c: pytest.fail(c))
  assert strict == {'step': 1, 'reward/total': 1.5, 'policy/ratio_max': 'inf'}
  assert shown['reward/total'] == 1.5
  with pytest.raises(ValueError, match="'reward/totl'"):
    writer.write(2, {'reward/totl': 1.})
  writer.close()
  assert len(metrics.read(tmp_path / 'metrics.jsonl')) == 1


def test_rollouts_are_private_from_their_creation_on(tmp_path):
  before = os.umask(0)
  try:
    writer = metrics.Writer(tmp_path, tensorboard=False)
  finally:
    os.umask(before)
  path = tmp_path / 'rollouts.jsonl'
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  writer.rollouts(4, [{'text': 'größer\nnan', 'parts': {'a': float('nan')}}])
  writer.close()
  assert metrics.read(path) == [
      {'step': 4, 'text': 'größer\nnan', 'parts': {'a': 'nan'}}]
  metrics.cut(path, 3)
  assert metrics.read(path) == []
  assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rollouts_can_be_switched_off(tmp_path):
  writer = metrics.Writer(tmp_path, tensorboard=False, rollouts=False)
  writer.rollouts(1, [{'text': 'a'}])
  writer.close()
  assert not (tmp_path / 'rollouts.jsonl').exists()


@pytest.mark.parametrize('torn', ['', '{"step": 4, "loss', '{"step": 1}'])
@pytest.mark.parametrize('step, left', [
    (2, [1, 2, 2]), (0, []), (None, [1, 2, 2, 3])])
def test_cut_keeps_whole_lines_up_to_a_step(tmp_path, torn, step, left):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(
      ''.join(f'{{"step": {n}}}\n' for n in (1, 2, 2, 3)) + torn)
  path.chmod(0o640)
  metrics.cut(path, step)
  assert [row['step'] for row in metrics.read(path)] == left
  assert path.read_text().count('\n') == len(left)
  assert stat.S_IMODE(path.stat().st_mode) == 0o640
  assert list(tmp_path.iterdir()) == [path]  # no temporary file stays behind


def test_a_resumed_writer_cuts_and_goes_on(tmp_path):
  for restored, steps in ((0, (1, 2, 3)), (2, (3, 4))):
    writer = metrics.Writer(tmp_path, step=restored, tensorboard=False)
    for step in steps:
      writer.write(step, {'data/seen': 10 * restored + step})
    writer.close()
  rows = metrics.read(tmp_path / 'metrics.jsonl')
  assert [(r['step'], r['data/seen']) for r in rows] == [
      (1, 1), (2, 2), (3, 23), (4, 24)]


def test_a_damaged_middle_line_is_named_and_nothing_is_lost(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1}\nxx\n{"step": 2}\n')
  with pytest.raises(ValueError, match='metrics.jsonl:2 is not JSON'):
    metrics.cut(path, 1)
  assert path.read_text().endswith('{"step": 2}\n')
  assert list(tmp_path.iterdir()) == [path]


def test_logs_of_a_store_go_up_at_each_save(store):   # noqa: F811
  there = store / 'bucket/run'
  for restored, steps in ((0, (1, 2, 3)), (2, (3, 4))):
    writer = metrics.Writer('gs://bucket/run', step=restored)
    assert stat.S_IMODE(writer.here.stat().st_mode) == 0o700
    for step in steps:
      writer.write(step, {'data/seen': 10 * restored + step})
      writer.rollouts(step, [{'prompt': 'p'}])
      if step == 3:
        before = len(list(there.rglob('metrics.jsonl')))
        writer.publish()
    assert before == (restored > 0)   # nothing goes up by itself
    assert len(metrics.read('gs://bucket/run/metrics.jsonl')) == 3
    writer.close()
    assert not writer.here.exists()
  rows = metrics.read('gs://bucket/run/metrics.jsonl')
  assert [(r['step'], r['data/seen']) for r in rows] == [
      (1, 1), (2, 2), (3, 23), (4, 24)]
  assert len(metrics.read(there / 'rollouts.jsonl')) == 4
  assert len(list((there / 'tensorboard').iterdir())) == 2


def test_a_full_disk_is_an_error_at_once(tmp_path):
  """Not a thread that has died, and that the run then waits for."""
  writer = metrics.Writer(tmp_path)
  full = writer._events._file._py_recordio_writer
  full._writer = open('/dev/full', 'wb', buffering=0)
  with pytest.raises(OSError, match='No space left'):
    writer.write(1, {'loss/total': .5})
  full._writer.close()
  assert [r['step'] for r in metrics.read(tmp_path / 'metrics.jsonl')] == [1]


def test_tensorboard_files_hold_the_scalars_and_load_no_torch(tmp_path):
  code = f"""
import sys
from medrl import metrics
writer = metrics.Writer({str(tmp_path)!r}, step=6)
writer.write(7, {{'loss/total': 0.25}})
writer.close()
loaded = {{'torch', 'tensorflow', 'jax'}} & set(sys.modules)
assert not loaded, loaded
import importlib.util
importlib.util.find_spec('torch')  # it can still be imported afterwards
"""
  subprocess.run([sys.executable, '-c', code], check=True)
  from tensorboardX.proto import event_pb2
  file, = (tmp_path / 'tensorboard').iterdir()
  blob, events, place = file.read_bytes(), [], 0
  while place < len(blob):  # TFRecord: length, its crc, the event, its crc
    length = int.from_bytes(blob[place:place + 8], 'little')
    events.append(event_pb2.Event.FromString(
        blob[place + 12:place + 12 + length]))
    place += length + 16
  scalars = [(e.step, v.tag, v.simple_value)
             for e in events for v in e.summary.value]
  assert scalars == [(7, 'loss/total', 0.25)]
  # TensorBoard hides events of earlier files from this step on.
  starts = [e.step for e in events if e.session_log.status == 1]
  assert starts == [7]
