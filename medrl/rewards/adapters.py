"""Rewards written for verl, TRL or EasyR1, used as they are.

Each takes the import path of their function as an option, as in
`fn: medrl.rewards.adapters.verl, options: {path: my.module.compute_score}`.
Whether a foreign function can be trusted is for its author to say: whatever it
returns is taken, unparsed answers cannot be told from wrong ones, and it sees
the gold answer. Values have its own range; one that is not a finite number
raises ValueError.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
import hashlib
import importlib.util
import inspect
import json
import math
import pathlib
import sys
import types as python_types
from typing import Any

from medrl import lookup
from medrl import types

_KINDS = ('batch', 'sequential')


def verl(record: types.Record, completions: list[types.Completion],
         context: Mapping[str, Any], *, path: str,
         arguments: Mapping[str, Any] | None = None) -> types.Score:
  """Calls `compute_score` of verl for each completion.

  Its keyword arguments: `data_source` and `ground_truth` from the record's meta
  where they are there, else its source, and its answer as text;
  `solution_str`; `extra_info`, which is the meta and, under names that it does
  not use, index, question, options, answer and answer_type; and `arguments`,
  verl's `reward_kwargs`. Returns a number, or a dict with 'score' whose other
  numbers become parts. Coroutines are run.

  Args:
    record: of the prompt.
    completions: each is scored by itself.
    context: not used.
    path: see `load`.
    arguments: further keyword arguments.
  """
  del context
  function = load(path)
  info = {'index': record.id, 'question': record.question,
          'options': dict(record.options), 'answer': record.answer,
          'answer_type': record.answer_type, **record.meta}
  rows = []
  for completion in completions:
    value = _awaited(function(
        data_source=record.meta.get('data_source', record.source),
        solution_str=completion.text, ground_truth=_gold(record),
        extra_info=dict(info), **({} if arguments is None else arguments)))
    rows.append(value if isinstance(value, Mapping) else {'score': value})
  return _score(rows, 'score', len(completions))


# It reads the text alone, so that a pool may time each by itself.
verl.per_completion = True


def trl(record: types.Record, completions: list[types.Completion],
        context: Mapping[str, Any], *, path: str, conversational: bool = False,
        arguments: Mapping[str, Any] | None = None) -> types.Score:
  """Calls a function of TRL's `reward_funcs` for a prompt's completions.

  Its keyword arguments: prompts, completions and completion_ids; trainer_state,
  with global_step and max_steps as `context['step']` and `context['steps']`
  say, else 0; log_extra and log_metric, whose numbers become parts;
  environments, all None; and a column for each key of the record's meta and,
  under names that it does not use, for id, question, options, images (paths),
  answer, answer_type, task, source, solution and ground_truth (the answer as
  text). None in its list means that it does not apply, which adds nothing, as
  in TRL: 0, told by the part 'applies'. Coroutines are run.

  Args:
    record: of the prompts.
    completions: all are handed over at once.
    context: with 'step' and 'steps', or without.
    path: see `load`.
    conversational: prompts and completions are lists of messages, not strings.
    arguments: further keyword arguments.
  """
  size = len(completions)
  parts = {}

  def log_extra(column, values):
    parts.update(_numbers(column, values, size))

  def log_metric(name, value):
    parts.update(_numbers(name, [value] * size, size))

  ids = [list(c.ids) for c in completions]
  state = python_types.SimpleNamespace(global_step=context.get('step', 0),
                                       max_steps=context.get('steps', 0))
  values = _awaited(load(path)(
      prompts=[_turn('user', _prompt(record), conversational)] * size,
      completions=[_turn('assistant', c.text, conversational)
                   for c in completions],
      # The second is how the documentation spelt it for some releases.
      completion_ids=ids, completions_ids=ids, trainer_state=state,
      log_extra=log_extra, log_metric=log_metric, environments=[None] * size,
      **{name: [value] * size for name, value in _columns(record).items()},
      **({} if arguments is None else arguments)))
  score = _score([{'trl': 0.0 if v is None else v} for v in values], 'trl',
                 size)
  applies = tuple(float(v is not None) for v in values)
  return types.Score(score.total, parts | score.parts | {'applies': applies},
                     score.parsed, score.valid)


def easyr1(record: types.Record, completions: list[types.Completion],
           context: Mapping[str, Any], *, path: str, kind: str = '',
           arguments: Mapping[str, Any] | None = None) -> types.Score:
  """Calls `compute_score` of EasyR1 for a prompt's completions.

  It gets {response, response_length (in tokens), ground_truth}, one
  ('sequential') or a list of them ('batch'), and `arguments`; and returns
  {overall, ...}, or a list of that. `overall` is the value, other numbers
  become parts.

  Args:
    record: of the prompt; meta's 'ground_truth' comes before its answer.
    completions: with ids, whose number is the length.
    context: not used.
    path: see `load`.
    kind: 'batch' or 'sequential'; '' reads REWARD_TYPE of the function's
      module.
    arguments: further keyword arguments.

  Raises:
    ValueError: the module does not say which kind it is.
  """
  del context
  function = load(path)
  module = sys.modules[function.__module__]
  kind = kind or getattr(module, 'REWARD_TYPE', '')
  if kind not in _KINDS:
    raise ValueError(f'{path!r}: REWARD_TYPE of its module is {kind!r}; give '
                     f'the option kind, one of {", ".join(_KINDS)}')
  inputs = [{'response': c.text, 'response_length': len(c.ids),
             'ground_truth': _gold(record)} for c in completions]
  more = {} if arguments is None else arguments
  rows = (_awaited(function(inputs, **more)) if kind == 'batch'
          else [_awaited(function(i, **more)) for i in inputs])
  return _score(rows, 'overall', len(completions))


def load(path: str) -> Callable[..., Any]:
  """Returns a function by dotted name, or by file: 'folder/file.py:function'.

  A file is imported once in a process, under a name of its own.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: there is nothing of that name, or it cannot be called.
  """
  file, colon, name = path.rpartition(':')
  if not colon:
    found = lookup.resolve(path)
  else:
    module = _module(pathlib.Path(file))
    if not hasattr(module, name):
      public = sorted(n for n in vars(module) if not n.startswith('_'))
      raise ValueError(f'{path!r}: {lookup.nearest(name, public)}')
    found = getattr(module, name)
  if not callable(found):
    raise ValueError(f'{path!r} is a {type(found).__name__}, not a function')
  return found


def _module(file: pathlib.Path):
  if not file.is_file():
    raise FileNotFoundError(f'no file {str(file)!r}; expected '
                            "'folder/file.py:function' or a dotted name")
  digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]
  name = f'medrl_adapted_{digest}_{file.stem}'
  if name not in sys.modules:
    spec = importlib.util.spec_from_file_location(name, file)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
      spec.loader.exec_module(module)
    except BaseException:
      del sys.modules[name]
      raise
  return sys.modules[name]


def _awaited(value: Any) -> Any:
  async def wait():
    return await value
  return asyncio.run(wait()) if inspect.isawaitable(value) else value


def _gold(record: types.Record) -> Any:
  """What these stacks call ground truth, which is text in their data sets."""
  if 'ground_truth' in record.meta:
    return record.meta['ground_truth']
  return (record.answer if isinstance(record.answer, str)
          else json.dumps(record.answer, default=sorted))


def _prompt(record: types.Record) -> str:
  return '\n'.join([record.question, *(
      f'{key}. {text}' for key, text in record.options.items())])


def _turn(role: str, text: str, conversational: bool) -> Any:
  return [{'role': role, 'content': text}] if conversational else text


def _columns(record: types.Record) -> dict[str, Any]:
  known = {'id': record.id, 'question': record.question,
           'options': dict(record.options), 'answer': record.answer,
           'images': [media.path for media in record.media],
           'answer_type': record.answer_type, 'task': record.task,
           'source': record.source, 'solution': _gold(record),
           'ground_truth': _gold(record)}
  # These are no columns in TRL either.
  return {name: value for name, value in (known | dict(record.meta)).items()
          if name not in ('prompt', 'completion', 'completion_ids')}


def _numbers(name: str, values: Iterable[Any],
             size: int) -> dict[str, tuple[float, ...]]:
  """What is logged, if it is `size` numbers; text may be a patient's."""
  values = list(values)
  if len(values) != size or not all(map(_is_number, values)):
    return {}
  return {str(name): tuple(map(float, values))}


def _is_number(value: Any) -> bool:
  # Of numpy and torch too; a string is none, though float() would read it.
  try:
    return hasattr(value, '__float__') and math.isfinite(float(value))
  except (TypeError, ValueError, OverflowError):
    return False


def _score(rows: list[Mapping[str, Any]], main: str, size: int) -> types.Score:
  """A score of rows of numbers; parts are the keys that all rows have."""
  if len(rows) != size:
    raise ValueError(f'{len(rows)} scores for {size} completions')
  for row in rows:
    if main not in row or not _is_number(row[main]):
      raise ValueError(f'expected a finite number as {main!r}; got the keys '
                       f'{sorted(map(str, row))}')
  parts = {}
  for name in rows[0] if rows else ():
    parts |= _numbers(name, [row.get(name) for row in rows], size)
  return types.Score(tuple(float(row[main]) for row in rows), parts,
                     (True,) * size, (True,) * size)
