"""Which findings a report affirms, denies or doubts, and where it says so.

Rules over words, in the manner of NegEx (Chapman 2001) and of the CheXpert
labeller (arXiv 1901.07031), written anew: a cue reaches forward or backward to
the end of its clause, see `cues`. No model, no grammar; English only. The
phrases are data, see `lexicon`. Scores nothing: see `report` and `process`.
"""

import bisect
from collections.abc import Iterable, Iterator
import dataclasses
from typing import Any, NamedTuple

from medrl.rewards import cues
from medrl.rewards import lexicon as lexicon_lib
from medrl.rewards import phrases

_RANK = {'negative': 0, 'uncertain': 1, 'positive': 2}
# How far a state may stand before its structure ('enlarged, globular heart'
# is too far), and after it; and a single word that judges what is before it.
_NEAR, _FAR, _BARE = 3, 12, 4


class Mention(NamedTuple):
  """One place where a finding is mentioned; spans are in characters."""
  finding: str
  state: str                    # 'positive', 'negative' or 'uncertain'
  span: tuple[int, int]
  cue: tuple[int, int] | None   # what denies or doubts it


@dataclasses.dataclass(frozen=True)
class Label:
  """What a text says of a finding, and the characters that say it."""
  state: str
  spans: tuple[tuple[int, int], ...]


class _Raw(NamedTuple):
  """A mention before cues: words [first, last), its state told at `at`."""
  finding: str
  state: str
  first: int
  last: int
  at: int
  alone: bool   # a statement that no cue of an earlier list item reaches


def states(text: str, lexicon: str = 'chexpert') -> dict[str, str]:
  """Returns {finding: 'positive', 'negative' or 'uncertain'}."""
  return {k: v.state for k, v in extract(text, lexicon).items()}


def extract(text: str, lexicon: str = 'chexpert') -> dict[str, Label]:
  """Returns {finding: Label}; what is not mentioned is absent.

  Of several mentions a positive one wins, then an uncertain one. The derived
  finding ('No Finding') is positive iff nothing else but exempt findings is
  positive or uncertain, and something is denied or normality is stated: unlike
  in CheXpert, silence earns nothing.
  """
  book = lexicon_lib.load(lexicon)
  return labels((m for m in mentions(text, lexicon)
                 if m.finding not in book.hidden), lexicon)


def labels(found: Iterable[Mention], lexicon: str) -> dict[str, Label]:
  """Returns the labels that mentions add up to, as `extract` does."""
  book = lexicon_lib.load(lexicon)
  best, where = {}, {}
  for mention in found:
    name, state = mention.finding, mention.state
    if name not in best or _RANK[state] > _RANK[best[name]]:
      best[name], where[name] = state, []
    if state == best[name]:
      where[name] += [s for s in (mention.span, mention.cue) if s]
  sick = any(state != 'negative' for name, state in best.items()
             if name not in book.exempt and name != book.none)
  if sick:
    best.pop(book.none, None)
  elif book.none and book.none not in best:
    denied = [s for k, v in best.items() if v == 'negative' for s in where[k]]
    if denied:
      best[book.none], where[book.none] = 'positive', denied
  return {k: Label(v, tuple(sorted(set(where[k])))) for k, v in best.items()}


def mentions(text: str, lexicon: str = 'chexpert') -> list[Mention]:
  """Returns every mention in order; linear in the length of the text.

  Raises:
    ValueError: there is no such lexicon.
  """
  book = lexicon_lib.load(lexicon)
  out = []
  for start, end in phrases.sentences(text):
    words, spans = phrases.words(text, start, end)
    found = phrases.matches(words, book.tree)
    if not any(kind in cues.SPOKEN
               for *_, values in found for kind, _ in values):
      continue
    line = cues.read(words, found, book)
    for name, state, first, last, cue in _judged(line):
      where = spans[first][0], spans[last - 1][1]
      told = (spans[cue[0]][0], spans[cue[1] - 1][1]) if cue else None
      out.append(Mention(name, state, where, told))
      if state != 'negative':
        out.extend(Mention(other, state, where, told)
                   for other in book.implies.get(name, ()))
  return out


def _judged(line: cues.Line) -> list[tuple[str, str, int, int, Any]]:
  """Returns (finding, state, first, last, cue), by what is before and after."""
  raws = sorted([*_named(line), *_signs(line)], key=lambda r: (r.last, r.first))
  scopes = cues.scopes(line)
  starts = [at for at, *_ in scopes]
  borders = [b for _, b in line.of('break', 'colon', 'with', *cues.LISTING)]
  after = _after(line, raws)
  out = []
  for n, raw in enumerate(raws):
    _, reach, cue, _ = scopes[bisect.bisect_right(starts, raw.at) - 1]
    if raw.alone and cue:
      k = bisect.bisect_right(borders, raw.first) - 1
      if k >= 0 and cue[0] < borders[k]:
        reach, cue = None, None
    if reach == 'aside':
      continue
    state = _turned(raw.state, reach)
    if n in after:
      state, cue = _amended(raw, state, reach, cue, *after[n])
    out.append((raw.finding, state, raw.first, raw.last, cue))
  out = _alternatives(line, out)
  none = line.lexicon.none
  return [m for m in out if m[0] != none or m[1] == 'positive']


def _turned(state: str, reach: str | None) -> str:
  if reach == 'negative':
    return 'positive' if state == 'negative' else 'negative'
  return 'uncertain' if reach == 'uncertain' else state


