"""Builds one reward out of the weighted terms a config names.

Terms are plain functions named by import path; there is no registry. Scaling,
clipping and advantages are not done here.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import inspect
import logging
import math
from typing import Any, NamedTuple

from medrl import lookup
from medrl import types

_KEYS = ('fn', 'weight', 'options')
_log = logging.getLogger(__name__)


class _Term(NamedTuple):
  fn: Callable[..., types.Score]
  weight: float
  label_free: bool
  needs: tuple[str, ...]
  single: bool    # looks at one completion at a time


def build(terms: Mapping[str, Mapping[str, Any]],
          resolve: Callable[[str], Any] = lookup.resolve, *,
          optional: bool = False) -> types.Reward:
  """Returns the reward `total = sum of weight * term`.

  A term that raises, or gives other than G finite numbers, is counted in
  `Score.errors`, contributes 0 to all G completions, and makes all G invalid:
  completions of a prompt are compared with each other, and a comparison in
  which a part is missing, perhaps for some of them only, rewards the failure
  or its absence and not the answer. Invalid groups are for the trainer to drop.

  A term declared label-free (`lift.declare`) gets the record without answer,
  demonstration and meta, and only those signals it asked for, so that it cannot
  read the label, whatever it tries. The context it gets is the caller's.

  Args:
    terms: name -> {'fn': dotted name, 'weight': float, 'options': mapping};
      options may be left out. A term of weight 0 is checked but never run.
    resolve: dotted name -> function.
    optional: whether there may be no term of non-zero weight; all get 0 then.

  Raises:
    ValueError: a term is malformed, or none has a weight other than 0.
  """
  active = _active(terms, resolve)
  if not active and not optional:
    raise ValueError(f'terms {sorted(terms)!r}: every weight is 0, so nothing '
                     'would be rewarded; give one of them a weight')
  reported = set()

  def reward(record: types.Record, completions: list[types.Completion],
             context: Mapping[str, Any]) -> types.Score:
    scores = {}
    for name, term in active.items():
      try:
        scores[name] = _run(term, record, completions, context)
      except Exception as error:  # pylint: disable=broad-except
        scores[name] = _failed(len(completions))
        if name not in reported:
          # The message may quote a patient's text, so only its type is told.
          _log.warning('reward term %r failed (%s); counted from now on',
                       name, type(error).__name__)
          reported.add(name)
    return _sum(active, scores, len(completions))

  # So that a worker pool may send each completion by itself.
  reward.per_completion = all(term.single for term in active.values())
  return reward


def needs(terms: Mapping[str, Mapping[str, Any]],
          resolve: Callable[[str], Any] = lookup.resolve) -> tuple[str, ...]:
  """Returns the signals the terms of non-zero weight ask for, sorted."""
  active = _active(terms, resolve)
  return tuple(sorted({n for term in active.values() for n in term.needs}))


def _active(terms: Mapping[str, Mapping[str, Any]],
            resolve: Callable[[str], Any]) -> dict[str, _Term]:
  """Checks every term, and returns those that are run."""
  checked = {name: _term(name, terms[name], resolve) for name in terms}
  return {name: term for name, term in checked.items() if term.weight != 0}


def _term(name: str, spec: Mapping[str, Any],
          resolve: Callable[[str], Any]) -> _Term:
  for key in spec:
    if key not in _KEYS:
      raise ValueError(f'reward term {name!r}: unknown key {key!r}; '
                       f'{lookup.nearest(key, list(_KEYS))}')
  for key in ('fn', 'weight'):
    if key not in spec:
      raise ValueError(f'reward term {name!r} has no {key!r}; it has '
                       f'{sorted(spec)!r}')
  weight = float(spec['weight'])
  if not math.isfinite(weight):
    raise ValueError(f'reward term {name!r}: weight {weight!r} is not finite')
  fn = resolve(spec['fn'])
  if not callable(fn):
    raise ValueError(f'reward term {name!r}: {spec["fn"]!r} is a '
                     f'{type(fn).__name__}, not a function')
  options = dict(spec['options']) if 'options' in spec else {}
  signature = inspect.signature(fn)
  known = [p.name for p in signature.parameters.values()
           if p.kind is p.KEYWORD_ONLY]
  for option in options:
    if option not in known:
      raise ValueError(f'reward term {name!r}: {spec["fn"]} has no option '
                       f'{option!r}; {lookup.nearest(option, known)}')
  try:
    signature.bind(None, None, None, **options)
  except TypeError as error:
    raise ValueError(
        f'reward term {name!r}: {spec["fn"]}{signature} cannot be called with '
        '(record, completions, context); a rule about one answer is lifted by '
        'lift.per_completion') from error
  inner = _inner(name, fn, options, resolve)
  needed = {*getattr(fn, 'needs', ()), *(n for t in inner for n in t.needs)}
  # Signals are of whole groups and do not travel with a single text.
  single = not needed and getattr(
      fn, 'per_completion', bool(inner) and all(t.single for t in inner))
  return _Term(functools.partial(fn, **options), weight,
               getattr(fn, 'label_free', False), tuple(sorted(needed)), single)


def _inner(name: str, fn: Callable[..., Any], options: Mapping[str, Any],
           resolve: Callable[[str], Any]) -> list[_Term]:
  """Checks the terms inside a reward made of others (`gates`)."""
  if not hasattr(fn, 'inner'):
    return []
  specs = [{'fn': t} if isinstance(t, str) else dict(t)
           for t in fn.inner(options)]
  for spec in specs:
    if 'weight' in spec:
      raise ValueError(f'reward term {name!r}: the term {spec!r} in it has a '
                       f'weight, which would be lost; weigh the outer one')
  return [_term(f'{name}[{i}]', {**spec, 'weight': 1.0}, resolve)
          for i, spec in enumerate(specs)]


def _run(term: _Term, record: types.Record,
         completions: list[types.Completion],
         context: Mapping[str, Any]) -> types.Score:
  """Returns the term's score with G floats and flags.

  Raises:
    ValueError: it has another length than G, or a value is not finite.
    Exception: whatever the term raises.
  """
  if term.label_free:
    record = dataclasses.replace(record, answer=None, demonstration='', meta={})
    completions = [
        dataclasses.replace(c, signals={
            k: v for k, v in c.signals.items() if k in term.needs})
        for c in completions]
  size = len(completions)
  score = term.fn(record, completions, context)
  total = tuple(float(v) for v in score.total)
  parsed = tuple(score.parsed) or (True,) * size
  valid = tuple(score.valid) or (True,) * size
  if not len(total) == len(parsed) == len(valid) == size:
    raise ValueError(f'{len(total)} values, {len(parsed)} parsed and '
                     f'{len(valid)} valid for {size} completions')
  if not all(math.isfinite(v) for v in total):
    raise ValueError(f'values {total!r} are not all finite')
  # A term that names its only part after itself has nothing to add.
  parts = {name: tuple(map(float, values))
           for name, values in score.parts.items() if values is not score.total}
  if any(len(values) != size for values in parts.values()):
    raise ValueError(f'parts {sorted(parts)} are not {size} values each')
  spans = tuple(score.spans) or ((),) * size
  if len(spans) != size:
    raise ValueError(f'spans of {len(spans)} for {size} completions')
  return types.Score(total, parts, parsed, valid, score.errors, spans)


def _failed(size: int) -> types.Score:
  return types.Score((0.0,) * size, {}, (True,) * size, (False,) * size, 1,
                     ((),) * size)


def _sum(active: Mapping[str, _Term], scores: Mapping[str, types.Score],
         size: int) -> types.Score:
  """Returns the weighted sum, spans too; parsed and valid where all are.

  A term's own parts are named `<term>/<part>`.
  """
  members = range(size)
  return types.Score(
      total=tuple(sum(term.weight * scores[name].total[i]
                      for name, term in active.items()) for i in members),
      parts={key: values for name, score in scores.items()
             for key, values in {name: score.total, **{
                 f'{name}/{part}': values
                 for part, values in score.parts.items()}}.items()},
      parsed=tuple(all(s.parsed[i] for s in scores.values()) for i in members),
      valid=tuple(all(s.valid[i] for s in scores.values()) for i in members),
      errors=sum(s.errors for s in scores.values()),
      spans=tuple(tuple(
          (start, end, active[name].weight * value)
          for name, score in scores.items()
          for start, end, value in score.spans[i]) for i in members))
