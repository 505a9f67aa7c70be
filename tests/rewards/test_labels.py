"""Sets of labels and four-state findings, worked by hand."""

import itertools

import pytest

from medrl import types
from medrl.rewards import labels
from tests import soon


@pytest.mark.parametrize('text, expected, why', [
    ('Edema; Effusion', ('edema', 'effusion'), 'semicolons, as ECG-R1'),
    ('Effusion;  edema.', ('edema', 'effusion'), 'any order, a full stop'),
    ('Edema, Effusion', ('edema', 'effusion'), 'commas'),
    ('Edema\nEffusion', ('edema', 'effusion'), 'lines'),
    ('- Edema\n- Effusion', ('edema', 'effusion'), 'bullets'),
    ('1. Edema\n2) Effusion', ('edema', 'effusion'), 'numbers'),
    ('Nodule, left; Edema', ('edema', 'nodule, left'),
     'a comma inside a part between semicolons'),
    ('Edema;\nEffusion;', ('edema', 'effusion'), 'both, and an empty part'),
    ('edema; Edema; EDEMA', ('edema',), 'once each'),
    ('["Edema", "Effusion"]', ('edema', 'effusion'), 'JSON'),
    ('水肿；积液', ('水肿', '积液'), 'Chinese semicolon'),
    ('水肿、积液', ('水肿', '积液'), 'Chinese comma'),
    ('sinus rhythm', ('sinus rhythm',), 'one'),
    ('none', (), 'no label'), ('None.', (), 'no label'), ('[]', (), 'no label'),
    ('无', (), 'no label'),
    ('no finding', ('no finding',), "a label of CheXpert's"),
    ('no edema; effusion', ('effusion', 'no edema'),
     'a negation is another name, not the label'),
    ('1st degree AV block', ('1st degree av block',), 'no bullet'),
    ('```json\n["RBC", "WBC"]\n```', ('rbc', 'wbc'), 'fenced JSON'),
    ('```\nRBC\nWBC\n```', ('rbc', 'wbc'), 'fenced lines'),
    ('["RBC", "WBC"].', ('rbc', 'wbc'), 'JSON with a full stop'),
    ('{"answer": ["RBC", "WBC"]}', ('rbc', 'wbc'), 'a JSON object'),
    ('{"answer": "RBC, WBC"}', ('rbc', 'wbc'), 'with text'),
    ('{"answer": []}', (), 'JSON, no label'), ('[].', (), 'and a full stop'),
    ('**RBC**, **WBC**', ('rbc', 'wbc'), 'each in bold'),
    ('**RBC, WBC**', ('rbc', 'wbc'), 'all in bold'),
    ('* RBC\n* **WBC**', ('rbc', 'wbc'), 'bullets of Markdown'),
    ('- **RBC**\n- `WBC`', ('rbc', 'wbc'), 'bullets and emphasis'),
    ('HLA-B*57, snake_case', ('hla-b*57', 'snake_case'), 'inside of a name'),
    ('\\boxed{RBC, WBC}', ('rbc', 'wbc'), 'boxed'),
    ('$\\boxed{\\text{RBC, WBC}}$', ('rbc', 'wbc'), 'as LaTeX has it'),
    ('The answer is RBC, WBC', ('rbc', 'wbc'), 'announced'),
    ('Therefore, the answer is:\n\nRBC, WBC.', ('rbc', 'wbc'), 'on a line'),
    ('**Answer: RBC, WBC**', ('rbc', 'wbc'), 'announced in bold'),
    ('The answer is none.', (), 'no label, announced'),
    ('RBC and WBC', ('rbc', 'wbc'), 'two'), ('RBC AND WBC', ('rbc', 'wbc'),
                                            'in capitals'),
    ('RBC & WBC', ('rbc', 'wbc'), 'a sign'),
    ('Both RBC and WBC', ('rbc', 'wbc'), 'both'),
    ('Platelets, RBC and WBC.', ('platelets', 'rbc', 'wbc'), 'the last two'),
    ('Platelets, RBC, and WBC', ('platelets', 'rbc', 'wbc'), 'a comma too'),
    ('Platelets; RBC; and WBC', ('platelets', 'rbc', 'wbc'), 'semicolons too'),
    ('Skin and bone; edema', ('edema', 'skin and bone'),
     "as a comma, an 'and' stays between semicolons"),
    ('Skin and bone\nedema', ('edema', 'skin and bone'), 'and on lines'),
    ('["Skin and bone"]', ('skin and bone',), 'and in JSON'),
    ('Skin and bone', ('bone', 'skin'), 'but alone it joins two names'),
    ('sand and/or clay', ('sand and/or clay',), 'no joining of two'),
    ('no edema and effusion', ('no edema and effusion',),
     'what is denied as well is not named'),
    ('edema and no effusion', ('edema', 'no effusion'), 'one is, one is not'),
    ('', None, 'nothing'), (' ;\n, ', None, 'nothing'),
    ('**', None, 'nothing'), ('and', ('and',), 'a name like any other'),
    ('\\boxed{RBC} or \\boxed{WBC}', None, 'boxes at odds'),
    ('RBC or \\boxed{WBC}', None, 'one boxed beside another'),
    ('\\boxed{RBC, WBC', None, 'cut off'),
    ('RBC. The answer is WBC', None, 'more than what is announced'),
    ('The answer is RBC. The answer is WBC', None, 'cues at odds'),
    ('```json\n["RBC"]\n```\n```json\n["WBC"]\n```', None, 'two fences'),
    ('```json\n["RBC"', None, 'cut off'),
    ('["RBC"] or ["WBC"]', None, 'two lists'),
    ('RBC or ["WBC"]', None, 'a list beside a name'),
    ('{"RBC": 1}', None, 'states, not labels'),
    ('{"answer": ["RBC"], "other": ["WBC"]}', None, 'two lists'),
    ('["Edema", 5]', None, 'no list of names'), ('[Edema]', None, 'no JSON'),
    ('["Edema"', None, 'cut off'), ('[' * 60000, None, 'nesting'),
])
def test_read(text, expected, why):
  found = labels.read(text)
  assert (found and found.value) == expected, why


