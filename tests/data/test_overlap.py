import dataclasses
import io
import json
import logging
import os
import pathlib
import shutil

import numpy as np
from PIL import Image
import pytest

from medrl import types
from medrl.data import overlap
from medrl.data import overlap_files
from medrl.data import phantom

DATA = pathlib.Path(__file__).parents[3] / 'shared/data'
IMAGE = 'medrl.media.image.load'
QUESTION = 'What does this image show?'


def record(name, *paths, question=QUESTION, loader=IMAGE, **more):
  return types.Record(
      id=name, question=question, answer='x', answer_type='text',
      media=tuple(types.Media(p, loader) for p in paths), **more)


def clip(path, root):
  """A loader of clips and signals for the tests of 'look'."""
  frames = np.load(pathlib.Path(root) / path)
  if frames.ndim == 2:
    return types.Signal(frames, 100., ('I', 'II'))
  return types.Clip(frames, np.arange(len(frames)) / 10)


def image(seed, side=80):
  rng = np.random.default_rng(seed)
  return Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(
      (side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path):
  for name in 'abcdef':
    image(ord(name)).save(tmp_path / f'{name}.png')
  return tmp_path


def found(first, second, root, **options):
  report = overlap.find(first, second, str(root), str(root), **options)
  return {c.name: (c.first, c.second, c.pairs) for c in report.checks}


NONE = dict.fromkeys(overlap.CHECKS, (0, 0, 0))
HIT = (1, 1, 1)


def test_nothing_in_common(root):
  assert found([record('1', 'a.png', subject='p'), record('2', 'b.png')],
               [record('1', 'c.png', subject='q'), record('2', 'd.png')],
               root) == NONE


def test_a_patient_with_another_image(root):
  assert found([record('1', 'a.png', subject='p'), record('2', 'b.png')],
               [record('3', 'c.png', subject='p'), record('4', 'd.png')],
               root) == NONE | {'subject': HIT}


def test_a_file_under_another_name(root):
  shutil.copy(root / 'a.png', root / 'z.png')
  assert found([record('1', 'a.png'), record('2', 'b.png', question='Which?')],
               [record('3', 'z.png', question='Where?')], root) == NONE | {
                   'bytes': HIT, 'look': HIT}
  # The same question of the same image is the same item.
  assert found([record('1', 'a.png'), record('2', 'b.png')],
               [record('3', 'z.png', question='what does this image SHOW')],
               root)['text'] == HIT


def test_an_image_encoded_anew(root):
  image(ord('a')).resize((57, 57)).save(root / 'z.jpg', quality=70)
  assert found([record('1', 'a.png'), record('2', 'b.png')],
               [record('3', 'z.jpg')], root) == NONE | {
                   'look': HIT, 'text': HIT}


def test_a_question_without_media(root):
  first = [record('1', question='Which drug lowers LDL?', options={
      'A': 'Atorvastatin', 'B': 'Insulin'})]
  second = [record('2', question='which drug lowers ldl', options={
      'A': 'insulin.', 'B': 'atorvastatin'})]
  assert found(first, second, root) == NONE | {'text': HIT}
  assert found(first, second, root, checks=['subject']) == {
      'subject': (0, 0, 0)}


def test_near_questions_by_trigrams(root):
  words = 'a 61 year old man has chest pain after a meal with nuts'
  first, second = [record('1', question=words)], [
      record('2', question=words.replace('61', '62'))]
  assert found(first, second, root)['text'] == (0, 0, 0)
  assert found(first, second, root, jaccard=.6)['text'] == HIT
  # A template with media stays one, however near.
  assert found([dataclasses.replace(first[0], media=(types.Media('a.png'),))],
               second, root, jaccard=.1)['text'] == (0, 0, 0)


def test_pairs_are_counted_once_however_many_ways_they_match(root):
  first = [record(str(i), 'a.png', 'b.png') for i in range(5)]
  second = [record(str(i), 'a.png', 'b.png') for i in range(3)] + [
      record(str(i), 'b.png') for i in range(3, 7)]
  assert found(first, second, root)['bytes'] == (5, 7, 35)


def test_generated_media_are_what_their_paths_say():
  worlds = list(phantom.records('', 'train', count=12))
  assert found(worlds, list(phantom.records('', 'test', count=12)), '') == NONE
  again = found(worlds, worlds[:4], '')
  assert again['bytes'][1] == again['subject'][1] == again['text'][1] == 4
  other = [dataclasses.replace(r, media=tuple(
      dataclasses.replace(m, options=dict(m.options) | {'noise': .5})
      for m in r.media), subject='') for r in worlds]
  assert found(worlds, other, '') == NONE


@pytest.mark.parametrize('loader', [types.Media('').loader,
                                    'medrl.media.image.load_npz'])
def test_images_of_an_archive_are_told_apart(root, loader):
  np.savez(root / 'x.npz', images=np.zeros((3, 4, 4), np.uint8))
  shutil.copy(root / 'x.npz', root / 'y.npz')
  def row(path, index):
    media = types.Media(path, loader, {'key': 'images', 'index': index})
    return types.Record(path, QUESTION, 'x', 'text', media=(media,))
  assert found([row('x.npz', 0)], [row('y.npz', 1)], root)['bytes'] == (0, 0, 0)
  assert found([row('x.npz', 1)], [row('y.npz', 1)], root)['bytes'] == HIT


def test_folders_share_a_slice_but_not_an_index_or_blanks(root):
  rng = np.random.default_rng(0)
  for name in 'pqr':
    (root / name).mkdir()
    (root / name / 'index').write_bytes(b'the same in every folder')
    (root / name / 'air').write_bytes(b'\x18\xfc' * 500)
    for i in range(3):
      (root / name / f'{i}.dcm').write_bytes(rng.bytes(1000))
  pair = [record('1', 'p')], [record('2', 'q')], root
  assert found(*pair, checks=['bytes'])['bytes'] == (0, 0, 0)
  shutil.copy(root / 'p/1.dcm', root / 'q/9.dcm')
  assert found(*pair, checks=['bytes'])['bytes'] == HIT
  # Nor need the other set have folders.
  shutil.copy(root / 'r/2.dcm', root / 'single.dcm')
  assert found([record('1', 'r')], [record('2', 'single.dcm')], root,
               checks=['bytes'])['bytes'] == HIT


def test_signals_are_those_that_a_header_names(root):
  rng = np.random.default_rng(0)
  for name, data in ('x', b'1' * 900), ('y', rng.bytes(900)), ('z', b''):
    (root / f'{name}.hea').write_text(
        f'# a comment\n{name} 1 360 450\n{name}.dat 16 200/mV 12 0 0 0 0 II\n')
    (root / f'{name}.dat').write_bytes(data)
  shutil.copy(root / 'y.dat', root / 'z.dat')
  def pair(a, b):
    return found([record('1', f'{a}.hea')], [record('2', f'{b}.hea')], root,
                 checks=['bytes'])['bytes']
  assert pair('x', 'y') == (0, 0, 0) and pair('y', 'z') == HIT


def test_clips_and_signals_by_look(root):
  def save(name, seeds):
    np.save(root / name, np.stack([np.asarray(image(s)) for s in seeds]))
  save('one', range(10, 40))
  save('two', range(50, 80))
  # Of both the same eight frames are compared.
  save('copy', range(10, 40))
  np.save(root / 'ecg', np.random.default_rng(0).normal(size=(2, 50)))
  def make(name):
    return record(name, f'{name}.npy', loader=f'{__name__}.clip')
  assert found([make('one')], [make('two')], root, checks=['look']) == {
      'look': (0, 0, 0)}
  assert found([make('one'), make('two')], [make('copy')], root,
               checks=['look'])['look'] == HIT
  report = overlap.find([make('ecg')], [make('one')], str(root), str(root),
                        checks=['look'])
  assert report.checks[0].unchecked == (1, 0)


def test_drawings_of_signals_are_not_compared_by_look(root):
  image(0).save(root / 'x.csv', 'PNG')
  image(1).save(root / 'y.png')
  report = overlap.find([record('1', 'x.csv'), record('2', 'y.png')], [],
                        str(root), str(root), checks=['look'])
  assert report.checks[0].unchecked == (1, 0)


def test_options_of_a_window_do_not_hide_a_file(root):
  def read(name, **options):
    media = types.Media('a.png', options=options)
    return types.Record(name, QUESTION, 'x', 'text', media=(media,))
  assert found([read('1', window='lung')], [read('2', window='bone')], root,
               checks=['bytes'])['bytes'] == HIT


def test_copies_in_one_set(root):
  shutil.copy(root / 'a.png', root / 'z.png')
  (root / 'cine').mkdir()
  for i in range(2):   # a clip may stand still
    shutil.copy(root / 'b.png', root / f'cine/{i}.png')
  names = 'a.png', 'z.png', 'c.png', 'cine'
  media = {name: types.Media(name) for name in names}
  copies, = overlap_files.copies(media, str(root))
  assert [path.name for path in copies] == ['a.png', 'z.png']


def test_what_cannot_be_compared_is_counted(root, caplog):
  (root / 'bad.png').write_bytes(b'no image')
  (root / 'none.png').write_bytes(b'')
  image(1).resize((9, 9)).point(lambda _: 7).save(root / 'blank.png')
  os.symlink(DATA, root / 'out')
  first = [record('1', 'bad.png'), record('2', 'none.png'),
           record('3', 'blank.png'), record('4', 'gone.png', loader=(
               types.Media('').loader)), record('5', '../x.png'),
           record('6', 'out', question='', subject='JANE')]
  with caplog.at_level(logging.INFO):
    report = overlap.find(first, [record('7', 'a.png')], str(root), str(root))
  assert {c.name: c.unchecked for c in report.checks} == {
      'subject': (5, 1), 'bytes': (4, 0), 'look': (6, 0), 'text': (1, 0)}
  assert not report.overlapping
  assert 'JANE' not in caplog.text + overlap.table(report)


def test_text_alone_cannot_judge_records_with_media(root):
  report = overlap.find([record('1', 'a.png'), record('2')],
                        [record('1', 'a.png')], str(root), str(root),
                        checks=['text'])
  assert report.checks[0].unchecked == (1, 1) and not report.overlapping


def test_examples_are_record_ids(root):
  first = [record(f'x{i}', subject='JANE', question='') for i in range(4)]
  second = [record(f'y{i}', subject='JANE', question='') for i in range(3)]
  report = overlap.find(first, second, str(root), str(root), examples=10)
  check = report.checks[0]
  assert (check.first, check.second, check.pairs) == (4, 3, 12)
  assert check.examples == (('x0', 'y0'),)
  for text in (overlap.table(report), repr(report)):
    assert 'JANE' not in text and 'x0' in text


def test_refuse(root, caplog):
  first, second = [record('x', subject='JANE')], [record('y', subject='JANE')]
  report = overlap.find(first, second, str(root), str(root), checks=['subject'])
  with pytest.raises(ValueError) as error:
    overlap.refuse(report)
  assert "subject: 1 of 1 and 1 of 1 records (as 'x' and 'y')" in str(
      error.value)
  assert 'medrl.data.splits' in str(error.value)
  overlap.refuse(report, 'off')
  assert not caplog.messages
  overlap.refuse(report, 'warn')
  assert 'the two sets overlap' in caplog.text and 'JANE' not in caplog.text
  none = overlap.find(first, [record('y')], str(root), str(root),
                      checks=['subject'])
  overlap.refuse(none, 'refuse')
  with pytest.raises(ValueError, match='expected one of refuse'):
    overlap.refuse(none, 'ignore')


def test_unknown_check(root):
  with pytest.raises(ValueError, match="check 'name'; expected some of"):
    overlap.find([], [], str(root), str(root), checks=['name'])


def lines(path, records):
  path.write_text(''.join(json.dumps({
      'id': i, 'images': images, 'question': q, 'answer': 'x',
      'answer_type': 'text', 'subject': s}) + '\n'
                          for i, images, q, s in records))


def test_command(root, capsys):
  lines(root / 'one.jsonl', [('1', ['a.png'], 'Q?', 'p'), ('2', [], 'R?', 'q')])
  lines(root / 'two.jsonl', [('3', ['a.png'], 'Z?', 'r'), ('4', [], 'r', 's')])
  command = ['medrl.data.jsonl.records', 'medrl.data.jsonl.records', '--root',
             str(root), '--split2', 'train', '--checks', 'subject', 'bytes',
             'text', '--options', json.dumps(
                 {'file': 'one.jsonl', 'validation': 0, 'test': 0})]
  options2 = ['--options2', json.dumps(
      {'file': 'two.jsonl', 'validation': 0, 'test': 0})]
  assert overlap.main([*command, *options2, '--report',
                       str(root / 'report.json')]) == 1
  out = capsys.readouterr().out
  assert 'text: 2 = 4' in out and 'OVERLAP' in out
  report = json.loads((root / 'report.json').read_text())
  assert [(c['name'], c['pairs']) for c in report['checks']] == [
      ('subject', 0), ('bytes', 1), ('text', 1)]
  assert overlap.main([*command, *options2, '--checks', 'subject']) == 0
  assert 'no overlap' in capsys.readouterr().out
  for wrong, said in (['--options', '{"fil": 1}'], "did you mean 'file'"), (
      ['--root', str(root / 'none')], 'no data root'):
    with pytest.raises(SystemExit) as error:
      overlap.main([*command, *wrong])
    assert error.value.code == 2 and said in capsys.readouterr().err


def real(folder):
  entries = map(json.loads, (DATA / folder / 'labels.jsonl').open())
  return [record(e['id'], f'{folder}/{e["image"]}', subject=folder + e['id'])
          for e in entries]


@pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')
def test_planted_overlaps_of_real_images(tmp_path):
  first, second = real('busi')[:120], real('isic2017')[:120]
  assert found(first, second, DATA) == NONE
  copies = []
  for n, r in enumerate(first[:8]):
    with Image.open(DATA / r.media[0].path) as original:
      file = io.BytesIO()
      side = 120 + 40 * n
      original.resize((side, side)).save(file, 'JPEG', quality=60 + 5 * n)
    (tmp_path / f'{n}.jpg').write_bytes(file.getvalue())
    copies.append(record(f'copy{n}', f'{n}.jpg', question=f'Is this {n}?'))
  shutil.copy(DATA / first[20].media[0].path, tmp_path / 'same.jpg')
  copies += [record('same', 'same.jpg', question='Is it?'),
             record('patient', '0.jpg', question='Is it 0?',
                    subject=first[30].subject)]
  report = overlap.find(first, copies, str(DATA), str(tmp_path))
  got = {c.name: (c.second, c.pairs) for c in report.checks}
  # By look one pair more, as benign_105 and benign_156 are the same lesion.
  assert got == {'subject': (1, 1), 'bytes': (1, 1), 'look': (10, 11),
                 'text': (0, 0)}


@pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')
def test_real_duplicates_that_a_random_split_leaves():
  # Two copies each of four lesions, seen to be so by eye.
  found_ = real('isic2017')
  report = overlap.find(found_[:500], found_[500:], str(DATA), str(DATA),
                        checks=['look'])
  assert report.checks[0].examples == (
      ('ISIC_0000164', 'ISIC_0014795'), ('ISIC_0000165', 'ISIC_0014788'),
      ('ISIC_0000204', 'ISIC_0014748'), ('ISIC_0000222', 'ISIC_0014846'))
