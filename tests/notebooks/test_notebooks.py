"""Both notebooks run from start to end on two small real runs."""

import base64
import io
import os
import pathlib

import nbclient
import nbformat
from PIL import Image
import pytest

from tests.evals import small_run

ROOT = pathlib.Path(__file__).parents[2]
BOOKS = ('inspect_run', 'compare_runs')
FOLDERS = ['.', pytest.param('notebooks', marks=pytest.mark.slow)]


def read(name):
  return nbformat.read(ROOT / 'notebooks' / f'{name}.ipynb', as_version=4)


@pytest.mark.parametrize('name', BOOKS)
def test_committed_without_results(name):
  book = read(name)
  nbformat.validate(book)
  assert book.nbformat_minor >= 5
  assert len({cell.id for cell in book.cells}) == len(book.cells)
  for cell in book.cells:
    if cell.cell_type == 'code':
      assert not cell.outputs and cell.execution_count is None
      # They look at results and define nothing.
      assert not any(line.startswith(('def ', 'class '))
                     for line in cell.source.splitlines())


def executed(name, folder, monkeypatch):
  workdirs = list(map(str, small_run.workdirs()))
  monkeypatch.setenv('MEDRL_WORKDIR', workdirs[0])
  monkeypatch.setenv('MEDRL_WORKDIRS', os.pathsep.join(workdirs))
  book = read(name)
  nbclient.NotebookClient(
      book, timeout=300, kernel_name='python3',
      resources={'metadata': {'path': str(ROOT / folder)}}).execute()
  text, pictures = '', []
  for cell in book.cells:
    for out in cell.get('outputs', ()):
      if out.output_type == 'stream' and out.name == 'stdout':
        text += out.text
      elif 'image/png' in out.get('data', {}):
        data = base64.b64decode(out.data['image/png'])
        pictures.append(Image.open(io.BytesIO(data)).size)
  return text, pictures


@pytest.mark.parametrize('folder', FOLDERS)
def test_inspect_run(folder, monkeypatch):
  text, pictures = executed('inspect_run', folder, monkeypatch)
  # Two of curves, training answers, held-out answers, the one asked now.
  assert len(pictures) == 5 and min(min(size) for size in pictures) > 200
  for part in ('rl.advantage ', 'medrl.rl.advantages.group_norm',
               'parse_rate/box', 'steps: [1, 2]', 'all layers (2, 32, 4, 8)',
               'the first (32, 4, 8) float32 4,096 bytes read'):
    assert part in text
  everything = next(line for line in text.splitlines()
                    if line.startswith('all  '))
  assert everything.split()[1] == '127,840'


@pytest.mark.parametrize('folder', FOLDERS)
def test_compare_runs(folder, monkeypatch):
  text, pictures = executed('compare_runs', folder, monkeypatch)
  assert len(pictures) == 3   # curves, supervised curves, answers
  rows = [line.split() for line in text.splitlines()]
  assert ['seed', '0', '1'] in rows
  assert [row for row in rows if row[2:3] in (['accuracy'], ['mean_iou'])
          and row[-1] == '3' and len(row) == 7]
