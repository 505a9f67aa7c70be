"""What the tokens of a vocabulary are to some tags, as tables; on the host.

Looks at no completion: that is for `array.tags`. A token says, for each tag,
which beginnings of it the token ends with (first), which parts of it the token
is (middle), and which ends of it the token begins with (last): a bit for each
number of characters read so far.
"""

import functools
from typing import NamedTuple

import numpy as np

from medrl.rewards import format as oracle

BITS = 28          # of a group's 32; the other 4 hold a length and a tag
LONGEST_TAG = 16
# Of a token's text, or of its part before the last '<', behind the first '>',
# or between the first '>' and the last '<': something, a letter or digit.
WHOLE, BEFORE, BEHIND, BETWEEN = 0, 1, 2, 3


class Group(NamedTuple):
  """What the tokens of a vocabulary are to some tags.

  Few tokens are anything to them, so that there are few kinds of tokens, K.
  """
  kinds: np.ndarray    # int [V + 1]: of which kind a token is
  first: np.ndarray    # uint32 [K]; the upper 4 bits are the token's length
  middle: np.ndarray   # uint32 [K]
  last: np.ndarray     # uint32 [K]; upper 4 bits: 1 + the tag whole in it
  masks: tuple[int, ...]   # the bits of each tag
  reach: int               # tokens that the longest may begin before its last


@functools.lru_cache(maxsize=16)
def groups(wanted: tuple[str, ...],
           vocab: tuple[str, ...]) -> tuple[Group, ...]:
  """Returns the tables of some tags, in groups whose bits fit into a word.

  Raises:
    ValueError: there is no vocabulary; a tag is empty, part of another, longer
      than 16 characters, or begins as one of them ends; or a token holds one
      whole and a part of another.
  """
  oracle.check_tags(wanted)
  if not vocab:
    raise ValueError('tags are found by the text of each token: give `vocab`')
  for a in wanted:
    if len(a) > LONGEST_TAG or any(
        a[-size:] == b[:size] for b in wanted
        for size in range(1, min(len(a), len(b)) + (a != b))):
      raise ValueError(f'tag {a!r} of {wanted!r} is longer than {LONGEST_TAG} '
                       'characters, or one begins as it ends')
  begin = tuple(tag[:j] for tag in wanted for j in range(1, len(tag)))
  finish = tuple(tag[j:] for tag in wanted for j in range(1, len(tag)))
  for w in vocab:
    count = sum(map(w.count, wanted))
    part = w not in wanted and (w.endswith(begin) or w.startswith(finish))
    if count > 1 or (count and part):
      raise ValueError(f'token {w!r} of the vocabulary holds one of {wanted!r} '
                       'and a part of another')
  out, some = [], []
  for tag in wanted:
    if sum(len(t) - 1 for t in [*some, tag]) > BITS or len(some) == 15:
      out.append(some)
      some = []
    some.append(tag)
  return tuple(_group(tuple(some), vocab) for some in [*out, some])


def _group(wanted: tuple[str, ...], vocab: tuple[str, ...]) -> Group:
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
    out[0, number] |= min(len(w), 15) << BITS
    out[2, number] |= sum(whole) << BITS
  masks, used = [], 0
  for tag in wanted:
    masks.append((2**(len(tag) - 1) - 1) << used)
    used += len(tag) - 1
  tables, kinds = np.unique(out, axis=1, return_inverse=True)
  kinds = kinds.reshape(-1).astype(np.min_scalar_type(tables.shape[1]))
  return Group(kinds, *tables, tuple(masks), max(map(len, wanted)) - 1)


@functools.lru_cache(maxsize=16)
def text(vocab: tuple[str, ...]) -> np.ndarray:
  """uint8 [V + 1]: two bits for a token and three parts of it."""
  out = np.zeros(len(vocab) + 1, np.uint8)
  for number, w in enumerate(vocab):
    before, behind = w.rfind('<'), w.find('>')
    parts = {WHOLE: w, BEFORE: w[:max(before, 0)], BEHIND: w[behind + 1:],
             BETWEEN: w[behind + 1:max(before, behind + 1)]}
    for part, piece in parts.items():
      letter = any(c.isalnum() or '\udc80' <= c <= '\udcff' for c in piece)
      out[number] |= ((2 if letter else 0) | bool(piece.strip())) << 2 * part
  return out
