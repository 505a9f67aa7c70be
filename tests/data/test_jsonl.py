import functools
import json
import pathlib

import pytest

from medrl import types
from medrl.data import jsonl
from medrl.rewards import answer

DATA = pathlib.Path(__file__).parents[3] / 'shared/data'
GOOD = {'id': 'a', 'images': ['a.png'], 'question': 'Which?', 'answer': 'B',
        'answer_type': 'choice', 'options': {'A': 'x', 'B': 'y'}}


def write(folder, *entries):
  lines = [e if isinstance(e, str) else json.dumps(e) for e in entries]
  (folder / 'q.jsonl').write_text('\n'.join(lines) + '\n')


def test_media_with_options(tmp_path):
  write(tmp_path, {**GOOD, 'site': 'x', 'study': 'y', 'date': '2020-02-01',
                   'images': [{'path': 'ct.nii', 'window': [40, 400]}]})
  record, = jsonl.read(tmp_path, 'q.jsonl')
  assert record.media == (types.Media('ct.nii', options={
      'window': (40, 400)}),)
  assert (record.site, record.study, record.date) == ('x', 'y', '2020-02-01')
  assert not record.meta


def test_exclude(tmp_path, caplog):
  write(tmp_path, GOOD, {**GOOD, 'id': 'b'})
  read = functools.partial(jsonl.records, tmp_path, 'train', file='q.jsonl',
                           validation=0, test=0)
  assert [r.id for r in read(exclude=('a',))] == ['b']
  assert not caplog.text
  assert len(list(read(exclude=('b', 'c')))) == 1
  assert 'not 1 of the 2 records that exclude names' in caplog.text


def test_fields(tmp_path):
  write(tmp_path, {**GOOD, 'subject': 's', 'tolerance': {'rel': .1},
                   'task': 't', 'meta': {'age': 3}, 'modality': 'CT'}, '')
  record, = jsonl.read(tmp_path, 'q.jsonl')
  assert (record.subject, record.task, record.answer) == ('s', 't', 'B')
  assert record.meta == {'modality': 'CT', 'age': 3}
  assert record.media[0].path == 'a.png'
  assert record.source == 'q.jsonl:1'


@pytest.mark.parametrize('change, expected', [
    ('{"id": ', 'no JSON'),
    ('[1]', 'expected an object'),
    ({'question': ...}, "no key 'question'"),
    ({'images': 'a.png'}, 'images'),
    ({'images': [3]}, 'expected paths'),
    ({'images': [{'window': 'lung'}]}, 'expected paths'),
    ({'id': 3}, 'string'),
    ({'tolerance': {'rel': '10%'}}, 'numbers'),
    ({'answer': 'C'}, "['A', 'B']"),
    ({'answer_type': 'letter'}, 'yesno'),
    ({'answer_type': 'yesno'}, "'yes' or 'no'"),
    ({'answer_type': 'int', 'answer': 2.5}, 'an integer'),
    ({'answer_type': 'int', 'answer': True}, 'an integer'),
    ({'answer_type': 'float', 'answer': float('nan')}, 'finite'),
    ({'answer_type': 'box', 'answer': [1, 2, 3]}, 'x1 < x2'),
    ({'answer_type': 'box', 'answer': [5, 2, 3, 9]}, 'x1 < x2'),
    ({'answer_type': 'boxes', 'answer': [1, 2, 3, 4]}, 'a list of'),
    ({'answer_type': 'text', 'answer': ['x']}, 'a string'),
    ({'answer_type': 'ordinal', 'answer': 'C'}, "['A', 'B']"),
    ({'answer_type': 'choices', 'answer': ['A', 'C']}, "['A', 'B']"),
    ({'answer_type': 'choices', 'answer': 'A'}, 'a list of letters'),
    ({'answer_type': 'yesnomaybe', 'answer': 'perhaps'}, "'maybe'"),
    ({'answer_type': 'interval', 'answer': '3'}, 'a finite number'),
    ({'answer_type': 'interval', 'answer': 3}, "meta['limits']"),
    ({'answer_type': 'quantity', 'answer': 3}, 'no unit'),
    ({'answer_type': 'dimensions', 'answer': [3, 'x'], 'unit': 'mm'}, 'list'),
    ({'answer_type': 'date', 'answer': '3/4/2020'}, 'YYYY-MM-DD'),
    ({'answer_type': 'duration', 'answer': [3, -1]}, '[weeks, days]'),
    ({'answer_type': 'labels', 'answer': [1]}, 'a list of strings'),
    ({'answer_type': 'states', 'answer': {'oedema': 'maybe'}}, 'uncertain'),
])
def test_error_names_file_line_and_record(tmp_path, change, expected):
  bad = change
  if isinstance(change, dict):
    bad = {k: v for k, v in {**GOOD, 'id': 'b', **change}.items() if v != ...}
  write(tmp_path, GOOD, bad)
  with pytest.raises(ValueError) as error:
    jsonl.read(tmp_path, 'q.jsonl')
  message = str(error.value)
  assert message.startswith('q.jsonl:2: ') and expected in message
  if isinstance(change, dict):
    assert f'record {bad["id"]!r}' in message


