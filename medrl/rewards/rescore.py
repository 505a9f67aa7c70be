"""Scores saved rollouts again, with another reward and without sampling.

  python -m medrl.rewards.rescore runs/x/rollouts.jsonl \\
      --config experiments/blood.py
  python -m medrl.rewards.rescore runs/x/rollouts.jsonl \\
      --reward medrl.rewards.answer.score --workers 2 --out again.jsonl

A line holds a prompt's whole group: {step, record, task, prompt, answer,
answer_type, options, tolerance, completions: [{text, finish, reward, parts}]},
and may hold question, unit, meta and source, and ids in a completion. Signals
of the model are not saved, so that a reward that needs them fails, and is
counted. Only numbers are printed.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import functools
import json
import os
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np

from medrl import types
from medrl.rewards import compose
from medrl.rewards import explain
from medrl.rewards import pool

_NEEDED = ('step', 'record', 'task', 'prompt', 'answer', 'answer_type',
           'options', 'tolerance', 'completions')
_AT_A_TIME = 64   # lines


class Saved(NamedTuple):
  """A line of a file of rollouts, as read and as a reward sees it."""
  row: dict[str, Any]
  record: types.Record
  completions: list[types.Completion]


def read(path: str | os.PathLike) -> Iterator[Saved]:
  """Yields the groups of a file of rollouts, without its torn last line.

  Raises:
    ValueError: a line is no such group; with file and line number.
  """
  with open(path, encoding='utf-8') as file:
    for number, line in enumerate(file, 1):
      if not line.endswith('\n'):
        return   # a run that is being written, or was killed
      where = f'{path}:{number}'
      try:
        row = json.loads(line)
      except json.JSONDecodeError as error:
        raise ValueError(f'{where}: no JSON: {error}') from error
      missing = [name for name in _NEEDED if name not in row]
      if missing:
        raise ValueError(
            f'{where}: has no {", ".join(missing)}, so it cannot be scored '
            'again; an earlier version wrote it, or it is no rollout')
      yield Saved(row, _record(row), [
          types.Completion(c['text'], tuple(c.get('ids', ())),
                           finish=c['finish']) for c in row['completions']])


def _record(row: Mapping[str, Any]) -> types.Record:
  return types.Record(
      id=row['record'], question=row.get('question', row['prompt']),
      answer=row['answer'], answer_type=row['answer_type'],
      options=row['options'], tolerance=row['tolerance'], task=row['task'],
      source=row.get('source', ''), meta=row.get('meta', {}),
      unit=row.get('unit', ''))


Scorer = Callable[[list[pool.Sample]], list[types.Score]]


def rescore(saved: Iterator[Saved], scorer: Scorer,
            context: Mapping[str, Any]) -> Iterator[tuple[Saved, types.Score]]:
  """Yields each group with its new score, some groups at a time."""
  rest = True
  while rest:
    part = [s for _, s in zip(range(_AT_A_TIME), saved)]
    rest = len(part) == _AT_A_TIME
    scores = scorer([(s.record, s.completions, {**context, 'step': s.row['step']
                                                }) for s in part])
    yield from zip(part, scores)


def rewritten(row: Mapping[str, Any], score: types.Score) -> dict[str, Any]:
  """Returns the line with the new rewards in the place of the old ones."""
  return {**row, 'completions': [
      {**c, 'reward': score.total[i], 'valid': score.valid[i],
       'parsed': score.parsed[i],
       'parts': {name: values[i] for name, values in score.parts.items()}}
      for i, c in enumerate(row['completions'])]}


def summary(pairs: Sequence[tuple[Saved, types.Score]]) -> Iterator[str]:
  """Yields lines: means before and after, by task and over all.

  'changed' counts completions whose reward moved by more than 1e-6, 'order'
  the groups in which another completion than before comes first or last.
  """
  yield (f'{"task":<16}{"groups":>8}{"texts":>8}{"before":>10}{"after":>10}'
         f'{"changed":>9}{"order":>7}{"unparsed":>10}{"invalid":>9}'
         f'{"errors":>8}')
  tasks = sorted({saved.row['task'] for saved, _ in pairs})
  for name, part in [*((t or '-', [p for p in pairs if p[0].row['task'] == t])
                       for t in tasks), ('all', pairs)]:
    yield _line(name, part)
  for name in sorted({n for _, score in pairs for n in score.parts}):
    values = [v for _, score in pairs for v in score.parts.get(name, ())]
    yield f'part {name}: mean {np.mean(values):.4f}'


def _line(name: str, pairs: Sequence[tuple[Saved, types.Score]]) -> str:
  before = [[c['reward'] for c in s.row['completions']] for s, _ in pairs]
  after = [score.total for _, score in pairs]
  old, new = np.concatenate(before), np.concatenate(after)
  ordered = sum(_ends(b) != _ends(a) for b, a in zip(before, after) if b)
  parsed = np.concatenate([score.parsed for _, score in pairs])
  valid = np.concatenate([score.valid for _, score in pairs])
  return (f'{name:<16}{len(pairs):>8}{len(new):>8}{_mean(old):>10}'
          f'{_mean(new):>10}{(np.abs(old - new) > 1e-6).sum():>9}{ordered:>7}'
          f'{_mean(parsed == 0):>10}{_mean(valid == 0):>9}'
          f'{sum(score.errors for _, score in pairs):>8}')


def _ends(values: Sequence[float]) -> tuple[frozenset[int], frozenset[int]]:
  """Which completions have the highest and which the lowest value."""
  return tuple(frozenset(np.flatnonzero(np.isclose(values, end)).tolist())
               for end in (max(values), min(values)))


def _mean(values: np.ndarray) -> str:
  return f'{values.mean():.4f}' if len(values) else '-'


@contextlib.contextmanager
def open_scorer(terms: explain.Terms, flags) -> Iterator[Scorer]:
  """A scorer in this process, or in as many as `flags.workers` says."""
  make = functools.partial(compose.build, terms)
  reward = make()   # says what is wrong with the terms
  if not flags.workers:
    yield lambda samples: [reward(*sample) for sample in samples]
    return
  with pool.open_pool(make, workers=flags.workers, limit_s=flags.limit_s,
                      policy='mask') as opened:
    yield opened.score


def _write(path: str, rows: Iterator[Mapping[str, Any]]) -> None:
  """Writes lines for their owner's eyes only, all of them or none."""
  scratch = f'{path}.tmp'
  with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            'w', encoding='utf-8') as file:
    os.fchmod(file.fileno(), 0o600)   # one that was there before
    file.writelines(json.dumps(row) + '\n' for row in rows)
  os.replace(scratch, path)


