"""Answers compared with the reference by the cosine of their embeddings.

An embedder is a function `embed(texts) -> [N, D]`, handed to rewards as
`context['embedders'][name]`. Likeness is not truth: 'no effusion' lies close to
'effusion' in most embeddings, so use it beside a rule about the facts.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medrl import lookup
from medrl import types
from medrl.rewards import cache
from medrl.rewards import judge
from medrl.rewards import remote

Embedder = Callable[[list[str]], Any]


def http(*, model: str, server: Mapping[str, Any],
         settings: Mapping[str, Any] | None = None, batch: int = 64,
         folder: str = '', mode: str = 'off') -> Embedder:
  """Makes an embedder of a model behind an OpenAI-compatible server.

  Args:
    model: its name on the server.
    server: arguments of `remote.Server`; not used in mode 'replay'.
    settings: what else a request holds.
    batch: texts a request.
    folder, mode: of what is kept, see `cache.recorded`.

  Raises:
    ValueError: a value does not fit.
  """
  body = {'model': model, **({} if settings is None else settings)}
  asked = None if mode == 'replay' else remote.Server(**server)

  def ask(texts: list[str]) -> list[Any]:
    cut = [texts[i:i + batch] for i in range(0, len(texts), batch)]
    parts = asked.post('embeddings', [{**body, 'input': part} for part in cut],
                       _vectors)
    out = []
    for part, vectors in zip(cut, parts):
      if not isinstance(vectors, cache.Failed) and len(vectors) != len(part):
        vectors = cache.Failed('broken answer')
      out += ([vectors] * len(part) if isinstance(vectors, cache.Failed)
              else vectors)
    return out

  return _stacked(cache.recorded(ask, body, folder=folder, mode=mode))


def _vectors(answer: Any) -> list[list[float]]:
  rows = sorted(answer['data'], key=lambda row: row['index'])
  vectors = np.array([row['embedding'] for row in rows], np.float64)
  if vectors.ndim != 2 or not np.isfinite(vectors).all():
    raise ValueError(f'vectors of shape {vectors.shape}, or not finite')
  return vectors.tolist()


def local(*, path: str, folder: str = '', mode: str = 'off') -> Embedder:
  """Makes an embedder of the function with the dotted name `path`."""
  function = lookup.resolve(path)

  def ask(texts: list[str]) -> list[list[float]]:
    return np.asarray(function(texts), np.float64).tolist()

  return _stacked(cache.recorded(ask, {'function': path}, folder=folder,
                                 mode=mode))


def _stacked(ask: cache.Ask) -> Embedder:
  def embed(texts: list[str]) -> np.ndarray:
    rows = ask(texts)
    for row in rows:
      if isinstance(row, cache.Failed):
        raise RuntimeError(f'no embedding: {row.reason}')
    return np.asarray(rows, np.float64)
  return embed


def score(record: types.Record, completions: list[types.Completion],
          context: Mapping[str, Any], *, embedder: str = 'default',
          least: float = 0.0, longest: int = 2000) -> types.Score:
  """Rewards max(0, cosine) of the answer and the reference, in [0, 1].

  A cosine below `least` earns 0, as does an answer block that is absent, empty
  or longer than `longest` characters, which is unparsed.

  Args:
    record: with an answer.
    completions: of one prompt.
    context: with 'embedders'.
    embedder: a name in them, or the dotted name of a function.
    least: the cosine that unrelated texts reach, below which nothing is paid.
    longest: characters of an answer that is embedded.

  Raises:
    ValueError: there is no answer to compare with, no such embedder, or it
      gives other than a finite vector for each text.
    LookupError: an answer was not recorded, in mode 'replay'.
    RuntimeError: the embedder failed.
  """
  embed = judge.find(context, 'embedders', embedder)
  answers = [judge.answer(c.text, longest) for c in completions]
  texts = list(dict.fromkeys(
      [judge.reference(record), *(a for a in answers if a is not None)]))
  vectors = np.asarray(embed(texts), np.float64)
  if (vectors.ndim != 2 or len(vectors) != len(texts)
      or not np.isfinite(vectors).all()):
    raise ValueError(f'embeddings of shape {vectors.shape} for {len(texts)} '
                     'texts; expected a finite vector for each')
  length = np.linalg.norm(vectors, axis=1)
  cosines = dict(zip(texts, np.divide(
      vectors @ vectors[0], length * length[0], where=length * length[0] > 0,
      out=np.zeros(len(texts)))))
  total = tuple(
      0.0 if a is None or cosines[a] < least
      else float(np.clip(cosines[a], 0.0, 1.0)) for a in answers)
  return types.Score(
      total=total, parts={'cosine': total},
      parsed=tuple(a is not None for a in answers), valid=(True,) * len(total))
