"""What holds of every reward of shape and of agreement, whatever the text.

Any text gives a number within the range that is documented, the same each time,
at once; and what is earned in a group does not depend on its order.
"""

import functools
import random

import pytest

from medrl import types
from medrl.rewards import budget
from medrl.rewards import format as format_rewards
from medrl.rewards import language
from medrl.rewards import repetition
from medrl.rewards import spread
from medrl.rewards import vote
from tests import soon

RECORD = types.Record(id='r', question='', answer=None, answer_type='int',
                      meta={'budget': 300})
SIZE = 65_536
WORDS = ('<think>', '</think>', '<answer>', '</answer>', '<', '</', '>',
         'think', '\n', '\r', '\u2028', ' ', '\t', '\x00', '\ud800', '\udfff',
         '**', '**Step 1: a** b', '**Step 2', '1. a', '2)', 'Step 3:', 'a',
         'ab ', '的', 'é', '\u0301', '\u200b', '\U0001f600', '٣', '½',
         '<answer>3</answer>')
ENDLESS = ['<think>', '</think>', '<answer>', '<think></think>', '<', '>', '\n',
           ' ', '\r\n', '*', '**', '**Step 1', '**Step 1:** a\n', '1. ', '1',
           '**Step 1 * ', 'Step 1: a\n', 'a', 'a ', '的', '\x00', '\ud800',
           '<answer>1</answer>', '\u0301', 'a\u0301', '<a>', '</', '|']


def texts():
  rng = random.Random(0)
  yield from ('', '\x00', '\ud800')
  for piece in ENDLESS:
    yield (piece * SIZE)[:SIZE]
    yield '<think>' + (piece * SIZE)[:SIZE - 40] + '</think><answer>1</answer>'
  for _ in range(200):
    yield ''.join(rng.choices(WORDS, k=rng.choice((3, 12, 100, 4000))))


TEXTS = list(texts())
# A reward, and the range that it promises.
RULES = {
    'tags': (format_rewards.tags, 0, 1),
    'tags, filled': (functools.partial(format_rewards.tags, filled=True), 0, 1),
    'no think': (functools.partial(format_rewards.tags, think=False), 0, 1),
    'think after': (format_rewards.think_after, 0, 1),
    'blocks': (functools.partial(format_rewards.blocks,
                                 names=('think', 'answer|tool')), 0, 1),
    'in order': (format_rewards.in_order, -1, 1),
    'thought': (format_rewards.thought, 0, 1),
    'steps': (format_rewards.steps, 0, 1),
    'list': (functools.partial(format_rewards.steps, style='number', least=1,
                               most=9999, block=''), 0, 1),
    'words': (repetition.words, -1, 0),
    'words, 1': (functools.partial(repetition.words, n=1), -1, 0),
    'tokens': (repetition.tokens, -1, 0),
    'language': (language.share, 0, 1),
    'exact': (budget.exact, -1, 1), 'maximum': (budget.maximum, -1, 1),
    'overlong': (functools.partial(budget.overlong, limit=512, buffer=128),
                 -1, 0),
    'cosine': (budget.cosine, -.5, 0),
    'majority': (vote.majority, 0, 1), 'pseudo': (vote.pseudo_label, 0, 1),
    'pseudo, others': (functools.partial(vote.pseudo_label,
                                         leave_one_out=True), 0, 1),
    'dare': (spread.distribution, 0, 1.2),
    'dare, others': (functools.partial(spread.distribution,
                                       leave_one_out=True), 0, 1.2),
}


def completion(text):
  # An id a character, up to the longest completions; entropies of no meaning.
  return types.Completion(text, ids=tuple(map(ord, text[:16_384])),
                          signals={'token_entropy': (len(text) % 7 / 7,)})


@pytest.mark.parametrize('name', RULES)
def test_total_in_range_deterministic_and_quick(name):
  rule, low, high = RULES[name]
  for text in TEXTS:
    group = [completion(text)]
    with soon.soon(what=text[:20]):
      first = rule(RECORD, group, {})
    (value,) = first.total
    assert isinstance(value, float) and low <= value <= high, text[:20]
    assert rule(RECORD, group, {}) == first


@pytest.mark.parametrize('name', RULES)
def test_the_order_of_the_group_changes_nothing(name):
  rule, low, high = RULES[name]
  rng = random.Random(1)
  for _ in range(30):
    group = [completion(rng.choice((
        f'<answer>{rng.randrange(3)}</answer>', rng.choice(TEXTS)[:300])))
             for _ in range(rng.randrange(1, 9))]
    order = rng.sample(range(len(group)), len(group))
    whole, moved = (rule(RECORD, g, {}) for g in (
        group, [group[i] for i in order]))
    assert moved.total == pytest.approx([whole.total[i] for i in order])
    assert moved.parsed == tuple(whole.parsed[i] for i in order
                                 if whole.parsed)
    assert all(low <= v <= high for v in whole.total)


# Texts written without a look at the question. What each earns is all there is
# to earn by shape alone; it is said here so that a change is seen.
@pytest.mark.parametrize('text, name, expected, why', [
    ('<think></think><answer></answer>', 'tags', 1, 'hence `filled`'),
    ('<think></think><answer></answer>', 'tags, filled', 0, 'caught'),
    ('<think>a</think><answer>a</answer>', 'tags, filled', 1,
     'shape is not sense: gate it on the answer'),
    ('<think><answer></think></answer>', 'in order', -1, 'caught'),
    ('<think>a</think>', 'thought', 1, 'as in ECG-R1'),
    ('\n'.join(f'**Step {k}:**' for k in range(1, 7)), 'steps', 0, 'caught'),
    ('<think>' + ''.join(f'\n**Step {k}:** a' for k in range(1, 7))
     + '</think>', 'steps', 1, 'a letter a step: score the steps too'),
    ('a' * 4000, 'words', 0, 'one word; `tokens` sees it'),
    ('a' * 4000, 'tokens', -(1 - 1 / 3981), 'caught'),
    ('good ' * 200, 'words', -(1 - 1 / 181), 'caught'),
    ('', 'words', 0, 'an empty text repeats nothing'),
    ('<think>ok</think><answer>42</answer>', 'language', 1, 'two letters do'),
    ('.' * 300, 'exact', 1, 'a budget can be filled with anything'),
    ('', 'maximum', .6, 'and kept by saying nothing: gate it'),
])
def test_what_a_blind_text_earns(text, name, expected, why):
  rule, _, _ = RULES[name]
  assert rule(RECORD, [completion(text)], {}).total[0] == pytest.approx(
      expected), why


def test_a_group_that_agrees_blindly_is_paid_in_full():
  group = [completion('<answer>1</answer>')] * 4
  for name in ('majority', 'pseudo', 'pseudo, others', 'dare'):
    assert RULES[name][0](RECORD, group, {}).total == pytest.approx((1,) * 4)
