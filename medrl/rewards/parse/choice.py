"""Reads which option of a question a text names, or which several.

Knows the options but not which of them is right.
"""

import collections
from collections.abc import Callable, Collection, Iterator, Mapping
import re
from typing import NamedTuple

from medrl.rewards.parse import blocks
from medrl.rewards.parse import spans

# A Latin letter ends before a Chinese character: 'B选项'.
_END = r'(?![^\W_一-鿿])'
_LETTER = re.compile(
    r"\s*(?:(?i:option|choice|answer)s?\s+|选项\s*)?"
    r"(?:(?:\\text\w{0,4}\{|[(\['{])\s*)?"
    r'(?P<key>[A-Za-z0-9]{1,2})' + _END +
    r"[^\S\n]*(?P<close>[)\]}']?)(?:选项|项)?[^\S\n]*"
    r'(?P<stop>[.:\n]?)(?![0-9])')
_REASON = re.compile(r'(?:because|since|due|as|given|for)\b')
_PREDICATE = re.compile(r"(?:is|isn't|are|was|or|and|nor|not|can|cannot)\b")
_AFFIRMED = re.compile(
    r'(?i)(?:(?:is|are)\s(?:the\s)?(?:most\s|best\s|single\s)?'
    r'(?:correct|right|best|likely|appropriate)'
    r'(?:\s(?:answer|option|choice)s?)?'
    r'|(?:是)?(?:正确|对)的?)\W*\Z')
# An 'A' or 'I' before a small letter is an article or a pronoun.
_OTHER = re.compile(r'(?<![^\W一-鿿])(?![AI]\s+[a-z])([A-Z0-9])' + _END)
_CUE = re.compile(
    r'(?i)\b(?:answer|option|choice)s?\s*'
    r'(?:is|are|:|=|(?:would|should|must)\s+be)\s*:?\s*'
    r'(?:(?:most\s)?(?:likely|probably)\s)?'
    r'|答案\s*(?:应该|应)?(?:是|为|:|(?=[A-Z](?![A-Za-z])))\s*:?\s*'
    r'|(?<![不未没])(?<![不未没].)选择?(?!项)\s*:?\s*')
_SPLITS = tuple(map(re.compile, (
    r'[;\n]', r'[,;\n/&]|(?i:\band\b)|和|及|与', r'\s')))
# Characters in which an option's text must show; NFKC can swell a text 18-fold.
_LONGEST = 4096
_NONE = ('none', 'none of the above', 'none of these', '无', '[]', '{}')


class _Option(NamedTuple):
  plain: str
  letters: collections.Counter[str]   # keys that stand alone in its text


_Options = Mapping[str, _Option]


def choice(content: str, options: Mapping[str, str],
           which: str = 'only') -> spans.Parsed | None:
  """Returns the key of the option that `content` names.

  Read in this order: `\\boxed{..}`, a cue ('answer is ..', 'answer: ..',
  '答案是'), the whole content, a last line by itself; each as a letter ('B',
  '(b)', 'B.', 'B)'), a letter and text ('B: benign') or exactly one option's
  text. A letter beats an equal option text ('A' where option B reads 'A'),
  since prompts ask for letters. A letter is never picked out of prose, where
  'A' is an article, 'I' a pronoun and 'hepatitis C' a disease; a letter with
  another option's text is a contradiction, and cues that disagree leave the
  content unparsed.

  Args:
    content: of an answer block.
    options: key -> text; keys of one or two letters or digits.
    which: 'only', or the 'first' or 'last' of the boxes or cues.

  Raises:
    ValueError: `which` is another word.
  """
  known = _known(options)
  clean = spans.clean(content)
  found = _announced(clean, lambda piece: _one(piece, known), which)
  return found[0] if found else _last_line(clean, known)


def choices(content: str, options: Mapping[str, str],
            which: str = 'only') -> spans.Parsed | None:
  """Returns the frozenset of keys that `content` names.

  As `choice`, with keys or texts joined by commas, semicolons, lines, slashes
  or 'and', or letters in a row in their order ('ACD'; 'CAD' is a word). 'none'
  and '[]' are the empty set. One part that names no option voids the content.
  """
  known = _known(options)
  found = _announced(
      spans.clean(content), lambda piece: _several(piece, known), which)
  return found[0] if found else None


def _announced(clean: str, read: Callable[[str], spans.Parsed | None],
               which: str) -> list[spans.Parsed | None]:
  """Returns the reading of what is boxed, cued or the whole; [] if none."""
  for how, pieces in _marked(clean):
    if len(pieces) > spans.MAX_CANDIDATES:
      return [None]
    found = [(read(piece), shift) for piece, shift in pieces]
    found = [spans.shifted(f, shift) for f, shift in found if f]
    picked = spans.pick(found, which)
    if found:
      return [picked and spans.Parsed(picked.value, picked.span, how)]
  whole = read(clean)
  return [whole] if whole else []


def _marked(clean: str) -> Iterator[tuple[str, list[tuple[str, int]]]]:
  """Yields how an answer is announced, and the pieces so announced."""
  yield 'boxed', [(box.value, box.span[0]) for box in blocks.every_boxed(clean)
                  if box.value is not None]
  cues = list(_CUE.finditer(clean))
  ends = [m.start() for m in cues[1:]] + [len(clean)]
  yield 'cue', [(clean[m.end():end].partition('\n')[0], m.end())
                for m, end in zip(cues, ends)]


def _known(options: Mapping[str, str]) -> _Options:
  return {key: _Option(_plain(text), _letters(spans.clean(text), options, key))
          for key, text in options.items()}


