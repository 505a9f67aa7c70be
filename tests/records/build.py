"""Miniatures of published layouts, laid out in a folder as their sets are.

Binary files are made here from text, so that a reviewer can read them:
`x.rows.json` becomes the parquet or XLSX file x. `layout.json` holds the
reader, its options, the files to make and what records to expect.
"""

import io
import json
import pathlib
import shutil
import zipfile

from PIL import Image
import numpy as np
import openpyxl
import pyarrow
from pyarrow import parquet

FOLDER = pathlib.Path(__file__).parent
LAYOUTS = sorted(path.parent.name for path in FOLDER.glob('*/layout.json'))


def make(name, root):
  """Writes the files of a layout below `root`; returns its `layout.json`."""
  layout = json.loads((FOLDER / name / 'layout.json').read_text('utf-8'))
  for path in sorted((FOLDER / name).rglob('*')):
    target = root / path.relative_to(FOLDER / name)
    if path.is_dir() or path.name in ('layout.json', 'README.md'):
      continue
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith('.rows.json'):
      content = json.loads(path.read_text('utf-8'))
      target = target.with_name(path.name.removesuffix('.rows.json'))
      (xlsx if target.suffix == '.xlsx' else table)(target, content)
    else:
      shutil.copyfile(path, target)
  for path in layout.get('images', ()):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    # Whatever the name says, as in the published sets.
    (root / path).write_bytes(png('red'))
  for path in layout.get('wfdb', ()):
    wfdb(root / path)
  for outer, inner in layout.get('zip', {}).items():
    with zipfile.ZipFile(root / outer, 'w') as archive:
      archive.write(root / inner, inner)
    (root / inner).unlink()
  return layout


def png(colour, size=(16, 12), mode='RGB'):
  out = io.BytesIO()
  Image.new(mode, size, colour).save(out, 'PNG')
  return out.getvalue()


def bomb():
  """A PNG of 12 kB and 81 million pixels."""
  return png(0, (9_000, 9_000), '1')


def table(path, content, row_group_size=None):
  schema = pyarrow.schema([(name, _type(kind))
                           for name, kind in content['schema'].items()])
  rows = [_cell(row) for row in content['rows']]
  parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path,
                      row_group_size=row_group_size)


def _type(kind):
  if isinstance(kind, list):
    return pyarrow.list_(_type(kind[0]))
  if isinstance(kind, dict):
    return pyarrow.struct([(n, _type(k)) for n, k in kind.items()])
  if kind == 'image':   # as Hugging Face's `datasets` writes it
    return _type({'bytes': 'binary', 'path': 'string'})
  return getattr(pyarrow, kind)()


def _cell(value):
  if isinstance(value, list):
    return [_cell(item) for item in value]
  if isinstance(value, dict):
    return {key: _cell(item) for key, item in value.items()}
  if isinstance(value, str) and value.startswith('png:'):
    return png(value[4:])
  return value


def xlsx(path, rows):
  book = openpyxl.Workbook()
  for row in rows:
    book.active.append(row)
  book.save(path)


def wfdb(stem):
  """A record of two leads, format 16, 500 Hz."""
  stem.parent.mkdir(parents=True, exist_ok=True)
  values = np.arange(2000, dtype='<i2').reshape(1000, 2)
  stem.with_suffix('.dat').write_bytes(values.tobytes())
  lines = [f'{stem.name} 2 500 1000'] + [
      f'{stem.name}.dat 16 1000(0)/mV 16 0 0 0 0 {name}'
      for name in ('I', 'II')]
  stem.with_suffix('.hea').write_text('\n'.join(lines) + '\n')
