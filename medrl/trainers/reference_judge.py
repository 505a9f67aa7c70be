"""The frozen reference policy as a judge: `context['judges']['reference']`.

It reads text alone and answers greedily, in a program compiled ahead. What it
is asked, and how its reply is read, is `medrl.rewards.judge`'s.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from medrl import build
from medrl import lookup
from medrl import sharding
from medrl import types
from medrl.data import batching
from medrl.evals import run as evals
from medrl.processors import template
from medrl.rewards import cache
from medrl.rewards import judge as judge_lib
from medrl.rollout import sampler


def judges(run: build.Run, weights, abstract) -> dict[str, judge_lib.Judge]:
  """{'reference': judge}, or {} where `config.reference_judge` asks for none.

  Args:
    run: the run.
    weights: sampling weights of the reference policy.
    abstract: their shapes and shardings.

  Raises:
    ValueError: there are several processes, whose rewards ask at their own
      pace, while a program of all of them must be run by all at once.
  """
  size = run.config.reference_judge
  if not size.prompt:
    return {}
  if jax.process_count() > 1:
    raise ValueError(f'reference_judge.prompt {size.prompt} with '
                     f'{jax.process_count()} processes; it judges in one')
  rows, bucket = run.config.rollout.prompts, (size.prompt, 0)
  settings = build.settings(run, rows)
  encode = functools.partial(
      lookup.resolve(run.config.processor.module).encode, media=[],
      tokenizer=run.tokenizer, layout=run.layout,
      prompt=template.Prompt(run.config.processor.system, '{question}'))
  options = dataclasses.replace(build.sampling_options(run, 1, 0.0),
                                length=size.reply)
  split = sharding.batch(run.mesh)

  def answer(params, batch, numbers):
    out = sampler.rollout(run.family, run.model, params, batch,
                          jax.random.key(0), numbers, options)
    return out.tokens, out.action_mask

  numbers = run.crossing.up(np.arange(rows, dtype=np.int32))
  program = build.compile_ahead(
      f'reference judge {bucket}', jax.jit(answer, out_shardings=split),
      abstract, build.abstract_batch(run, rows, bucket),
      jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=split))

  def ask(prompts: list[str]) -> list[str | cache.Failed]:
    examples = [encode(types.Record(id='judged', question=p, answer=None,
                                    answer_type='text')) for p in prompts]
    fits = [i for i, e in enumerate(examples) if e.valid
            and len(e.ids) <= size.prompt]
    replies: list[str | cache.Failed] = [cache.Failed(
        f'longer than reference_judge.prompt {size.prompt}')] * len(prompts)
    for start in range(0, len(fits), rows):
      chosen = fits[start:start + rows]
      # The last batch is filled up with its first prompt.
      filled = chosen + chosen[:1] * (rows - len(chosen))
      batch = batching.stack([examples[i] for i in filled], bucket,
                             settings)
      found = evals.completions(run, *run.crossing.fetch(
          program(weights, run.crossing.up(batch), numbers)))
      for i, (completion,) in zip(chosen, found):
        replies[i] = completion.text
    return replies

  return {'reference': ask}
