import base64
import gzip
import json
import pathlib
import pickle
import zipfile

import numpy as np
import openpyxl
import pytest

from medrl import lookup
from medrl.data import tabular
from medrl.media import files
from medrl.rewards import medcalc
from tests import soon
from tests.records import build

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
CSV = 'id,question,answer\n1,"a, ""b""\nc",x\n\n2,d,y\n'
WANTED = [('1', 'a, "b"\nc', 'x'), ('2', 'd', 'y')]
FIELDS = {'id': 'id', 'answer': 'answer', 'answer_type': 'text'}


def read(root, file, fields=FIELDS, **options):
  return list(tabular.records(root, 'test', file={'test': file}, fields=fields,
                              **options))


def seen(found):
  return [(r.id, r.question, r.answer) for r in found]


def zipped(path, *names, text=CSV):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name in names:
      archive.writestr(name, text)


def as_json(root):
  rows = [dict(id=i, question=q, answer=a) for i, q, a in WANTED]
  (root / 'list.json').write_text('\ufeff' + json.dumps(rows))
  (root / 'dict.json').write_text(json.dumps({r.pop('id'): r for r in rows}))


def make(root):
  (root / 'a.csv').write_text('\ufeff' + CSV)
  (root / 'a.tsv').write_text(CSV.replace(',', '\t').replace('a\t', 'a,'))
  (root / 'a.csv.gz').write_bytes(gzip.compress(CSV.encode()))
  zipped(root / 'a.csv.zip', 'a.csv', '__MACOSX/._a.csv', 'folder/')
  zipped(root / 'b.zip', 'x/a.csv', 'x/b.csv')
  as_json(root)
  build.xlsx(root / 'a.xlsx', [['id', 'question', 'answer'],
                               *([int(i), q, a] for i, q, a in WANTED)])


@pytest.mark.parametrize('file', [
    'a.csv', 'a.tsv', 'a.csv.gz', 'a.csv.zip', 'b.zip!x/b.csv', 'list.json',
    'dict.json', 'a.xlsx'])
def test_the_same_rows_from_each_kind_of_file(tmp_path, file):
  make(tmp_path)
  fields = FIELDS | ({'id': '@key'} if file == 'dict.json' else {})
  assert seen(read(tmp_path, file, fields)) == WANTED


def test_without_a_header(tmp_path):
  make(tmp_path)
  fields = {'id': '0', 'question': '1', 'answer': '2', 'answer_type': 'text'}
  assert seen(read(tmp_path, 'a.csv', fields, header='skip')) == WANTED
  assert [r.id for r in read(tmp_path, 'a.csv', fields, header='none')] == [
      'id', '1', '2']
  assert seen(read(tmp_path, 'a.xlsx', fields, header='skip')) == WANTED


def test_sheets_blanks_and_dates(tmp_path):
  book = openpyxl.Workbook()
  sheet = book.create_sheet('second')
  for row in ['id', None, 'question'], [1, 'more', 'q'], [None] * 3, [
      2, None, 'r', None]:
    sheet.append(row)
  book.save(tmp_path / 'a.xlsx')
  fields = {'id': 'id', 'meta': {'unnamed': '1'}}
  found = read(tmp_path, 'a.xlsx', fields, sheet='second')
  assert [(r.id, r.meta) for r in found] == [('1', {'unnamed': 'more'}),
                                             ('2', {})]
  with pytest.raises(ValueError, match="no sheet 'x'.*second"):
    read(tmp_path, 'a.xlsx', fields, sheet='x')


def test_image_in_base64_in_a_line(tmp_path):
  image = base64.b64encode(build.png('red')).decode()
  rows = [{'question': 'q', 'image': image}, {'question': 'é', 'image': [
      image, 'data:image/png;base64,' + base64.b64encode(build.png('blue')
                                                         ).decode()]}]
  (tmp_path / 'a.jsonl').write_text('\n' + '\n'.join(map(json.dumps, rows)))
  found = read(tmp_path, 'a.jsonl', {'images': {'column': 'image',
                                                'kind': 'base64'}})
  media = pickle.loads(pickle.dumps(found[1].media))
  pixels = [lookup.resolve(m.loader)(m.path, tmp_path, **m.options)[0, 0]
            for m in media]
  assert np.array_equal(pixels, [[255, 0, 0], [0, 0, 255]])
  with pytest.raises(ValueError, match='parquet, plain TSV and JSON lines'):
    (tmp_path / 'a.json').write_text(json.dumps(rows))
    read(tmp_path, 'a.json', {'images': {'column': 'image', 'kind': 'base64'}})


