"""How much of a text is in the wanted script, by Unicode ranges.

No model: languages that share a script ('en', 'fr') are not told apart.
"""

from collections.abc import Sequence
import functools
import re

from medrl import lookup
from medrl import types
from medrl.rewards import lift

SCRIPTS = {
    'latin': 'A-Za-zªº\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff'
             '\uff21-\uff3a\uff41-\uff5a',
    'han': '\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'
           '\U00020000-\U0003134f',
    'kana': '\u3041-\u309f\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f',
    'hangul': '\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff',
    'cyrillic': '\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f',
    'greek': '\u0370-\u03ff\u1f00-\u1fff',
    'arabic': '\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff'
              '\ufe70-\ufeff',
    'hebrew': '\u0590-\u05ff\ufb1d-\ufb4f',
    'devanagari': '\u0900-\u097f\ua8e0-\ua8ff',
    'thai': '\u0e00-\u0e7f',
}
LANGUAGES = {
    'en': ('latin',), 'fr': ('latin',), 'de': ('latin',), 'es': ('latin',),
    'it': ('latin',), 'pt': ('latin',), 'vi': ('latin',), 'zh': ('han',),
    'ja': ('han', 'kana'), 'ko': ('hangul',), 'ru': ('cyrillic',),
    'el': ('greek',), 'ar': ('arabic',), 'he': ('hebrew',),
    'hi': ('devanagari',), 'th': ('thai',),
}
_TAG = re.compile(r'</?[A-Za-z_|]{1,32}>')
# 'µ' is a letter of no script, and a unit in all of them.
_LETTERS = re.compile(r'[^\W\d_µ]+')


@lift.per_completion
def share(record: types.Record, text: str, *,
          wanted: Sequence[str] = ('latin',)) -> float:
  """Returns the share of letters that are in the wanted scripts, in [0, 1].

  The language consistency of DeepSeek-R1 (arXiv 2501.12948) by letters. Tags,
  digits, signs and spaces are no letters; a text without letters is in no
  language and earns 0.

  Args:
    record: not looked at.
    text: of the completion.
    wanted: names of `SCRIPTS` or codes of `LANGUAGES`; to let Chinese quote
      'CT' and 'mmHg' at no cost, want ('zh', 'latin').

  Raises:
    ValueError: a name is unknown, or there is none.
  """
  del record
  names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
  letters = ''.join(_LETTERS.findall(_TAG.sub(' ', text)))
  found = sum(map(len, _pattern(names).findall(letters)))
  return found / len(letters) if letters else 0.0


@functools.lru_cache(maxsize=32)
def _pattern(names: tuple[str, ...]) -> re.Pattern:
  known = SCRIPTS | {code: ''.join(SCRIPTS[s] for s in scripts)
                     for code, scripts in LANGUAGES.items()}
  for name in names:
    if name not in known:
      raise ValueError(f'wanted {names!r}: no script or language {name!r}; '
                       f'{lookup.nearest(name, sorted(known))}')
  if not names:
    raise ValueError('wanted () names no script; give at least one')
  return re.compile('[' + ''.join(known[name] for name in names) + ']+')
