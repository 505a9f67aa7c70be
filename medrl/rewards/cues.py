"""A sentence's cues of denial and doubt, and the words they reach.

In the manner of NegEx (Chapman 2001): a cue before a finding reaches forward to
the end of its clause. Which findings there are is not known here.
"""

import bisect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from medrl.rewards import lexicon as lexicon_lib
from medrl.rewards import phrases

BEFORE = {'deny': 'negative', 'not': 'negative', 'hedge': 'uncertain',
          'hint': 'uncertain', 'aside': 'aside'}
AFTER = ('deny_after', 'hedge_after', 'open_after', 'affirm_after')
SPOKEN = ('finding', 'anchor', 'state', 'normal')
LISTING = ('comma', 'and', 'or')
# Words between two cues that still make them one ('not the absence of').
_FILLERS = frozenset(('a', 'an', 'the', 'any', 'of', 'be', 'that'))
# Words that may stand between a denial and what it says was not supplied,
# before and behind it; what is denied then; and words that need no denial.
_BEFORE = _FILLERS | {',', 'and', 'or', 'view', 'image', 'window', 'value'}
_BEHIND = _BEFORE | {'is', 'are', 'was', 'were', 'has', 'have', 'been'}
_SUPPLIED = frozenset((
    'given', 'supplied', 'provided', 'available', 'acquired', 'obtained',
    'recorded', 'included', 'measured', 'reported', 'present', 'seen', 'shown',
    'visualized', 'visualised'))
_GONE = frozenset(('absent', 'missing', 'unavailable', 'lacking'))


class Line(NamedTuple):
  """A sentence: its words, and where each kind of phrase stands, in order."""
  words: list[str]
  items: list[tuple[int, int, str, Any]]   # first, last, kind, payload
  places: dict[str, list[tuple[int, int]]]
  lexicon: lexicon_lib.Lexicon

  def of(self, *kinds: str) -> list[tuple[int, int]]:
    """Returns where phrases of these kinds stand, in order."""
    return sorted(at for kind in kinds for at in self.places.get(kind, ()))


def read(words: list[str], found: list[phrases.Match],
         book: lexicon_lib.Lexicon) -> Line:
  """Returns the sentence with one item for each (phrase, kind), in order.

  A cue that may look either way ('resolved') looks back if a finding precedes
  it in its part of the list and none follows there.
  """
  items = []
  unsure = [n for n, (*_, values) in enumerate(found) if len(values) > 1
            and any(kind in AFTER for kind, _ in values)
            and any(kind in BEFORE for kind, _ in values)]
  back = dict.fromkeys(unsure, False)
  if unsure:
    precedes = _seen(found, (*LISTING, 'break', 'plain'))
    follows = _seen(found[::-1], (*LISTING, 'break', 'plain', 'colon'))[::-1]
    back = {n: precedes[n] and not follows[n] for n in unsure}
  for n, (first, last, values) in enumerate(found):
    wrong = () if n not in back else BEFORE if back[n] else AFTER
    items += [(first, last, kind, payload) for kind, payload in values
              if kind not in wrong]
  if book.units:
    items += [item for i, word in enumerate(words) if word[0].isdigit()
              for item in _measured(words, i, found, book)]
    items.sort(key=lambda item: item[0])
  places = {}
  for first, last, kind, _ in items:
    places.setdefault(kind, []).append((first, last))
  return Line(words, items, places, book)


def _seen(found: list[phrases.Match], stops: tuple[str, ...]) -> list[bool]:
  """Whether a finding stands before each match, with no stop between."""
  out, seen = [], False
  for *_, values in found:
    out.append(seen)
    kinds = {kind for kind, _ in values}
    if not kinds.isdisjoint(SPOKEN):
      seen = True
    elif not kinds.isdisjoint(stops):
      seen = False
  return out


def _measured(words: list[str], i: int, found: list[phrases.Match],
              book: lexicon_lib.Lexicon
              ) -> Iterator[tuple[int, int, str, Any]]:
  """Yields states told by a number, of the structures its unit belongs to."""
  unit = words[i + 1] if i + 1 < len(words) else ''
  if unit not in book.units:
    return
  value = _lowest(words[i])
  k = bisect.bisect_left(found, i, key=lambda match: match[0]) - 1
  if k >= 0 and found[k][1] == i:
    # '<50' is next to, and not in, the bin that begins at 50.
    value += {'under': -1e-9, 'over': 1e-9}.get(found[k][2][0][0], 0.0)
  for sign, bins, otherwise in book.units[unit]:
    inside = [name for name, low, high in bins if low <= value < high]
    for name in inside:
      yield i, i + 2, 'state', (sign, name, 'positive')
    if not inside and otherwise:
      yield i, i + 2, 'state', (sign, bins[0][0], otherwise)


