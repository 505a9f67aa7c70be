"""Every study's `:runlocal` finishes two steps; what a study learns is its own.
"""

import importlib
import pathlib

import pytest

from medrl import lookup
from medrl import metrics

ROOT = pathlib.Path(__file__).parents[1]
SHARED = ROOT.parent / 'shared' / 'data'
# Scripts are started by hand, and `common` is not a study.
STUDIES = sorted(
    path.stem for path in (ROOT / 'experiments').glob('*.py')
    if not path.stem.startswith(('_', 'ablate')) and path.stem != 'common')


def study(name, switch):
  return importlib.import_module(f'experiments.{name}').get_config(switch)


@pytest.mark.parametrize('name', STUDIES)
def test_runlocal_finishes_two_steps(name, tmp_path):
  config = study(name, 'runlocal')
  if 'phantom' not in config.data.dataset:
    if not SHARED.is_dir():
      pytest.skip('needs shared/data beside the repository')
    config.data.root = str(SHARED)
  # One program of each kind, or compiling would take most of the test run.
  config.data.buckets = config.data.buckets[-1:]
  config.eval.sampled = False
  config.sft.steps = min(config.sft.steps, 1)
  config.log.progress = False
  result = lookup.resolve(config.trainer)(config, tmp_path)
  assert 0 <= result['accuracy_after_rl'] <= 1
  lines = metrics.read(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [0, 1, 2]
  assert config.checkpoint.metric in lines[-1]


@pytest.mark.parametrize('name', STUDIES)
def test_a_full_study_differs_from_its_runlocal_in_size_alone(name):
  full, local = study(name, ''), study(name, 'runlocal')
  assert full.model.size != 'toy' and full.rl.steps > local.rl.steps
  for key in ('dataset', 'buckets', 'split'):
    assert full.data[key] == local.data[key]
  assert full.rewards == local.rewards and full.processor == local.processor


@pytest.mark.parametrize('name', STUDIES)
def test_an_unknown_switch_is_told(name):
  with pytest.raises(ValueError, match="'runloc' is unknown.*'runlocal'"):
    study(name, 'runloc')
