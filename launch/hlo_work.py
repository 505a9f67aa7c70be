"""FLOPs of an HLO instruction, and the bytes that it moves through memory.

A model of single instructions: what is fused is read and written once, and of
what is only cut or written in part, the part. Caches are not in it, nor what
repeats in a loop: see `hlo`.
"""

import functools
import math
import re

from launch import hlo_text

# Name no work: they are values as they are, or what stands for other lines.
_FREE = frozenset((
    'parameter', 'constant', 'get-tuple-element', 'tuple', 'bitcast', 'while',
    'call', 'conditional', 'optimization-barrier', 'after-all', 'partition-id',
    'replica-id', 'add-dependency', 'async-start', 'async-update'))
# Custom calls of products: a GPU's cuBLAS, a CPU's oneDNN.
_LIBRARIES = ('__cublas$', '__onednn$matmul')
# Custom calls that only tell libtpu something, or mask an edge for it.
_TELLS = ('AllocateBuffer', 'AssumeGatherIndicesInBound', 'ConcatBitcast',
          'GatherScatterIndicesBitpacked', 'ZeroCrop')
_PUTS = ('dynamic-update-slice', 'scatter')
_CUTS = ('slice', 'dynamic-slice', 'gather')
_SAME = ('bitcast', 'reshape')   # as it is, within a fusion
# Element by element: of these a fusion makes only what is asked of them.
_LAZY = ('bitcast', 'reshape', 'convert', 'copy', 'transpose',
         'bitcast-convert', 'negate')


def free(one: hlo_text.Instruction) -> bool:
  """Whether an instruction does nothing itself."""
  if one.op == 'custom-call':
    return hlo_text.target(one) in _TELLS
  return one.op in _FREE or one.op.endswith('-done')


def products(module: hlo_text.Module, within: str, name: str
             ) -> list[tuple[int, int]]:
  """Of each product in an instruction, and in what it is fused of: the least
  of its rows, columns and inner places, and its FLOPs; multiply and add are
  two. Custom calls, but those to a library's products, tell none."""
  scope = module.computations[within].instructions
  one = scope[name]
  given = [scope[operand].type for operand in one.operands]
  if one.op == 'dot':
    return [_dot(one, *given)]
  if one.op == 'convolution':
    return [_convolution(one, *given)]
  if one.op == 'custom-call' and hlo_text.target(one).startswith(_LIBRARIES):
    return [_library(one, *given[:2])]
  if one.op == 'fusion':
    (fused,) = hlo_text.called(one)['calls']
    return [product for inner in module.computations[fused].instructions
            for product in products(module, fused, inner)]
  return []


def _dot(one: hlo_text.Instruction, left, right) -> tuple[int, int]:
  return _product(left, right, hlo_text.numbers(one, 'lhs_contracting_dims'),
                  hlo_text.numbers(one, 'lhs_batch_dims'))


def _library(one: hlo_text.Instruction, left, right) -> tuple[int, int]:
  """A product that a GPU's library makes: its dimensions are in the config."""
  def of(name):
    found = re.search(rf'"{name}":\[([^\]]*)\]', one.rest)
    return map(int, re.findall(r'\d+', found[1])) if found else ()
  return _product(left, right, of('lhs_contracting_dimensions'),
                  of('lhs_batch_dimensions'))


