"""Keys and values of a study's config, read as `medrl.main` reads its flags.

A value has the type of the default it replaces, whatever is swept or searched.
Not here: sets of values (sweep_points). Loads no jax: a sweep must not hold an
accelerator that its runs need.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import hashlib
import math
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags
import numpy as np

from medrl import lookup

# The one key that is not the config's own: what a reward weighs is spoken of
# in the singular.
ALIASES = {'reward.': 'rewards.'}
SCALES = ('uniform', 'log')


@dataclasses.dataclass(frozen=True)
class Study:
  """A study as it is swept."""
  path: str                    # as given, with its switch
  default: Mapping[str, Any]   # the config as one level of dotted keys
  fixed: Mapping[str, Any]     # what is laid over it, the same for all points


class Range(NamedTuple):
  """Values between two bounds, both possible, of the type of the bounds."""
  scale: str   # one of SCALES
  low: float
  high: float


def load(path: str, texts: Iterable[str] = ()) -> Study:
  """Reads a study; each of `texts` is a 'key=value' that all points share.

  Raises:
    ValueError, OSError: no such study, key or value.
  """
  study = Study(path, lookup.flat(_read(path)), {})
  fixed = {}
  for key, text in map(pair, texts):
    fixed[swept_key(study, key)] = parse(study, key, text)
  return Study(path, {**study.default, **fixed}, fixed)


def key_of(study: Study, name: str) -> str:
  """The config key that a name means; an unknown one is told the nearest."""
  for alias, section in ALIASES.items():
    if name.startswith(alias) and name not in study.default:
      name = section + name.removeprefix(alias)
  if name not in study.default:
    raise ValueError(f'unknown config key {name!r} of {study.path}; '
                     f'{lookup.nearest(name, list(study.default))}')
  return name


def swept_key(study: Study, name: str) -> str:
  """As `key_of`, of a key that may still be set.

  Raises:
    ValueError: it is unknown, fixed for all points, or the seed.
  """
  key = key_of(study, name)
  if key == 'seed':
    raise ValueError('seed is no key of a sweep; --seeds says how many there '
                     'are of each point')
  if key in study.fixed:
    raise ValueError(f'{key} is fixed to {study.fixed[key]!r} by --set and '
                     f'cannot be swept or set again')
  return key


def parse(study: Study, key: str, text: str) -> Any:
  """The value that `--config.<key>=<text>` gives.

  Raises:
    ValueError: the key is unknown, or the text is none of its type.
  """
  key = key_of(study, key)
  try:
    return lookup.flat(_read(study.path, f'--config.{key}={text}'))[key]
  except (flags.Error, TypeError, ValueError) as error:
    raise ValueError(f'{key}={text!r}: {error}') from error


def text_of(value: Any) -> str:
  """A value as a flag's text, of which `parse` makes the same value."""
  if isinstance(value, np.generic):
    value = value.item()
  return value if isinstance(value, str) else repr(value)


def split(text: str) -> list[str]:
  """Parts of a list by its commas, but for those within brackets or quotes."""
  parts, depth, quote = [''], 0, ''
  for letter in text:
    if quote:
      quote = '' if letter == quote else quote
    elif letter in '\'"':
      quote = letter
    depth += (letter in '([{') - (letter in ')]}')
    if letter == ',' and not depth and not quote:
      parts.append('')
    else:
      parts[-1] += letter
  return [part.strip() for part in parts]


def pair(text: str) -> tuple[str, str]:
  """'key=value' as a pair."""
  key, equals, value = text.partition('=')
  if not equals or not key.strip():
    raise ValueError(f'{text!r} is not of the form key=value')
  return key.strip(), value.strip()


def choices(study: Study, text: str) -> tuple[str, tuple]:
  """'key=a,b' -> key and its values; ones with commas stand in quotes."""
  name, values = pair(text)
  key = swept_key(study, name)
  strings = isinstance(study.default[key], str)
  def unquoted(value):
    inner = strings and len(value) > 1 and value[0] in '\'"'
    return value[1:-1] if inner and value[-1] == value[0] else value
  found = tuple(parse(study, key, unquoted(v)) for v in split(values))
  if len(set(found)) < len(found):
    raise ValueError(f'{text!r} has a value twice')
  return key, found


def space(study: Study, text: str) -> tuple[str, tuple | Range]:
  """As `choices`, or 'key=log:a,b', 'key=uniform:a,b' -> key and its range.

  Raises:
    ValueError: bounds that are no numbers of the key's type, or not in order.
  """
  name, values = pair(text)
  scale, colon, bounds = values.partition(':')
  if not colon or scale not in SCALES:
    return choices(study, text)
  key = swept_key(study, name)
  found = [parse(study, key, bound) for bound in split(bounds)]
  numbers = all(type(f) in (int, float) and math.isfinite(f) for f in found)
  if len(found) != 2 or not numbers or not found[0] < found[1]:
    raise ValueError(f'{text!r}: expected two numbers in order, as {scale}:a,b')
  if scale == 'log' and found[0] <= 0:
    raise ValueError(f'{text!r}: a logarithm needs bounds above 0')
  return key, Range(scale, *found)


def spaces(study: Study, texts: Iterable[str]) -> dict[str, tuple | Range]:
  """Key -> what it may be, of several texts; none may come twice."""
  out = {}
  for key, values in (space(study, text) for text in texts):
    if key in out:
      raise ValueError(f'{key} is swept twice; give all of its values at once')
    out[key] = values
  return out


def draw(values: tuple | Range, place: str) -> Any:
  """One of the values, or of a range; decided by `place` alone."""
  state = hashlib.blake2b(place.encode(), digest_size=16).digest()
  rng = np.random.default_rng(int.from_bytes(state, 'big'))
  if not isinstance(values, Range):
    return values[rng.integers(len(values))]
  low, high = values.low, values.high
  if isinstance(low, int) and values.scale == 'uniform':
    return int(rng.integers(low, high, endpoint=True))
  if values.scale == 'log':
    # Integers have half a unit more on each side, or their ends would come
    # half as often.
    edge = .5 if isinstance(low, int) else 0.
    found = math.exp(rng.uniform(math.log(low - edge), math.log(high + edge)))
  else:
    found = rng.uniform(low, high)
  # Four digits tell points apart and can be read.
  found = round(found) if isinstance(low, int) else float(f'{found:.4g}')
  return min(max(found, low), high)


def _read(path: str, *overrides: str):
  """The config as `medrl.main` would see it."""
  # With values of its own the flag is no one's default and parses only these.
  values, arguments = flags.FlagValues(), ['sweep', f'--config={path}',
                                           *overrides]
  holder = config_flags.DEFINE_config_file('config', flag_values=values,
                                           sys_argv=arguments)
  values(arguments)
  return holder.value.to_dict()
