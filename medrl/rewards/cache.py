"""Answers of judges and embedders, kept by what was asked, to run offline.

An entry is named by a digest of model, settings and text, and holds the answer
only: the text, which may be a patient's, is not stored. Nothing expires.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from typing import Any, NamedTuple

MODES = ('off', 'record', 'replay')


class Failed(NamedTuple):
  """What stands in the place of an answer that could not be had."""
  reason: str


Ask = Callable[[list[str]], list[Any]]


def recorded(ask: Ask, identity: Mapping[str, Any], *, folder: str = '',
             mode: str = 'off') -> Ask:
  """Returns `ask` with a memory; each text is asked once a call in any mode.

  Args:
    ask: texts -> as many answers (JSON values) or `Failed`. Failures are not
      kept, so that they are asked again.
    identity: JSON mapping of all that changes an answer: model, settings.
    folder: of the entries, readable by its owner only; several processes may
      share it. '' where the mode is 'off'.
    mode: 'off' keeps nothing; 'record' asks for what is absent or cannot be
      read, and keeps it; 'replay' never asks.

  Returns:
    a function like `ask`. In 'replay' it raises LookupError on an absent text,
    with the key.

  Raises:
    ValueError: the mode is unknown, or has no folder.
  """
  if mode not in MODES or bool(folder) != (mode != 'off'):
    raise ValueError(f'mode {mode!r} with folder {folder!r}; expected one of '
                     f'{", ".join(MODES)}, with a folder unless it is off')

  def remembered(texts: Sequence[str]) -> list[Any]:
    keys = {text: key(identity, text) for text in texts}
    found = {text: _read(folder, k) if folder else None
             for text, k in keys.items()}
    absent = [text for text in keys if found[text] is None]
    if absent and mode == 'replay':
      raise LookupError(
          f'{len(absent)} of {len(keys)} answers are not in {folder!r}, such '
          f"as {keys[absent[0]]}; run once with mode 'record'")
    answers = ask(absent) if absent else []
    if len(answers) != len(absent):
      raise ValueError(f'{len(answers)} answers to {len(absent)} texts')
    for text, answer in zip(absent, answers):
      found[text] = answer
      if folder and not isinstance(answer, Failed):
        _write(folder, keys[text], {'identity': dict(identity),
                                    'answer': answer})
    return [found[text] for text in texts]

  return remembered


def key(identity: Mapping[str, Any], text: str) -> str:
  """Returns the name of an entry, 64 hexadecimal digits."""
  # As ASCII, in which a lone surrogate has its own form too.
  asked = json.dumps([dict(identity), text], sort_keys=True)
  return hashlib.sha256(asked.encode('ascii')).hexdigest()


def _read(folder: str, name: str) -> Any:
  """The answer of an entry; None where there is none, or it is damaged."""
  try:
    return json.loads(_path(folder, name).read_text())['answer']
  except (FileNotFoundError, ValueError, KeyError, TypeError):
    return None


def _write(folder: str, name: str, entry: Mapping[str, Any]) -> None:
  path = _path(folder, name)
  path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
  # Whole or not at all, also where two processes write the same one.
  handle, scratch = tempfile.mkstemp(dir=path.parent, suffix='.tmp')
  try:
    with os.fdopen(handle, 'w') as file:
      json.dump(entry, file)
    os.replace(scratch, path)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(scratch)
    raise


def _path(folder: str, name: str) -> pathlib.Path:
  return pathlib.Path(folder) / name[:2] / f'{name}.json'
