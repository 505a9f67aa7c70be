"""The benchmark of drafts on a policy that knows nothing. No time is tested."""

import numpy as np
import pytest

from launch import bench_draft
from medrl.evals import run as evals

SMALL = dict(model__size='toy', rollout__length=12, rollout__prompts=4,
             rollout__group=2, sft__length=112, sft__prompts=4,
             eval__prompts=4, eval__options=dict(count=4))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('draft')
  return bench_draft.taught(bench_draft.reports(2, **SMALL), folder)


@pytest.mark.slow
def test_a_runs_policy_writes_the_same_with_drafts(folder, capsys):
  found = bench_draft.main([f'--start={folder}', '--draft=3', '--ngram=2'])
  assert [(f['slots'], f['temperature']) for f in found] == [
      (4, 0.), (4, 1.), (8, 0.), (8, 1.)]
  for one in found:
    assert (one['draft'], one['ngram']) == (3, 2)
    assert 0 < one['tokens'] <= 4 * 2 * 12
    assert 1 <= one['tokens_per_pass'] <= 4
    before, after = one['iterations']
    assert 0 < after <= before
    # A slot writes a token an iteration, or up to four of them.
    assert one['tokens'] <= before * one['slots']
    assert one['tokens'] <= 4 * after * one['slots']
    assert one['speed_up'] == one['plain_s'] / one['draft_s'] > 0
  # Greedy, an ignorant policy repeats itself, which drafts foresee.
  assert found[0]['tokens_per_pass'] > 1
  assert found[0]['tokens'] == found[2]['tokens']
  printed = capsys.readouterr().out.splitlines()
  assert len(printed) == 4 and all('all the same' in x for x in printed)


@pytest.mark.slow
def test_its_prompts_ask_for_reports(folder):
  run, _ = bench_draft.opened(folder)
  records = evals.scored_records(run.config, folder)
  assert {r.question for r in records} == {'Report?'}
  assert all(r.answer.startswith('Findings: ') for r in records)
  batch, numbers = bench_draft.prompts(run)
  assert batch.ids.shape == (4, 64)
  np.testing.assert_array_equal(numbers, np.arange(4))


@pytest.mark.slow
def test_another_token_is_an_error(folder):
  run, weights = bench_draft.opened(folder)
  given = bench_draft.prompts(run)
  call, = bench_draft.samplers(run, weights, given, 1., [dict(slots=0)])
  one = call()
  assert bench_draft.same(one, one) == int(one.token_mask.sum())
  other = one._replace(tokens=one.tokens.at[1, 0, 2].add(1))
  with pytest.raises(ValueError, match='tokens of 1 of 8 completions differ'):
    bench_draft.same(one, other)
