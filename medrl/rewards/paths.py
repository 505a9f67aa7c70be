"""Rewards for reasoning whose steps follow a table of valid paths.

A path that is valid need not be the right one for the case. For paths over a
knowledge graph see `graph`.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

from medrl import types
from medrl.rewards import floor
from medrl.rewards import graded
from medrl.rewards import lift
from medrl.rewards import phrases
from medrl.rewards import process


def categories(text: str, keywords: Sequence[Mapping[str, Sequence[str]]]
               ) -> list[tuple[str | None, tuple[int, int]]]:
  """Returns each step's category and span, of the numbered steps in order.

  A step's category is the one whose keywords stand in it, as whole words (so
  'mm' is not in 'recommend'), the longest winning ('no abnormality' hides
  'abnormality'). None where there is none, several, or no such step.

  Args:
    text: a completion with numbered steps in its think block.
    keywords: for each step, category -> phrases.
  """
  found = process.steps(text)
  out = []
  for k, known in enumerate(keywords):
    if k >= len(found):
      out.append((None, (0, 0)))
      continue
    tree = _tree(tuple((c, tuple(p)) for c, p in known.items()))
    hits = {name for *_, names in phrases.find(found[k].value, tree)
            for name in names}
    out.append((hits.pop() if len(hits) == 1 else None, found[k].span))
  return out


@functools.lru_cache(maxsize=64)
def _tree(known: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, Any]:
  return phrases.table((phrase, name) for name, found in known
                       for phrase in found)


def _checked(table: Sequence[Sequence[str]],
             keywords: Sequence[Mapping[str, Sequence[str]]]) -> None:
  if not table or len(keywords) < 2:
    raise ValueError(f'{len(table)} rows and {len(keywords)} steps; a path '
                     'table needs a row, and two steps to go between')
  for row in table:
    if len(row) != len(keywords) or any(
        name not in known for name, known in zip(row, keywords)):
      raise ValueError(f'row {list(row)!r} does not fit the keywords; expected '
                       f'one of each of {[sorted(k) for k in keywords]}')


@lift.declare(label_free=True)
@graded.per_completion
def transitions(record: types.Record, completion: types.Completion, *,
                table: Sequence[Sequence[str]] = (),
                keywords: Sequence[Mapping[str, Sequence[str]]] = ()
                ) -> graded.Grade:
  """Rewards steps that follow from the step before, in [0, 1].

  The consistency term of Dr-LLaVA (arXiv 2405.19567), without a label: the
  share of neighbouring steps (k - 1, k) whose categories stand next to each
  other at that place in some row of `table`. Spans are the steps: 1 where the
  transition into it is allowed, else -1. Unparsed without steps. Reciting any
  row of the table earns it all.

  Args:
    record: not read.
    completion: with numbered steps in its think block.
    table: the valid paths, each a category for every step.
    keywords: see `categories`.

  Raises:
    ValueError: the table is empty or does not fit the keywords.
  """
  del record
  _checked(table, keywords)
  found = categories(completion.text, keywords)
  if not process.steps(completion.text):
    return graded.Grade(None)
  allowed = [{(row[k - 1], row[k]) for row in table}
             for k in range(1, len(keywords))]
  good, marks = 0, []
  for k, pairs in enumerate(allowed, 1):
    fits = (found[k - 1][0], found[k][0]) in pairs
    good += fits
    if found[k][1] != (0, 0):
      marks.append((*found[k][1], 1.0 if fits else -1.0))
  return graded.Grade(good / len(allowed), tuple(marks))


def path(record: types.Record, completions: list[types.Completion],
         context: Mapping[str, Any], *,
         keywords: Sequence[Mapping[str, Sequence[str]]] = (),
         key: str = 'path', unmatched: float = -0.5,
         unparsed: float | None = None) -> types.Score:
  """Rewards steps of the right category, in [min(unmatched, 0), 1].

  The correctness term of Dr-LLaVA (arXiv 2405.19567), averaged over steps: 1
  for the gold category, `unmatched` for none or several, 0 for another. Spans
  are the steps with these values. Unparsed without steps, which earns no more
  than the worst steps do (proposed).

  Args:
    record: with meta[key], a category for every step.
    completions: with numbered steps in their think blocks.
    context: not read.
    keywords: see `categories`.
    key: of the gold path.
    unmatched: of a step without a category.
    unparsed: of a completion without steps; None for min(unmatched, 0). Above
      that it pays to write none where the path is not known.

  Raises:
    ValueError: the gold path does not fit the keywords.
  """
  del context
  score = graded.score('path', [
      _walked(record, c.text, keywords, key, unmatched) for c in completions])
  return floor.unparsed(score, 'path', min(unmatched, 0.0)
                        if unparsed is None else unparsed)


path.per_completion = True


def _walked(record: types.Record, text: str,
            keywords: Sequence[Mapping[str, Sequence[str]]], key: str,
            unmatched: float) -> graded.Grade:
  gold = tuple(record.meta.get(key, ()))
  if not gold:
    raise ValueError(f'record {record.id!r} has no meta[{key!r}]; expected a '
                     'category for every step')
  _checked([gold], keywords)
  found = categories(text, keywords)
  if not process.steps(text):
    return graded.Grade(None)
  values = [unmatched if name is None else float(name == wanted)
            for (name, _), wanted in zip(found, gold)]
  marks = tuple((*at, v) for (_, at), v in zip(found, values) if at != (0, 0))
  return graded.Grade(sum(values) / len(values), marks)
