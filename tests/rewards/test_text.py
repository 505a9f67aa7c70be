"""Rules about short texts, worked by hand."""

import pytest

from medrl import types
from medrl.rewards import text


@pytest.mark.parametrize('value, target, exact, f1', [
    ('Left lung.', 'left  lung', 1.0, 1.0),
    ('the left lung', 'left lung', 0.0, 2 * 2 / 5),
    ('lung lung lung', 'lung', 0.0, 2 * 1 / 4),  # a set would give 1
    ('heart', 'lung', 0.0, 0.0),
    ('ER+', 'ER-', 0.0, 1.0),                    # why F1 is not the default
    ('', 'lung', 0.0, 0.0), ('', '', 1.0, 0.0),
    ('左肺结节', '左肺', 0.0, 2 * 2 / 6),         # a character is a word
    ('ＬＥＦＴ', 'left', 1.0, 1.0),                # full width
])
def test_exact_and_f1(value, target, exact, f1):
  assert text.exact(value, target) == exact
  assert text.f1(value, target) == pytest.approx(f1)


@pytest.mark.parametrize('value, target, expected, why', [
    ('The left lung.', 'left lung', 1.0, 'an article'),
    ('a mass', 'mass', 1.0, 'an article that leads'),
    ('left, lung', 'left lung', 1.0, 'punctuation between words'),
    ('(left) lung', 'left lung', 1.0, 'brackets'),
    ('X-ray', 'x ray', 1.0, 'a hyphen between words'),
    ('T1-weighted', 't1 weighted', 1.0, 'a hyphen after a digit'),
    ('hepatitis A', 'hepatitis', 0.0, "SQuAD's rule drops the A"),
    ('vitamin A deficiency', 'vitamin deficiency', 0.0, 'the same inside'),
    ('A', 'A', 1.0, 'nothing but an article'),
    ('the', '', 0.0, 'an article is not nothing'),
    ('ER+', 'ER-', 0.0, 'signs stay'),
    ('3-5', '3 5', 0.0, 'a range is not two numbers'),
    ('-3', '3', 0.0, 'a minus stays'),
    ('left lung', 'lung left', 0.0, 'order matters'),
    ('no effusion', 'effusion', 0.0, 'a negation is a word'),
])
def test_normalised(value, target, expected, why):
  assert text.normalised(value, target) == expected, why
  assert text.normalised(target, value) == expected, why


@pytest.mark.parametrize('value, target, recall, ems, why', [
    ('left lung', 'left lung', 1.0, 1.0, 'equal'),
    ('in the left lung', 'left lung', 1.0, 2 / 3, 'said in a sentence'),
    ('lung', 'left lung', 0.5, 1.0, 'EMS is a precision: one word is enough'),
    ('left right both none', 'left', 1.0, 1 / 4, 'recall pays for a list'),
    ('left left left left', 'left', 1.0, 1 / 4, 'a repeat is said again'),
    ('heart', 'left lung', 0.0, 0.0, 'nothing shared'),
    ('', 'lung', 0.0, 0.0, 'nothing said'), ('lung', '', 0.0, 0.0, 'no target'),
    ('a', 'a', 1.0, 0.0, 'EMS leaves articles out'),
])
def test_recall_and_ems(value, target, recall, ems, why):
  assert text.recall(value, target) == pytest.approx(recall), why
  assert text.ems(value, target) == pytest.approx(ems), why


def score(content, gold='left lung', kind='text', options=None, **kwargs):
  record = types.Record(id='r', question='', answer=gold, answer_type=kind,
                        options=options or {})
  out = text.score(record, [types.Completion(content)], {}, **kwargs)
  return out.total[0], out.parsed[0]


@pytest.mark.parametrize('content, options, expected, parsed', [
    ('<answer>lung</answer>', {}, 2 / 3, True),
    ('<answer>lung</answer>', {'metric': 'recall', 'threshold': .5}, 1.0, True),
    ('<answer>lung</answer>', {'metric': 'recall', 'threshold': .75}, 0.0,
     True),
    ('<answer>The left lung</answer>', {'metric': 'normalised'}, 1.0, True),
    ('<answer>The left lung</answer>', {'metric': 'exact'}, 0.0, True),
    ('left lung', {}, 0.0, False),               # no answer block
    ('<answer> . </answer>', {}, 0.0, False),
])
def test_score(content, options, expected, parsed):
  assert score(content, **options) == (pytest.approx(expected), parsed)


@pytest.mark.parametrize('words, reference, longest, expected, why', [
    (3, 1, None, 1.0, 'three words for one: the default by recall'),
    (4, 1, None, 0.0, 'more is a list, however short'),
    (9, 3, None, 1.0, 'in proportion'), (10, 3, None, 0.0, 'in proportion'),
    (66, 22, None, 1.0, 'above 20 words too'),
    (67, 22, None, 0.0, 'above 20 words too'),
    (5, 1, 5.0, 1.0, 'as asked for'), (6, 1, 5.0, 0.0, 'as asked for'),
    (5000, 1, 0.0, 1.0, 'no bound')])
def test_a_list_of_words_earns_nothing_by_recall(
    words, reference, longest, expected, why):
  listed = ' '.join(f'w{i}' for i in range(words))
  gold = ' '.join(f'w{i}' for i in range(reference))
  assert score(f'<answer>{listed}</answer>', gold, metric='recall',
               longest=longest) == (expected, True), why


@pytest.mark.parametrize('answer, gold, expected, why', [
    ('lung heart liver kidney left right', 'heart', 0.0, 'a list of six'),
    ('lung heart liver', 'heart', 1.0, 'a list of three still earns it'),
    ('the left heart', 'heart', 1.0, 'an answer in a phrase'),
    ('in the left lower lung', 'left lung', 1.0, 'an answer in a phrase'),
])
def test_recall_pays_for_no_long_list(answer, gold, expected, why):
  assert score(f'<answer>{answer}</answer>', gold, metric='recall') == (
      expected, True), why


@pytest.mark.parametrize('words, reference, longest, paid', [
    (20, 1, None, True), (21, 1, None, False), (25, 5, None, True),
    (26, 5, None, False), (20, 1, 2.0, True), (21, 11, 2.0, True),
    (23, 11, 2.0, False), (5000, 1, 0.0, True)])
def test_other_metrics_bound_what_is_longer_than_a_sentence(
    words, reference, longest, paid):
  listed = ' '.join(f'w{i}' for i in range(words))
  gold = ' '.join(f'w{i}' for i in range(reference))
  found, _ = score(f'<answer>{listed}</answer>', gold, longest=longest)
  assert (found > 0) == paid


def test_the_text_of_an_option_is_its_reference():
  assert score('<answer>lung</answer>', 'B', 'choice',
               {'A': 'heart', 'B': 'lung'}) == (1.0, True)


def test_wrong_calls_say_why():
  with pytest.raises(ValueError, match="metric 'bleu': expected"):
    score('', metric='bleu')
  with pytest.raises(ValueError, match='answer 5 is no string'):
    score('', gold=5, kind='int')
