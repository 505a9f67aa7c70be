"""What to get, from where and under which licence, where data are missing.

Nothing is ever downloaded: whoever trains has read the licence.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any, NoReturn

from medrl import lookup


@dataclasses.dataclass(frozen=True)
class Home:
  """Where a data set lives.

  name: as its authors call it.
  where: whom to get it from, 'Hugging Face data set owner/name'.
  licence: the terms that are to be agreed to.
  layout: which files lie where below the data root.
  """
  name: str
  where: str
  licence: str
  layout: str


def home(given: Home | Mapping[str, str] | None) -> Home | None:
  """A `Home` of what a config holds: itself, its fields, or nothing.

  Raises:
    ValueError: a field is unknown or missing.
  """
  if given is None or isinstance(given, Home):
    return given
  known = [field.name for field in dataclasses.fields(Home)]
  given = dict(given)
  if not given:
    return None
  for name in given:
    if name not in known:
      raise ValueError(f'home has no {name!r}; {lookup.nearest(name, known)}')
  lacking = [name for name in known if name not in given]
  if lacking:
    raise ValueError(f'home lacks {lacking}; expected {known}')
  return Home(**given)


def missing(of: Home | None, path: Any, root: Any) -> NoReturn:
  """Says that `path`, below the data root `root`, is not there.

  Raises:
    FileNotFoundError: always.
  """
  what = (f'no file {str(path)!r} below the data root {str(root)!r}'
          if pathlib.Path(root).is_dir() else f'no data root {str(root)!r}')
  if of is None:
    raise FileNotFoundError(f'{what}; nothing is downloaded, so put it there')
  raise FileNotFoundError(
      f'{what}. Nothing is downloaded: get {of.name} from {of.where} (licence: '
      f'{of.licence}) and lay it out below the root as: {of.layout}')
