"""Real films, a CT volume, a cine loop, an ECG on paper and text, as records.

What is asked follows from the files themselves: the plane that was cut, the
time a loop takes, the beats that were annotated. Not a test.
"""

import functools
import json
import pathlib

import numpy as np

from medrl.data import jsonl

CINE = 'dicom/files/examples_ybr_color.dcm'
PARTS = {
    'film': {'dataset': 'medrl.data.medmnist.records', 'options': {
        'folder': 'pneumoniamnist', 'size': 112, 'question': 'Pneumonia?',
        'options': ['normal', 'pneumonia'], 'limit': 48}},
    'volume': {'dataset': 'tests.trainers.real_kinds.volumes'},
    'cine': {'dataset': 'tests.trainers.real_kinds.loops'},
    'ecg': {'dataset': 'tests.trainers.real_kinds.strips'},
    'text': {'dataset': 'medrl.data.tabular.records', 'options': {
        'file': 'pubmedqa/pqal_train500.jsonl', 'limit': 48, 'fields': {
            'id': 'id', 'question': 'question', 'answer': 'final_decision',
            'answer_type': {'const': 'yesnomaybe'}}}},
}


def _records(name, root, split, lines):
  """Lines as `medrl.data.jsonl` reads them, from a file of their own."""
  import tempfile
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / f'{name}.jsonl'
    path.write_text('\n'.join(map(json.dumps, lines)))
    yield from jsonl.records(root, split, file=str(path), validation=.25,
                             test=0.)


def volumes(root, split):
  planes = ('axial', 'coronal', 'sagittal')
  lines = []
  for name in ('CT_AVM.nii.gz', 'MR_Gd.nii.gz', 'someones_anatomy.nii.gz'):
    for plane in planes:
      for count in (3, 4):
        lines.append({
            'id': f'{name}/{plane}/{count}', 'images': [{
                'path': f'nifti/{name}', 'plane': plane, 'count': count}],
            'question': 'Which plane?', 'answer_type': 'choice',
            'options': dict(zip('ABC', planes)), 'task': 'plane',
            'answer': 'ABC'[planes.index(plane)], 'subject': name + plane})
  return _records('volumes', root, split, lines)


def loops(root, split):
  lines = []
  for start in range(0, 20):
    frames = list(range(start, start + 4 + start % 5, 1))
    lines.append({
        'id': f'loop/{start}', 'images': [{'path': CINE, 'frames': frames}],
        'question': 'How many frames?', 'answer_type': 'int',
        'answer': len(frames), 'task': 'frames', 'subject': f'part {start}'})
  return _records('loops', root, split, lines)


@functools.cache
def _beats(root):
  from medrl.media import ecg
  samples, symbols = ecg.annotations('ecg/wfdb/100.atr', root)
  return np.array([s for s, kind in zip(samples, symbols) if kind in 'NAV'])


def strips(root, split):
  lines = []
  for start in range(0, 600, 10):
    own = _beats(root)[(_beats(root) >= 360 * start)
                       & (_beats(root) < 360 * (start + 10))]
    rate = 60 * 360 * (len(own) - 1) / (own[-1] - own[0])
    lines.append({
        'id': f'100/{start}', 'images': [{
            'path': 'ecg/wfdb/100.hea', 'seconds': [start, start + 5],
            'leads': ['MLII'], 'layout': 'strips', 'length': 5,
            'pixels_per_mm': 3}],
        'question': 'Heart rate per minute?', 'answer_type': 'float',
        'answer': round(float(rate), 1), 'tolerance': {'rel': .05},
        'task': 'rate', 'subject': f'ten seconds from {start}'})
  return _records('strips', root, split, lines)
