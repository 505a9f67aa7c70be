"""A page of records to look at: media, options, answers and boxes.

One HTML file that needs nothing beside it and runs nothing; all text is
escaped. Pictures and reports are a patient's, so only the owner may read the
file. Patients, studies, institutions and dates are left out.
"""

import base64
from collections.abc import Iterable
import html
import io
import json
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from medrl import lookup
from medrl import types
from medrl.media import masks as masks_lib
from medrl.media import medium
from medrl.rewards import masks as mask_rewards

STILLS = 9       # of a medium that are shown
# Pictures of a card at most -> pixels of their longer side, and those that it
# takes on the page.
_SIDES = {1: (336, 336), 2: (336, 172), 1_000: (224, 112)}
_WORDS = 1600    # characters of a question or answer that are shown
_SHORT = 300     # characters of a question that is set in bold
_POINT = 3       # pixels from a point to the edges of its mark
_SECONDS = 10    # of a signal that are drawn
_SAMPLES = 1000  # points of a lead that are drawn

# Nothing may be loaded or run, whatever a record holds.
_HEAD = '''<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ margin: 0; padding: 24px; background: #f3f4f6; color: #1b1f24;
  font: 14px/1.45 system-ui, "Segoe UI", Roboto, sans-serif }}
h1 {{ font-size: 20px; margin: 0 0 4px }}
.note {{ color: #59636e; margin: 0 0 20px; white-space: pre-line }}
main {{ display: grid; gap: 16px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(380px, 1fr)) }}
article {{ background: #fff; border: 1px solid #d5d9de; border-radius: 8px;
  overflow: hidden }}
.media {{ background: #14171a; padding: 8px; display: flex; flex-wrap: wrap;
  gap: 6px; justify-content: center }}
figure {{ margin: 0; text-align: center }}
img {{ display: block; max-width: 100% }}
svg {{ display: block; background: #fff; border-radius: 3px; width: 100% }}
figure.wide {{ flex: 1 1 100% }}
figcaption {{ color: #b6bdc5; font-size: 11px; margin-top: 2px }}
.text {{ padding: 12px 14px }}
.tags span {{ background: #e7ebf0; border-radius: 9px; padding: 1px 8px;
  margin-right: 5px; font-size: 12px; color: #39424c }}
.question {{ margin: 9px 0 6px; font-weight: 600; white-space: pre-wrap;
  overflow-wrap: anywhere }}
.long {{ font-weight: 400 }}
ul {{ list-style: none; margin: 0; padding: 0 }}
li {{ padding: 2px 8px; border-radius: 4px; overflow-wrap: anywhere }}
.right {{ background: #dcf3e2; color: #0c5426; font-weight: 600 }}
.answer {{ display: inline-block; padding: 2px 8px; border-radius: 4px;
  white-space: pre-wrap; overflow-wrap: anywhere }}
.hidden {{ color: #59636e; font-style: italic }}
.broken {{ background: #fdeceb; color: #8c1d18; padding: 8px 14px;
  overflow-wrap: anywhere }}
.id {{ color: #7a838d; font: 11px ui-monospace, monospace; margin-top: 9px;
  overflow-wrap: anywhere }}
</style></head><body>
'''


def write(path: str | os.PathLike, records: Iterable[tuple[str, types.Record]],
          root: str, *, title: str, note: str = '') -> int:
  """Writes a page that its owner alone may read (mode 0600).

  Args:
    path: of the file; one that is there is replaced.
    records: (split, record), a card each in this order.
    root: data root of the media.
    title: of the page.
    note: lines below the title.

  Returns:
    Records with a medium that could not be shown; their cards say why.
  """
  path = pathlib.Path(path)
  cards = [_card(split, record, root) for split, record in records]
  text = ''.join([
      _HEAD.format(title=_text(title)), f'<h1>{_text(title)}</h1>\n',
      f'<p class="note">{_text(note)}</p>\n<main>\n',
      *(card for card, _ in cards), '</main></body></html>\n'])
  path.unlink(missing_ok=True)
  # Made as 0600, as a mode that is set later leaves a moment to open it.
  handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  with open(handle, 'w', encoding='utf-8', errors='replace') as file:
    file.write(text)
  return sum(not good for _, good in cards)


