"""Votes by hand: leave-one-out agreement, pseudo labels, ties."""

import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import vote


def votes(name, answers, kind='yesno', tolerance=None, **options):
  record = types.Record(id='r', question='', answer=None, answer_type=kind,
                        tolerance=tolerance or {})
  group = [types.Completion(f'<answer>{a}</answer>') for a in answers]
  return getattr(vote, name)(record, group, {}, **options)


@pytest.mark.parametrize('kind, answers, expected', [
    ('yesno', ['yes', 'Yes.', 'no', '?'], (1 / 3, 1 / 3, 0, 0)),
    ('yesno', ['?', '?'], (0, 0)),          # the unparsed do not agree
    ('yesno', ['yes'], (0,)),
    ('int', ['3', '3.0', '4'], (0.5, 0.5, 0)),
    ('box', ['[0,0,10,10]', '[0,0,10,5]', '[0,0,10,10]'], (.75, .5, .75)),
])
def test_majority(kind, answers, expected):
  assert votes('majority', answers, kind).total == pytest.approx(expected)


@pytest.mark.parametrize('kind, answers, options, expected, why', [
    ('yesno', ['yes', 'no', 'Yes.', 'yes'], {}, (1, 0, 1, 1), 'TTRL: 1 or 0'),
    ('yesno', ['yes', '?', '?', '?'], {}, (1, 0, 0, 0),
     'the unparsed do not vote'),
    ('yesno', ['?', '?'], {}, (0, 0), 'nobody votes'),
    ('yesno', [], {}, (), 'nobody'),
    ('yesno', ['no', 'yes'], {}, (.5, .5), 'of two tied, each in turn'),
    ('int', ['3', '4', '5', '4', '3'], {}, (.5, .5, 0, .5, .5),
     'two tied of three'),
    ('int', ['3', '3.0', '4'], {}, (1, 1, 0), 'the canonical value votes'),
    ('yesno', ['yes', 'no', 'yes'], {'leave_one_out': True}, (.5, 0, .5),
     'the other two are tied for a yes, and both say yes for the no'),
    ('yesno', ['yes', 'yes', 'no', 'no', 'no'], {'leave_one_out': True},
     (0, 0, .5, .5, .5), 'for a no, two against two'),
    ('yesno', ['yes'], {'leave_one_out': True}, (0,), 'no other'),
    ('yesno', ['yes', '?'], {'leave_one_out': True}, (0, 0), 'no other parsed'),
    ('float', ['100', '104', '100'], {}, (1, 1, 1),
     'votes by value, agreement by tolerance, as TTRL'),
    ('box', ['[0,0,10,10]', '[0,0,10,5]', '[0,0,10,10]'], {}, (1, .5, 1),
     'IoU with the box that two gave'),
    ('box', ['[0,0,10,10]', '[0,0,10,5]'], {}, (.75, .75),
     'all tied: the mean over the labels in turn, 1 and 0.5'),
])
def test_pseudo_label(kind, answers, options, expected, why):
  score = votes('pseudo_label', answers, kind, {'rel': 0.05}, **options)
  assert score.total == pytest.approx(expected), why
  assert score.valid == (True,) * len(answers)


def test_vote_then_subsample():
  answers = ['yes', '?', 'no', 'no', 'no']
  score = votes('pseudo_label', answers, keep=2)
  # The three that are not kept have decided; what is kept is not balanced.
  assert score.total == (0, 0, 1, 1, 1)
  assert score.valid == (True, True, False, False, False)
  assert score.parsed == (True, False, True, True, True)
  with pytest.raises(ValueError, match='keep = -1'):
    votes('pseudo_label', answers, keep=-1)


def test_codes():
  assert vote.codes(['b', None, 'a', 'b', (1, 2)]) == [0, -1, 1, 0, 2]


@pytest.mark.parametrize('name', ['majority', 'pseudo_label'])
def test_the_label_changes_nothing(name):
  group = [types.Completion(f'<answer>{a}</answer>') for a in ('no', 'no', '?')]
  reward = compose.build(
      {'vote': {'fn': f'medrl.rewards.vote.{name}', 'weight': 1.0}})
  yes, no = (reward(types.Record(id='r', question='', answer=label,
                                 answer_type='yesno'), group, {})
             for label in ('yes', 'no'))
  assert yes == no
  assert yes.total[0] == yes.total[1] > yes.total[2] == 0
  assert yes.parsed == (True, True, False)
