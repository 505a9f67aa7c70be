"""Report rewards by hand, and how they may be gamed."""

import random

import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import report

GOLD = ('Findings: There is a small left pleural effusion. No pneumothorax. '
        'Heart size is normal. Impression: Small effusion.')
SICK = 'Findings: Large right pneumothorax. Impression: Tension pneumothorax.'
NORMAL = ('Findings: No effusion or pneumothorax. Heart size is normal. '
          'Impression: No acute cardiopulmonary process.')


def record(answer=GOLD, kind='text', **meta):
  return types.Record(id='r', question='', answer=answer, answer_type=kind,
                      meta=meta)


def one(rule, text, given=None, **options):
  score = rule(given or record(), [types.Completion(text)], {}, **options)
  assert 0.0 <= score.total[0] <= 1.0
  return score


def said(text):
  return f'<think>pneumonia</think><answer>{text}</answer>'


@pytest.mark.parametrize('value, target, expected, why', [
    ({}, {}, 1.0, 'two silent texts agree'),
    ({'a': 'positive'}, {}, 0.0, 'in excess'),
    ({}, {'a': 'positive'}, 0.0, 'missing'),
    ({'a': 'positive'}, {'a': 'negative'}, 0.0, 'contradiction'),
    ({'a': 'positive'}, {'a': 'uncertain'}, 0.0, 'doubt is a state'),
    ({'a': 'positive', 'b': 'negative'}, {'a': 'positive'}, 2 / 3,
     '2 * 1 / (2 + 1)'),
    ({'a': 'positive', 'b': 'negative'}, {'a': 'positive', 'c': 'negative'},
     0.5, '2 * 1 / (2 + 2)'),
])
def test_label_f1(value, target, expected, why):
  assert report.label_f1(value, target) == pytest.approx(expected), why


@pytest.mark.parametrize('text, options, expected, parsed, why', [
    (said(GOLD), {}, 1.0, True, 'itself'),
    # effusion+ pneumothorax- heart- are said; 'No Finding' is wrong, 3 / 4.
    (said(NORMAL), {}, 2 * 2 / (4 + 3), True, 'ptx- and heart- of 4 and 3'),
    (said(NORMAL), {'counted': ('positive',)}, 0.0, True,
     'denials earn nothing among positives'),
    (said('Impression: Effusion.'), {'section': 'impression'}, 1.0, True,
     'one section'),
    (said('Findings: none.'), {'section': 'impression'}, 0.0, False,
     'the section is missing'),
    ('Findings: effusion Impression: effusion', {}, 0.0, False, 'no answer'),
    ('<think>no edema</think> Impression: effusion',
     {'section': 'impression', 'where': 'text'}, 1.0, True,
     'after the reasoning'),
    (said('   '), {}, 0.0, False, 'an empty block'),
    ('', {}, 0.0, False, 'nothing'),
])
def test_labels(text, options, expected, parsed, why):
  score = one(report.labels, text, **options)
  assert score.total[0] == pytest.approx(expected), why
  assert score.parsed == (parsed,), why


@pytest.mark.parametrize('body, parsed, why', [
    ('.', False, 'a stop'), ('1 2 3', False, 'numbers'),
    ('…\0', False, 'signs'),
    ('Findings:', False, 'a heading alone'),
    ('**Findings:** . Impression: -', False, 'headings alone'),
    ('Findings: Findings:', False, 'a heading twice'),
    ('Normal.', True, 'a word'), ('正常', True, 'a word in Chinese'),
    ('Impression: Normal.', True, 'a word below a heading'),
])
def test_a_report_without_a_word_is_unparsed(body, parsed, why):
  for rule in (report.labels, report.critical):
    for options in ({}, {'where': 'text'}):
      text = body if options else said(body)
      score = one(rule, text, record('Chest film.'), **options)
      assert score.parsed == (parsed,), why
      assert score.total == (float(parsed),), why


def test_a_section_without_a_word_is_none():
  text = said('Findings: . Impression: -')
  assert one(report.consistent, text).parsed == (False,)
  assert one(report.radflow, text).parsed == (False,)
  text = said('Findings: clear. Impression: .')
  assert set(report.sections(text)) == {'report', 'findings'}


def test_labels_against_a_data_sets_own_states():
  given = record({'Pleural Effusion': 'positive', 'Edema': 'not mentioned',
                  'Pneumothorax': 'negative'}, 'states')
  score = one(report.labels, said('Effusion. No pneumothorax.'), given)
  assert score.total == (1.0,)


def test_label_spans_say_what_is_right_and_wrong():
  text = said('Findings: effusion, edema, no pneumothorax or heart failure. '
              'Impression: x')
  score = one(report.labels, text)
  told = {text[a:b]: v for a, b, v in score.spans[0]}
  # 'heart failure' is counted as edema, whose positive mention wins.
  assert told == {'effusion': 1.0, 'edema': -1.0, 'no': 1.0,
                  'pneumothorax': 1.0}


def test_a_reference_without_the_section_pays_nobody():
  score = one(report.labels, said(GOLD), record('Findings: edema.'),
              section='impression')
  assert score.total == (0.0,) and score.parsed == (True,)


def test_words_by_section():
  text = said('Findings: nothing alike. Impression: Small effusion.')
  assert one(report.words, text, section='impression').total[0] == 1.0
  assert one(report.words, text, section='findings').total[0] == 0.0
  score = one(report.words, text, section='impression', metric='bleu')
  (start, end, value), = score.spans[0]
  assert text[start:end].strip() == 'Small effusion.' and value == 1.0


