"""Records of phantoms: what each file of them promises, whatever it asks."""

import json

import numpy as np
import pytest

from medrl import lookup
from medrl import types
from medrl.data import phantom_cine
from medrl.data import phantom_pairs
from medrl.data import phantom_path
from medrl.data import phantom_patient
from medrl.data import phantom_signal
from medrl.data import phantom_solid
from medrl.data import phantom_tasks
from medrl.data import phantom_volume
from medrl.rewards import answer

FILES = (phantom_volume, phantom_cine, phantom_signal, phantom_patient,
         phantom_pairs, phantom_path)


def read(module, count, split='train', **options):
  return list(module.records('', split, count=count, **options))


def shown(record):
  return [lookup.resolve(m.loader)(m.path, '', **m.options)
          for m in record.media]


@pytest.mark.parametrize('module', FILES)
def test_more_only_adds_and_splits_share_no_patient(module):
  sets = [{r.subject for r in read(module, 30, split)}
          for split in ('train', 'validation', 'test')]
  assert sum(map(len, sets)) == len(set.union(*sets))
  some, more = read(module, 10), read(module, 30)
  assert more[:10] == some != read(module, 10, seed=1)
  assert len({r.id for r in more}) == 30


@pytest.mark.parametrize('module', FILES)
def test_a_hasty_reader_demonstrates_at_the_asked_rate(module):
  clean, noisy = read(module, 150), read(module, 150, demonstration_error=.5)
  wrong = [not r.meta['demonstration_correct'] for r in noisy]
  # He is right at times, and no more than half of the records are his.
  assert .15 < np.mean(wrong) < .6
  answers = 0
  for a, b, bad in zip(clean, noisy, wrong):
    assert (a.demonstration != b.demonstration) == bad
    assert a.id == b.id and a.answer == b.answer
    assert a.meta['evidence'] == b.meta['evidence']
    said = [types.Completion(b.demonstration)]
    answers += answer.score(b, said, {}).total[0] < 1
  assert answers > .08 * 150


@pytest.mark.parametrize('module', FILES)
def test_records_can_be_shown_and_logged(module):
  for record in read(module, 12, 'test'):
    for medium in shown(record):
      frames = getattr(medium, 'frames', medium)
      for image in frames if not isinstance(frames, np.ndarray) or (
          frames.ndim == 4) else [frames]:
        assert image.dtype == np.uint8 and image.shape[2] == 3
    assert record.source == 'phantom' and record.meta['world']
    logged = json.dumps(record.meta)
    for secret in (record.site, record.study, record.date):
      assert not secret or secret not in logged


@pytest.mark.parametrize('module', FILES)
def test_options_and_reasoning_can_be_fixed(module):
  for record in read(module, 12, trace=False, permute=False):
    assert record.demonstration.startswith('<answer>')
    task = module.FAMILY.tasks[record.task]
    assert tuple(record.options.values()) == task.options


@pytest.mark.parametrize('module', FILES)
@pytest.mark.parametrize('options, expected', [
    ({'tasks': ('nothing',)}, 'nothing'), ({'tasks': ()}, 'no task'),
    ({'demonstration_error': 2.}, '0 to 1'), ({'split': 'val'}, 'validation')])
def test_errors(module, options, expected):
  with pytest.raises(ValueError, match=expected):
    read(module, 3, **options)


def test_random_numbers_are_not_shared():
  streams = [phantom_solid.STREAM, *(
      module.FAMILY.stream for module in FILES[1:])]
  # 1 to 4 belong to the first phantom.
  assert len({1, 2, 3, 4, *streams}) == 4 + len(FILES)


def test_what_never_occurs_is_an_error():
  with pytest.raises(ValueError, match="task 'x': none of .* 'rare'"):
    phantom_tasks.find('x', lambda seed, index: None, str, 0, 0, 'rare')


@pytest.mark.parametrize('path', ['phantom/0/../volume', 'phantom/0/1/cine',
                                  '/etc/passwd', 'phantom/-1/0/volume'])
def test_other_paths_are_refused(path):
  with pytest.raises(ValueError, match='names no phantom image'):
    phantom_volume.volume(path, '')
