import json

import pytest

from medrl.data import verl
from tests.records import build

ROW = dict(data_source='set', ability='qa', images=None,
           prompt=[dict(role='system', content='Be brief.'),
                   dict(role='user', content='Which? (A) x (B) y')],
           reward_model=dict(style='rule', ground_truth='B'),
           extra_info=dict(index=3, split='train'))


def read(root, *rows, **options):
  (root / 'a.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
  return list(verl.records(root, 'train', file={'train': 'a.jsonl'}, **options))


def test_options_inside_the_prompt(tmp_path):
  record, = read(tmp_path, ROW, fields=dict(
      options={'inline': 'auto'}, id='{data_source}-{extra_info.index}'))
  assert (record.id, record.question, record.answer) == ('set-3', 'Which?', 'B')
  assert record.task == 'qa' and not record.media
  assert record.meta == {'system': 'Be brief.', 'data_source': 'set'}


def test_without_a_map_the_truth_is_text(tmp_path):
  record, = read(tmp_path, ROW)
  assert (record.question, record.answer_type) == ('Which? (A) x (B) y', 'text')


def test_images_of_parquet_must_match_their_places(tmp_path):
  schema = {'data_source': 'string', 'ability': 'string', 'images': ['image'],
            'prompt': [{'role': 'string', 'content': 'string'}],
            'reward_model': {'style': 'string', 'ground_truth': 'string'}}
  rows = [{**ROW, 'images': [{'bytes': 'png:red', 'path': None}] * 2,
           'prompt': [{'role': 'user', 'content': '<image>' * n + 'Which?'}]}
          for n in (2, 1)]
  build.table(tmp_path / 'a.parquet', {'schema': schema, 'rows': rows})
  with pytest.raises(ValueError, match='a.parquet:2: placeholders and media'):
    list(verl.records(tmp_path, 'train', file={'train': 'a.parquet'}))
  record, = verl.records(tmp_path, 'train', file={'train': 'a.parquet'},
                         on_bad='skip')
  assert record.question == 'Which?' and len(record.media) == 2
