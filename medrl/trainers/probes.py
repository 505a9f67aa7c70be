"""Signals that score what is written: no new token is sampled here.

See `signals` for what each is.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from medrl import build
from medrl import sharding
from medrl import types
from medrl.rewards.parse import blocks
from medrl.rollout import sampler
from medrl.rollout import sampling
from medrl.trainers import prefixes
from medrl.trainers import scoring
from medrl.trainers import session as session_lib
from medrl.trainers import signals

_GREY = 127
_OPTIONS = 26   # letters


def token_logps(tools: signals.Tools) -> signals.Signal:
  """Log-probs of the tokens, in nats, as the sampler had them."""
  return _of_sampler(tools, 'logps')


def token_entropy(tools: signals.Tools) -> signals.Signal:
  """Entropy at each token, in nats, as the sampler had it."""
  return _of_sampler(tools, 'entropy')


def masked_logps(tools: signals.Tools) -> signals.Signal:
  """Log-probs of the tokens with part of the image grey."""
  return _scored(tools, 'masked')


def noised_logps(tools: signals.Tools) -> signals.Signal:
  """Log-probs of the tokens with part of the image replaced by noise."""
  return _scored(tools, 'noised')


def text_logps(tools: signals.Tools) -> signals.Signal:
  """Log-probs of the tokens without the image."""
  return _scored(tools, 'text')


def _of_sampler(tools: signals.Tools, field: str) -> signals.Signal:
  def compute(moment):
    return _by_token(moment, tools.run.crossing.fetch(
        getattr(moment.rollout, field)))
  return signals.Signal(compute, 'no forward, as the sampler knows them')


def _scored(tools: signals.Tools, view: str) -> signals.Signal:
  run = tools.run
  scorer = session_lib.scorer(run)

  def score(params, rollout, key, step):
    seen = look(view, rollout.prompt, jax.random.fold_in(key, step), run)
    return scoring.policy_logps(scorer, params,
                               rollout._replace(prompt=seen))[0]

  program = signals.program(tools, f'logps/{view}', score, tools.params,
                            tools.rollout, *signals.moment_keys(tools))

  def compute(moment):
    found = program(moment.params, moment.rollout, moment.key, moment.step)
    return _by_token(moment, run.crossing.fetch(found))

  return signals.Signal(compute, f'a scoring pass, {signals.tokens(tools)}')


def _by_token(moment: signals.Moment, values) -> list[list[np.ndarray]]:
  """[P, G, T] -> one array a completion, of its ids (without its stop id)."""
  return [[row[there][:len(c.ids)] for row, there, c in zip(*group)]
          for group in zip(values, moment.written, moment.texts)]


def look(view: str, batch: types.Batch, key, run: build.Run) -> types.Batch:
  """The same prompts, seen otherwise; what is left keeps its shape.

  Args:
    view: 'whole' changes nothing; 'masked' greys the patches of
      `config.signals.share` of the soft tokens, 'noised' puts uniform noise
      there; 'text' hides the image tokens, so that nothing attends to them
      (the text keeps its positions).
    batch: P prompts.
    key: of this step.
    run: its config and layout.
  """
  if view == 'whole':
    return batch
  if view == 'text':
    mask, rows = batch.mask, jnp.arange(batch.mask.shape[0])[:, None]
    for patches in batch.media.values():
      mask = mask.at[rows, patches.slot].set(False, mode='drop')
    return batch._replace(mask=mask, media={})
  media = {}
  for index, (name, patches) in enumerate(batch.media.items()):
    where, noise = jax.random.split(jax.random.fold_in(key, index))
    hidden = jax.random.bernoulli(where, run.config.signals.share,
                                  patches.slot.shape)
    hidden = jnp.repeat(hidden, run.layout.merge ** 2, axis=1)
    shape = patches.values.shape
    instead = (jax.random.bits(noise, shape, jnp.uint8) if view == 'noised'
               else jnp.full(shape, _GREY, jnp.uint8))
    media[name] = patches._replace(
        values=jnp.where(hidden[..., None], instead, patches.values))
  return batch._replace(media=media)


def option_logps(tools: signals.Tools) -> signals.Signal:
  """Log-probs of the options where the answer stands, before and after.

  The answer is forced at once for 'before' and behind the completion's own
  reasoning for 'after' (after Med-RwR, arXiv 2510.18303, whose released term
  is constant, as it compares letters of different case).
  """
  run = tools.run
  prompts, group, length = tools.rollout.tokens.shape
  options = dataclasses.replace(build.sampling_options(run, group + 1, 0.0),
                                length=length + prefixes.SPARE)

  def score(params, batch, tokens, mask, letters):
    keys = jax.random.split(jax.random.key(0), (prompts, group + 1))
    state = sampler.start(run.family, run.model, params, batch, keys, options)
    state = sampler.extend(run.family, run.model, params, state, tokens, mask,
                           options)
    logps, _ = sampling.log_probs(state.logits)
    return jnp.take_along_axis(logps, letters[:, None], axis=-1)

  rows = sharding.batch(run.mesh)
  def place(dtype, *shape):
    return jax.ShapeDtypeStruct((prompts, *shape), dtype, sharding=rows)
  program = signals.program(
      tools, 'option_logps', score, tools.params, tools.rollout.prompt,
      place(jnp.int32, group + 1, options.length),
      place(bool, group + 1, options.length), place(jnp.int32, _OPTIONS))

  def compute(moment):
    keys, letters, begun = [], [], []
    for example, texts in zip(moment.examples, moment.texts):
      forced, ids = _option_ids(run.tokenizer, example.record.options)
      keys.append(list(ids))
      letters.append([*ids.values(), *[0] * (_OPTIONS - len(ids))])
      begun.append([forced] + [
          prefixes.until_answer(run.tokenizer, c) + forced
          if ids and blocks.answer(c.text) else [] for c in texts])
    tokens, mask = prefixes.padded(begun, options.length)
    up = run.crossing.up((tokens, mask, np.array(letters, np.int32)))
    found = run.crossing.fetch(program(moment.params, moment.rollout.prompt,
                                       *up))
    def value(p, g):
      if not mask[p, g + 1].any():
        return None
      return {when: dict(zip(keys[p], map(float, found[p, row])))
              for when, row in (('before', 0), ('after', g + 1))}
    return [[value(p, g) for g in range(group)] for p in range(len(keys))]

  return signals.Signal(compute,
                        f'a forward pass, {signals.tokens(tools, group + 1)}')


def _option_ids(tokenizer, options) -> tuple[list[int], dict[str, int]]:
  """Ids that open the answer of every option, and each option's next id.

  A tokenizer may join the tag's end with a letter, so both are found by
  spelling whole answers. Empty where a next id is not an option's own, or there
  are other than 2 to 26 options.
  """
  spelt = {key: tokenizer.encode(f'<answer>{key}</answer>') for key in options}
  if not 2 <= len(spelt) <= _OPTIONS:
    return [], {}
  same = 0
  while len({ids[same] for ids in spelt.values()}) == 1:
    same += 1
  ids = {key: found[same] for key, found in spelt.items()}
  if len(set(ids.values())) < len(ids):
    return [], {}
  return next(iter(spelt.values()))[:same], ids


def embedding(tools: signals.Tools) -> signals.Signal:
  """Mean of the policy's last hidden states over a completion's tokens."""
  run = tools.run

  def embed(params, rollout):
    prompt = rollout.prompt
    soft = run.family.encode(params, run.model, prompt.media)
    _, cache, _ = run.family.forward(
        params, run.model, prompt.ids[:, None], prompt.positions[:, None],
        prompt.mask[:, None], soft=soft)
    hidden, _, _ = run.family.forward(
        params, run.model, rollout.tokens, rollout.positions,
        rollout.token_mask, cache=cache)
    mask = rollout.action_mask[..., None]
    total = jnp.sum(jnp.where(mask, hidden.astype(jnp.float32), 0.), axis=2)
    return total / jnp.maximum(jnp.sum(mask, axis=2), 1)

  program = signals.program(tools, 'embedding', embed, tools.params,
                            tools.rollout)

  def compute(moment):
    found = run.crossing.fetch(program(moment.params, moment.rollout))
    return [list(group) for group in found]

  return signals.Signal(compute, f'a forward pass, {signals.tokens(tools)}')
