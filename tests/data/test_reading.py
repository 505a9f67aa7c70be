import json
import logging

import ml_collections
import pytest

from medrl.data import tabular

FIELDS = {'id': 'id', 'answer': 'answer'}


def write(root, name, *rows):
  path = root / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(
      row if isinstance(row, str) else json.dumps(row) + '\n' for row in rows))


def row(ident, **more):
  return {'id': ident, 'question': f'q{ident}', 'answer': 'x', **more}


def read(root, split='test', file='a.jsonl', fields=(), **options):
  return list(tabular.records(root, split, file=file,
                              fields=FIELDS | dict(fields), **options))


def ids(found):
  return [record.id for record in found]


def test_bad_rows_are_counted_by_reason_and_never_quoted(tmp_path, caplog):
  write(tmp_path, 'a.jsonl', row('1'), row('2', question=''), '{"id": \n',
        row('1', answer='secret'), row('3', question=None), '[1]\n',
        {'id': '4', 'question': 'q'}, row('5'))
  with caplog.at_level(logging.INFO):
    found = read(tmp_path, file={'test': 'a.jsonl'}, on_bad='skip')
  assert ids(found) == ['1', '5']
  assert ('2 records; 6 rows left out: 2 no question, 1 line unreadable, 1 id '
          'used before, 1 row is no object, 1 no column') in caplog.text
  assert 'secret' not in caplog.text


@pytest.mark.parametrize('bad, words', [
    (row('2', question=''), 'a.jsonl:2: no question'),
    ('{"id": \n', 'a.jsonl:2: line unreadable'),
    (row('1'), 'a.jsonl:2: id used before: 1'),
    ({'id': '2', 'qestion': 'x'}, "a.jsonl:2: no column: .*mean 'qestion'")])
def test_or_stop_at_the_first(tmp_path, bad, words):
  write(tmp_path, 'a.jsonl', row('1'), bad)
  with pytest.raises(ValueError, match=words):
    read(tmp_path)


def test_no_record_at_all_is_an_error(tmp_path):
  write(tmp_path, 'a.jsonl', row('1', question=''))
  with pytest.raises(ValueError, match="no row makes a record.*'no question'"):
    read(tmp_path, on_bad='skip')


def test_published_split_in_a_column(tmp_path):
  write(tmp_path, 'a.jsonl', row('1', part='train'), row('2', part='Val'),
        row('3', part='dev'), row('4', part='test'), row('5', part='odd'))
  fields = {'split': 'part'}
  assert ids(read(tmp_path, 'validation', fields=fields, on_bad='skip')) == [
      '2', '3']
  with pytest.raises(ValueError, match='split unknown'):
    read(tmp_path, fields=fields)
  fields = {'split': {'column': 'part', 'map': {'odd': 'test'},
                      'otherwise': 'part'}}
  assert ids(read(tmp_path, fields=fields)) == ['4', '5']


def test_published_split_in_files(tmp_path):
  write(tmp_path, 'x/a-0.jsonl', row('1'))
  write(tmp_path, 'x/a-1.jsonl', row('2'))
  write(tmp_path, 'b.jsonl', row('3'))
  file = {'train': ['x/a-*.jsonl', 'b.jsonl'], 'test': 'b.jsonl'}
  assert ids(read(tmp_path, 'train', file)) == ['1', '2', '3']
  assert ids(read(tmp_path, 'test', ml_collections.ConfigDict(
      {'test': 'b.jsonl'}))) == ['3']
  assert ids(read(tmp_path, 'train', file, limit=2)) == ['1', '2']
  with pytest.raises(ValueError, match="no split 'validation'.*'test', 'train"):
    read(tmp_path, 'validation', file)


def test_a_drawn_split_keeps_patients_together(tmp_path):
  write(tmp_path, 'a.jsonl', *(row(str(i), who=i // 4) for i in range(400)))
  parts = [read(tmp_path, split, fields={'subject': 'who'})
           for split in ('train', 'validation', 'test')]
  assert sum(map(len, parts)) == 400 and all(map(len, parts))
  patients = [{record.subject for record in part} for part in parts]
  assert not (patients[0] & patients[1] or patients[1] & patients[2]
              or patients[0] & patients[2])
  assert ids(read(tmp_path, fields={'subject': 'who'}, limit=3)) == ids(
      parts[2])[:3]


def test_a_split_by_date_and_site(tmp_path):
  write(tmp_path, 'a.jsonl', row('1', day='2020-01-01', at='x'),
        row('2', day='2021-01-01', at='y'))
  found = read(tmp_path, fields={'date': 'day'}, parts=dict(
      by='date', validation_from='2020-06-01', test_from='2020-06-01'))
  assert ids(found) == ['2']
  found = read(tmp_path, fields={'site': 'at'}, parts=dict(by='site',
                                                          test=['y']))
  assert ids(found) == ['2']


@pytest.mark.parametrize('options, words', [
    (dict(on_bad='drop'), "'error' or 'skip'"),
    (dict(split='dev'), 'expected one of train'),
    (dict(parts={'by': 'luck'}), 'expected one of chance'),
    (dict(parts={'tst': .5}), "did you mean 'test'"),
    (dict(header='no'), 'names, none, skip')])
def test_wrong_options(tmp_path, options, words):
  write(tmp_path, 'a.jsonl', row('1'))
  with pytest.raises(ValueError, match=words):
    read(tmp_path, **options)


def test_keep_and_each(tmp_path, caplog):
  write(tmp_path, 'a.jsonl',
        row('1', kind='a', qs=[{'question': 'x'}, {'question': 'y'}]),
        row('2', kind=2, qs='[{"question": "z"}]'), row('3', kind='c', qs='no'),
        row('4', kind='c', qs=[{'question': ''}, {'question': 'w'}]))
  fields = {'each': 'qs', 'id': '{id}#{@each}'}
  found = read(tmp_path, fields=fields, on_bad='skip', file={'test': 'a.jsonl'})
  assert [(r.id, r.question) for r in found] == [
      ('1#0', 'x'), ('1#1', 'y'), ('2#0', 'z'), ('4#1', 'w')]
  assert '1 text unreadable, 1 no question' in caplog.text
  found = read(tmp_path, fields=fields | {'keep': {'kind': ['a', 2]}},
               on_bad='skip', file={'test': 'a.jsonl'})
  assert ids(found) == ['1#0', '1#1', '2#0']
  found = read(tmp_path, fields=fields | {'id': '', 'keep': {'kind': 'a'}},
               file={'test': 'a.jsonl'}, on_bad='skip')
  assert ids(found) == ['a:1#0', 'a:1#1']


@pytest.mark.parametrize('name', ['../a.jsonl', '/etc/passwd', 'link.jsonl'])
def test_files_outside_the_root_are_not_read(tmp_path, name):
  root = tmp_path / 'root'
  root.mkdir()
  write(tmp_path, 'a.jsonl', row('1'))
  (root / 'link.jsonl').symlink_to(tmp_path / 'a.jsonl')
  with pytest.raises(ValueError, match='outside the data root'):
    read(root, file=name)
