"""Real questions with their right answers, as records; read, never copied.

The data lie beside the repository; where they do not, the tests skip. Nothing
is scored here.
"""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import json
import pathlib
import random
import re

import pytest

from medrl import types

DATA = pathlib.Path(__file__).parents[4] / 'shared' / 'data'
SEED = 20
CELLS = {'A': 'Platelets', 'B': 'RBC', 'C': 'WBC'}
# MedCalc's calculators of dates, of weeks and days, and of kilograms.
DATES, GESTATION = (13, 68), 69
MASSES = (10, 61, 62)
_FILM = re.compile(
    r'(?i)(?:chest (?:x-?ray|radiograph|ct)|(?:x-?ray|radiograph) of the chest)'
    r'.*(?:show|reveal|demonstrat)')


def _rows(path: str) -> Iterator[dict]:
  file = DATA / path
  if not file.exists():
    pytest.skip(f'the data set {path} is not beside the repository')
  with file.open(encoding='utf-8') as lines:
    for line in lines:
      yield json.loads(line)


def _choice(file: str, kind: str = 'choice') -> list[types.Record]:
  """Multiple choice; as `text`, the right option's text is asked for."""
  rows = _rows(f'medical_mcq/{file}.jsonl')
  return [types.Record(
      id=r['id'], question=r['question'], answer_type=kind,
      options=r['options'] if kind == 'choice' else {},
      answer=r['answer'] if kind == 'choice' else r['options'][r['answer']])
          for r in rows]


def _busi(kind: str) -> list[types.Record]:
  """Ultrasound: normal, benign or malignant, also as grades in this order."""
  options = {'A': 'normal', 'B': 'benign', 'C': 'malignant'}
  keys = {text: key for key, text in options.items()}
  return [types.Record(
      id=r['id'], question='Which class is it?', answer_type=kind,
      options={} if kind == 'text' else options,
      answer=r['label'] if kind == 'text' else keys[r['label']])
          for r in _rows('busi/labels.jsonl')]


def _pubmedqa(kind: str) -> list[types.Record]:
  """Yes, no or maybe; `yesno` leaves the maybes out."""
  options = {'A': 'yes', 'B': 'no', 'C': 'maybe'}
  keys = {text: key for key, text in options.items()}
  return [types.Record(
      id=r['id'], question=r['question'], answer_type=kind,
      options=options if kind == 'choice' else {},
      answer=keys[r['final_decision']] if kind == 'choice'
      else r['final_decision'])
          for r in _rows('pubmedqa/pqal_train500.jsonl')
          if kind != 'yesno' or r['final_decision'] != 'maybe']


def _medcalc(kind: str = '', label: str = 'v1') -> list[types.Record]:
  """MedCalc of one answer type or, without it, of all its four.

  `label` is 'v1', as published, or 'corrected', where a note that lacks the
  data is unanswerable and durations are in days.
  """
  out = []
  for r in _rows('medcalc/medcalc_v1.jsonl'):
    number, said = int(r['calculator_id']), r[f'answer_{label}']
    own = ('date' if number in DATES else 'duration' if number == GESTATION
           else {'integer': 'int', 'decimal': 'interval'}[r['output_type']])
    mass = kind == 'quantity' and number in MASSES
    as_float = mass or kind == 'float' and own == 'interval'
    if said is None or kind not in ('', own) and not as_float:
      continue
    meta, answer = {'calculator': number}, said
    if said != types.UNANSWERABLE:
      answer = _READ[own](said)
      meta['limits'] = tuple(float(r[f'{end}_{label}']) if own == 'interval'
                             else 0.0 for end in ('lower', 'upper'))
    out.append(types.Record(
        id=r['id'], question=r['question'], meta=meta, answer=answer,
        answer_type=kind if as_float else own, unit='kg' if mass else '',
        tolerance={'rel': 0.05} if as_float else {}))
  return out


def _iso(text: str) -> str:
  month, day, year = text.split('/')
  return f'{int(year):04}-{int(month):02}-{int(day):02}'


def _weeks(text: str) -> tuple[int, ...]:
  found = tuple(map(int, re.findall(r'\d+', text)))
  return found if len(found) == 2 else divmod(found[0], 7)


_READ = {'int': int, 'interval': float, 'date': _iso, 'duration': _weeks}


