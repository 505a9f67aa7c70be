"""Character spans that earned something -> the sampled tokens they are in.

The tokens are those that the policy drew, by `Completion.spans`; text is never
tokenised again. What the values are for is the trainer's affair.
"""

from collections.abc import Sequence

import numpy as np

from medrl import types


def token_credit(completion: types.Completion,
                 spans: Sequence[tuple[int, int, float]]) -> np.ndarray:
  """Returns the value of the span that each token belongs to.

  A token belongs to a span if it overlaps it by a character; of several, to
  the one it overlaps most; if equal (one lies in the other), to the shorter
  one, then to the one that starts first, then to the one of smaller value, so
  that the order of `spans` makes no difference. A token that holds a part of a
  character counts as holding all of it, as `Completion.spans` says, so each of
  the tokens that make up one character belongs to that character's span. A
  token without text (an added token) belongs to none.

  Args:
    completion: with ids, and their character ranges, ascending.
    spans: (start, end, value), `0 <= start <= end <= len(text)`; they may
      overlap, and an empty one has no token.

  Returns:
    float32 [len(ids)], NaN for tokens that belong to no span.

  Raises:
    ValueError: a span lies outside of the text, or ids and ranges differ in
      number.
  """
  size = len(completion.ids)
  if len(completion.spans) != size:
    raise ValueError(f'{size} ids with {len(completion.spans)} character '
                     'ranges; expected as many, as the processor decodes them')
  ranges = np.asarray(completion.spans, np.int64).reshape(size, 2)
  starts, ends = ranges[:, 0], ranges[:, 1]
  credit = np.full(size, np.nan, np.float32)
  most = np.zeros(size, np.int64)
  for start, end, value in sorted(spans, key=_rank):
    if not 0 <= start <= end <= len(completion.text):
      raise ValueError(f'span ({start}, {end}) of a text of '
                       f'{len(completion.text)} characters; expected '
                       '0 <= start <= end <= length')
    # Ranges ascend at both ends, so those that overlap lie side by side.
    part = slice(np.searchsorted(ends, start, 'right'),
                 np.searchsorted(starts, end, 'left'))
    shared = (np.minimum(ends[part], end) - np.maximum(starts[part], start))
    more = shared > most[part]
    credit[part][more] = value
    most[part][more] = shared[more]
  return credit


def _rank(span: tuple[int, int, float]) -> tuple[int, int, float]:
  start, end, value = span
  return end - start, start, value
