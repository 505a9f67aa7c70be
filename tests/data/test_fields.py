import datetime
import json

import ml_collections
import pytest

from medrl import types
from medrl.data import cells
from medrl.data import encodings
from medrl.data import fields

VALUES = {'q': 'Which?', 'opts': ['red', 'blue'], 'gold': 'B', 'n': 3,
          'info': {'deep': ['x', {'y': 'z'}], 'json': '{"k": [1, 2]}'},
          'a.b': 'dotted', 'empty': '', 'none': None, 'who': 'p1',
          'pics': ['a.png', 'b.png'], 'pic': 'c', 'when': '03/04/2020'}
MAP = dict(question='q', options='opts', answer='gold')


def read(values=None, **parts):
  row = cells.Row({**VALUES, **(values or {})}, 'dir/file.jsonl', 7)
  return fields.record(row, fields.parse({**MAP, **parts}))


def reason(values=None, **parts):
  with pytest.raises(encodings.Unusable) as caught:
    read(values, **parts)
  return caught.value.reason


@pytest.mark.parametrize('part, expected', [
    ('n', 3), ('info.deep.0', 'x'), ('info.deep.1.y', 'z'),
    ('info.json.k.1', 2), ('a.b', 'dotted'), ('', None), ('empty', None),
    ('none', None),
    ({'const': 'same'}, 'same'),
    ('{q}\n{empty}\n{info.deep.0}', 'Which?\n\nx'), ('{empty}', None),
    ({'column': 'n', 'map': {'3': 'three'}}, 'three'),
    ({'column': 'empty', 'map': {'': 'blank'}}, 'blank'),
    ({'column': 'n', 'map': {}, 'otherwise': 'gold'}, 'B'),
    ({'column': 'no such', 'optional': True}, None)])
def test_parts(part, expected):
  assert cells.value(VALUES, part) == expected


@pytest.mark.parametrize('part, reason', [
    ('goldd', 'no column'), ('info.deep.9', 'no column'),
    ('info.deep.one', 'no column'), ('q.x', 'no column'),
    ({'column': 'n', 'map': {'4': 'x'}}, 'cell without a meaning'),
    ({'column': 'q', 'tag': 'answer'}, 'no such tag')])
def test_parts_that_are_not_there(part, reason):
  with pytest.raises(encodings.Unusable) as caught:
    cells.value(VALUES, part)
  assert caught.value.reason == reason


def test_a_missing_column_names_the_nearest_and_no_value():
  with pytest.raises(encodings.Unusable, match="did you mean 'gold'") as caught:
    cells.cell(VALUES, 'golld')
  assert 'p1' not in str(caught.value)


def test_a_record():
  record = read(id='{pic}/{n}', subject='who', study='n', site={'const': 's'},
                date={'column': 'when', 'order': 'dmy'}, task='pic',
                images={'column': 'pics', 'format': 'imgs/{}'},
                tolerance={'rel': .1}, demonstration='gold',
                meta={'deep': 'info.deep', 'none': 'none'})
  assert record == types.Record(
      id='c/3', question='Which?', answer='B', answer_type='choice',
      options={'A': 'red', 'B': 'blue'}, subject='p1', study='3', site='s',
      date='2020-04-03', task='c', tolerance={'rel': .1}, demonstration='B',
      media=(types.Media('imgs/a.png'), types.Media('imgs/b.png')),
      meta={'deep': ['x', {'y': 'z'}]}, source='dir/file.jsonl:7')


def test_a_row_without_an_id_goes_by_its_place():
  assert read().id == 'dir/file:7'


@pytest.mark.parametrize('parts, kind, answer', [
    (dict(answer=''), 'choice', None),
    (dict(answer='', options=''), 'text', None),
    (dict(options=''), 'text', 'B'),
    (dict(options='', answer={'const': 'Yes'}), 'yesno', 'yes'),
    (dict(options='', answer='n', answer_type='int'), 'int', 3),
    (dict(answer_type={'column': 'pic', 'map': {'c': 'ordinal'}}), 'ordinal',
     'B'),
    (dict(answer={'const': 'A,B'}), 'choices', ('A', 'B')),
    (dict(options={'const': {'A': 'x', 'B': 'y'}}), 'choice', 'B'),
    (dict(answer={'const': 'Q <answer>B</answer>'}), 'choice', 'B'),
    (dict(question={'const': 'Q? A) x B) y'}, options={'inline': 'auto'}),
     'choice', 'B'),
    (dict(options={'column': 'none', 'optional': True}), 'text', 'B'),
    (dict(options='', answer={'columns': ['n1']}), 'states',
     {'n1': 'negative'})])
def test_answers(parts, kind, answer):
  record = read({'n1': 0}, **parts)
  assert (record.answer_type, record.answer) == (kind, answer)


def test_limits_go_into_meta():
  record = read({'low': '1', 'high': '2.5'}, options='', answer={'const': '2'},
                answer_type='interval', limits=('low', 'high'))
  assert record.meta == {'limits': [1., 2.5]}
  record = read({'low': 'N/A', 'high': 'N/A'}, options='',
                answer={'const': 'N/A'}, answer_type='interval',
                limits=('low', 'high'))
  assert record.answer == types.UNANSWERABLE and record.meta == {}


