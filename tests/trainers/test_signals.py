"""Signals against passes spelt out longhand, and inside two real steps.

What rewards make of them is tested with the rewards.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medrl import build
from medrl import types
from medrl.data import mixture
from medrl.data import phantom
from medrl.data import pipeline
from medrl.evals import run as evals
from medrl.rewards import lift
from medrl.trainers import branches
from medrl.trainers import prefixes
from medrl.trainers import probes
from medrl.trainers import programs
from medrl.trainers import session
from medrl.trainers import signals
from medrl.trainers import scoring
from tests.trainers import small

TEXTS = ['<think>Step 1: liver. Step 2: dark.</think><answer>B</answer>',
         '<think>one; two</think><answer>left</answer>', 'no tags at all']
LENGTH = 48
SEEN = []


class Parts:
  """A toy run, its random policy, and completions that were not sampled."""

  def __init__(self, folder, share=0.6):
    config = small.config(rollout__length=LENGTH, rollout__group=3,
                          signals__share=share, signals__answer_length=6)
    config.data.options = {'count': 8, 'poison': -1}
    self.run = run = build.run(config, folder)
    self.params = build.initial_params(run)
    records = list(phantom.records('', 'train', count=4, tasks=('side',)))
    settings = build.settings(run, 4, target_length=0, shuffle=False)
    stream = pipeline.Pipeline([mixture.Source(records)], build.encoder(run),
                               settings)
    batch, self.examples = next(stream)
    stream.close()
    tokens = np.zeros((4, 3, LENGTH), np.int32)
    mask = np.zeros(tokens.shape, bool)
    for g, text in enumerate(TEXTS):
      ids = run.tokenizer.encode(text) + [run.stop[0]]
      tokens[:, g, :len(ids)] = ids
      mask[:, g, :len(ids)] = True
    up = run.crossing.up((batch, tokens, mask))
    given = [scoring.given(up[0], up[1][:, g], up[2][:, g]) for g in range(3)]
    # What has no members, the sampler's capacity, is the first's.
    rollout = jax.tree.map(
        lambda *x: jnp.concatenate(x, axis=1) if x[0].ndim > 1 else x[0],
        *[g._replace(prompt=()) for g in given])
    self.rollout = rollout._replace(prompt=up[0])
    scorer = session.scorer(run)
    self._logps = jax.jit(functools.partial(scoring.policy_logps, scorer))
    abstract = lambda tree: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        tree)
    _, weights = evals.sampling_weights(run, abstract(self.params))
    self.tools = signals.Tools(run, weights, programs.laid_out(
        abstract(self.rollout), run.mesh), (64, 64))
    key = jax.random.key(3)
    texts = evals.completions(run, tokens, mask)
    assert [c.text for c in texts[0]] == TEXTS
    self.moment = signals.Moment(
        self.params, self.params, self.rollout, key, jnp.int32(1),
        run.crossing.up(np.arange(4, dtype=np.int32)), mask, self.examples,
        texts)

  def logps(self, rollout):
    return np.asarray(self._logps(self.params, rollout)[0])

  def hidden(self, ids, row, image=True):
    """States after a prompt and `ids` in one pass, without cache or pads."""
    run, prompt = self.run, self.rollout.prompt
    there = np.asarray(prompt.mask[row]).copy()
    if not image:
      slots = np.asarray(prompt.media['image'].slot[row])
      there[slots[slots < len(there)]] = False
    place = np.flatnonzero(there)
    before = np.asarray(prompt.positions[row])
    after = before[np.asarray(prompt.mask[row])].max() + 1 + np.arange(len(ids))
    whole = np.concatenate([np.asarray(prompt.ids[row])[place],
                            np.array(ids, np.int32)])
    positions = np.concatenate([before[place], np.repeat(
        after[:, None], 3, axis=1)])
    soft = None
    if image:
      one = jax.tree.map(lambda x: x[row:row + 1], prompt.media)
      soft = run.family.encode(self.params, run.model, one)
    return run.family.forward(
        self.params, run.model, whole[None, None], positions[None, None],
        np.ones((1, 1, len(whole)), bool), soft=soft)[0][0, 0]

  def next_logps(self, ids, row, image=True):
    """Log-probs over the vocabulary of what follows."""
    logits = self.hidden(ids, row, image)[-1] @ self.run.family.head(
        self.params, self.run.model)
    logits = logits.at[jnp.array(self.run.banned)].set(-1e30)
    return np.asarray(jax.nn.log_softmax(logits))


@pytest.fixture(scope='module')
def parts(tmp_path_factory):
  with jax.default_matmul_precision('highest'):
    yield Parts(tmp_path_factory.mktemp('parts'))


def test_views_of_the_image(parts):
  """Nothing hidden is the whole; all grey is grey; text sees no image."""
  whole = parts.logps(parts.rollout)
  prompt = parts.rollout.prompt
  grey = prompt._replace(media={'image': prompt.media['image']._replace(
      values=jnp.full_like(prompt.media['image'].values, 127))})
  found = {}
  for view, share in (('masked', 0.), ('masked', 1.), ('noised', .5),
                      ('text', 1.)):
    run = parts.run
    run.config.signals.share = share
    seen = probes.look(view, prompt, jax.random.key(0), run)
    found[view, share] = parts.logps(parts.rollout._replace(prompt=seen))
    other = probes.look(view, grey, jax.random.key(0), run)
    same = parts.logps(parts.rollout._replace(prompt=other))
    # Only without the image does the image make no difference.
    assert np.allclose(same, found[view, share], atol=1e-6) == (share == 1)
  np.testing.assert_allclose(found['masked', 0.], whole, atol=1e-6)
  np.testing.assert_allclose(
      found['masked', 1.], parts.logps(parts.rollout._replace(prompt=grey)),
      atol=1e-6)
  half = probes.look('noised', prompt, jax.random.key(0), run)
  changed = np.asarray(half.media['image'].values
                       != prompt.media['image'].values).any(-1)
  units = changed.reshape(*changed.shape[:1], -1, 4)
  assert (units.all(-1) | ~units.any(-1)).mean() > .99   # whole soft tokens


def test_scores_without_image_equal_a_prompt_that_has_none(parts):
  made = probes.text_logps(parts.tools)
  values = made.compute(parts.moment)
  ids = list(parts.moment.texts[2][1].ids)
  states = parts.hidden(ids, 2, image=False)
  logits = states[-len(ids) - 1:-1] @ parts.run.family.head(
      parts.params, parts.run.model)
  logits = logits.at[:, jnp.array(parts.run.banned)].set(-1e30)
  want = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(ids)), ids]
  # Summed in another order: float32 rounding of a few nats.
  np.testing.assert_allclose(values[2][1], want, atol=2e-5)


def test_option_logps_are_those_of_the_forced_answer(parts):
  values = probes.option_logps(parts.tools).compute(parts.moment)
  record = parts.examples[1].record
  forced, ids = probes._option_ids(parts.run.tokenizer, record.options)
  assert parts.run.tokenizer.decode(forced).startswith('<answer')
  assert list(ids) == list(record.options)
  completion = parts.moment.texts[1][0]
  reasoned = prefixes.until_answer(parts.run.tokenizer, completion)
  assert parts.run.tokenizer.decode(reasoned) == TEXTS[0].split('<answer>')[0]
  for when, begun in (('before', forced), ('after', reasoned + forced)):
    want = parts.next_logps(begun, 1)
    for key, id_ in ids.items():
      assert values[1][0][when][key] == pytest.approx(want[id_], abs=2e-5)
  assert values[1][2] is None   # no answer block


def test_rederived_answers_are_greedy_and_see_no_image(parts):
  values = branches.rederived_answer(parts.tools).compute(parts.moment)
  before = TEXTS[0].split('<answer>')[0] + '<answer'
  assert values[3][0].startswith(before) and values[3][2] == ''
  # As sampled up to the answer, then spelt: not as one text would be.
  ids = prefixes.until_answer(parts.run.tokenizer, parts.moment.texts[3][0])
  ids += parts.run.tokenizer.encode('<answer')
  written = []
  for _ in range(6):
    written.append(int(parts.next_logps(ids + written, 3, image=False
                                        ).argmax()))
  want = parts.run.tokenizer.decode(
      written[:next((i for i, w in enumerate(written)
                     if w in parts.run.stop), None)])
  assert values[3][0] == before + want


def test_continuations_go_on_from_the_ends_of_steps(parts):
  made = branches.continuations(parts.tools)
  values = made.compute(parts.moment)
  again = made.compute(parts.moment)
  assert values == again
  assert values[0][2] == ()
  ends = [branches.step_ends(t) for t in TEXTS]
  assert [TEXTS[1][:e] for e in ends[1]] == ['<think>one;',
                                             '<think>one; two']
  for g in range(2):
    assert [b['end'] for b in values[0][g]] == ends[g][:3]
    for branch in values[0][g]:
      assert all(t.startswith(TEXTS[g][:branch['end']])
                 for t in branch['texts'])
      assert len(set(branch['texts'])) == 2   # two samples of a random policy


def test_the_reference_answers_once_a_prompt(parts):
  values = branches.reference_answer(parts.tools).compute(parts.moment)
  for row in range(4):
    assert len(set(values[row])) == 1
  first = int(parts.next_logps([], 1).argmax())
  assert values[1][0].startswith(parts.run.tokenizer.decode([first]))


def test_embedding_is_the_mean_state_of_the_tokens(parts):
  values = probes.embedding(parts.tools).compute(parts.moment)
  ids = [*parts.moment.texts[1][0].ids, parts.run.stop[0]]
  want = parts.hidden(ids, 1)[-len(ids):].mean(axis=0)
  np.testing.assert_allclose(values[1][0], want, atol=2e-5)


@pytest.mark.parametrize('end', range(len(TEXTS[0]) + 1))
def test_prefixes_spell_exactly_the_text_before(parts, end):
  completion = parts.moment.texts[0][0]
  ids = prefixes.ids(parts.run.tokenizer, completion, end)
  assert parts.run.tokenizer.decode(ids) == TEXTS[0][:end]
  whole = sum(stop <= end for _, stop in completion.spans)
  assert tuple(ids[:whole]) == completion.ids[:whole]


def test_what_does_not_fit_is_left_out():
  tokens, mask = prefixes.padded([[[5, 6], [7] * 4]], 3)
  assert tokens.tolist() == [[[5, 6, 0], [0, 0, 0]]]
  assert mask.tolist() == [[[True, True, False], [False] * 3]]


@lift.declare(needs=tuple(signals.MAKERS))
def capture(record, completions, context):
  SEEN.append((record, completions))
  return types.Score(tuple(float(len(c.ids)) for c in completions))


def test_every_signal_reaches_a_reward_in_two_steps(tmp_path, caplog):
  SEEN.clear()
  name = 'tests.trainers.test_signals.capture'
  with caplog.at_level(logging.INFO):
    lines = small.train(tmp_path, rl__steps=2,
                        rewards={'capture': {'fn': name, 'weight': 1.}})
  assert len(SEEN) == 2 * 4 and lines[2]['time/signals'] > 0
  for _, completions in SEEN:
    for c in completions:
      assert set(c.signals) == set(signals.MAKERS)
      for of_tokens in ('token_logps', 'token_entropy', 'logps/masked',
                        'logps/noised', 'logps/text'):
        assert c.signals[of_tokens].shape == (len(c.ids),)
      assert isinstance(c.signals['reference_answer'], str)
  told = [r.getMessage() for r in caplog.records
          if r.getMessage().startswith('signal ')]
  assert len(told) == len(signals.MAKERS)
  # Nothing is compiled in the loop: the last program is announced before it.
  assert checkpointed_reference(tmp_path)


def checkpointed_reference(folder) -> bool:
  """The reference that signals ask is kept, so that a resumed run has it."""
  return any((folder / 'checkpoints' / 'frozen').iterdir())


def test_unknown_signals_are_named():
  with pytest.raises(ValueError, match="no signal 'token_logp'.*token_logps"):
    signals.needs_reference(('token_logp',))
