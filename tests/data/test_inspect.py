import json
import pathlib
import stat

import numpy as np
from PIL import Image
import pytest

from medrl import types
from medrl.data import inspect
from medrl.processors import text

DATA = pathlib.Path(__file__).parents[3] / 'shared/data'


def row(name, image, subject='', kind='yesno', answer='yes', **more):
  return {'id': name, 'images': [image] * bool(image), 'question': 'Is it so?',
          'answer': answer, 'answer_type': kind, 'subject': subject} | more


@pytest.fixture
def root(tmp_path):
  rng = np.random.default_rng(0)
  for name in 'abcdef':
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(
        tmp_path / f'{name}.png')
  (tmp_path / 'f.png').write_bytes((tmp_path / 'e.png').read_bytes())
  (tmp_path / 'bad.png').write_bytes(b'no image at all')
  return tmp_path


def run(root, rows, capsys, *arguments, dataset='medrl.data.jsonl.records',
        **options):
  (root / 'x.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  code = inspect.main([
      dataset, '--root', str(root), '--out', str(root / 'out'), '--options',
      json.dumps({'file': 'x.jsonl', **options}), *arguments])
  return code, capsys.readouterr().out


def test_report(root, capsys):
  rows = [row(f'r{i}', f'{"abcdef"[i]}.png', f'JANE{i // 2}', task='t',
              date='x') for i in range(6)]
  rows[1]['answer'] = 'no'
  rows += [row('n', '', kind='int', answer=n, task='count') | {'id': f'n{n}'}
           for n in range(9)]
  rows += [row('broken', 'bad.png'), row('gone', 'none.png'),
           row('words', '', kind='text', answer='Mrs Doe was well')]
  code, out = run(root, rows, capsys, validation=0, test=0)
  assert code == 0
  assert 'no split test: medrl.data.jsonl.records has no record' in out
  lines = out.splitlines()
  assert any(line.split() == ['train', '18', '3', '0', '12', '18', '18', '12']
             for line in lines)
  assert '83.3%  yes' in out and '16.7%  no' in out
  assert '0 to 8, median 4, 9 different' in out
  assert 'height     20 to 20, median 20' in out
  assert 'records without media: 10' in out
  assert '; gone' in out and '; broken' in out and 'FileNotFoundError' in out
  assert '= ' + root.name + '/f.png' in out   # the same bytes as e.png
  assert 'words (no --tokenizer given): 3 to 3' in out
  assert '18 records, 2 of them with media that cannot be shown' in out
  assert 'JANE' not in out and 'Doe' not in out
  sheet = root / 'out' / inspect.SHEET
  assert stat.S_IMODE(sheet.stat().st_mode) == 0o600
  assert 'JANE' not in sheet.read_text()


def records(root, split, *, shared=True):
  """A data set of which two splits share a patient and a file."""
  del root
  number = ['train', 'validation', 'test'].index(split)
  yield types.Record(f'{split}/1', 'A?', 'yes', 'yesno', media=(
      types.Media('abc'[number] + '.png'),), subject=f'JANE{number}')
  if shared:
    yield types.Record(f'{split}/2', 'B?', 'no', 'yesno', subject='JANE9',
                       media=(types.Media('ef'[number % 2] + '.png'),))


@pytest.mark.parametrize('shared', [True, False])
def test_what_splits_share_is_an_error(root, capsys, shared):
  code = inspect.main([
      f'{__name__}.records', '--root', str(root), '--limit', '0', '--options',
      json.dumps({'shared': shared})])
  out = capsys.readouterr().out
  numbers = [line.split()[-3:] for line in out.splitlines()
             if line.strip().startswith(('train and', 'validation and'))]
  assert code == shared and numbers == [['1' if shared else '0'] * 3] * 3
  assert ('subject: train/2 = test/2' in out) == shared
  assert 'JANE' not in out and not (root / inspect.SHEET).exists()


def test_items_asked_twice(root, capsys):
  rows = [row('a', 'a.png'), row('b', 'a.png', question='is it SO'),
          row('c', 'a.png', question='Or not?'), row('d', 'b.png')]
  out = run(root, rows, capsys, '--limit', '0')[1]
  assert 'the same question of the same media: 1 records more than' in out
  assert 'a = b' in out


def test_token_lengths(root, capsys):
  text.build(['Is it so? A. one B. two'], (), 300, root / 'tokenizer')
  tokenizer = text.load(root / 'tokenizer')
  rows = [row('a', '', options={'A': 'one', 'B': 'two'}), row('b', '')]
  out = run(root, rows, capsys, '--tokenizer', str(root / 'tokenizer'))[1]
  longest = len(tokenizer.encode('Is it so?\nA. one\nB. two'))
  shortest = len(tokenizer.encode('Is it so?'))
  assert f'tokens: {shortest} to {longest}' in out


def test_histogram():
  found = [types.Record(str(i), 'w ' * n, 'x', 'text')
           for i, n in enumerate([1] * 30 + [2] * 15 + [25])]
  lines = inspect.lengths(found, str.split, 'words')
  assert [line.split()[:4] for line in lines[1:]][:2] == [
      ['1', '-', '3', '45'], ['4', '-', '6', '0']]
  assert lines[1].count('#') == 40 and lines[-1].count('#') == 1
  assert '1 to 25, median 1, 95 % up to 2' in lines[0]


def test_the_sample_is_the_same_every_time_and_has_every_task():
  found = {'train': [types.Record(str(i), '?', 'x', 'text', task=task)
                     for i, task in enumerate(['a'] * 90 + ['b'] * 5 + ['c'])],
           'test': [types.Record('t', '?', 'x', 'text', task='d')]}
  chosen = inspect.sample(found, 8)
  assert chosen == inspect.sample(found, 8) and len(chosen) == 8
  assert sorted(r.task for _, r in chosen[:4]) == list('abcd')
  assert {split for split, _ in chosen} == {'train', 'test'}
  everything = inspect.sample(found, 1000)
  assert len({(s, r.id) for s, r in everything}) == len(everything) == 97


@pytest.mark.parametrize('change, said', [
    (['--root', 'nowhere'], 'no data root'),
    (['--options', '{"fil": "x"}'], "did you mean 'file'"),
    (['--tokenizer', 'nowhere'], 'no tokenizer in'),
    (['--split', 'training'], 'expected one of train')])
def test_errors(root, capsys, change, said):
  with pytest.raises(SystemExit) as error:
    run(root, [row('a', '')], capsys, *change)
  assert error.value.code == 2 and said in capsys.readouterr().err


def test_no_function():
  with pytest.raises(ValueError, match='is no function; expected one like'):
    inspect.read('medrl.data.jsonl', '', ['train'], {})


@pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')
def test_real_set(tmp_path, capsys):
  code = inspect.main([
      'medrl.data.jsonl.records', '--root', str(DATA), '--out', str(tmp_path),
      '--options', '{"file": "derived_vqa/vqa.jsonl"}', '--opened', '30',
      '--limit', '12'])
  out = capsys.readouterr().out
  assert code == 0 and 'images: 90' in out and '12 of them' not in out
  # 300, 148 and 92 by the set's own note; two files are one.
  assert '300   55.6%  benign' in out
  assert 'images/benign_433.jpg = images/malignant_145.jpg' in out
