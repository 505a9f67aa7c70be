"""Rewards for reasoning that a knowledge graph supports.

A graph is a list of triples in the record, in an option, or in a JSON file
below a given folder. Nothing is retrieved here, from the network least of all,
and that a graph connects two things does not make a step right for the case.
"""

import collections
from collections.abc import Mapping, Sequence
import functools
import json
import pathlib
from typing import Any

from medrl import types
from medrl.rewards import graded
from medrl.rewards import phrases
from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

# Distances beyond these many edges are no support for a step.
_HOPS = 4
_CITATION = 40


def load(name: str, root: str) -> tuple[tuple[str, str, str], ...]:
  """Returns the triples (head, relation, tail) of a JSON file below `root`.

  Raises:
    ValueError: the file lies outside of `root`, or holds other than a list of
      triples of strings.
  """
  folder = pathlib.Path(root).resolve()
  place = (folder / name).resolve()
  if not place.is_relative_to(folder):
    raise ValueError(f'graph {name!r} lies outside of {root!r}; give a path '
                     'below it')
  return _checked_triples(json.loads(place.read_text(encoding='utf-8')))


_load = functools.lru_cache(maxsize=32)(load)


def _checked_triples(found: Any) -> tuple[tuple[str, str, str], ...]:
  out = tuple(tuple(t) for t in found) if isinstance(found, (list, tuple)
                                                     ) else ()
  for triple in out:
    if len(triple) != 3 or not all(isinstance(x, str) for x in triple):
      raise ValueError(f'{triple!r} is no triple (head, relation, tail)')
  if not out:
    raise ValueError('a graph holds no triple; expected a list of [head, '
                     'relation, tail]')
  return out


def _triples(record: types.Record, triples: Any, root: str) -> Any:
  given = triples or record.meta.get('triples', ())
  return _load(given, root) if isinstance(given, str) else _checked_triples(
      given)


def _graph(triples: Sequence[tuple[str, str, str]]) -> dict[str, set[str]]:
  """Neighbours of each node, both ways, by normalised names."""
  out = collections.defaultdict(set)
  for head, _, tail in triples:
    a, b = _name(head), _name(tail)
    out[a].add(b)
    out[b].add(a)
  return out


def _name(text: str) -> str:
  return ' '.join(phrases.words(text)[0])


def distances(graph: Mapping[str, set[str]], sources: set[str],
              most: int = 2 * _HOPS) -> dict[str, int]:
  """Returns the edges from the nearest source to each node within `most`."""
  out = {s: 0 for s in sources if s in graph}
  queue = collections.deque(out)
  while queue:
    node = queue.popleft()
    if out[node] < most:
      for other in graph[node]:
        if other not in out:
          out[other] = out[node] + 1
          queue.append(other)
  return out


@graded.per_completion
def support(record: types.Record, completion: types.Completion, *,
            triples: str | Sequence[Sequence[str]] = (), root: str = '.',
            least: int = 2) -> graded.Grade:
  """Rewards reasoning whose successive entities a graph connects, in [0, 1].

  The share of successive entities of the think block that are an edge, or stand
  in this order on a shortest path from an entity of the question to one of the
  answer (MedReason's paths, arXiv 2504.00993; as a reward proposed). A pair
  counts once, in either order, and the share is of at least `least` pairs, so
  that one edge said once or many times is not all. Spans are the second
  entities of supported pairs (1) and of others (-1). Unparsed without a think
  block. Any walk on the graph earns it, also one away from the case.

  Args:
    record: with meta['triples'] (a list, or a file below `root`) where the
      option is not given.
    completion: with a think block.
    triples: a list of [head, relation, tail], or a JSON file below `root`.
    root: folder of the file; other places are refused.
    least: fewest pairs that the share is of.

  Raises:
    ValueError: there are no triples, or the file is refused.
  """
  known = _triples(record, triples, root)
  think = blocks.think(completion.text)
  if think is None:
    return graded.Grade(None)
  graph, tree = _indexed(known)
  named = [(a, b, name[0]) for a, b, name in phrases.find(think.value, tree)]
  answer = record.options.get(record.answer, record.answer) if isinstance(
      record.answer, str) else ''
  start = {n[0] for *_, n in phrases.find(record.question, tree)}
  end = {n[0] for *_, n in phrases.find(str(answer), tree)}
  outward, inward = distances(graph, start), distances(graph, end)
  length = min((outward[e] for e in end if e in outward), default=None)
  seen, marks, around = {}, [], {}
  for (_, _, a), (s, e, b) in zip(named, named[1:]):
    if a == b:
      continue
    pair = (a, b) if a < b else (b, a)
    if pair not in seen:
      if a not in around and a in outward and length is not None:
        around[a] = distances(graph, {a}, _HOPS)
      seen[pair] = b in graph[a] or _between(
          a, b, outward, inward, length, around.get(a, {}))
      marks.append((s, e, 1.0 if seen[pair] else -1.0))
  value = sum(seen.values()) / max(len(seen), least, 1)
  return graded.Grade(value, graded.moved(tuple(marks), think.span[0]))


