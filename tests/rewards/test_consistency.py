"""Consistency rewards by hand; the signals are written out here."""

import itertools
import math

import numpy as np
import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import consistency

OPTIONS = {'A': 'benign', 'B': 'malignant', 'C': 'normal'}


def record(answer='A', kind='choice', **meta):
  return types.Record(id='r', question='?', answer=answer, answer_type=kind,
                      options=OPTIONS if kind == 'choice' else {}, meta=meta)


def said(answer, think='I see it.'):
  return f'<think>{think}</think><answer>{answer}</answer>'


def one(rule, text, given=None, signals=None, **options):
  completion = types.Completion(text, signals=signals or {})
  score = rule(given or record(), [completion], {}, **options)
  return score.total[0] if score.parsed[0] else None


@pytest.mark.parametrize('own, again, expected, why', [
    ('A', said('A'), 1.0, 'the same letter'),
    ('A', said('benign'), 1.0, 'the same option'),
    ('A', said('B'), 0.0, 'the reasoning says otherwise'),
    ('C', said('C'), 1.0, 'consistent and wrong: correctness is not asked'),
    ('A', said('who knows'), 0.0, 'the reasoning does not say'),
    ('A', '', 0.0, 'no re-derivation'),
    ('?', said('A'), None, 'no answer of its own'),
])
def test_rederived(own, again, expected, why):
  found = one(consistency.rederived, said(own),
              signals={'rederived_answer': again})
  assert found == expected, why


@pytest.mark.parametrize('rule, needs, label_free', [
    ('rederived', ('rederived_answer',), True),
    ('image_gap', ('logps/masked', 'token_logps'), True),
    ('confidence_gain', ('option_logps',), False), ('group', (), True)])
def test_what_is_declared(rule, needs, label_free):
  name = f'medrl.rewards.consistency.{rule}'
  assert compose.needs({'c': {'fn': name, 'weight': 1.0}}) == needs
  assert getattr(consistency, rule).label_free == label_free
  if needs:
    with pytest.raises(ValueError, match='missing'):
      one(getattr(consistency, rule), said('A'), signals={})


def test_rederived_runs_without_the_label():
  reward = compose.build({'c': {'fn': 'medrl.rewards.consistency.rederived',
                                'weight': 1.0}})
  group = [types.Completion(said(a), signals={'rederived_answer': said('A')})
           for a in 'AB']
  assert reward(record('B'), group, {}).total == (1.0, 0.0)


def by_character(text, seen, masked):
  """A completion whose tokens are its characters."""
  return types.Completion(
      text, ids=tuple(range(len(text))),
      spans=tuple((i, i + 1) for i in range(len(text))),
      signals={'token_logps': seen, 'logps/masked': masked})


def gap(text, seen, masked, **options):
  return consistency.image_gap(
      record(), [by_character(text, seen, masked)], {}, **options)


def test_image_gap_is_over_think_tokens_only():
  text = said('A', 'abcd')
  start = text.index('abcd')
  seen, masked = np.full(len(text), -1.0), np.full(len(text), -9.0)
  masked[start:start + 4] = (-1.2, -1.2, -1.0, -1.0)
  score = gap(text, seen, masked)
  assert score.total[0] == pytest.approx(1 / (1 + math.exp(-0.1 / 0.1)))
  assert score.spans[0] == tuple(
      (start + i, start + i + 1, pytest.approx(v))
      for i, v in enumerate((0.2, 0.2, 0.0, 0.0)))
  assert gap(text, seen, masked, tau=1.0).total[0] == pytest.approx(
      1 / (1 + math.exp(-0.1)))


@pytest.mark.parametrize('seen, masked, expected, why', [
    (-1.0, -1.0, 0.5, 'the image made no difference'),
    (-1.0, -math.inf, 1.0, 'impossible without it: cut, not infinite'),
    (-math.inf, -1.0, 0.0, 'and the other way round'),
    (-math.inf, -math.inf, 0.5, 'no difference'),
    (math.nan, -1.0, None, 'NaN is no number to learn from'),
])
def test_image_gap_at_the_edges(seen, masked, expected, why):
  text = said('A')
  score = gap(text, np.full(len(text), seen), np.full(len(text), masked))
  found = score.total[0] if score.parsed[0] else None
  assert found == (None if expected is None else pytest.approx(expected)), why
  assert 0.0 <= score.total[0] <= 1.0


def test_image_gap_without_reasoning_or_with_misfitting_signals():
  text = '<answer>A</answer>'
  assert gap(text, np.zeros(len(text)), np.zeros(len(text))
             ).parsed == (False,)
  assert gap('', np.zeros(0), np.zeros(0)).parsed == (False,)
  with pytest.raises(ValueError, match='shape'):
    gap(said('A'), np.zeros(3), np.zeros(3))
  with pytest.raises(ValueError, match='tau'):
    gap(text, np.zeros(len(text)), np.zeros(len(text)), tau=0.0)


