"""Files of a workdir, which lies on a disk or in an object store.

A store (gs://, s3://) is reached through epath: it puts whole objects and has
no append, no modes and no folders to speak of. What is written, and when, is
the callers' affair; checkpoints are Orbax's. Loads no jax.
"""

from collections.abc import Iterator
import contextlib
import io
import os
import pathlib
import shutil
import tempfile
from typing import Any, BinaryIO

from etils import epath


def remote(path: str | os.PathLike) -> bool:
  """Whether a path is of an object store."""
  return '://' in os.fspath(path)


def at(path: str | os.PathLike) -> Any:
  """A path with pathlib's methods, wherever it leads.

  A folder from the command line goes through here first: `pathlib` alone would
  take a store's address for a local one, with one slash less.
  """
  return epath.Path(path) if remote(path) else pathlib.Path(path)


def folder(path: str | os.PathLike, private: bool = False) -> None:
  """Makes a folder and those above it; on a disk for its owner alone where
  `private`, as who may read a store its own rules say."""
  path = at(path)
  if remote(path):
    path.mkdir(parents=True, exist_ok=True)
  else:
    path.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)


@contextlib.contextmanager
def new(path: str | os.PathLike, private: bool = False) -> Iterator[BinaryIO]:
  """Yields the file to write; it is there whole or not at all.

  A kill or a full disk leaves the file of before, if there was one. On a disk
  it is readable by its owner alone where `private`.
  """
  path = at(path)
  if remote(path):
    buffer = io.BytesIO()
    yield buffer
    path.write_bytes(buffer.getvalue())
    return
  scratch = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  # A scratch file of a process of this number that was killed may be there,
  # with another mode.
  scratch.unlink(missing_ok=True)
  handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                   0o600 if private else 0o666)
  try:
    with open(handle, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(scratch, path)
  except BaseException:
    scratch.unlink(missing_ok=True)
    raise


def write(path: str | os.PathLike, text: str, private: bool = False) -> None:
  """`new` for a text."""
  with new(path, private) as file:
    file.write(text.encode())


def copy(source: str | os.PathLike, target: str | os.PathLike) -> None:
  """Copies a file, or a folder with all below it, between disk and store."""
  source, target = at(source), at(target)
  if source.is_dir():
    folder(target)
    for child in source.iterdir():
      copy(child, target / child.name)
    return
  with source.open('rb') as file, target.open('wb') as copied:
    shutil.copyfileobj(file, copied)


@contextlib.contextmanager
def local(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a file or folder on this machine's disk: a copy of a store's, which
  is gone afterwards, or the thing itself."""
  if not remote(path):
    yield pathlib.Path(path)
    return
  with tempfile.TemporaryDirectory(prefix='medrl-') as scratch:
    near = pathlib.Path(scratch) / at(path).name
    copy(path, near)
    yield near
