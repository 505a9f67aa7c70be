"""Frozen policies beside the one that trains: the reference and the teachers.

Each lies as the policy does, in `config.model.reference_dtype`, and is stored
once by its digest, so that a run goes on with the weights it began with even
where their source has moved. What is learnt from them is said in `objective`.
"""

import dataclasses
import functools
import logging
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medrl import build
from medrl import checkpoint
from medrl import lookup
from medrl import params as params_lib
from medrl import sharding
from medrl.processors import text
from medrl.trainers import session as session_lib
from medrl.trainers import signals

_KEYS = ('checkpoint', 'start', 'weight')


class Frozen(NamedTuple):
  """Parameters that no update changes; {} for what is not asked for."""
  reference: Any   # the first policy
  teachers: Any    # name -> parameters, by name in the order of the alphabet


def asks_reference(config, needs: tuple[str, ...]) -> bool:
  """Whether the first policy is asked to write, by a reward or as a judge."""
  return bool(config.reference_judge.prompt or signals.needs_reference(needs))


def wants_reference(config, needs: tuple[str, ...]) -> bool:
  """Whether a frozen copy of the first policy must be held."""
  return bool(config.rl.kl_weight) or asks_reference(config, needs)


def wanted(config) -> list[str]:
  """Names of the teachers that must be held, sorted."""
  return sorted(config.teachers) if config.rl.distill_weight else []


def make(session, params, needs: tuple[str, ...]
         ) -> tuple[Frozen, dict[str, Any]]:
  """Makes and stores what the config asks for, at the start of a run.

  Args:
    session: the open session.
    params: of the first policy.
    needs: signals that rewards ask for.

  Returns:
    the policies, and their digests for `restore`: 'reference' ('' for none)
    and 'teachers' by name.

  Raises:
    ValueError: a teacher is not told by one source, or is another model.
  """
  run = session.run
  reference = make_reference(run, params, needs)
  found = {name: _teacher(run, name) for name in wanted(run.config)}
  return Frozen(reference, found), {
      'reference': _store(session, reference),
      'teachers': {name: _store(session, t) for name, t in found.items()}}


def make_reference(run: build.Run, params, needs: tuple[str, ...]):
  """The first policy, frozen; {} where no KL, signal or judge asks for it."""
  if not wants_reference(run.config, needs):
    return {}
  return _program(run)(params)


def restore(session, digests: dict[str, Any], needs: tuple[str, ...]
            ) -> Frozen:
  """The policies that the run began with; `digests` are those of `make`.

  Raises:
    ValueError: it began without one that the config now asks for.
  """
  config = session.run.config
  told = f'start a new run with config.checkpoint.start={session.run.workdir}'
  if wants_reference(config, needs) and not digests['reference']:
    raise ValueError(
        f'{session.folder} began without a reference policy, which '
        f'rl.kl_weight, a reward or a judge now asks for; {told}')
  # Runs of before there were teachers have no such entry.
  there = digests['teachers'] if 'teachers' in digests else {}
  for name in wanted(config):
    if name not in there:
      raise ValueError(f'{session.folder} began with the teachers '
                       f'{sorted(there)}, without {name!r}; {told}')
  reference = {}
  if digests['reference']:
    reference = _stored(session, digests['reference'])
  return Frozen(reference, {name: _stored(session, there[name])
                            for name in wanted(config)})


def check(config) -> None:
  """Raises ValueError where `config.teachers` is not spelt as it should be."""
  for name, told in config.teachers.items():
    for key in told:
      if key not in _KEYS:
        raise ValueError(f'teachers.{name}.{key}: '
                         f'{lookup.nearest(key, list(_KEYS))}')
    sources = [key for key in _KEYS[:2] if key in told and told[key]]
    if len(sources) != 1 or 'weight' not in told:
      raise ValueError(
          f'teachers.{name} is {told.to_dict()}; expected a weight and either '
          f'checkpoint (a folder of safetensors) or start (a run\'s folder)')


def _teacher(run: build.Run, name: str):
  """A teacher's parameters.

  It must spell as the policy does, as it is asked for the log-probs of the
  policy's own tokens.
  """
  told = run.config.teachers[name].to_dict()
  config = run.config.copy_and_resolve_references()
  if 'start' in told and told['start']:
    config.checkpoint.update(dict(start=told['start'], step=-1))
    folder = pathlib.Path(told['start']) / 'tokenizer'
    # Without one of its own, its run named a tokenizer, as this one does.
    if folder.is_dir() and (
        text.load(folder).pieces() != run.tokenizer.pieces()):
      raise ValueError(f'teachers.{name}: the tokenizer of {told["start"]} is '
                       f'not this run\'s, so tokens have other meanings')
  else:
    config.checkpoint.start = ''
    config.model.checkpoint = told['checkpoint']
    plain = run.family.with_options   # how it is computed may differ
    model = plain(build.model_config(config, run.family))
    if model != plain(run.model):
      raise ValueError(f'teachers.{name}: {told["checkpoint"]} is {model}; '
                       f'expected a model as the policy\'s, {run.model}')
  logging.info('teacher %s from %s', name, told)
  return _program(run)(session_lib.initial_params(
      dataclasses.replace(run, config=config)))


def _program(run: build.Run):
  """Parameters -> a frozen copy of them, laid out as the policy is."""
  dtype = jnp.dtype(run.config.model.reference_dtype)
  return jax.jit(functools.partial(params_lib.cast, dtype=dtype),
                 out_shardings=_laid(run))


def _laid(run: build.Run):
  """Shardings of a frozen policy, in the memory that the config gives it."""
  laid = sharding.of_specs(run.mesh, run.specs, run.config.sharding)
  away = 'reference' in run.config.model.offload
  return sharding.to_host(laid) if away else laid


def _store(session, params) -> str:
  if not params:
    return ''
  return checkpoint.save_frozen(session.folder / 'checkpoints', params)


def _stored(session, digest: str):
  run = session.run
  dtype = jnp.dtype(run.config.model.reference_dtype)
  shapes = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, dtype, sharding=s),
      params_lib.abstract(run.specs), _laid(run))
  return checkpoint.restore_frozen(session.folder / 'checkpoints', shapes,
                                   digest)
