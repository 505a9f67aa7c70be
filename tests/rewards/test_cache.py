"""What is remembered, what is asked again, and what a replay refuses."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from medrl.rewards import cache

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = ['a', 'b', 'a', '\ud800\x00', '']


def asker(answers=str.upper):
  asked = []

  def ask(texts):
    asked.append(list(texts))
    return [answers(t) for t in texts]
  return ask, asked


def test_each_text_is_asked_once_and_never_again(tmp_path):
  folder = str(tmp_path / 'kept')
  ask, asked = asker()
  once = cache.recorded(ask, {'model': 'm'}, folder=folder, mode='record')
  assert once(TEXTS) == [t.upper() for t in TEXTS]
  assert asked == [['a', 'b', '\ud800\x00', '']]
  assert once(['b', 'c']) == ['B', 'C'] and asked[1:] == [['c']]
  replay = cache.recorded(None, {'model': 'm'}, folder=folder, mode='replay')
  assert replay([*TEXTS, 'c']) == [t.upper() for t in [*TEXTS, 'c']]


def test_off_keeps_nothing(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  ask, asked = asker()
  off = cache.recorded(ask, {})
  assert off(['a', 'a']) == ['A', 'A'] and off(['a']) == ['A']
  assert asked == [['a'], ['a']] and not list(tmp_path.iterdir())


def test_a_replay_never_guesses_and_names_the_key(tmp_path):
  replay = cache.recorded(None, {'model': 'm'}, folder=str(tmp_path),
                          mode='replay')
  with pytest.raises(LookupError, match=cache.key({'model': 'm'}, 'patient 7')
                     ) as error:
    replay(['patient 7', 'x'])
  assert 'patient' not in str(error.value) and '2 of 2' in str(error.value)


def test_a_key_is_of_all_that_changes_the_answer():
  keys = {cache.key(identity, text) for identity, text in [
      ({'model': 'm'}, 'a'), ({'model': 'n'}, 'a'), ({'model': 'm'}, 'b'),
      ({'model': 'm', 'temperature': 0}, 'a'), ({}, 'a'), ({}, '"a"'),
      ({'model': 'm'}, '\ud800'), ({'model': 'm'}, '\\ud800')]}
  assert len(keys) == 8
  assert cache.key({'a': 1, 'b': 2}, 't') == cache.key({'b': 2, 'a': 1}, 't')
  # A change would orphan every folder there is.
  assert cache.key({'model': 'm'}, 'a').startswith('ee2ee8288ac66846')


def test_failures_and_damage_are_asked_again(tmp_path):
  folder = str(tmp_path)
  ask, asked = asker(lambda t: cache.Failed('HTTP 500') if t == 'b' else t * 2)
  once = cache.recorded(ask, {}, folder=folder, mode='record')
  assert once(['a', 'b']) == ['aa', cache.Failed('HTTP 500')]
  once(['a', 'b'])
  assert asked[1:] == [['b']]
  for damage in ('', '{"answer": "a', '[]', '{}'):
    file = next(tmp_path.rglob('*.json'))
    file.write_text(damage)
    with pytest.raises(LookupError):
      cache.recorded(None, {}, folder=folder, mode='replay')(['a'])
    assert once(['a']) == ['aa']
    assert json.loads(file.read_text())['answer'] == 'aa'


def test_entries_are_private_and_hold_no_text(tmp_path):
  folder = tmp_path / 'kept'
  ask, _ = asker(lambda t: 'reply')
  cache.recorded(ask, {'model': 'm'}, folder=str(folder), mode='record')(
      ['patient 7'])
  file, = [f for f in folder.rglob('*') if f.is_file()]
  assert oct(file.stat().st_mode & 0o777) == '0o600'
  assert oct(file.parent.stat().st_mode & 0o777) == '0o700'
  assert 'patient' not in file.read_text()


def test_answers_must_be_as_many(tmp_path):
  with pytest.raises(ValueError, match='1 answers to 2 texts'):
    cache.recorded(lambda texts: ['x'], {})(['a', 'b'])


@pytest.mark.parametrize('options', [
    {'mode': 'on'}, {'mode': 'record'}, {'mode': 'replay'}, {'folder': 'x'}])
def test_wrong_modes(options):
  with pytest.raises(ValueError, match='expected one of off, record, replay'):
    cache.recorded(None, {}, **options)


SCRIPT = '''
import sys
from medrl.rewards import cache
once = cache.recorded(lambda texts: [t * 20000 for t in texts], {},
                      folder=sys.argv[1], mode='record')
print('go', flush=True)
i = 0
while True:
  i += 1
  once([str(i)])
'''


def test_a_killed_writer_leaves_whole_entries(tmp_path):
  process = subprocess.Popen(
      [sys.executable, '-c', SCRIPT, str(tmp_path)], stdout=subprocess.PIPE,
      env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True)
  process.stdout.readline()
  while len(list(tmp_path.rglob('*.json'))) < 20:
    pass
  process.kill()
  process.wait()
  process.stdout.close()
  for file in tmp_path.rglob('*.json'):
    assert len(json.loads(file.read_text())['answer']) >= 20000
