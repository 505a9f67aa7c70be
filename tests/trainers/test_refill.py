"""Dynamic sampling: what is dropped, what is drawn in its place, what is held.

The oracle is a walk over the groups in the order in which rewards saw them.
"""

import dataclasses
import shutil
import signal
import types as pytypes

import numpy as np
import pytest

from medrl import metrics
from medrl import types
from medrl.evals import run as evals
from medrl.trainers import kept
from medrl.trainers import refill
from tests.trainers import small

PROMPTS = 4
CORRECTED = {'rl__old_logps': 'sampler'}
asked = []     # (step, record, texts) of each group, in order
stop_at = []   # finished steps at which `mixed` asks the run to stop


def told_apart(record) -> bool:
  """Of five records of eight."""
  return int(record.id.rsplit('-', 1)[1]) % 3 != 1


def mixed(record, completions, context):
  """Differs within every group of a record that is told apart, in no other."""
  asked.append((context['step'], record, [c.text for c in completions]))
  if context['step'] in stop_at:
    stop_at.clear()
    signal.raise_signal(signal.SIGTERM)
  return types.Score(tuple(float(i if told_apart(record) else 1)
                           for i in range(len(completions))))


def flat(record, completions, context):
  """Equal in all groups; and a term that differs, to be told apart from."""
  del record, context
  return types.Score((.5,) * len(completions))


def train(folder, **changed):
  """Lines by step without times, and the rows of rollouts.jsonl."""
  asked.clear()
  changed = {'rewards': {'mixed': {'fn': f'{__name__}.mixed', 'weight': 1.}},
             'rollout__refill__attempts': 8} | changed
  lines = small.train(folder, **changed)
  return {step: {k: v for k, v in line.items() if not k.startswith('time/')}
          for step, line in lines.items()}, metrics.read(
              folder / 'rollouts.jsonl')


def walk(groups, carry):
  """Longhand: steps -> (records trained on, batches drawn, carried)."""
  drawn = iter([groups[i:i + PROMPTS]
                for i in range(0, len(groups), PROMPTS)])
  held, out = [], []
  while True:
    pool, batches = list(held), 0
    while len(pool) < PROMPTS:
      batch = next(drawn, None)
      if batch is None:
        return out
      pool += [record for _, record, _ in batch if told_apart(record)]
      batches += 1
    out.append(([r.id for r in pool[:PROMPTS]], batches, len(held)))
    held = pool[PROMPTS:] if carry else []


@pytest.fixture(scope='module', params=[False, True], ids=['drop', 'carry'])
def run(request, tmp_path_factory):
  """A run of three steps that nothing interrupts, and what it asked for."""
  folder = tmp_path_factory.mktemp('run') / 'run'
  changed = {'rollout__refill__carry': request.param,
             'checkpoint__every': 1, **CORRECTED}
  return pytypes.SimpleNamespace(
      folder=folder, changed=changed, carry=request.param,
      found=train(folder, **changed), asked=list(asked))


def test_uniform_groups_are_dropped_and_others_drawn(run):
  lines, rows = run.found
  steps = walk(run.asked, run.carry)
  assert len(steps) == 3 and max(batches for _, batches, _ in steps) > 1
  assert any(carried for _, _, carried in steps) == run.carry
  for step, (records, batches, carried) in enumerate(steps, 1):
    line = lines[step]
    # A record is known by its digest in the log.
    digests = [evals.anonymous(r.source, r.id) for i in records
               for r in {r.id: r for _, r, _ in run.asked}.values()
               if r.id == i]
    assert [r['record'] for r in rows if r['step'] == step] == digests
    assert line['rollout/attempts'] == batches
    assert line['data/carried_groups'] == carried
    assert line['data/missing_groups'] == 0
    assert line['optim/grad_norm'] > 0
    fresh = [r for s, r, _ in run.asked if s == step - 1]
    odd = sum(not told_apart(r) for r in fresh)
    # Of all that was sampled, kept or not: 1 or 0.5 on average in a group.
    assert line['data/uniform_groups'] == odd / len(fresh)
    assert line['reward/total'] == (odd + len(fresh)) / 2 / len(fresh)
    assert line['reward/part/mixed'] == line['reward/total']
    assert line['data/seen'] == PROMPTS * sum(b for _, b, _ in steps[:step])
    age = line['rollout/staleness'] if run.carry else 0
    assert age == carried / PROMPTS


def test_draws_do_not_repeat_between_batches_of_a_step(run):
  texts = {}
  for _, record, said in run.asked:
    texts.setdefault(record.id, []).append(tuple(said))
  assert max(map(len, texts.values())) > 1   # eight records come again
  for said in texts.values():
    assert len(set(said)) == len(said)


def test_a_run_that_is_stopped_goes_on_as_one_that_was_not(run, tmp_path):
  if not run.carry:
    pytest.skip('holds nothing between steps')
  changed = run.changed | {'checkpoint__every': 100}
  # Where it holds a group.
  step = next(i for i, (_, _, carried) in enumerate(walk(run.asked, True))
              if carried)
  stop_at.append(step - 1)
  with pytest.raises(SystemExit):
    train(tmp_path, **changed)
  assert (tmp_path / 'kept' / f'{step}.0.npz').exists()
  assert train(tmp_path, **changed) == run.found


def test_with_overlap_every_batch_serves_once(run, tmp_path):
  if not run.carry:
    pytest.skip('one run of the two is enough')
  lines, _ = train(tmp_path, **run.changed, rl__overlap=True)
  steps = walk(asked, run.carry)
  assert [lines[s]['rollout/attempts'] for s in (1, 2, 3)] == [
      batches for _, batches, _ in steps]
  # In the order of the stream, whatever step a batch was drawn in.
  assert [r.id for _, r, _ in asked] == [r.id for _, r, _ in run.asked][
      :len(asked)]


