"""Keys, values, draws, names and commands of sweeps."""

import pathlib
import re

import numpy as np
import pytest
from scipy import stats

from launch import sweep_points
from launch import sweep_values
from tests.launch import sweep_study

PATH = str(pathlib.Path(sweep_study.__file__))


@pytest.fixture(scope='module')
def study():
  return sweep_values.load(PATH)


@pytest.mark.parametrize('key, text, value', [
    ('rewards.format.weight', '0', 0.),
    ('reward.format.weight', '.5', .5),       # the documented short form
    ('rl.clip_high', '1e-3', 1e-3),           # a placeholder
    ('rl.steps', '7', 7),
    ('eval.sampled', 'true', True),
    ('rl.advantage', 'medrl.rl.advantages.center',
     'medrl.rl.advantages.center'),
    ('rl.recipe', '', ''),
    ('data.buckets', '((64, 32), (128, 64))', ((64, 32), (128, 64))),
    ('rollout.stop_strings', "('a, b',)", ('a, b',)),
    ('rollout.stop_strings', '()', ()),
])
def test_values_have_the_type_of_the_default(study, key, text, value):
  found = sweep_values.parse(study, key, text)
  assert found == value and type(found) is type(value)
  again = sweep_values.parse(study, key, sweep_values.text_of(found))
  assert again == value and type(again) is type(value)


@pytest.mark.parametrize('text, says', [
    ('reward.formt.weight=1', "unknown .*'rewards.formt.weight'.*did you mean "
     "'rewards.format.weight'"),
    ('rl.clip_hi=1', "did you mean 'rl.clip_high'"),
    ('rl.clip_high=high', "rl.clip_high='high': .*float"),
    ('rl.steps=1.5', "rl.steps='1.5'"),
    ('seed=1,2', 'seed is no key of a sweep'),
    ('rl.epochs=1,2', 'fixed to 3 by --set'),
    ('rl.clip_high', 'not of the form key=value'),
    ('rl.clip_high=.2,0.2', 'twice'),
])
def test_what_does_not_fit_is_told(text, says):
  study = sweep_values.load(PATH, ['rl.epochs=3'])
  with pytest.raises(ValueError, match=says):
    sweep_points.grid(study, [text])


def test_a_study_that_is_not_there_is_named():
  with pytest.raises(OSError, match='nowhere.py'):
    sweep_values.load('nowhere.py')


def test_lists_are_split_outside_brackets_and_quotes(study):
  assert sweep_values.split("a, (b, c), 'd, e', [f, (g)]") == [
      'a', '(b, c)', "'d, e'", '[f, (g)]']
  assert sweep_values.choices(study, "processor.system='Be brief, please',''"
                              ) == ('processor.system',
                                    ('Be brief, please', ''))
  assert sweep_values.choices(study, 'data.buckets=((64,64),),((8,8),(9,9))')[
      1] == (((64, 64),), ((8, 8), (9, 9)))


def test_grid_is_every_combination(study):
  found = sweep_points.grid(study, ['reward.format.weight=0,0.5,1',
                                    'rl.clip_high=0.2,0.28'])
  assert found == [
      {'rewards.format.weight': w, 'rl.clip_high': c}
      for w in (0., .5, 1.) for c in (.2, .28)]
  assert sweep_points.grid(study, []) == [{}]
  with pytest.raises(ValueError, match='swept twice'):
    sweep_points.grid(study, ['rl.clip_high=1', 'rl.clip_high=2'])


def test_draws_are_reproducible_and_extend(study):
  rate = 'rl.optim.learning_rate=log:1e-5,1e-3'
  ten = sweep_points.draws(study, [rate, 'rl.epochs=uniform:1,4'], 10, 0)
  assert ten == sweep_points.draws(study, [rate, 'rl.epochs=uniform:1,4'], 10,
                                   0)
  more = sweep_points.draws(study, ['rl.epochs=uniform:1,4', rate], 20, 0)
  assert more[:10] == ten
  # Another key beside it changes nothing.
  alone = sweep_points.draws(study, [rate], 10, 0)
  assert [p['rl.optim.learning_rate'] for p in ten] == [
      p['rl.optim.learning_rate'] for p in alone]
  assert alone != sweep_points.draws(study, [rate], 10, 1)


