"""Tags in completions given as token ids, over any array namespace.

`xp` is numpy or jax.numpy and is handed in; neither is chosen here. The oracle
is `medrl.rewards.format` on the joined text of the tokens: however a tokenizer
or a policy cuts '</think>' into tokens, and whatever else is in the first and
the last of them ('.</', '>\\n'), the tag is found. Blocks by choice
(`format.blocks`), steps and thoughts have no array form.

Every place looks back over as many tokens as a tag has characters, all places
at once, and adds up what `tag_tables` says of them.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any

from medrl.rewards import format as oracle
from medrl.rewards.array import tag_tables

_LONGEST = 46_000   # T of which 2 T^2 fits in uint32
_PIECES = 4
_ROWS = 256         # completions looked through at a time
_THINK = ('<think>', '</think>')
_ANSWER = ('<answer>', '</answer>')

Fori = Callable[..., Any]
_Groups = tuple[tag_tables.Group, ...]
_Found = tuple[tag_tables.Group, Any, int]


def in_order(ids: Any, lengths: Any, xp: Any, *,
             tags: Sequence[str] = oracle.TAGS,
             vocab: tuple[str, ...] = (), fori: Fori | None = None) -> Any:
  """Returns 1.0 where each tag stands once and in order, else -1.0; [P, G].

  Args:
    ids: int [P, G, T], a completion's tokens from the left.
    lengths: int [P, G]; what follows them is not looked at.
    xp: the array namespace.
    tags: literal strings of up to 16 characters; a tag must not begin as one
      of them ends.
    vocab: each token's text; bytes that are no text by themselves as
      'surrogateescape' decodes them. Ids beyond it are part of no tag.
    fori: None looks through all completions at once; `jax.lax.fori_loop` some
      at a time, which a CPU's cache holds, to the same numbers.

  Raises:
    ValueError: there is no vocabulary, a tag cannot be found so, a token holds
      more than one, or T is above 46,000.
  """
  found = _found(ids, lengths, tuple(tags), vocab, xp, fori)
  return xp.where(_rising([at for _, at, _ in found], ids.shape[-1]), 1.0, -1.0)


def tags(ids: Any, lengths: Any, xp: Any, *, think: bool = True,
         filled: bool = False, vocab: tuple[str, ...] = (),
         fori: Fori | None = None) -> Any:
  """Returns 1.0 where there are a think and an answer block, else 0.0; [P, G].

  Equal to `format.tags`, but for white space that is cut into bytes: like all
  such parts of characters, they are taken for letters.

  Args:
    ids, lengths, xp, vocab, fori: as in `in_order`.
    think: False for an answer block alone.
    filled: each block must hold a letter or digit.

  Raises:
    ValueError: as `in_order`.
  """
  wanted, banned = (_THINK + _ANSWER, ()) if think else (_ANSWER, _THINK)
  found = _found(ids, lengths, wanted + banned, vocab, xp, fori)
  return _shaped(ids, lengths, found, len(wanted), filled, vocab, xp)


def think_after(ids: Any, lengths: Any, xp: Any, *, filled: bool = False,
                vocab: tuple[str, ...] = (), fori: Fori | None = None) -> Any:
  """Returns 1.0 where there are an answer and a think block; rest as `tags`."""
  found = _found(ids, lengths, _ANSWER + _THINK, vocab, xp, fori)
  return _shaped(ids, lengths, found, 4, filled, vocab, xp)


def _rising(places: list[Any], size: int) -> Any:
  """Whether each tag was found once, and behind the one before; [P, G]."""
  right = True
  for before, place in zip([None, *places], places):
    right = right & (place >= size) & (place < 2 * size)
    if before is not None:
      right = right & (before < place)
  return right


def _shaped(ids: Any, lengths: Any, found: list[_Found],
            wanted: int, filled: bool, vocab: tuple[str, ...], xp: Any) -> Any:
  """Whether the first `wanted` tags are blocks, and the others not there."""
  size = ids.shape[-1]
  if not size:
    return xp.zeros(lengths.shape) * 1.0
  right = _rising([at for _, at, _ in found[:wanted]], size)
  for _, at, _ in found[wanted:]:
    right = right & (at == 0)
  # Where a tag is missing, any place will do.
  ends = [xp.where(right, at - size, 0).astype(xp.int32)
          for _, at, _ in found[:wanted]]
  known = _known(ids, vocab, xp)
  starts = [_start(known, end, group, k, xp)
            for end, (group, _, k) in zip(ends, found)]
  text = xp.asarray(tag_tables.text(vocab))[known]
  place = xp.arange(size)
  real = place < lengths[..., None]

  def between(end: Any, start: Any, bit: int) -> Any:
    """Whether there is something from the end of a tag to the next."""
    inside = real & (place > end[..., None]) & (place < start[..., None])
    inner = (inside & _flag(text, bit)).any(-1)
    here = [_flag(_at(text, p, xp), bit + 2 * part) for p, part in (
        (end, tag_tables.BEHIND), (start, tag_tables.BEFORE),
        (start, tag_tables.BETWEEN))]
    return xp.where(end == start, here[2], inner | here[0] | here[1])

  outside = real & ((place < starts[0][..., None])
                    | (place > ends[-1][..., None]))
  stray = (outside & _flag(text, 0)).any(-1)
  stray = stray | _flag(_at(text, starts[0], xp), 2 * tag_tables.BEFORE)
  stray = stray | _flag(_at(text, ends[-1], xp), 2 * tag_tables.BEHIND)
  for end, start in zip(ends[1::2], starts[2::2]):
    stray = stray | between(end, start, 0)
  right = right & ~stray
  if filled:
    for end, start in zip(ends[::2], starts[1::2]):
      right = right & between(end, start, 1)
  return xp.where(right, 1.0, 0.0)


def _found(ids: Any, lengths: Any, wanted: tuple[str, ...],
           vocab: tuple[str, ...], xp: Any,
           fori: Fori | None) -> list[_Found]:
  """Each tag's group, place [P, G] and number in its group.

  The place is the sum of T + t over the tokens t that end the tag: from T to
  2 T - 1 for one of it, more for more, 0 for none. No token ends two tags.
  """
  size = ids.shape[-1]
  if size > _LONGEST:
    raise ValueError(f'{size} tokens: sums of places of more than {_LONGEST} '
                     'overflow; cut the completions')
  groups = tag_tables.groups(wanted, vocab)
  rows = math.prod(lengths.shape)
  ids, sizes = ids.reshape(rows, size), lengths.reshape(rows)
  if fori is None or rows <= _ROWS:
    totals = _of_rows(ids, sizes, groups, xp)
  else:
    totals = _by_blocks(ids, sizes, groups, xp, fori)
  tags_ = [(group, k) for group in groups for k in range(len(group.masks))]
  return [(group, total.reshape(lengths.shape), k)
          for total, (group, k) in zip(totals, tags_)]


def _by_blocks(ids: Any, lengths: Any, groups: _Groups, xp: Any,
               fori: Fori) -> list[Any]:
  """`_of_rows`, some rows at a time."""
  rows, size = ids.shape
  count = -(-rows // _ROWS)
  more = count * _ROWS - rows
  ids = xp.pad(ids, ((0, more), (0, 0))).reshape(count, _ROWS, size)
  lengths = xp.pad(lengths, (0, more)).reshape(count, _ROWS)

  def body(k, out):
    block = _of_rows(xp.take(ids, k, axis=0), xp.take(lengths, k, axis=0),
                     groups, xp)
    return xp.where(xp.arange(count)[:, None] == k, xp.stack(block)[:, None],
                    out)

  number = sum(len(group.masks) for group in groups)
  out = fori(0, count, body, xp.zeros((number, count, _ROWS), xp.uint32))
  return list(out.reshape(number, -1)[:, :rows])


def _of_rows(ids: Any, lengths: Any, groups: _Groups,
             xp: Any) -> list[Any]:
  """Each tag's place, [R] each."""
  vocab = groups[0].kinds.shape[0] - 1
  real = xp.arange(ids.shape[-1]) < lengths[:, None]
  known = xp.where(real & (ids >= 0) & (ids < vocab), ids, vocab)
  out = []
  for group in groups:
    kinds = xp.asarray(group.kinds)[known].astype(xp.int32)
    tables = [xp.asarray(t)[kinds]
              for t in (group.first, group.middle, group.last)]
    out += _totals(tables, group.masks, group.reach, xp)
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
    place = xp.arange(size + start, size + end).astype(xp.uint32)
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
  """Of each tag: `place` where it ends, else 0.

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
    read = here | ((read << (here >> xp.uint32(tag_tables.BITS)))
                   & middle[..., back:back + size])
  here = last[..., reach:]
  done, whole = read & here, here >> xp.uint32(tag_tables.BITS)
  return [xp.where(((done & xp.uint32(mask)) != 0) | (whole == k + 1), place, 0)
          for k, mask in enumerate(masks)]


def _start(known: Any, end: Any, group: tag_tables.Group, k: int,
           xp: Any) -> Any:
  """The token in which tag k begins that ends in token `end`; [P, G]."""
  # Of each token again, as these few are cheaper to look up so.
  first = xp.asarray(group.first[group.kinds])
  last = xp.asarray(group.last[group.kinds])
  start = end
  # From afar to near, as a tag begins at the last '<' before its end.
  for back in range(tag_tables.LONGEST_TAG - 1, 0, -1):
    place = end - back
    token = _at(known, xp.maximum(place, 0), xp)
    begins = (place >= 0) & (first[token] & xp.uint32(group.masks[k]) != 0)
    start = xp.where(begins, place, start)
  whole = last[_at(known, end, xp)] >> xp.uint32(tag_tables.BITS) == k + 1
  return xp.where(whole, end, start)


def _at(values: Any, place: Any, xp: Any) -> Any:
  return xp.take_along_axis(values, place[..., None], -1)[..., 0]


def _flag(values: Any, bit: int) -> Any:
  return (values >> bit) & 1 > 0


def _known(ids: Any, vocab: tuple[str, ...], xp: Any) -> Any:
  return xp.where((ids >= 0) & (ids < len(vocab)), ids, len(vocab))