def _product(left, right, contracted, batched) -> tuple[int, int]:
  inner = math.prod(left.dims[i] for i in contracted)
  batch = math.prod(left.dims[i] for i in batched)
  sides = [math.prod(of.dims) // max(1, inner * batch) for of in (left, right)]
  return min(inner, *sides), 2 * batch * inner * math.prod(sides)


def _convolution(one: hlo_text.Instruction, left, right) -> tuple[int, int]:
  """As XLA's own HloCostAnalysis counts: a place of the window that lies on
  padding or between dilated values costs nothing. TPU programs have their
  products in this form, batch axes as dilated spatial ones."""
  a, b, out = _labels(one.rest)
  window = _window(one.rest)
  def size(of, labels, name):
    return of.dims[labels.index(name)]
  valid = 1
  for number in range(len(a) - 2):
    at = str(number)
    valid *= _valid(size(left, a, at), size(right, b, at),
                    size(one.type, out, at), window(number))
  inner, columns = size(right, b, 'i'), size(one.type, out, 'f')
  rows = size(one.type, out, 'b')
  return min(inner, columns, rows * valid), 2 * rows * inner * columns * valid


def _labels(rest: str) -> list[str]:
  """`dim_labels=0bf_0io->0bf` -> its three parts."""
  both, _, out = rest.partition('dim_labels=')[2].partition('->')
  return [*both.split('_'), out.split(',')[0].split(' ')[0]]


def _window(rest: str):
  """Number of a spatial axis -> (stride, low pad, dilations of left, right)."""
  text = rest.partition('window={')[2].partition('}')[0]
  fields = dict(part.split('=') for part in text.split())
  def of(number):
    def field(name, default):
      return fields[name].split('x')[number] if name in fields else default
    return (int(field('stride', 1)), int(field('pad', '0_0').split('_')[0]),
            int(field('lhs_dilate', 1)), int(field('rhs_dilate', 1)))
  return of


@functools.lru_cache(maxsize=4096)
def _valid(size: int, window: int, out: int, how) -> int:
  """Pairs of (result, place in the window) that meet a value of the input."""
  stride, low, spread, apart = how
  last, found = (size - 1) * spread, 0
  for place in range(window):
    shift = place * apart - low
    # o with 0 <= o * stride + shift <= last, on a value and not between two.
    begin = max(0, -(shift // stride))
    end = min(out - 1, (last - shift) // stride)
    step = spread // math.gcd(stride, spread)
    first = next((o for o in range(begin, min(begin + step, end + 1))
                  if not (o * stride + shift) % spread), None)
    found += 0 if first is None else (end - first) // step + 1
  return found


def traffic(module: hlo_text.Module, within: str, name: str
            ) -> list[tuple[int, int]]:
  """What an instruction reads and writes of the device's memory: for each
  array its size, and the bytes of it that move."""
  scope = module.computations[within].instructions
  one = scope[name]
  given = [scope[operand] for operand in one.operands]
  if free(one):
    return []
  if one.op == 'fusion':
    (fused,) = hlo_text.called(one)['calls']
    return _written(module, fused) + [
        (hlo_text.size(operand.type), _read(module, fused, number))
        for number, operand in enumerate(given)]
  if one.op in _CUTS:
    part = hlo_text.size(one.type)
    return [(hlo_text.size(given[0].type), part), (part, part),
            *map(_whole, given[1:])]
  if one.op in _PUTS:
    update = _update(one, given)
    return [(update, update), (hlo_text.size(one.type), update)]
  if one.op == 'slice-start':   # ((array), part, more)
    part = sum(leaf.bytes for leaf in hlo_text.leaves(one.type[1]))
    size = hlo_text.size(given[0].type)
    return [(size, min(size, part)), 2 * (hlo_text.size(one.type[1]),)]
  if one.op.endswith('-start'):   # it names what goes in and what comes out
    return [_whole(one)]
  return [_whole(one), *map(_whole, given)]


def _whole(one: hlo_text.Instruction) -> tuple[int, int]:
  return 2 * (hlo_text.size(one.type),)


def put_into(module: hlo_text.Module, within: str, name: str) -> str:
  """The value into whose buffer an instruction writes; '' where it makes one
  of its own."""
  one = module.computations[within].instructions[name]
  if one.op != 'fusion':
    return one.operands[0] if one.op in _PUTS else ''
  fused = module.computations[hlo_text.called(one)['calls'][0]]
  made = _made(fused.instructions, fused.root)
  if made.op not in _PUTS:
    return ''
  given = _made(fused.instructions, made.operands[0])
  return one.operands[int(given.inside)] if given.op == 'parameter' else ''


def _update(one: hlo_text.Instruction, given) -> int:
  """Bytes of what a dynamic-update-slice or a scatter puts in."""
  news = given[1:2]
  if one.op == 'scatter':   # arrays, indices, and an update for each array
    news = given[len(given) // 2 + 1:]
  return sum(hlo_text.size(new.type) for new in news)


def _written(module: hlo_text.Module, fused: str) -> list[tuple[int, int]]:
  """What a fusion writes: of an update in place, the update. Only a result's
  own type tells in which memory it lies."""
  scope = module.computations[fused].instructions
  def of(name):
    if scope[name].op == 'tuple':
      return [move for operand in scope[name].operands for move in of(operand)]
    size, made = hlo_text.size(scope[name].type), _made(scope, name)
    if made.op not in _PUTS:
      return [(size, size)]
    update = _update(made, [scope[operand] for operand in made.operands])
    return [(size, min(size, update))]
  return of(module.computations[fused].root)


def _made(scope, name: str) -> hlo_text.Instruction:
  """What a value is, seen in another shape."""
  while scope[name].op in _SAME:
    name = scope[name].operands[0]
  return scope[name]


def _read(module: hlo_text.Module, fused: str, number: int) -> int:
  """Bytes that a fusion reads of an operand."""
  given = module.computations[fused].parameters()[number]
  if not isinstance(given.type, hlo_text.Array):
    return hlo_text.size(given.type)
  if given.type.space:
    return 0
  return math.ceil(_taken(module, fused, given.name)
                   * hlo_text.bits(given.type.dtype) / 8)


def _taken(module: hlo_text.Module, within: str, name: str) -> int:
  """How many elements of a value its users ask for."""
  scope = module.computations[within].instructions
  whole, asked = math.prod(scope[name].type.dims), 0
  users = [one for one in scope.values() if name in one.operands]
  for one in users:
    first = one.operands[0] == name
    if one.op in _CUTS and first:
      asked += math.prod(one.type.dims)
    elif one.op in _PUTS and first:
      continue
    elif one.op in _LAZY:
      asked += _taken(module, within, one.name)
    elif one.op == 'fusion':
      (fused,) = hlo_text.called(one)['calls']
      given = module.computations[fused].parameters()
      asked += sum(_taken(module, fused, given[i].name)
                   for i, operand in enumerate(one.operands) if operand == name)
    else:
      return whole
  root = module.computations[within].root == name
  return whole if root or asked > whole else asked
