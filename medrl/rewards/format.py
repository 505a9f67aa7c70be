"""Whether a completion has the shape the prompt asked for.

Says nothing about what is inside the tags; see `answer` for that. Everything is
found by one scan from left to right, so no text takes long, and line breaks of
any kind are white space.
"""

from collections.abc import Sequence
import re

from medrl import types
from medrl.rewards import lift

TAGS = ('<think>', '</think>', '<answer>', '</answer>')
_NAME = re.compile(r'[^<>/|\s]+')
# Matched at the start of a line without its indent; the rest is the content.
_HEADS = {
    'bold': re.compile(r'\*\*[Ss]tep ([0-9]{1,4})(?![0-9]).*?\*\*'),
    'step': re.compile(r'[Ss]tep ([0-9]{1,4})[:.)]'),
    'number': re.compile(r'([0-9]{1,4})[.)](?!\S)'),
}


@lift.per_completion
def tags(record: types.Record, text: str, *, think: bool = True,
         filled: bool = False) -> float:
  """Returns 1.0 iff the text is one think block, then one answer block.

  Each tag stands exactly once and only white space lies around the blocks
  (Med-R1, arXiv 2503.13939; the peers' pattern without the once-only rule lets
  `<answer>` be repeated). With `think=False` the text is one answer block and
  holds no think tag. With `filled` each block holds a letter or digit. As a
  reward, called with (record, completions, context).
  """
  del record
  names = ('think', 'answer') if think else ('answer',)
  return _shaped(text, names, filled, banned=('think',))


tags.array_form = 'medrl.rewards.array.tags.tags'


@lift.per_completion
def think_after(record: types.Record, text: str, *,
                filled: bool = False) -> float:
  """Returns 1.0 iff the text is one answer block, then one think block.

  Think-After of Med-R1 (arXiv 2503.13939, v5); the paper's own pattern was not
  found, so this is `tags` with its blocks exchanged.
  """
  del record
  return _shaped(text, ('answer', 'think'), filled)


think_after.array_form = 'medrl.rewards.array.tags.think_after'


@lift.per_completion
def blocks(record: types.Record, text: str, *, names: Sequence[str],
           filled: bool = False) -> float:
  """Returns 1.0 iff the text is these blocks in order, and nothing else.

  Args:
    record: not looked at.
    text: of the completion.
    names: of the tags, as 'think'; 'tool_call|answer' is one of the two. Each
      tag stands once, and those that were not chosen never.
    filled: each block must hold a letter or digit.

  Raises:
    ValueError: there are no names, one is not a name, or one stands twice.
  """
  del record
  flat = [name for entry in names for name in entry.split('|')]
  if (isinstance(names, str) or not flat or len(set(flat)) < len(flat)
      or not all(_NAME.fullmatch(name) for name in flat)):
    raise ValueError(f'names {names!r}: expected distinct names of tags such '
                     "as ('think', 'tool_call|answer')")
  return _shaped(text, names, filled)


def _shaped(text: str, entries: Sequence[str], filled: bool,
            banned: Sequence[str] = ()) -> float:
  place, used = 0, set()
  for entry in entries:
    place = len(text) - len(text[place:].lstrip())
    name = next((n for n in entry.split('|')
                 if text.startswith(f'<{n}>', place)), None)
    end = -1 if name is None else text.find(f'</{name}>', place)
    if end < 0:
      return 0.0
    inside = text[place + len(name) + 2:end]
    if filled and not any(map(str.isalnum, inside)):
      return 0.0
    place = end + len(name) + 3
    used.add(name)
  known = {n for entry in entries for n in entry.split('|')} | set(banned)
  once = all(text.count(tag) == (name in used)
             for name in known for tag in (f'<{name}>', f'</{name}>'))
  return float(once and not text[place:].strip())


@lift.per_completion
def in_order(record: types.Record, text: str, *,
             tags: Sequence[str] = TAGS) -> float:
  """Returns 1.0 iff each tag stands exactly once and in this order, else -1.0.

  Other text is allowed anywhere (Med-U1, arXiv 2506.12307; code).

  Args:
    record: not looked at.
    text: of the completion.
    tags: literal strings; by default those of the think and answer blocks.

  Raises:
    ValueError: there are no tags, or one is empty or part of another, which
      could then not be counted.
  """
  del record
  check_tags(tags)
  places = [text.find(tag) for tag in tags]
  once = all(text.count(tag) == 1 for tag in tags)
  return 1.0 if once and places == sorted(places) else -1.0


in_order.array_form = 'medrl.rewards.array.tags.in_order'


def check_tags(tags: Sequence[str]) -> None:
  """Raises ValueError where `in_order` could not count these tags."""
  if isinstance(tags, str) or not tags or any(
      not a or (i != j and a in b)
      for i, a in enumerate(tags) for j, b in enumerate(tags)):
    raise ValueError(f'tags {tags!r}: expected strings of which none is empty '
                     'or part of another')


@lift.per_completion
def thought(record: types.Record, text: str) -> float:
  """Returns 1.0 iff some think block holds a letter or digit, else 0.0.

  The format reward of ECG-R1 (arXiv 2602.04279; code), which asks for nothing
  else, with 'not empty' made to need something to read.
  """
  del record
  place = text.find('<think>')
  while place >= 0:
    end = text.find('</think>', place)
    if end < 0:
      return 0.0
    # From the innermost opening on, or a tag's own letters would fill it.
    start = text.rfind('<think>', place, end) + len('<think>')
    if any(map(str.isalnum, text[start:end])):
      return 1.0
    place = text.find('<think>', end)
  return 0.0


@lift.per_completion
def steps(record: types.Record, text: str, *, style: str = 'bold',
          least: int = 6, most: int = 6, block: str = 'think') -> float:
  """Returns 1.0 iff a block holds steps 1, 2, .. k, each once and not empty.

  Steps begin at the start of a line; text before the first is allowed. The
  defaults are ECG-R1's six bold steps (arXiv 2602.04279).

  Args:
    record: not looked at.
    text: of the completion.
    style: 'bold' ('**Step 1: Rate** ..', where the heading alone is no
      content), 'step' ('Step 1: ..') or 'number' ('1. ..', '1) ..').
    least: the smallest allowed k, at least 1.
    most: the largest allowed k.
    block: the tag whose first block is read; '' is the whole text.

  Raises:
    ValueError: the style is unknown, or not 1 <= least <= most.
  """
  del record
  if style not in _HEADS or not 1 <= least <= most:
    raise ValueError(f'style {style!r}, least {least!r}, most {most!r}: '
                     f'expected one of {sorted(_HEADS)}, 1 <= least <= most')
  inside = _inside(text, block) if block else text
  found = _numbered(inside, _HEADS[style])
  right = [number for number, _ in found] == list(range(1, len(found) + 1))
  return float(right and least <= len(found) <= most
               and all(content for _, content in found))


def _inside(text: str, name: str) -> str:
  _, _, rest = text.partition(f'<{name}>')
  content, closed, _ = rest.partition(f'</{name}>')
  return content if closed else ''


def _numbered(text: str, head: re.Pattern) -> list[tuple[int, bool]]:
  """Each step's number, and whether it holds a letter or digit."""
  found = []
  for line in text.splitlines():
    line = line.lstrip()
    match = head.match(line)
    if match:
      found.append((int(match[1]), False))
      line = line[match.end():]
    if found and not found[-1][1]:
      found[-1] = found[-1][0], any(map(str.isalnum, line))
  return found