@pytest.mark.parametrize('image, words', [
    ('no base64!', 'no base64'), ('QUJD', 'is read'), (7, 'int')])
def test_what_is_no_image(tmp_path, image, words):
  (tmp_path / 'a.jsonl').write_text(json.dumps({'question': 'q', 'i': image}))
  medium = read(tmp_path, 'a.jsonl', {'images': {
      'column': 'i', 'kind': 'base64'}})[0].media[0]
  with pytest.raises(ValueError, match=words):
    lookup.resolve(medium.loader)(medium.path, tmp_path, **medium.options)


def test_a_bomb_in_base64_is_refused(tmp_path):
  bomb = base64.b64encode(build.bomb()).decode()
  (tmp_path / 'a.jsonl').write_text(json.dumps({'question': 'q', 'i': bomb}))
  medium = read(tmp_path, 'a.jsonl', {'images': {
      'column': 'i', 'kind': 'base64'}})[0].media[0]
  with pytest.raises(ValueError, match='pixels'):
    lookup.resolve(medium.loader)(medium.path, tmp_path, **medium.options)


@pytest.mark.parametrize('name, content, words', [
    ('a.csv', b'id,id,question\n1,2,3\n', 'stands twice'),
    ('a.csv', b'id,question\n1\n', 'row of another length: 1 cells, 2'),
    ('a.csv', b'id,question\n\xff\xfe,x\n', 'UnicodeDecodeError'),
    ('a.csv', b'id,question\n1,' + b'x' * 1_000_000, 'cell too long'),
    ('a.csv', b'id,question\n1,"' + b'x\n' * 500_000, 'cell too long'),
    ('a.csv.gz', b'no gzip', 'BadGzipFile'),
    ('a.csv.gz', gzip.compress(CSV.encode(), mtime=0)[:-12], 'EOFError'),
    ('a.csv.zip', b'no zip', 'BadZipFile'),
    ('a.xlsx', b'no zip', 'BadZipFile'),
    ('a.json', b'{"id": ', 'JSONDecodeError'),
    ('a.json', b'7', 'a list of objects'),
    ('a.json', b'[' * 200_000, 'RecursionError'),
    ('a.json', b'[[1]]', 'row is no object'),
    ('a.jsonl', b'[' * 200_000, 'line unreadable'),
    ('a.jsonl', b'\xff\xfe', 'line unreadable'),
    ('a.txt', b'x', 'expected .json, .jsonl')])
def test_damaged_files(tmp_path, name, content, words):
  (tmp_path / name).write_bytes(content)
  with soon.soon(), pytest.raises(ValueError, match=words) as caught:
    read(tmp_path, name, {'id': 'id'})
  assert name in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize('member', ['../a.csv', '/a.csv', 'x/../../a.csv',
                                    '\\\\a.csv'])
def test_a_zip_that_leads_out_of_itself(tmp_path, member):
  zipped(tmp_path / 'a.zip', 'good.csv', member)
  with pytest.raises(ValueError, match='leads out of the archive'):
    read(tmp_path, 'a.zip!good.csv')
  assert sorted(p.name for p in tmp_path.parent.glob('*.csv')) == []


def test_a_zip_of_several_files_wants_a_name(tmp_path):
  make(tmp_path)
  for file in 'b.zip', 'b.zip!x/c.csv':
    with pytest.raises(ValueError, match='x/a.csv.*x/b.csv'):
      read(tmp_path, file)
  with pytest.raises(ValueError, match='no .zip'):
    read(tmp_path, 'a.csv!x.csv')


