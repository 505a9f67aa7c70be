import collections
import dataclasses

import ml_collections
import numpy as np
import pytest

from medrl import lookup
from medrl import types
from medrl.data import phantom
from medrl.data import phantom_answers
from medrl.data import phantom_world
from medrl.rewards import answer


def read(count, split='train', **options):
  return list(phantom.records('', split, count=count, **options))


def images(record):
  return [lookup.resolve(m.loader)(m.path, '', **m.options)
          for m in record.media]


def reward(record, text):
  return answer.score(record, [types.Completion(text)], {}).total[0]


@pytest.mark.parametrize('task', phantom.TASKS)
def test_demonstrations_are_right_and_short(task):
  for record in read(24, tasks=(task,)):
    text = record.demonstration
    assert reward(record, text) == 1
    assert all(phantom.check_trace(record, text).values()), text
    assert text.startswith('<think>') and len(text.split()) <= 25


@pytest.mark.parametrize('task', phantom.TASKS)
def test_answers_are_balanced(task):
  difficulty = phantom_world.Difficulty()
  strata = phantom_answers.STRATA[task]
  found = [phantom_answers.stratum(
      task, phantom_world.from_dict(r.meta['world']), difficulty)
           for r in read(5 * len(strata), tasks=(task,))]
  assert collections.Counter(found) == dict.fromkeys(strata, 5)


def test_every_letter_is_right_equally_often():
  found = collections.Counter(r.answer for r in read(400, tasks=('organ',)))
  # 4 standard deviations of a binomial of 400 and 1/4.
  assert all(abs(found[letter] - 100) < 35 for letter in 'ABCD')


def test_size_now_tells_nothing_about_the_change():
  sizes = collections.defaultdict(list)
  for record in read(600, tasks=('change',)):
    state = phantom_world.from_dict(record.meta['world'])
    sizes[state.change].append(phantom_world.pixels(state, state.lesions[0]))
  means = [np.mean(values) for values in sizes.values()]
  # 200 sizes each of a standard deviation of about 2 pixels.
  assert len(means) == 3 and np.ptp(means) < .7


def test_splits_share_no_patient_and_more_only_adds():
  sets = [{r.subject for r in read(60, split)}
          for split in ('train', 'validation', 'test')]
  assert len(set.union(*sets)) == 180
  assert read(60)[:20] == read(20) != read(20, seed=1)


def test_images_follow_from_the_path_and_the_difficulty():
  easy, = read(1, tasks=('count',))
  hard, = read(1, tasks=('count',), difficulty={'noise': 40.})
  (a,), (b,) = images(easy), images(hard)
  assert a.shape == (112, 112, 3) and a.dtype == np.uint8
  assert b[:20].std() > a[:20].std()
  pair, = read(1, tasks=('change',))
  assert [m.path[-1] for m in pair.media] == ['0', '1']
  with pytest.raises(ValueError, match='names no phantom image'):
    phantom.render('phantom/0/../0', '')


@pytest.mark.parametrize('trace', [True, False])
def test_wrong_demonstrations_come_at_the_asked_rate(trace):
  clean = read(450, trace=trace)
  noisy = read(450, trace=trace, demonstration_error=.4)
  swapped = [a.demonstration != b.demonstration for a, b in zip(clean, noisy)]
  # A hasty reader is right at times; no more than that may differ.
  assert .2 < np.mean(swapped) < .45
  assert all(r.meta['demonstration_correct'] for r in clean)
  for record in noisy:
    if trace:
      right = all(phantom.check_trace(record, record.demonstration).values())
    else:
      assert '<think>' not in record.demonstration
      right = reward(record, record.demonstration) == 1
    assert record.meta['demonstration_correct'] == right
  for a, b in zip(clean, noisy):  # all but the demonstration is the same
    assert dataclasses.replace(b, demonstration='', meta={}) == (
        dataclasses.replace(a, demonstration='', meta={}))


def swap(text, old, new):
  assert old in text
  return text.replace(old, new)


