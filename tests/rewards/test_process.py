"""Process rewards worked by hand from the published or proposed formulas."""

import random

import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import process

THREE = ('Step 1: the rate is seventy beats a minute.\n'
         'Step 2: ST elevation is seen in the leads V1 to V4.\n'
         'Step 3: the axis is normal and no block is present.\n')


def record(answer='A', **meta):
  return types.Record(id='r', question='?', answer=answer, meta=meta,
                      answer_type='choice', options={'A': 'yes', 'B': 'no'})


def think(text, answer='A'):
  return f'<think>{text}</think><answer>{answer}</answer>'


def one(rule, given, text, signals=None, **options):
  completion = types.Completion(text, signals=signals or {})
  score = rule(given, [completion], {}, **options)
  for start, end, _ in score.spans[0]:
    assert 0 <= start <= end <= len(text)
  return score


def value(*args, **options):
  score = one(*args, **options)
  return score.total[0] if score.parsed[0] else None


@pytest.mark.parametrize('gold, text, expected, why', [
    ({1: ['seventy'], 2: ['ST elevation', 'V1']}, think(THREE), 1.0, 'all'),
    ({'2': ['st ELEVATION', 'V9']}, think(THREE), 0.5, 'case; one of two'),
    ({1: ['ST elevation'], 2: ['ST elevation']}, think(THREE), 0.5,
     'only in its own step'),
    ({1: ['seventy'], 5: ['x']}, think(THREE), 0.5, 'a missing step earns 0'),
    ({1: ['seventy'], 2: []}, think(THREE), 1.0, 'a step without gold is out'),
    ({}, think(THREE), 0.0, 'no gold at all'),
    ({1: ['x']}, think('no steps here'), None, 'no steps'),
    ({1: ['seventy']}, THREE, None, 'no think block'),
    ({1: ['seventy']}, '<think></think>' + THREE, None, 'outside of it'),
    # ECG-R1's own phrases are matched as substrings, denial or not.
    ({2: ['ST elevation']}, think('Step 2: no ST elevation at all.'), 1.0,
     'a known way to cheat'),
])
def test_evidence(gold, text, expected, why):
  found = value(process.evidence, record(evidence=gold), text)
  assert found == (expected if expected is None else pytest.approx(expected)
                   ), why


def test_evidence_spans_are_the_phrases_and_add_up_to_the_reward():
  text = think(THREE)
  score = one(process.evidence,
              record(evidence={1: ['seventy'], 2: ['V1', 'ST elevation']}),
              text)
  cut = {text[a:b]: v for a, b, v in score.spans[0]}
  assert cut == pytest.approx({'seventy': .5, 'V1': .25, 'ST elevation': .25})


def many(count, words=6):
  # Letters differ from step to step, so that none is a copy.
  return ''.join(f'Step {i + 1}: ' + ' '.join(
      f'w{chr(97 + i)}{chr(97 + j)}' for j in range(words)) + '\n'
                 for i in range(count))


@pytest.mark.parametrize('count, expected, why', [
    (1, 0.25, '1 / 4'), (2, 0.5, '2 / 4'), (4, 1.0, 'as many'),
    (6, 1.0, 'rho 1.5 is still in full'), (8, 0.5, '1 - (2 - 1.5)'),
    (10, 0.0, '1 - (2.5 - 1.5)'), (20, 0.0, 'never below 0'),
])
def test_step_count(count, expected, why):
  found = value(process.step_count, record(template=[{}] * 4),
                think(many(count)))
  assert found == pytest.approx(expected), why


@pytest.mark.parametrize('text, expected, why', [
    (many(4, words=4), 0.0, 'steps of four words are too short'),
    ('\n'.join(f'Step {i}: the very same words each time' for i in range(1, 5)),
     0.25, 'copies count once'),
    ('nothing numbered', None, 'no steps'),
])
def test_step_count_is_not_fooled_by_filling(text, expected, why):
  found = value(process.step_count, record(template=[{}] * 4), think(text))
  assert found == expected, why


ECHO = {'views': ['apical four chamber', 'PLAX'],
        'measurements': {'EF': 55, 'TR velocity': 2.8}}


