"""Signals that go on writing: other ends of a completion, other answers.

See `signals` for what each is.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from medrl import build
from medrl import sharding
from medrl.evals import run as evals
from medrl.rewards.parse import blocks
from medrl.rollout import sampler
from medrl.trainers import prefixes
from medrl.trainers import probes
from medrl.trainers import signals


@signals.uses_reference
def reference_answer(tools: signals.Tools) -> signals.Signal:
  """The reference policy's greedy completion, the same for a whole group."""
  run = tools.run
  options = build.sampling_options(run, 1, 0.0)

  def sample(params, batch, key, step, numbers):
    return sampler.rollout(run.family, run.model, params, batch,
                           jax.random.fold_in(key, step), numbers, options)

  program = signals.program(tools, 'reference_answer', sample, tools.params,
                            tools.rollout.prompt, *_draws(tools))

  def compute(moment):
    out = program(moment.reference, moment.rollout.prompt, moment.key,
                  moment.step, moment.numbers)
    found = evals.completions(run, *run.crossing.fetch(
        (out.tokens, out.action_mask)))
    return [[answers[0].text] * len(group)
            for answers, group in zip(found, moment.texts)]

  return signals.Signal(
      compute, f'a greedy completion each, {signals.tokens(tools, 1)}')


@signals.uses_reference
def rederived_answer(tools: signals.Tools) -> signals.Signal:
  """What the reference policy concludes from the reasoning, without image.

  The re-derivation of CAPO, arXiv 2506.12849; that the judge is the reference
  policy is proposed, the paper's own was not found.
  """
  run = tools.run
  length = run.config.signals.answer_length
  go_on = _continuing(tools, 'rederived_answer', 'text', 0.0, length, 1)
  opened = run.tokenizer.encode(prefixes.OPENED)

  def compute(moment):
    begun = [[prefixes.until_answer(run.tokenizer, c) + opened
              if blocks.answer(c.text) else [] for c in group]
             for group in moment.texts]
    found = go_on(moment, moment.reference, begun, 0)
    def value(completion, ending):
      if ending is None:
        return ''
      before = completion.text[:prefixes.opening(completion.text)]
      return before + prefixes.OPENED + ending
    return [list(map(value, *rows)) for rows in zip(moment.texts, found)]

  return signals.Signal(compute, f'{length} greedy tokens behind '
                                 f'{signals.tokens(tools)}, without image')


def continuations(tools: signals.Tools) -> signals.Signal:
  """Samples of the policy from the ends of its own reasoning steps.

  For the step values of MICS, arXiv 2506.16962, in which other models go on.
  """
  run = tools.run
  steps, samples = run.config.signals.steps, run.config.signals.samples
  go_on = _continuing(tools, 'continuations', 'whole',
                      run.config.rollout.temperature,
                      run.config.rollout.length, steps * samples)

  def compute(moment):
    out = [[[] for _ in group] for group in moment.texts]
    ends = [[step_ends(c.text)[:steps] for c in group]
            for group in moment.texts]
    for k in range(steps):
      begun = [[prefixes.ids(run.tokenizer, c, e[k]) if k < len(e) else []
                for c, e in zip(*rows)] for rows in zip(moment.texts, ends)]
      drawn = [go_on(moment, moment.params, begun, k * samples + s)
               for s in range(samples)]
      for p, group in enumerate(moment.texts):
        for g, completion in enumerate(group):
          if drawn[0][p][g] is not None:
            end = ends[p][g][k]
            out[p][g].append({'end': end, 'texts': tuple(
                completion.text[:end] + d[p][g] for d in drawn)})
    return [list(map(tuple, group)) for group in out]

  return signals.Signal(compute, f'{steps * samples} rollouts behind '
                                 f'{signals.tokens(tools)}')


def step_ends(text: str) -> list[int]:
  """Characters at which the steps of a completion's reasoning end.

  Its numbered steps, or else the sentences and lines of the think block.
  """
  steps = blocks.steps(text)
  if steps:
    return [step.span[1] for step in steps]
  think = blocks.think(text)
  if think is None:
    return []
  start, end = think.span
  last, found = start, []
  for at in range(start, end):
    if text[at] in '.;\n':
      if text[last:at].strip():
        found.append(at + 1)
      last = at + 1
  return [*found, end] if text[last:end].strip() else found


def _continuing(tools: signals.Tools, name: str, view: str,
                temperature: float, length: int, runs: int):
  """Compiles `(moment, params, prefixes [P][G], number) -> texts [P][G]`.

  A text is None where there was no prefix. `number` < `runs` tells draws from
  the same prefix apart.
  """
  run = tools.run
  prompts, group, written = tools.rollout.tokens.shape
  room = written + prefixes.SPARE
  options = dataclasses.replace(
      build.sampling_options(run, group, temperature), length=room + length)

  def extended(params, batch, key, step, numbers, number, tokens, mask):
    batch = probes.look(view, batch, key, run)
    key = jax.random.fold_in(jax.random.fold_in(key, step), number)
    keys = sampler.member_keys(key, numbers, group)
    state = sampler.start(run.family, run.model, params, batch, keys, options)
    state = sampler.extend(run.family, run.model, params, state, tokens, mask,
                           options)
    state = state._replace(done=~jnp.any(mask, axis=-1))
    state = sampler.decode(run.family, run.model, params, state, options,
                           length)
    return state.tokens, state.written

  rows = sharding.batch(run.mesh)
  whole = sharding.replicated(run.mesh)
  place = jax.ShapeDtypeStruct((prompts, group, room), jnp.int32, sharding=rows)
  program = signals.program(
      tools, name, extended, tools.params, tools.rollout.prompt,
      *_draws(tools), jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
      place, jax.ShapeDtypeStruct(place.shape, bool, sharding=rows))
  # Now, as nothing is uploaded but rows once steps are taken.
  counts = [jax.device_put(np.int32(n), whole) for n in range(runs)]

  def go_on(moment, params, begun, number):
    tokens, mask = prefixes.padded(begun, room)
    up = run.crossing.up((tokens, mask))
    out = run.crossing.fetch(program(
        params, moment.rollout.prompt, moment.key, moment.step, moment.numbers,
        counts[number], *up))
    texts = evals.completions(run, *out)
    return [[c.text if there.any() else None for c, there in zip(*pair)]
            for pair in zip(texts, mask)]

  return go_on


def _draws(tools: signals.Tools):
  """Abstract key, step and prompts' numbers, which draws depend on."""
  rows = sharding.batch(tools.run.mesh)
  return (*signals.moment_keys(tools), jax.ShapeDtypeStruct(
      tools.rollout.tokens.shape[:1], jnp.int32, sharding=rows))
