"""Tags in completions given as token ids, over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.format` on the joined text of the tokens: however a tokenizer
or a policy cuts '</think>' into tokens, and whatever else is in the first and
the last of them ('.</', '>\\n'), the tag is found. Blocks by choice
(`format.blocks`), steps and thoughts have no array form.

Each token says, for each tag, which beginnings of it the token ends with
(first), which parts of it the token is (middle), and which ends of it the token
begins with (last): a bit for each number of characters read so far. Every place
looks back over as many tokens as a tag has characters, all places at once.
"""

from collections.abc import Sequence
import functools
from typing import Any, NamedTuple

import numpy as np

from medrl.rewards import format as oracle

_BITS = 28          # of a group's 32; the other 4 hold a length and a tag
_LONGEST_TAG = 16
_LONGEST = 23_000   # T of which 8 T^2 fits in uint32
_PIECES = 4
_THINK = ('<think>', '</think>')
_ANSWER = ('<answer>', '</answer>')
# Of a token's text, or of its part before the last '<', behind the first '>',
# or between the first '>' and the last '<': something, a letter or digit.
_WHOLE, _BEFORE, _BEHIND, _BETWEEN = 0, 1, 2, 3


class _Group(NamedTuple):
  """What the tokens of a vocabulary are to some tags; uint32 [V + 1] each."""
  first: Any     # and in the upper 4 bits the token's length
  middle: Any
  last: Any      # and in the upper 4 bits 1 + the tag that is whole in it
  masks: tuple[int, ...]   # the bits of each tag


def in_order(ids: Any, lengths: Any, xp: Any, *,
             tags: Sequence[str] = oracle.TAGS,
             vocab: tuple[str, ...] = ()) -> Any:
  """Returns 1.0 where each tag stands once and in order, else -1.0; [P, G].

  Args:
    ids: int [P, G, T], a completion's tokens from the left.
    lengths: int [P, G]; what follows them is not looked at.
    xp: the array namespace.
    tags: literal strings of up to 16 characters; a tag must not begin as one
      of them ends.
    vocab: each token's text; bytes that are no text by themselves as
      'surrogateescape' decodes them. Ids beyond it are part of no tag.

  Raises:
    ValueError: there is no vocabulary, a tag cannot be found so, a token holds
      more than one, or T is above 23,000.
  """
  found = _found(ids, lengths, tuple(tags), vocab, xp)
  return xp.where(_rising([at for _, at, _ in found], ids.shape[-1]), 1.0, -1.0)


def tags(ids: Any, lengths: Any, xp: Any, *, think: bool = True,
         filled: bool = False, vocab: tuple[str, ...] = ()) -> Any:
  """Returns 1.0 where there are a think and an answer block, else 0.0; [P, G].

  Equal to `format.tags`, where it matters if white space, letters and digits
  are whole tokens: of those cut into bytes, the parts count as letters.

  Args:
    ids, lengths, xp, vocab: as in `in_order`.
    think: False for an answer block alone.
    filled: each block must hold a letter or digit.

  Raises:
    ValueError: as `in_order`.
  """
  if think:
    return _shaped(ids, lengths, _THINK + _ANSWER, (), filled, vocab, xp)
  return _shaped(ids, lengths, _ANSWER, _THINK, filled, vocab, xp)


def think_after(ids: Any, lengths: Any, xp: Any, *, filled: bool = False,
                vocab: tuple[str, ...] = ()) -> Any:
  """Returns 1.0 where there are an answer and a think block; rest as `tags`."""
  return _shaped(ids, lengths, _ANSWER + _THINK, (), filled, vocab, xp)


def _rising(places: list[Any], size: int) -> Any:
  """Whether each tag was found once, and behind the one before; [P, G]."""
  right = True
  for before, place in zip([None, *places], places):
    right = right & (place >= 2 * size) & (place < 4 * size)
    if before is not None:
      right = right & (before < place)
  return right