def test_a_short_batch_is_told_and_trained_on(tmp_path, caplog):
  lines, rows = train(tmp_path, rl__steps=1, rollout__refill__attempts=1)
  good = [r for _, r, _ in asked if told_apart(r)]
  assert len(asked) == PROMPTS and 0 < len(good) < PROMPTS
  assert lines[1]['data/missing_groups'] == PROMPTS - len(good)
  assert len(rows) == len(good) and lines[1]['optim/grad_norm'] > 0
  told = [r.getMessage() for r in caplog.records if 'informative' in
          r.getMessage()]
  assert told == [f'after 1 batches a step has {len(good)} of {PROMPTS} '
                  f'informative groups, and trains on those; raise '
                  f'rollout.refill.attempts or use other records']


@pytest.mark.parametrize('keep', ['', 'flat'])
def test_terms_of_token_ids_and_a_term_by_name_decide(tmp_path, keep):
  """`long` is computed on the device; `flat` never differs."""
  terms = {'flat': {'fn': f'{__name__}.flat', 'weight': 1.},
           'long': {'fn': 'medrl.rewards.budget.overlong', 'weight': .5,
                    'options': {'limit': 8, 'buffer': 7}}}
  lines, rows = train(tmp_path, rl__steps=1, rewards=terms,
                      rollout__refill__attempts=3,
                      rollout__refill__keep=keep)
  assert lines[1]['rollout/attempts'] <= 3
  if keep == 'flat':
    assert lines[1]['data/missing_groups'] == PROMPTS and not rows
    # What fills the batch has no weight at all.
    assert lines[1]['optim/grad_norm'] == lines[1]['optim/update_norm'] == 0
  for row in rows:
    values = [c['reward'] for c in row['completions']]
    assert len(set(values)) > 1
    assert values == pytest.approx(
        [1. * c['parts']['flat'] + .5 * c['parts']['long']
         for c in row['completions']])


@pytest.mark.parametrize('changed, says', [
    ({'rollout__refill__attempts': -1}, 'attempts -1'),
    ({'rollout__group': 1}, 'rollout.group 1; expected 0, or more with groups'),
    ({'rollout__refill__keep': 'answer'},
     "keep 'answer' is no reward with a weight; expected one of mixed")])
def test_what_does_not_fit_is_told(tmp_path, changed, says):
  with pytest.raises(ValueError, match=says):
    train(tmp_path, **changed)


def judged(total, valid=None, **parts):
  score = types.Score(tuple(total), parts)
  group = kept.Group(0, 0, types.Example(None), None, [], score)
  valid = np.ones(len(total), bool) if valid is None else np.array(valid)
  return refill.Judged(group, np.float32(total), valid, {})


@pytest.mark.parametrize('group, informative', [
    (judged([0., 1.]), True),
    (judged([1., 1., 1.]), False),
    (judged([1.]), False),
    (judged([0., 1.], [True, False]), False),      # one is left
    (judged([0., 1., 0.], [True, False, True]), False),
    (judged([0., 1.], [False, False]), False),
    (judged([np.nan, 1.]), True),                  # seen, not hidden
    (judged([1., 1. + 1e-9]), False)])             # equal where it is learnt
def test_a_group_is_informative_where_valid_rewards_differ(group, informative):
  assert refill.informative(group) == informative


def test_a_group_is_looked_at_by_the_named_term():
  group = judged([1., 1.], answer=(0., 1.), format=(1., 0.), same=(1., 1.))
  assert refill.informative(group, 'answer')
  assert not refill.informative(group) and not refill.informative(group, 'same')


def test_what_is_kept_is_read_back_by_any_number_of_processes(
    tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  fields = {n: rng.normal(size=(2, 3)) for n in kept._fields()}
  score = types.Score((.1, 2.), {'a': (0., 1.)}, (True, False), (True, True), 1,
                      (((0, 3, .5),), ()))
  groups = [kept.Group(place, 7, types.Example(f'record {place}'),
                       types.Rollout(**fields, prompt=()), ['said'], s)
            for place, s in ((5, score), (9, None))]
  manager = pytypes.SimpleNamespace(all_steps=lambda: [2])
  session = pytypes.SimpleNamespace(folder=tmp_path, manager=manager, run=None)
  batches = pytypes.SimpleNamespace(
      at=lambda places: [types.Example(f'record {p}') for p in places])
  monkeypatch.setattr(kept.evals, 'completions',
                      lambda run, tokens, mask: [['said']] * len(tokens))
  assert kept.write(session, 1, {'held': [], 'ahead': []}) == 0
  assert not (tmp_path / 'kept').exists()
  for step in (1, 2, 3):   # the first has no checkpoint any more
    assert kept.write(session, step, {'held': groups, 'ahead': []}) == 1
  assert sorted(p.name for p in (tmp_path / 'kept').iterdir()) == [
      '2.0.npz', '3.0.npz']
  found = kept.read(session, 3, 1, batches)
  assert not found['ahead']
  for got, want in zip(found['held'], groups, strict=True):
    assert dataclasses.replace(got, arrays=None) == dataclasses.replace(
        want, arrays=None)
    for a, b in zip(got.arrays, want.arrays):
      np.testing.assert_array_equal(a, b)
  shutil.copy(tmp_path / 'kept/3.0.npz', tmp_path / 'kept/3.1.npz')
  places = [g.place for g in kept.read(session, 3, 2, batches)['held']]
  assert places == [5, 9, 5, 9]
