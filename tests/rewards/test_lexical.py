"""Overlap metrics against the packages they are named after, and by hand."""

import random

import pytest

from medrl import types
from medrl.rewards import lexical

pytest.importorskip('sacrebleu', reason='rewards packages are not installed')
pytest.importorskip('rouge_score', reason='rewards packages are not installed')
WORDS = ('no small large left right pleural effusion effusions is are seen '
         'lung lungs opacity opacities in the with without').split()


def pairs(count):
  rng = random.Random(0)
  for _ in range(count):
    yield tuple(' '.join(rng.choices(WORDS, k=rng.randrange(1, 25)))
                for _ in range(2))


def test_bleu_and_chrf_are_those_of_sacrebleu():
  import sacrebleu  # pylint: disable=import-outside-toplevel
  for value, target in pairs(40):
    assert lexical.measure(value, target, 'bleu') == pytest.approx(
        sacrebleu.sentence_bleu(value, [target]).score / 100)
    assert lexical.measure(value, target, 'chrf') == pytest.approx(
        sacrebleu.sentence_chrf(value, [target]).score / 100)
    assert lexical.measure(value, target, 'chrf++') == pytest.approx(
        sacrebleu.sentence_chrf(value, [target], word_order=2).score / 100)


def test_rouge_is_that_of_rouge_score():
  # pylint: disable=import-outside-toplevel
  from rouge_score import rouge_scorer
  kinds = ['rouge1', 'rouge2', 'rougeL']
  reference = rouge_scorer.RougeScorer(kinds)
  for value, target in pairs(40):
    wanted = reference.score(target, value)
    for kind in kinds:
      assert lexical.measure(value, target, kind) == pytest.approx(
          wanted[kind].fmeasure)


class NoSynonyms:
  """Stands for a WordNet that knows no word."""

  def synsets(self, word):
    del word
    return []


def test_meteor_is_that_of_nltk_without_synonyms():
  meteor_score = pytest.importorskip('nltk.translate.meteor_score')
  for value, target in pairs(200):
    assert lexical.meteor(value, target) == pytest.approx(
        meteor_score.single_meteor_score(
            target.split(), value.split(), wordnet=NoSynonyms()))


@pytest.mark.parametrize('value, target, expected, why', [
    # P = 3/3, R = 3/3, one chunk: 1 - 0.5 (1/3)^3.
    ('left pleural effusion', 'left pleural effusion', 1 - .5 / 27, 'equal'),
    # m = 2 of 2 and 3: F = (2/3) / (0.9 + 0.1 * 2/3), chunks 1 of 2.
    ('pleural effusion', 'left pleural effusion',
     (2 / 3) / (.9 + .1 * 2 / 3) * (1 - .5 / 8), 'recall weighs nine tenths'),
    # All matched, two chunks of two: 1 - 0.5 (2/2)^3.
    ('effusion left', 'left effusion', .5, 'order costs half'),
    ('effusions', 'effusion', .5, 'a stem, and one word is one chunk'),
    ('heart', 'lung', 0.0, 'nothing shared'), ('', 'lung', 0.0, 'nothing'),
    ('左肺', '左肺', 1 - .5 / 8, 'Chinese characters are words'),
])
def test_meteor_by_hand(value, target, expected, why):
  assert lexical.meteor(value, target) == pytest.approx(expected), why


@pytest.mark.parametrize('value, target, metric, expected, why', [
    ('x', 'x', 'bleu', 1.0, 'effective order: there are no 2-grams'),
    ('left lung', 'left lung', 'bleu4', 1.0, 'equal'),
    ('left', 'left lung', 'bleu1', 2.718281828 ** -1, 'brevity: exp(1 - 2/1)'),
    ('left left', 'left lung', 'bleu1', .5, 'a repeat is clipped'),
    ('', 'x', 'bleu', 0.0, 'nothing said'),
    ('!', 'x', 'rougeL', 0.0, 'no word'),
    ('a c b', 'a b c', 'rougeL', 2 / 3, 'a subsequence of two'),
    ('a c b', 'a b c', 'rouge1', 1.0, 'order is not looked at'),
    ('left lung x', 'left lung', 'rouge2', 2 / 3, 'one of two, one of one'),
    ('左肺结节', '左肺', 'rouge1', 2 / 3, 'rouge-score itself would say 0'),
    ('左肺结节', '左肺', 'bleu1', .5, "the tokenizer is 'zh'"),
    ('no effusion', 'effusion', 'rougeL', 2 / 3, 'meaning is not judged'),
    # EMS 1 of 2; precisions 1/2, and smoothed 1/2 of 1 2-gram; no 3-gram.
    ('left heart', 'left lung', 'merge', (.5 + (.5 + .5) / 3) / 2, 'Med-U1'),
])
def test_by_hand(value, target, metric, expected, why):
  assert lexical.measure(value, target, metric) == pytest.approx(expected), why


def score(content, gold='Left lung nodule', **options):
  record = types.Record(id='r', question='', answer=gold, answer_type='text')
  out = lexical.score(record, [types.Completion(content)], {}, **options)
  return out.total[0], out.parsed[0]


def test_score_options():
  text = '<answer>left lung mass</answer>'
  assert score(text) == (pytest.approx(2 / 3), True)
  assert score(text, threshold=.5) == (1.0, True)
  assert score(text, threshold=.7) == (0.0, True)
  assert score(text, metric='chrf', lowercase=False)[0] < score(
      text, metric='chrf')[0]
  assert score('left lung nodule') == (0.0, False)
  assert score('<answer>\n</answer>') == (0.0, False)
  with pytest.raises(ValueError, match="metric 'cider': expected"):
    score(text, metric='cider')


@pytest.mark.parametrize('metric', lexical.METRICS)
def test_long_texts_are_cut_and_values_are_shares(metric):
  # ROUGE-L without the cut takes a minute for these.
  for text in ('left lung ' * 6000, '左' * 65536, '1,' * 32768, 'y' * 65536,
               '\ud800\0' * 32768, '&amp;' * 13000, '- ' * 32768):
    assert 0.0 <= lexical.measure(text, 'left lung 左 ' * 90, metric) <= 1.0


def test_the_missing_package_is_named(monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'sacrebleu', None)
  lexical._bleu_scorer.cache_clear()  # pylint: disable=protected-access
  with pytest.raises(ImportError, match='requirements-rewards.txt'):
    lexical.bleu('a', 'a', 2)
