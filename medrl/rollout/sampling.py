"""One token a row from logits: the draw, its log-probs and the entropy.

The policy itself is the distribution at temperature 1 without banned ids; its
log-probs and entropy are what training is about. What is drawn from may differ
from it: penalty, temperature, top-k, top-p, min-p, in the order in which
transformers applies them. Not here: the passes over the vocabulary (`blocks`),
when a completion ends (`stops`), and which uniform number a draw gets
(`sampler`).
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from medrl.rollout import blocks as blocks_lib


@dataclasses.dataclass(frozen=True)
class Options:
  """How completions are drawn. Frozen, so it can be a static argument.

  `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and
  `repetition_penalty` 1 are off. `stop` ids end a completion and belong to it;
  so does the token in which one of `stop_strings` ends. `banned` ids are never
  written. Log-probs of the ids in `capture` are kept at each token.

  The rest is the `slots` sampler's: decode slots, prompts whose keys are held
  at a time, and prompts encoded at a time (0: as many as there are), all over
  the `parts` of a mesh that hold prompts of their own; what keys are kept as
  ('int8', a dtype, or '' for the compute dtype); how many tokens are drafted,
  from the continuation of the last `ngram` where they stood before.
  """
  group: int
  length: int
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  stop: tuple[int, ...] = ()
  banned: tuple[int, ...] = ()
  pad: int = 0
  min_p: float = 0.0
  repetition_penalty: float = 1.0
  stop_strings: tuple[str, ...] = ()
  capture: tuple[int, ...] = ()
  slots: int = 0
  resident: int = 0
  chunk: int = 0
  parts: int = 1
  kv: str = ''
  draft: int = 0
  ngram: int = 3

  def __post_init__(self):
    if self.group < 1 or self.length < 1:
      raise ValueError(f'group {self.group} and length {self.length} must be '
                       f'at least 1')
    if not 0 < self.top_p <= 1 or self.top_k < 0 or self.temperature < 0:
      raise ValueError(
          f'temperature {self.temperature} and top_k {self.top_k} must not be '
          f'negative, and top_p {self.top_p} must lie in (0, 1]')
    if not 0 <= self.min_p <= 1 or self.repetition_penalty <= 0:
      raise ValueError(
          f'min_p {self.min_p} must lie in [0, 1], and repetition_penalty '
          f'{self.repetition_penalty} must be positive (1 is off)')
    if min(self.slots, self.resident, self.chunk, self.draft) < 0 or min(
        self.parts, self.ngram) < 1:
      raise ValueError(
          f'slots {self.slots}, resident {self.resident}, chunk {self.chunk} '
          f'and draft {self.draft} must not be negative, and parts '
          f'{self.parts} and ngram {self.ngram} must be at least 1')
    if not self.stop:
      raise ValueError('stop must name at least one id')
    if not all(self.stop_strings):
      raise ValueError(f'stop_strings {self.stop_strings} must not hold an '
                       f'empty string, which ends every completion')


class Drawn(NamedTuple):
  """What one draw gives; shapes without the vocabulary, logs in nats."""
  token: jax.Array        # int32 [...]
  logp: jax.Array         # float32 [...], of the policy
  entropy: jax.Array      # float32 [...], of the policy
  drawn_logp: jax.Array   # float32 [...], of what was drawn from; greedy 0
  captured: jax.Array     # float32 [..., C], of the policy, of options.capture


def ban(logits, banned: tuple[int, ...]):
  """Logits [..., V] without the ids that the policy may not write."""
  if not banned:
    return logits
  return logits.at[..., jnp.array(banned)].set(blocks_lib.MASKED)


def log_probs(logits):
  """log p [..., V] and entropy [...] in nats, float32."""
  logp = jax.nn.log_softmax(logits.astype(jnp.float32))
  return logp, -jnp.sum(jnp.exp(logp) * logp, axis=-1)


def draw(logits, uniform, options: Options, seen=None) -> Drawn:
  """One id a row by inverse CDF, in the order of ids, or of ranks with top-k.

  A row's draw depends on its logits and its uniform number alone.

  Args:
    logits: float32 [..., V], without banned ids (`ban`).
    uniform: float32 [...] in [0, 1).
    options: what is read: temperature, top_k, top_p, min_p,
      repetition_penalty and capture.
    seen: bool [..., V], ids that are in the prompt or the completion; needed
      by the repetition penalty, which divides their logits by it where they
      are positive and multiplies them where they are negative (Keskar et al.,
      arXiv:1909.05858, as transformers reads it). Greedy draws feel it too.

  With top-k exactly k ids stay, of ties the lower ones. Top-p keeps the
  smallest set of most likely ids that reaches it, with all that tie at its
  edge; min-p those with that share of the probability of the likeliest
  (arXiv:2407.01082), ties included.

  Raises:
    ValueError: a repetition penalty without `seen`.
  """
  blocks = blocks_lib.split(logits)
  peaks = jnp.max(blocks, axis=-1)
  top, log_mass, entropy = blocks_lib.policy(blocks, peaks)

  def logps_of(ids):
    chosen = jnp.take_along_axis(logits, ids, axis=-1)
    return (chosen - top[..., None]) - log_mass[..., None]

  if options.repetition_penalty != 1:
    blocks = blocks_lib.split(
        _penalised(logits, seen, options.repetition_penalty))
    peaks = jnp.max(blocks, axis=-1)
  token, drawn_logp = _chosen(blocks, peaks, uniform, options)
  # Where no logit is a number, none of the ids is there to draw.
  token = jnp.minimum(token, logits.shape[-1] - 1)
  capture = jnp.broadcast_to(jnp.array(options.capture, jnp.int32),
                             (*token.shape, len(options.capture)))
  return Drawn(token, logps_of(token[..., None])[..., 0], entropy, drawn_logp,
               logps_of(capture))


def _penalised(logits, seen, penalty: float):
  if seen is None:
    raise ValueError(f'repetition_penalty {penalty} needs `seen`, the ids of '
                     f'prompt and completion; got None')
  return jnp.where(
      seen, logits * jnp.where(logits < 0, penalty, 1 / penalty), logits)


def _chosen(blocks, peaks, uniform, options):
  """Id and its log-prob in the distribution drawn from, [...] each."""
  length = blocks.shape[-1]
  if not options.temperature:
    block = jnp.argmax(peaks, axis=-1)
    place = jnp.argmax(blocks_lib.block(blocks, block), axis=-1)
    token = (block * length + place).astype(jnp.int32)
    return token, jnp.zeros(token.shape, jnp.float32)
  if 0 < options.top_k < blocks.shape[-2] * length:
    return _among_the_best(blocks, peaks, uniform, options)
  scale = 1 / options.temperature
  top = jnp.max(peaks, axis=-1)
  masses = jnp.sum(jnp.exp(blocks * scale - peaks[..., None] * scale), axis=-1)
  weights = masses * jnp.exp((peaks - top[..., None]) * scale)
  limit, weights = _limited(blocks, peaks, weights, options)
  mass = jnp.sum(weights, axis=-1)
  block, rest = blocks_lib.pick(weights, uniform * mass)
  gaps = blocks_lib.block(blocks, block) - top[..., None]
  shares = jnp.exp(gaps * scale)
  if limit is not None:
    shares = jnp.where(gaps < limit[..., None], 0., shares)
  place, _ = blocks_lib.pick(shares, rest)
  return (block * length + place,
          blocks_lib.at(gaps, place) * scale - jnp.log(mass))


def _among_the_best(blocks, peaks, uniform, options):
  """As `_chosen`, from the k largest, which are few and sorted."""
  best, ids = blocks_lib.largest(blocks, peaks, options.top_k)
  gaps = (best - jnp.max(peaks, axis=-1, keepdims=True)) / options.temperature
  shares = jnp.exp(gaps)
  if options.top_p < 1:
    before = jnp.cumsum(shares, axis=-1) - shares
    reached = options.top_p * jnp.sum(shares, axis=-1, keepdims=True)
    least = jnp.min(jnp.where(before < reached, gaps, 0.), axis=-1,
                    keepdims=True)
    shares = jnp.where(gaps < least, 0., shares)
  if options.min_p:
    shares = jnp.where(gaps < math.log(options.min_p), 0., shares)
  mass = jnp.sum(shares, axis=-1)
  place, _ = blocks_lib.pick(shares, uniform * mass)
  return blocks_lib.at(ids, place), blocks_lib.at(gaps, place) - jnp.log(mass)


def _limited(blocks, peaks, weights, options):
  """How far below the largest logit an id may lie; None for any distance.

  Args:
    blocks: [..., B, L], logits.
    peaks: [..., B], their maxima.
    weights: [..., B], masses at the temperature over that of the likeliest id.
    options: temperature, top_p and min_p are read.

  Returns:
    the limit [...], at most 0, or None, and the masses [..., B] within it.
  """
  scale, limit = 1 / options.temperature, None
  if options.top_p < 1:
    limit, weights = blocks_lib.reach(blocks, peaks, weights, scale,
                                      options.top_p)
  if options.min_p:
    least = math.log(options.min_p) * options.temperature
    limit = jnp.maximum(limit, least) if limit is not None else (
        jnp.full(peaks.shape[:-1], least, jnp.float32))
    weights = blocks_lib.above(limit, blocks, peaks, scale)
  return limit, weights