def test_pair_scores_by_hand():
  # right both, confused (same answer), one right and one unparsed, swapped.
  pairs = [('A', 'B', 'A', 'B'), ('A', 'A', 'A', 'B'), ('A', None, 'A', 'B'),
           ('B', 'A', 'A', 'B')]
  assert consistency.pair_scores(pairs) == pytest.approx({
      'set': 1 / 4, 'individual': 4 / 8, 'confusion': 1 / 3, 'invalid': 1 / 8,
      'precision': 1 / 2})
  assert set(consistency.pair_scores([]).values()) == {0.0}


@pytest.mark.parametrize('policy, expected_set, expected_single, confusion', [
    (lambda i: 'A', 0.0, 0.5, 1.0), (lambda i: 'AB'[i], 0.5, 0.5, 0.0)])
def test_pair_scores_of_blind_policies(policy, expected_set, expected_single,
                                       confusion):
  golds = [('A', 'B'), ('B', 'A')] * 10
  found = consistency.pair_scores(
      [(policy(0), policy(1), *g) for g in golds])
  assert (found['set'], found['individual'], found['confusion']) == (
      expected_set, expected_single, confusion)


@pytest.mark.parametrize('own, pair, expected, confused, why', [
    ('A', {'answer': 'B'}, 1.0, 0.0, 'right, the other is not known'),
    ('A', {'answer': 'B', 'prediction': 'B'}, 1.0, 0.0, 'both right'),
    ('A', {'answer': 'B', 'prediction': 'A'}, 0.0, 0.0, 'the other is wrong'),
    ('A', {'answer': 'B', 'prediction': None}, 0.0, 0.0, 'or unparsed'),
    ('B', {'answer': 'B', 'prediction': 'B'}, 0.0, 1.0, 'taken for the other'),
    ('C', {'answer': 'B'}, 0.0, 0.0, 'wrong, not confused'),
    ('?', {'answer': 'B'}, None, 0.0, 'no answer'),
])
def test_paired(own, pair, expected, confused, why):
  score = consistency.paired(record(pair=pair), [types.Completion(said(own))],
                             {})
  assert (score.total[0] if score.parsed[0] else None) == expected, why
  assert score.parts['confused'] == (confused,), why


@pytest.mark.parametrize('answer, own, pair, expected, confused, why', [
    (3.0, '3', ('N/A', 'N/A'), 1.0, 0.0, 'right to abstain on the other'),
    (3.0, '3', ('N/A', 3.0), 0.0, 0.0, 'answered where nothing is known'),
    (3.0, '3', (4.0, 'N/A'), 0.0, 0.0, 'abstained where something is'),
    (3.0, 'N/A', ('N/A', 'N/A'), 0.0, 1.0, 'abstains on the wrong image'),
    (3.0, 'unknown', (4.0, 4.0), 0.0, 0.0, 'wrong, and an answer of its own'),
    ('N/A', 'N/A', (3.0, 3.0), 1.0, 0.0, 'an abstention that is right'),
    ('N/A', "I don't know", (3.0, 'N/A'), 0.0, 0.0, 'but not on the other'),
    ('N/A', '3', (3.0, 3.0), 0.0, 1.0, 'the answer of the other'),
    ('N/A', 'hm', (3.0, 3.0), None, 0.0, 'neither answer nor abstention'),
])
def test_paired_where_one_image_leaves_it_open(answer, own, pair, expected,
                                               confused, why):
  text = said(own)
  score = consistency.paired(
      record(answer, 'float', pair=dict(zip(('answer', 'prediction'), pair))),
      [types.Completion(text)], {})
  assert (score.total[0] if score.parsed[0] else None) == expected, why
  assert score.parts['confused'] == (confused,), why
  assert [text[a:b] for a, b, _ in score.spans[0]] == (
      [] if expected is None else [own]), why


def test_paired_needs_its_pair():
  with pytest.raises(ValueError, match='pair'):
    one(consistency.paired, said('A'), record(pair='B'))


def order(letters, answer):
  return {'options': dict(zip('ABC', (OPTIONS[x] for x in letters))),
          'text': said(answer)}


@pytest.mark.parametrize('own, orders, share, acre, why', [
    ('A', [('BAC', 'B'), ('CBA', 'C')], 1.0, 1.0, 'benign always; and right'),
    ('A', [('BAC', 'B'), ('CBA', 'A')], 0.5, 0.5, 'not always, but right'),
    ('B', [('BAC', 'A'), ('CAB', 'C')], 1.0, 0.5, 'always, but wrong'),
    ('A', [('BAC', 'A')], 0.0, 0.5, 'the letter stays, the content changes'),
    ('B', [('BAC', 'B')], 0.0, 0.0, 'neither'),
    ('A', [('BAC', 'who knows')], 0.0, 0.5, 'an unparsed order disagrees'),
    ('?', [('BAC', 'B')], None, None, 'no answer'),
])
def test_permuted(own, orders, share, acre, why):
  given = record(permuted_answers=[order(*o) for o in orders])
  assert one(consistency.permuted, said(own), given) == share, why
  assert one(consistency.permuted, said(own), given, gold=True) == acre, why


