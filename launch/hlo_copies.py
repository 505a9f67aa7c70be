"""Which devices hold the same values, told from a partitioned module's text.

Each value is given a partition of the devices: those of one class hold the
same. It follows the data as XLA's HloReplicationAnalysis does, from how the
program's arguments are sharded (the text keeps that) through collectives,
which make devices of a group equal, to every result. Sound in one direction:
devices said to be equal are; devices that hold the same by chance, or by a
reason that is not in the data flow, are not found. What a custom call gives is
taken to depend on its operands alone.
"""

import functools
import re

from launch import hlo_collectives
from launch import hlo_text

# A label per device; equal labels are equal values.
Labels = tuple[int, ...]

_GATHERS = ('all-gather', 'all-reduce')
_SPREADS = ('reduce-scatter', 'all-to-all', 'ragged-all-to-all')
_UNEQUAL = ('partition-id', 'infeed', 'recv', 'rng', 'rng-get-and-update-state')


def copies(module: hlo_text.Module, devices: int
           ) -> dict[str, dict[str, tuple[float, ...]]]:
  """Computation -> instruction -> on how many devices each array is the same.

  An array of a value that is a tuple has a number of its own. Where a loop or
  a branch is run from several places, the last one counts.

  Args:
    module: partitioned over `devices`.
    devices: of the program.
  """
  seen = {}
  made = module.computations[module.entry]
  given = made.parameters()
  arguments = tuple(
      _given(given[number], devices) for number in range(len(given)))
  _follow(module, devices, seen)(module.entry, arguments)
  return {computation: {name: tuple(devices / len(set(labels))
                                    for labels in value)
                        for name, value in values.items()}
          for computation, values in seen.items()}


def _given(one: hlo_text.Instruction, devices: int) -> tuple[Labels, ...]:
  count = len(list(hlo_text.leaves(one.type)))
  return count * (sharded(one.rest, devices),)


def sharded(rest: str, devices: int) -> Labels:
  """Labels of an argument by its `sharding=`; all unequal where there is none,
  or one that is not known here."""
  found = re.search(r'sharding=\{(replicated|devices=(\[[\d,]+\])(\S*?)'
                    r'(?: (last_tile_dim_replicate))?)\}', rest)
  if not found:
    return tuple(range(devices))
  if found[1] == 'replicated':
    return devices * (0,)
  tiles = tuple(map(int, found[2][1:-1].split(',')))
  if found[3].startswith('<'):
    order = hlo_collectives.iota(found[2] + found[3]).reshape(-1).tolist()
  else:
    order = list(map(int, found[3].split(',')))
  same = tiles[-1] if found[4] else 1
  out = [0] * devices
  for place, device in enumerate(order):
    out[device] = place // same
  return tuple(out)


def _canonical(labels) -> Labels:
  numbers = {}
  return tuple(numbers.setdefault(label, len(numbers)) for label in labels)


@functools.lru_cache(maxsize=65536)
def _both(a: Labels, b: Labels) -> Labels:
  """Equal where both are."""
  return a if a == b else _canonical(zip(a, b))


def _all(labels, devices: int) -> Labels:
  return functools.reduce(_both, labels, devices * (0,))


def exchanged(labels: Labels, groups, op: str) -> Labels:
  """Labels of what a collective gives, of those of what goes in."""
  out = [0] * len(labels)
  if op == 'collective-permute':
    out = [(None, d) for d in out]   # zeros where nothing is sent
    for source, target in groups:
      out[target] = (labels[source],)
    return _canonical(out)
  for group in groups:
    whole = tuple(labels[device] for device in group)
    for place, device in enumerate(group):
      out[device] = (whole, place if op in _SPREADS else 0)
  return _canonical(out)


def _follow(module: hlo_text.Module, devices: int, seen):
  """(computation, labels of its arguments) -> those of its result."""
  done = {}

  def run(name, arguments):
    if (name, arguments) not in done:
      values = {}
      computation = module.computations[name]
      for one in computation.instructions.values():
        operands = [values[operand] for operand in one.operands]
        if one.op == 'parameter':
          values[one.name] = arguments[int(one.inside)]
        elif one.op == 'get-tuple-element':
          kind = computation.instructions[one.operands[0]].type
          values[one.name] = part(
              kind, int(hlo_text.attribute(one, 'index')), operands[0])
        else:
          values[one.name] = _value(one, operands, devices, run)
      seen[name] = values
      done[name, arguments] = values[computation.root]
    return done[name, arguments]

  return run


def part(kind, place: int, value):
  """Of what is told array by array of a tuple, that of one place in it."""
  counts = [len(list(hlo_text.leaves(of))) for of in kind]
  begin = sum(counts[:place])
  return value[begin:begin + counts[place]]


def _value(one: hlo_text.Instruction, operands, devices: int, run):
  """Labels of what an instruction gives, array by array."""
  count = len(list(hlo_text.leaves(one.type)))
  op = one.op.removesuffix('-start').removesuffix('-done')
  called = hlo_text.called(one)
  flat = [labels for value in operands for labels in value]
  if op == 'tuple' or op == 'optimization-barrier':
    return tuple(flat)
  if one.op.endswith('-done'):
    return count * tuple(flat[:1])
  if op in ('fusion', 'call') or (op == 'async' and called):
    (name,) = called.get('calls') or called['to_apply']
    out = run(name, tuple(operands))
    return out if len(out) == count else count * (_all(out, devices),)
  if op == 'while':
    return _loop(called, operands[0], devices, run)
  if op == 'conditional':
    return _branches(called, operands, devices, run)
  if op in _UNEQUAL:
    return count * (tuple(range(devices)),)
  labels = _all(flat, devices)
  if op in (*_GATHERS, *_SPREADS, 'collective-permute'):
    groups = hlo_collectives.groups(one, devices)
    if len(flat) == count:   # each array is exchanged for itself
      return tuple(exchanged(x, groups, op) for x in flat)
    labels = exchanged(labels, groups, op)
  return count * (labels,)


def _loop(called, state, devices: int, run):
  """A loop's state once another turn changes no label."""
  (condition,), (body,) = called['condition'], called['body']
  while True:
    going = run(condition, (state,))[0]
    new = run(body, (state,))
    new = tuple(_both(_both(a, b), going) for a, b in zip(state, new))
    if new == state:
      return state
    state = new


def _branches(called, operands, devices: int, run):
  names = called.get('branch_computations') or [
      called['true_computation'][0], called['false_computation'][0]]
  results = [run(name, (operand,))
             for name, operand in zip(names, operands[1:], strict=True)]
  return tuple(_all((*operands[0], *of), devices) for of in zip(*results))


