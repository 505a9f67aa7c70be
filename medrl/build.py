"""Config -> the parts of a run: mesh, policy, tokenizer, encoder, reward.

With `feed`, which has the records, the one place that reads the config's names
and turns them into code. It trains and scores nothing; trainers and evaluation
share it.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import json
import logging
import math
import time
from typing import Any

import jax
import jax.numpy as jnp

from medrl import lookup
from medrl import params as params_lib
from medrl import paths
from medrl import sharding
from medrl import types
from medrl import vocabulary
from medrl.data import batching
from medrl.media import cache as media_cache
from medrl.models import group_mask
from medrl.models import hf
from medrl.processors import template
from medrl.rewards import compose
from medrl.rewards import judge
from medrl.rewards import pool
from medrl.rewards.array import combine
from medrl.rl import words
from medrl.rollout import sampling


@dataclasses.dataclass(frozen=True)
class Run:
  """What stays the same over a run."""
  config: Any
  workdir: Any        # from `paths.at`
  mesh: Any
  family: Any         # the model module
  model: Any          # its Config
  specs: Any          # tree of params.Spec
  layout: types.Layout
  tokenizer: Any
  prompt: template.Prompt
  dtype: Any          # compute dtype
  banned: tuple[int, ...]
  stop: tuple[int, ...]
  pad: int
  stops: Any          # automaton of config.rollout.stop_strings, or None
  crossing: sharding.Crossing


def run(config, workdir) -> Run:
  """Builds the parts that need no data but, for a built tokenizer, its text.

  Raises:
    ValueError, FileNotFoundError: something the config names does not fit; the
      message names it.
  """
  workdir = paths.at(workdir)
  words.lay(config)
  family = lookup.resolve(config.model.family)
  model = model_config(config, family)
  tokenizer = vocabulary.tokenizer(config, workdir)
  if tokenizer.size > model.text.vocab:
    raise ValueError(
        f'the tokenizer has {tokenizer.size} ids, the model '
        f'{model.text.vocab} rows; give the tokenizer of this checkpoint')
  mesh = sharding.make_mesh(**config.mesh)
  model = wired(config, family, model, mesh)
  layout = family.layout(model, config.processor.min_pixels,
                         config.processor.max_pixels)
  ids = {role: tokenizer.id(token) for role, token in layout.specials.items()}
  # Media places are the processor's to write, and rows beyond the tokenizer
  # have no text: the policy may write neither.
  media = ('image_pad', 'video_pad', 'vision_start', 'vision_end')
  banned = (*(ids[role] for role in media),
            *range(tokenizer.size, model.text.vocab))
  return Run(
      config, workdir, mesh, family, model, family.specs(model), layout,
      tokenizer, template.Prompt(config.processor.system,
                                 config.processor.user),
      jnp.dtype(config.model.compute_dtype), banned,
      (ids['im_end'], ids['pad']), ids['pad'],
      vocabulary.stop_strings(config, tokenizer, model.text.vocab),
      sharding.Crossing(mesh))


def model_config(config, family):
  """The family's config: of a checkpoint folder, or one of its sizes."""
  if config.model.checkpoint:
    return family.from_hf(hf.read_config(config.model.checkpoint))
  if config.model.size not in family.CONFIGS:
    raise ValueError(f'model.size {config.model.size!r}: '
                     + lookup.nearest(config.model.size, list(family.CONFIGS)))
  return family.CONFIGS[config.model.size]


def wired(config, family, model, mesh):
  """The model's sizes with the options that a config and a mesh give it."""
  return family.with_options(model, remat=config.model.remat,
                             rows=attention_rows(config, mesh),
                             pin=sharding.Rows(mesh))


def attention_rows(config, mesh):
  """How whole rows attend: plainly, in blocks, or by a TPU's kernel.

  Raises:
    ValueError: the word is unknown.
  """
  model = config.model
  if model.attention in ('plain', 'blocked'):
    block = model.attention_block if model.attention == 'blocked' else 0
    return group_mask.PlainRows(block, mesh)
  if model.attention != 'splash':
    raise ValueError(f'model.attention {model.attention!r} is not plain, '
                     f'blocked or splash')
  # Its kernel is experimental in jax, so it is loaded by those who ask for it.
  return lookup.resolve('medrl.models.splash.Rows')(mesh, model.attention_block)


