"""Leave-one-out agreement by hand."""

import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import vote


@pytest.mark.parametrize('kind, answers, expected', [
    ('yesno', ['yes', 'Yes.', 'no', '?'], (1 / 3, 1 / 3, 0, 0)),
    ('yesno', ['?', '?'], (0, 0)),          # the unparsed do not agree
    ('yesno', ['yes'], (0,)),
    ('int', ['3', '3.0', '4'], (0.5, 0.5, 0)),
    ('box', ['[0,0,10,10]', '[0,0,10,5]', '[0,0,10,10]'], (.75, .5, .75)),
])
def test_majority(kind, answers, expected):
  record = types.Record(id='r', question='', answer=None, answer_type=kind)
  group = [types.Completion(f'<answer>{a}</answer>') for a in answers]
  assert vote.majority(record, group, {}).total == pytest.approx(expected)


def test_the_label_changes_nothing():
  group = [types.Completion(f'<answer>{a}</answer>') for a in ('no', 'no', '?')]
  reward = compose.build(
      {'vote': {'fn': 'medrl.rewards.vote.majority', 'weight': 1.0}})
  yes, no = (reward(types.Record(id='r', question='', answer=label,
                                 answer_type='yesno'), group, {})
             for label in ('yes', 'no'))
  assert yes == no
  assert yes.total == (0.5, 0.5, 0.0) and yes.parsed == (True, True, False)
