"""Credit for a name by how far down a tree it goes with the right one.

The tree is given; no ontology is shipped or looked up, and names are compared
letter by letter once normalised.
"""

from collections.abc import Mapping
import functools

from medrl import types
from medrl.rewards import answer
from medrl.rewards import lift
from medrl.rewards import text as text_rules
from medrl.rewards.parse import spans


def path(name: str, parents: Mapping[str, str]) -> tuple[str, ...]:
  """Returns the names from the root down to `name`, normalised.

  Args:
    name: a node; one that is not in the tree has the path ().
    parents: child -> parent; a root is a parent that is no child, at depth 0.

  Raises:
    ValueError: the parents run in a circle, or give a node two parents.
  """
  return _paths(tuple(parents.items())).get(spans.normalise(name), ())


@functools.lru_cache(maxsize=8)
def _paths(
    parents: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, ...]]:
  """Returns the path of every node; kept, as a tree serves many answers."""
  tree = {}
  for child, parent in parents:
    child, parent = spans.normalise(child), spans.normalise(parent)
    if tree.setdefault(child, parent) != parent:
      raise ValueError(f'parents: {child!r} has the parents {tree[child]!r} '
                       f'and {parent!r}; expected a tree')
  paths = {}
  for node in {*tree, *tree.values()}:
    up = [node]
    while up[-1] in tree:
      up.append(tree[up[-1]])
      if len(up) > len(tree) + 1:
        raise ValueError(f'parents: {node!r} is below itself; expected a tree')
    paths[node] = tuple(reversed(up))
  return paths


def agreement(value: str, target: str, parents: Mapping[str, str],
              deeper: bool = False) -> float:
  """Returns depth(lowest common ancestor) / depth(target), in [0, 1].

  Depth counts the steps down from the root, so to share only the root earns 0,
  as a name that is not in the tree does. With the target's depth (proposed for
  DermoGPT, arXiv 2601.01868; the paper's own was not found) any name below the
  target earns 1, and so a leaf is always the safe bet; `deeper` divides by the
  greater of both depths instead, and 1 means equal.

  Raises:
    ValueError: the target is not in the tree, or this is no tree.
  """
  gold = path(target, parents)
  if not gold:
    raise ValueError(f'target {target!r} is not in the tree of '
                     f'{len(parents)} parents')
  said = path(value, parents)
  if said == gold:
    return 1.0
  shared = sum(a == b for a, b in zip(said, gold))
  depth = max(len(gold), len(said) if deeper else 0) - 1
  return max(shared - 1, 0) / depth if depth else 0.0


@lift.per_completion
def score(record: types.Record, text: str, *, parents: Mapping[str, str],
          deeper: bool = False) -> float | None:
  """Rewards a name by `agreement`, in [0, 1].

  The record's answer is a text or an option, and so is what is read. As a
  reward, called with (record, completions, context).

  Raises:
    ValueError: the record's answer is no string or not in the tree, or this is
      no tree.
  """
  target = text_rules.reference(record)
  value = answer.prediction(record, text)
  if value is None:
    return None
  said = record.options[value] if record.answer_type == 'choice' else value
  return agreement(said, target, parents, deeper)
