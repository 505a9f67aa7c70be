"""Finds the blocks of a completion: answer, reasoning, steps, sections.

Does not read what stands in a block. Tags are taken letter by letter, as the
prompt asked for them; what is outside of a block is never searched for one.
"""

import collections
from collections.abc import Sequence
import re

from medrl.rewards.parse import spans

_BRACE = re.compile(r'\\boxed\s*\{|\\[{}]|[{}]')
_STEP = re.compile(
    r'(?i:step[ \t]{0,3}|第|步骤[ \t]{0,3})([0-9]{1,3}|[一二三四五六七八九十])步?')
# What stands behind a step's number, not in front of a verb.
_HEAD = re.compile(
    r'[ \t]{0,3}(?:\*{1,2}[ \t]{0,3})?(?:[:.)\-–—]+|(?=\()|(?=\n))'
    r'|[ \t]{0,3}\*{1,2}')
_ITEM = re.compile(r'^[ \t>*-]{0,8}([0-9]{1,2})[.)](?=\s)', re.MULTILINE)
_CHINESE = '一二三四五六七八九十'
_WRAPPED = re.compile(r'\s*\\(?:text\w{0,8}|mathrm|mathbf)\{([^{}]*)\}\s*')


def answer(text: str, which: str = 'last') -> spans.Parsed | None:
  """Returns the content of an `<answer>...</answer>`, over lines.

  A last block that was opened and not closed is None even when an earlier one
  is complete: the writer had not finished answering.

  Raises:
    ValueError: `which` is none of 'last', 'first', 'only'.
  """
  return tag(text, 'answer', which)


def think(text: str, which: str = 'last') -> spans.Parsed | None:
  """Returns the content of a `<think>...</think>`, over lines.

  A text that only closes a block began inside of it: chat templates that open
  the block in the prompt leave such completions.
  """
  found = tag(text, 'think', which)
  end = text.find('</think>')
  if found is None and end >= 0 and '<think>' not in text:
    return spans.Parsed(text[:end], (0, end), 'think block of the prompt')
  return found


def tag(text: str, name: str, which: str = 'last') -> spans.Parsed | None:
  """Returns the content of a `<name>...</name>`; None if it is not closed.

  A name in bars, '|answer|', stands for `<|answer|>...<|/answer|>` (ECG-R1).
  'last' is the last to open; the first is None if another opens inside of it,
  and 'only' is None unless the tag opens once.
  """
  bar = '|' if name.startswith('|') else ''
  opening, closing = f'<{name}>', f'<{bar}/{name.removeprefix(bar)}>'
  first, last = text.find(opening), text.rfind(opening)
  at = spans.pick([spans.Parsed(i, (i, i), '') for i in (first, last)], which)
  if at is None or at.value < 0:
    return None
  start = at.value + len(opening)
  end = text.find(closing, start)
  if end < 0 or text.find(opening, start, end) >= 0:
    return None
  return spans.Parsed(text[start:end], (start, end), f'{name} block')


def boxed(text: str, which: str = 'last') -> spans.Parsed | None:
  """Returns the content of a LaTeX box with its braces balanced.

  A `\\text{..}` around all of it is taken off. 'last' is the last to open, and
  None if that one is not closed.
  """
  found = spans.pick(every_boxed(text), which)
  return found if found and found.value is not None else None


def every_boxed(text: str) -> list[spans.Parsed]:
  """Returns all LaTeX boxes as they open; value None where one stays open."""
  found, open_braces = [], []
  for match in _BRACE.finditer(text):
    if match[0][-1] == '{' and match[0] != '\\{':
      is_box = len(match[0]) > 1
      open_braces.append((len(found) if is_box else -1, match.end()))
      if is_box:
        found.append(spans.Parsed(None, (match.end(), len(text)), 'boxed'))
    elif match[0] == '}' and open_braces:
      index, start = open_braces.pop()
      if index >= 0:
        found[index] = _content(text, start, match.start())
  return found


def _content(text: str, start: int, end: int) -> spans.Parsed:
  wrapped = _WRAPPED.fullmatch(text, start, end)
  if wrapped:
    start, end = wrapped.span(1)
  return spans.Parsed(text[start:end], (start, end), 'boxed')


