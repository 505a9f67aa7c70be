import dataclasses

import pytest

from medrl import types
from medrl.data import phantom
from medrl.data import phantom_evidence
from medrl.rewards import process


def earned(record, text):
  return process.evidence(record, [types.Completion(text)], {}).total[0]


@pytest.mark.parametrize('task', phantom_evidence.TASKS)
def test_steps_are_numbered_and_evident(task):
  plain = list(phantom.records('', 'train', count=30, tasks=(task,)))
  for before, record in zip(plain, phantom_evidence.records(
      '', 'train', count=30, tasks=(task,)), strict=True):
    assert earned(record, record.demonstration) == 1
    assert all(phantom.check_trace(record, record.demonstration).values())
    for phrases in record.meta['evidence'].values():
      assert 1 <= len(phrases) <= 3
      assert all(len(phrase.split()) <= 4 for phrase in phrases)
    # Nothing else is changed.
    meta = {k: v for k, v in record.meta.items() if k != 'evidence'}
    assert dataclasses.replace(
        record, demonstration=before.demonstration, meta=meta) == before


def test_evidence_is_the_truth_and_not_what_is_said():
  noisy = list(phantom_evidence.records('', 'train', count=90,
                                        demonstration_error=1.))
  wrong = [r for r in noisy if not r.meta['demonstration_correct']]
  assert len(wrong) > 40
  for record in noisy:
    full = earned(record, record.demonstration) == 1
    if not full:
      assert not record.meta['demonstration_correct']
  assert sum(earned(r, r.demonstration) < 1 for r in wrong) > .8 * len(wrong)


def test_without_reasoning_there_is_evidence_all_the_same():
  record, = phantom_evidence.records('', 'test', count=1, trace=False)
  assert record.meta['evidence'] and '<think>' not in record.demonstration


def test_a_point_in_a_number_ends_no_step():
  for record in phantom_evidence.records('', 'train', count=12,
                                         tasks=('diameter',)):
    assert list(record.meta['evidence']) == ['1']
    px, spacing, mm = record.meta['evidence']['1']
    assert px.endswith(' px') and mm.endswith(' mm')
    assert spacing == f'{record.meta["world"]["spacing"]:g} mm'