def test_permuted_prefers_the_completions_own_signal_and_needs_orders():
  signals = {'permuted_answers': [order('BAC', 'B')]}
  assert one(consistency.permuted, said('A'), signals=signals) == 1.0
  with pytest.raises(ValueError, match='other orders'):
    one(consistency.permuted, said('A'))


def test_group_of_findings_by_hand():
  texts = [said('A', 'An effusion.'), said('A', 'An effusion and edema.'),
           said('A', 'No effusion.'), said('A', 'Hm.'), 'An effusion.']
  score = consistency.group(record(), [types.Completion(t) for t in texts], {})
  # Labels: {eff+}, {eff+ ede+}, {eff- nf+}; F1 of the first two is 2 / 3.
  assert score.total == pytest.approx((2 / 3 / 4, 2 / 3 / 4, 0, 0, 0))
  assert score.parsed == (True, True, True, False, False)


def test_group_of_answers_is_equivariant():
  texts = [said(a) for a in 'AAB?']
  expected = dict(zip(texts, (1 / 3, 1 / 3, 0.0, 0.0)))
  for shuffled in itertools.permutations(texts):
    score = consistency.group(
        record(), [types.Completion(t) for t in shuffled], {}, of='answer')
    assert score.total == tuple(expected[t] for t in shuffled)
  lone = consistency.group(record(), [types.Completion(said('A'))], {},
                           of='answer')
  assert lone.total == (0.0,)
  with pytest.raises(ValueError, match='votes'):
    consistency.group(record(), [], {}, of='votes')


def logps(before, after):
  return {'option_logps': {'before': dict(zip('ABC', before)),
                           'after': dict(zip('ABC', after))}}


@pytest.mark.parametrize('own, before, after, expected, why', [
    ('A', (-2, -1, -3), (-0.5, -1, -3), 0.15, '0.1 * (-0.5 + 2)'),
    ('A', (-0.5, -1, -3), (-2, -1, -3), -0.15, 'less sure than before'),
    ('B', (-3, -1, -2), (-1.5, -1, -2), 0.05, 'gold rises from rank 2 to 1'),
    ('B', (-1, -2, -3), (-3, -1, -2), -0.1, 'gold falls from 0 to 2'),
    ('B', (-1, -1, -1), (-1, -1, -1), 0.0, 'ties share the best rank'),
    ('A', (-math.inf, 0, 0), (0, 0, 0), 1.0, 'clipped'),
    ('?', (-2, -1, -3), (-1, -1, -1), None, 'no answer'),
])
def test_confidence_gain(own, before, after, expected, why):
  found = one(consistency.confidence_gain, said(own),
              signals=logps(before, after))
  assert found == (None if expected is None else pytest.approx(expected)), why


@pytest.mark.parametrize('text, signal, options, expected, why', [
    ('?', 1, {}, -1.0, 'garbled: no more than the worst answer'),
    ('A', 0, {}, -1.0, 'the reasoning cannot be followed: nor this'),
    ('?', 1, {'most': 0.25}, -0.25, 'the low end of the range'),
    ('?', 1, {'unparsed': -0.1}, -0.1, 'as asked for'),
    ('?', 1, {'unparsed': 0.0}, 0.0, 'as asked for'),
])
def test_garbling_does_not_beat_a_loss_of_confidence(text, signal, options,
                                                     expected, why):
  given = logps((0, -1, -3), (-9e9, -1, -3))   # an answer A would earn -most
  group = [types.Completion(said(text), signals=given if signal else {
      'option_logps': None})]
  score = consistency.confidence_gain(record(), group, {}, **options)
  assert score.total == (expected,) and score.parsed == (False,), why
  assert score.parts == {'confidence_gain': (expected,)}, why


def test_confidence_gain_compares_keys_whatever_their_case():
  lower = {'option_logps': {k: {key.lower(): v for key, v in w.items()}
                            for k, w in logps((-2, -1, -3), (-1, -1, -3))[
                                'option_logps'].items()}}
  assert one(consistency.confidence_gain, said('A'), signals=lower
             ) == pytest.approx(0.1)


def test_confidence_gain_without_its_signal():
  assert one(consistency.confidence_gain, said('A'),
             signals={'option_logps': None}) is None
  with pytest.raises(ValueError, match="'A'"):
    one(consistency.confidence_gain, said('A'),
        signals={'option_logps': {'before': {'B': 0.0}, 'after': {'B': 0.0}}})
  with pytest.raises(ValueError, match='choice'):
    one(consistency.confidence_gain, said('yes'), record('yes', 'yesno'),
        signals=logps((0, 0, 0), (0, 0, 0)))


@pytest.mark.parametrize('rule, signals', [
    (consistency.rederived, {'rederived_answer': said('A')}),
    (consistency.confidence_gain, logps((-2, -1, -3), (-1, -2, -3)))])
def test_spans_lie_in_the_text_and_carry_the_value(rule, signals):
  text = said('  A  ')
  score = rule(record(), [types.Completion(text, signals=signals)], {})
  (start, end, value), = score.spans[0]
  assert text[start:end] in ('A', 'I see it.') and value == score.total[0]
