import json

import pytest

from medrl.data import encodings
from medrl.data import sharegpt
from medrl.types import Media

A, B = Media('a.png'), Media('b.png')


def turns(*texts, system=''):
  start = [{'from': 'system', 'value': system}] if system else []
  return start + [{'from': ('human', 'gpt')[i % 2], 'value': text}
                  for i, text in enumerate(texts)]


def read(root, *rows, **options):
  (root / 'a.json').write_text(json.dumps(
      [{'id': str(i), **row} for i, row in enumerate(rows)]))
  return list(sharegpt.records(root, 'train', file={'train': 'a.json'},
                               **options))


@pytest.mark.parametrize('turn, question, answer', [
    ('last', 'User: q1\nAssistant: a1\n\nUser: q2\nAssistant: a2\n\nUser: q3',
     'a3'),
    (1, 'User: q1\nAssistant: a1\n\nUser: q2', 'a2'), ('first', 'q1', 'a1')])
def test_turns(tmp_path, turn, question, answer):
  row = dict(conversations=turns('q1', 'a1', 'q2', 'a2', 'q3', 'a3'))
  record, = read(tmp_path, row, turn=turn)
  assert (record.question, record.answer) == (question, answer)
  assert record.demonstration == answer and record.answer_type == 'text'


def test_every_turn(tmp_path):
  row = dict(conversations=turns('q1', 'a1', 'q2', 'a2', system='brief'))
  found = read(tmp_path, row, turn='each')
  assert [(r.id, r.answer) for r in found] == [('0#0', 'a1'), ('0#1', 'a2')]
  assert found[0].meta == {'system': 'brief'}


def test_a_question_without_a_reply(tmp_path):
  row = dict(conversations=turns('q1', 'a1', 'q2'), gold='x')
  with pytest.raises(ValueError, match='no answer'):
    read(tmp_path, row)
  record, = read(tmp_path, row, fields={'answer': 'gold', 'demonstration': ''})
  assert record.question.endswith('User: q2') and record.answer == 'x'


@pytest.mark.parametrize('texts, images, question', [
    (['<image>\nq', 'a'], ['a'], 'q'), (['q\n<image>', 'a'], ['a'], 'q'),
    (['<image>\n<image>q', 'a'], ['a', 'b'], 'q'),
    (['Is <image> as <image>?', 'a'], ['a', 'b'],
     'Is [image 1] as [image 2]?'),
    (['<image>Is it <image>?', 'a'], ['a', 'b'], '[image 1]Is it [image 2]?'),
    (['<image>q', 'a', 'And <image>?', 'a'], ['a', 'b'],
     'User: [image 1]q\nAssistant: a\n\nUser: And [image 2]?'),
    (['<image>q', 'a', 'r', 'a'], 'a', 'User: q\nAssistant: a\n\nUser: r')])
def test_placeholders(tmp_path, texts, images, question):
  record, = read(tmp_path, dict(conversations=turns(*texts), image=images))
  assert record.question == question
  assert [m.path for m in record.media] == list(images)


def test_only_images_up_to_the_turn(tmp_path):
  row = dict(conversations=turns('<image>q', 'a', 'And <image>?', 'a'),
             image=['a', 'b'])
  record, = read(tmp_path, row, turn='first')
  assert (record.question, [m.path for m in record.media]) == ('q', ['a'])


def test_media_of_several_kinds_keep_the_order_of_the_text():
  texts, media = sharegpt.placed(['<ecg><image>Read.'],
                                 {'<image>': [A], '<ecg>': [B]})
  assert (texts, media) == (['Read.'], [B, A])
  texts, media = sharegpt.placed(['<ecg> and <image>?'],
                                 {'<image>': [A], '<ecg>': [B]})
  assert texts == ['[ecg 1] and [image 2]?'] and media == [B, A]
  assert sharegpt.placed(['Read.'], {'<image>': [A], '<ecg>': [B]}) == (
      ['Read.'], [A, B])


@pytest.mark.parametrize('places, text, images, good', [
    ('match', 'q', ['a'], False), ('optional', 'q', ['a'], True),
    ('optional', '<image>q', ['a', 'b'], False),
    ('match', '<image><image>q', ['a'], False),
    ('match', '<image>q', [], False),
    ('optional', '<image>' * 300, ['a'] * 300, False)])
def test_as_many_places_as_images(tmp_path, places, text, images, good):
  row = dict(conversations=turns(text, 'a'), image=images)
  if good:
    assert len(read(tmp_path, row, places=places)[0].media) == len(images)
    return
  with pytest.raises(ValueError, match='placeholders and media differ'):
    read(tmp_path, row, places=places)


@pytest.mark.parametrize('messages, reason', [
    ([], 'no conversation'), ('text', 'no conversation'), ([1], 'no conv'),
    ([{'from': 'gpt', 'value': 'x'}], 'turns do not alternate'),
    ([{'from': 'system', 'value': 'x'}], 'turns do not alternate'),
    ([{'from': 'human', 'value': 'x'}] * 2, 'turns do not alternate'),
    ([{'from': 'tool', 'value': 'x'}], 'role unknown'),
    ([{'from': 'human', 'value': None}], 'turn is no text'),
    ([{'from': 'human', 'value': [{'type': 'audio'}]}], 'turn is no text'),
    ([{'from': 'human', 'value': 'x' * 1_000_000}], 'cell too long')])
def test_no_conversation(messages, reason):
  with pytest.raises(encodings.Unusable, match=reason):
    sharegpt.exchanged(messages)


def test_turns_in_pieces():
  message = {'role': 'user', 'content': [
      {'type': 'image'}, {'type': 'text', 'text': 'Which?'}]}
  assert sharegpt.exchanged([message]) == ('', [('<image>Which?', None)])


@pytest.mark.parametrize('options, words', [
    (dict(turn='second'), 'or a number from 0'),
    (dict(places='any'), 'optional'),
    (dict(turn=4), 'no such turn'), (dict(turn=-1), 'no such turn')])
def test_wrong_options(tmp_path, options, words):
  with pytest.raises(ValueError, match=words):
    read(tmp_path, dict(conversations=turns('q', 'a')), **options)