def test_draws_have_their_distributions():
  log = [sweep_values.draw(sweep_values.Range('log', 1e-5, 1e-3), str(i))
         for i in range(2000)]
  even = [sweep_values.draw(sweep_values.Range('uniform', -1., 3.), str(i))
          for i in range(2000)]
  assert stats.kstest(log, stats.loguniform(1e-5, 1e-3).cdf).pvalue > .01
  assert stats.kstest(even, stats.uniform(-1, 4).cdf).pvalue > .01
  whole = [sweep_values.draw(sweep_values.Range('uniform', 1, 4), str(i))
           for i in range(2000)]
  assert set(map(type, whole)) == {int}
  assert stats.chisquare(np.bincount(whole, minlength=5)[1:]).pvalue > .01
  octaves = [sweep_values.draw(sweep_values.Range('log', 1, 8), str(i))
             for i in range(2000)]
  assert set(octaves) == set(range(1, 9))
  # As the area of 1 / x over each integer and half a unit around it.
  edges = np.log(np.arange(9) + .5)
  want = np.diff(edges) / (edges[-1] - edges[0]) * len(octaves)
  assert stats.chisquare(np.bincount(octaves)[1:], want).pvalue > .01


@pytest.mark.parametrize('text, says', [
    ('rl.clip_high=log:0,1', 'bounds above 0'),
    ('rl.clip_high=log:1,1', 'in order'),
    ('rl.clip_high=uniform:1', 'two numbers'),
    ('eval.sampled=uniform:False,True', 'two numbers'),
    ('rl.epochs=1,2', '3 different points .* 2 were found'),
])
def test_draws_that_cannot_be(study, text, says):
  with pytest.raises(ValueError, match=says):
    sweep_points.draws(study, [text], 3, 0)


def test_points_of_the_study_and_products(study):
  found = sweep_points.listed(study)
  assert found[0] == {'rewards.format.weight': 0., 'rl.clip_high': .2}
  assert found[2]['data.buckets'] == ((64, 64), (128, 64))
  both = sweep_points.combine(found, [{'rl.epochs': 1}, {'rl.epochs': 2}])
  assert len(both) == 6 and both[1] == {**found[0], 'rl.epochs': 2}
  with pytest.raises(ValueError, match='in two ways'):
    sweep_points.combine(found, [{'rl.clip_high': 1.}])
  with pytest.raises(ValueError, match='no function sweep'):
    sweep_points.listed(sweep_values.load('experiments/base.py'))


def test_names_are_readable_stable_and_safe(study):
  def names(*texts):
    return [p.name for p in sweep_points.named(
        sweep_points.grid(study, texts))]
  few = names('reward.format.weight=0,0.5', 'rl.clip_high=0.2')
  assert few[0].startswith('format.weight=0,rl.clip_high=0.2-')
  # More values leave the folders that there are.
  more = names('rl.clip_high=0.2,0.28', 'reward.format.weight=1,0.5,0')
  assert set(few) < set(more) and len(set(more)) == 6
  # The same last word.
  rates = names('rl.optim.learning_rate=1e-3', 'sft.optim.learning_rate=1e-4')
  assert rates[0].startswith(
      'rl.optim.learning_rate=0.001,sft.optim.learning_rate=0.0001-')
  odd = names("rl.advantage=medrl.rl.advantages.center,'a/../b c;$(d)'",
              'data.buckets=((64, 64),)')
  assert odd[0].startswith('data.buckets=64_64,rl.advantage=center-')
  for name in (*few, *more, *rates, *odd):
    assert re.fullmatch(r'[\w.,=+-]+', name) and len(name) < 140
  assert names()[0].startswith('default-')


def test_commands_are_lists_that_main_reads_back(study):
  laid = sweep_values.load(PATH, ['rl.epochs=2', "processor.system=a 'b' $c"])
  point = {'data.buckets': ((64, 64),), 'rl.clip_high': .28, 'seed': 3}
  found = sweep_points.command(['python', '-m', 'medrl.main'], laid,
                               ['--accelerator=cpu'], 'runs/s/p/seed3', point)
  assert found[:5] == ['python', '-m', 'medrl.main', f'--config={PATH}',
                       '--workdir=runs/s/p/seed3']
  assert found[-1] == '--accelerator=cpu'
  given = dict(a.removeprefix('--config.').split('=', 1)
               for a in found if a.startswith('--config.'))
  assert {key: sweep_values.parse(study, key, text)
          for key, text in given.items()} == {**laid.fixed, **point}
