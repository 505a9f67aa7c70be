"""The programs of an RL step at toy size, compiled for a mesh, and their text.

Ahead of time, as a run compiles them: no device computes anything. What must
hold of the text is in test_hlo.
"""

import collections
import dataclasses
import functools
import json
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments import base
from medrl import build
from medrl import sharding
from medrl.evals import run as evals
from medrl.models import decoder
from medrl.models import qwen2_5_vl
from medrl.models import vit_qwen
from medrl.trainers import outline
from medrl.trainers import programs
from medrl.trainers import scoring
from medrl.trainers import session as session_lib
from tests import elsewhere

# Of the sizes by which arrays are told apart, none is equal to another one.
GROUP, LENGTH, PROMPT, PATCHES, ROW, CHUNK = 4, 44, 72, 32, 52, 96
PROMPTS, SLOTS, RESIDENT, ROWS = 4, 5, 2, 6   # of a part of the mesh
MICRO = 2
MODEL = qwen2_5_vl.Config(
    decoder.Config(40, 3, 4, 2, 88, 3072, False, 1e4, (1, 2, 2)),
    vit_qwen.Config(2, 32, 2, 56, 40, (1,), patch=6, window=24))
# Name -> completions or packed rows that a part scores at a time, and their
# tokens.
TOKENS = {
    'sample': (PROMPTS * GROUP, LENGTH),
    **dict.fromkeys(('prepare', 'update', 'naive'),
                    (PROMPTS * GROUP // MICRO, LENGTH)),
    **dict.fromkeys(('prepare_packed', 'update_packed'), (ROWS // MICRO, ROW))}
# Instructions that hand an operand on as it is: moved, cut or cast.
_MOVES = {'copy', 'bitcast', 'reshape', 'transpose', 'convert', 'slice', 'pad',
          'dynamic-slice', 'concatenate', 'optimization-barrier',
          'bitcast-convert', 'broadcast', 'copy-start', 'copy-done'}
_SHAPE = re.compile(r'\b(?:f32|bf16|f16|s32|u32|s8|u8|pred)\[([\d,]+)\]')
_LINE = re.compile(r'\s*(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)')
_CALLED = re.compile(r'(?:calls|to_apply|body|branch_computations)='
                     r'(?:\{([^}]*)\}|%([\w.\-]+))')


def session(mesh, dtype: str) -> session_lib.Session:
  """One that can compile, without tokenizer, files and data."""
  parts, c = build.parts(mesh), base.get_config()
  c.model.compute_dtype = dtype
  c.data.buckets = ((PROMPT, PATCHES),)
  c.rollout.update(dict(
      prompts=PROMPTS * parts, group=GROUP, length=LENGTH, slots=SLOTS * parts,
      resident=RESIDENT * parts, chunk=parts))
  c.rl.update(dict(microbatches=MICRO, kl_weight=0.1, vocab_chunk=CHUNK))
  c.rl.pack.update(dict(tokens=ROW, rows=(ROWS * parts,)))
  return outline.open_session(outline.open_run(c, mesh, MODEL))


def compiled(opened: session_lib.Session):
  """Name -> program: those of a step, and two with a fault.

  `sharded` samples with weights as training has them, `naive` scores by whole
  logits.
  """
  state, bucket = session_lib.abstract_state(opened), (PROMPT, PATCHES)
  found = programs.compile_programs(opened, state, state.trained, {})
  flat = {'sample': found['sample'][bucket]}
  for name in ('prepare', 'update'):
    for (_, rows), program in found[name].items():
      flat[name + ('_packed' if rows else '')] = program
  weights = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      opened.weights, opened.laid.trained)
  config, run = opened.run.config.rollout, opened.run
  flat['sharded'] = evals.samplers(
      run, weights, config.prompts,
      build.sampling_options(run, GROUP, 1.), 'sharded')[bucket]
  naive = dataclasses.replace(session_lib.scorer(run), logps=_whole_logps)
  rows = sharding.batch(run.mesh)
  def part(x):
    size = x.shape[0] // MICRO, *x.shape[1:]
    return jax.ShapeDtypeStruct(size, x.dtype, sharding=rows)
  rollout = jax.tree.map(part, flat['sample'].out_info)
  flat['naive'] = jax.jit(functools.partial(scoring.policy_logps, naive)).lower(
      weights, rollout).compile()
  return flat


def _whole_logps(hidden, head, targets, banned, **_):
  logps = jax.nn.log_softmax(jnp.where(banned, -1e30, hidden @ head))
  chosen = jnp.take_along_axis(logps, targets[..., None], axis=-1)[..., 0]
  return chosen, -jnp.sum(jnp.exp(logps) * logps, axis=-1)


def facts(text: str):
  """What a program's text says, as JSON: `shapes` of all arrays, none twice,
  and what is `gathered`: (shape, path of a parameter or '')."""
  module = Module(text)
  gathered = []
  for one in module.instructions.values():
    if one.op in ('all-gather', 'all-gather-start'):
      shapes = dims(one.type)
      # Where it starts early, what goes in is named first.
      shapes = shapes[len(shapes) // 2:] if one.op[-5:] == 'start' else shapes
      gathered += [(shape, module.origin(name))
                   for shape, name in zip(shapes, one.operands, strict=True)]
  return {'shapes': sorted(set(map(tuple, dims(text)))), 'gathered': gathered}


def dims(text: str) -> list[list[int]]:
  return [[int(n) for n in found.split(',')] for found in _SHAPE.findall(text)]


class Instruction(NamedTuple):
  computation: str
  type: str
  op: str
  operands: list[str]
  rest: str


class Module:
  """Instructions of a compiled program by name, and who calls what."""

  def __init__(self, text: str):
    self.instructions = {}
    self.roots = {}
    self.callers = collections.defaultdict(list)   # computation -> (name, n)
    computation = ''
    for line in text.splitlines():
      if line.endswith('{') and not line.startswith(' '):
        computation = line.removeprefix('ENTRY ').split()[0].lstrip('%')
      elif found := _LINE.match(line):
        root, name, kind, op, rest = found.groups()
        operands = re.findall(r'%([\w.\-]+)', rest.split(')')[0])
        self.instructions[name] = Instruction(computation, kind, op, operands,
                                              rest)
        if root:
          self.roots[computation] = name
        for number, called in enumerate(_called(rest)):
          self.callers[called].append((name, number))

  def origin(self, name: str, path=()) -> str:
    """The parameter of the model that a value is, or a piece of; '' for none.

    Args:
      name: of an instruction.
      path: of the value in the tuple that it gives.
    """
    one = self.instructions[name]
    if one.op == 'parameter':
      return self._given(one, path)
    if one.op == 'get-tuple-element':
      index = int(re.search(r'index=(\d+)', one.rest)[1])
      return self.origin(one.operands[0], (index, *path))
    if one.op == 'tuple':
      return self.origin(one.operands[path[0]], path[1:])
    if one.op == 'while':   # it changes no parameter
      return self.origin(one.operands[0], path)
    if one.op in ('fusion', 'call'):
      return self.origin(self.roots[_called(one.rest)[0]], path)
    if one.op in _MOVES:
      return self.origin(one.operands[0], path if one.op.startswith('opt') else
                         ())
    return ''

  def _given(self, one: Instruction, path) -> str:
    """`origin` of a computation's argument."""
    number = int(one.rest.split(')')[0])
    for name, branch in self.callers[one.computation]:
      caller = self.instructions[name]
      which = {'while': 0, 'conditional': branch + 1}.get(caller.op, number)
      if found := self.origin(caller.operands[which], path):
        return found
    named = re.search(r'op_name="params(.*?)"', one.rest.replace('\\', ''))
    return named[1] if named and not self.callers[one.computation] else ''


def _called(rest: str) -> list[str]:
  """Computations that an instruction calls, but conditions of loops."""
  return [name.strip().lstrip('%') for several, one in _CALLED.findall(rest)
          for name in (several or one).split(',')]


def print_facts(platform: str):
  """Of each program, for eight fake devices ('cpu') or for a TPU that is not
  here; or why there is no such topology."""
  devices, sizes, dtype = None, (2, 2, 1, 2), 'float32'
  if platform == 'tpu':
    sizes, dtype = (4, 2, 1, 2), 'bfloat16'
    devices = elsewhere.topology('v5e:4x4')
  mesh = sharding.make_mesh(*sizes, devices=devices)
  print(json.dumps({name: facts(program.as_text()) for name, program in
                    compiled(session(mesh, dtype)).items()}))