def test_an_xlsx_bomb(tmp_path, monkeypatch):
  monkeypatch.setattr(files, 'MAX_BYTES', 1 << 20)
  with zipfile.ZipFile(tmp_path / 'a.xlsx', 'w',
                       zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('xl/worksheets/sheet1.xml', bytes(2 << 20))
  with pytest.raises(ValueError, match='bytes unpacked'):
    read(tmp_path, 'a.xlsx')


def question(**parts):
  return dict(id='id', question='question', answer='answer') | parts


def image(folder, text, **parts):
  return question(images={'column': 'image', 'format': folder + '/{}',
                          'check': True}, question={'const': text}) | parts


KINDS = {str(number): medcalc.answer_type(number) for number in
         medcalc.DATES | medcalc.DURATIONS | medcalc.WHOLE | medcalc.DECIMAL}
LETTER = question(options='options',
                  answer={'column': 'answer', 'encoding': 'letter'})
# The numbers are those of each NOTE.md, or of the lines of the file.
REAL = {
    'medical_mcq/medmcqa_val.jsonl': (LETTER, 2516),
    'medical_mcq/medqa_usmle_test.jsonl': (LETTER, 742),
    'medical_mcq/medxpertqa_mm_textonly.jsonl': (LETTER, 1236),
    'medical_mcq/medxpertqa_text.jsonl': (LETTER, 840),
    'medical_mcq/mmlu_medical_test.jsonl': (LETTER, 688),
    'pubmedqa/pqal_train500.jsonl': (question(
        question='{contexts}\n{question}', answer='final_decision',
        answer_type='yesnomaybe'), {'yes': 276, 'no': 169, 'maybe': 55}),
    'medcalc/medcalc_v1.jsonl': (question(
        question='{note}\n{question}', answer='answer_v1',
        limits=('lower_v1', 'upper_v1'),
        answer_type={'column': 'calculator_id', 'map': KINDS}), 692),
    'medcalc/one_shot_verified.csv': (question(
        id='Row Number', question='{Patient Note}\n{Question}',
        answer='Ground Truth Answer', limits=('Lower Limit', 'Upper Limit'),
        answer_type={'column': 'Calculator ID', 'map': KINDS}), 55),
    'derived_vqa/vqa.jsonl': (question(
        images={'column': 'images', 'check': True}, answer_type='answer_type',
        options={'column': 'options', 'optional': True},
        tolerance={'column': 'tolerance', 'optional': True}), 2774),
    'isic2017/labels.jsonl': (image(
        'isic2017', 'Is it a melanoma?', answer_type='yesno', answer={
            'column': 'melanoma', 'map': {'0': 'no', '1': 'yes'}}),
                              {'no': 626, 'yes': 374}),
    'busi/labels.jsonl': (image(
        'busi', 'Which?', answer='label', options={'const': {
            'A': 'benign', 'B': 'malignant', 'C': 'normal'}}),
                          {'A': 300, 'B': 148, 'C': 92}),
    'bccd/annotations.jsonl': (image('bccd', 'How many?', answer=''), 292),
    'covid_cxr_hannover/labels.jsonl': (image(
        'covid_cxr_hannover', 'Which?', id='image_id', answer='projection',
        subject='patient_id', options={'const': {'A': 'AP', 'B': 'PA'}}), 187),
    'fundus/labels.jsonl': (image(
        'fundus', 'Which?', answer='source', options={'const': {
            'A': 'DRIVE', 'B': 'CHASEDB1'}}), {'A': 14, 'B': 20})}


@pytest.mark.skipif(not DATA.is_dir(), reason='no shared data')
@pytest.mark.parametrize('file', REAL)
def test_real_sets_have_as_many_records_as_they_say(file):
  fields, expected = REAL[file]
  found = read(DATA, file, fields)
  if isinstance(expected, int):
    assert len(found) == expected
  else:
    answers = [record.answer for record in found]
    assert {a: answers.count(a) for a in set(answers)} == expected
  if found[0].media:
    medium = found[-1].media[0]
    assert lookup.resolve(medium.loader)(medium.path, DATA).ndim == 3


@pytest.mark.skipif(not DATA.is_dir(), reason='no shared data')
def test_boxes_of_real_rows():
  """One record of each object of BCCD: four numbers, in the frame."""
  found = read(DATA, 'bccd/annotations.jsonl', dict(
      each='objects', question='Where is a {label}?', answer='box',
      answer_type='box', images={'column': 'image', 'format': 'bccd/{}'}))
  assert len(found) == 3941
  assert all(0 <= r.answer[0] < r.answer[2] <= 640 for r in found)
