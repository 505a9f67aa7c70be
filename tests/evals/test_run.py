"""Scoring a checkpoint: which step, which records, and what is written."""

import json
import os
import pathlib
import stat
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import chest
from experiments import ultrasound
from medrl import build
from medrl import checkpoint
from medrl import feed
from medrl import types
from medrl.evals import run as evals
from tests.evals import small_run

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def workdir():
  return small_run.workdirs()[0]


def seen(monkeypatch, config, workdir):
  """What `evaluate` would have answered with: parameters and records."""
  caught = []
  def answer_with(run, params, sources):
    records = feed.flat(sources)
    caught.extend((jax.device_get(params), records))
    return {'heldout_greedy': ([evals.row(r, types.Completion(''))
                                for r in records], {})}
  monkeypatch.setattr(evals, 'answer_with', answer_with)
  monkeypatch.setattr(evals, '_write_private', lambda path, text: None)
  monkeypatch.setattr(pathlib.Path, 'write_text', lambda path, text: None)
  evals.evaluate(config, workdir)
  return caught


@pytest.mark.parametrize('wanted, step', [(-1, 2), (1, 1), (2, 2)])
def test_newest_or_named_step(monkeypatch, workdir, wanted, step):
  config = small_run.config()
  config.checkpoint.step = wanted
  params, _ = seen(monkeypatch, config, workdir)
  folder = workdir / 'checkpoints'
  jax.tree.map(np.testing.assert_array_equal, params,
               checkpoint.restore_policy(folder, step))
  other = checkpoint.restore_policy(folder, 3 - step)
  assert np.abs(params['embed'] - other['embed']).max() > 0


@pytest.mark.parametrize('asked, scored', [
    ({}, 'validation'), ({'data': 'test'}, 'test'),
    ({'eval': 'test'}, 'test'), ({'eval': 'train'}, 'train'),
    ({'data': 'validation', 'eval': 'test'}, 'validation')])
def test_split(asked, scored):
  config = small_run.config()
  for part, split in asked.items():
    config[part].split = split
  found = [r.id for r in evals.scored_records(config, 'nowhere')]
  assert found == [r.id for r in feed.records(config, scored, count=6)]


def test_files(workdir):
  result = json.loads((workdir / 'eval.json').read_text())
  assert {'accuracy', 'balanced_accuracy', 'parse_rate', 'mean_iou',
          'accuracy/side', 'mean_iou/box'} <= set(result)
  for score in result.values():
    assert set(score) == {'value', 'low', 'high', 'n', 'invalid'}
    assert score['low'] <= score['value'] <= score['high']
  assert result['parse_rate']['n'] == 6
  assert result['mean_iou']['n'] == result['accuracy']['n'] == 3
  path = workdir / 'answers.jsonl'
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  records = evals.scored_records(build_config(workdir), workdir)
  assert [r['record'] for r in rows] == [
      evals.anonymous(r.source, r.id) for r in records]
  for record in records:
    assert record.subject and record.subject not in path.read_text()


def build_config(workdir):
  config = small_run.config()
  config.data.split = json.loads(
      (workdir / 'eval_config.json').read_text())['data']['split']
  assert config.data.split == 'test'
  return config


def test_cluster_is_the_patient_or_else_the_image():
  def cluster(**fields):
    record = types.Record(id=fields.pop('id'), question='', answer='no',
                          answer_type='yesno', **fields)
    return evals.row(record, types.Completion('<answer>no</answer>'))['cluster']
  image = (types.Media('a.png'),)
  assert cluster(id='1', subject='p') == cluster(id='2', subject='p')
  assert cluster(id='1', subject='p') != cluster(id='1', subject='q')
  assert cluster(id='1', media=image) == cluster(id='2', media=image)
  assert cluster(id='1') != cluster(id='2')


def films(path, splits):
  rng = np.random.default_rng(0)
  arrays = {}
  for split in splits:
    arrays[f'{split}_images'] = rng.integers(0, 255, (5, 28, 28), np.uint8)
    arrays[f'{split}_labels'] = np.array([[0], [1], [1], [0], [1]])
  path.parent.mkdir(parents=True, exist_ok=True)
  np.savez(path, **arrays)


@pytest.fixture
def chest_run(tmp_path):
  """A run of experiments/chest.py whose policy is random, trained elsewhere."""
  films(tmp_path / 'data/pneumoniamnist/a.npz', ['train', 'val'])
  config = chest.get_config('runlocal')
  config.data.root = str(tmp_path / 'data')
  run = build.run(config, tmp_path / 'run')
  manager = checkpoint.open_manager(
      tmp_path / 'run/checkpoints', keep_last=1, keep_best=0, best_metric='')
  checkpoint.save(manager, 7, {'trained': build.initial_params(run)},
                  {'frozen': ''})
  checkpoint.wait(manager)
  return tmp_path / 'run'


def test_films_of_another_hospital_without_any_to_train_on(tmp_path, chest_run):
  films(tmp_path / 'other/mine.npz', ['test'])
  out = subprocess.run(
      [sys.executable, '-m', 'medrl.main',
       '--config=experiments/chest.py:runlocal', f'--workdir={chest_run}',
       '--eval_only', f'--config.data.root={tmp_path / "other"}',
       '--config.data.split=test', '--config.eval.sampled=False'],
      cwd=ROOT, env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      stdout=subprocess.PIPE, text=True, check=True).stdout
  printed = json.loads(out.splitlines()[-1])
  assert printed == json.loads((chest_run / 'eval.json').read_text())
  assert printed['accuracy']['n'] == printed['balanced_accuracy']['n'] == 5
  assert 'mean_iou' not in printed


def test_films_may_lie_in_the_study_s_folder(tmp_path):
  films(tmp_path / 'pneumoniamnist/mine.npz', ['test'])
  config = chest.get_config('runlocal')
  config.data.root, config.data.split = str(tmp_path), 'test'
  assert len(evals.scored_records(config, tmp_path)) == 5


@pytest.mark.parametrize('trained, split, whole', [
    ('', 'test', False), ('elsewhere', 'test', True),
    ('elsewhere', 'validation', False)])
def test_all_of_another_root_is_scored(tmp_path, trained, split, whole):
  lines = [json.dumps(dict(
      id=str(i), images=[], question='?', answer='A', answer_type='choice',
      options={'A': 'x', 'B': 'y'}, task='busi_class')) for i in range(100)]
  (tmp_path / 'derived_vqa').mkdir()
  (tmp_path / 'derived_vqa/vqa.jsonl').write_text('\n'.join(lines))
  config = ultrasound.get_config()
  config.data.root = str(tmp_path / trained)
  (tmp_path / 'config.json').write_text(config.to_json_best_effort())
  config.data.root, config.data.split = str(tmp_path), split
  count = len(evals.scored_records(config, tmp_path))
  assert count == 100 if whole else 5 < count < 30   # 15 of 100, by hash


@pytest.mark.parametrize('change, message', [
    (dict(workdir='empty'), 'no checkpoint'),
    (dict(step=9), r'no step 9; it has \[1, 2\]'),
    (dict(size='tiny'), 'another model'),
    (dict(tokenizer=True), 'no tokenizer folder'),
])
def test_errors(tmp_path, workdir, change, message):
  config = small_run.config()
  config.checkpoint.step = change.get('step', -1)
  config.model.size = change.get('size', 'toy')
  if 'workdir' in change:
    workdir = tmp_path
  if 'tokenizer' in change:
    (tmp_path / 'checkpoints').symlink_to(workdir / 'checkpoints')
    workdir = tmp_path
  with pytest.raises(ValueError, match=message):
    evals.evaluate(config, workdir)