def _lowest(word: str) -> float:
  """The number, or the lower end of a range, that a word of digits holds."""
  end = 0
  while end < len(word) and (word[end].isdigit() or word[end] == '.'):
    end += 1
  return float(word[:end])


def scopes(line: Line) -> list[tuple[int, str | None, Any, str]]:
  """Returns (from word, what is said of a finding there, cue, its kind)."""
  out = [(0, None, None, '')]
  outside = out[0]
  lists = [a for a, _ in line.of('comma', 'and')]
  for n, (first, last, kind, _) in enumerate(line.items):
    _, reach, cue, by = now = out[-1]
    if kind in BEFORE:
      if kind == 'hint' and reach == 'negative' and not within(
          lists, (cue[1], first)):
        continue  # 'no opacity to suggest pneumonia'
      near = cue is not None and _touches(line.words, cue[1], first)
      out.append((last, _joined(reach if near else None, kind),
                  (cue[0] if near else first, last), kind))
    elif kind == 'open':
      outside = now
    elif kind == 'close':
      out.append((last, *outside[1:]))
    elif reach is not None and _ends(line, n, cue, by):
      out.append((last, None, None, ''))
  return out


def _ends(line: Line, n: int, cue: tuple[int, int], by: str) -> bool:
  """Whether item `n` ends the reach of the cue before it, of kind `by`."""
  first, last, kind, _ = line.items[n]
  if kind in ('break', 'colon', 'plain'):
    return cue[1] != first  # not in 'whether there is', 'negative for:'
  if kind not in ('comma', 'and', 'with'):
    return False
  word = line.words[last] if last < len(line.words) else ''
  fresh = word in line.lexicon.new
  if kind != 'comma':
    return fresh
  if by == 'aside' or word == 'with':
    return True
  # A list that goes on ('no edema, large effusion, or nodule') holds the reach.
  ors, breaks = line.places.get('or', ()), line.places.get('break', ())
  k, stop = (bisect.bisect_left(x, (first, 0)) for x in (ors, breaks))
  listed = k < len(ors) and (stop == len(breaks) or ors[k] < breaks[stop])
  return not listed and (fresh or by != 'deny')


def _touches(words: list[str], end: int, first: int) -> bool:
  return first == end or (first == end + 1 and words[end] in _FILLERS)


def _joined(reach: str | None, kind: str) -> str:
  """What two cues in a row say: 'not without' affirms, 'no possible' denies."""
  if reach is None or reach == 'positive':
    return BEFORE[kind]
  if reach == 'negative' and BEFORE[kind] == 'negative':
    return 'positive'
  return reach


def within(positions: list[int], gap: tuple[int, int]) -> bool:
  """Whether any of the ascending `positions` lies in [gap[0], gap[1])."""
  k = bisect.bisect_left(positions, gap[0])
  return k < len(positions) and positions[k] < gap[1]


def unsupplied(words: list[str], names: Sequence[tuple[int, int]]
               ) -> list[bool]:
  """Whether each name is said not to be there ('no PLAX', 'PLAX not given').

  The denial must touch the name, or a list of names that it is in: what a view
  shows is denied far more often than the view ('no effusion in PLAX').

  Args:
    words: as `phrases.words` gives them.
    names: (first word, word after the last), in order, without overlap.
  """
  book = lexicon_lib.bare()
  inside = {i for first, last in names for i in range(first, last)}
  found = [m for m in phrases.matches(words, book.tree)
           if inside.isdisjoint(range(m[0], m[1]))]
  line = read(words, sorted(
      [*found, *((*at, [('finding', None)]) for at in names)],
      key=lambda match: match[0]), book)
  reaches = scopes(line)
  starts = [at for at, *_ in reaches]
  begins, stops = _runs(words, inside, _BEFORE), _runs(
      words[::-1], {len(words) - 1 - i for i in inside}, _BEHIND)
  out = []
  for first, last in names:
    _, reach, cue, _ = reaches[bisect.bisect_right(starts, first) - 1]
    before = reach == 'negative' and cue[1] >= begins[first]
    out.append(before or _lacks(words, len(words) - stops[len(words) - last]))
  return out


def _runs(words: list[str], inside: set[int], free: frozenset[str]
          ) -> list[int]:
  """For each place, where a run of names and `free` words before it begins."""
  out = [0]
  for i, word in enumerate(words):
    out.append(out[-1] if i in inside or word in free else i + 1)
  return out


def _lacks(words: list[str], at: int) -> bool:
  """Whether 'not .. given', or 'missing', stands at word `at`."""
  if at == len(words) or words[at] in _GONE:
    return at < len(words)
  denied = words[at] in ('not', 'never') or words[at].endswith("n't")
  return denied and not _SUPPLIED.isdisjoint(words[at + 1:at + 4])