@pytest.mark.parametrize('task, old, new, wrong', [
    ('present', '</answer>', 's</answer>', {'answer'}),
    ('present', 'Lesions: liver.', 'Lesions: spleen.', {'lesions'}),
    ('present', 'Lesions:', 'I see', {'lesions'}),
    ('count', 'Count 1', 'Count 2', {'count'}),
    ('side', 'Side right', 'Side left', {'side'}),
    ('organ', 'Largest liver', 'Largest spleen', {'largest'}),
    ('organ', 'liver 14 px', 'liver 17 px', {'sizes'}),
    ('organ', 'liver 14 px', 'liver 15 px', set()),
    ('change', 'earlier 9 px', 'earlier 14 px', {'earlier'}),
    ('change', 'Now 14', 'Now 9', {'now'}),
    ('change', 'Change grew', 'Change shrank', {'change'}),
    ('diameter', '= 35 mm', '= 40 mm', {'product'}),
    ('diameter', 'x 2.5 mm', 'x 2 mm', {'spacing', 'product'}),
    ('diameter', '>35<', '>41<', set()),       # within a fifth
    ('diameter', '>35<', '>43<', {'answer'}),
    ('report', '1 lesion.', '2 lesions.', {'answer'}),
])
def test_each_step_is_checked(task, old, new, wrong):
  """A made-up patient: one lesion of 14 pixels in the liver, that grew."""
  state = phantom_world.World(
      0, 0, 2.5, 90., 6., phantom_world.world(0, 0).organs,
      (phantom_world.Lesion('liver', 34., 47., 35., 30., 0., 2 / 3),), 'grew')
  base, = read(1, tasks=(task,))
  value = phantom_answers.answer(task, state)
  if base.options:
    value = next(k for k, v in base.options.items() if v == value)
  record = dataclasses.replace(base, answer=value,
                               meta={'world': dataclasses.asdict(state)})
  text = (f'<think>{phantom_answers.trace(task, state)}</think>'
          f'<answer>{phantom_answers.written(value)}</answer>')
  assert all(phantom.check_trace(record, text).values())
  steps = phantom.check_trace(record, swap(text, old, new))
  assert {name for name, right in steps.items() if not right} == wrong


@pytest.mark.parametrize('text', ['', '<answer>', '</think>', 'Lesions: .',
                                  'Lesions: 3 px, .</think>', 'Largest 1'])
def test_any_text_can_be_checked(text):
  for record in read(9):
    assert not phantom.check_trace(record, text)['answer']


@pytest.mark.parametrize('options, expected', [
    ({'tasks': ('sides',)}, "did you mean 'side'"),
    ({'tasks': ()}, 'no task'),
    ({'difficulty': {'nois': 3.}}, "did you mean 'noise'"),
    ({'demonstration_error': 2.}, '0 to 1'),
    ({'split': 'val'}, 'validation'),
    ({'difficulty': {'smallest': 14, 'largest': 14}, 'tasks': ('change',)},
     'widen'),
])
def test_errors(options, expected):
  with pytest.raises(ValueError, match=expected):
    read(3, **options)


def test_values_of_a_config():
  config = ml_collections.ConfigDict(dict(
      seed=1, count=4, tasks=('count', 'box'), difficulty=dict(noise=3.)))
  assert len(list(phantom.records('', 'test', **config))) == 4


@pytest.mark.parametrize('shuffled', [False, True])
def test_side_can_be_learned_from_pixels(shuffled):
  """Least squares on 28 x 28 pixels; with shuffled labels, chance."""
  x, y = [], []
  for record in read(300, tasks=('side',)):
    grey = images(record)[0][..., 0].astype(float)
    x.append(grey.reshape(28, 4, 28, 4).mean((1, 3)).ravel())
    y.append(record.options[record.answer] == 'left')
  x, y = np.array(x) - np.mean(x, axis=0), 2. * np.array(y) - 1
  if shuffled:
    y = np.random.default_rng(0).permutation(y)
  gram = x[:200] @ x[:200].T
  dual = np.linalg.solve(gram + gram.trace() / 200 * np.eye(200), y[:200])
  right = np.mean(np.sign(x[200:] @ x[:200].T @ dual) == y[200:])
  assert right < .7 if shuffled else right > .95
