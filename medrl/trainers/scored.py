"""A batch sampled and scored: the half of a step before the update.

Which batches a step takes, and what is learnt from them, is not decided here.
"""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from medrl import lookup
from medrl import metrics
from medrl import types
from medrl.evals import run as evals
from medrl.rewards import credit
from medrl.trainers import overlap
from medrl.trainers import prepare
from medrl.trainers import session as session_lib
from medrl.trainers import signals


@dataclasses.dataclass(frozen=True)
class Parts:
  """What sampling and scoring need, the same over a run."""
  session: session_lib.Session
  draws: overlap.Draws
  inquiries: Any      # bucket -> name -> signal
  reference: Any      # sampling weights of the first policy, or {}
  scorer: Any         # of `build.scoring`


class Scored(NamedTuple):
  """Rows of one process, with what rewards say of them."""
  bucket: tuple[int, int]
  rollout: types.Rollout          # on the device, of all processes
  written: Any                    # its action mask on the host
  there: Any                      # its token mask on the host
  examples: list[types.Example]
  places: list[int]               # of their records in the stream
  steps: list[int]                # trainer steps behind the weights that wrote
  texts: list[list[types.Completion]]
  scores: list[types.Score]
  failed: dict[str, int]          # samples that failed, by cause
  values: dict[str, Any]          # metrics
  real: int                       # rows before those that fill a short batch


def attempt(parts: Parts, policy: overlap.Policy,
            spent: dict[str, float]) -> Scored:
  """Samples and scores the next batch.

  With `rl.overlap` the batch after it is started before the rewards, but not
  in the last step, which nothing follows. Signals are those of the policy at
  hand, which need not be the one that wrote.

  Args:
    parts: of the run.
    policy: who writes now.
    spent: seconds by name, to which each part's are added.
  """
  run = parts.session.run
  config, steps = run.config, run.config.rl.steps
  draw = parts.draws.take(policy, spent)
  with overlap.timed(spent, 'time/sample'):
    tokens, written, there = run.crossing.fetch(
        (draw.rollout.tokens, draw.rollout.action_mask,
         draw.rollout.token_mask))
  with overlap.timed(spent, 'time/signals'):
    texts = signals.add(parts.inquiries[draw.bucket], signals.Moment(
        policy.weights, parts.reference, draw.rollout, policy.key, draw.number,
        parts.draws.numbers, written, draw.examples,
        evals.completions(run, tokens, written)))
  if config.rl.overlap and policy.step + 1 < steps:
    parts.draws.launch(policy, spent)
  started = time.monotonic()
  with overlap.timed(spent, 'time/reward'):
    scores = parts.scorer.score([
        (e.record, c, {'step': policy.step, 'steps': steps})
        for e, c in zip(draw.examples, texts)])
  if config.rl.overlap:
    spent['hidden'] = spent.get('hidden', 0.) + parts.draws.hidden(
        started, time.monotonic())
  return Scored(draw.bucket, draw.rollout, written, there, draw.examples,
                draw.places, [draw.step] * len(scores), texts, scores,
                dict(parts.scorer.failed), draw.values, len(scores))


def score_arrays(config, examples, texts, written, scores) -> prepare.Scores:
  """Scores as arrays [P, G], with what the config asks for beside.

  Args:
    config: the run's.
    examples: P of them.
    texts: [P][G] completions.
    written: bool [P, G, T], the action mask on the host.
    scores: P of them.
  """
  def rows(values, dtype=np.float32):
    return np.array(list(values), dtype)
  total = rows(s.total for s in scores)
  parts = {name: rows(s.parts[name] for s in scores)
           for name in prepare.part_names(config)}
  given = clip = kl = None
  if config.rl.credit_weight:
    given = token_credit(texts, written, scores)
  if config.rl.per_sample:
    clip, kl = factors(config.rl.per_sample, examples, total.shape[1])
  return prepare.Scores(total, rows((s.valid for s in scores), bool), given,
                        parts, clip, kl)


def factors(name: str, examples, group: int):
  """Factors of each completion's clip range and KL weight, float32 [P, G].

  Args:
    name: dotted, of `f(record) -> (clip factor, KL factor)`.
    examples: P of them.
    group: G.

  Raises:
    ValueError: they are not two finite numbers of at least 0.
  """
  pairs = np.array([lookup.resolve(name)(e.record) for e in examples],
                   np.float32)
  if pairs.shape != (len(examples), 2) or not (
      np.isfinite(pairs) & (pairs >= 0)).all():
    raise ValueError(f'rl.per_sample {name} gave {pairs.tolist()}; expected '
                     f'two finite numbers of at least 0 for each record')
  return [np.repeat(column[:, None], group, axis=1) for column in pairs.T]


def token_credit(texts, written, scores):
  """float32 [P, G, T]: what stretches of text earned, NaN where none is."""
  given = np.full(written.shape, np.nan, np.float32)
  for p, (group, score) in enumerate(zip(texts, scores)):
    for g, (completion, spans) in enumerate(zip(group, score.spans)):
      places = np.flatnonzero(written[p, g])[:len(completion.ids)]
      given[p, g, places] = credit.token_credit(completion, spans)
  return given


def reward_metrics(scores: list[types.Score], failed: dict[str, int]
                   ) -> dict[str, metrics.Mean]:
  """Each term's mean, and what went wrong, over all processes."""
  out = {}
  if 'timeouts' in failed:
    out['reward/timeouts'] = metrics.Mean(failed['timeouts'],
                                          1 / jax.process_count())
  for score in scores:
    size = len(score.total)
    rows = {f'reward/part/{name}': metrics.Mean(sum(values), size)
            for name, values in score.parts.items()}
    rows['reward/unparsed'] = metrics.Mean(
        sum(not p for p in score.parsed), size)
    # A number, not a mean: all weights together, of all processes, are 1.
    rows['reward/errors'] = metrics.Mean(
        score.errors, 1 / len(scores) / jax.process_count())
    for name, mean in rows.items():
      out[name] = metrics.merge(out[name], mean) if name in out else mean
  return session_lib.host_means(out)
