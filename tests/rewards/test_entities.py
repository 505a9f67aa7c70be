"""The entity score by hand, with entities and vectors of our own."""

import numpy as np
import pytest

from medrl import types
from medrl.rewards import entities

# Three directions, the third half-way between the first two.
VECTORS = {'a': (1.0, 0.0), 'b': (0.0, 1.0), 'c': (1.0, 1.0)}


def axes(texts):
  return np.array([VECTORS[t] for t in texts])


def words(text):
  """Entities written as 'a+ b-': '+' a disease, '-' a denied one."""
  out, at = [], 0
  for word in text.split():
    at = text.index(word, at)
    kind = 'DISEASE' if word[-1] == '+' else 'NON-DISEASE'
    out.append(((at, at + len(word)), word[0], kind))
    at += len(word)
  return out


def score(text, gold, **options):
  given = types.Record(id='r', question='', answer=gold, answer_type='text')
  return entities.score(given, [types.Completion(f'<answer>{text}</answer>')],
                        {}, **options)


HERE = {'extract': f'{__name__}.words', 'embed': f'{__name__}.axes',
        'affinity': 'equal', 'clash': 0.25}
ROOT = 2 ** -0.5


@pytest.mark.parametrize('text, gold, expected, why', [
    ('a+', 'a+', 1.0, 'the same'),
    ('a+', 'b+', 0.0, 'nothing in common'),
    ('a+', 'a-', 0.25, 'the same, denied: q on both sides'),
    ('c+', 'a+', ROOT, 'cosine of 45 degrees'),
    # R: a is worth 1 and b 0; P: a is worth 1.
    ('a+ b+', 'a+', 2 * 0.5 / 1.5, 'one in excess'),
    ('a+ a+ a+ b+', 'a+', 2 * 0.5 / 1.5, 'repeating changes nothing'),
    ('', '', 1.0, 'two without entities'),
    ('', 'a+', 0.0, 'RaTEScore gives 0.5 here'),
])
def test_score(text, gold, expected, why):
  found = score(text or '.', gold or '.', **HERE) if text and gold else None
  if found is None:
    value, _ = entities.f1(words(text), words(gold), axes, 'equal')
  else:
    value = found.total[0]
  assert value == pytest.approx(expected), why


def test_published_weights_by_longhand():
  # value: disease a, denied b; target: disease a. 'long': R = (0.8461 * 1 +
  # 0.1007 * 0) / (0.8461 + 0.1007), P = 1.
  recall = 0.8461 / (0.8461 + 0.1007)
  value, worth = entities.f1(words('a+ b-'), words('a+'), axes, 'long')
  assert value == pytest.approx(2 * recall / (1 + recall))
  assert worth == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize('affinity, clash', [('long', 0.8717),
                                             ('short', 0.3612)])
def test_published_clash(affinity, clash):
  value, _ = entities.f1(words('a+'), words('a-'), axes, affinity)
  assert value == pytest.approx(clash)


def test_the_offline_extractor_types_what_is_denied():
  text = 'No pneumothorax. Opacity in the left lower lobe.'
  assert [(e[1], e[2]) for e in entities.lexicon_entities(text)] == [
      ('pneumothorax', 'NON-DISEASE'), ('Opacity', 'ABNORMALITY'),
      ('left lower lobe', 'ANATOMY')]
  flow = entities.carotid_entities('Normal flow. No flow in the ICA.')
  assert [(e[1], e[2]) for e in flow] == [
      ('Normal flow', 'NON-ABNORMALITY'), ('No flow', 'ABNORMALITY'),
      ('ICA', 'ANATOMY')]


def test_the_offline_embedding_is_of_unit_length_and_never_negative():
  vectors = entities.ngram_embedding(['edema', 'oedema', 'fracture', '',
                                      '\ud800'])
  cosines = vectors @ vectors.T
  # Without letters there is no direction.
  assert np.diag(cosines) == pytest.approx([1, 1, 1, 0, 1], abs=1e-5)
  assert cosines.min() >= 0
  assert cosines[0, 1] > 0.6 and cosines[0, 2] < 0.1
  assert np.array_equal(vectors, entities.ngram_embedding(
      ['edema', 'oedema', 'fracture', '', '\ud800']))


def test_default_end_to_end_and_spans():
  gold = 'Findings: small effusion. No pneumothorax. Impression: effusion.'
  assert score(gold, gold).total[0] == pytest.approx(1.0)
  text = 'Edema.'
  found = score(text, gold, affinity='equal')
  (start, end, value), = found.spans[0]
  assert f'<answer>{text}</answer>'[start:end] == 'Edema'
  assert 0 <= value < 0.5 and found.total[0] < 0.5


@pytest.mark.parametrize('text, parsed, why', [
    ('.', False, 'a stop'), ('12', False, 'numbers'),
    ('Findings: .', False, 'a heading alone'), ('Normal.', True, 'a word')])
def test_an_answer_without_a_word_is_unparsed(text, parsed, why):
  found = score(text, 'Chest film.', affinity='equal')
  assert found.parsed == (parsed,), why
  assert parsed or found.total == (0.0,), why


def test_denying_everything_earns_less_than_the_truth():
  gold = 'Pneumothorax and edema.'
  denied = score('No pneumothorax. No edema.', gold, affinity='equal')
  assert denied.total[0] == pytest.approx(0.3612)
  assert score(gold, gold, affinity='equal').total[0] == pytest.approx(1.0)


@pytest.mark.parametrize('options, message', [
    ({'affinity': 'medium'}, 'long'), ({'section': 'impression'}, None),
    ({'embed': f'{__name__}.broken'}, 'embeddings')])
def test_wrong_options(options, message):
  if message is None:
    assert score('effusion', 'effusion', **options).parsed == (False,)
    return
  with pytest.raises(ValueError, match=message):
    score('effusion', 'effusion', **options)


def broken(texts):
  return np.full((len(texts), 2), np.nan)


def test_total_on_long_text():
  text = 'effusion no edema left lung \0\ud800 ' * 2000
  assert 0.0 <= score(text, 'effusion').total[0] <= 1.0
