"""Knowledge graphs small enough to draw, and walks on them."""

import json
import random

import pytest

from medrl import types
from medrl.rewards import graph


def one(rule, text, meta=None, question='', answer='x', **options):
  given = types.Record(id='r', question=question, answer=answer,
                       answer_type='text', meta=meta or {})
  score = rule(given, [types.Completion(text)], {}, **options)
  for start, end, _ in score.spans[0]:
    assert 0 <= start <= end <= len(text)
  return score


# fever - flu - rest, and fever - cold - honey - rest: two ways round.
GRAPH = [['fever', 'seen in', 'flu'], ['flu', 'treated by', 'rest'],
         ['fever', 'seen in', 'cold'], ['cold', 'treated by', 'honey'],
         ['rest', 'as', 'honey'], ['gout', 'treated by', 'colchicine']]


def walk(text):
  return f'<think>{text}</think><answer>rest</answer>'


@pytest.mark.parametrize('text, expected, why', [
    ('Fever, so flu, so rest.', 1.0, 'two edges'),
    ('Fever, so rest.', 0.5, 'on the shortest path, but one pair of two'),
    ('Fever, flu, gout.', 0.5, 'flu and gout are not connected'),
    ('Flu, fever, cold.', 1.0, 'edges run both ways'),
    ('Fever, honey, rest.', 0.5, 'fever to honey is no shortest path'),
    ('Fever, flu, fever, flu, fever.', 0.5, 'one edge, said often'),
    ('Fever.', 0.0, 'no pair'), ('Nothing known.', 0.0, 'no entity'),
    ('Influence of feverish restlessness.', 0.0, 'words, not letters'),
])
def test_support(text, expected, why):
  score = one(graph.support, walk(text), {'triples': GRAPH},
              question='What helps with fever?', answer='rest')
  assert score.total[0] == pytest.approx(expected), why


def test_support_spans_and_a_file_below_the_root(tmp_path):
  (tmp_path / 'g.json').write_text(json.dumps(GRAPH))
  text = walk('fever, flu, gout')
  score = one(graph.support, text, {'triples': 'g.json'}, root=str(tmp_path))
  assert [(text[a:b], v) for a, b, v in score.spans[0]] == [
      ('flu', 1.0), ('gout', -1.0)]
  assert one(graph.support, 'no block', triples='g.json', root=str(tmp_path)
             ).parsed == (False,)


def test_a_graph_outside_of_the_root_is_refused(tmp_path):
  (tmp_path / 'g.json').write_text(json.dumps(GRAPH))
  (tmp_path / 'in').mkdir()
  for name in ('../g.json', str(tmp_path / 'g.json')):
    with pytest.raises(ValueError, match='outside'):
      one(graph.support, walk('fever'), {'triples': name},
          root=str(tmp_path / 'in'))


def test_distances():
  near = graph._graph(GRAPH)  # pylint: disable=protected-access
  assert graph.distances(near, {'fever'}) == {
      'fever': 0, 'flu': 1, 'cold': 1, 'rest': 2, 'honey': 2}
  assert graph.distances(near, {'fever'}, 1) == {
      'fever': 0, 'flu': 1, 'cold': 1}


PATIENT = {'triples': {'t1': ['fever', 'seen in', 'flu'],
                       't2': ['flu', 'treated by', 'rest'],
                       't3': ['gout', 'treated by', 'colchicine']},
           'meta_paths': {'p1': ['seen in', 'treated by'], 'p2': ['as']},
           'codes': ['fever', 'flu']}


@pytest.mark.parametrize('chosen, summary, expected, why', [
    ('["p1"]', 'By [t1] and [t2].', 1.0, 'both'),
    ('["p1"]', 'By [t1] and [t3].', 0.5, 'gout is not the patient\'s'),
    ('["p2"]', 'By [t1].', 0.0, 'not on the chosen path'),
    ('["p1"]', 'By [t1], [t1], [t9].', 0.5, 'once each; t9 does not exist'),
    ('["p1"]', 'By nothing.', 0.0, 'no citation'),
    ('p1', 'By [t1].', 0.0, 'no JSON'), ('[[["p1"]]]', 'By [t1].', 0.0, 'no'),
    ('{"a": 1}', 'By [t1].', 0.0, 'not a list'),
])
def test_cited(chosen, summary, expected, why):
  text = f'<rag>{chosen}</rag><summary>{summary}</summary>'
  assert one(graph.cited, text, PATIENT).total[0] == expected, why


def test_cited_without_a_summary_is_unparsed():
  assert one(graph.cited, '<rag>["p1"]</rag> [t1]', PATIENT
             ).parsed == (False,)


@pytest.mark.parametrize('rule, meta, message', [
    (graph.support, {}, 'no triple'),
    (graph.support, {'triples': [['a', 'b']]}, 'is no triple'),
    (graph.cited, {}, 'triples')])
def test_what_does_not_fit_is_an_error(rule, meta, message):
  with pytest.raises(ValueError, match=message):
    one(rule, walk('fever'), meta)


def test_total_on_any_text():
  rng = random.Random(3)
  pieces = ['<think>', '</think>', '<summary>', '</summary>', '<rag>', '[', ']',
            'fever ', 'flu ', '\0', '\ud800', 't1', '"p1"']
  texts = [''.join(rng.choices(pieces, k=300)) for _ in range(30)]
  texts += [walk('fever flu rest cold ' * 3200),
            f'<rag>{"[" * 60000}</rag><summary>{"[" * 60000}</summary>']
  for text in texts:
    for rule, meta in ((graph.support, {'triples': GRAPH}),
                       (graph.cited, PATIENT)):
      score = one(rule, text, meta, question='fever')
      assert 0.0 <= score.total[0] <= 1.0
