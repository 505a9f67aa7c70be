"""The shape of a completion, with the ways peers let a wrong one pass."""

import pytest

from medrl import types
from medrl.rewards import format as format_rewards

RECORD = types.Record(id='r', question='', answer='yes', answer_type='yesno')


def reward(text, name='tags', **options):
  fn = getattr(format_rewards, name)
  score = fn(RECORD, [types.Completion(text)], {}, **options)
  return score.total[0]


@pytest.mark.parametrize('text, expected, why', [
    ('<think>a</think><answer>b</answer>', 1.0, 'the shape itself'),
    ('\n<think>\na\n\n</think>\n<answer>\nb\n</answer>\n', 1.0, 'lines'),
    ('<think>a\r\n</think>\r\n\r\n<answer>b\r</answer>', 1.0, 'other systems'),
    ('<think>a\u2028</think>\u2029\x0c<answer>b\x85</answer>\u3000', 1.0,
     'every line break and space of Unicode is white space'),
    ('<think></think><answer></answer>', 1.0, 'emptiness is not asked about'),
    ('<think>x < y > z</think><answer>b</answer>', 1.0, 'signs are no tags'),
    ('<think>a</think><answer>b</answer> so b', 0.0, 'text after'),
    ('Well <think>a</think><answer>b</answer>', 0.0, 'text before'),
    ('<think>a</think> hence <answer>b</answer>', 0.0, 'text between'),
    ('<think>a</think>\u200b<answer>b</answer>', 0.0, 'hidden text between'),
    ('<think>a</think>\x00<answer>b</answer>', 0.0, 'NUL is not white space'),
    ('<think>a</think><answer>b</answer><answer>c</answer>', 0.0,
     'a lazy .*? with an end anchor takes this'),
    ('<think>a<answer>b</answer></think><answer>c</answer>', 0.0, 'nested'),
    ('<think>a<think>b</think></think><answer>c</answer>', 0.0, 'nested'),
    ('<think><answer>a</think>b</answer>', 0.0, 'crossed'),
    ('<answer>b</answer><think>a</think>', 0.0, 'the wrong way round'),
    ('<think>a</think><answer>b', 0.0, 'cut off'),
    ('<think>a</think><answer>b</answer', 0.0, 'cut off within the tag'),
    ('<think>a<answer>b</answer>', 0.0, 'never stopped thinking'),
    ('<think>a</think></think><answer>b</answer>', 0.0, 'closed twice'),
    ('<Think>a</Think><Answer>b</Answer>', 0.0, 'tags are literal'),
    ('< think>a</think><answer>b</answer>', 0.0, 'tags are literal'),
    ('<answer>b</answer>', 0.0, 'no thinking'),
    ('', 0.0, 'nothing'),
    ('\n' * 40, 0.0, 'nothing'),
])
def test_think_then_answer(text, expected, why):
  assert reward(text) == expected, why


@pytest.mark.parametrize('text, expected', [
    (' <answer>b</answer>\n', 1.0), ('<answer>b</answer>.', 0.0),
    ('<think>a</think><answer>b</answer>', 0.0),
    ('<answer><think>b</answer>', 0.0), ('<answer>b</think></answer>', 0.0),
    ('<answer>b</answer><answer>b</answer>', 0.0)])
def test_answer_only(text, expected):
  assert reward(text, think=False) == expected


@pytest.mark.parametrize('text, expected', [
    ('<answer>b</answer>\n<think>a</think>', 1.0),
    ('<think>a</think><answer>b</answer>', 0.0),
    ('<answer>b</answer>', 0.0),
    ('<answer>b</answer><think>a</think><answer>c</answer>', 0.0)])
def test_think_after(text, expected):
  assert reward(text, 'think_after') == expected


@pytest.mark.parametrize('text, expected, why', [
    ('<think>a</think><answer>b</answer>', 1.0, 'letters'),
    ('<think>好</think><answer>3</answer>', 1.0, 'of any script; digits'),
    ('<think></think><answer>b</answer>', 0.0, 'earned without a thought'),
    ('<think> \n.. - </think><answer>b</answer>', 0.0, 'nothing to read'),
    ('<think>a</think><answer>\x00\u200b</answer>', 0.0, 'nothing to read'),
])
def test_blocks_must_be_filled(text, expected, why):
  assert reward(text, filled=True) == expected, why
  swapped = ('<answer>' + text.partition('<answer>')[2]
             + text.partition('<answer>')[0])
  assert reward(swapped, 'think_after', filled=True) == expected, why


@pytest.mark.parametrize('text, names, expected', [
    ('<sub>a</sub>\n<final>b</final>', ('sub', 'final'), 1.0),
    ('<final>b</final><sub>a</sub>', ('sub', 'final'), 0.0),
    ('<think>a</think><tool_call>{}</tool_call>',
     ('think', 'tool_call|answer'), 1.0),
    ('<think>a</think><answer>b</answer>', ('think', 'tool_call|answer'), 1.0),
    ('<think>a<tool_call></think><answer>b</answer>',
     ('think', 'tool_call|answer'), 0.0),      # the one not chosen, never
    ('<think>a</think><answer>b</answer><tool_call>c</tool_call>',
     ('think', 'tool_call|answer'), 0.0),
    ('<thinking>a</thinking>', ('think',), 0.0),
    ('<诊断>a</诊断>', ('诊断',), 1.0)])
def test_blocks_of_any_names(text, names, expected):
  assert reward(text, 'blocks', names=names) == expected


@pytest.mark.parametrize('names', [
    (), 'think', ('',), ('a', 'a'), ('a|b', 'b'), ('<a>',), ('a|',), ('a b',)])
