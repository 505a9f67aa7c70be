"""Qwen2.5-VL against transformers on torch, and against wrong versions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl.models import hf
from medrl.models import qwen2_5_vl
from tests.oracles import qwen
from tests.oracles import toy

# Logits reach 2 to 4. Float32 sums in another order make them differ by 5e-6 at
# most; the mildest of the mistakes below, GELU by tanh, by 9e-4.
TOLERANCE = 5e-5
CASES = {
    'text': [toy.prompt(1, words=19)],
    'one': [toy.prompt(2, [(84, 140)])],
    'three': [toy.prompt(3, [(168, 196), (252, 56), (84, 140)])],
}
# Of no more ticks than soft tokens a side: see test_qwen_vl on longer ones.
CASES['clip'] = [toy.clip_prompt(6, 5, (84, 140)),
                 toy.clip_prompt(7, 6, (168, 140))]
CASES['mixed'] = [toy.prompt(4, [(140, 168)]), *CASES['text'],
                  *CASES['three'], toy.prompt(5, [(28, 28), (56, 224)], 7)]
ours = jax.jit(qwen.logits, static_argnums=1)


def load(folder):
  config = qwen2_5_vl.from_hf(hf.read_config(folder))
  return config, hf.load(folder, qwen2_5_vl.specs(config),
                         qwen2_5_vl.HF_TABLE, qwen2_5_vl.HF_PREFIXES)


@functools.cache
def torch_model(seed, tied):
  return qwen.torch_model(seed, tied)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  @functools.cache
  def save(seed, tied):
    folder = tmp_path_factory.mktemp('checkpoint')
    torch_model(seed, tied).save_pretrained(folder)
    return folder
  return save


def gap(got, want, prompts):
  return max(np.abs(np.asarray(g)[:len(p.ids)] - w[:len(p.ids)]).max()
             for g, w, p in zip(got, want, prompts, strict=True))


def by_raster(soft, prompts):
  """Our soft tokens [P, U, D] in the order of their places, without pads."""
  tokens, slots = soft['image']
  return np.concatenate([
      np.asarray(t)[np.argsort(s)][:(p.ids == toy.IMAGE).sum()]
      for t, s, p in zip(tokens, slots, prompts, strict=True)])


@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_logits_and_soft_tokens_equal_torch(saved, seed, tied):
  config, params = load(saved(seed, tied))
  assert config.text.tied is tied and ('head' not in params) is tied
  for name, prompts in CASES.items():
    soft, logits = ours(params, config, toy.batch(prompts))
    want = qwen.torch_logits(torch_model(seed, tied), prompts)
    assert 1 < np.abs(want).max() < 20  # what the tolerance is meant for
    assert gap(logits, want, prompts) < TOLERANCE, name
    if name not in ('text', 'clip'):   # torch keeps clips apart
      want = qwen.torch_soft(torch_model(seed, tied), prompts)
      assert np.abs(by_raster(soft, prompts) - want).max() < TOLERANCE, name


def text(**changes):
  return lambda c: dataclasses.replace(
      c, text=dataclasses.replace(c.text, **changes))


def vision(**changes):
  return lambda c: dataclasses.replace(
      c, vision=dataclasses.replace(c.vision, **changes))


WRONG_CONFIGS = {
    'rope theta': text(rope_theta=1e6),
    'mrope sections in another order': text(mrope_section=(3, 3, 2)),
    'eps 1e-5': text(eps=1e-5),  # the default of transformers' class
    'head taken for tied': text(tied=True),
    'full blocks swapped': vision(full_blocks=(0, 2)),
    'no windows': vision(full_blocks=(0, 1, 2, 3)),
    'windows everywhere': vision(full_blocks=()),
}


def _params(path, change):
  def edit(params):
    *folders, leaf = path.split('/')
    params = copy = jax.tree.map(np.copy, params)
    for folder in folders:
      copy = copy[folder]
    copy[leaf] = change(copy[leaf])
    return params
  return edit


def _tiled(params):
  """Query heads in the order that tiled, not repeated, key heads would need."""
  order = [0, 2, 1, 3]
  layers = params['decoder']['layers']
  query = {'weight': layers['query']['weight'][:, :, order],
           'bias': layers['query']['bias'][:, order]}
  layers = layers | {'query': query, 'out': layers['out'][:, order]}
  return params | {'decoder': params['decoder'] | {'layers': layers}}


WRONG_PARAMS = {
    'key heads tiled': _tiled,
    'no key bias': _params('decoder/layers/key/bias', np.zeros_like),
    'no value bias': _params('decoder/layers/value/bias', np.zeros_like),
    'no merger bias': _params('vision/merger/hidden/bias', np.zeros_like),
    'norms of 1 + w': _params('decoder/layers/mlp_norm', lambda w: 1 + w),
    'patches as (frame, channel)': _params(
        'vision/patch', lambda w: w.reshape(3, 2, 196, -1).swapaxes(0, 1)
        .reshape(w.shape)),
}


def _media(**changes):
  def edit(batch):
    patches = batch.media['image']
    new = {name: change(patches) for name, change in changes.items()}
    return batch._replace(media={'image': patches._replace(**new)})
  return edit


def _columns_first(x):
  """Patches of each 2 x 2 unit in the other order."""
  return x.values.reshape(len(x.values), -1, 2, 2, x.values.shape[-1]
                          ).swapaxes(2, 3).reshape(x.values.shape)


WRONG_BATCHES = {
    'vision rotary by column': _media(coords=lambda x: x.coords[..., ::-1]),
    'patches of a unit by column': _media(values=_columns_first),
    'images see each other': _media(image=lambda x: np.minimum(x.image, 1)),
    'soft tokens in window order': _media(slot=lambda x: np.sort(x.slot)),
    'image positions as of text': lambda b: b._replace(
        positions=np.broadcast_to(np.arange(b.ids.shape[1])[None, :, None],
                                  b.positions.shape)),
}


def _interleaved(x, cos, sin):
  cos, sin = cos[..., None, :], sin[..., None, :]
  even, odd = x[..., ::2], x[..., 1::2]
  return jnp.stack([even * cos - odd * sin, odd * cos + even * sin],
                   axis=-1).reshape(x.shape)


WRONG_CODE = {
    'rotary of neighbours': ('medrl.models.rope.rotate', _interleaved),
    'gelu by tanh': ('jax.nn.gelu',
                     lambda x, approximate, gelu=jax.nn.gelu: gelu(x)),
    'image mean': ('medrl.models.vit_qwen.MEAN', (0.5, 0.5, 0.5)),
    'image std': ('medrl.models.vit_qwen.STD', (0.5, 0.5, 0.5)),
}
WRONG = [*WRONG_CONFIGS, *WRONG_PARAMS, *WRONG_BATCHES, *WRONG_CODE]


@pytest.mark.parametrize('mistake', WRONG)
def test_every_mistake_shows(saved, monkeypatch, mistake):
  config, params = load(saved(0, False))
  batch = toy.batch(CASES['three'])
  function = ours
  if mistake in WRONG_CONFIGS:
    config = WRONG_CONFIGS[mistake](config)
  elif mistake in WRONG_PARAMS:
    params = WRONG_PARAMS[mistake](params)
  elif mistake in WRONG_BATCHES:
    batch = WRONG_BATCHES[mistake](batch)
  else:
    monkeypatch.setattr(*WRONG_CODE[mistake])
    # A new function, as `ours` was traced before the change.
    function = jax.jit(lambda *a: qwen.logits(*a), static_argnums=1)
  _, logits = function(params, config, batch)
  want = qwen.torch_logits(torch_model(0, False), CASES['three'])
  assert gap(logits, want, CASES['three']) > 10 * TOLERANCE
