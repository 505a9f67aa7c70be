"""Several examples in a row, prompt and demonstration behind each other.

Supervised rows of one example are mostly padding; packed, they hold as many as
fit. A batch holds the same records packed or not, so packing changes no loss.
It is done after the iterator, since it needs a whole batch. Prompts that wait
for completions are not packed.
"""

from collections.abc import Sequence

import numpy as np

from medrl import types
from medrl.data import batching


def best_fit(sizes: Sequence[tuple[int, int]],
             room: tuple[int, int]) -> list[list[int]]:
  """Best-fit decreasing (Johnson 1973): the largest first, each into the row
  that it fills most.

  Args:
    sizes: (tokens, patches) of each example.
    room: (tokens, patches) of a row; 0 patches holds examples without any.

  Returns:
    rows of indices into `sizes`.

  Raises:
    ValueError: an example that no row holds.
  """
  def share(size):
    return max(n / max(r, 1) for n, r in zip(size, room))
  rows, left = [], []
  for index in sorted(range(len(sizes)), key=lambda i: -share(sizes[i])):
    size = sizes[index]
    fits = [row for row, free in enumerate(left)
            if size[0] <= free[0] and size[1] <= free[1]]
    if not fits:
      if size[0] > room[0] or size[1] > room[1]:
        raise ValueError(f'an example of {size[0]} tokens and {size[1]} patches'
                         f' is larger than a row of {room[0]} and {room[1]}')
      fits = [len(rows)]
      rows.append([])
      left.append(room)
    row = min(fits, key=lambda r: share(left[r]))
    rows[row].append(index)
    left[row] = (left[row][0] - size[0], left[row][1] - size[1])
  return rows


def size(example: types.Example) -> tuple[int, int]:
  """(tokens, patches) that an example takes of a row."""
  tokens, patches = batching.need(example)
  return tokens + len(example.target), patches


def pack(examples: Sequence[types.Example], counts: Sequence[int],
         settings: batching.Settings,
         agree: batching.Agree | None = None) -> types.Packed:
  """Packs a batch into the smallest declared number of rows that holds it.

  Args:
    examples: of this process, with targets.
    counts: declared numbers of rows of this process, growing; the last is at
      least the number of examples, so there is always one that holds them.
    settings: of the pipeline; `room` is that of a row.
    agree: over several processes, see `batching.bucket_for`.
  """
  rows = best_fit([size(e) for e in examples], settings.room)
  least = next(i for i, count in enumerate(counts) if count >= len(rows))
  count = counts[agree(least) if agree else least]
  joined = [_join([examples[i] for i in row]) for row in rows]
  nothing = _join([])
  joined += [nothing] * (count - len(joined))
  tokens = settings.room[0]
  prompt = batching.stack([whole for whole, _, _ in joined], settings.room,
                          settings)
  def padded(rows, dtype):
    return np.stack([np.pad(np.asarray(row, dtype), (0, tokens - len(row)))
                     for row in rows])
  return types.Packed(prompt, padded([s for _, s, _ in joined], np.int32),
                      padded([t for _, _, t in joined], bool))


def _join(examples: Sequence[types.Example]):
  """Examples as one: it, the segment of each token, whether it is learned."""
  ids, positions, segments, target, streams = [], [], [], [], {}
  start = 0
  for number, example in enumerate(examples, 1):
    prompt, answer = len(example.ids), len(example.target)
    ids += [example.ids, example.target]
    reach = example.positions.max() + 1
    written = np.repeat(reach + np.arange(answer)[:, None], 3, axis=1)
    positions += [example.positions, written]
    segments += [number] * (prompt + answer)
    target += [False] * prompt + [True] * answer
    for name, patches in example.media.items():
      streams.setdefault(name, []).append(_shifted(patches, start, prompt))
    start += prompt + answer
  media = {name: _concatenated(parts, start) for name, parts in streams.items()}
  whole = types.Example(
      record=None, media=media,
      ids=np.concatenate([np.zeros(0, np.int32), *ids]),
      positions=np.concatenate([np.zeros((0, 3), np.int32), *positions]))
  return whole, segments, target


def _shifted(patches: types.Patches, start: int, length: int) -> types.Patches:
  """Patches of an example that begins at `start` in its row; -1 for a slot
  that only fills its window."""
  slot = np.where(patches.slot >= length, -1, patches.slot + start)
  return patches._replace(slot=slot)


def _concatenated(parts: Sequence[types.Patches], length: int) -> types.Patches:
  """Streams behind each other, windows and images numbered on."""
  window, image = [], []
  for part in parts:
    for numbers, found in (window, part.window), (image, part.image):
      last = numbers[-1].max() if numbers else 0
      numbers.append(np.where(found > 0, found + last, 0))
  slot = np.concatenate([part.slot for part in parts])
  frames = max(part.values.shape[1] for part in parts)
  values = [np.broadcast_to(v, (len(v), frames, v.shape[2]))
            for v in (part.values for part in parts)]
  return types.Patches(
      np.concatenate(values),
      np.concatenate([part.coords for part in parts]),
      np.concatenate(window), np.concatenate(image),
      np.where(slot < 0, length, slot))