def _shaped(ids: Any, lengths: Any, wanted: tuple[str, ...],
            banned: tuple[str, ...], filled: bool, vocab: tuple[str, ...],
            xp: Any) -> Any:
  found = _found(ids, lengths, wanted + banned, vocab, xp)
  size = ids.shape[-1]
  if not size:
    return xp.zeros(lengths.shape) * 1.0
  right = _rising([at for _, at, _ in found[:len(wanted)]], size)
  for _, at, _ in found[len(wanted):]:
    right = right & (at == 0)
  # Where a tag is missing, any place will do.
  ends = [xp.where(right, at // 2 - size, 0).astype(xp.int32)
          for _, at, _ in found[:len(wanted)]]
  known = _known(ids, vocab, xp)
  starts = [_start(known, end, group, k, xp)
            for end, (group, _, k) in zip(ends, found)]
  text = xp.asarray(_text(vocab))[known]
  place = xp.arange(size)
  real = place < lengths[..., None]

  def between(end: Any, start: Any, bit: int) -> Any:
    """Whether there is something from the end of a tag to the next."""
    inside = real & (place > end[..., None]) & (place < start[..., None])
    inner = (inside & _flag(text, bit)).any(-1)
    here = [_flag(_at(text, p, xp), bit + 2 * part) for p, part in (
        (end, _BEHIND), (start, _BEFORE), (start, _BETWEEN))]
    return xp.where(end == start, here[2], inner | here[0] | here[1])

  outside = real & ((place < starts[0][..., None])
                    | (place > ends[-1][..., None]))
  stray = (outside & _flag(text, 0)).any(-1)
  stray = stray | _flag(_at(text, starts[0], xp), 2 * _BEFORE)
  stray = stray | _flag(_at(text, ends[-1], xp), 2 * _BEHIND)
  for end, start in zip(ends[1::2], starts[2::2]):
    stray = stray | between(end, start, 0)
  right = right & ~stray
  if filled:
    for end, start in zip(ends[::2], starts[1::2]):
      right = right & between(end, start, 1)
  return xp.where(right, 1.0, 0.0)


def _found(ids: Any, lengths: Any, wanted: tuple[str, ...],
           vocab: tuple[str, ...], xp: Any) -> list[tuple[_Group, Any, int]]:
  """Each tag's group, place [P, G] and number in its group.

  The place is the sum, over tokens t that end the tag, of 2 T + 2 t, and 1 if
  it is whole in t: from 2 T to below 4 T for one of it, 0 for none.
  """
  size = ids.shape[-1]
  if size > _LONGEST:
    raise ValueError(f'{size} tokens: sums of places of more than {_LONGEST} '
                     'overflow; cut the completions')
  groups = _groups(wanted, vocab)
  real = xp.arange(size) < lengths[..., None]
  known = xp.where(real, _known(ids, vocab, xp), len(vocab))
  reach = max(map(len, wanted)) - 1
  out = []
  for group in groups:
    tables = [xp.asarray(t)[known] for t in group[:3]]
    totals = _totals(tables, group.masks, reach, xp)
    out += [(group, total, k) for k, total in enumerate(totals)]
  return out


def _totals(tables: list[Any], masks: tuple[int, ...], reach: int,
            xp: Any) -> list[Any]:
  size = tables[0].shape[-1]
  # Nothing was read before the first token.
  ahead = [(0, 0)] * (tables[0].ndim - 1) + [(reach, 0)]
  piece = max(-(-size // _PIECES), 1, reach)
  sums: list[Any] = [0] * len(masks)
  totals: list[Any] = [0] * len(masks)
  for start in range(0, size, piece):
    end = min(start + piece, size)
    some = [t[..., start - reach:end] if start else xp.pad(t[..., :end], ahead)
            for t in tables]
    place = xp.arange(start, end).astype(xp.uint32) * 2 + 2 * size
    found = _ending(some, masks, place, xp)
    # Added before the sum, since XLA on CPU writes what it sums up to memory.
    if end - start == piece:
      sums = [a + b for a, b in zip(sums, found)]
    else:
      totals = [b.sum(-1) for b in found]
  zero = xp.zeros(tables[0].shape[:-1], xp.uint32)
  return [total + (zero if isinstance(some, int) else some.sum(-1))
          for total, some in zip(totals, sums)]


def _ending(tables: list[Any], masks: tuple[int, ...], place: Any,
            xp: Any) -> list[Any]:
  """Of each tag: `place` (+ 1 if whole) where it ends, else 0.

  The tables hold as many tokens more than `place`, before it, as a tag may
  reach back.
  """
  first, middle, last = tables
  size = place.shape[-1]
  reach = first.shape[-1] - size
  read = xp.zeros((), xp.uint32)   # characters read, before the token
  for back in range(reach):
    here = first[..., back:back + size]
    # What is above the bits of characters only ever moves up and out.
    read = here | ((read << (here >> xp.uint32(_BITS)))
                   & middle[..., back:back + size])
  here = last[..., reach:]
  done, whole = read & here, here >> xp.uint32(_BITS)
  return [xp.where((done & xp.uint32(mask)) != 0, place, 0)
          + xp.where(whole == k + 1, place + 1, 0)
          for k, mask in enumerate(masks)]


def _start(known: Any, end: Any, group: _Group, k: int, xp: Any) -> Any:
  """The token in which tag k begins that ends in token `end`; [P, G]."""
  first, last = xp.asarray(group.first), xp.asarray(group.last)
  start = end
  # From afar to near, as a tag begins at the last '<' before its end.
  for back in range(_LONGEST_TAG - 1, 0, -1):
    place = end - back
    token = _at(known, xp.maximum(place, 0), xp)
    begins = (place >= 0) & (first[token] & xp.uint32(group.masks[k]) != 0)
    start = xp.where(begins, place, start)
  whole = last[_at(known, end, xp)] >> xp.uint32(_BITS) == k + 1
  return xp.where(whole, end, start)


def _at(values: Any, place: Any, xp: Any) -> Any:
  return xp.take_along_axis(values, place[..., None], -1)[..., 0]


def _flag(values: Any, bit: int) -> Any:
  return (values >> bit) & 1 > 0


def _known(ids: Any, vocab: tuple[str, ...], xp: Any) -> Any:
  return xp.where((ids >= 0) & (ids < len(vocab)), ids, len(vocab))


@functools.lru_cache(maxsize=16)
def _groups(wanted: tuple[str, ...],
            vocab: tuple[str, ...]) -> tuple[_Group, ...]:
  oracle.check_tags(wanted)
  if not vocab:
    raise ValueError('tags are found by the text of each token: give `vocab`')
  for a in wanted:
    if len(a) > _LONGEST_TAG or any(
        a[-size:] == b[:size] for b in wanted
        for size in range(1, min(len(a), len(b)) + (a != b))):
      raise ValueError(f'tag {a!r} of {wanted!r} is longer than {_LONGEST_TAG} '
                       'characters, or one begins as it ends')
  groups, some = [], []
  for tag in wanted:
    if sum(len(t) - 1 for t in [*some, tag]) > _BITS:
      groups.append(some)
      some = []
    some.append(tag)
  begin = tuple(tag[:j] for tag in wanted for j in range(1, len(tag)))
  finish = tuple(tag[j:] for tag in wanted for j in range(1, len(tag)))
  for w in vocab:
    count = sum(map(w.count, wanted))
    part = w not in wanted and (w.endswith(begin) or w.startswith(finish))
    if count > 1 or (count and part):
      raise ValueError(f'token {w!r} of the vocabulary holds one of {wanted!r} '
                       'and a part of another')
  return tuple(_group(tuple(some), vocab) for some in [*groups, some])


def _group(wanted: tuple[str, ...], vocab: tuple[str, ...]) -> _Group:
  cuts = [(tag, j) for tag in wanted for j in range(1, len(tag))]
  begin = tuple(tag[:j] for tag, j in cuts)
  finish = tuple(tag[j:] for tag, j in cuts)
  parts = {tag[i:j] for tag, j in cuts for i in range(1, j + 1)}
  out = np.zeros((3, len(vocab) + 1), np.uint32)
  for number, w in enumerate(vocab):
    if not (w in parts or w.endswith(begin) or w.startswith(finish)
            or any(tag in w for tag in wanted)):
      continue
    for bit, (tag, j) in enumerate(cuts):
      reads = j > len(w) and tag[j - len(w):j] == w
      for row, holds in enumerate((w.endswith(tag[:j]), reads,
                                   w.startswith(tag[j:]))):
        out[row, number] |= holds << bit
    whole = [k + 1 for k, tag in enumerate(wanted) if tag in w]
    # A longer token is no part of a tag, and its length does not matter.
    out[0, number] |= min(len(w), 15) << _BITS
    out[2, number] |= sum(whole) << _BITS
  masks, used = [], 0
  for tag in wanted:
    masks.append((2**(len(tag) - 1) - 1) << used)
    used += len(tag) - 1
  return _Group(*out, tuple(masks))


@functools.lru_cache(maxsize=16)
def _text(vocab: tuple[str, ...]) -> np.ndarray:
  """uint8 [V + 1]: two bits for a token and three parts of it."""
  out = np.zeros(len(vocab) + 1, np.uint8)
  for number, w in enumerate(vocab):
    before, behind = w.rfind('<'), w.find('>')
    parts = {_WHOLE: w, _BEFORE: w[:max(before, 0)], _BEHIND: w[behind + 1:],
             _BETWEEN: w[behind + 1:max(before, behind + 1)]}
    for part, piece in parts.items():
      letter = any(c.isalnum() or '\udc80' <= c <= '\udcff' for c in piece)
      out[number] |= ((2 if letter else 0) | bool(piece.strip())) << 2 * part
  return out