def _cells(kind: str) -> list[types.Record]:
  """Blood smears; red cells are labelled in part, so boxes leave them out."""
  out = []
  for r in _rows('bccd/annotations.jsonl'):
    boxes = [(o['label'], o['box']) for o in r['objects']]
    white = [box for label, box in boxes if label == 'WBC']
    there = {label for label, _ in boxes}
    if (kind == 'box' and len(white) != 1) or not there:
      continue
    answer = {
        'box': white[0] if white else None,
        'boxes': [box for label, box in boxes if label != 'RBC'],
        'int': sum(label == 'Platelets' for label, _ in boxes),
        'choices': [key for key, cell in CELLS.items() if cell in there],
        'labels': sorted(there),
        'states': {cell: 'positive' if cell in there else 'negative'
                   for cell in CELLS.values()}}[kind]
    out.append(types.Record(
        id=r['id'], question='Which cells are there?', answer_type=kind,
        options=CELLS if kind == 'choices' else {}, answer=answer))
  return out


def _spots(kind: str) -> list[types.Record]:
  """The white cell's centre, or its box as a polygon; written as the text."""
  out = []
  for r in _cells('box'):
    a, b, c, d = r.answer
    point, outline = [[(a + c) / 2, (b + d) / 2]], [[a, b, c, b, c, d, a, d]]
    out.append(types.Record(
        id=r.id, question='Where is the white cell?', answer_type='text',
        answer=str(point[0] if kind == 'points' else outline),
        meta={'width': 640, 'height': 480, 'points': point, 'mask': outline}))
  return out


def _reports() -> list[types.Record]:
  """What examination questions report of a chest film, as reports."""
  out = []
  for file in ('medqa_usmle_test', 'medxpertqa_text', 'medxpertqa_mm_textonly'):
    for r in _rows(f'medical_mcq/{file}.jsonl'):
      said = [s for s in re.split(r'(?<=[.?!])\s+|\n', r['question'])
              if _FILM.search(s) and not s.endswith('?')]
      if said:
        out.append(types.Record(
            id=r['id'], question='Describe the film.', answer_type='text',
            answer=' '.join(said)))
  return out


SETS: dict[str, Callable[[], list[types.Record]]] = {
    'medqa': functools.partial(_choice, 'medqa_usmle_test'),
    'medmcqa': functools.partial(_choice, 'medmcqa_val'),
    'mmlu': functools.partial(_choice, 'mmlu_medical_test'),
    'medxpertqa': functools.partial(_choice, 'medxpertqa_text'),
    'medxpertqa-mm': functools.partial(_choice, 'medxpertqa_mm_textonly'),
    'medqa-text': functools.partial(_choice, 'medqa_usmle_test', 'text'),
    'pubmedqa': functools.partial(_pubmedqa, 'yesnomaybe'),
    'pubmedqa-choice': functools.partial(_pubmedqa, 'choice'),
    'pubmedqa-yesno': functools.partial(_pubmedqa, 'yesno'),
    'busi': functools.partial(_busi, 'choice'),
    'busi-text': functools.partial(_busi, 'text'),
    'busi-grade': functools.partial(_busi, 'ordinal'),
    'medcalc-int': functools.partial(_medcalc, 'int'),
    'medcalc-float': functools.partial(_medcalc, 'float'),
    'medcalc-text': lambda: [
        dataclasses.replace(r, answer_type='text', answer=str(r.answer))
        for r in _medcalc('int')],
    'medcalc': _medcalc,
    'medcalc-fixed': functools.partial(_medcalc, '', 'corrected'),
    'medcalc-mass': functools.partial(_medcalc, 'quantity'),
    'medcalc-interval': functools.partial(_medcalc, 'interval', 'corrected'),
    'medcalc-date': functools.partial(_medcalc, 'date'),
    'medcalc-duration': functools.partial(_medcalc, 'duration'),
    'chest-films': _reports,
    'bccd-box': functools.partial(_cells, 'box'),
    'bccd-boxes': functools.partial(_cells, 'boxes'),
    'bccd-points': functools.partial(_spots, 'points'),
    'bccd-masks': functools.partial(_spots, 'masks'),
    'bccd-count': functools.partial(_cells, 'int'),
    'bccd-choices': functools.partial(_cells, 'choices'),
    'bccd-labels': functools.partial(_cells, 'labels'),
    'bccd-states': functools.partial(_cells, 'states'),
}


@functools.cache
def sample(name: str, size: int) -> tuple[types.Record, ...]:
  """Returns at most `size` records of a set, the same ones every time."""
  found = SETS[name]()
  return tuple(random.Random(SEED).sample(found, min(size, len(found))))
