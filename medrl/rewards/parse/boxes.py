"""Reads boxes out of text, in every frame and form that models write.

Does not compare them. Coordinates stay those of the frame unless a size is
given.
"""

import re

from medrl.rewards.parse import spans
from medrl.rewards.parse import structured

Box = tuple[float, float, float, float]

# No image has this many pixels a side; beyond it areas lose their precision.
MAX_COORDINATE = 1e6
FRAMES = {'pixel': MAX_COORDINATE, 'unit': 1.0, '999': 999.0, '1000': 1000.0,
          '224': 224.0}

_COORDINATE = re.compile(
    r'[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?', re.ASCII)
_INNERMOST = re.compile(r'\[([^\[\]]*)\]')
_PAIR = re.compile(r'\(([^()]*)\)\s{0,3},\s{0,3}\(([^()]*)\)')
_TAGS = (('<|box_start|>', '<|box_end|>'), ('<box>', '</box>'))
_REFS = (('<|object_ref_start|>', '<|object_ref_end|>'), ('<ref>', '</ref>'))
_LABELS = ('label', 'name', 'category', 'ref')
# An empty list, white space aside, however it is announced.
_EMPTY = re.compile(
    r'(?i)(?:(?:the)?answer(?:is:?|:))?\*{0,2}(?P<fence>```|`)?(?:json)?'
    r'(?:\[\]|\{"(?:boxes|bboxes|bbox_2d|bbox|box|answer)":\[\]\})'
    r'(?(fence)(?P=fence))\.?\*{0,2}\.?')
_KEYS = ('bbox_2d', 'bbox', 'box')


def box(content: str, frame: str = 'pixel', which: str = 'only',
        size: tuple[float, float] | None = None) -> spans.Parsed | None:
  """Returns the one distinct box (x1, y1, x2, y2); see `boxes`.

  `which` may also be 'first' or 'last'; all boxes must be sound even then.

  Raises:
    ValueError: `frame` or `which` is unknown.
  """
  found = boxes(content, frame, size)
  if found is None:
    return None
  return spans.pick(
      [spans.Parsed(b, found.span, 'box') for b in found.value], which)


def boxes(content: str, frame: str = 'pixel',
          size: tuple[float, float] | None = None) -> spans.Parsed | None:
  """Returns all boxes, each (x1, y1, x2, y2) as floats; '[]' is no box.

  Forms: [x1, y1, x2, y2], alone, in lists or in JSON objects;
  `<box>[[..], ..]</box>`; `<box>(x1,y1),(x2,y2)</box>`;
  `<|box_start|>(x1,y1),(x2,y2)<|box_end|>`; `<location> [[..]]`, before which
  nothing is read. Every bracket must hold four finite numbers with x1 < x2 and
  y1 < y2 inside of the frame: dropping a bad box would let a writer add boxes
  at no cost. One text uses one form. Prose around it is ignored, but not
  around '[]', which may also stand in a fence or as {"boxes": []}.

  Args:
    content: of an answer block.
    frame: 'pixel' (any number below 1e6 in size), 'unit' (0 to 1), '999',
      '1000' or '224' (0 to that). Numbers outside are of another frame, which
      is not guessed.
    size: (width, height) of the image in pixels, to convert to pixels.

  Raises:
    ValueError: `frame` is unknown.
  """
  if frame not in FRAMES:
    raise ValueError(f'frame {frame!r}: expected one of {", ".join(FRAMES)}')
  text = spans.fold(content)
  start = text.rfind('<location>')
  start = start + len('<location>') if start >= 0 else 0
  end = text.find('</location>', start) if start else -1
  end = end if end >= 0 else len(text)
  inside = text[start:end]
  found = _tagged(inside) if any(
      sign in inside for tag in _TAGS for sign in tag) else _bracketed(inside)
  if found is None:
    return None
  corners, (first, last) = found
  values = [_checked(c, frame, size) for c in corners]
  if None in values:
    return None
  return spans.Parsed(tuple(values), (start + first, start + last), 'boxes')


def labelled(content: str, frame: str = 'pixel',
             size: tuple[float, float] | None = None) -> spans.Parsed | None:
  """Returns a tuple of (label, box), labels as written; '[]' is none.

  Forms: JSON objects with a label and a box; `<ref>label</ref>` (or Qwen's
  tokens) before boxes of its own; lines 'label: [x1, y1, x2, y2]'. A box
  without a label, or a label without a box, leaves the content unparsed. Boxes
  are those of `boxes`, which says what may be raised.
  """
  text = spans.fold(content)
  if _is_empty(text):
    return spans.Parsed((), spans.stripped(text), 'boxes')
  pairs = _from_json(text)
  if pairs is None:
    pairs = _from_refs(text) or _from_lines(text)
  found = []
  for label, piece in pairs:
    read = boxes(piece, frame, size)
    if not label or read is None or not read.value:
      return None
    found += [(label, value) for value in read.value]
  if not found:
    return None
  return spans.Parsed(tuple(found), spans.stripped(text), 'labelled')


