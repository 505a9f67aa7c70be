"""The shape of a completion, with the ways peers let a wrong one pass."""

import pytest

from medrl import types
from medrl.rewards import format as format_rewards

RECORD = types.Record(id='r', question='', answer='yes', answer_type='yesno')


def reward(text, **options):
  score = format_rewards.tags(
      RECORD, [types.Completion(text)], {}, **options)
  return score.total[0]


@pytest.mark.parametrize('text, expected', [
    ('<think>a</think><answer>b</answer>', 1.0),
    ('\n<think>\na\n\n</think>\n<answer>\nb\n</answer>\n', 1.0),
    ('<think>a</think><answer>b</answer> so b', 0.0),
    ('Well <think>a</think><answer>b</answer>', 0.0),
    ('<think>a</think> hence <answer>b</answer>', 0.0),
    ('<think>a</think><answer>b</answer><answer>c</answer>', 0.0),
    ('<think>a<think>b</think></think><answer>c</answer>', 0.0),
    ('<think><answer>a</think>b</answer>', 0.0),
    ('<answer>b</answer><think>a</think>', 0.0),
    ('<think>a</think><answer>b', 0.0),
    ('<answer>b</answer>', 0.0),
    ('', 0.0),
])
def test_think_then_answer(text, expected):
  assert reward(text) == expected


@pytest.mark.parametrize('text, expected', [
    (' <answer>b</answer>\n', 1.0), ('<answer>b</answer>.', 0.0),
    ('<think>a</think><answer>b</answer>', 0.0),
    ('<answer><think>b</answer>', 0.0)])
def test_answer_only(text, expected):
  assert reward(text, think=False) == expected
