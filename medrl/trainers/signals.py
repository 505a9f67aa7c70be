"""Signals: what rewards ask of the model beyond the text of a completion.

A reward names them in `needs`; each is computed once per batch, in programs
compiled ahead, and handed over as `Completion.signals[name]`:

  token_logps, token_entropy   float [tokens], of the policy while it wrote
  logps/masked, logps/noised, logps/text
                               float [tokens], the same tokens scored with part
                               of the image grey, as noise, or without it
  option_logps                 {'before': {key: nats}, 'after': {key: nats}}:
                               the options at the place of the answer, with
                               nothing written before it and with the reasoning;
                               None without options or answer block
  reference_answer             str, the reference policy's greedy completion
  rederived_answer             str, the completion up to its answer, which the
                               reference policy then gives greedily, without
                               image; '' without answer block
  continuations                tuple of {'end': character, 'texts': tuple}, the
                               policy's samples from the ends of reasoning steps
  embedding                    float [D], mean last hidden state of its tokens

Another need is the import path of a maker, `f(tools) -> Signal`. The makers are
in `probes` (what scores) and `branches` (what goes on writing).
"""

from collections.abc import Callable
import dataclasses
import logging
from typing import Any

import jax
import jax.numpy as jnp

from medrl import build
from medrl import lookup
from medrl import sharding
from medrl import types

MAKERS = {
    'token_logps': 'medrl.trainers.probes.token_logps',
    'token_entropy': 'medrl.trainers.probes.token_entropy',
    'logps/masked': 'medrl.trainers.probes.masked_logps',
    'logps/noised': 'medrl.trainers.probes.noised_logps',
    'logps/text': 'medrl.trainers.probes.text_logps',
    'option_logps': 'medrl.trainers.probes.option_logps',
    'embedding': 'medrl.trainers.probes.embedding',
    'reference_answer': 'medrl.trainers.branches.reference_answer',
    'rederived_answer': 'medrl.trainers.branches.rederived_answer',
    'continuations': 'medrl.trainers.branches.continuations',
}


@dataclasses.dataclass(frozen=True)
class Tools:
  """What a maker may use, for one bucket.

  `params` are abstract sampling weights, `rollout` an abstract Rollout.
  """
  run: build.Run
  params: Any
  rollout: types.Rollout
  bucket: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Moment:
  """A rollout, who wrote it, and what it says.

  `written` is the action mask on the host; texts are [P][G].
  """
  params: Any
  reference: Any
  rollout: types.Rollout
  key: Any
  step: Any
  numbers: Any
  written: Any
  examples: list[types.Example]
  texts: list[list[types.Completion]]


@dataclasses.dataclass(frozen=True)
class Signal:
  """`compute(moment)` gives values [P][G]; `cost` says what it runs a step."""
  compute: Callable[[Moment], list[list[Any]]]
  cost: str


def compile_signals(tools: list[Tools], needs: tuple[str, ...]
                    ) -> dict[tuple[int, int], dict[str, Signal]]:
  """Bucket -> name -> signal; logs what each adds to a step.

  Raises:
    ValueError: a name that nothing makes.
  """
  out = {}
  for tool in tools:
    out[tool.bucket] = {}
    for name in needs:
      made = _maker(name)(tool)
      logging.info('signal %s %s: a step adds %s', name, tool.bucket, made.cost)
      out[tool.bucket][name] = made
  return out


def uses_reference(maker):
  """Decorator of a maker whose signal asks the reference policy."""
  maker.uses_reference = True
  return maker


def needs_reference(needs: tuple[str, ...]) -> bool:
  """Whether a frozen copy of the first policy must be held for `needs`."""
  return any(hasattr(_maker(name), 'uses_reference') for name in needs)


def add(signals: dict[str, Signal], moment: Moment
        ) -> list[list[types.Completion]]:
  """The completions with every signal in place.

  Args:
    signals: of the rollout's bucket.
    moment: the rollout.
  """
  values = {name: s.compute(moment) for name, s in signals.items()}
  return [[dataclasses.replace(c, signals={
      **c.signals, **{n: v[p][g] for n, v in values.items()}})
           for g, c in enumerate(group)]
          for p, group in enumerate(moment.texts)]


def _maker(name: str) -> Callable[[Tools], Signal]:
  if name not in MAKERS and '.' not in name:
    raise ValueError(f'no signal {name!r}: '
                     f'{lookup.nearest(name, sorted(MAKERS))}; a signal of '
                     f'your own is named by the import path of its maker')
  return lookup.resolve(MAKERS[name] if name in MAKERS else name)


def moment_keys(tools: Tools):
  """Abstract key and step, as a moment has them."""
  whole = sharding.replicated(tools.run.mesh)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return (jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole),
          jax.ShapeDtypeStruct((), jnp.int32, sharding=whole))


def program(tools: Tools, name: str, function, *arguments):
  """Compiles `function` for abstract `arguments`; results are split by row."""
  jitted = jax.jit(function, out_shardings=sharding.batch(tools.run.mesh))
  return build.compile_ahead(f'{name} {tools.bucket}', jitted, *arguments)


def tokens(tools: Tools, group: int = 0) -> str:
  """The tokens of a pass over prompts and completions, in words."""
  prompts, members, length = tools.rollout.tokens.shape
  return (f'{prompts} x ({tools.bucket[0]} + {group or members} x {length}) '
          f'tokens')
