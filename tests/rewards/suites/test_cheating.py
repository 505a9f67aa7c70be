"""No answer that looks at nothing earns more than the best constant answer.

More than 140 fixed policies and the best of 500 composed templates after 2,000
pulls (see `policies`), on the right answers of real records, for every reward
that compares an answer with a label. The table is printed by `pytest -s`.
"""

import collections
import functools
import random

import numpy as np
import pytest

from medrl import lookup
from medrl import types
from medrl.rewards.compat import medevalkit
from tests.rewards.suites import policies
from tests.rewards.suites import records
from tests.rewards.suites import styles

SIZE = 80
# A comparison of expressions takes milliseconds, some the whole of their time.
SIZES = {'symbolic.score': 10}
PULLS = 2000
SLACK = 0.02
FINALISTS = 5

TREE = {'benign': 'mass', 'malignant': 'mass', 'mass': 'breast',
        'normal': 'breast'}
# Reward, data set, options.
REWARDS = [
    ('answer.score', 'medqa', {}), ('answer.score', 'medmcqa', {}),
    ('answer.score', 'mmlu', {}), ('answer.score', 'medxpertqa', {}),
    ('answer.score', 'medxpertqa-mm', {}), ('answer.score', 'busi', {}),
    ('answer.score', 'bccd-choices', {}),
    ('answer.score', 'bccd-choices', {'choices_metric': 'jaccard'}),
    ('answer.score', 'medcalc-mass', {}), ('answer.score', 'pubmedqa', {}),
    ('answer.score', 'pubmedqa-yesno', {}),
    ('answer.score', 'pubmedqa-choice', {}),
    ('answer.score', 'medcalc-int', {}), ('answer.score', 'medcalc-float', {}),
    ('answer.score', 'medcalc-interval', {}),
    ('answer.score', 'medcalc-date', {}),
    ('answer.score', 'medcalc-duration', {}),
    ('answer.score', 'bccd-count', {}), ('answer.score', 'bccd-box', {}),
    ('answer.score', 'bccd-box', {'box_metric': 'giou'}),
    ('answer.score', 'bccd-boxes', {}),
    ('answer.score', 'bccd-boxes', {'box_metric': 'giou'}),
    ('answer.score', 'bccd-labels', {}), ('answer.score', 'bccd-states', {}),
    ('answer.score', 'busi-text', {}), ('answer.score', 'medqa-text', {}),
    ('answer.score', 'medqa-text', {'text_metric': 'f1'}),
    ('answer.ternary', 'medqa', {}), ('answer.ternary', 'medcalc-fixed', {}),
    ('abstain.score', 'medcalc-fixed', {}),
    ('medcalc.score', 'medcalc', {}), ('medcalc.score', 'medcalc-fixed', {}),
    ('number.score', 'medcalc-float', {'rel': 0.05}),
    ('dates.score', 'medcalc-date', {}),
    ('labels.score', 'bccd-labels', {'metric': 'f1'}),
    ('labels.score', 'bccd-states', {}),
    ('ordinal.score', 'busi-grade', {'metric': 'distance'}),
    ('ordinal.score', 'busi-grade', {}),
    ('text.score', 'medqa-text', {'metric': 'recall'}),
    ('text.score', 'medqa-text', {'metric': 'ems'}),
    ('lexical.score', 'medqa-text', {}),
    ('lexical.score', 'medqa-text', {'metric': 'bleu'}),
    ('lexical.score', 'medqa-text', {'metric': 'chrf'}),
    ('lexical.score', 'medqa-text', {'metric': 'meteor'}),
    pytest.param('symbolic.score', 'medcalc-text', {'seconds': 0.2},
                 marks=pytest.mark.slow),
    ('taxonomy.score', 'busi-text', {'parents': TREE}),
    ('box.score', 'bccd-box', {'metric': 'centre'}),
    ('box.score', 'bccd-box', {'metric': 'diou'}),
    ('box.score', 'bccd-boxes', {'over': 'mean', 'threshold': 0.5}),
    ('points.score', 'bccd-points', {'unit': 'px', 'threshold': 80}),
    ('points.score', 'bccd-points',
     {'unit': 'px', 'threshold': 320, 'metric': 'linear'}),
    ('masks.score', 'bccd-masks', {}),
    ('report.labels', 'chest-films', {}),
    ('report.labels', 'chest-films', {'counted': ('positive',)}),
    ('report.critical', 'chest-films', {}),
    ('report.words', 'chest-films', {}), ('entities.score', 'chest-films', {}),
]

# What may exceed the constants, and why that is no fault of the reward: a part
# of the template, then the argument.
ARGUED = {
    '@long': 'reads the options: right ones are longer than wrong ones, in the '
             'data; shuffled or balanced options are the remedy, not a rule',
}


def _total(reward, record, templates):
  group = [types.Completion(policies.written(t, record)) for t in templates]
  return reward(record, group, {}).total


def _means(reward, found, templates):
  """Returns the mean reward of each template over the records, float [N]."""
  return np.mean([_total(reward, r, templates) for r in found], axis=0)