@dataclasses.dataclass
class Encoder:
  """(record, data root) -> example; runs in data workers, where it is pickled
  to, without what its cache holds."""
  processor: str
  tokenizer: Any
  layout: types.Layout
  prompt: template.Prompt
  cache: media_cache.Cache

  def __call__(self, record: types.Record, root: str) -> types.Example:
    media = [self.cache.get(
        (root, m.path, m.loader, repr(sorted(m.options.items()))),
        functools.partial(load, m, root)) for m in record.media]
    return _code(self.processor).encode(record, media, self.tokenizer,
                                        self.layout, self.prompt)


def load(medium: types.Media, root: str):
  """Reads a medium with its own loader."""
  return _code(medium.loader)(medium.path, root, **medium.options)


# A name is looked for in several places, and these are looked up for each
# record.
_code = functools.lru_cache(maxsize=256)(lookup.resolve)


def encoder(run: Run) -> Encoder:
  return Encoder(run.config.processor.module, run.tokenizer, run.layout,
                 run.prompt,
                 media_cache.Cache(run.config.data.cache_mb * 2 ** 20))


def agree(index: int) -> int:
  """The largest index over all processes, which then run one program."""
  return max(sharding.gather_json([index]))


def settings(run: Run, prompts: int, **options) -> batching.Settings:
  """Pipeline settings for `prompts` a step over all processes."""
  count = jax.process_count()
  if prompts % count:
    raise ValueError(f'{prompts} prompts a step do not divide over {count} '
                     f'processes')
  data = run.config.data
  return batching.Settings(
      prompts=prompts // count, buckets=tuple(map(tuple, data.buckets)),
      seed=run.config.seed, workers=data.workers, on_bad=data.on_bad,
      pad_id=run.pad, merge_units=run.layout.merge ** 2,
      patch_width=patch_values(run.layout), frames=run.layout.temporal,
      process_index=jax.process_index(), process_count=count,
      budget=run.config.rollout.budget, most=run.config.rollout.length,
      **options)


def patch_values(layout: types.Layout) -> int:
  """Numbers in one patch: channels, frames, rows, columns."""
  return 3 * layout.temporal * layout.patch ** 2


def reward(config) -> types.Reward:
  return compose.build(config.rewards.to_dict())


def split_rewards(config) -> tuple[dict[str, Any], dict[str, Any]]:
  """The config's reward terms of text, and those of token ids alone.

  The second have an array form that reads ids and lengths and nothing else, so
  they are computed where the rollout is (`config.scoring.device`). What needs
  answers, budgets of records or the spelling of tokens stays with the text,
  which has it at hand.
  """
  terms = config.rewards.to_dict()
  compose.build(terms)   # says what is wrong with them
  def of_ids(name):
    one = {name: terms[name]}
    return (combine.on_device(one) and not combine.needs_vocab(one)
            and set(combine.reads(one)) <= {'ids', 'lengths'})
  device = {name: term for name, term in terms.items()
            if config.scoring.device and of_ids(name)}
  return {n: t for n, t in terms.items() if n not in device}, device


@dataclasses.dataclass
class InProcess:
  """Scores samples here; what `pool.Pool` is with workers."""
  reward: types.Reward
  context: dict[str, Any]
  failed: dict[str, int] = dataclasses.field(default_factory=dict)

  def score(self, samples: list[pool.Sample]) -> list[types.Score]:
    return [self.reward(record, group, {**self.context, **more})
            for record, group, more in samples]


@contextlib.contextmanager
def scoring(config, judges) -> Iterator[InProcess | pool.Pool]:
  """Yields what scores (record, completions, context), many at a time.

  In this process, or in `config.scoring.workers` others, which can be stopped.
  In this one the context holds the config's judges and embedders.

  Args:
    config: the run's.
    judges: name -> judge, beside those of the config.

  Raises:
    ValueError: the rewards do not fit, or judges, whose calls are counted in
      one place, are asked for in several processes.
  """
  (terms, device), how = split_rewards(config), config.scoring
  logging.info('rewards on the device: %s; on text: %s',
               ', '.join(device) or 'none', ', '.join(terms) or 'none')
  make = functools.partial(compose.build, terms, optional=True)
  reward = make()
  asked = {'judges': {**judge.build(config.judges.to_dict()), **judges},
           'embedders': judge.build(config.embedders.to_dict())}
  asked = {kind: built for kind, built in asked.items() if built}
  if not how.workers:
    yield InProcess(reward, asked)
    return
  if asked:
    raise ValueError(f'scoring.workers {how.workers} with {sorted(asked)}, '
                     f'which stay in one process; set scoring.workers=0')
  with pool.open_pool(make, workers=how.workers, limit_s=how.limit_s,
                      policy=how.policy) as opened:
    yield opened