def _bracketed(
    text: str) -> tuple[list[list[str]], tuple[int, int]] | None:
  """Returns the parts of every innermost bracket, and their range."""
  if not text.count('[') or text.count('[') != text.count(']'):
    return None
  found = [m[1].split(',') for m in _INNERMOST.finditer(text) if m[1].strip()]
  if not found and not _is_empty(text):
    return None
  return found, (text.index('['), text.rindex(']') + 1)


def _is_empty(text: str) -> bool:
  return bool(_EMPTY.fullmatch(''.join(text.split())))


def _tagged(text: str) -> tuple[list[list[str]], tuple[int, int]] | None:
  """Returns the parts of every box between tags of one kind."""
  used = [tag for tag in _TAGS if tag[0] in text or tag[1] in text]
  opening, closing = used[0]
  found, at, first = [], 0, text.find(opening)
  while True:
    start = text.find(opening, at)
    outside = text[at:start if start >= 0 else len(text)]
    if len(used) > 1 or '[' in outside or ']' in outside or closing in outside:
      return None
    if start < 0:
      return (found, (first, at)) if found else None
    end = text.find(closing, start)
    if end < 0:
      return None
    corners = _corners(text[start + len(opening):end])
    if not corners:
      return None
    found += corners
    at = end + len(closing)


def _corners(inside: str) -> list[list[str]] | None:
  """Returns the parts of the boxes inside of one tag."""
  if '[' in inside:
    found = _bracketed(inside)
    return found[0] if found else None
  pairs = list(_PAIR.finditer(inside))
  if _PAIR.sub('', inside).strip(' ,;\n'):
    return None
  return [f'{m[1]},{m[2]}'.split(',') for m in pairs]


def _checked(parts: list[str], frame: str,
             size: tuple[float, float] | None) -> Box | None:
  """Returns a box as numbers, None if it is none or not in the frame."""
  parts = [part.strip() for part in parts]
  if len(parts) != 4 or not all(
      len(p) <= spans.MAX_DIGITS and _COORDINATE.fullmatch(p) for p in parts):
    return None
  x1, y1, x2, y2 = corners = tuple(map(float, parts))
  low = -MAX_COORDINATE if frame == 'pixel' else 0.0
  if x2 <= x1 or y2 <= y1 or min(corners) < low or max(corners) > FRAMES[frame]:
    return None
  if size is None or frame == 'pixel':
    return corners
  x, y = (side / FRAMES[frame] for side in size)
  return x1 * x, y1 * y, x2 * x, y2 * y


def _from_json(text: str) -> list[tuple[str, str]] | None:
  """Returns (label, box as text) of JSON objects; None if it is not JSON."""
  bare = text.strip().removeprefix('```json').strip('`').strip()
  if not bare.startswith(('[', '{')) or '"' not in bare:
    return None
  try:
    value = structured.strict(bare)
  except ValueError:
    return []
  pairs = []
  for item in value if isinstance(value, list) else [value]:
    item = item if isinstance(item, dict) else {}
    label = next((item[k] for k in _LABELS if k in item), None)
    corners = next((item[k] for k in _KEYS if k in item), None)
    label = label.strip() if isinstance(label, str) else ''
    pairs.append((label, str(corners)))
  return pairs


def _from_refs(text: str) -> list[tuple[str, str]]:
  """Returns (label, text up to the next label) of tagged labels."""
  for opening, closing in _REFS:
    before, *parts = text.split(opening)
    if parts:
      pairs = [part.partition(closing) for part in parts]
      if _TAGS[0][0] in before or _TAGS[1][0] in before or '[' in before:
        return []
      # One label names the boxes of one tag; a second tag has none.
      return [(label.strip() if boxed.count(_TAGS[0][0])
               + boxed.count(_TAGS[1][0]) == 1 else '', boxed)
              for label, _, boxed in pairs]
  return []


def _from_lines(text: str) -> list[tuple[str, str]]:
  """Returns (label, boxes as text) of lines 'label: [..]'."""
  pairs = []
  for line in text.split('\n'):
    label, bracket, rest = line.partition('[')
    if bracket:
      pairs.append((label.strip(' \t*-•:#'), bracket + rest))
  return pairs
