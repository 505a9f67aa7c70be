"""Words, sentences and longest matches, on which findings and paths stand."""

import pytest

from medrl import types
from medrl.rewards import compose
from medrl.rewards import credit
from medrl.rewards import graded
from medrl.rewards import phrases


@pytest.mark.parametrize('word, expected', [
    ('Effusions', 'effusion'), ('opacities', 'opacity'), ('masses', 'mass'),
    ('stenoses', 'stenosis'), ('metastases', 'metastasis'),
    ('pneumothoraces', 'pneumothorax'), ('atelectasis', 'atelectasis'),
    ('thickness', 'thickness'), ('was', 'was'), ('ISN\u2019T', "isn't"),
    ('thrombus', 'thrombus'), ('\u0130', 'i\u0307')])
def test_stem(word, expected):
  assert phrases.stem(word) == expected


@pytest.mark.parametrize('text, expected', [
    ('One. Two; three!', ['One.', 'Two;', 'three!']),
    ('A 1.5 cm nodule. x', ['A 1.5 cm nodule.', 'x']),
    ('See Dr. No. x', ['See Dr. No.', 'x']), ('? edema', ['? edema']),
    ('wrapped\nline', ['wrapped\nline']), ('One\nTwo', ['One', 'Two']),
    ('One\n\ntwo', ['One', 'two']), ('', []), ('...', ['.', '.', '.'])])
def test_sentences_cover_the_text(text, expected):
  spans = list(phrases.sentences(text))
  cut = [text[a:b].strip() for a, b in spans]
  assert [c for c in cut if c] == expected
  assert ''.join(text[a:b] for a, b in spans) == text


def test_the_longest_phrase_wins_and_none_overlap():
  tree = phrases.table([('no', 1), ('no change', 2), ('change in mood', 3),
                        ('mood', 4)])
  text = 'No change in mood, no mood.'
  assert [(text[a:b], v) for a, b, v in phrases.find(text, tree)] == [
      ('No change', [2]), ('mood', [4]), ('no', [1]), ('mood', [4])]
  with pytest.raises(ValueError, match='no word'):
    phrases.table([('-', 1)])


def test_a_graded_rule_gives_parts_spans_and_unparsed():
  @graded.per_completion
  def rule(record, completion, *, worth=1.0):
    """Counts x."""
    del record
    at = completion.text.find('x')
    if at < 0:
      return graded.Grade(None)
    return graded.Grade(worth, ((at, at + 1, worth),), {'where': at})

  group = [types.Completion('\u00e9x', ids=(1, 2), spans=((0, 1), (1, 2))),
           types.Completion('-')]
  score = rule(None, group, {}, worth=2.0)
  assert score.total == (2.0, 0.0) and score.parsed == (True, False)
  assert score.parts == {'rule': (2.0, 0.0), 'where': (1.0, 0.0)}
  assert rule.per_completion and rule.__doc__ == 'Counts x.'
  # What the trainer makes of the spans.
  found = credit.token_credit(group[0], score.spans[0])
  assert found[1] == 2.0 and found[0] != found[0]


@pytest.mark.parametrize('name', [
    'report.labels', 'report.words', 'report.consistent', 'report.critical',
    'report.radflow', 'entities.score', 'process.evidence',
    'process.step_count', 'process.coverage', 'process.factual',
    'process.step_values', 'facts.score', 'paths.transitions', 'paths.path',
    'graph.support', 'graph.cited', 'consistency.rederived',
    'consistency.image_gap', 'consistency.paired', 'consistency.permuted',
    'consistency.group', 'consistency.confidence_gain'])
def test_every_reward_on_spans_can_be_composed(name):
  terms = {'t': {'fn': f'medrl.rewards.{name}', 'weight': 1.0}}
  assert callable(compose.build(terms))