def steps(text: str) -> list[spans.Parsed]:
  """Returns the numbered steps of the reasoning; `how` is a step's number.

  Steps are headed 'Step 1:', '**Step 1** ..', '### Step 1', '第一步：', or, if
  there is none of these, they are a list '1. ..', '2. ..' that counts up from
  one. A head stands at the start of a line or sentence. Only the think block is
  read, also one that is not closed, or else what precedes the answer block. A
  step runs to the next head; the number repeats as often as it was written.
  """
  start, end = _reasoning(text)
  folded = spans.fold(text)
  found = (_head(folded, m) for m in _STEP.finditer(folded, start, end))
  heads = [head for head in found if head]
  if not heads:
    for match in _ITEM.finditer(folded, start, end):
      if int(match[1]) == len(heads) + 1:
        heads.append((match[1], match.start(), match.end()))
  ends = [head[1] for head in heads[1:]] + [end]
  return [_trimmed(text, begin, stop, number)
          for (number, _, begin), stop in zip(heads, ends)]


def _reasoning(text: str) -> tuple[int, int]:
  """Returns the range of the text that is reasoning."""
  block = think(text)
  if block:
    return block.span
  opened = text.rfind('<think>')
  start = opened + len('<think>') if opened >= 0 else 0
  end = text.find('<answer>', start)
  return start, end if end >= 0 else len(text)


def _head(text: str, match: re.Match) -> tuple[str, int, int] | None:
  """Returns (number, start of the head, start of the step) of a real head."""
  start = match.start()
  while start and text[start - 1] in ' \t*#>-_':
    if text[start - 1] == '>':
      break
    start -= 1
  before = text[start - 1:start]
  bold = '*' in text[start:match.start()]
  behind = _HEAD.match(text, match.end())
  if not behind or not (before in ('', '\n', '>') or before in '.;!?' or bold):
    return None
  number = match[1]
  if number in _CHINESE:
    number = str(_CHINESE.index(number) + 1)
  return str(int(number)), start, behind.end()


def _trimmed(text: str, start: int, end: int, how: str) -> spans.Parsed:
  """Returns a stretch without white space and emphasis around it."""
  while start < end and (text[start].isspace() or text[start] in '*#'):
    start += 1
  while end > start and (text[end - 1].isspace() or text[end - 1] in '*#'):
    end -= 1
  return spans.Parsed(text[start:end], (start, end), how)


def sections(text: str, names: Sequence[str]) -> dict[str, spans.Parsed]:
  """Returns the sections of a report that are there, by name.

  A head is a name and a colon, or a name alone on its line; it starts a line or
  a sentence, or is capitalised ('Findings: clear Impression: normal'). A
  section runs to the next head. A name that heads two sections has none: which
  of them is meant is not guessed.
  """
  folded = spans.fold(text)
  lower = {name.casefold(): name for name in names}
  pattern = re.compile(r'(?i)(?<!\w)(?:' + '|'.join(
      re.escape(n) for n in sorted(lower, key=len, reverse=True)) +
      r')(?:[*_ \t]{0,4}:|[*_ \t]{0,4}(?=\n|\Z))')
  heads = []
  for match in pattern.finditer(folded) if lower else ():
    name = match[0].rstrip(':*_ \t').casefold()
    before = folded[:match.start()] if match.start() < 8 else folded[
        match.start() - 8:match.start()]
    before = before.rstrip(' \t*#_-')
    alone = before[-1:] in ('', '\n', '>') or (
        before[-1:] in '.;!?:' and match[0].endswith(':'))
    named = match[0][:1].isupper() and match[0].endswith(':')
    if name in lower and (alone or named):
      heads.append((lower[name], match.start(), match.end()))
  written = collections.Counter(head[0] for head in heads)
  ends = [head[1] for head in heads[1:]] + [len(text)]
  return {name: _trimmed(text, begin, stop, 'section')
          for (name, _, begin), stop in zip(heads, ends)
          if written[name] == 1}
