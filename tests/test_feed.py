"""What a config's data section becomes, and what is wrong with it."""

import collections
import dataclasses

import pytest

from experiments import base
from experiments import modalities
from medrl import feed
from medrl.data import mixture
from medrl.data import phantom
from medrl.trainers import grpo
from tests.trainers import small


def config(**data):
  c = base.get_config('runlocal')
  c.data.update(data)
  return c


PART = {'dataset': 'medrl.data.phantom.records', 'weight': 2.,
        'options': {'count': 4}}


def leaky(root, split, *, count):
  """Training records are evaluated on, under other ids."""
  for record in phantom.records(root, 'train', count=count):
    yield dataclasses.replace(record, id=f'{split} {record.id}')


def test_one_data_set_and_a_mixture():
  one, = feed.training(config())
  assert len(one.records) == 64 and one.weight == 1
  other = {**PART, 'dataset': 'medrl.data.phantom_chart.records', 'root': '/x'}
  two = feed.training(config(mixture={'a': PART, 'b': other}, root='/r'))
  assert [(s.name, s.root, s.weight, len(s.records)) for s in two] == [
      ('a', '/r', 2., 4), ('b', '/x', 2., 4)]
  assert len(feed.flat(two)) == 8


def test_evaluation_options_of_a_mixture():
  c = config(mixture={'a': PART})
  c.eval.options = {'a': {'count': 3}}
  assert len(feed.flat(feed.evaluation(c))) == 3
  c.eval.options = {'b': {'count': 3}}
  with pytest.raises(ValueError, match="'b', which is no part"):
    feed.evaluation(c)


@pytest.mark.parametrize('part, says', [
    ({'weight': 1.}, "no 'dataset'"), ({**PART, 'wieght': 1.}, "has 'wieght'"),
    ({**PART, 'options': {'cuont': 1}}, "no option 'cuont'"),
    ({**PART, 'weight': 0.}, 'more than 0'),
    ({**PART, 'dataset': 'medrl.data.phantoms.records'}, 'phantom')])
def test_wrong_parts(part, says):
  with pytest.raises(ValueError, match=says):
    feed.training(config(mixture={'a': part}))


def test_balance():
  c = config(balance='task', options=dict(count=9, tasks=('side', 'count')))
  source, = feed.training(c)
  epoch = [source.records[i].task for i in source.places()]
  assert collections.Counter(epoch) == {'side': 5, 'count': 5}
  assert len(source.records) == 9
  # To evaluate, each record counts once.
  assert list(feed.once((source,))[0].places()) == list(range(9))
  assert isinstance(source, mixture.Source)


def test_a_run_refuses_to_evaluate_on_what_it_trains_on(tmp_path):
  c = small.config(data__dataset=f'{__name__}.leaky')
  c.data.options, c.eval.options = {'count': 4}, {'count': 2}
  c.data.overlap.action = 'refuse'
  with pytest.raises(ValueError, match='overlap by subject: 2 of 4 .* bytes: '):
    grpo.train(c, tmp_path)
  assert not (tmp_path / 'metrics.jsonl').exists()


def test_the_study_of_all_kinds_has_no_overlap():
  c = modalities.get_config('runlocal')
  feed.check_overlap(c, feed.training(c), feed.evaluation(c))
