"""What the notebooks show: rows, tables, parameters and drawn boxes."""

import builtins

import matplotlib
import ml_collections
import numpy as np
from PIL import Image
import pytest

from medrl import types
from medrl.evals import inspect
from medrl.evals import run as evals

matplotlib.use('agg')


def record(name, images=(), kind='yesno', answer='yes'):
  return types.Record(id=name, question='What costs $5 and $6?', answer=answer,
                      answer_type=kind,
                      media=tuple(types.Media(i) for i in images))


def row(one, text):
  return {'record': evals.anonymous(one.source, one.id), 'completion': text}


def test_table():
  rows = [('a', 1234, 0.5, True), ('long name', 5, 0.123456, False)]
  assert inspect.table(('name', 'n', 'share', 'on'), rows).splitlines() == [
      'name           n   share     on',
      'a          1,234     0.5   True',
      'long name      5  0.1235  False']


def test_differences():
  configs = {'a': ml_collections.ConfigDict({'x': {'y': 1, 'z': 2}}),
             'b': ml_collections.ConfigDict({'x': {'y': 3, 'z': 2}, 'w': 0})}
  assert inspect.differences(configs) == [('w', '(absent)', 0), ('x.y', 1, 3)]


def test_curves(tmp_path):
  assert inspect.curves(tmp_path) == {}
  (tmp_path / 'metrics.jsonl').write_text(
      '{"step": 0, "a": 1.0}\n{"step": 1, "a": "nan", "b": 2}\n')
  found = inspect.curves(tmp_path)
  assert found['a'][0] == [0, 1] and np.isnan(found['a'][1][1])
  assert found['b'] == ([1], [2.0])


def test_plot_leaves_out_panels_without_a_curve():
  runs = {'a': {'r/x': ([0], [1.]), 'r/y': ([0], [2.])}, 'b': {'s': ([0], [1])}}
  panels = {'rewards': ['r/*'], 'nothing': ['q'], 'both': ['s', 'r/x']}
  axes = inspect.plot(runs, panels).axes
  assert [a.get_title() for a in axes] == ['rewards', 'both']
  assert [len(a.lines) for a in axes] == [2, 2]
  names = [t.get_text() for t in axes[1].get_legend().get_texts()]
  assert names == ['a r/x', 'b s']
  with pytest.raises(ValueError, match='no curve'):
    inspect.plot(runs, {'nothing': ['q']})


def test_pairs_put_different_answers_first():
  alike, differ, alone = map(record, 'abc')
  no, yes = '<answer>no</answer>', '<answer>yes</answer>'
  answered = {'p': [row(alone, yes), row(alike, no), row(differ, no)],
              'q': [row(alike, no), row(differ, yes)]}
  pairs = inspect.paired(answered, [alike, differ, alone], 8)
  assert pairs == [(differ, {'p': no, 'q': yes}), (alike, {'p': no, 'q': no})]
  assert inspect.paired(answered, [alike, differ], 1) == pairs[:1]
  with pytest.raises(ValueError, match='none of 3 answered records'):
    inspect.paired(answered, [record('d')], 8)


def test_boxes_are_drawn_where_they_were_said(tmp_path):
  Image.new('RGB', (40, 30)).save(tmp_path / 'a.png')
  Image.new('RGB', (20, 50)).save(tmp_path / 'b.png')
  box = record('x', ['a.png', 'b.png'], 'box', [1, 2, 11, 22])
  boxes = record('y', ['a.png'], 'boxes', [[0, 0, 5, 5], [5, 5, 9, 9]])
  text = record('z')
  figure = inspect.show([
      (box, {'mine': '<answer>[3, 4, 8, 10]</answer>', 'other': 'no idea'}),
      (boxes, {'mine': '<answer>[[0, 0, 4, 4]]</answer>'}),
      (text, {'mine': '<answer>yes</answer>'})], str(tmp_path))
  first, second, third = figure.axes[:3]
  assert [p.get_bbox().extents.tolist() for p in first.patches] == [
      [3, 4, 8, 10], [1, 2, 11, 22]]
  assert len(second.patches) == 3 and not third.patches
  assert first.images[0].get_array().shape == (50, 60, 3)
  assert 'other: no answer' in first.get_title(loc='left')
  assert 'truth: [1, 2, 11, 22]' in first.get_title(loc='left')
  figure.savefig(tmp_path / 'out.png')   # dollars are not taken for formulas


def test_parameters():
  rng = np.random.default_rng(0)
  a, b, c = (rng.normal(size=n).astype(np.float32) for n in (3, 5, 7))
  rows = inspect.parameters({'m': {'n': {'w': a, 'b': b}}, 'e': c})
  assert [r[:2] for r in rows] == [('m/n', 8), ('e', 7), ('all', 15)]
  np.testing.assert_allclose(
      [r[2] for r in rows], [np.linalg.norm(np.concatenate(x)) for x in
                             ([a, b], [c], [a, b, c])], rtol=1e-6)


def test_compare_takes_what_both_runs_have():
  def scored(value, kind):
    return {'record': f'{kind}{value}', 'task': '', 'answer_type': kind,
            'answer': 'yes', 'prediction': 'yes', 'value': value,
            'cluster': str(value)}
  mine = [scored(1, 'yesno'), scored(0, 'yesno'), scored(.5, 'box')]
  other = [{**r, 'value': 0} for r in mine]
  found = inspect.compare(mine, other)
  assert found['accuracy']['value'] == .5 and found['accuracy']['n'] == 2
  assert found['mean_iou']['value'] == .5 and found['mean_iou']['n'] == 1
  assert list(inspect.compare(mine[:2], other[:2])) == ['accuracy']


def test_errors_say_what_to_do(tmp_path, monkeypatch):
  with pytest.raises(FileNotFoundError, match='medrl.main'):
    inspect.read_config(tmp_path)
  with pytest.raises(FileNotFoundError, match='--eval_only'):
    inspect.answers(tmp_path)
  (tmp_path / 'answers.jsonl').write_text('{"suite": "heldout_greedy"}\n')
  with pytest.raises(ValueError, match="did you mean 'heldout_greedy'"):
    inspect.answers(tmp_path, 'greedy')
  real = builtins.__import__
  def without(name, *rest):
    if name == 'matplotlib':
      raise ModuleNotFoundError("No module named 'matplotlib'")
    return real(name, *rest)
  monkeypatch.setattr(builtins, '__import__', without)
  with pytest.raises(ModuleNotFoundError, match='pip install matplotlib'):
    inspect.show([(record('a'), {})], '')