@pytest.mark.parametrize('text, expected, why', [
    ('Step 1: apical four-chamber, EF 55%.\nStep 2: PLAX, TR velocity of 2.8.',
     1.0, 'all'),
    ('Step 1: PLAX shows EF = 57.', 0.5, '1 of 2 views, 57 is within 5 %'),
    ('Step 1: PLAX shows EF = 58.', 0.25, '58 is not'),
    ('Step 1: PLAX, EF 55.\nStep 2: EF 30.', 0.25, 'contradicts itself'),
    ('Step 1: EF 55 and TR velocity 2.8.', 0.5, 'no views'),
    ('Step 1: PLAX and SSN.', 0.0, '0.25 less 1 / 2, floor 0'),
    ('Step 1: apical four chamber, PLAX.\nStep 2: SSN.', 0.0,
     '0.5 - 0.5 for a view that was not supplied'),
    ('Step 1: the EF is preserved.', 0.0, 'named without its value'),
    ('Step 1: effective 55.', 0.0, 'EF is a word, not letters'),
    ('no steps, PLAX', None, 'no steps'),
])
def test_coverage(text, expected, why):
  found = value(process.coverage, record(**ECHO), think(text), known=('SSN',))
  assert found == (None if expected is None else pytest.approx(expected)), why


@pytest.mark.parametrize('text, expected, why', [
    ('no PLAX was given', 0.0, 'denied'),
    ('There is no PLAX view.', 0.0, 'denied'),
    ('without the PLAX', 0.0, 'denied'),
    ('neither PLAX nor PSAX was given', 0.0, 'both denied'),
    ('no PSAX or PLAX was given', 0.0, 'a list that is denied'),
    ('PLAX was not given', 0.0, 'denied behind it'),
    ('PLAX and PSAX views are not available', 0.0, 'both, behind them'),
    ("PLAX wasn't provided", 0.0, 'denied behind it'),
    ('PLAX is missing', 0.0, 'gone'), ('PLAX absent', 0.0, 'gone'),
    ('no PLAX was given, but PSAX was', 0.5, 'the denial ends'),
    ('PLAX was not given. PSAX shows an effusion.', 0.5, 'the other is cited'),
    ('no PLAX in step one. PLAX is here', 0.5, 'cited in another place'),
    ('no effusion in the PLAX view', 0.5, 'the finding, not the view'),
    ('PLAX shows no effusion', 0.5, 'the same'),
    ('PLAX: no effusion', 0.5, 'the same'),
    ('PLAX is not dilated', 0.5, 'the same'),
    ('not only PLAX, also PSAX', 1.0, 'no denial'),
    ('PLAX, not SSN', 0.5, 'what is denied costs nothing'),
    ('no SSN was given, PLAX was', 0.5, 'what is denied costs nothing'),
    ('PLAX rather than SSN', 0.0, 'a doubt is no denial'),
])
def test_coverage_of_what_is_denied(text, expected, why):
  found = value(process.coverage, record(views=['PLAX', 'PSAX']),
                think(f'Step 1: {text}'), known=('SSN',))
  assert found == expected, why


@pytest.mark.parametrize('text, expected, why', [
    ('EF 55', 1.0, 'cited'), ('no EF of 55 was given', 0.0, 'denied'),
    ('EF is not 55', 0.0, 'its value is denied'),
    ("EF isn't 55", 0.0, 'its value is denied'),
    ('EF is not 30. EF 55', 1.0, 'not wrong, and cited in another place'),
])
def test_coverage_of_measurements_that_are_denied(text, expected, why):
  found = value(process.coverage, record(measurements={'EF': 55}),
                think(f'Step 1: {text}'))
  assert found == expected, why


@pytest.mark.parametrize('meta, known, message', [
    ({'views': ['PLAX', '-']}, (), r"'r': meta\['views'\] holds '-'"),
    ({'views': ['']}, (), r"'r': meta\['views'\] holds ''"),
    ({'measurements': {'_': 5}}, (), r"'r': meta\['measurements'\] holds '_'"),
    ({'measurements': {'EF': 'low'}}, (), r"\['measurements'\] .*'low'"),
    ({'measurements': {'EF': float('nan')}}, (), r"\['measurements'\] .*nan"),
    ({'views': ['PLAX']}, ('-',), "the option known holds '-'"),
])
@pytest.mark.parametrize('text', [think('Step 1: PLAX'), 'no steps'])
def test_coverage_says_whose_name_cannot_be_looked_for(text, meta, known,
                                                       message):
  with pytest.raises(ValueError, match=message):
    value(process.coverage, record(**meta), text, known=known)


