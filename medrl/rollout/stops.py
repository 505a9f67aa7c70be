"""Stop strings, found on the device whatever tokens they are written in.

An automaton over bytes (Aho and Corasick, 1975) becomes a table from a state
and a token's bytes to the next state, so a string is found as in the bytes of
the whole completion, though it begins or ends within a token. Built on the host
with NumPy, read on the device. What to do when one is found is the sampler's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np


class Stops(NamedTuple):
  """State 0 has seen nothing; an accepting state is never left."""
  table: Any    # int16 [states, V]: the state behind a token
  accept: Any   # bool [states]: one of the strings has been written


def build(strings: Sequence[str], token_bytes: Sequence[bytes]) -> Stops:
  """The automaton of some strings over a tokenizer's ids.

  Args:
    strings: not empty ones; they are looked for as UTF-8.
    token_bytes: of each id in [0, V), b'' for one that no text shows, which
      leaves the state as it is.

  Raises:
    ValueError: a string is empty or a lone surrogate, or there are more bytes
      in them than int16 can number.
  """
  if not all(strings):
    raise ValueError(f'stop strings {list(strings)} must not hold an empty one')
  step, accept = _automaton([s.encode() for s in strings])
  lengths = np.array([len(b) for b in token_bytes], np.int32)
  # Longest first, so that those that have a k-th byte are a slice.
  order = np.argsort(-lengths, kind='stable')
  text = np.frombuffer(b''.join(token_bytes), np.uint8)
  begin = (np.cumsum(lengths) - lengths)[order]
  reached = np.repeat(np.arange(len(step), dtype=np.int16)[:, None],
                      len(lengths), axis=1)
  for k in range(lengths.max(initial=0)):
    count = int(np.sum(lengths > k))
    reached[:, :count] = step[reached[:, :count], text[begin[:count] + k]]
  table = np.empty_like(reached)
  table[:, order] = reached
  return Stops(table, accept)


def _automaton(strings: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
  """Next state int16 [states, 256] by byte, and whether a state accepts."""
  children, ends = [{}], [False]
  for string in strings:
    state = 0
    for byte in string:
      if byte not in children[state]:
        children[state][byte] = len(children)
        children.append({})
        ends.append(False)
      state = children[state][byte]
    ends[state] = True
  if len(children) > np.iinfo(np.int16).max:
    raise ValueError(f'stop strings of {len(children)} states; int16 numbers '
                     f'{np.iinfo(np.int16).max}: give fewer or shorter ones')
  step = np.zeros((len(children), 256), np.int16)
  accept = np.array(ends)
  # By depth: where a state has no child, it goes on as does the longest of its
  # own ends that is the beginning of a string.
  queue = [(0, 0)]
  for state, shorter in queue:
    accept[state] |= accept[shorter]
    step[state] = step[shorter]
    for byte, child in children[state].items():
      queue.append((child, int(step[shorter][byte]) if state else 0))
      step[state, byte] = child
  step[accept] = np.flatnonzero(accept)[:, None]
  return step, accept


def advance(table, state, token):
  """The state int32 [...] behind a token int32 [...]; of each row alone.

  Args:
    table: int16 [states, V], `Stops.table`.
    state: int32 [...], 0 at a completion's start.
    token: in [0, V).
  """
  return jnp.asarray(table)[state, token].astype(jnp.int32)
