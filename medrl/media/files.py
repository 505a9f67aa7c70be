"""Where a file of a record really lies, and errors of decoders made plain.

Every reader of this folder comes through here, so that nothing outside the
data root is ever opened. It decodes nothing.
"""

from collections.abc import Callable
import os
import pathlib
from typing import Any

# Files that are read whole. A larger one is read in parts by its own reader,
# or is none of the kind that it is taken for.
MAX_BYTES = 1 << 30


class OutsideRoot(ValueError):
  """A path that leads out of the data root, or that is no path."""


class Undecodable(ValueError):
  """A file that is damaged, or not of the kind that it is read as."""


def locate(path: str, root: str) -> pathlib.Path:
  """The real path of the file `path`, which must lie below `root`.

  Args:
    path: relative to `root`, or absolute and below it.
    root: the data root; links that lead out of it are refused.

  Raises:
    OutsideRoot: the path leaves the root or cannot be a path.
    FileNotFoundError: there is no such file.
  """
  return _there(path, root, 'file', os.path.isfile)


def locate_folder(path: str, root: str) -> pathlib.Path:
  """As `locate`, for a folder.

  Raises:
    OutsideRoot: the path leaves the root or cannot be a path.
    FileNotFoundError: there is no such folder.
  """
  return _there(path, root, 'folder', os.path.isdir)


def within(full: pathlib.Path, root: str) -> bool:
  """Whether a path, links followed, lies below the root."""
  return full.resolve().is_relative_to(pathlib.Path(root).resolve())


def read(path: str, root: str, limit: int = MAX_BYTES) -> bytes:
  """The bytes of a file below the root.

  Raises:
    OutsideRoot: as in `locate`.
    Undecodable: it has more than `limit` bytes.
    FileNotFoundError: there is no such file.
  """
  full = locate(path, root)
  size = full.stat().st_size
  if size > limit:
    raise Undecodable(f'{str(full)!r} has {size} bytes, of which at most '
                      f'{limit} are read; is it what its name says?')
  return full.read_bytes()


def decoded(name: str, kind: str, read: Callable[[], Any]) -> Any:
  """`read()`; whatever a damaged file makes it raise becomes an Undecodable.

  Args:
    name: of the file, as the error is to name it.
    kind: what it is read as: 'an image'.
    read: decodes it.
  """
  try:
    return read()
  # A decoder fed with damaged bytes may raise anything: OSError, SyntaxError,
  # struct.error, zlib.error, BadZipFile, EOFError have all been seen.
  except Exception as error:
    raise Undecodable(f'{name!r} cannot be read as {kind}: '
                      f'{type(error).__name__}: {error}') from error


def _there(path: str, root: str, kind: str,
           found: Callable[[str], bool]) -> pathlib.Path:
  full, base = _resolved(path, root)
  if not found(full):
    raise FileNotFoundError(
        f'no {kind} {full!r}; it was formed as root / path from root {base!r} '
        f'and path {path!r}, so check the root or the record')
  return pathlib.Path(full)


def _resolved(path: str, root: str) -> tuple[str, str]:
  # os.path, as this is done for every medium and pathlib takes ten times as
  # long.
  base = os.path.realpath(root)
  try:
    full = os.path.realpath(os.path.join(base, path))
    os.path.lexists(full)   # what the system cannot take as a path fails here
  except (OSError, RuntimeError, ValueError) as error:
    raise OutsideRoot(f'{path!r} is not a path: {error}') from error
  if full != base and not full.startswith(base.rstrip(os.sep) + os.sep):
    raise OutsideRoot(
        f'{path!r} leads to {full!r}, outside the data root {base!r}; move or '
        f'copy the file below the root')
  return full, base