def test_coverage_without_measurements_is_of_views_alone():
  found = value(process.coverage, record(views=['PLAX', 'PSAX']),
                think('Step 1: PLAX'))
  assert found == 0.5
  assert value(process.coverage, record(), think('Step 1: PLAX')) == 0.0


REPORT = 'Small left pleural effusion. No pneumothorax. Possible pneumonia.'


@pytest.mark.parametrize('text, expected, why', [
    ('There is an effusion and no pneumothorax.', 1.0, 'both agree'),
    ('There is an effusion and edema.', 0.5, 'edema is not in the report'),
    ('No edema.', 1.0, 'what is not mentioned is negative'),
    ('Pneumonia.', 0.0, 'the report only doubts it'),
    ('Possible pneumonia.', 1.0, 'so does the reasoning'),
    ('No effusion.', 0.0, 'contradiction'),
    ('I think hard.', 0.0, 'no finding, no precision'),
    ('No fracture, no edema, no consolidation.', 1.0,
     'safe denials: a known way to cheat'),
])
def test_factual(text, expected, why):
  assert value(process.factual, record(report=REPORT), think(text)
               ) == pytest.approx(expected), why


def test_factual_without_a_report_or_a_think_block():
  assert value(process.factual, record(), think('Edema.')) == 0.0
  assert value(process.factual, record(report=REPORT), 'Edema.') is None


def test_factual_spans():
  text = think('Effusion. Edema.')
  score = one(process.factual, record(report=REPORT), text)
  assert [(text[a:b], v) for a, b, v in score.spans[0]] == [
      ('Effusion', 1.0), ('Edema', -1.0)]


def branches(text, ends, rights):
  return {'continuations': tuple(
      {'end': e, 'texts': tuple(
          text[:e] + f'</think><answer>{"A" if r else "B"}</answer>'
          for r in right)} for e, right in zip(ends, rights))}


@pytest.mark.parametrize('reduce, expected', [('mean', 0.5), ('last', 1.0)])
def test_step_values(reduce, expected):
  text = think('one. two. three.')
  ends = (12, 17, 23)
  signal = branches(text, ends, [(0, 0, 0, 0), (1, 0, 1, 0), (1, 1, 1, 1)])
  score = one(process.step_values, record(), text, signal, reduce=reduce)
  assert score.total[0] == pytest.approx(expected)
  assert score.spans[0] == ((0, 12, 0.0), (12, 17, 0.5), (17, 23, 0.5))


def test_step_values_counts_the_unparsed_as_wrong_and_needs_its_signal():
  text = think('one.')
  signal = {'continuations': ({'end': 10, 'texts': (text, 'no answer')},)}
  assert value(process.step_values, record(), text, signal) == 0.5
  for empty in ((), None):
    assert value(process.step_values, record(), text,
                 {'continuations': empty}) is None
  with pytest.raises(ValueError, match='continuations'):
    one(process.step_values, record(), text)
  with pytest.raises(ValueError, match='prefix of 999'):
    one(process.step_values, record(), text,
        {'continuations': ({'end': 999, 'texts': ()},)})
  with pytest.raises(ValueError, match='median'):
    one(process.step_values, record(), text, signal, reduce='median')
  assert compose.needs({'s': {'fn': 'medrl.rewards.process.step_values',
                              'weight': 1.0}}) == ('continuations',)


@pytest.mark.parametrize('rule, meta', [
    (process.evidence, {'evidence': {1: ['a']}}),
    (process.step_count, {'template': [1, 2]}), (process.coverage, ECHO),
    (process.factual, {'report': REPORT})])
def test_total_on_any_text(rule, meta):
  rng = random.Random(2)
  pieces = ['<think>', '</think>', 'Step 1: ', '\n2. ', 'no effusion ', 'EF 5',
            '\0', '\ud800', '\n', '9' * 60, 'PLAX ', '左肺', 'was not given ']
  texts = [''.join(rng.choices(pieces, k=300)) for _ in range(30)]
  texts.append(think('\nStep 1: no effusion PLAX EF 5' * 2200))
  for text in texts:
    score = one(rule, record(**meta), text)
    assert 0.0 <= score.total[0] <= 1.0


@pytest.mark.parametrize('rule, meta', [
    (process.evidence, {'evidence': [1]}), (process.factual, {'report': 3}),
    (process.step_count, {'template': 'abc'})])
def test_malformed_meta_is_an_error(rule, meta):
  with pytest.raises(ValueError, match='expected a'):
    one(rule, record(**meta), think(THREE))
