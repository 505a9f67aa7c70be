"""Which tokens share a row, against plain Python and the update's own split."""

import types

import jax
import numpy as np
import pytest

from medrl import build
from medrl.trainers import rows
from medrl.trainers import update
from tests.trainers import small

SPLITS = [rows.Split(*n) for n in [
    (1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 3), (2, 2, 1), (2, 3, 2)]]
WHOLE = rows.Split(1, 1, 1)
MANY = (12, 24, 48)


def ragged(seed: int, prompts=24, group=3, length=7):
  """Tokens bool [P, G, T]: empty and full completions, and holes in some."""
  rng = np.random.default_rng(seed)
  shape = (prompts, group, length)
  there = np.arange(length) < rng.integers(0, length + 1, (*shape[:2], 1))
  there &= rng.random(shape) < rng.choice([1., .6], (*shape[:2], 1))
  there[0, 0], there[1, :] = True, False
  assert (there.sum(-1) == 0).any() and (np.diff(there.astype(int)) > 0).any()
  return there


def unpack(plan, there, split):
  """Tokens (prompt, member, position) of each row, as the update reads it."""
  group, length = there.shape[1:]
  pad = there.size // split.groups
  out = [None] * len(plan)
  for prompts, places in zip(split.members(len(there)),
                             split.members(len(plan))):
    for row in places:
      real = plan[row] < pad
      assert (plan[row][~real] == pad).all()
      assert (np.diff(real.astype(int)) <= 0).all()   # pads are behind
      local, g, t = np.unravel_index(plan[row][real],
                                     (len(prompts), group, length))
      out[row] = list(zip(prompts[local], g, t))
  return out


@pytest.mark.parametrize('split', SPLITS, ids=str)
def test_members_are_the_rows_of_the_updates_micro_batches(split):
  numbers, found = np.arange(36), iter(split.members(36))
  halves = [update.microbatched(numbers, split.minibatches)[b]
            for b in range(split.minibatches)]
  want = [np.split(np.asarray(update.microbatched(half, split.microbatches)[m]),
                   split.parts)
          for half in halves for m in range(split.microbatches)]
  for part in range(split.parts):
    for of_all in want:
      np.testing.assert_array_equal(next(found), of_all[part])
  assert next(found, None) is None
  # The same micro-batches as those in which old log-probs are scored.
  parted = update.parted(numbers, split.minibatches, split.microbatches)
  np.testing.assert_array_equal(np.concatenate(want, axis=None),
                                np.asarray(parted).ravel())


@pytest.mark.parametrize('split', SPLITS, ids=str)
@pytest.mark.parametrize('room', [7, 16])
def test_each_token_stands_once_in_a_row_of_its_own_groups_prompts(split, room):
  there = ragged(0)
  plan = rows.plan(there, room, MANY, split)
  assert plan.dtype == np.int32 and plan.shape[1] == room
  found = unpack(plan, there, split)
  every = [token for row in found for token in row]
  assert sorted(every) == sorted(map(tuple, np.argwhere(there)))
  # Whole completions, their tokens neighbours and in order.
  starts = set()
  for row in found:
    last = None
    for p, g, t in row:
      if (p, g) != last:
        assert (p, g) not in starts
        starts.add((p, g))
        wanted = iter(np.flatnonzero(there[p, g]))
      last = (p, g)
      assert next(wanted) == t   # a hole is left out, and nothing else
  assert len(starts) == there.any(-1).sum()


def test_the_smallest_number_of_rows_that_is_enough_is_taken():
  there = np.zeros((4, 2, 6), bool)
  there[:, 0], there[:, 1, :3] = True, True    # 36 tokens
  for counts, want in [((4, 6, 8), 4), ((3, 6), 6), ((2, 3), None), ((), None)]:
    plan = rows.plan(there, 9, counts, WHOLE)
    assert (None if plan is None else len(plan)) == want
  # A row more is as good; the group that needs most decides for all.
  there[2:] = False
  assert len(rows.plan(there, 9, (2, 4), rows.Split(2, 1, 1))) == 4
  assert len(rows.plan(there, 9, (2, 4), rows.Split(1, 2, 1))) == 2
  empty = rows.plan(np.zeros((4, 2, 6), bool), 9, (2, 4), WHOLE)
  assert empty.shape == (2, 9) and (empty == 4 * 2 * 6).all()


def test_processes_agree_on_one_number():
  there = np.ones((4, 2, 6), bool)
  asked = []
  def agree(to):
    return lambda index: asked.append(index) or to
  assert len(rows.plan(there, 12, (4, 6, 8), WHOLE, agree(2))) == 8
  # Where another process needs rows of its own, so has this one.
  assert rows.plan(there, 12, (4, 6, 8), WHOLE, agree(3)) is None
  assert rows.plan(there, 12, (1, 2), WHOLE, agree(2)) is None
  assert asked == [0, 0, 2]


def test_padding_counts_places_without_a_token():
  there = ragged(1)
  plan = rows.plan(there, 16, MANY, WHOLE)
  for source, places in (None, there.size), (plan, plan.size):
    found = rows.padding(there, source)
    assert found.weight == places and found.total == places - there.sum()


def run_of(devices=1, **changed):
  """What `counts` and `of_step` read of a run."""
  config = small.config(rollout__prompts=8, **changed)
  mesh = types.SimpleNamespace(shape={'data': devices, 'fsdp': 1, 'tensor': 1})
  return types.SimpleNamespace(config=config, mesh=mesh)


def test_a_step_is_planned_as_the_config_says(monkeypatch):
  there = ragged(2, prompts=8, group=2, length=8)
  assert rows.of_step(run_of(), there) == (None, 0)
  run = run_of(2, rl__minibatches=2, rl__pack=dict(tokens=16, rows=(4, 8)))
  plan, count = rows.of_step(run, there)
  split = rows.Split(2, 2, 1)
  np.testing.assert_array_equal(plan, rows.plan(there, 16, (4, 8), split))
  assert count == len(plan) in (4, 8)
  assert rows.of_step(run, np.ones((8, 4, 8), bool)) == (None, 0)
  # Of two processes each has one part of the mesh and half of the rows.
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(build, 'agree', lambda index: 1)
  plan, count = rows.of_step(run, there[:4])
  assert plan.shape == (4, 16) and count == 8
  np.testing.assert_array_equal(
      plan, rows.plan(there[:4], 16, (4,), rows.Split(1, 2, 1)))


@pytest.mark.parametrize('changed, says', [
    (dict(tokens=7, rows=(4,)), r'rows of 7 tokens.*at least the 8'),
    (dict(tokens=16, rows=()), r'16 tokens, \(\) of them'),
    (dict(tokens=16, rows=(8, 4)), r'\(8, 4\) of them.*growing'),
    (dict(tokens=16, rows=(4, 4)), r'\(4, 4\) of them.*growing'),
    (dict(tokens=16, rows=(0, 4)), r'\(0, 4\) of them'),
    (dict(tokens=16, rows=(4, 6)), 'rl.pack.rows 6 does not divide by 4: 2 '
     'parts of the mesh times 2 mini-batches times 1 micro-batches')])
def test_numbers_that_do_not_fit_are_told(changed, says):
  run = run_of(2, rl__minibatches=2, rl__pack=changed)
  with pytest.raises(ValueError, match=says):
    rows.counts(run.config, run.mesh)


def test_prompts_that_do_not_divide_are_told():
  run = run_of(1, rl__minibatches=3, rl__pack=dict(tokens=16, rows=(3,)))
  with pytest.raises(ValueError, match='prompts 8 does not divide by 3'):
    rows.counts(run.config, run.mesh)