@pytest.mark.parametrize('values, parts, expected', [
    ({'q': ''}, {}, 'no question'), ({'q': {'a': 1}}, {}, 'cell is no text'),
    ({'gold': None}, {}, 'no answer'), ({'opts': ''}, {}, 'no options'),
    ({}, dict(id='empty'), 'no id'), ({}, dict(images='empty'), 'no image'),
    ({'pic': 7.5}, dict(images='pic'), 'image not a path'),
    ({'pic': 'https://x/y.png'}, dict(images='pic'), 'image not a path'),
    ({'pics': ['a', None]}, dict(images='pics'), 'no image'),
    ({}, dict(images={'column': 'pic', 'check': True}), 'image file missing'),
    ({}, dict(answer_type='pic'), 'answer type unknown'),
    ({}, dict(answer_type='quantity', options=''), 'no unit'),
    ({}, dict(answer_type='quantity', options='', unit='q'), 'unit unknown'),
    ({}, dict(answer={'const': '3'}, answer_type='interval', options=''),
     'not a record'),
    ({}, dict(answer_type='choice', options=''), 'no options'),
    ({}, dict(date={'const': 'soon'}), 'date unreadable'),
    ({}, dict(tolerance='q'), 'tolerance unreadable'),
    ({'q': 'x' * 1_000_000}, {}, 'cell too long'),
    ({'o': 'A) x'}, dict(options={'column': 'opts', 'stem': True}),
     'no options')])
def test_rows_that_make_no_record(values, parts, expected):
  assert reason(values, **parts) == expected


def test_identity_is_never_quoted():
  with pytest.raises(encodings.Unusable) as caught:
    read({'when': 'born 3 May'}, date='when')
  assert 'May' not in str(caught.value)


def test_the_stem_of_a_question_that_repeats_its_options():
  question = {'q': 'Which?\nAnswer Choices: (A) red (B) blue'}
  record = read(question, options={'column': 'opts', 'stem': True})
  assert record.question == 'Which?'
  question = {'q': 'Which?\nAnswer Choices: (A) red (B) green'}
  assert reason(question, options={'column': 'opts', 'stem': True}) == (
      'options in the question differ')


def test_raw_keeps_the_row_without_media_and_identifiers():
  record = read(raw=True, subject='who', images='pics', identifiers=['when'],
                meta=['n'])
  assert record.meta['raw'] == {k: v for k, v in VALUES.items()
                                if k not in ('who', 'pics', 'when')}
  json.dumps(record.meta)
  assert reason({'q': 'x' * 5000}, raw=True) == 'raw row too large'


@pytest.mark.parametrize('parts', [
    dict(subject='who', meta=['who']), dict(date='when', meta={'d': 'when'}),
    dict(study='info.json.k', meta=['info']), dict(site='{q} {n}', meta=['n']),
    dict(identifiers=['pic'], meta={'x': '{pic}!'})])
def test_meta_never_names_a_patient(parts):
  with pytest.raises(ValueError, match='meta is logged'):
    read(**parts)


def test_raw_hides_a_column_with_a_dot_in_its_name():
  assert 'a.b' not in read(raw=True, subject='a.b').meta['raw']
  assert 'info' not in read(raw=True, subject='info.deep.0').meta['raw']


def test_options_of_the_loader_reach_an_image_of_the_row():
  row = cells.Row(VALUES, 'f', 1, embed=lambda column, index: types.Media(
      'f', 'loader', {'index': index}))
  medium, = cells.images(row, {'column': 'pic', 'kind': 'embedded',
                               'options': {'window': 'lung', 'index': 9}})
  assert medium.options == {'window': 'lung', 'index': 0}


def test_meta_can_be_logged():
  record = read({'day': datetime.date(2020, 1, 2)}, meta=['day'])
  assert record.meta == {'day': '2020-01-02'}
  assert reason({'bytes': b'x'}, meta=['bytes']) == 'cell is no text'


@pytest.mark.parametrize('given, words', [
    ({'anwser': 'x'}, "did you mean 'answer'"),
    ({'answer': {'column': 'x', 'encodng': 'y'}}, "did you mean 'encoding'"),
    ({'images': {'column': 'x', 'kind': 'bytes'}}, 'embedded'),
    ({'images': [{'colum': 'x'}]}, "did you mean 'column'"),
    ({'question': {'map': {}}}, 'expected a column'),
    ({'question': 3}, 'expected the name')])
def test_a_wrong_map_is_an_error_at_once(given, words):
  with pytest.raises(ValueError, match=words):
    fields.parse(given)


def test_a_map_from_a_config():
  config = ml_collections.ConfigDict(dict(
      question='q', options={'const': {'A': 'x', 'B': 'y'}}, answer='gold',
      images=({'column': 'pic', 'optional': True},), meta=('n',)))
  row = cells.Row(VALUES, 'f.json', 1)
  record = fields.record(row, fields.parse(config))
  assert record.options == {'A': 'x', 'B': 'y'} and record.meta == {'n': 3}


def test_images_in_a_row_that_cannot_hold_any():
  with pytest.raises(ValueError, match='parquet, plain TSV and JSON lines'):
    read(images={'column': 'pic', 'kind': 'base64'})


def test_several_columns_of_images_some_of_them_empty():
  record = read(images=[{'columns': ['pic', 'empty', 'no such']},
                        'x/{n}.png'])
  assert [m.path for m in record.media] == ['c', 'x/3.png']