@pytest.mark.parametrize('fields, text', [
    ({'answer_type': 'choices', 'answer': ['B', 'A']}, 'A, B'),
    ({'answer_type': 'ordinal', 'answer': 'B'}, 'B'),
    ({'answer_type': 'yesnomaybe', 'answer': 'maybe'}, 'maybe'),
    ({'answer_type': 'interval', 'answer': 3, 'meta': {'limits': [2.9, 3.1]}},
     '3.05'),
    ({'answer_type': 'interval', 'answer': 'N/A'}, 'N/A'),
    ({'answer_type': 'quantity', 'answer': 30, 'unit': 'mm',
      'tolerance': {'rel': .01}}, '3 cm'),
    ({'answer_type': 'dimensions', 'answer': [20, 30], 'unit': 'mm'},
     '3 x 2 cm'),
    ({'answer_type': 'date', 'answer': '2014-09-23'}, '09/23/2014'),
    ({'answer_type': 'duration', 'answer': [14, 1]}, '14 weeks, 1 day'),
    ({'answer_type': 'labels', 'answer': ['oedema', 'effusion']},
     'Effusion; oedema'),
    ({'answer_type': 'box', 'answer': [1, 2, 3, 4]}, '[1, 2, 3, 4]'),
    ({'answer_type': 'boxes', 'answer': []}, '[]'),
])
def test_answers_of_every_type_are_what_the_reward_compares_with(
    tmp_path, fields, text):
  """Lists of JSON and tuples of parsers must not differ."""
  write(tmp_path, {**GOOD, **fields})
  record, = jsonl.read(tmp_path, 'q.jsonl')
  assert answer.correct(record, f'<answer>{text}</answer>') == 1


def test_ids_are_unique(tmp_path):
  write(tmp_path, GOOD, GOOD)
  with pytest.raises(ValueError, match="q.jsonl:2: id 'a' .* line 1"):
    jsonl.read(tmp_path, 'q.jsonl')


def test_hidden_answers_are_allowed(tmp_path):
  write(tmp_path, {**GOOD, 'answer': None})
  assert jsonl.read(tmp_path, 'q.jsonl')[0].answer is None


def test_missing_root_and_file_are_told_apart(tmp_path):
  with pytest.raises(FileNotFoundError, match='no file: .*q.jsonl'):
    jsonl.read(tmp_path, 'q.jsonl')
  with pytest.raises(FileNotFoundError, match='no data root: .*none'):
    jsonl.read(tmp_path / 'none', 'q.jsonl')


def test_tasks_and_limit_move_no_record(tmp_path):
  write(tmp_path, *({**GOOD, 'id': str(i), 'images': [f'{i}.png'],
                     'task': 'ab'[i % 2]} for i in range(60)))
  def ids(**options):
    return [r.id for r in jsonl.records(tmp_path, 'train', file='q.jsonl',
                                        validation=.3, **options)]
  assert ids(tasks=('a',)) == [i for i in ids() if int(i) % 2 == 0]
  assert ids(limit=5) == ids()[:5]
  with pytest.raises(ValueError, match=r"'c'; it has \['a', 'b'\]"):
    ids(tasks=('c',))


@pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')
def test_real_file():
  found = jsonl.read(DATA, 'derived_vqa/vqa.jsonl')
  assert len(found) == 2774
  assert all((DATA / m.path).is_file() for r in found[::50] for m in r.media)
