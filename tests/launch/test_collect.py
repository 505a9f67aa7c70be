"""One table of whatever runs there are."""

import csv
import json
import pathlib

import pytest

from launch import collect
from launch import sweep_read


def make(folder, weight, result=None, steps=2, **config):
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(
      {'seed': 0, 'rewards': {'format': {'weight': weight}}, **config}))
  (folder / 'metrics.jsonl').write_text(''.join(
      json.dumps({'step': s, 'reward/total': .5 * s}) + '\n'
      for s in range(steps)) + '{"step": 9, "torn')
  if result is not None:
    (folder / 'result.json').write_text(json.dumps(
        {'accuracy_after_rl': result, 'workdir': str(folder)}))
  return folder


@pytest.fixture
def folders(tmp_path, monkeypatch):
  """A run by itself, and a sweep of three of which one has not begun."""
  monkeypatch.chdir(tmp_path)
  make(pathlib.Path('one'), .1, .75)
  (pathlib.Path('one/sft')).mkdir()
  sweep = pathlib.Path('many/s')
  make(sweep / 'a/seed0', .1, .5, data={'buckets': [[64, 64]]})
  make(sweep / 'b/seed0', .3, steps=3)
  sweep_read.write_json(sweep / 'points.json', {
      'seeds': [0], 'points': [{'name': n, 'overrides': {}} for n in 'abc']})
  return ['one', 'many']


def test_what_differs_and_what_came(folders):
  found = collect.gather(folders, ['reward/total'])
  assert [(r['run'], r['status'], r['step']) for r in found] == [
      ('many/s/a/seed0', 'finished', 1), ('many/s/b/seed0', 'stopped', 2),
      ('many/s/c/seed0', 'missing', None), ('one', 'finished', 1)]
  assert found[0]['config'] == {'data.buckets': [[64, 64]],
                                'rewards.format.weight': .1}
  assert found[3]['config'] == {'data.buckets': None,
                                'rewards.format.weight': .1}
  assert found[3]['result'] == {'accuracy_after_rl': .75}
  assert [r['metrics']['reward/total'] for r in found] == [.5, 1., None, .5]


def test_files_hold_the_same_table(folders, capsys):
  collect.main([*folders, '--csv=t.csv', '--json=t.json', '--markdown=t.md'])
  assert not capsys.readouterr().out
  with open('t.csv', newline='', encoding='utf-8') as file:
    lines = list(csv.DictReader(file))
  rows = json.loads(pathlib.Path('t.json').read_text())
  assert [line['run'] for line in lines] == [row['run'] for row in rows]
  assert [line['accuracy_after_rl'] for line in lines] == ['0.5', '', '',
                                                           '0.75']
  collect.main(folders)
  assert capsys.readouterr().out == pathlib.Path('t.md').read_text()
  header, _, first, *_ = pathlib.Path('t.md').read_text().splitlines()
  assert [c.strip() for c in header.split('|')[1:-1]] == [
      'run', 'status', 'step', 'data.buckets', 'format.weight',
      'accuracy_after_rl']
  assert [c.strip() for c in first.split('|')[1:-1]] == [
      'many/s/a/seed0', 'finished', '1', '[[64, 64]]', '0.1', '0.5']


def test_a_folder_without_runs_is_named(tmp_path):
  with pytest.raises(SystemExit, match='holds no run'):
    collect.main([str(tmp_path)])
