import collections
import datetime

import numpy as np
import pytest
from scipy import ndimage

from medrl.data import phantom
from medrl.data import phantom_patient as pp
from medrl.data import phantom_report
from medrl.data import phantom_world
from medrl.rewards.parse import blocks


def records(count, **options):
  return list(pp.records('', 'train', count=count, **options))


def cohort(count, **options):
  return list(pp.cohort('', 'train', count=count, **options))


def test_patients_have_studies_and_studies_have_sections():
  tree = {}
  for record in cohort(60):
    tree.setdefault(record.site, {}).setdefault(record.subject, {}).setdefault(
        (record.date, record.study), set()).add(record.meta['section'])
  assert tree.keys() == pp.SITES.keys()
  patients = {name: studies for site in tree.values()
              for name, studies in site.items()}
  assert len(patients) == sum(map(len, tree.values())) == 60
  for subject, studies in patients.items():
    (first, earlier), (second, now) = studies   # as they came
    assert (earlier, now) == (f'{subject}/1', f'{subject}/0')
    apart = datetime.date.fromisoformat(second) - datetime.date.fromisoformat(
        first)
    index = int(subject.rpartition('/')[2])
    assert apart.days == pp.study(0, index).days
    assert studies[first, earlier] >= {'findings', 'indication'}
    assert 'comparison' not in studies[first, earlier]
  assert len({r.id for r in cohort(60)}) == len(cohort(60))


def test_every_askable_question_is_in_the_cohort():
  found = collections.Counter(r.task for r in cohort(200))
  assert found.keys() == {*pp.TASKS, *pp.MEMORY}
  assert found['study/findings'] == found['study/indication'] == 400
  assert not {*pp.MEMORY} & {r.task for r in records(60)}


def test_the_report_says_what_the_image_shows():
  """Critical, by the area of the largest connected lesion in each organ."""
  seen = collections.Counter()
  for index in range(120):
    world = phantom_world.world(0, index, phantom_world.Difficulty(noise=0.))
    if not phantom_report.is_clear(world):
      continue
    image = phantom_world.draw(world, 0)[:, :, 0].astype(int)
    organs, critical = [], False
    for organ in world.organs:
      y, x = np.mgrid[:112, :112] + .5
      inside = np.hypot((x - organ.x) / organ.a, (y - organ.y) / organ.b) < 1
      labels, count = ndimage.label(inside & (image > organ.grey + 45))
      for label in range(1, count + 1):
        rows, columns = np.nonzero(labels == label)
        spread = np.linalg.eigvalsh(np.cov(columns, rows))[-1] if len(
            rows) > 12 else 0
        if spread:
          organs.append(organ.name)
          long = 4 * np.sqrt(spread) * world.spacing
          critical |= long > (25 if 'kidney' in organ.name else 40)
    wanted = f'lesion in {", ".join(organs)}' if organs else 'no lesion'
    assert phantom_report.findings(world) == wanted
    assert phantom_report.critical(world) == critical
    seen[critical] += 1
  assert min(seen.values()) > 15


def test_reports_have_their_sections_and_no_date():
  kinds = collections.Counter()
  for record in cohort(60):
    found = blocks.sections(record.meta['report'],
                            ('comparison', 'findings', 'impression'))
    assert list(found) == ['comparison', 'findings', 'impression']
    critical = 'critical' in found['impression'].value
    assert critical == record.meta['critical']
    kinds[critical] += 1
    assert record.date[:4] not in record.meta['report'] + record.question
    earlier = record.study.endswith('/1')
    assert (found['comparison'].value == 'none.') == earlier
    if record.task == 'study/report':
      assert record.answer == record.meta['report']
  assert min(kinds.values()) > 50


def test_comparison_is_that_of_the_images():
  areas = collections.defaultdict(list)
  for record in records(60, tasks=('study/comparison',)):
    index = record.meta['world']['index']
    world = phantom_world.world(0, index, phantom_world.Difficulty(noise=0.))
    sizes = []
    for time in (0, 1):
      image = phantom_world.draw(world, time)[:, :, 0].astype(int)
      grey = next(o.grey for o in world.organs
                  if o.name == world.lesions[0].organ)
      y, x = int(world.lesions[0].y), int(world.lesions[0].x)
      labels, _ = ndimage.label(image > grey + 45)
      sizes.append((labels == labels[y, x]).sum())
    areas[record.options[record.answer]].append(sizes[0] / sizes[1])
  assert {k: len(v) for k, v in areas.items()} == dict.fromkeys(
      phantom_world.CHANGES, 20)
  for change, wanted in (('grew', 2.25), ('shrank', 1 / 2.25),
                         ('unchanged', 1.)):
    np.testing.assert_allclose(areas[change], wanted, rtol=.3)


def test_critical_is_balanced_and_told_by_size_alone():
  found = records(80, tasks=('study/critical',))
  assert collections.Counter(r.answer for r in found) == {'no': 40, 'yes': 40}
  assert len({(r.answer, r.site) for r in found}) == 8


def test_each_site_has_its_look():
  means = collections.defaultdict(list)
  for index in range(60):
    image = pp.render(f'phantom/0/{index}/study/0', '')
    assert image.shape == (112, 112, 3) and image.dtype == np.uint8
    site, _ = pp.origin(0, index)
    body = image[30:80, 30:80]
    means[site].append((body.mean(), np.diff(image[95:100, 20:40, 0].astype(
        int)).std()))
    if site == 'site A':
      np.testing.assert_array_equal(image, phantom.render(
          f'phantom/0/{index}/0', ''))
  brightness = {k: np.mean([m for m, _ in v]) for k, v in means.items()}
  noise = {k: np.mean([n for _, n in v]) for k, v in means.items()}
  assert brightness['site B'] < brightness['site A'] < brightness['site C']
  assert noise['site D'] > noise['site C'] > noise['site A'] > noise['site B']


def test_site_and_answer_are_independent():
  found = collections.Counter(
      (r.site, r.answer) for r in records(400, tasks=('study/blank',)))
  # 25 of each pair; 4 standard deviations.
  assert len(found) == 16 and all(5 < n < 47 for n in found.values())


def test_memory_is_asked_for_by_name():
  found = records(8, tasks=pp.MEMORY)
  assert [r.options[r.answer] for r in found[:4]] == list(pp.INDICATIONS)
  assert all(r.meta['section'] == 'indication' for r in found)


def test_a_cohort_can_have_hasty_readers():
  right = [r.meta['demonstration_correct']
           for r in cohort(40, demonstration_error=1.)]
  assert .2 < np.mean(right) < .9
  with pytest.raises(ValueError, match='validation'):
    next(pp.cohort('', 'val', count=1))
