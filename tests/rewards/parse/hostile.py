"""Every parser by name, and long texts meant to be slow or to raise."""

from collections.abc import Iterator
import random

from medrl.rewards.parse import blocks
from medrl.rewards.parse import boxes
from medrl.rewards.parse import choice
from medrl.rewards.parse import dates
from medrl.rewards.parse import number
from medrl.rewards.parse import polar
from medrl.rewards.parse import quantity
from medrl.rewards.parse import spans
from medrl.rewards.parse import structured
from tests.rewards.parse import cases_choice

SIZE = 64 * 1024
PARSERS = {
    'text': spans.text, 'answer': blocks.answer, 'think': blocks.think,
    'first answer': lambda t: blocks.answer(t, 'first'),
    'tag': lambda t: blocks.tag(t, '|answer|'), 'boxed': blocks.boxed,
    'steps': blocks.steps,
    'sections': lambda t: list(blocks.sections(
        t, ('findings', 'impression', '所见')).values()),
    'choice': lambda t: choice.choice(t, cases_choice.OPTIONS),
    'choice of 26': lambda t: choice.choice(t, cases_choice.ALPHABET),
    'last choice': lambda t: choice.choice(t, cases_choice.OPTIONS, 'last'),
    'choices': lambda t: choice.choices(t, cases_choice.ALPHABET),
    'yesno': polar.yesno, 'yesnomaybe': polar.yesnomaybe, 'truth': polar.truth,
    'last yesno': lambda t: polar.yesno(t, 'last'),
    'number': number.number, 'interval': number.interval,
    'last number': lambda t: number.number(t, 'last'),
    'quantity': lambda t: quantity.quantity(t, 'mm'),
    'count': lambda t: quantity.quantity(t, '10^9/L'),
    'quantity interval': lambda t: quantity.interval(t, 'mm'),
    'dimensions': lambda t: quantity.dimensions(t, 'mm'),
    'date': dates.date, 'duration': dates.duration,
    'box': boxes.box, 'boxes': boxes.boxes, 'labelled': boxes.labelled,
    'unit boxes': lambda t: boxes.boxes(t, 'unit', (10, 10)),
    'json': structured.json_object,
    'first json': lambda t: structured.json_object(t, 'first'),
    'tool calls': structured.tool_calls,
}

# Repeated to the full size, with what is in the brackets before and behind.
_UNITS = (
    ' ', '\n', '\t', 'a', 'A', '1', '9', '0.', '1,', '1 ', ',', '.', '-', '+',
    '/', '(', ')', '[', ']', '{', '}', '"', "'", '\\', '*', '_', '<', '>', '|',
    '\x00', '\ud800', '是', '不', '答案', '选', '²', '１', '٣', '½', '年', '第一步',
    'A ', 'A\n', 'A,', 'A.', '(A', 'A)', 'ab', 'A B ', 'a. ', 'answer ',
    'answer:', 'answer is ', 'answer is A ', 'answer: A\n', 'option',
    'option B\n',
    '答案是A', '选B ', 'not ', 'benign lesion\n', 'benign. ', 'E. coli ',
    'yes', 'yes ', 'no ', 'no, ', 'yes is ', "n't ", 'maybe ', '是,', '不是\n',
    'true\n', 'no.', 'no   ', 'less than ', 'at least 1 ', 'up to', '<', '< ',
    '1/2 ', '1 1/2', '1e5 ', '1e', '1 x 10^', '10^9 ', '1 x 10', '1.2.', '1%',
    '1 %', '1-', '1 - ', 'a-1', 'T2-3', 'x1', '1x', '1 x ', '1 ± ', '5+',
    '\\frac{1}{2}', '\\frac{', '1\u00a0', 'mm', '1 mm ', '1mm', '1 mg/',
    'mg/dL/',
    '1 ft 3 in ', '10^9/L ', '1 mm x ', '/min', '5 in the ', '°', '1 °C',
    '2020-01-01 ', '2020-', '1/1/', '1/1/2020/', 'March ', 'March 12, ',
    '12 March ', '12 of ', '1 weeks ', '39+', '39+2 ', '1 day, ', '39w',
    '(39, 2)',
    '[1,2,3,4]', '[1,2,3,4],', '[1,', '(1,2),', '(1,2),(3,4)', '<box>',
    '</box>',
    '<box>[[1,2,3,4]]</box>', '<|box_start|>', '<|box_start|>(1,2),(3,4)',
    '<|box_end|>', '<ref>', '<ref>a</ref>', '<location>', '[1,2,3,4]\na:',
    '{"a":', '{"', '{"a":1}', '{"a":[', '{ ', '{}', '{"a":{}},', '"{', '\\"',
    '{"a', '[{"label":"a","box":[1,2,3,4]},', '```json\n', '<tool_call>',
    '<tool_call>{', '</tool_call>', '<tool_call>{}</tool_call>', '<answer>',
    '</answer>', '<answer>A</answer>', '<think>', '</think>', '<|answer|>',
    '\\boxed{', '\\boxed', '\\boxed{}', '\\boxed{A}', '\\boxed {', '\\text{',
    '\\boxed{\\text{', '\\boxed{ ', 'Step 1', 'Step 1: ', 'step ', '1. ',
    '1.\n',
    '\n1. a', '**Step 1**', '#', 'Step', 'Findings:', 'Findings', 'findings: ',
    'Findings:\n', 'Impression *', '所见:', 'ﷺ', '\u0130', 'ß', 'İ', '\u200b')
_FRAMES = (
    ('', ''), ('A', ''), ('5', ''), ('5 ', 'x'), ('', 'A'), ('(', ')'),
    ('\\boxed{', '}'), ('\\boxed{', ''), ('answer:', ''), ('answer ', 'x'),
    ('{"a":"', '"}'), ('[', ']'), ('<answer>', '</answer>'), ('no', '!'),
    ('Step 1', ': a'), ('Findings', ':'), ('1 x', '10'), ('A', 'because'),
    ('<think>', '</think>'), ('<box>', '</box>'), ('"', ''), ('<tool_call>',
    ''))


def adversarial() -> Iterator[str]:
  """Yields texts of `SIZE`: repeated pieces, alone and framed."""
  for unit in _UNITS:
    yield (unit * (SIZE // len(unit) + 1))[:SIZE]
  yield from framed('1', 'a', '*', '(', '{', '[', ' ,', '- ')


def framed(*units: str) -> Iterator[str]:
  """Yields texts of `SIZE`: repeated pieces between two others."""
  for before, behind in _FRAMES:
    for unit in units:
      size = SIZE - len(before) - len(behind)
      yield before + (unit * (size // len(unit) + 1))[:size] + behind


def noise(seed: int, count: int, longest: int) -> Iterator[str]:
  """Yields texts of code points, NULs and surrogates, and of pieces."""
  rng = random.Random(seed)
  for i in range(count):
    size = rng.choice((0, 1, 2, 5, 20, 100, longest))
    if i % 3 == 0:
      yield ''.join(chr(rng.choice((
          rng.randrange(128), rng.randrange(0x110000),
          rng.randrange(0xd800, 0xe000), 0))) for _ in range(size))
    elif i % 3 == 1:
      yield ''.join(rng.choice(_UNITS) for _ in range(size))[:SIZE]
    else:
      yield ' '.join(rng.choice(_UNITS) for _ in range(min(size, 8)))