def _card(split: str, record: types.Record, root: str) -> tuple[str, bool]:
  """(HTML of a record, whether all of it could be shown)."""
  loaded, faults = [], []
  for one in record.media:
    try:
      value = lookup.resolve(one.loader)(one.path, root, **one.options)
      loaded.append((value, medium.stills(value)))
    # A page of records is where broken ones are looked for.
    except Exception as error:
      loaded.append((None, []))
      faults.append(f'{one.path}: {type(error).__name__}: {error}')
  count = sum(min(len(stills), STILLS) for _, stills in loaded)
  sides = next(sides for most, sides in _SIDES.items() if count <= most)
  marks = [], []
  try:
    if loaded and loaded[0][1]:
      marks = _marks(record, loaded[0][1][0].shape)
  except (TypeError, ValueError) as error:
    faults.append(f'marks: {error}')
  figures = [figure for number, (value, stills) in enumerate(loaded)
             for figure in _figures(value, stills, sides,
                                    ([], []) if number else marks)]
  return _page_part(split, record, figures, faults), not faults


def _page_part(split, record, figures, faults) -> str:
  media = f'<div class="media">{"".join(figures)}</div>' if figures else ''
  broken = ''.join(f'<div class="broken">{_text(f)}</div>' for f in faults)
  tags = ''.join(f'<span>{_text(tag)}</span>' for tag in (
      split, record.task, record.answer_type) if tag)
  length = '' if len(record.question) < _SHORT else ' long'
  return (f'<article>{media}{broken}<div class="text"><div class="tags">{tags}'
          f'</div><div class="question{length}">{_text(record.question)}</div>'
          f'{_answer(record)}<div class="id">{_text(record.id)}</div></div>'
          f'</article>\n')


def _text(value: Any) -> str:
  """Escaped, cut, and without characters that no HTML may hold."""
  text = str(value)
  text = text if len(text) <= _WORDS else text[:_WORDS] + ' \u2026'
  return html.escape(''.join(
      c for c in text if c.isprintable() or c in '\n\t'))


def _answer(record: types.Record) -> str:
  """Options with the right ones marked; else the answer itself."""
  answer = record.answer
  right = answer if isinstance(answer, (list, tuple)) else [answer]
  rows = ''.join(
      f'<li{" class=right" if letter in right else ""}>{_text(letter)}. '
      f'{_text(option)}</li>' for letter, option in record.options.items())
  options = f'<ul>{rows}</ul>' if rows else ''
  if answer is None:
    return f'{options}<div class="hidden">the answer is hidden</div>'
  if rows and all(letter in record.options for letter in right) and right:
    return options
  said = answer if isinstance(answer, str) else json.dumps(
      answer, ensure_ascii=False, default=str)
  unit = f' {record.unit}' if record.unit else ''
  return f'{options}<div class="answer right">{_text(said + unit)}</div>'


def _figures(value: Any, stills: list[np.ndarray], sides: tuple[int, int],
             marks: tuple[list, list]) -> list[str]:
  """Figures of a loaded medium; `marks` are drawn on its first picture."""
  if isinstance(value, types.Signal):
    return [_signal(value)]
  chosen = np.linspace(0, len(stills) - 1, min(len(stills), STILLS))
  found = []
  for i in chosen.round().astype(int):
    caption = f'{i + 1} of {len(stills)}' if len(stills) > 1 else ''
    if isinstance(value, types.Clip):
      caption = f'{value.times[i]:.2f} s'
    image = _drawn(stills[i], sides[0], *(([], []) if i else marks))
    found.append(_figure(image, sides[1] / sides[0], caption))
  return found


