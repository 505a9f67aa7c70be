"""Sums, gates and products of array rewards, and which terms of a config have
an array form, over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. Terms that
read text stay with `compose`: what both give for their terms is added up.

A reward says that it has an array form by an attribute, `array_form`: the
dotted name of `f(<arrays>, xp, *, <the reward's options>) -> [P, G]`, where the
names of the positional arguments before `xp` are those of the arrays it reads;
it may take `fori` and `vocab` (see `build`) beside the options.
The form of a reward with terms inside (`gates`) takes a list of their values.
"""

from collections.abc import Callable, Mapping, Sequence
import inspect
from typing import Any, NamedTuple

from medrl import lookup
from medrl.rewards import gates

Resolve = Callable[[str], Any]


class _Form(NamedTuple):
  fn: Callable[..., Any]
  reads: tuple[str, ...]
  options: dict[str, Any]
  inner: tuple['_Form', ...]


def on_device(terms: Mapping[str, Mapping[str, Any]],
              resolve: Resolve = lookup.resolve) -> tuple[str, ...]:
  """Returns the names of the terms, of non-zero weight, with an array form.

  A term with others inside has one if all of those have.

  Args:
    terms: as `compose.build` takes them.
    resolve: dotted name -> function.
  """
  return tuple(name for name, term in terms.items()
               if term['weight'] and _form(term, resolve) is not None)


def plan(terms: Mapping[str, Mapping[str, Any]],
         resolve: Resolve = lookup.resolve) -> str:
  """Returns a line that says which terms run where, to be logged at start."""
  device = on_device(terms, resolve)
  host = [n for n, term in terms.items() if term['weight'] and n not in device]
  return (f'rewards on device: {", ".join(device) or "none"}; '
          f'on text: {", ".join(host) or "none"}')


def reads(terms: Mapping[str, Mapping[str, Any]],
          resolve: Resolve = lookup.resolve) -> tuple[str, ...]:
  """Returns the names of the arrays that `build(terms)` reads, sorted."""
  return tuple(sorted({array for name in on_device(terms, resolve)
                       for array in _all_reads(_form(terms[name], resolve))}))


def needs_vocab(terms: Mapping[str, Mapping[str, Any]],
                resolve: Resolve = lookup.resolve) -> bool:
  """Whether `build(terms)` must be given the tokens' texts."""
  def one(form: _Form) -> bool:
    return ('vocab' in inspect.signature(form.fn).parameters
            or any(map(one, form.inner)))
  return any(one(_form(terms[name], resolve))
             for name in on_device(terms, resolve))


def build(terms: Mapping[str, Mapping[str, Any]], xp: Any,
          resolve: Resolve = lookup.resolve,
          fori: Callable[..., Any] | None = None, vocab: tuple[str, ...] = ()
          ) -> Callable[[Mapping[str, Any]], tuple[Any, dict[str, Any]]]:
  """Returns `arrays -> (total [P, G], {name: values [P, G]})`, to be jitted.

  total = sum of weight * term, over the terms on device; others are left out.

  Args:
    terms: as `compose.build` takes them, which checks them too.
    xp: the array namespace.
    resolve: dotted name -> function.
    fori: `jax.lax.fori_loop`, for forms that can make use of it, or None.
    vocab: each token's text, for those that find tags (`array.tags`).

  Raises:
    ValueError: no term of non-zero weight has an array form; when called: an
      array that one reads is missing.
  """
  forms = {name: _form(terms[name], resolve)
           for name in on_device(terms, resolve)}
  if not forms:
    raise ValueError(f'none of the terms {sorted(terms)!r} has an array form; '
                     'score them with `compose` alone')

  given = {'vocab': vocab} | ({'fori': fori} if fori else {})

  def score(arrays: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    parts = {name: _run(form, arrays, xp, given)
             for name, form in forms.items()}
    return weighted(parts, {n: terms[n]['weight'] for n in parts}), parts

  return score


def weighted(parts: Mapping[str, Any], weights: Mapping[str, float]) -> Any:
  """Returns the sum of weight * part, [P, G]."""
  return sum(weights[name] * part for name, part in parts.items())


def gated(values: Sequence[Any], xp: Any, *, least: float = 1.0,
          otherwise: float = 0.0) -> Any:
  """Returns `then` where `when` >= least, else `otherwise`; [P, G].

  Args:
    values: `when` and `then`, each [P, G].
    xp: the array namespace.
    least: where the gate opens.
    otherwise: what is earned where it is shut.
  """
  when, then = values
  return xp.where(when >= least, then, otherwise)


def every(values: Sequence[Any], xp: Any, *, least: float = 1.0) -> Any:
  """Returns 1.0 where all of `values` are at least `least`, else 0; [P, G]."""
  return xp.where(xp.stack(list(values)).min(0) >= least, 1.0, 0.0)


def product(values: Sequence[Any], xp: Any) -> Any:
  """Returns the product of `values`, [P, G]."""
  return xp.stack(list(values)).prod(0)


def packed(ids: Any, mask: Any, xp: Any) -> tuple[Any, Any]:
  """Returns the ids where `mask` moved to the left [P, G, T], and how many.

  For rollouts in which tools write between the policy's tokens. The array
  forms read the policy's own from the left, as `Completion.ids` holds them.
  """
  order = xp.argsort(~mask, axis=-1, stable=True)
  return xp.take_along_axis(ids, order, -1), mask.sum(-1)


def _form(term: gates.Term, resolve: Resolve) -> _Form | None:
  spec = gates.spec(term if isinstance(term, str) else {
      k: v for k, v in term.items() if k != 'weight'})
  fn = resolve(spec['fn'])
  if not hasattr(fn, 'array_form'):
    return None
  options = dict(spec['options']) if 'options' in spec else {}
  inner = []
  if hasattr(fn, 'inner'):
    inner = [_form(t, resolve) for t in fn.inner(options)]
    if None in inner:
      return None
    options = {k: v for k, v in options.items()
               if k not in ('when', 'then', 'terms')}
  form = resolve(fn.array_form)
  names = list(inspect.signature(form).parameters)
  reads_ = () if inner else tuple(names[:names.index('xp')])
  return _Form(form, reads_, options, tuple(inner))


def _all_reads(form: _Form) -> set[str]:
  return set(form.reads).union(*map(_all_reads, form.inner))


def _run(form: _Form, arrays: Mapping[str, Any], xp: Any,
         given: Mapping[str, Any]) -> Any:
  for name in form.reads:
    if name not in arrays:
      raise ValueError(f'{form.fn.__name__} reads the array {name!r}, and only '
                       f'{sorted(arrays)!r} are there')
  inputs = [arrays[name] for name in form.reads]
  if form.inner:
    inputs = [[_run(inner, arrays, xp, given) for inner in form.inner]]
  known = inspect.signature(form.fn).parameters
  extra = {k: v for k, v in given.items() if k in known}
  return form.fn(*inputs, xp, **form.options, **extra)
