"""Records and media to the inputs of Qwen2.5-VL, and sampled ids to text.

Text, places and positions; pixels are in `qwen_patches`. Nothing is padded or
cut to a bucket here.
"""

from collections.abc import Sequence
import functools
import math
from typing import Any, NamedTuple

import numpy as np

from medrl import types
from medrl.processors import qwen_patches
from medrl.processors import template
from medrl.processors import text as text_lib

Grid = qwen_patches.Grid


def positions(ids: Sequence[int], grids: Sequence[Grid], pads: Sequence[int],
              merge: int, ticks: Sequence[Any] = ()) -> np.ndarray:
  """Multimodal rotary positions (Wang et al. 2024, Qwen2-VL, section 2.1).

  Text counts up by one in all three axes. Of an image or a clip the soft tokens
  count rows and columns from where it begins, and time in ticks; what follows
  goes on behind its largest position.

  Args:
    ids: of the prompt, [S].
    grids: of its images and clips in order, in patches.
    pads: the ids that stand for a soft token.
    merge: patches a side of a soft token.
    ticks: of each grid, int [its patches in time] from 0; by default all are
      stills.

  Returns:
    int32 [S, 3]: temporal, row, column.

  Raises:
    ValueError: the soft tokens do not match the grids.
  """
  ids = np.asarray(ids)
  soft = _soft(ids, pads)
  places = np.flatnonzero(soft)
  needed = [g[0] * math.prod(qwen_patches.units(g, merge)) for g in grids]
  if len(places) != sum(needed):
    raise ValueError(f'{len(places)} soft tokens in the prompt; its '
                     f'{len(grids)} images and clips need {sum(needed)}')
  # A text token advances by 1. A medium advances by its largest extent, all of
  # it counted at its last token.
  advance = (~soft).astype(np.int32)
  offset = np.zeros((len(ids), 3), np.int32)
  done = 0
  for which, (grid, count) in enumerate(zip(grids, needed)):
    own = places[done:done + count]
    size = (grid[0], *qwen_patches.units(grid, merge))
    offset[own] = np.indices(size).reshape(3, -1).T
    offset[own, 0] = np.asarray(ticks[which] if ticks else [0])[offset[own, 0]]
    advance[own[-1]] = offset[own].max() + 1
    done += count
  return offset + (np.cumsum(advance) - advance)[:, None].astype(np.int32)


def _soft(ids: np.ndarray, pads: Sequence[int]) -> np.ndarray:
  # Of few pads, and a tenth of the time of np.isin.
  return functools.reduce(np.logical_or, [ids == pad for pad in pads])


class _Rendered(NamedTuple):
  """A prompt's arrays, whatever its pixels: as in Example, and soft places."""
  ids: np.ndarray
  positions: np.ndarray
  soft: np.ndarray


# Prompts of a data set are often the same but for the picture. It saves most of
# what a small picture costs beside its decoding.
@functools.lru_cache(maxsize=1024)
def _render(parts: tuple[tuple[str, bool], ...], grids: tuple[Grid, ...],
            ticks: tuple[tuple[int, ...], ...], tokenizer: text_lib.Tokenizer,
            pads: tuple[int, ...], merge: int) -> _Rendered:
  ids = _tokenise(parts, grids, tokenizer, pads, merge)
  out = _Rendered(ids, positions(ids, grids, pads, merge, ticks),
                  np.flatnonzero(_soft(ids, pads)))
  for array in out:
    array.flags.writeable = False   # it is given out again and again
  return out


def _tokenise(parts: Sequence[tuple[str, bool]], grids: Sequence[Grid],
              tokenizer: text_lib.Tokenizer, pads: Sequence[int],
              merge: int) -> np.ndarray:
  """Ids of the segments, each pad repeated as its image or clip needs."""
  ids = np.array([i for text, markup in parts
                  for i in tokenizer.encode(text, specials=markup)], np.int32)
  soft = _soft(ids, pads)
  if soft.sum() != len(grids):
    raise ValueError(f'the prompt has {soft.sum()} image tokens for '
                     f'{len(grids)} images; is one in the system turn?')
  repeats = np.ones(len(ids), int)
  repeats[soft] = [g[0] * math.prod(qwen_patches.units(g, merge))
                   for g in grids]
  return np.repeat(ids, repeats)


def _cut(medium, layout: types.Layout) -> list[tuple[str, tuple]]:
  """(kind, (patches, grid, ticks)) of each picture or clip of a medium."""
  if isinstance(medium, types.Signal):
    raise ValueError(
        f'a signal of leads {medium.leads}: this family has no encoder for it; '
        f'draw it (loader medrl.media.ecg_paper.load)')
  if isinstance(medium, types.Clip):
    values, grid, ticks = qwen_patches.patchify_clip(medium, layout)
    return [('video', (values, grid, tuple(ticks.tolist())))]
  stills = medium if isinstance(medium, tuple) else (medium,)
  return [('image', (*qwen_patches.patchify(still, layout), (0,)))
          for still in stills]


def encode(record: types.Record, media: Sequence[Any],
           tokenizer: text_lib.Tokenizer, layout: types.Layout,
           prompt: template.Prompt) -> types.Example:
  """Renders, tokenises and packs one record; media are never cut.

  Args:
    record: to be asked.
    media: what the loaders of the record's media gave, in order: an image uint8
      [h, w, 3], a tuple of them (each an image of its own), or a Clip.
    tokenizer: of the checkpoint.
    layout: of the family.
    prompt: what is said around the record.

  Returns:
    An Example whose `media` has 'image', the one stream of images and clips,
    when there are any.

  Raises:
    ValueError: a medium or text that cannot be encoded, with the record's id.
  """
  try:
    cut = [c for medium in media for c in _cut(medium, layout)]
    patches = [(values, grid) for _, (values, grid, _) in cut]
    parts = template.segments(record, [kind for kind, _ in cut], prompt)
    pads = tuple(tokenizer.id(layout.specials[role])
                 for role in ('image_pad', 'video_pad'))
    rendered = _render(
        tuple(parts), tuple(grid for _, grid in patches),
        tuple(ticks for _, (_, _, ticks) in cut), tokenizer, pads, layout.merge)
    streams = {}
    if patches:
      streams['image'] = qwen_patches.pack(patches, layout, rendered.soft,
                                           len(rendered.ids))
    target = []
    if record.demonstration:
      target = [*tokenizer.encode(record.demonstration),
                tokenizer.id(layout.specials['im_end'])]
  except ValueError as error:
    raise ValueError(f'record {record.id!r}: {error}') from error
  return types.Example(
      record=record, ids=rendered.ids, positions=rendered.positions,
      media=streams, target=np.array(target, np.int32),
      prompt=''.join(text for text, _ in parts))


def decode(ids: Sequence[int], tokenizer: text_lib.Tokenizer,
           stop_ids: Sequence[int]) -> types.Completion:
  """A completion from sampled ids, cut before the first stop id."""
  ids = [int(i) for i in ids]
  end = next((n for n, i in enumerate(ids) if i in stop_ids), len(ids))
  finish = 'stop' if end < len(ids) else 'length'
  text, spans = tokenizer.spans(ids[:end])
  return types.Completion(text=text, ids=tuple(ids[:end]), spans=tuple(spans),
                          finish=finish)


def bucket_need(example: types.Example,
                layout: types.Layout) -> tuple[int, int]:
  """The prompt length S and the patches N that a bucket must hold."""
  del layout  # asked for by families whose patches are packed per batch
  patches = example.media['image'].window if 'image' in example.media else ()
  return len(example.ids), len(patches)
