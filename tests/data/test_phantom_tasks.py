"""Questions about phantoms: the right answer earns all, another one chance."""

import collections
import functools

import numpy as np
import pytest

from medrl import types
from medrl.data import phantom_cine
from medrl.data import phantom_pairs
from medrl.data import phantom_path
from medrl.data import phantom_patient
from medrl.data import phantom_signal
from medrl.data import phantom_volume
from medrl.rewards import answer
from medrl.rewards import process

FILES = (phantom_volume, phantom_cine, phantom_signal, phantom_patient,
         phantom_pairs, phantom_path)
TASKS = [(module, task) for module in FILES for task in module.TASKS]
# Of an answer to another record: a share of the options, or of the answers.
CHANCE = {
    'volume/third': 1 / 3, 'volume/organ': 1 / 4, 'volume/count': 1 / 4,
    'volume/slices': 1 / 5, 'volume/slice': .3, 'volume/height': .2,
    'volume/size': .25, 'cine/beats': 1 / 4, 'cine/rate': .2,
    'cine/direction': 1 / 4, 'cine/phase': 1 / 2, 'ecg/rate': .15,
    'ecg/rhythm': 1 / 3, 'ecg/pr': 1 / 2, 'ecg/qrs': 1 / 2, 'ecg/qtc': 1 / 2,
    'study/findings': .15, 'study/blank': 1 / 4, 'study/critical': 1 / 2,
    'study/impression': 1 / 7, 'study/comparison': 1 / 3, 'study/report': .02,
    'pair/present': 1 / 2, 'pair/side': 1 / 2, 'pair/organ': 1 / 4,
    'pair/size': 1 / 2, 'pair/count': .31, 'path/1': 1 / 3,
    'path/2': 5 / 9, 'path/3': 1 / 5, 'path/4': .28, 'path/5': 1 / 4}


def read(module, count, split='train', **options):
  return list(module.records('', split, count=count, **options))


@functools.cache
def dealt(module, task):
  return read(module, 216, tasks=(task,))


def score(fn, record, text):
  return fn(record, [types.Completion(text)], {}).total[0]


@pytest.mark.parametrize('module, task', TASKS)
def test_demonstrations_are_right_short_and_evident(module, task):
  for record in dealt(module, task)[:24]:
    text = record.demonstration
    assert record.task == task and record.meta['demonstration_correct']
    assert score(answer.score, record, text) == 1, text
    assert score(process.evidence, record, text) == 1, text
    assert text.isascii() and len(text.split()) <= 45, text
    for phrases in record.meta['evidence'].values():
      assert len(phrases) <= 3 and all(len(p.split()) <= 5 for p in phrases)


@pytest.mark.parametrize('module, task', TASKS)
def test_answers_to_other_records_earn_about_chance(module, task):
  found = dealt(module, task)
  # Of another case: not the partner, nor one whose turn is the same.
  moved = np.random.default_rng(0).permutation(len(found))
  earned = np.mean([score(answer.score, record, found[i].demonstration)
                    for record, i in zip(found, moved)])
  # 3.5 standard deviations of a binomial.
  chance = CHANCE[task]
  assert abs(earned - chance) < 3.5 * (chance * (1 - chance) / 216) ** .5


@pytest.mark.parametrize('module, task', TASKS)
def test_one_answer_to_all_earns_no_more(module, task):
  found = dealt(module, task)
  said = {r.demonstration.partition('</think>')[2] for r in found}
  best = max(np.mean([score(answer.score, r, text) for r in found])
             for text in sorted(said)[:40])
  # Where answers are not equally frequent, or near ones count as right.
  bound = {'study/findings': 1 / 4, 'path/2': 2 / 3, 'path/4': 1 / 3,
           'volume/slice': .45, 'volume/size': .4, 'cine/rate': .25,
           'ecg/rate': .25, 'pair/count': 1 / 3}
  chance = bound.get(task, CHANCE[task])
  assert best < chance + 3.5 * (chance * (1 - chance) / 216) ** .5


def test_vocabulary_is_small():
  """Small policies have small vocabularies; numbers are spelt in digits."""
  words = collections.Counter()
  for module, task in TASKS:
    for record in dealt(module, task):
      text = ' '.join((record.question, record.demonstration,
                       *record.options.values()))
      words.update(''.join(c if c.isalpha() else ' ' for c in text).split())
  assert len(words) < 150, sorted(words)