def main(arguments: Sequence[str]) -> None:
  parser = argparse.ArgumentParser('python -m medrl.rewards.rescore',
                                   description=__doc__.partition('\n')[0])
  parser.add_argument('rollouts', type=pathlib.Path)
  explain.add_arguments(parser)
  parser.add_argument('--out', default='', help='where lines with the new '
                      'rewards go; nowhere without it')
  parser.add_argument('--workers', type=int, default=0,
                      help='processes; 0 scores in this one, without a limit')
  parser.add_argument('--limit_s', type=float, default=10.0,
                      help='seconds a sample may take in a worker')
  flags = parser.parse_args(arguments)
  try:
    config = explain.read_config(flags.config) if flags.config else {}
    terms = explain.select(flags.reward, flags.options, config)
    context = explain.make_context(config)
    if context and flags.workers:
      raise ValueError(f'the {" and ".join(context)} of {flags.config} stay in '
                       'this process: use --workers 0')
    with open_scorer(terms, flags) as scorer:
      pairs = list(rescore(read(flags.rollouts), scorer, context))
    if flags.out:
      _write(flags.out, (rewritten(s.row, score) for s, score in pairs))
  except (ValueError, OSError, RuntimeError) as error:
    parser.exit(2, f'{parser.prog}: {error}\n')
  if not pairs:
    parser.exit(2, f'{parser.prog}: no rollout in {flags.rollouts}\n')
  print('\n'.join(summary(pairs)))


if __name__ == '__main__':
  main(sys.argv[1:])
