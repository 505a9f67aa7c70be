"""The frozen policy as a judge: its replies, and a step that asks it."""

import jax
import numpy as np
import pytest

from medrl import build
from medrl import types
from medrl.evals import run as evals
from medrl.processors import qwen_vl
from medrl.rewards import cache
from medrl.rewards import judge
from medrl.trainers import reference_judge
from tests.trainers import small

ASKED = []
SIZE = {'reference_judge__prompt': 48, 'reference_judge__reply': 5}


def test_replies_are_greedy_and_depend_on_no_other_prompt(tmp_path):
  run = build.run(small.config(**SIZE), tmp_path)
  params = build.initial_params(run)
  _, abstract = evals.sampling_weights(run, jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      params))
  ask = reference_judge.judges(run, params, abstract)['reference']
  prompts = [f'Is the {word} right?' for word in (
      'side', 'organ', 'count', 'size', 'box')]   # more than a batch of four
  together = ask(prompts)
  assert together == [ask([p])[0] for p in prompts]
  assert isinstance(ask(['long ' * 60])[0], cache.Failed)
  # The first token, longhand.
  example = qwen_vl.encode(
      types.Record(id='x', question=prompts[1], answer=None,
                   answer_type='text'), [], run.tokenizer, run.layout,
      reference_judge.template.Prompt('', '{question}'))
  hidden, _, _ = run.family.forward(
      params, run.model, example.ids[None, None], example.positions[None, None],
      np.ones((1, 1, len(example.ids)), bool))
  logits = hidden[0, 0, -1] @ run.family.head(params, run.model)
  logits = np.asarray(logits.at[np.array(run.banned)].set(-1e30))
  first = run.tokenizer.decode([int(logits.argmax())])
  assert together[1].startswith(first)


def graded(record, completions, context):
  """Asks about each completion, and keeps the replies."""
  replies = judge.ask(judge.find(context, 'judges', 'reference'),
                      [c.text[:20] for c in completions])
  ASKED.extend(replies)
  return types.Score(tuple(float(len(r)) for r in replies))


def test_a_reward_asks_it_in_a_step(tmp_path):
  ASKED.clear()
  lines = small.train(tmp_path, rl__steps=1, **SIZE, rewards={
      'graded': {'fn': 'tests.trainers.test_reference_judge.graded',
                 'weight': 1.}})
  assert len(ASKED) == 8 and lines[1]['reward/errors'] == 0
  # Kept, so that a run that goes on is judged by the same policy.
  assert any((tmp_path / 'checkpoints' / 'frozen').iterdir())


def test_judges_stay_in_one_process():
  config = small.config(scoring__workers=2)
  with pytest.raises(ValueError, match="with .'judges'., which stay in one"):
    with build.scoring(config, {'reference': lambda prompts: prompts}):
      pass
