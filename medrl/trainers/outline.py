"""A run in outline: what its programs are compiled for, and nothing more.

No records, no tokenizer, no weights and no files; any mesh, also of devices
that are not here. What a session of it cannot do: train, evaluate, save.
"""

import pathlib

import jax
import jax.numpy as jnp

from medrl import build
from medrl import lookup
from medrl import params as params_lib
from medrl import sharding
from medrl import types
from medrl import vocabulary
from medrl.evals import run as evals
from medrl.rl import words
from medrl.trainers import programs
from medrl.trainers import session as session_lib
from medrl.trainers import state as state_lib
from medrl.trainers import teachers

# Ids that a tokenizer would give; the roles have the last rows of the
# vocabulary here. Which ones they are changes no shape.
_BANNED = ('image_pad', 'video_pad', 'vision_start', 'vision_end')


def open_run(config, mesh, model=None) -> build.Run:
  """The parts of a run that its programs need; its recipe is laid.

  Args:
    config: the run's.
    mesh: to compile for.
    model: a config of the family's, or None for the one that is named.

  Raises:
    ValueError: the config names what there is not, or does not fit the mesh.
  """
  words.lay(config)
  family = lookup.resolve(config.model.family)
  model = build.wired(config, family, model or build.model_config(
      config, family), mesh)
  layout = family.layout(model, config.processor.min_pixels,
                         config.processor.max_pixels)
  rows = model.text.vocab
  ids = {role: rows - 1 - i for i, role in enumerate(layout.specials)}
  return build.Run(
      config=config, workdir=pathlib.Path(), mesh=mesh, family=family,
      model=model, specs=family.specs(model), layout=layout, tokenizer=None,
      prompt=None, dtype=jnp.dtype(config.model.compute_dtype),
      banned=tuple(ids[role] for role in _BANNED),
      stop=(ids['im_end'], ids['pad']), pad=ids['pad'],
      stops=vocabulary.stop_strings(config, None, rows),
      crossing=sharding.Crossing(mesh))


def open_session(run: build.Run) -> session_lib.Session:
  """What the programs of a GRPO step are compiled with."""
  config = run.config
  updates = config.rl.steps * config.rl.epochs * config.rl.minibatches
  trained, _ = state_lib.split(run.specs, config.model.freeze)
  tx = state_lib.optimizer(config.rl.optim, updates, trained)
  weigh, weights = evals.sampling_weights(run, params_lib.abstract(run.specs))
  return session_lib.Session(
      run=run, folder=run.workdir, manager=None, tx=tx,
      rate=state_lib.schedule(config.rl.optim, updates),
      laid=state_lib.shardings(run.mesh, run.specs, config.sharding,
                               config.model.freeze, tx, config.model.offload),
      weigh=weigh, weights=weights, evaluators=None, training=None,
      held_out=None, constants=None)


def frozen(session: session_lib.Session) -> teachers.Frozen:
  """Shapes of the policies beside the one that trains, those that the config
  asks for."""
  config = session.run.config
  needs = build.reward_needs(config)
  laid = sharding.of_specs(session.run.mesh, session.run.specs,
                           config.sharding)
  if 'reference' in config.model.offload:
    laid = sharding.to_host(laid)
  dtype = jnp.dtype(config.model.reference_dtype)
  copy = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, dtype, sharding=s),
      params_lib.abstract(session.run.specs), laid)
  return teachers.Frozen(
      copy if teachers.wants_reference(config, needs) else {},
      {name: copy for name in teachers.wanted(config)})


def rollout(session: session_lib.Session, bucket) -> types.Rollout:
  """Shapes of what is sampled from prompts of a bucket."""
  run = session.run
  config = run.config.rollout
  options = build.sampling_options(run, config.group, config.temperature)
  batch = build.abstract_batch(run, config.prompts, bucket)
  sample = lookup.resolve(config.fn)
  found = jax.eval_shape(
      lambda params, batch, key, numbers: sample(
          run.family, run.model, params, batch, key, numbers, options),
      session.weights, batch, jax.eval_shape(lambda: jax.random.key(0)),
      jax.ShapeDtypeStruct((config.prompts,), jnp.int32))
  return programs.laid_out(found, run.mesh)
