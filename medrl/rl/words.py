"""Names and options of a config -> the functions they stand for.

`laid` fills in what a recipe says, `bind` gives a word its options. Not here:
the recipes, which are data, and the loss that the words make.
"""

from collections.abc import Callable, Mapping
import functools
import inspect
from typing import Any

from medrl import lookup
from medrl.rl import recipes

# What an open field of the config holds: text, and numbers.
_OPEN = ('', None)


def laid(rl):
  """`config.rl` with all its words: a copy; laying it again changes nothing.

  A field left open ('' or a placeholder) takes the value of the recipe that
  `rl.recipe` names, or where that says nothing, or none is named, of
  `recipes.BASE`. What a study or a flag says is kept. A word's options are the
  recipe's only where the word is; single ones are replaced by the config's.

  Raises:
    ValueError: there is no such recipe.
  """
  if rl.recipe and rl.recipe not in recipes.RECIPES:
    raise ValueError(f'rl.recipe {rl.recipe!r} is unknown: '
                     + lookup.nearest(rl.recipe, list(recipes.RECIPES)))
  recipe = recipes.BASE | recipes.RECIPES.get(rl.recipe, {})
  rl = rl.copy_and_resolve_references()
  for field in recipes.BASE.keys() - {'options', 'updates'}:
    if rl[field] in _OPEN:
      rl[field] = recipe[field]
  for word, options in recipe['options'].items():
    if rl[word] == recipe[word]:
      with rl.options.unlocked():
        rl.options[word] = options | rl.options[word].to_dict()
  return rl


def lay(config) -> None:
  """Puts `laid(config.rl)` in the place of `config.rl`."""
  config.rl = laid(config.rl)


def named(rl, word: str) -> bool:
  """Whether a config, laid, asks for a word that a loss may do without."""
  return rl[word] not in ('none', *_OPEN)


def bind(rl, word: str, given: tuple[str, ...] = ()) -> Callable:
  """The function that `rl[word]` names, with the options it has there.

  Args:
    rl: `config.rl`, laid.
    word: advantage, ratio, surrogate and so on.
    given: keywords that the loss passes itself, and that are no options.

  Raises:
    ValueError: no such function, or one without such an option.
  """
  function = lookup.resolve(rl[word])
  options: Mapping[str, Any] = rl.options[word].to_dict()
  parameters = inspect.signature(function).parameters.values()
  known = [p.name for p in parameters
           if p.kind is p.KEYWORD_ONLY and p.name not in given]
  for name in options:
    if name not in known:
      has = lookup.nearest(name, known) if known else 'it has none'
      raise ValueError(f'rl.options.{word}: {rl[word]} has no option {name!r}; '
                       f'{has}')
  return functools.partial(function, **options) if options else function
