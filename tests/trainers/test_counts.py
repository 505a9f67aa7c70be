"""Work counted: token forwards of prefill, score and update, and prompt keys.

The bound is prompts encoded once per group, P S + P G T. Counted by the rows of
the matrix products with the MLP's weights: by hooks while the layers run one by
one, and for the gradient in the traced program.
"""

import collections
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import params as params_lib
from medrl.models import decoder
from medrl.models import qwen2_5_vl
from medrl.models import vit_qwen
from medrl.rl import logps as logps_lib
from medrl.rollout import sampler
from medrl.rollout import sampling
from medrl.rollout import slots
from medrl.trainers import rows
from medrl.trainers import scoring
from tests import elsewhere
from tests.oracles import toy

P, S, T, G = 1, 1000, 300, 8
FFN, LAYERS = 24, 2   # a width that nothing else has
CONFIG = qwen2_5_vl.Config(
    decoder.Config(16, LAYERS, 2, 1, FFN, toy.VOCAB, True, 1e4, (1, 1, 2)),
    vit_qwen.Config(1, 8, 2, 12, 16, (0,)))
FLOOR = P * S + P * G * T


@pytest.fixture(scope='module')
def params():
  return params_lib.init(jax.random.key(0), qwen2_5_vl.specs(CONFIG))


@pytest.fixture(scope='module')
def rollout():
  batch = toy.batch([toy.prompt(0, words=S)])
  assert batch.ids.shape == (P, S)
  rng = np.random.default_rng(0)
  tokens = rng.integers(10, toy.VOCAB, (P, G, T)).astype(np.int32)
  return jax.tree.map(jnp.asarray, toy.rollout(
      batch, tokens, np.ones((P, G, T), bool)))


def scorer(layout='beside'):
  return scoring.Scorer(qwen2_5_vl, CONFIG, jnp.float32, 64, (toy.IMAGE,),
                        logps_lib.token_logps, layout=layout)


class Counter:
  """Rows that meet the MLP's first weights, over the layers."""

  def __init__(self, monkeypatch):
    self.rows = 0
    linear = decoder.linear
    def counted(x, weight, inputs=1):
      if weight.shape == (CONFIG.text.hidden, FFN):
        self.rows += math.prod(x.shape[:-1])
      return linear(x, weight, inputs)
    monkeypatch.setattr(decoder, 'linear', counted)

  def tokens(self):
    return self.rows / 2 / LAYERS   # gate and up


def test_ac2_a_prefill_is_of_each_prompt_once(params, rollout, monkeypatch):
  counter = Counter(monkeypatch)
  options = sampling.Options(group=G, length=T, stop=(1,))
  keys = sampler.member_keys(jax.random.key(0), jnp.arange(P), G)
  with jax.disable_jit():
    sampler.start(qwen2_5_vl, CONFIG, params, rollout.prompt, keys, options)
  assert counter.tokens() == P * S


@pytest.mark.parametrize('layout', ['beside', 'behind', 'packed'])
def test_ac2_scoring_meets_no_token_twice(params, rollout, layout, monkeypatch):
  source = None
  if layout == 'packed':
    source = rows.plan(np.asarray(rollout.token_mask), T, (P * G,),
                       rows.Split(1, 1, 1))
  own = scorer('behind' if layout == 'behind' else 'beside')
  counter = Counter(monkeypatch)
  with jax.disable_jit():
    scoring.policy_logps(own, params, rollout, source)
  assert FLOOR <= counter.tokens() <= 1.1 * FLOOR


def products(jaxpr, times=1, found=None):
  """How often products with each pair of shapes are run, scans unrolled."""
  found = collections.Counter() if found is None else found
  for eqn in jaxpr.eqns:
    inner = times
    if eqn.primitive.name == 'scan':
      inner = times * eqn.params['length']
    if eqn.primitive.name == 'dot_general':
      found[tuple(v.aval.shape for v in eqn.invars)] += times
    for value in eqn.params.values():
      for leaf in jax.tree.leaves(value, is_leaf=lambda x: hasattr(x, 'eqns')
                                  or hasattr(x, 'jaxpr')):
        if hasattr(leaf, 'jaxpr'):
          leaf = leaf.jaxpr
        if hasattr(leaf, 'eqns'):
          products(leaf, inner, found)
  return found


