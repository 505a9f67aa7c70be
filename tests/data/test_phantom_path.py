import collections

import numpy as np

from medrl import lookup
from medrl import types
from medrl.data import phantom
from medrl.data import phantom_path
from medrl.rewards import answer
from medrl.rewards import paths


def walks(count, **options):
  found = list(phantom_path.records('', 'train', count=5 * count, **options))
  return [found[i:i + 5] for i in range(0, 5 * count, 5)]


def test_five_records_share_a_path():
  for walk in walks(40):
    assert [r.task for r in walk] == list(phantom_path.TASKS)
    assert len({r.meta['path']['id'] for r in walk}) == 1
    assert [r.meta['path']['level'] for r in walk] == [1, 2, 3, 4, 5]
    assert len({r.media[0].path for r in walk}) == 1
    for record in walk:
      turn = record.meta['turns'][record.meta['path']['level'] - 1]
      assert turn == {
          'task': record.task, 'question': record.question,
          'answer_type': record.answer_type, 'options': record.options,
          'answer': record.answer}
      assert record.meta['turns'] == walk[0].meta['turns']


def test_answers_follow_from_each_other():
  """The tree in longhand."""
  seen = collections.Counter()
  for walk in walks(108):
    said = [r.options.get(r.answer, r.answer) for r in walk]
    modality, present, organ, grade, step = said
    world = walk[0].meta['world']['world']
    if present == 'no':
      assert (organ, grade, step) == ('none',) * 3 and not world['lesions']
    else:
      lesion, = world['lesions']
      size, kidney = lesion['long'], 'kidney' in organ
      assert organ == lesion['organ']
      assert grade == ('small' if size <= 25 else
                       'large' if size > 40 else 'medium')
      critical = size > (25 if kidney else 40)
      assert walk[0].meta['critical'] == critical
      assert step == ('surgery' if critical else
                      'follow-up' if size <= 25 else 'biopsy')
    row = tuple(walk[0].meta['categories'])
    assert row in phantom_path.TABLE and row[0] == modality
    seen[organ] += 1
  assert seen == {'none': 36, 'liver': 18, 'spleen': 18, 'right kidney': 18,
                  'left kidney': 18}


def test_all_paths_of_the_table_occur():
  found = {tuple(walk[0].meta['categories']) for walk in walks(54)}
  assert found == set(phantom_path.TABLE)
  assert len(phantom_path.TABLE) == 3 * (1 + 4 * 3)


def test_modality_is_balanced_and_tells_nothing():
  found = collections.Counter((w[0].meta['categories'][0],
                               w[0].meta['categories'][1]) for w in walks(54))
  assert set(found.values()) == {6, 12}


def test_modalities_look_as_they_do():
  looks = collections.defaultdict(list)
  for walk in walks(36):
    medium, = walk[0].media
    picture = lookup.resolve(medium.loader)(medium.path, '', **medium.options)
    assert picture.shape == (112, 112, 3) and picture.dtype == np.uint8
    plain = phantom.render('/'.join(medium.path.split('/')[:3]) + '/0', '')
    if medium.path.endswith('CT'):
      np.testing.assert_array_equal(picture, plain)
    spine, flesh = picture[82:87, 54:59].mean(), picture[20:100, 50:62].mean()
    fade = picture[60:70, 53:60].mean() / picture[18:28, 53:60].mean()
    looks[walk[0].meta['categories'][0]].append((spine > flesh, fade))
    if medium.path.endswith('MR'):
      # A lesion is where the difference to the plain slice is; it turns dark.
      np.testing.assert_array_equal(picture[50:60, 20:90],
                                    255 - plain[50:60, 20:90])
  bright = {k: {b for b, _ in v} for k, v in looks.items()}
  assert bright == {'CT': {True}, 'MR': {False}, 'US': {True}}
  fades = {k: np.mean([f for _, f in v]) for k, v in looks.items()}
  assert fades['US'] < .9 < fades['CT'] < 1.1


def test_rewards_of_paths_read_the_categories():
  """`rewards.paths` with the table and a word for each category."""
  keywords = [{c: (c,) for c in sorted({row[k] for row in phantom_path.TABLE})}
              for k in range(5)]
  options = dict(table=phantom_path.TABLE, keywords=keywords)
  for walk in walks(6):
    row = walk[0].meta['categories']
    steps = ' '.join(f'Step {i}: {c}.' for i, c in enumerate(row, 1))
    said = [types.Completion(f'<think>{steps}</think>')]
    assert paths.path(walk[0], said, {}, keywords=keywords,
                      key='categories').total[0] == 1
    assert paths.transitions(walk[0], said, {}, **options).total[0] == 1


def test_a_level_can_be_asked_alone():
  found = list(phantom_path.records('', 'train', count=9, tasks=('path/4',)))
  assert len({r.subject for r in found}) == 9
  assert {r.answer_type for r in found} == {'ordinal'}
  for record in found:   # grades keep their order
    assert list(record.options.values()) == ['none', 'small', 'medium', 'large']
    assert answer.score(record, [types.Completion(record.demonstration)],
                        {}).total == (1.,)
