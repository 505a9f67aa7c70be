"""RaTE-style score: the typed entities of two texts, matched by embedding.

The formula is RaTEScore's (arXiv 2406.16845). Its two models (RaTE-NER-Deberta
and BioLORD) are not here: `extract` and `embed` are named by import path, and
the ones of this file, a lexicon and letter n-grams, stand in where there is no
model. A score made with them is not a RaTEScore and not comparable with one.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import json
import pathlib
from typing import Any
import zlib

import numpy as np

from medrl import lookup
from medrl import types
from medrl.rewards import findings
from medrl.rewards import graded
from medrl.rewards import lexicon as lexicon_lib
from medrl.rewards import phrases
from medrl.rewards import report

Entity = tuple[tuple[int, int], str, str]   # span, text, type
TYPES = ('ABNORMALITY', 'ANATOMY', 'DISEASE', 'NON-ABNORMALITY', 'NON-DISEASE')
# Matching takes time and memory with the product of both counts.
MOST = 512
_SIDE = 1024
_CLASHING = tuple((a, b) for a in (0, 2) for b in (3, 4))


def lexicon_entities(text: str, lexicon: str = 'chexpert') -> list[Entity]:
  """Returns the findings and anatomy a lexicon knows, as typed entities.

  A denied finding is a NON- type; an uncertain one counts as affirmed. Stands
  in for RaTE-NER-Deberta, which it is not.
  """
  book = lexicon_lib.load(lexicon)
  out = {}
  for mention in findings.mentions(text, lexicon):
    kind = book.kinds.get(mention.finding, 'abnormality')
    typed = 'DISEASE' if kind == 'disease' else 'ABNORMALITY'
    if (mention.state == 'negative') != (kind == 'normal'):
      typed = 'NON-' + typed
    start, end = mention.span
    out.setdefault((mention.span, typed), (
        mention.span, text[start:end], typed))
  for start, end, _ in phrases.find(text, _anatomy(lexicon)):
    out.setdefault(((start, end), 'ANATOMY'),
                   ((start, end), text[start:end], 'ANATOMY'))
  return sorted(out.values())


def carotid_entities(text: str) -> list[Entity]:
  """Returns `lexicon_entities` of carotid ultrasound."""
  return lexicon_entities(text, 'carotid')


@functools.lru_cache(maxsize=16)
def _anatomy(lexicon: str) -> dict[str, Any]:
  return phrases.table((p, 1) for p in lexicon_lib.load(lexicon).anatomy)


def ngram_embedding(texts: Sequence[str]) -> np.ndarray:
  """Returns counts of letter 3-grams, hashed and of unit length, [N, 1024].

  Spelling, not meaning: 'edema' and 'oedema' are near, 'edema' and 'fluid' are
  not. Deterministic and without a model; stands in for BioLORD, which it is
  not. Cosines are in [0, 1].
  """
  out = np.zeros((len(texts), _SIDE), np.float32)
  for row, text in enumerate(texts):
    padded = ' ' + ' '.join(text.lower().split())[:200] + ' '
    data = padded.encode('utf-8', 'replace')
    for i in range(len(data) - 2):
      out[row, zlib.crc32(data[i:i + 3]) % _SIDE] += 1.0
  length = np.linalg.norm(out, axis=1, keepdims=True)
  return out / np.maximum(length, 1e-9)


@functools.lru_cache(maxsize=8)
def _table(name: str) -> tuple[np.ndarray, float]:
  path = pathlib.Path(__file__).parent / 'lexicons' / 'affinity.json'
  data = json.loads(path.read_text(encoding='utf-8'))
  tables = {k: v for k, v in data.items() if isinstance(v, Mapping)}
  if name not in tables:
    raise ValueError(f'affinity {name!r}: '
                     f'{lookup.nearest(name, sorted(tables))}')
  return np.array(tables[name]['weights']), tables[name]['clash']


def directed(cosines: np.ndarray, types_u: Sequence[int],
             types_v: Sequence[int], affinity: np.ndarray, clash: float
             ) -> tuple[float, np.ndarray, np.ndarray]:
  """Returns S(U -> V), each entity's best match in V, and what it is worth.

  S = sum w cos q / sum w over the entities of U, with w the affinity of the
  two types and q = `clash` where one is affirmed and the other denied, else 1;
  0 where all weights are 0.

  Args:
    cosines: [U, V], in [-1, 1]; negative ones count as 0.
    types_u: types of the rows, as indices into `TYPES`.
    types_v: types of the columns.
    affinity: [5, 5].
    clash: in [0, 1].
  """
  best = np.argmax(cosines, axis=1)
  rows, columns = np.asarray(types_u), np.asarray(types_v)[best]
  weights = affinity[rows, columns]
  against = np.array([(a, b) in _CLASHING or (b, a) in _CLASHING
                      for a, b in zip(rows.tolist(), columns.tolist())])
  near = np.clip(cosines[np.arange(len(best)), best], 0.0, 1.0)
  worth = near * np.where(against, clash, 1.0)
  total = float(weights.sum())
  value = float((weights * worth).sum()) / total if total else 0.0
  return value, best, worth


def f1(value: Sequence[Entity], target: Sequence[Entity],
       embed: Callable[[list[str]], Any], affinity: str = 'long',
       clash: float | None = None) -> tuple[float, np.ndarray]:
  """Returns the score in [0, 1], and what each entity of `value` is worth.

  2 P R / (P + R) with P = S(target -> value) and R = S(value -> target), as
  RaTEScore's code names them. 1.0 if neither side has an entity, 0.0 if one
  has none (RaTEScore gives 0.5, which pays for an empty report).

  Args:
    value: entities, at most `MOST`.
    target: likewise.
    embed: texts -> [N, D].
    affinity: 'long' or 'short', RaTEScore's tables, or 'equal'.
    clash: replaces the table's factor for an affirmed and denied pair.

  Raises:
    ValueError: a type or table is unknown, or the embedding does not fit.
  """
  if not value or not target:
    return float(not value and not target), np.zeros(len(value))
  weights, usual = _table(affinity)
  factor = usual if clash is None else clash
  texts = [e[1] for e in (*value, *target)]
  vectors = np.asarray(embed(texts), np.float64)
  if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(
      vectors).all():
    raise ValueError(f'embeddings of shape {vectors.shape} for {len(texts)} '
                     'texts; expected a finite vector for each')
  vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
  cosines = vectors[:len(value)] @ vectors[len(value):].T
  said, wanted = (_indices(side) for side in (value, target))
  recall, _, worth = directed(cosines, said, wanted, weights, factor)
  precision, _, _ = directed(cosines.T, wanted, said, weights, factor)
  both = precision + recall
  return min(1.0, 2 * precision * recall / both) if both else 0.0, worth


def _indices(side: Sequence[Entity]) -> list[int]:
  for *_, kind in side:
    if kind not in TYPES:
      raise ValueError(f'entity type {kind!r}: expected one of {TYPES}')
  return [TYPES.index(kind) for *_, kind in side]


@graded.per_completion
def score(record: types.Record, completion: types.Completion, *,
          extract: str = 'medrl.rewards.entities.lexicon_entities',
          embed: str = 'medrl.rewards.entities.ngram_embedding',
          affinity: str = 'long', clash: float | None = None,
          section: str = 'report', where: str = 'answer') -> graded.Grade:
  """Rewards `f1` of a report's distinct entities with the reference's.

  In [0, 1]; spans are the entities, with what each is worth. An entity counts
  once however often it is written, unlike in RaTEScore, where repeating the
  best match raises the score. With the published 'long' table a denial weighs
  next to nothing and a clash costs an eighth: see `affinity` and `clash`.
  Unparsed without the section; a reference without it earns all 0.

  Raises:
    ValueError: there is no reference, or an option is unknown.
  """
  target = report.reference(record).get(section)
  found = report.sections(completion.text, where).get(section)
  if found is None:
    return graded.Grade(None)
  if target is None:
    return graded.Grade(0.0)
  read = lookup.resolve(extract)
  said, wanted = _distinct(read(found.value)), _distinct(read(target))
  value, worth = f1([s[0] for s in said.values()],
                    [s[0] for s in wanted.values()], lookup.resolve(embed),
                    affinity, clash)
  marks = tuple((*entity[0], float(w))
                for same, w in zip(said.values(), worth) for entity in same)
  return graded.Grade(value, graded.moved(marks, found.span[0]))


def _distinct(found: Sequence[Entity]) -> dict[Any, list[Entity]]:
  """Gathers entities of the same words and type; the first `MOST` of them."""
  out = {}
  for entity in found:
    key = ' '.join(entity[1].lower().split()), entity[2]
    if key in out or len(out) < MOST:
      out.setdefault(key, []).append(entity)
  return out
