"""The ids of a completion's beginning, to score or to go on from.

Sampled ids are kept; only a token that straddles the end is spelt anew. What a
tool said in between is not the completion's and is left out.
"""

import numpy as np

from medrl import types
from medrl.processors import text as text_lib

# Without its '>', which a tokenizer may join with what follows.
OPENED = '<answer'
# Room for a tag and for a straddled token, a byte each at worst.
SPARE = 24


def ids(tokenizer: text_lib.Tokenizer, completion: types.Completion,
        end: int) -> list[int]:
  """Ids of `completion.text[:end]`, as they were sampled where they can be."""
  found, at = [], 0
  for id_, (_, stop) in zip(completion.ids, completion.spans):
    if stop > end:
      break
    found.append(id_)
    at = stop
  return found + tokenizer.encode(completion.text[at:end])


def opening(text: str) -> int:
  """Where the last answer block begins, with its tag; -1 where none does."""
  return text.rfind('<answer>')


def until_answer(tokenizer: text_lib.Tokenizer,
                 completion: types.Completion) -> list[int]:
  """Ids of all that stands before the last answer block."""
  return ids(tokenizer, completion, opening(completion.text))


def padded(found: list[list[list[int]]], room: int):
  """Lists of ids [P][G] -> tokens int32 and mask bool [P, G, room].

  Pads are at the right. What does not fit is left out, as if it were empty:
  its mask says so.
  """
  shape = (len(found), len(found[0]), room)
  tokens, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
  for p, group in enumerate(found):
    for g, row in enumerate(group):
      if len(row) <= room:
        tokens[p, g, :len(row)] = row
        mask[p, g, :len(row)] = True
  return tokens, mask