@pytest.mark.parametrize('value, target, exact, jaccard, f1', [
    ('ab', 'ab', 1, 1, 1), ('a', 'ab', 0, 1 / 2, 2 / 3),
    ('abc', 'ab', 0, 2 / 3, 4 / 5), ('c', 'ab', 0, 0, 0),
    ('', '', 1, 1, 1), ('', 'a', 0, 0, 0), ('a', '', 0, 0, 0),
    ('abcdefghij', 'a', 0, 1 / 10, 2 / 11),   # to name all is no way out
])
def test_agreement(value, target, exact, jaccard, f1):
  for metric, expected in zip(labels.METRICS, (exact, jaccard, f1)):
    assert labels.agreement(value, target, metric) == pytest.approx(expected)


@pytest.mark.parametrize('text, expected, why', [
    ('edema: positive', (('edema', 'positive'),), 'plain'),
    ('Edema: present; Effusion: absent',
     (('edema', 'positive'), ('effusion', 'negative')), 'other words'),
    ('edema: 1\neffusion: 0\nnodule: -1',
     (('edema', 'positive'), ('effusion', 'negative'), ('nodule', 'uncertain')),
     "CheXpert's numbers"),
    ('edema: not mentioned; effusion: no', (('effusion', 'negative'),),
     'a blank is left out, and is not negative'),
    ('edema: blank', (), 'nothing is mentioned'),
    ('{"Edema": 1.0, "Effusion": null}', (('edema', 'positive'),), 'JSON'),
    ('{"Edema": "uncertain"}', (('edema', 'uncertain'),), 'JSON'),
    ('{"Edema": NaN}', (), "a blank as pandas writes it"),
    ('水肿：阳性；积液：不确定', (('水肿', '阳性'), ('积液', '不确定')), 'Chinese'),
    ('edema: yes; edema: present', (('edema', 'positive'),), 'said twice'),
    ('```json\n{"WBC": "positive"}\n```', (('wbc', 'positive'),), 'fenced'),
    ('{"WBC": "positive"}.', (('wbc', 'positive'),), 'with a full stop'),
    ('{"answer": {"WBC": 1}}', (('wbc', 'positive'),), 'one in another'),
    ('**WBC**: positive', (('wbc', 'positive'),), 'the name in bold'),
    ('**WBC:** positive', (('wbc', 'positive'),), 'with its colon'),
    ('- **WBC: positive**\n- RBC: **absent**',
     (('rbc', 'negative'), ('wbc', 'positive')), 'a list in bold'),
    ('\\boxed{WBC: positive}', (('wbc', 'positive'),), 'boxed'),
    ('The answer is WBC: positive.', (('wbc', 'positive'),), 'announced'),
    ('WBC: positive and RBC: absent',
     (('rbc', 'negative'), ('wbc', 'positive')), 'joined'),
    ('skin and bone: positive', (('skin and bone', 'positive'),),
     'a name may have an and'),
    ('no finding: 1', (('no finding', 'positive'),), 'a name with no'),
    ('{"WBC": 1, "wbc": 0}', None, 'a contradiction'),
    ('{"WBC": 1, "WBC": 0}', None, 'JSON with a key twice'),
    ('```json\n{"WBC": 1}\n```\n```json\n{"RBC": 1}\n```', None, 'two'),
    ('\\boxed{WBC: positive} WBC: negative', None, 'more than the box'),
    ('WBC: absent. The answer is WBC: positive', None, 'more than the cue'),
    ('edema: yes; edema: no', None, 'a contradiction'),
    ('edema', None, 'no state'), ('edema: maybe', None, 'no state of four'),
    ('edema: yes; effusion', None, 'one without'),
    (': positive', None, 'no name'), ('', None, 'nothing'),
    ('{"Edema": [1]}', None, 'no state'), ('{"Edema": 1', None, 'cut off'),
    ('{"a":' * 60000, None, 'nesting'),
])
def test_read_states(text, expected, why):
  chinese = {'阳性': 'positive', '不确定': 'uncertain'}
  if expected:
    expected = tuple((n, chinese.get(s, s)) for n, s in expected)
  found = labels.read_states(text)
  assert (found and found.value) == expected, why


