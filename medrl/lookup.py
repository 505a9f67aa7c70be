"""Dotted name -> object or field, with an error that lists what exists.

There is no registry: a config names code by its import path, so a reward, data
set or tool that lives outside the package is used exactly as one inside it.
"""

from collections.abc import Mapping
import difflib
import importlib
from typing import Any


def resolve(name: str) -> Any:
  """Returns the module or attribute named `name`, such as `pkg.mod.function`.

  Raises:
    ValueError: nothing is found; the message lists the nearest names.
  """
  parts = name.split('.')
  for cut in range(len(parts), 0, -1):
    module_name = '.'.join(parts[:cut])
    try:
      found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
      # A module that exists but fails to import something else is the user's
      # own error and must not be reported as a wrong name.
      if error.name is None or not module_name.startswith(error.name):
        raise
      continue
    for position, part in enumerate(parts[cut:]):
      if not hasattr(found, part):
        owner = '.'.join(parts[:cut + position])
        public = sorted(n for n in dir(found) if not n.startswith('_'))
        raise ValueError(f'{name!r}: {owner} has no {part!r}; '
                         f'{nearest(part, public)}')
      found = getattr(found, part)
    return found
  raise ValueError(f'{name!r}: no module of this name; is its folder on '
                   f'PYTHONPATH?')


def nearest(name: str, known: list[str]) -> str:
  """Says which of `known` is closest to `name`, or lists them all."""
  close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
  if close:
    return 'did you mean ' + ' or '.join(repr(c) for c in close) + '?'
  return 'it has: ' + ', '.join(known)


def flat(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested mappings as one, with the dotted keys by which flags name them."""
  out = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      out |= flat(value, f'{prefix}{key}.')
    else:
      out[prefix + key] = value
  return out