def _one(piece: str, options: _Options) -> spans.Parsed | None:
  """Reads one option; of a text, only the first sentence need be it."""
  option = _option(piece, options)
  if option is None:
    # 'benign. The margins ..'; not for letters, as in 'E. coli'.
    sentence = _option(piece.partition('. ')[0], options)
    option = sentence if sentence and sentence.how == 'text' else None
  return option


def _last_line(clean: str, options: _Options) -> spans.Parsed | None:
  """Reads a last line that is an option, behind lines that are not."""
  lines = [m for m in re.finditer(r'[^\n]+', clean) if not m[0].isspace()]
  if not 2 <= len(lines) <= spans.MAX_CANDIDATES:
    return None
  last = _option(lines[-1][0], options)
  before = [_option(line[0], options) for line in lines[:-1]]
  # 'It is not\nB' is one sentence.
  if (last is None or any(b and b.value != last.value for b in before)
      or not lines[-2][0].rstrip().endswith(('.', '!', '?', ':', ')'))):
    return None
  found = spans.shifted(last, lines[-1].start())
  return spans.Parsed(found.value, found.span, 'last line')


def _several(piece: str, options: _Options) -> spans.Parsed | None:
  """Reads several options that are joined in one of the usual ways."""
  span, plain = spans.stripped(piece), _plain(piece)
  texts = [option.plain for option in options.values()]
  if plain == 'n/a':
    return None
  if plain in _NONE and plain not in texts:
    return spans.Parsed(frozenset(), span, 'none')
  one = _option(piece, options)
  run = piece.strip(' .,[]\n')
  if len(run) > 1 and all(map(options.__contains__, run)) and (
      list(run) == sorted(set(run))):
    return None if one else spans.Parsed(frozenset(run), span, 'run')
  if one:
    return spans.Parsed(frozenset([one.value]), span, one.how)
  for split in _SPLITS:
    parts = [p for p in split.split(piece.strip(" []{}'\n")) if p.strip()]
    if not 1 < len(parts) <= spans.MAX_CANDIDATES:
      continue
    if split is _SPLITS[-1] and not all(p in options for p in parts):
      continue
    found = [_option(part, options) for part in parts]
    if all(found):
      return spans.Parsed(frozenset(f.value for f in found), span, 'list')
  return None


def _option(piece: str, options: _Options) -> spans.Parsed | None:
  """Reads a piece of text that holds one answer and nothing before it."""
  plain = _plain(piece)
  match = _LETTER.match(piece)
  keys = {key.upper(): key for key in options}
  key = keys.get(match['key'].upper()) if match else None
  rest = piece[match.end():].strip() if match else ''
  if key is not None and not _plain(rest).strip(")]}'"):
    return None if rest[:1] == '?' else spans.Parsed(
        key, match.span('key'), 'letter')
  same = [k for k, option in options.items() if plain and option.plain == plain]
  if len(same) == 1:
    return spans.Parsed(same[0], spans.stripped(piece), 'text')
  text, _, letter = piece.rstrip(' .\n').rpartition('(')
  if letter[-1:] == ')' and letter[:-1] in options and (
      _plain(text) == options[letter[:-1]].plain):
    return spans.Parsed(letter[:-1], spans.stripped(piece), 'text and letter')
  if key is None or same or not _names(match, rest, key, options):
    return None
  return spans.Parsed(key, match.span('key'), 'letter')


def _names(match: re.Match, rest: str, key: str, options: _Options) -> bool:
  """Whether the letter at the start of a longer piece names an option."""
  starts, own = _beginnings(rest), options[key]
  others = _letters(rest, options, key)
  behind = _behind(starts, own.plain)
  if behind is not None:
    # What its own text does not explain is a list of options or a second one.
    return not others - own.letters and not _denied(behind)
  if any(_behind(starts, o.plain) is not None
         for k, o in options.items() if k != key):
    return False
  if others or (match['key'] != key and not match['close']):
    return False  # 'a benign lesion'
  if _denied(rest):
    return False
  if _AFFIRMED.match(rest):
    return True
  if not match['stop'] and not match['close']:
    return bool(_REASON.match(rest.lstrip(', ')))
  if match['stop'] == '.' and rest[:1].islower():  # 'E. coli'
    return any(s and own.plain.startswith(s + ' ') for s in starts)
  return True


def _letters(rest: str, options: Collection[str],
             key: str) -> collections.Counter[str]:
  """Counts the other options' letters that stand alone in `rest`."""
  return collections.Counter(
      letter for letter in _OTHER.findall(rest)
      if letter != key and letter in options)


def _plain(piece: str) -> str:
  return spans.normalise(spans.clean(piece[:_LONGEST]))


def _beginnings(rest: str) -> tuple[str, str]:
  """Returns `rest` without a dash in front, and also without a bracket."""
  if rest[:1] in ('-', '–', '—') and rest[1:2].isspace():
    rest = rest[2:].strip()
  return _plain(rest), _plain(rest.removeprefix('('))


def _behind(rests: tuple[str, str], option: str) -> str | None:
  """Returns what follows `option` in one of `rests`, None if none is it."""
  for text in rests:
    behind = text[len(option):]
    if option and text.startswith(option) and not behind[:1].isalnum():
      return behind.lstrip(' ,)')
  return None


def _denied(rest: str) -> bool:
  """Whether 'is wrong' or the like stands there, but not 'is right'."""
  return bool(_PREDICATE.match(rest)) and not _AFFIRMED.match(rest)