@pytest.mark.parametrize('body, conclusion, expected, why', [
    ('Effusion.', 'Effusion.', 1.0, 'borne out'),
    ('No effusion.', 'Effusion.', 0.0, 'denied before'),
    ('Clear.', 'Effusion.', 0.0, 'never mentioned'),
    ('Possible effusion.', 'Effusion.', 1.0, 'doubt does not clash'),
    ('Effusion.', 'Effusion and edema.', 0.5, 'one of two'),
    ('Effusion.', 'Edema. No pneumothorax.', 0.5, 'a denial dilutes'),
    ('Effusion.', 'See above.', 1.0, 'nothing concluded'),
    ('No effusion.', 'No acute cardiopulmonary process.', 1.0, 'normal both'),
    ('Edema.', 'No acute cardiopulmonary process.', 0.0, 'not normal'),
])
def test_findings_impression_consistency(body, conclusion, expected, why):
  text = said(f'Findings: {body} Impression: {conclusion}')
  assert one(report.consistent, text).total[0] == pytest.approx(expected), why


def test_consistency_needs_both_sections_and_no_label():
  assert report.consistent.label_free
  assert one(report.consistent, said('Impression: edema.')).parsed == (False,)
  reward = compose.build({'c': {'fn': 'medrl.rewards.report.consistent',
                                'weight': 1.0}})
  text = said('Findings: edema. Impression: edema.')
  assert reward(record(), [types.Completion(text)], {}).total == (1.0,)


@pytest.mark.parametrize('answer, text, recall, flag, precision, why', [
    (SICK, SICK, 1.0, 1.0, 1.0, 'all'),
    (SICK, 'Pneumothorax.', 0.5, 1.0, 1.0, 'one of two'),
    (SICK, 'No pneumothorax.', 0.0, 1.0, 1.0, 'denied'),
    (SICK, 'Possible pneumothorax.', 0.0, 1.0, 1.0, 'only doubted'),
    (SICK, 'Tension pneumothorax, large effusion, free air.', 1.0, 1.0, 0.5,
     'claiming all is full recall: why precision is told'),
    (GOLD, GOLD, 1.0, 0.0, 1.0, 'a small effusion is not critical'),
    (GOLD, 'Large effusion.', 0.0, 0.0, 0.0, 'a false alarm'),
])
def test_critical_findings(answer, text, recall, flag, precision, why):
  score = one(report.critical, said(text), record(answer))
  found = (score.total[0], score.parts['critical'][0],
           score.parts['precision'][0])
  assert found == pytest.approx((recall, flag, precision)), why


def test_the_critical_flag_stands_beside_labels_too():
  score = one(report.labels, said('x'), record(SICK))
  assert score.parts['critical'] == (1.0,)
  sten = record('Severe stenosis of the left ICA.')
  score = one(report.labels, said('x'), sten, lexicon='carotid')
  assert score.parts['critical'] == (1.0,)


def test_radflow_by_hand():
  text = said('Findings: There is a small left pleural effusion. No '
              'pneumothorax. Heart size is normal. Impression: Edema.')
  score = one(report.radflow, text)
  parts = {k: v[0] for k, v in score.parts.items()}
  assert parts['fluency'] == pytest.approx(1.0)     # the same words
  assert parts['medical'] == 1.0                    # the same labels
  assert parts['consistency'] == 0.0                # edema comes from nowhere
  assert parts['local'] == 0.0                      # and is wrong
  assert parts['global'] == pytest.approx(0.2 + 0.5)
  assert score.total[0] == pytest.approx(0.5 * 0.7)
  cut = {text[a:b].strip()[:6]: v for a, b, v in score.spans[0]}
  assert cut == {'There ': pytest.approx(0.7), 'Edema.': 0.0}


def test_radflow_of_the_reference_is_one_and_needs_both_sections():
  assert one(report.radflow, said(GOLD)).total[0] == pytest.approx(1.0)
  assert one(report.radflow, said('Findings: edema.')).parsed == (False,)
  with pytest.raises(ValueError, match='weights'):
    one(report.radflow, said(GOLD), weights=(0.9, 0.9, 0.9))


@pytest.mark.parametrize('rule', [
    report.labels, report.words, report.critical, report.radflow])
def test_a_reference_is_needed(rule):
  with pytest.raises(ValueError, match='NoneType'):
    one(rule, said(GOLD), record(None))


@pytest.mark.parametrize('options, message', [
    ({'where': 'think'}, 'where'), ({'section': 'history'}, 'section'),
    ({'lexicon': 'brain'}, 'carotid')])
def test_unknown_options(options, message):
  with pytest.raises(ValueError, match=message):
    one(report.labels, said(GOLD), **options)


def test_constant_reports_stay_below_an_honest_one():
  golds = [GOLD, SICK, NORMAL,
           'Findings: Cardiomegaly and edema. Impression: Heart failure.']
  honest = sum(one(report.labels, said(g), record(g)).total[0] for g in golds)
  everything = 'Effusion, pneumothorax, edema, cardiomegaly, pneumonia.'
  for text in (NORMAL, everything, 'x', 'no effusion ' * 50):
    total = sum(one(report.labels, said(text), record(g)).total[0]
                for g in golds)
    assert total <= honest - 1.5


def test_total_on_any_text():
  rng = random.Random(1)
  pieces = ['Findings:', 'Impression:', '<answer>', '</answer>', 'no edema ',
            '\0', '\ud800', '\n', 'x' * 50, '</think>', '心影增大']
  for _ in range(40):
    text = ''.join(rng.choices(pieces, k=rng.randrange(200)))
    for rule in (report.labels, report.consistent, report.critical,
                 report.words, report.radflow):
      for options in ({}, {'where': 'text'}):
        score = one(rule, text, **options)
        assert all(0 <= a <= b <= len(text) for a, b, _ in score.spans[0])
