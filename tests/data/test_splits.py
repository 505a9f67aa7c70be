import collections
import logging
import pathlib

import numpy as np
import pytest

from medrl import types
from medrl.data import jsonl
from medrl.data import splits

DATA = pathlib.Path(__file__).parents[3] / 'shared/data'


def record(name, images=(), subject=''):
  return types.Record(id=name, question='?', answer='yes', answer_type='yesno',
                      images=tuple(map(types.Media, images)), subject=subject)


def parts(records, **options):
  options = {'validation': .2, 'test': .1, 'seed': 0} | options
  return {r.id: split for split in splits.SPLITS
          for r in splits.assign(records, split, **options)}


def random_records(count, seed=0):
  rng = np.random.default_rng(seed)
  return [record(str(i), [str(n) for n in rng.integers(3 * count, size=2)],
                 '' if i % 3 else f's{rng.integers(count // 4)}')
          for i in range(count)]


def test_no_subject_and_no_image_crosses():
  found = random_records(300)
  part = parts(found)
  assert len(part) == 300  # each record is in exactly one split
  where = collections.defaultdict(set)
  for r in found:
    for key in [m.path for m in r.images] + [r.subject] * bool(r.subject):
      where[key].add(part[r.id])
  assert all(len(split) == 1 for split in where.values())
  assert len(set(part.values())) == 3


def test_chained_images_stay_together():
  chain = [record(str(i), [f'{i}.png', f'{i + 1}.png']) for i in range(40)]
  assert len(set(parts(chain[::-1]).values())) == 1


def test_images_of_one_archive_are_different_images():
  def media(index):
    return types.Media('a.npz', options={'index': index})
  found = [types.Record('r%d' % i, '?', 'yes', 'yesno', images=(media(i),))
           for i in range(50)]
  assert len(set(parts(found).values())) == 3


def test_new_records_move_no_other():
  found = [record(str(i), [f'{i // 2}.png'], f's{i // 4}' if i % 8 < 4 else '')
           for i in range(400)]
  whole = parts(found)
  few = parts(found[150:300][::-1])
  assert few == {name: whole[name] for name in few}


def test_seed_changes_the_split():
  found = [record(str(i), subject=str(i)) for i in range(100)]
  assert parts(found, seed=1) != parts(found) == parts(found, seed=0)


def test_log_has_counts_and_no_identifiers(caplog):
  with caplog.at_level(logging.INFO):
    splits.assign([record('id7', ['p7.png']), record('id8', subject='s8')],
                  'train', validation=.5, test=0, seed=0)
  line, = caplog.messages
  assert 'of 2 records; 2 groups' in line and '1 records without' in line
  assert not any(name in line for name in ('id7', 'p7', 's8'))


@pytest.mark.parametrize('split, options', [
    ('val', {}), ('train', {'validation': .8, 'test': .3}),
    ('train', {'test': -.1})])
def test_bad_arguments(split, options):
  options = {'validation': .1, 'test': .1, 'seed': 0} | options
  with pytest.raises(ValueError, match='expected'):
    splits.assign([], split, **options)


@pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')
def test_real_fractions():
  found = jsonl.read(DATA, 'derived_vqa/vqa.jsonl')
  counts = collections.Counter(parts(found).values())
  assert sum(counts.values()) == 2774
  # 2041 images: three standard deviations of a fraction of .2 are 0.027.
  assert counts['validation'] / 2774 == pytest.approx(.2, abs=.03)
  assert counts['test'] / 2774 == pytest.approx(.1, abs=.03)