@functools.lru_cache(maxsize=32)
def _indexed(triples: tuple[tuple[str, str, str], ...]
             ) -> tuple[dict[str, set[str]], dict[str, Any]]:
  graph = _graph(triples)
  return graph, phrases.table((name, name) for name in graph if name.strip())


def _between(a: str, b: str, outward: Mapping[str, int],
             inward: Mapping[str, int], length: int | None,
             around: Mapping[str, int]) -> bool:
  """Whether a, then b, lie on one shortest path from question to answer."""
  if length is None or a not in outward or b not in inward:
    return False
  return 0 < around.get(b, 0) == length - outward[a] - inward[b]


@graded.per_completion
def cited(record: types.Record, completion: types.Completion, *,
          tag: str = 'summary', chosen: str = 'rag') -> graded.Grade:
  """Rewards cited triples that the chosen paths hold and the patient has.

  In [0, 1]: the share of the triple ids cited as [id] in the last `tag` block
  whose relation is on a meta-path chosen in a `chosen` block (a JSON list of
  path ids) and whose head or tail is a code of the patient. GHAR (arXiv
  2511.13293); proposed, the paper's own was not found. An id counts once; one
  that does not exist counts as cited. 0 without citations. Spans are the
  citations, 1 or -1. Unparsed without the block. Citing one sure triple earns
  all of it.

  Args:
    record: with meta['triples'] (id -> [head, relation, tail]),
      meta['meta_paths'] (id -> relations) and meta['codes'].
    completion: with the two blocks; without a `chosen` block no path is chosen.
    tag: name of the block that cites.
    chosen: name of the block that chooses.

  Raises:
    ValueError: the record lacks one of the three.
  """
  for key in ('triples', 'meta_paths', 'codes'):
    if key not in record.meta:
      raise ValueError(f'record {record.id!r} has no meta[{key!r}]; it has '
                       f'{sorted(record.meta)}')
  block = blocks.tag(completion.text, tag)
  if block is None:
    return graded.Grade(None)
  relations = _relations(record, blocks.tag(completion.text, chosen))
  codes = set(record.meta['codes'])
  good, marks = {}, []
  for name, at in _citations(block.value):
    if name not in good:
      head, relation, tail = record.meta['triples'].get(name, ('', '', ''))
      good[name] = relation in relations and bool(codes & {head, tail})
    marks.append((*at, 1.0 if good[name] else -1.0))
  value = sum(good.values()) / max(len(good), 1)
  return graded.Grade(value, graded.moved(tuple(marks), block.span[0]))


def _relations(record: types.Record, block: spans.Parsed | None) -> set[str]:
  """The relations on the meta-paths that a block's JSON list names."""
  # Nested brackets only make json recurse, and no list of ids is this long.
  if block is None or len(block.value) > 4000 or block.value.count('[') != 1:
    return set()
  try:
    ids = json.loads(block.value)
  except ValueError:
    return set()
  known = record.meta['meta_paths']
  return {r for i in ids if isinstance(i, str) for r in known.get(i, ())
          } if isinstance(ids, list) else set()


def _citations(text: str) -> list[tuple[str, tuple[int, int]]]:
  """Returns what stands in square brackets, if short, and its span."""
  out, at = [], text.find('[')
  while at >= 0:
    end = text.find(']', at, at + _CITATION + 2)
    again = text.find('[', at + 1)
    if end > at + 1 and not at < again < end:
      out.append((text[at + 1:end].strip(), (at, end + 1)))
    at = again
  return out