def _constants(found):
  """Returns plain answers: every right one, and blends of boxes or words."""
  texts = [styles.plain(r) for r in {str(r.answer): r for r in found}.values()]
  texts.append(policies.block("I don't know"))
  kind = found[0].answer_type
  if kind in ('box', 'boxes') or 'points' in found[0].meta:
    texts += [policies.block(place) for place in _blends(found)]
  elif kind == 'choice':
    keys = sorted({key for r in found for key in r.options})
    texts += [policies.block(key) for key in keys]
  elif kind == 'text':
    words = collections.Counter(
        word for r in found for word in set(r.answer.lower().split()))
    often = [word for word, _ in words.most_common(12)]
    texts += [policies.block(' '.join(often[:i + 1])) for i in range(12)]
  return texts


def _blends(found):
  """Places in the middle of the right ones, larger and smaller."""
  if 'points' in found[0].meta:
    golds = [[p[0] - 100, p[1] - 100, p[0] + 100, p[1] + 100]
             for r in found for p in r.meta['points']]
  else:
    golds = [box for r in found for box in (
        r.answer if r.answer_type == 'boxes' else [r.answer])]
  boxes = np.array(golds, float)
  large = boxes[np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) > 8000]
  middle = np.median(large, axis=0)
  centre = np.tile((middle[:2] + middle[2:]) / 2, 2)
  if 'points' in found[0].meta:
    yield from ([x, y] for x in range(160, 500, 20)
                for y in range(100, 400, 20))
  for scale in (0.7, 0.85, 1.0, 1.2, 1.5, 2.0):
    a, b, c, d = (int(v) for v in centre + scale * (middle - centre))
    if 'points' in found[0].meta:
      yield [[a, b, c, b, c, d, a, d]]
    else:
      yield [[a, b, c, d]] if found[0].answer_type == 'boxes' else [a, b, c, d]


@pytest.mark.parametrize('name, data, options', REWARDS)
def test_no_blind_policy_beats_the_best_constant(name, data, options):
  reward = functools.partial(
      lookup.resolve(f'medrl.rewards.{name}'), **options)
  found = records.sample(data, SIZES.get(name, SIZE))
  constants = _constants(found)
  base = _means(reward, found, constants)
  fixed = _means(reward, found, policies.FIXED.values())
  label = ' '.join([name, data, *(str(v)[:12] for v in options.values())])
  print(f'\n{label:38} n={len(found)} constant={base.max():.3f} '
        f'{constants[base.argmax()][-60:]!r}')
  excess = dict(zip(policies.FIXED.values(), fixed - base.max()))
  excess.update(_searched(reward, found, base.max()))
  unargued = []
  for template, more in sorted(excess.items(), key=lambda item: -item[1]):
    if more <= SLACK:
      break
    why = next((why for part, why in ARGUED.items() if part in template), '')
    print(f'  {more:+.3f} {template[:100]!r}: {why or "NOT ARGUED"}')
    unargued += [] if why else [template[:200]]
  top = max(excess, key=excess.get)
  print(f'  best of {len(excess)} {excess[top]:+.3f} {top[:80]!r}')
  assert not unargued


def _searched(reward, found, constant):
  """Returns the search's finalists with what they earn above the constant."""
  arms, rng = policies.composed(), random.Random(3)

  def pull(arm):
    # Rewards below 0 are as good as none to the search.
    return max(_total(reward, rng.choice(found), [arms[arm]])[0], 0.0)

  order = policies.search(pull, len(arms), PULLS, np.random.default_rng(3))
  finalists = [arms[i] for i in order[:FINALISTS]]
  return dict(zip(finalists, _means(reward, found, finalists) - constant))


def test_there_are_enough_of_them():
  assert len(policies.FIXED) >= 60
  assert len(set(policies.composed())) == 500


def _contains(record, completions, context):
  """A peers' rule: the right key anywhere in the text is the answer."""
  del context
  return types.Score(tuple(float(record.answer in c.text)
                           for c in completions))


def test_policies_and_search_find_a_planted_hole():
  found = records.sample('medxpertqa', SIZE)
  constant = _means(_contains, found, _constants(found)).max()
  fixed = _means(_contains, found, policies.FIXED.values())
  searched = _searched(_contains, found, constant)
  print(f'\nplanted hole: constant={constant:.3f} fixed={fixed.max():.3f} '
        f'searched={constant + max(searched.values()):.3f}')
  assert fixed.max() > 0.99 and constant + max(searched.values()) > 0.99


def test_a_published_grader_pays_for_nothing_at_all():
  """MedEvalKit's guess of an option for a blank answer, and without it."""
  found = records.sample('medxpertqa-mm', SIZE)
  blank = [policies.FIXED[name] for name in ('a blank', 'a unit', 'null')]
  paid = {}
  for bugs in ((), medevalkit.BUGS):
    paid[bugs] = _means(
        functools.partial(medevalkit.score, bugs=bugs,
                          benchmark='MedXpertQA-MM'), found, blank)
  print('\nMedEvalKit for a blank, a unit, "null":', *paid.values())
  assert not paid[()].any() and paid[medevalkit.BUGS].min() > 0.1
