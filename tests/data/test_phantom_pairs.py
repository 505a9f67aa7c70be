import collections

import numpy as np
import pytest

from medrl import lookup
from medrl import types
from medrl.data import phantom
from medrl.data import phantom_pairs
from medrl.data import phantom_world
from medrl.rewards import consistency


def pairs(count, **options):
  found = list(phantom_pairs.records('', 'train', count=2 * count, **options))
  return list(zip(found[::2], found[1::2]))


def image(record):
  medium, = record.media
  return lookup.resolve(medium.loader)(medium.path, '', **medium.options)


@pytest.mark.parametrize('task', phantom_pairs.TASKS)
def test_partners_differ_in_their_answer_and_know_each_other(task):
  for one, other in pairs(24, tasks=(task,)):
    assert one.question == other.question and one.options == other.options
    assert one.subject == other.subject and one.id != other.id
    assert one.answer != other.answer
    assert one.meta['pair'] == {'id': other.id, 'answer': other.answer}
    assert other.meta['pair'] == {'id': one.id, 'answer': one.answer}
    (a,), (b,) = one.media, other.media
    assert a.path != b.path


@pytest.mark.parametrize('task', phantom_pairs.TASKS)
def test_only_the_changed_region_differs(task):
  for one, other in pairs(12, tasks=(task,)):
    changed = (image(one) != image(other)).any(2)
    assert changed.sum() > 20
    boxes = np.zeros_like(changed)
    worlds = [[phantom_world.from_dict(w) for w in r.meta['world']['worlds']]
              for r in (one, other)]
    assert worlds[0] == worlds[1]
    (first, second), _ = worlds
    for world, rest in ((first, second), (second, first)):
      for lesion in set(world.lesions) - set(rest.lesions):
        x1, y1, x2, y2 = phantom_world.box(world, lesion)
        boxes[y1 - 1:y2 + 1, x1 - 1:x2 + 1] = True
    assert not (changed & ~boxes).any()
    assert boxes.mean() < .2


def test_the_first_world_is_the_phantom():
  for one, other in pairs(10):
    plain = next(r for r in (one, other) if r.meta['world']['which'] == 0)
    index = plain.meta['world']['index']
    np.testing.assert_array_equal(
        image(plain), phantom.render(f'phantom/0/{index}/0', ''))


@pytest.mark.parametrize('task', phantom_pairs.TASKS)
def test_neither_place_nor_order_tells_the_answer(task):
  first = collections.Counter(one.meta['world']['which']
                              for one, _ in pairs(100, tasks=(task,)))
  assert min(first[0], first[1]) > 30   # 4 standard deviations


def test_moved_lesions_keep_their_size_and_fit():
  for one, other in pairs(60, tasks=('pair/side',)):
    (a,), (b,) = (phantom_world.from_dict(w).lesions
                  for w in one.meta['world']['worlds'])
    assert (a.long, a.short, a.angle) == (b.long, b.short, b.angle)
    world = phantom_world.from_dict(one.meta['world']['worlds'][1])
    organ = next(o for o in world.organs if o.name == b.organ)
    radius = b.long / world.spacing / 2
    turn = np.linspace(0, 2 * np.pi, 40)
    off = np.hypot((b.x + radius * np.cos(turn) - organ.x) / organ.a,
                   (b.y + radius * np.sin(turn) - organ.y) / organ.b)
    assert off.max() < 1.1


def test_the_paired_reward_tells_confusion():
  """As `rewards.consistency.paired` reads the partner."""
  for one, other in pairs(6, tasks=('pair/side', 'pair/organ')):
    said = [types.Completion(f'<answer>{r.answer}</answer>')
            for r in (one, other)]
    found = consistency.paired(one, said, {})
    assert found.total == (1., 0.)
    assert found.parts['confused'] == (0., 1.)


def test_an_odd_count_leaves_one_without_its_partner():
  found = list(phantom_pairs.records('', 'train', count=3))
  assert [r.task for r in found] == ['pair/present'] * 2 + ['pair/side']


def test_edits_that_are_not_there_are_refused():
  empty = next(i for i in range(50) if not phantom_world.world(0, i).lesions)
  with pytest.raises(ValueError, match='no lesion .* can be moved'):
    phantom_pairs.render(f'phantom/0/{empty}/moved/1', '')
  with pytest.raises(ValueError, match='names no phantom image'):
    phantom_pairs.render('phantom/0/1/grown/0', '')
