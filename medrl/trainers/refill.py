"""Dynamic sampling: groups that teach nothing make room for others.

DAPO, arXiv 2503.14476, section 3.2: groups whose rewards are all equal have no
advantage; they are dropped, and batches of further prompts are sampled and
scored until the step has as many groups as `config.rollout.prompts`, or
`config.rollout.refill.attempts` batches were. Then the step trains on the short
batch, whose empty rows hold groups of weight 0, so that shapes stay as they
are. What is informative beyond the batch is thrown away, as verl does, or with
`refill.carry` put first in the next step's batch; such a group is old by a
step, and once carried over it is not carried again.

Rows stay in their process: each fills its own share, and all go on while one
lacks a group. A batch of prompts from several buckets takes the smallest that
holds them all. How the loss corrects for age is said in `prepare`.
"""

import collections
from collections.abc import Callable
import dataclasses
import logging
from typing import Any, NamedTuple

import jax
import numpy as np

from medrl import build
from medrl import metrics
from medrl import sharding
from medrl import types
from medrl.data import batching
from medrl.rewards.array import budget
from medrl.rewards.array import combine
from medrl.trainers import kept
from medrl.trainers import scored as scored_lib
from medrl.trainers import session as session_lib

Scored = scored_lib.Scored


def check(config) -> None:
  """Raises ValueError where `config.rollout.refill` does not fit the rest."""
  refill, group = config.rollout.refill, config.rollout.group
  if refill.attempts < 0 or refill.attempts and group < 2:
    raise ValueError(
        f'rollout.refill.attempts {refill.attempts} with rollout.group '
        f'{group}; expected 0, or more with groups of at least 2: the rewards '
        f'of one completion are always all equal')
  known = sorted(n for n, term in config.rewards.items() if term['weight'])
  if refill.keep and refill.keep not in known:
    raise ValueError(f'rollout.refill.keep {refill.keep!r} is no reward with a '
                     f'weight; expected one of {", ".join(known)}, or none')


def fill(attempt: Callable[[], Scored], run: build.Run, batches,
         held: list[kept.Group]) -> tuple[Scored, list[kept.Group]]:
  """A batch of informative groups, from as many batches as it takes.

  Args:
    attempt: samples and scores the next batch.
    run: the run.
    batches: the pipeline.
    held: groups carried over from the step before.

  Returns:
    the batch, with metrics of all that was sampled, and the groups to hold for
    the next step.
  """
  refill, share = run.config.rollout.refill, batches.settings.prompts
  of_ids = id_values(run)
  pool, tried, seen = list(held), [], []
  while len(tried) < refill.attempts and any(
      sharding.gather_json([len(pool) < share])):
    tried.append(attempt())
    fresh = judge(run, tried[-1], of_ids)
    pool += [j.group for j in fresh if informative(j, refill.keep)]
    seen += fresh
  chosen, surplus = pool[:share], pool[max(share, len(held)):]
  missing = share - len(chosen)
  values = sampled(seen, tried) | session_lib.host_means({
      'rollout/attempts': metrics.Mean(len(tried), 1),
      'data/missing_groups': metrics.Mean(missing, 1 / jax.process_count()),
      'data/carried_groups': metrics.Mean(len(pool[:min(share, len(held))]),
                                          1 / jax.process_count())})
  lacking = int(metrics.value(values['data/missing_groups']))
  if lacking:
    whole = run.config.rollout.prompts
    logging.warning(
        'after %d batches a step has %d of %d informative groups, and trains '
        'on those; raise rollout.refill.attempts or use other records',
        len(tried), whole - lacking, whole)
  # Where one is missing, something was sampled just now.
  filled = chosen + [void(j.group) for j in seen[-1:]] * missing
  batch, arrays = kept.joined(filled, batches.settings)
  values |= session_lib.data_metrics(batches, batch)
  return Scored(
      batching.bucket_of(batch), run.crossing.up(arrays), arrays.action_mask,
      arrays.token_mask,
      [g.example for g in filled], [g.place for g in filled],
      [g.step for g in filled], [g.texts for g in filled],
      [g.score for g in filled], {}, values, len(chosen)), (
          surplus if refill.carry else [])


class Judged(NamedTuple):
  """A group with its rewards, those of token ids alone included."""
  group: kept.Group
  total: Any               # float32 [G], as the update has it
  valid: Any               # bool [G]
  of_ids: dict[str, Any]   # terms of token ids alone -> [G]


def judge(run: build.Run, scored: Scored, of_ids) -> list[Judged]:
  """Takes the rows of a scored rollout down from the device.

  Args:
    run: the run.
    scored: from `scored.attempt`.
    of_ids: from `id_values`.
  """
  arrays = run.crossing.fetch(scored.rollout._replace(prompt=()))
  more, parts = of_ids(arrays)
  out = []
  for p, row in enumerate(kept.rows(arrays)):
    score = scored.scores[p]
    group = kept.Group(scored.places[p], scored.steps[p], scored.examples[p],
                       row, scored.texts[p], score)
    total = np.float32(score.total) + np.float32(more[p])
    out.append(Judged(group, total, np.array(score.valid, bool),
                      {name: values[p] for name, values in parts.items()}))
  return out


def id_values(run: build.Run):
  """`arrays -> (weighted sum [P, G], {term: [P, G]})`: on the host what
  `prepare.id_rewards` is on the device."""
  _, terms = build.split_rewards(run.config)
  score = combine.build(terms, np) if terms else None

  def of_arrays(arrays: types.Rollout):
    if score is None:
      return np.zeros(arrays.tokens.shape[:2]), {}
    there = budget.written(arrays.tokens, arrays.action_mask, np, stop=run.stop)
    ids, lengths = combine.packed(arrays.tokens, there, np)
    return score({'ids': ids, 'lengths': lengths})

  return of_arrays


def informative(judged: Judged, keep: str = '') -> bool:
  """Whether the valid completions of a group have rewards that differ.

  As `rl.advantages.uniform_groups` sees it: of fewer than two valid ones none
  differs; one that is not a number does.

  Args:
    judged: the group.
    keep: the reward term that is looked at, '' for their weighted sum.
  """
  values = judged.total
  if keep:
    parts = {**judged.group.score.parts, **judged.of_ids}
    values = np.float32(parts[keep])
  values = values[judged.valid]
  return len(values) > 1 and not values.max() <= values.min()


def void(group: kept.Group) -> kept.Group:
  """The group without any completion that counts: rows that fill a batch."""
  none = (False,) * len(group.score.total)
  return dataclasses.replace(
      group, score=dataclasses.replace(group.score, valid=none))


def sampled(seen: list[Judged], tried: list[Scored]) -> dict[str, Any]:
  """Metrics of rewards over all groups that a step sampled, kept or not.

  Of the kept ones alone a reward's mean would say little of the policy.
  """
  failed = collections.Counter()
  for scored in tried:
    failed.update(scored.failed)
  means = {'reward/total': metrics.Mean(0., 0.),
           'data/uniform_groups': metrics.Mean(0., 0.)}
  for j in seen:
    rows = {'reward/total': metrics.Mean(j.total[j.valid].sum(),
                                         j.valid.sum()),
            'data/uniform_groups': metrics.Mean(not informative(j), 1.)}
    rows |= {f'reward/part/{name}': metrics.Mean(values.sum(), values.size)
             for name, values in j.of_ids.items()}
    for name, mean in rows.items():
      means[name] = metrics.merge(means[name], mean) if name in means else mean
  return session_lib.host_means(means) | scored_lib.reward_metrics(
      [j.group.score for j in seen], failed)
