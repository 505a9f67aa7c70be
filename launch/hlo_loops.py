"""How often a loop of an HLO module runs, where its text tells.

XLA's CPU compiler writes down what it knows. libtpu's does not, and there it is
read from the form that jax's scans and counted loops have: a counter of the
state that starts at a constant, grows by one, and is compared with another.
"""

import re

from launch import hlo_text


def trips(module: hlo_text.Module, within: str, name: str) -> int | None:
  """Turns of a loop, or None where they depend on what it computes."""
  scope = module.computations[within].instructions
  one = scope[name]
  if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', one.rest):
    return int(known[1])
  called = hlo_text.called(one)
  condition, body = (module.computations[called[role][0]]
                     for role in ('condition', 'body'))
  index, end = _compared(condition)
  if index is None:
    return None
  begin = _constant(scope, _element(scope, one.operands[0], index))
  grown = _element(body.instructions, body.root, index)
  step = _step(body.instructions, grown, index)
  if None in (begin, end, step) or step <= 0:
    return None
  return max(0, -(-(end - begin) // step))


def _compared(condition: hlo_text.Computation) -> tuple[int | None, int | None]:
  """(place of the counter in the state, what it stays below)."""
  root = condition.instructions[condition.root]
  if root.op != 'compare' or 'direction=LT' not in root.rest:
    return None, None
  counter, end = root.operands
  return (_place(_origin(condition.instructions, counter)),
          _constant(condition.instructions, end))


def _place(one: hlo_text.Instruction) -> int | None:
  if one.op != 'get-tuple-element':
    return None
  return int(hlo_text.attribute(one, 'index'))


def _element(scope, name: str, index: int) -> str | None:
  """The instruction that a tuple has in one place."""
  one = scope[name]
  return one.operands[index] if one.op == 'tuple' else None


def _origin(scope, name: str | None) -> hlo_text.Instruction | None:
  """What a value is a copy of."""
  while name and scope[name].op in ('copy', 'bitcast'):
    name = scope[name].operands[0]
  return scope[name] if name else None


def _constant(scope, name: str | None) -> int | None:
  """The whole number that a value is."""
  one = _origin(scope, name)
  number = one and one.op == 'constant' and re.fullmatch(r'-?\d+', one.inside)
  return int(one.inside) if number else None


def _step(scope, name: str | None, index: int) -> int | None:
  """What is added to the counter in a turn."""
  one = _origin(scope, name)
  if not one or one.op != 'add':
    return None
  counter, added = one.operands
  if _place(_origin(scope, counter)) != index:
    counter, added = added, counter
  return _constant(scope, added) if (
      _place(_origin(scope, counter)) == index) else None
