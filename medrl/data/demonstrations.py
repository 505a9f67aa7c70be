"""Demonstrations for records that have none: the form of an answer, no label.

A cold start on these teaches a policy to answer in form and what answers there
are, and nothing about which one is right, so whatever it knows of that after RL
came from the reward. Chains of thought are not made here.
"""

import dataclasses
import json

import numpy as np

from medrl import types


def format_only(records: list[types.Record], seed: int
                ) -> list[types.Record]:
  """Gives each record the answer of a random record of its task.

  A choice gets one of its own options, each as likely as any other; every other
  type an answer that occurs in the task, as often as it occurs. The record's
  own answer plays no part but as one of those.
  """
  rng = np.random.default_rng(seed)
  pools = {}
  for record in records:
    pools.setdefault((record.task, record.answer_type), []).append(
        record.answer)

  def given(record):
    if record.answer_type == 'choice':
      return str(rng.choice(sorted(record.options)))
    pool = pools[record.task, record.answer_type]
    drawn = pool[rng.integers(len(pool))]
    return drawn if isinstance(drawn, str) else json.dumps(drawn)

  return [dataclasses.replace(
      r, demonstration=f'<think></think><answer>{given(r)}</answer>')
          for r in records]
