"""Every study's `:runlocal` finishes two steps; what a study learns is its own.
"""

import importlib
import pathlib
import types

import pytest

from medrl import build
from medrl import feed
from medrl import lookup
from medrl import metrics
from medrl.trainers import session

ROOT = pathlib.Path(__file__).parents[1]
SHARED = ROOT.parent / 'shared' / 'data'
# Scripts are started by hand, and `common` is not a study.
STUDIES = sorted(
    path.stem for path in (ROOT / 'experiments').glob('*.py')
    if not path.stem.startswith(('_', 'ablate')) and path.stem != 'common')


def study(name, switch):
  config = importlib.import_module(f'experiments.{name}').get_config(switch)
  config.data.root = str(SHARED)
  config.log.progress = False
  return config


def needs_data(config):
  if 'phantom' not in config.data.dataset and not SHARED.is_dir():
    pytest.skip('needs shared/data beside the repository')


# What these add to the others, other tests run too.
SLOW = ('blood', 'modalities', 'ultrasound')


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in STUDIES])
def test_runlocal_finishes_two_steps(name, tmp_path):
  config = study(name, 'runlocal')
  needs_data(config)
  # One program of each kind, or compiling would take most of the test run;
  # the cold start's step is one of test_resume.
  config.data.buckets = config.data.buckets[-1:]
  config.eval.sampled = False
  config.sft.steps = 0
  result = lookup.resolve(config.trainer)(config, tmp_path)
  assert 0 <= result['accuracy_after_rl'] <= 1
  lines = metrics.read(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [0, 1, 2]
  assert config.checkpoint.metric in lines[-1]


@pytest.mark.parametrize('name', STUDIES)
def test_prompts_and_demonstrations_fit_where_the_study_puts_them(
    name, tmp_path):
  config = study(name, 'runlocal')
  needs_data(config)
  length = config.sft.length if study(name, '').sft.steps else 0
  opened = types.SimpleNamespace(run=build.run(config, tmp_path),
                                 training=feed.training(config))
  batches = session.pipeline(opened, 1, length)
  for _ in range(48):
    next(batches)   # raises where one does not fit


@pytest.mark.parametrize('name', STUDIES)
def test_a_full_study_is_what_its_runlocal_tries(name):
  full, local = study(name, ''), study(name, 'runlocal')
  assert full.model.size != 'toy' and full.rl.steps > local.rl.steps
  assert full.data.dataset == local.data.dataset
  assert full.rewards == local.rewards


@pytest.mark.parametrize('name', STUDIES)
def test_an_unknown_switch_is_told(name):
  with pytest.raises(ValueError, match="'runloc' is unknown.*'runlocal'"):
    study(name, 'runloc')
