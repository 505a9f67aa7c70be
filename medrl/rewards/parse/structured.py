"""Reads JSON objects and tool calls out of text.

Checks no schema and runs no tool.
"""

import json
import math
import re
from typing import Any

from medrl.rewards.parse import spans

# Deeper values are noise, and the decoder recurses.
MAX_DEPTH = 64

_OBJECT = re.compile(r'\{\s*["}]')
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\]]', re.DOTALL)


def json_object(text: str, which: str = 'last') -> spans.Parsed | None:
  """Returns the last outermost JSON object in `text`, a dict.

  An object begins with a brace and a quote (or closes at once), so braces of
  LaTeX and prose are passed over. It is None if it was cut off or is not
  strict JSON: no NaN, no infinite number, no key twice, no trailing comma, at
  most `MAX_DEPTH` levels.

  Args:
    text: any text.
    which: 'last', 'first', or 'only', which is None if values differ.

  Raises:
    ValueError: `which` is another word.
  """
  found, at = [], _OBJECT.search(text)
  while at and not (found and which == 'first'):
    end = _end(text, at.start())
    found.append((at.start(), len(text) if end is None else end))
    at = _OBJECT.search(text, found[-1][1])
  found = found[-1:] if which == 'last' else found[:spans.MAX_CANDIDATES + 1]
  picked = spans.pick([spans.Parsed(_loaded(text[start:end]), (start, end),
                                    'json') for start, end in found], which)
  return picked if picked and picked.value is not None else None


def tool_calls(text: str) -> list[spans.Parsed]:
  """Returns every `<tool_call>{..}</tool_call>`, as Qwen writes them.

  The value is a dict with a name (text, not empty) and arguments (a dict), or
  None for a block that is not such a call; `how` says why. A bad call is not
  dropped, so that writing one costs what it should. Spans are those of the
  content, or, of a block that is not closed, of all that follows.
  """
  opening, closing = '<tool_call>', '</tool_call>'
  found, at = [], text.find(opening)
  while at >= 0:
    start = at + len(opening)
    at = text.find(opening, start)
    limit = at if at >= 0 else len(text)
    end = text.find(closing, start, limit)
    if end < 0:
      found.append(spans.Parsed(None, (start, limit), 'not closed'))
    else:
      value, how = _call(text[start:end])
      found.append(spans.Parsed(value, (start, end), how))
  return found


def strict(text: str) -> Any:
  """Returns the value of a strict JSON text.

  Raises:
    ValueError: it is none; see `json_object`.
  """
  depth = deepest = 0
  for token in _TOKEN.finditer(text):
    if token[0][0] != '"':
      depth += 1 if token[0] in '{[' else -1
      deepest = max(deepest, depth)
  if deepest > MAX_DEPTH:
    raise ValueError(f'JSON of {deepest} levels; expected at most {MAX_DEPTH}')
  return json.loads(text, parse_constant=_refuse, parse_float=_finite,
                    object_pairs_hook=_unique)


def _call(content: str) -> tuple[dict[str, Any] | None, str]:
  try:
    value = strict(content)
  except ValueError:
    return None, 'not JSON'
  if not isinstance(value, dict):
    return None, 'not an object'
  if not isinstance(value.get('name'), str) or not value['name'].strip():
    return None, 'no name'
  if not isinstance(value.get('arguments'), dict):
    return None, 'no arguments'
  return value, 'tool call'


def _end(text: str, start: int) -> int | None:
  """Returns the end of the object that opens at `start`, braces balanced."""
  depth = 0
  for token in _TOKEN.finditer(text, start):
    if token[0][0] == '"' or token[0] in '[]':
      continue
    depth += 1 if token[0] == '{' else -1
    if not depth:
      return token.end()
  return None


def _loaded(text: str) -> dict[str, Any] | None:
  try:
    return strict(text)
  except ValueError:
    return None


def _refuse(name: str) -> None:
  raise ValueError(f'{name} is not JSON')


def _finite(digits: str) -> float:
  value = float(digits)
  if not math.isfinite(value):
    raise ValueError('expected a finite number')
  return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  out = dict(pairs)
  if len(out) < len(pairs):
    raise ValueError('expected every key once')
  return out
