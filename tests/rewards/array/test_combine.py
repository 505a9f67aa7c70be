"""A composition on device against the same composition of texts."""

import inspect

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from medrl import lookup
from medrl import types
from medrl.rewards import answer as answer_lib
from medrl.rewards import compose
from medrl.rewards import vote
from medrl.rewards.array import combine

VOCAB = ('<think>', '</', 'think', '>', '<answer>', '</answer>', '0', '1', 'a ',
         '\n')


def term(name, weight=1.0, **options):
  return {'fn': f'medrl.rewards.{name}', 'weight': weight, 'options': options}


def inner(name, **options):
  return {'fn': f'medrl.rewards.{name}', 'options': options}


TERMS = {
    'vote': term('vote.majority'),
    'label': term('vote.pseudo_label', 0.5, leave_one_out=True),
    'dare': term('spread.distribution', 0.25),
    'budget': term('budget.exact', 0.5, scale=20.0),
    'long': term('budget.overlong', 1.0, limit=16, buffer=8),
    'rep': term('repetition.tokens', 2.0, n=3),
    'shape': term('format.tags', 0.2),
    'after': term('format.think_after', 0.2, filled=True),
    'order': term('format.in_order', 0.2),
    'guarded': term('gates.product', 0.3, terms=[
        inner('budget.maximum', scale=10.0),
        inner('format.tags')]),
    'bonus': term('gates.gated', 0.3, when=inner('vote.majority'), least=0.5,
                  then=inner('budget.cosine', start=2, limit=12), otherwise=-1),
    'both': term('gates.every', 0.7, least=0.2, terms=[
        inner('vote.majority'), inner('format.in_order')]),
}


def batch():
  """Arrays of 40 groups of 6 and the completions that they are of."""
  rng = np.random.default_rng(0)
  ids = np.zeros((40, 6, 18), np.int32)
  lengths = np.zeros((40, 6), np.int32)
  for place in np.ndindex(40, 6):
    think = [0, *rng.integers(8, 10, rng.integers(6)), 1, 2, 3]
    answer = [4, *rng.integers(6, 8, rng.integers(1, 3)), 5]
    row = think + answer if rng.random() < .7 else answer + think
    if rng.random() < 0.2:
      row[rng.integers(len(row))] = rng.integers(len(VOCAB))
    ids[place][:len(row)], lengths[place] = row, len(row)
  entropy = rng.gamma(1.0, 0.5, (40, 6)).astype(np.float32)
  budgets = rng.integers(2, 18, 40).astype(np.int32)
  records = [types.Record(id='r', question='', answer=1, answer_type='int',
                          meta={'budget': n}) for n in budgets.tolist()]
  groups = [[types.Completion(''.join(VOCAB[i] for i in row[:size]),
                              ids=tuple(row[:size].tolist()),
                              signals={'token_entropy': (e,)})
             for row, size, e in zip(*rows)]
            for rows in zip(ids, lengths, entropy.tolist())]
  codes = np.array([vote.codes([answer_lib.prediction(record, c.text)
                                for c in group])
                    for record, group in zip(records, groups)])
  return {'ids': ids, 'lengths': lengths, 'answers': codes, 'entropy': entropy,
          'budgets': budgets}, records, groups


@pytest.mark.parametrize('way', ['numpy', 'jitted', 'jitted, looping'])
def test_equals_the_composition_of_texts(way):
  arrays, records, groups = batch()
  reward = compose.build(TERMS)
  scores = [reward(r, g, {}) for r, g in zip(records, groups)]
  assert not any(s.errors for s in scores)
  if way == 'numpy':
    total, parts = combine.build(TERMS, np, vocab=VOCAB)(arrays)
  else:
    fori = jax.lax.fori_loop if 'looping' in way else None
    total, parts = jax.jit(combine.build(TERMS, jnp, fori=fori, vocab=VOCAB))(
        arrays)
  assert set(parts) == set(TERMS)
  for name in TERMS:
    expected = [s.parts[name] for s in scores]
    np.testing.assert_allclose(parts[name], expected, atol=1e-5, err_msg=name)
    assert np.std(expected) > 0, name
  np.testing.assert_allclose(total, [s.total for s in scores], atol=1e-5)


def test_what_runs_where():
  terms = {**TERMS, 'answer': term('answer.score'),
           'off': term('vote.majority', 0.0),
           'half': term('gates.every', terms=[inner('vote.majority'),
                                              inner('answer.score')])}
  assert combine.on_device(terms) == tuple(TERMS)
  assert combine.plan({k: terms[k] for k in ('rep', 'off', 'answer', 'half')}
                      ) == 'rewards on device: rep; on text: answer, half'
  assert combine.plan({}) == 'rewards on device: none; on text: none'
  assert combine.reads(terms) == ('answers', 'budgets', 'entropy', 'ids',
                                  'lengths')
  assert combine.reads({'both': terms['both']}) == ('answers', 'ids', 'lengths')
  # Text terms are left to the other composition.
  arrays, _, _ = batch()
  assert set(combine.build(terms, np, vocab=VOCAB)(arrays)[1]) == set(TERMS)


def test_a_config_dict_is_a_mapping_too():
  terms = ml_collections.ConfigDict({'x': {
      'fn': 'medrl.rewards.gates.product', 'weight': 2.0, 'options': {
          'terms': ({'fn': 'medrl.rewards.vote.majority'},
                    'medrl.rewards.vote.pseudo_label')}}})
  total, _ = combine.build(terms, np)({'answers': np.array([[0, 0, 1]])})
  assert total.tolist() == [[1.0, 1.0, 0.0]]


def test_every_array_form_takes_its_rewards_options():
  for spec in [*TERMS.values(), term('budget.signed'), term('budget.maximum')]:
    fn = lookup.resolve(spec['fn'])
    form = lookup.resolve(fn.array_form)
    text, array = ({
        p.name: p.default for p in inspect.signature(f).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in (
            'when', 'then', 'terms', 'fori', 'vocab')} for f in (fn, form))
    assert text == array, spec['fn']


def test_missing():
  with pytest.raises(ValueError, match="reads the array 'lengths'"):
    combine.build({'rep': TERMS['rep']}, np)({'ids': np.zeros((1, 1, 4), int)})
  with pytest.raises(ValueError, match="'answer'.* has an array form"):
    combine.build({'answer': term('answer.score')}, np)


@pytest.mark.parametrize('xp', [np, jnp], ids=['numpy', 'jax'])
def test_packed(xp):
  ids = xp.asarray([[[4, 5, 6, 7], [1, 2, 3, 4], [1, 2, 3, 4]]])
  mask = xp.asarray([[[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]], dtype=bool)
  packed, lengths = combine.packed(ids, mask, xp)
  assert lengths.tolist() == [[2, 2, 0]]
  assert packed[0, 0, :2].tolist() == [5, 7]
  assert packed[0, 1, :2].tolist() == [1, 2]