def reward_needs(config) -> tuple[str, ...]:
  """Signals that the config's rewards ask of the model."""
  return compose.needs(config.rewards.to_dict())


def sampling_options(run: Run, group: int, temperature: float
                     ) -> sampling.Options:
  """How completions are drawn; greedy where `temperature` is 0."""
  r = run.config.rollout
  return sampling.Options(
      group, r.length, temperature, r.top_k, r.top_p, run.stop, run.banned,
      run.pad, min_p=r.min_p, repetition_penalty=r.repetition_penalty,
      stop_strings=tuple(r.stop_strings), slots=r.slots, resident=r.resident,
      chunk=r.chunk, parts=parts(run.mesh), kv=r.kv, draft=r.draft,
      ngram=r.ngram)


def parts(mesh) -> int:
  """How many parts of a mesh hold prompts of their own."""
  return math.prod(mesh.shape[axis] for axis in sharding.BATCH_AXES)


def sampling_rules(config):
  """Sharding rules while sampling: over tensor, never over fsdp."""
  return {axis: '' if over == 'fsdp' else over
          for axis, over in config.sharding.items()}


def initial_params(run: Run):
  """Fresh parameters, or a published checkpoint's, laid out on the mesh."""
  laid = sharding.of_specs(run.mesh, run.specs, run.config.sharding)
  folder = run.config.model.checkpoint
  if not folder:
    make = functools.partial(params_lib.init, specs=run.specs)
    return jax.jit(make, out_shardings=laid)(jax.random.key(run.config.seed))
  host = hf.load(folder, run.specs, run.family.HF_TABLE,
                 run.family.HF_PREFIXES)
  return jax.tree.map(
      lambda x, s: jax.make_array_from_callback(x.shape, s, lambda i: x[i]),
      host, laid)


def abstract_batch(run: Run, prompts: int, bucket) -> types.Batch:
  """Shapes and shardings of a batch of a bucket, to compile for."""
  length, patches = bucket
  rows = parts(run.mesh)
  if prompts % rows:
    raise ValueError(f'{prompts} prompts do not divide over mesh data x fsdp '
                     f'of {rows} devices; change one of them')
  sharding.check_bucket(run.mesh, bucket, run.model.vision.row)
  def array(dtype, *shape):
    return jax.ShapeDtypeStruct((prompts, *shape), dtype)
  media = {}
  if patches:
    units = patches // run.layout.merge ** 2
    media['image'] = types.Patches(
        array(jnp.uint8, patches, patch_values(run.layout)),
        array(jnp.int32, patches, 2),
        array(jnp.int32, patches), array(jnp.int32, patches),
        array(jnp.int32, units))
  budget = array(jnp.int32) if run.config.rollout.budget else None
  batch = types.Batch(array(jnp.int32, length), array(jnp.int32, length, 3),
                      array(bool, length), media, budget)
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), batch,
      sharding.of_batch(run.mesh, batch))


def compile_ahead(name: str, function, *arguments):
  """Compiles a jitted function for given shapes, and says how long it took.

  The result refuses any other shape, so nothing is ever compiled in the loop.
  """
  started = time.monotonic()
  compiled = function.lower(*arguments).compile()
  memory = compiled.memory_analysis()
  size = ''
  if memory is not None:
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    size = f', {held / 2**20:,.0f} MiB a device'
  logging.info('compiled %s in %.1f s%s', name, time.monotonic() - started,
               size)
  return compiled


def write_config(config, workdir) -> None:
  """Keeps the config beside the results, recipe laid; says what a restart
  changed."""
  words.lay(config)
  paths.folder(workdir)
  path = paths.at(workdir) / 'config.json'
  new = json.loads(config.to_json_best_effort())
  if path.exists():
    old = lookup.flat(json.loads(path.read_text()))
    for key, value in lookup.flat(new).items():
      if old.get(key, value) != value:
        logging.warning('config.%s was %r when this run began, now it is %r',
                        key, old[key], value)
  paths.write(path, json.dumps(new, indent=2, sort_keys=True))