def test_wrong_names(names):
  with pytest.raises(ValueError, match='distinct names'):
    reward('', 'blocks', names=names)


@pytest.mark.parametrize('text, expected, why', [
    ('<think>a</think><answer>b</answer>', 1.0, 'Med-U1'),
    ('Let me see. <think>a</think> So: <answer>b</answer>!', 1.0,
     'Med-U1 allows text anywhere'),
    ('<think><answer></think></answer>', -1.0, 'order of all four'),
    ('<think>a</think><answer>b</answer><answer>c</answer>', -1.0, 'twice'),
    ('<think>a</think><answer>b', -1.0, 'not closed'),
    ('<answer>b</answer><think>a</think>', -1.0, 'order'),
    ('', -1.0, 'nothing')])
def test_each_tag_once_and_in_order(text, expected, why):
  assert reward(text, 'in_order') == expected, why


@pytest.mark.parametrize('text, expected', [
    ('## Thinking\nx\n## Final\ny', 1.0), ('## Final\ny\n## Thinking\nx', -1.0),
    ('## Thinking\n## Final ## Final', -1.0)])
def test_tags_of_any_kind_in_order(text, expected):
  assert reward(text, 'in_order',
                tags=('## Thinking', '## Final')) == expected


@pytest.mark.parametrize('tags', [(), '<a>', ('',), ('<a>', '<a>'),
                                  ('**Step 1', '**Step 10')])
def test_tags_that_cannot_be_counted(tags):
  with pytest.raises(ValueError, match='part of another'):
    reward('', 'in_order', tags=tags)


@pytest.mark.parametrize('text, expected, why', [
    ('<think>a</think> b', 1.0, 'ECG-R1 asks for no answer'),
    ('x <think>\n\na</think>', 1.0, 'nor for a beginning'),
    ('<think></think><think>a</think>', 1.0, 'some block is filled'),
    ('<think> . </think>', 0.0, 'empty'),
    ('<think><think></think>', 0.0, 'a tag is not a thought'),
    ('<think>a', 0.0, 'not closed'), ('a</think>', 0.0, 'not opened')])
def test_thought(text, expected, why):
  assert reward(text, 'thought') == expected, why


def ecg(*numbers, body='x', head='**Step {}: Rate**'):
  return '<think>\n' + '\n'.join(
      f'{head.format(k)} {body}' for k in numbers) + '\n</think>'


@pytest.mark.parametrize('text, options, expected, why', [
    (ecg(1, 2, 3, 4, 5, 6), {}, 1.0, 'ECG-R1'),
    (ecg(1, 2, 3, 4, 5, 6).replace('\n', '\r\n'), {}, 1.0, 'line breaks'),
    (ecg(1, 2, 3, 4, 5, 6, body='\n\nx'), {}, 1.0, 'content below'),
    ('Intro ' + ecg(1, 2, 3, 4, 5, 6), {}, 1.0, 'text outside is not judged'),
    (ecg(1, 2, 3, 4, 5, 6, body=''), {}, 0.0, 'six bare headings'),
    (ecg(1, 2, 3, 4, 5, 6, body='...'), {}, 0.0, 'six bare headings'),
    (ecg(1, 2, 3, 4, 5), {}, 0.0, 'one is missing'),
    (ecg(1, 2, 3, 4, 5, 6, 7), {}, 0.0, 'one too many'),
    (ecg(1, 2, 3, 4, 6, 5), {}, 0.0, 'order'),
    (ecg(1, 2, 3, 4, 5, 5, 6), {}, 0.0, 'twice'),
    (ecg(2, 3, 4, 5, 6, 7), {}, 0.0, 'begins at 1'),
    (ecg(1, 2, 3, 4, 5, 16), {}, 0.0, '16 is not 1'),
    (ecg(1, 2, 3, 4, 5, 6, head='Step {}:'), {}, 0.0, 'not bold'),
    (ecg(1, 2, 3, 4, 5, 6)[7:], {}, 0.0, 'not in the block'),
    (ecg(1, 2, 3, 4, 5, 6)[:-8], {}, 0.0, 'the block is cut off'),
    (ecg(1, 2, 3, 4, 5, 6)[7:-8], {'block': ''}, 1.0, 'the whole text'),
    (ecg(1, 2, 3).replace('\n', ' '), {'least': 3, 'most': 3}, 0.0,
     'steps stand at the starts of lines'),
    (ecg(1, 2, 3, head='  Step {}:'), {'style': 'step', 'least': 2, 'most': 4},
     1.0, 'indented'),
    (ecg(1, 2, 3, head='{}.'), {'style': 'number', 'least': 3, 'most': 9}, 1.0,
     'a list'),
    (ecg(1, 2, head='{}) a'), {'style': 'number', 'least': 1, 'most': 9}, 1.0,
     'a list'),
    (ecg(1, 2, head='{}.5 mm'), {'style': 'number', 'least': 1, 'most': 9}, 0.0,
     'a measurement is no step'),
    (ecg('١', '٢', head='{}.'), {'style': 'number', 'least': 1, 'most': 9}, 0.0,
     'digits of the schema are 0-9'),
    ('<think></think>', {'style': 'number', 'least': 1, 'most': 9}, 0.0,
     'no step'),
])
def test_steps(text, options, expected, why):
  assert reward(text, 'steps', **options) == expected, why


@pytest.mark.parametrize('options', [
    {'style': 'bald'}, {'least': 0}, {'least': 7}])
def test_wrong_options_of_steps(options):
  with pytest.raises(ValueError, match='expected one of'):
    reward('', 'steps', **options)
