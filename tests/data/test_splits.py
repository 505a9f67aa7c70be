import collections
import hashlib
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
                      media=tuple(map(types.Media, images)), subject=subject)


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
    for key in [m.path for m in r.media] + [r.subject] * bool(r.subject):
      where[key].add(part[r.id])
  assert all(len(split) == 1 for split in where.values())
  assert len(set(part.values())) == 3


def test_chained_images_stay_together():
  chain = [record(str(i), [f'{i}.png', f'{i + 1}.png']) for i in range(40)]
  assert len(set(parts(chain[::-1]).values())) == 1


def test_images_of_one_archive_are_different_images():
  def media(index):
    return types.Media('a.npz', options={'index': index})
  found = [types.Record('r%d' % i, '?', 'yes', 'yesno', media=(media(i),))
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


def dated(name, date, subject='', site='', images=()):
  return types.Record(id=name, question='?', answer='yes', answer_type='yesno',
                      subject=subject, date=date, site=site,
                      media=tuple(map(types.Media, images)))


def test_results_of_earlier_versions_stay():
  # By the code of commit 6c9fa6b.
  digest = hashlib.sha256(repr(sorted(parts(
      random_records(300)).items())).encode()).hexdigest()
  assert digest[:16] == 'db1198141280e7dc'


def test_by_date_sends_who_spans_a_boundary_to_the_later_part():
  found = [dated('a', '2019-12-31'), dated('b', '2020-01-01'),
           dated('c', '2021-06-30'), dated('d', '2021-07-01'),
           dated('e', '2019-01-01', 'span'), dated('f', '2020-05-01', 'span'),
           dated('g', '2019-02-01', 'far'), dated('h', '2022-01-01', 'far'),
           dated('i', '2018-01-01', 'kin', images=['x.png']),
           dated('j', '2021-12-01', images=['x.png'])]
  got = {split: [r.id for r in splits.by_date(
      found[::-1], split, validation_from='2020-01-01', test_from='2021-07-01')]
         for split in splits.SPLITS}
  assert got == {'train': ['a'], 'validation': ['f', 'e', 'c', 'b'],
                 'test': ['j', 'i', 'h', 'g', 'd']}


def test_by_site_keeps_training_free_of_held_out_patients():
  found = [dated('a', '', 's1', 'north'), dated('b', '', 's2', 'south'),
           dated('c', '', 's3', 'north'), dated('d', '', 's3', 'west'),
           dated('e', '', 's4', 'west'), dated('f', '', 's4', 'south'),
           dated('g', '', '', 'east')]
  got = {split: [r.id for r in splits.by_site(
      found, split, validation=['west'], test=('south',))]
         for split in splits.SPLITS}
  assert got == {'train': ['a', 'g'], 'validation': ['c', 'd'],
                 'test': ['b', 'e', 'f']}


@pytest.mark.parametrize('split', [
    lambda r, s: splits.by_date(r, s, validation_from='2020-01-01',
                                test_from='2021-01-01'),
    lambda r, s: splits.by_site(r, s, validation=['1'], test=['2', '3'])])
def test_parts_are_whole_and_share_nobody(split, caplog):
  rng = np.random.default_rng(0)
  found = [dated(str(i), f'{rng.integers(2018, 2023)}-01-01',
                 f'JANE{rng.integers(150)}', str(rng.integers(9)))
           for i in range(300)]
  with caplog.at_level(logging.INFO):
    got = [split(found, s) for s in splits.SPLITS]
  assert sorted(r.id for part in got for r in part) == sorted(
      r.id for r in found)
  assert all(got)
  people = [{r.subject for r in part} for part in got]
  assert not (people[0] & people[1] | people[0] & people[2]
              | people[1] & people[2])
  assert 'of 300 records' in caplog.text and 'JANE' not in caplog.text


@pytest.mark.parametrize('call, match', [
    (dict(validation_from='2020', test_from='2021-01-01'), "'2020'; expected"),
    (dict(validation_from='2022-01-01', test_from='2021-01-01'), 'is after'),
    (dict(validation_from='2020-01-01', test_from='2021-01-01'),
     "2 of 3 records have no date .* the first 'b'"),
    (dict(test='south'), 'expected a list of sites'),
    (dict(test=['mars']), "no record is of site 'mars'; there are 1"),
    (dict(test=['north'], validation=['north']), 'expected each once'),
    (dict(test=['north']), "1 of 3 records have no site .* the first 'c'")])
def test_bad_fields(call, match):
  found = [dated('a', '2020-02-02', site='north'),
           dated('b', '20200202', site='north'), dated('c', '')]
  if 'mars' in call.get('test', ()):
    found = found[:2]
  split = splits.by_date if 'test_from' in call else splits.by_site
  with pytest.raises(ValueError, match=match) as error:
    split(found, 'train', **call)
  assert 'north' not in str(error.value) or 'each once' in match


@pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')
def test_real_fractions():
  found = jsonl.read(DATA, 'derived_vqa/vqa.jsonl')
  counts = collections.Counter(parts(found).values())
  assert sum(counts.values()) == 2774
  # 2041 images: three standard deviations of a fraction of .2 are 0.027.
  assert counts['validation'] / 2774 == pytest.approx(.2, abs=.03)
  assert counts['test'] / 2774 == pytest.approx(.1, abs=.03)
