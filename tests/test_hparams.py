"""TensorBoard's hyper-parameter summary, read back from the event file."""

import struct
import subprocess
import sys

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.proto import plugin_hparams_pb2

from medrl import hparams
from tests.store import store   # noqa: F401, a fixture

CONFIG = {'rl.clip_high': 0.28, 'seed': 2, 'rl.overlap': True,
          'rl.advantage': 'medrl.rl.advantages.center', 'rl.pack.rows': (4, 8),
          'rl.options.reduce': {'length': 3}, 'rl.kl_weight': None}
RESULT = {'accuracy_before_rl': 0.4, 'accuracy_after_rl': 0.75, 'step': 110,
          'workdir': '/somewhere/patient', 'ok': True, 'nan': float('nan'),
          'tasks': {'side': 0.5}}


def events(folder):
  """The summaries of the one event file: records of length, crc, bytes, crc."""
  path, = folder.glob('events.*')
  data, at, out = path.read_bytes(), 0, []
  while at < len(data):
    length, = struct.unpack_from('<Q', data, at)
    out.append(event_pb2.Event.FromString(data[at + 12:at + 12 + length]))
    at += 12 + length + 4
  return [value for event in out for value in event.summary.value]


def plugin(values, tag):
  value, = (v for v in values if v.tag == f'_hparams_/{tag}')
  assert value.metadata.plugin_data.plugin_name == 'hparams'
  return plugin_hparams_pb2.HParamsPluginData.FromString(
      value.metadata.plugin_data.content)


def read(folder):
  """(hyper-parameters, metrics announced, metrics, status) of a run."""
  values = events(folder / 'tensorboard' / 'hparams')
  start = plugin(values, 'session_start_info').session_start_info
  shown = {key: getattr(v, v.WhichOneof('kind'))
           for key, v in start.hparams.items()}
  experiment = plugin(values, 'experiment').experiment
  assert {h.name for h in experiment.hparam_infos} == set(shown)
  ended = plugin(values, 'session_end_info').session_end_info.status
  return (shown, {m.name.tag for m in experiment.metric_infos},
          {v.tag: v.simple_value for v in values
           if v.tag.startswith('result/')}, ended)


def test_what_is_written_is_read_back(tmp_path):
  hparams.write(tmp_path, CONFIG, RESULT)
  shown, announced, metrics, status = read(tmp_path)
  assert shown == {
      'rl.clip_high': 0.28, 'seed': 2., 'rl.overlap': True,
      'rl.advantage': 'medrl.rl.advantages.center', 'rl.pack.rows': '[4, 8]',
      'rl.options.reduce': '{"length": 3}', 'rl.kl_weight': 'null'}
  assert metrics == pytest.approx({'result/accuracy_before_rl': 0.4,
                                   'result/accuracy_after_rl': 0.75,
                                   'result/step': 110})
  assert announced == set(metrics)
  assert status == 1  # STATUS_SUCCESS


def test_a_second_time_replaces_the_first(tmp_path):
  (tmp_path / 'tensorboard').mkdir()
  curves = tmp_path / 'tensorboard' / 'events.out.curves'
  curves.write_bytes(b'')
  hparams.write(tmp_path, {'seed': 1}, {'a': 1})
  hparams.write(str(tmp_path), {}, {'a': 2})
  shown, _, metrics, _ = read(tmp_path)
  assert (shown, metrics) == ({}, {'result/a': 2.})
  assert curves.exists()


def test_a_store_has_it_too(store):   # noqa: F811
  for seed in (1, 2):
    hparams.write('gs://bucket/run', {'seed': seed}, {'a': 3})
  assert read(store / 'bucket' / 'run')[0] == {'seed': 2.}


def test_it_loads_no_jax(tmp_path):
  # tensorboardX looks for torch too, which takes a while to load.
  code = ('import sys; sys.modules["torch"] = None\n'
          'from medrl import hparams\n'
          f'hparams.write({str(tmp_path)!r}, {{"seed": 1}}, {{"a": 1.0}})\n'
          'assert "jax" not in sys.modules')
  subprocess.run([sys.executable, '-c', code], check=True)
