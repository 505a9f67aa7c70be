import json
import pathlib

import pytest

from medrl.data import jsonl

DATA = pathlib.Path(__file__).parents[3] / 'shared/data'
GOOD = {'id': 'a', 'images': ['a.png'], 'question': 'Which?', 'answer': 'B',
        'answer_type': 'choice', 'options': {'A': 'x', 'B': 'y'}}


def write(folder, *entries):
  lines = [e if isinstance(e, str) else json.dumps(e) for e in entries]
  (folder / 'q.jsonl').write_text('\n'.join(lines) + '\n')


def test_fields(tmp_path):
  write(tmp_path, {**GOOD, 'subject': 's', 'tolerance': {'rel': .1},
                   'task': 't', 'meta': {'age': 3}, 'modality': 'CT'}, '')
  record, = jsonl.read(tmp_path, 'q.jsonl')
  assert (record.subject, record.task, record.answer) == ('s', 't', 'B')
  assert record.meta == {'modality': 'CT', 'age': 3}
  assert record.images[0].path == 'a.png'
  assert record.source == 'q.jsonl:1'


@pytest.mark.parametrize('change, expected', [
    ('{"id": ', 'no JSON'),
    ('[1]', 'expected an object'),
    ({'question': ...}, "no key 'question'"),
    ({'images': 'a.png'}, 'images'),
    ({'images': [3]}, 'strings'),
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
  assert all((DATA / m.path).is_file() for r in found[::50] for m in r.images)