def test_ac2_an_update_is_three_forwards(params, rollout):
  """Forward, and its two products each back; nothing is computed again."""
  def loss(params):
    return scoring.policy_logps(scorer(), params, rollout)[0].sum()
  found = products(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)
  # A product [n, k] by [k, m] is n k m; of these, k m is the weight's size.
  tokens = sum(
      n * math.prod(a) * math.prod(b) / (set(a) & set(b)).pop()
      for (a, b), n in found.items()
      if FFN in a + b and len(a) == len(b) == 2) / (
          CONFIG.text.hidden * FFN) / 9 / LAYERS
  assert FLOOR <= tokens <= 1.1 * FLOOR


def test_ac2_keys_of_prompts_are_held_once_a_group(params, rollout,
                                                   monkeypatch):
  held = {}
  init = qwen2_5_vl.init_slots
  for group in (1, 8):
    def watched(*arguments):
      cache = init(*arguments)
      held[group] = [x.nbytes for x in (cache.prompt_keys, cache.prompt_values)]
      return cache
    monkeypatch.setattr(qwen2_5_vl, 'init_slots', watched)
    options = sampling.Options(group=group, length=T, stop=(1,))
    jax.eval_shape(lambda p: slots.rollout(
        qwen2_5_vl, CONFIG, p, rollout.prompt, jax.random.key(0),
        jnp.arange(P), options), params)
  text = CONFIG.text
  one = LAYERS * P * S * text.kv_heads * text.head_dim * 4
  assert held == {1: [one, one], 8: [one, one]}


def moved_out(text: str) -> list[str]:
  """Products and loops, by name in the source, that a compiled sampler runs at
  every token though they were written in a loop within that loop."""
  bodies = {name: body for _, name, body in re.findall(
      r'^(ENTRY )?%?([\w.\-]+) \(.*?\{\n(.*?)^\}', text, re.M | re.S)}
  entry = re.search(r'^ENTRY %?([\w.\-]+)', text, re.M).group(1)
  # Of the loops that a program begins with, the sampler's has others in it.
  waiting = [name for name in re.findall(r'while\(.*?body=%?([\w.\-]+)',
                                         bodies[entry])
             if ' while(' in bodies[name]]
  assert waiting
  found = []
  while waiting:
    for line in bodies[waiting.pop()].splitlines():
      source = re.search(r'op_name="([^"]*)"', line)
      if source and re.search(r' (while|dot)\(', line):
        found.append(source.group(1))
      if ' while(' not in line:
        waiting += [n for n in re.findall(r'(?:calls|to_apply)=%?([\w.\-]+)',
                                          line) if n in bodies]
  assert found
  return [name for name in found if name.count('while/body') > 1]


def print_moved_out():
  """What the subprocess of the test below runs."""
  batch = toy.batch([toy.prompt(i, [(56, 84)]) for i in range(2)])
  options = sampling.Options(group=2, length=5, stop=(1,))
  program = jax.jit(lambda p, b: slots.rollout(
      qwen2_5_vl, CONFIG, p, b, jax.random.key(0), jnp.arange(2), options))
  params = params_lib.abstract(qwen2_5_vl.specs(CONFIG))
  print(json.dumps(moved_out(program.lower(params, batch).compile().as_text())))


def test_prompts_are_not_encoded_at_every_token():
  """XLA moves out of a loop what does not depend on it: were that the
  encoding, it would run at every iteration of the loop around it."""
  # As a run is compiled: under the tests' flags nothing is moved.
  assert elsewhere.printed(__name__, 'print_moved_out()',
                           elsewhere.as_a_run()) == []
