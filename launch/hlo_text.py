"""Reads the text of an optimised HLO module into plain values.

What `compiled.as_text()` gives, from XLA's CPU compiler and from libtpu. What
the instructions cost is in `hlo`, which devices hold the same in `hlo_copies`.
Sizes are of elements: what a TPU's tiles pad is not in them.
"""

from collections.abc import Iterator
import functools
import math
import re
from typing import NamedTuple

_BITS = re.compile(r'[a-z]+?(\d+)')
_HEAD = re.compile(r'\s*(ROOT )?%?([\w.\-]+) = ')
_OP = re.compile(r'\s*([a-z][\w\-]*)\(')
_LEAF = re.compile(r'([a-z]\w*)\[([^\]]*)\](?:\{([^}]*)\})?')
_SPACE = re.compile(r'S\((\d+)\)')
_CALLED = re.compile(
    r'\b(calls|to_apply|body|condition|branch_computations|true_computation|'
    r'false_computation|called_computations)=(?:\{([^}]*)\}|%?([\w.\-]+))')


class Array(NamedTuple):
  """A shape. `space` is 0 in the device's memory, 1 in a TPU's own fast one, 5
  on the host."""
  dtype: str
  dims: tuple[int, ...]
  space: int

  @property
  def bytes(self) -> int:
    return -(-math.prod(self.dims) * bits(self.dtype) // 8)


class Instruction(NamedTuple):
  """One line. `type` is an Array or a tuple of such; `rest` what stands behind
  the operands; `inside` what stands in their place where there are none (a
  parameter's number, a constant)."""
  name: str
  type: 'Array | tuple'
  op: str
  operands: tuple[str, ...]
  inside: str
  rest: str


class Computation(NamedTuple):
  """Instructions by name in the order they run in, and which is the result."""
  instructions: dict[str, Instruction]
  root: str

  def parameters(self) -> dict[int, Instruction]:
    return {int(one.inside): one for one in self.instructions.values()
            if one.op == 'parameter'}


class Module(NamedTuple):
  computations: dict[str, Computation]
  entry: str


def bits(dtype: str) -> int:
  """Of an element: pred is a byte, a token nothing."""
  if dtype == 'pred':
    return 8
  found = _BITS.match(dtype)
  return int(found[1]) if found else 0


def parse(text: str) -> Module:
  """The module of a text.

  Raises:
    ValueError: there is no entry computation in it.
  """
  computations, entry, name, body, root, last = {}, '', '', {}, '', ''
  for line in text.splitlines():
    if line.endswith('{') and ' -> ' in line and not line.startswith(' '):
      first, _, more = line.partition(' ')
      name = (more if first == 'ENTRY' else first).split()[0].lstrip('%')
      entry = name if first == 'ENTRY' else entry
      body, root = {}, ''
    elif line == '}' and name:
      computations[name] = Computation(body, root)
      name = ''
    elif name and (found := _HEAD.match(line)):
      one = _instruction(found[2], line[found.end():])
      body[one.name] = one
      root, last = one.name if found[1] else root, one.name
    elif name and last in body:   # a kernel's metadata has lines of its own
      body[last] = body[last]._replace(rest=body[last].rest + line)
  if not entry:
    raise ValueError(f'no ENTRY computation in {text[:80]!r}...; give the text '
                     f'of a compiled module, as compiled.as_text() has it')
  return Module(computations, entry)


def _instruction(name: str, line: str) -> Instruction:
  """A line, from its type on."""
  end = _closing(line, 0) if line.startswith('(') else line.index(' ') - 1
  op = _OP.match(line, end + 1)
  last = _closing(line, op.end() - 1)
  inside = line[op.end():last]
  operands = tuple(re.findall(r'%([\w.\-]+)', inside))
  return Instruction(name, kind(line[:end + 1]), op[1], operands,
                     '' if operands else inside, line[last + 1:])


def _closing(line: str, begin: int) -> int:
  """Where the parenthesis that opens at `begin` closes."""
  depth = 0
  for found in re.compile(r'[()]').finditer(line, begin):
    depth += 1 if found[0] == '(' else -1
    if not depth:
      return found.start()
  raise ValueError(f'a parenthesis is open in {line[:120]!r}...')


@functools.lru_cache(maxsize=4096)
def kind(text: str) -> 'Array | tuple':
  """A type's text -> Array, or tuples of such."""
  stack = [[]]
  at = 0
  while at < len(text):
    if text[at] == '(':
      stack.append([])
      at += 1
    elif text[at] == ')':
      done = tuple(stack.pop())
      stack[-1].append(done)
      at += 1
    elif found := _LEAF.match(text, at):
      stack[-1].append(_array(*found.groups()))
      at = found.end()
    else:
      at += 1
  return stack[0][0]


def _array(dtype: str, dims: str, layout: str | None) -> Array:
  space = _SPACE.search(layout or '')
  return Array(dtype, tuple(map(int, re.findall(r'\d+', dims))),
               int(space[1]) if space else 0)


def leaves(of: 'Array | tuple') -> Iterator[Array]:
  """All arrays of a type."""
  if isinstance(of, Array):
    yield of
  else:
    for part in of:
      yield from leaves(part)


def size(of: 'Array | tuple') -> int:
  """Bytes of a type that lie in the device's memory."""
  return sum(leaf.bytes for leaf in leaves(of) if not leaf.space)


def target(one: Instruction) -> str:
  """What a custom call is of."""
  return re.search(r'custom_call_target="([^"]*)"', one.rest)[1]


def called(one: Instruction) -> dict[str, list[str]]:
  """Role -> computations that an instruction calls."""
  return {role: [name.strip().lstrip('%') for name in
                 (several or single).split(',')]
          for role, several, single in _CALLED.findall(one.rest)}


def numbers(one: Instruction, attribute: str) -> tuple[int, ...]:
  """The numbers of an attribute `name={1,2}`; none where it is absent."""
  found = re.search(rf'\b{attribute}=\{{([\d,]*)\}}', one.rest)
  return tuple(map(int, re.findall(r'\d+', found[1]))) if found else ()


def attribute(one: Instruction, name: str) -> str:
  """The text of an attribute `name=word`; '' where it is absent."""
  found = re.search(rf'\b{name}=([\w.\-]+)', one.rest)
  return found[1] if found else ''


def path(one: Instruction) -> str:
  """Where the program made it: jax's op_name without the jit it begins with;
  the instruction's name where there is none."""
  found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', one.rest)
  if not found:
    return one.name
  named = found[1].replace('\\', '')
  return named.partition('/')[2] if named.startswith('jit(') else named