def _amended(raw: _Raw, state: str, reach: str | None, cue: Any, kind: str,
             behind: tuple[int, int]) -> tuple[str, Any]:
  """The state after a cue behind the mention, and the cue that decides."""
  if kind == 'open_after':
    return 'uncertain', behind
  if kind == 'affirm_after':
    return raw.state, behind
  if reach == 'negative':
    return state, cue  # 'no effusion is suspected', 'no effusion: none'
  return ('negative' if kind == 'deny_after' else 'uncertain'), behind


def _named(line: cues.Line) -> Iterator[_Raw]:
  for first, last, kind, payload in line.items:
    if kind == 'finding':
      name, state = payload
      yield _Raw(name, state, first, last, first, state == 'negative')
    elif kind == 'normal':
      yield _Raw(line.lexicon.none, 'positive', first, last, first, True)


def _signs(line: cues.Line) -> Iterator[_Raw]:
  """Yields what is said by structures and their states, in either order."""
  anchors = [a for a, _ in line.of('anchor')]
  waiting = []      # structures whose state is still to come
  told = None       # (first, end of its reach, [payloads]) of a state before
  for first, last, kind, payload in line.items:
    if kind == 'break':
      waiting, told = [], None
    elif kind == 'colon':
      told = None  # 'Heart: normal', but not 'Normal: the heart'
    elif kind == 'anchor':
      found = []
      if told and not _apart(line, told[1], first):
        found = [p for p in told[2] if p[0] == payload]
        for _, name, state in found:
          yield _Raw(name, state, told[0], last, told[0], state == 'negative')
        if found:
          told = (told[0], last, told[2])
      if not found:
        if waiting and not _linked(line, waiting[-1][2], first):
          waiting = []
        waiting = [w for w in waiting[-8:]] + [(payload, first, last)]
    elif kind == 'state':
      sign, name, state = payload
      fitting = [w for w in waiting if w[0] == sign]
      if fitting and not _attributive(
          line, anchors, first, last) and (
          first - fitting[-1][2] <= _FAR):
        for _, start, _ in fitting:
          yield _Raw(name, state, start, last, first, True)
        waiting = [w for w in waiting if w[0] != sign]
        told = None
      elif told and told[0] == first:
        told[2].append(payload)
      else:
        told = (first, last, [payload])


def _apart(line: cues.Line, end: int, first: int) -> bool:
  return first - end > _NEAR or ',' in line.words[end:first]


def _linked(line: cues.Line, end: int, first: int) -> bool:
  return first <= end or all(
      w in (',', 'and', 'or', 'the', 'both') for w in line.words[end:first])


def _attributive(line: cues.Line, anchors: list[int], first: int, last: int
                 ) -> bool:
  """Whether a state opens its own phrase: 'heart stable, normal lungs'."""
  k = bisect.bisect_left(anchors, last)
  return (first > 0 and line.words[first - 1] in (',', 'and', 'with')
          and k < len(anchors) and not _apart(line, last, anchors[k]))


def _after(line: cues.Line, raws: list[_Raw]
           ) -> dict[int, tuple[str, tuple[int, int]]]:
  """Maps mentions to the cue behind them that judges them."""
  lasts = [raw.last for raw in raws]
  breaks = [b for _, b in line.of('break')]
  lists = [a for a, _ in line.of(*cues.LISTING)]
  # The last two of a list are joined by a word; after a bare comma the cue
  # judges the last only: 'no pneumothorax, effusion cannot be excluded'.
  joins = [a for a, _ in line.of('and', 'or')]
  verbs = sorted(a for a, _ in line.of('verb', 'with', 'colon', *cues.BEFORE))
  out, before = {}, 0
  for first, last, kind, _ in line.items:
    if kind not in cues.AFTER:
      continue
    k = bisect.bisect_right(breaks, first) - 1
    start = max(before, breaks[k] if k >= 0 else 0)
    n, linked = bisect.bisect_right(lasts, first) - 1, False
    far = last - first == 1 and n >= 0 and first - lasts[n] > _BARE
    while n >= 0 and lasts[n] > start and not far:
      out[n] = kind, (first, last)
      if n and raws[n - 1].last <= raws[n].first:
        gap = raws[n - 1].last, raws[n].first
        if (not cues.within(lists if linked else joins, gap)
            or cues.within(verbs, gap)):
          break
        linked = True
      n -= 1
    before = last
  return out


def _alternatives(line: cues.Line, found: list[Any]) -> list[Any]:
  """Makes affirmed findings uncertain where they are one of two.

  'Or' must have an affirmed finding on both sides, 'versus' on one at least.
  """
  out = list(found)
  lasts = [m[3] for m in found]
  for first, last in line.of('or', 'versus'):
    k = bisect.bisect_right(lasts, first)
    sides = [n for n in (k - 1, k) if 0 <= n < len(found)
             and _beside(line, found[n], first, last)]
    if line.words[first] in ('versus', 'vs') or (
        len(sides) == 2 and found[k - 1][0] != found[k][0]):
      for n in sides:
        out[n] = (found[n][0], 'uncertain', *found[n][2:4], (first, last))
  return out


def _beside(line: cues.Line, mention: Any, first: int, last: int) -> bool:
  """Whether an affirmed mention is next to words [first, last)."""
  _, state, start, end, cue = mention
  gap = (end, first) if end <= first else (last, start)
  return (state == 'positive' and cue is None and 0 <= gap[1] - gap[0] <= _NEAR
          and ',' not in line.words[gap[0]:gap[1]])
