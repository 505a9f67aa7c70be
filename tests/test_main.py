"""What a user gets told: one line, with the record or the key, and no trace.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from tests.trainers import small

ROOT = pathlib.Path(__file__).parents[1]


def command(*arguments) -> str:
  """The last words of a command that is to fail."""
  done = subprocess.run(
      [sys.executable, '-m', 'medrl.main', *arguments], cwd=ROOT, check=False,
      capture_output=True, text=True,
      env={**os.environ, 'PYTHONPATH': str(ROOT)})
  assert done.returncode == 2, done.stderr
  assert 'Traceback' not in done.stderr
  return done.stderr.splitlines()[-1]


@pytest.mark.parametrize('flag, says', [
    ('--config.rl.clip_hihg=0.3',
     "ValueError: unknown config key 'rl.clip_hihg'; did you mean "
     "'rl.clip_high' or 'rl.clip_low'"),
    ('--config.stpes=3', "ValueError: unknown config key 'stpes'; ")])
def test_ac9_an_unknown_config_key_ends_in_one_line(tmp_path, flag, says):
  last = command('--config=experiments/phantom.py:runlocal', flag,
                 f'--workdir={tmp_path}')
  assert last.startswith(says)
  assert list(tmp_path.iterdir()) == []


def lines(folder, name, rows):
  """Writes JSON lines over images that are there, and returns the file."""
  rng = np.random.default_rng(0)
  for index in range(6):
    pixels = rng.integers(0, 255, (56, 84, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f'{index}.jpg')
  whole = (folder / '0.jpg').read_bytes()
  (folder / 'torn.jpg').write_bytes(whole[:len(whole) // 2])
  base = {'question': 'Is it there?', 'answer': 'yes', 'answer_type': 'yesno'}
  (folder / name).write_text('\n'.join(json.dumps(base | row) for row in rows))
  return name


GOOD = [{'id': f'good-{i}', 'images': [f'{i}.jpg']} for i in range(6)]
BAD = {
    'missing': {'id': 'lost', 'images': ['nowhere.jpg']},
    'torn': {'id': 'torn', 'images': ['torn.jpg']},
    'long': {'id': 'long', 'images': ['0.jpg'],
             'question': 'Is there a fracture, or a shadow like one? ' * 20},
    # Too long by its images, which are never cut either.
    'large': {'id': 'large', 'images': [f'{i}.jpg' for i in range(6)]}}
OPTION = {'id': 'wrong', 'images': ['0.jpg'], 'answer': 'D',
          'answer_type': 'choice', 'options': {'A': 'left', 'B': 'right'}}


def settings(root, rows, **changed):
  """Changes to the small run that train on `rows` and evaluate on good ones."""
  return {
      'data__dataset': 'medrl.data.jsonl.records', 'data__root': str(root),
      'data__options': {'file': lines(root, 'bad.jsonl', rows),
                        'validation': 0., 'test': 0.},
      'eval__options': {'file': lines(root, 'good.jsonl', GOOD)},
      'eval__split': 'train', **changed}


@pytest.mark.parametrize('name, says', [
    ('missing', "record 'lost' cannot be used: FileNotFoundError: no file .*"
     'nowhere.jpg'),
    ('torn', "record 'torn' cannot be used: .*torn.jpg' cannot be read as an"),
    ('long', "'long' cannot be used: prompt too long: .* needs .* largest "
     'bucket has 64 and 64')])
def test_ac9_a_bad_record_is_named_and_the_last_save_is_whole(
    tmp_path, name, says):
  data = tmp_path / 'data'
  data.mkdir()
  with pytest.raises(ValueError, match=says):
    small.train(tmp_path / 'run', **settings(data, [BAD[name]]))
  there = sorted(p.name for p in (tmp_path / 'run' / 'checkpoints').iterdir())
  assert there == ['0']


def test_ac9_bad_records_are_skipped_and_counted_where_the_config_says_so(
    tmp_path):
  found = small.train(tmp_path / 'run', **settings(
      tmp_path, GOOD + list(BAD.values()), data__on_bad='skip'))
  last = found[3]
  counts = {name: value for name, value in last.items()
            if name.startswith('data/bad/')}
  assert set(counts) <= {'data/bad/FileNotFoundError', 'data/bad/Undecodable',
                         'data/bad/prompt_too_long'}
  # Three steps of four places; another record stands in each bad one's place.
  assert counts and last['data/seen'] == 12


def test_ac9_an_answer_that_is_no_option_ends_in_one_line(tmp_path):
  lines(tmp_path, 'all.jsonl', [OPTION])
  last = command(
      '--config=experiments/ultrasound.py:runlocal',
      f'--workdir={tmp_path / "run"}', f'--config.data.root={tmp_path}',
      '--config.data.options.file=all.jsonl')
  assert last.startswith("ValueError: all.jsonl:1: record 'wrong': answer 'D' "
                         'to a question of type choice; expected a letter of '
                         "the options ['A', 'B']")
