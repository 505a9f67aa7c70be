"""Which token earns for which stretch, longhand and with real tokenizers."""

import pathlib
import random
import shutil

import numpy as np
import pytest

from medrl import types
from medrl.processors import text
from medrl.rewards import credit

SHARED = pathlib.Path(__file__).parents[3] / 'shared/data/tokenizers'
FAMILIES = ('qwen2_vl', 'qwen2_5_vl', 'qwen2_5', 'qwen3', 'qwen3_vl',
            'internvl3')
TEXT = ('Findings: \u5de6\u80ba\u4e0b\u53f6\u7247\u72b6\u5f71\u3002 A '
        '\U0001fac1\u200d\U0001f468\U0001f3fd small na\u00efve nodule, '
        '3.2\u00a0cm \u2460\U00020bb7\n\nImpression: benign\u2026 '
        '<answer>B</answer>')


def completion(ranges, size=None):
  size = max((e for _, e in ranges), default=0) if size is None else size
  return types.Completion('x' * size, ids=tuple(range(len(ranges))),
                          spans=tuple(ranges))


NONE = float('nan')


@pytest.mark.parametrize('ranges, spans, expected, why', [
    ([(0, 2), (2, 4), (4, 6)], [(2, 4, 1.)], [NONE, 1, NONE], 'exact'),
    ([(0, 2), (2, 4)], [], [NONE, NONE], 'nothing earned'),
    ([(0, 2), (2, 4)], [(0, 4, 0.)], [0, 0], '0 is a value, not nothing'),
    ([(0, 4), (4, 8)], [(3, 5, 1.)], [1, 1], 'one character is enough'),
    ([(0, 2), (2, 7), (7, 9)], [(0, 4, 1.), (4, 9, 2.)], [1, 2, 2],
     'straddles two sections, 2 characters to 3'),
    ([(0, 2), (2, 6), (6, 8)], [(0, 4, 1.), (4, 8, 2.)], [1, 1, 2],
     'straddles, 2 to 2, equally long: the first'),
    ([(0, 2), (2, 6), (6, 9)], [(0, 4, 1.), (4, 9, 2.)], [1, 1, 2],
     'straddles, 2 to 2: the shorter'),
    ([(0, 2), (2, 4), (4, 6)], [(0, 6, 1.), (2, 4, 9.)], [1, 9, 1],
     'a phrase within a section'),
    ([(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], [(1, 2, 1.)],
     [NONE, 1, 1, 1, NONE], 'three tokens of one character'),
    ([(0, 2), (2, 2), (2, 3)], [(0, 3, 1.)], [1, NONE, 1], 'added token'),
    ([(0, 2)], [(1, 1, 1.)], [NONE], 'an empty span'),
    ([(0, 3)], [(0, 2, 1.), (0, 2, -1.)], [-1], 'the same stretch twice'),
    ([], [], [], 'no token'),
])
def test_longhand(ranges, spans, expected, why):
  for given in (spans, spans[::-1]):
    got = credit.token_credit(completion(ranges), given)
    assert got.dtype == np.float32 and got.shape == (len(ranges),)
    np.testing.assert_array_equal(got, np.float32(expected), err_msg=why)


@pytest.mark.parametrize('spans', [[(0, 5, 1.)], [(-1, 2, 1.)], [(3, 2, 1.)]])
def test_a_span_outside_of_the_text(spans):
  with pytest.raises(ValueError, match='of a text of 4 characters'):
    credit.token_credit(completion([(0, 2), (2, 4)]), spans)


def test_ids_without_ranges():
  with pytest.raises(ValueError, match='2 ids with 0 character ranges'):
    credit.token_credit(types.Completion('ab', ids=(1, 2)), [])


def slow(found, spans):
  """The rule of the docstring, character by character."""
  out = []
  for start, end in found.spans:
    shared = [len(set(range(start, end)) & set(range(a, b)))
              for a, b, _ in spans]
    best = [s for s, n in zip(spans, shared) if n and n == max(shared)]
    best.sort(key=lambda s: (s[1] - s[0], s[0], s[2]))
    out.append(best[0][2] if best else NONE)
  return np.float32(out)


@pytest.fixture(scope='session', params=[*FAMILIES, 'built'])
def tokenizer(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp(request.param)
  if request.param == 'built':
    return text.build([TEXT, 'the left lung'] * 5, ['<|im_end|>'], 300, folder)
  if not SHARED.is_dir():
    pytest.skip('needs shared/data/tokenizers beside the repository')
  for source in [*(SHARED / request.param).glob('*.json'),
                 *(SHARED / 'qwen_bpe').iterdir()]:
    shutil.copy(source, folder)
  return text.load(folder)


def test_real_tokens(tokenizer):
  ids = [*tokenizer.encode(TEXT), tokenizer.id('<|im_end|>')]
  got, ranges = tokenizer.spans(ids)
  assert got == TEXT
  found = types.Completion(got, tuple(ids), tuple(ranges))
  emoji = TEXT.index('\U0001fac1')
  values = credit.token_credit(found, [(emoji, emoji + 1, 1.)])
  parts = [i for i, (a, b) in enumerate(ranges) if a <= emoji < b]
  assert np.flatnonzero(values == 1).tolist() == parts
  assert len(parts) > 1   # it takes several tokens, none of them alone
  sections = [(0, TEXT.index('Impression'), 1.),
              (TEXT.index('Impression'), len(TEXT), 2.)]
  values = credit.token_credit(found, sections)
  assert set(values[:-1].tolist()) == {1., 2.} and np.isnan(values[-1])
  assert np.all(np.diff(values[:-1]) >= 0)


def test_random_ids_and_spans_agree_with_the_slow_rule(tokenizer):
  draw = random.Random(0)
  rare = tokenizer.encode('\u80ba\U0001fac1\u9f98 \U00020bb7\u3077')
  for _ in range(60):
    # Not what an encoder gives: characters that are cut short, or never end.
    ids = [draw.choice([draw.choice(rare), draw.randrange(tokenizer.size)])
           for _ in range(draw.randint(0, 30))]
    got, ranges = tokenizer.spans(ids)
    found = types.Completion(got, tuple(ids), tuple(ranges))
    spans = []
    for _ in range(draw.randint(0, 6)):
      start, end = sorted(draw.randint(0, len(got)) for _ in range(2))
      spans.append((start, end, draw.choice([-1., 0., .5, 2.])))
    np.testing.assert_array_equal(credit.token_credit(found, spans),
                                  slow(found, spans))
