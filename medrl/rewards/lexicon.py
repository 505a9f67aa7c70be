"""Lexicons of findings, read from JSON into the tables `findings` works with.

A lexicon maps a finding to phrases ('positive', 'negative', 'uncertain': what
the phrase says of it) and to signs: structures ('of') whose state, told nearby,
says it ('the heart ... is enlarged'). `measures` do so by a number and its
unit. `cues.json` holds the words of denial and doubt, for every lexicon.
Reads no report.
"""

from collections.abc import Iterator, Mapping
import functools
import json
import pathlib
from typing import Any, NamedTuple

from medrl import lookup
from medrl.rewards import phrases

STATES = ('positive', 'negative', 'uncertain')
_HERE = pathlib.Path(__file__).parent / 'lexicons'
_NOT_LEXICONS = ('cues', 'affinity')


class Lexicon(NamedTuple):
  """What `findings` needs; built by `load`.

  `tree` holds (kind, payload) for every phrase; `units` the measures of a unit
  as (sign, bins, otherwise); `none` the name of the derived finding or ''.
  """
  tree: Mapping[str, Any]
  units: Mapping[str, list[tuple[int, list[Any], str]]]
  implies: Mapping[str, tuple[str, ...]]
  kinds: Mapping[str, str]
  hidden: frozenset[str]
  critical: tuple[str, ...]
  anatomy: tuple[str, ...]
  none: str
  exempt: frozenset[str]
  new: frozenset[str]


@functools.lru_cache(maxsize=16)
def load(name: str) -> Lexicon:
  """Returns the lexicon 'chexpert', 'carotid', or that of a path in '.json'.

  Raises:
    ValueError: there is no such lexicon, or a finding has an unknown key.
  """
  data = json.loads(_path(name).read_text(encoding='utf-8'))
  cues, new = _cues()
  entries = [*_entries(name, data), *cues]
  measures = data.get('measures', [])
  units = {}
  for i, measure in enumerate(measures):
    entries += [(p, ('anchor', -1 - i)) for p in measure['of']]
    for unit in measure['unit']:
      units.setdefault(phrases.stem(unit), []).append(
          (-1 - i, measure['bins'], measure.get('otherwise', '')))
  findings, none = data['findings'], data.get('none', {})
  return Lexicon(
      tree=phrases.table(entries), units=units, new=new,
      implies={k: tuple(v['implies']) for k, v in findings.items()
               if 'implies' in v},
      kinds={k: v.get('kind', 'abnormality') for k, v in findings.items()},
      hidden=frozenset(k for k, v in findings.items()
                       if v.get('critical_only')),
      critical=tuple(data.get('critical', ())),
      anatomy=tuple(data.get('anatomy', ())),
      none=none.get('finding', ''), exempt=frozenset(none.get('exempt', ())))


@functools.lru_cache(maxsize=1)
def bare() -> Lexicon:
  """Returns the cues alone, as a lexicon that knows no finding."""
  cues, new = _cues()
  return Lexicon(
      tree=phrases.table(cues), units={}, implies={}, kinds={},
      hidden=frozenset(), critical=(), anatomy=(), none='', exempt=frozenset(),
      new=new)


def _cues() -> tuple[list[tuple[str, tuple[str, Any]]], frozenset[str]]:
  """The cues' (phrase, (kind, None)), and the words that begin anew."""
  cues = json.loads((_HERE / 'cues.json').read_text(encoding='utf-8'))
  new = frozenset(cues.pop('new'))
  return [(p, (kind, None)) for kind, found in cues.items()
          for p in found], new


def _path(name: str) -> pathlib.Path:
  if name.endswith('.json'):
    return pathlib.Path(name)
  known = sorted(p.stem for p in _HERE.glob('*.json')
                 if p.stem not in _NOT_LEXICONS)
  if name not in known:
    raise ValueError(f'lexicon {name!r} is unknown; '
                     f'{lookup.nearest(name, known)}, or the path of a .json')
  return _HERE / f'{name}.json'


def _entries(name: str, data: Mapping[str, Any]
             ) -> Iterator[tuple[str, tuple[str, Any]]]:
  """Yields (phrase, (kind, payload)) of a lexicon's own phrases."""
  sign = 0
  for finding, entry in data['findings'].items():
    for key, value in entry.items():
      if key in STATES:
        yield from ((p, ('finding', (finding, key))) for p in value)
      elif key not in ('kind', 'signs', 'implies', 'critical_only'):
        raise ValueError(
            f'lexicon {name!r}, finding {finding!r}: unknown key {key!r}; '
            f'expected one of {STATES + ("kind", "signs", "implies")}')
    for part in entry.get('signs', ()):
      yield from ((p, ('anchor', sign)) for p in part['of'])
      for state in STATES:
        yield from ((p, ('state', (sign, finding, state)))
                    for p in part.get(state, ()))
      sign += 1
  for phrase in data.get('none', {}).get('positive', ()):
    yield phrase, ('normal', None)
  for phrase in data.get('ignore', ()):
    yield phrase, ('ignore', None)