def _marks(record: types.Record, shape) -> tuple[list, list]:
  """(masks, boxes) of the answer, in pixels of the first image.

  Raises:
    TypeError, ValueError: they are none.
  """
  boxes = [(x - _POINT, y - _POINT, x + _POINT, y + _POINT)
           for x, y in record.meta.get('points', ())]
  if isinstance(record.answer, (list, tuple)):
    if record.answer_type == 'box':
      boxes.append(record.answer)
    elif record.answer_type == 'boxes':
      boxes.extend(record.answer)
  corners = np.asarray(boxes, float).reshape(-1, 4)
  if not np.isfinite(corners).all():
    raise ValueError(f'boxes {boxes}; expected finite numbers')
  if 'mask' not in record.meta:
    return [], list(corners)
  mask = mask_rewards.gold(record)
  if mask.shape != shape[:2]:
    raise ValueError(f'the mask is of {mask.shape}, the image of {shape[:2]}')
  return [mask], list(corners)


def _drawn(image: np.ndarray, side: int, masks, boxes) -> Image.Image:
  """A thumbnail with marks, drawn after scaling so that lines stay thin."""
  height, width = image.shape[:2]
  scale = side / max(height, width)
  size = max(round(width * scale), 1), max(round(height * scale), 1)
  # Pixels of a tiny image are to be seen as what they are.
  way = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
  thumb = np.asarray(Image.fromarray(image).resize(size, way))
  scaled = [np.asarray(Image.fromarray(m).resize(size, Image.Resampling.NEAREST)
                       ) for m in masks]
  factors = np.array([size[0] / width, size[1] / height] * 2)
  inner = [box * factors for box in boxes]
  outer = [box + [-1, -1, 1, 1] for box in inner]   # one pixel is hard to see
  drawn = masks_lib.outline(thumb, scaled, inner)
  return Image.fromarray(masks_lib.outline(drawn, scaled, outer))


def _figure(image: Image.Image, scale: float, caption: str) -> str:
  file = io.BytesIO()
  image.save(file, 'JPEG', quality=88)
  data = base64.b64encode(file.getvalue()).decode()
  below = f'<figcaption>{_text(caption)}</figcaption>' if caption else ''
  return (f'<figure><img src="data:image/jpeg;base64,{data}" '
          f'width="{image.width * scale:.0f}" '
          f'height="{image.height * scale:.0f}" alt="">{below}</figure>')


def _signal(signal: types.Signal) -> str:
  """The leads of a signal below each other, on one scale."""
  values = np.asarray(signal.values, np.float64)
  shown = values[:, :max(int(_SECONDS * signal.rate), 1)]
  step = -(-shown.shape[1] // _SAMPLES)
  shown = shown[:, ::step]
  known = shown[np.isfinite(shown)]
  low, high = np.percentile(known, [.5, 99.5]) if known.size else (0, 1)
  unit = 40 / max(high - low, 1e-9)   # a row of 50 units holds most of it
  lines = []
  for row, (name, lead) in enumerate(zip(signal.leads, shown)):
    middle = 50 * row + 25 + (low + high) / 2 * unit
    across = np.linspace(38, 598, len(lead))
    points = [f'{x:.1f},{middle - v * unit:.1f}' if np.isfinite(v) else ''
              for x, v in zip(across, lead)]
    lines.append(f'<text x="4" y="{50 * row + 29}" font-size="12">'
                 f'{_text(name)}</text>')
    # A gap ends a line, as joining its ends would draw what was not recorded.
    lines += [f'<polyline points="{part}" fill="none" stroke="#1b1f24" '
              f'stroke-width="1"/>' for part in _parts(points)]
  seconds = values.shape[1] / signal.rate
  caption = (f'{len(signal.leads)} leads, {seconds:.1f} s at {signal.rate:g} Hz'
             + (f', the first {_SECONDS} s' if seconds > _SECONDS else ''))
  return (f'<figure class="wide"><svg viewBox="0 0 602 {50 * len(shown)}">'
          f'{"".join(lines)}</svg><figcaption>{_text(caption)}</figcaption>'
          f'</figure>')


def _parts(points: list[str]) -> list[str]:
  """Joins points; an empty one separates."""
  return [part for part in (p.strip() for p in ' '.join(
      point or '|' for point in points).split('|')) if part]