def record(kind, answer):
  return types.Record(id='r', question='', answer=answer, answer_type=kind)


def score(kind, gold, content, **options):
  out = labels.score(
      record(kind, gold), [types.Completion(f'<answer>{content}</answer>')], {},
      **options)
  return out.total[0], out.parsed[0]


@pytest.mark.parametrize('gold, content, expected, why', [
    ({'a': 'positive', 'b': 'not mentioned'}, 'a: positive', 1.0,
     'silence about a blank'),
    ({'a': 'positive', 'b': 'not mentioned'}, 'a: positive; b: negative', .5,
     'a blank is not negative'),
    ({'a': 'positive'}, 'a: uncertain', 0.0, 'uncertain is not positive'),
    ({'a': 'negative'}, 'b: blank', 0.0, 'negative is not a blank'),
    ({'a': 'not mentioned'}, 'a: blank', 1.0, 'nothing to mention'),
    ({'a': 'positive', 'b': 'negative'}, 'a: positive; b: positive', 1 / 3,
     'a wrong state is one missed and one in excess'),
])
def test_score_of_states(gold, content, expected, why):
  value, parsed = score('states', gold, content)
  assert parsed and value == pytest.approx(expected), why


def test_score_of_labels():
  gold = ['Edema', 'Effusion']
  assert score('labels', gold, 'edema') == (.5, True)
  assert score('labels', gold, 'edema', metric='exact') == (0.0, True)
  assert score('labels', gold, 'edema', metric='f1') == (
      pytest.approx(2 / 3), True)
  assert score('labels', gold, ' ') == (0.0, False)
  assert score('labels', [], 'none') == (1.0, True)
  assert score('labels', 'N/A', 'edema') == (0.0, True)


@pytest.mark.parametrize('cell, expected', [
    (1.0, 'positive'), ('1.0', 'positive'), (0, 'negative'), (-1, 'uncertain'),
    (None, 'not mentioned'), ('', 'not mentioned'),
    (float('nan'), 'not mentioned')])
def test_state_of_a_cell(cell, expected):
  assert labels.state(cell) == expected


@pytest.mark.parametrize('cell', [2, 'x', .5])
def test_state_of_no_cell(cell):
  with pytest.raises(ValueError, match='expected 1, 0, -1 or a blank'):
    labels.state(cell)


def test_every_way_of_naming_all_labels_earns_what_its_share_is_worth():
  names = 'abcde'
  for size in range(1, 6):
    for gold in itertools.combinations(names, size):
      assert labels.agreement(names, gold) == pytest.approx(size / 5)


@pytest.mark.parametrize('piece', [
    ' ', '\n', ' and ', ' &', 'a and ', '*', '\\boxed{', '```', '{"a":', '[',
    'the answer is ', ',', 'a: 1 and ', '1. ', '- ', '. '])
def test_no_string_takes_long(piece):
  with soon.soon():
    for before in ('', 'a', '[', 'a: 1'):
      text = before + (piece * 65536)[:65536]
      labels.read(text)
      labels.read_states(text)


def test_wrong_calls_say_why():
  with pytest.raises(ValueError, match="of type 'text'; labels.score needs"):
    score('text', 'x', 'x')
  with pytest.raises(ValueError, match="metric 'dice'"):
    labels.agreement('a', 'b', 'dice')
  with pytest.raises(ValueError, match="state 'maybe'; expected"):
    score('states', {'a': 'maybe'}, 'a: positive')
