"""Files of a workdir, on a disk and in a store that is one."""

import os
import pathlib
import stat

import pytest

from medrl import paths
from tests.store import store   # noqa: F401, a fixture


@pytest.fixture(params=['disk', 'store'])
def root(request, tmp_path):
  if request.param == 'disk':
    return tmp_path / 'run'
  request.getfixturevalue('store')
  return paths.at('gs://bucket/run')


def test_whole_files(root):
  paths.folder(root / 'sub', private=True)
  paths.write(root / 'sub/a.json', '{"ä": 1}')
  paths.write(root / 'sub/a.json', '{"ä": 2}', private=True)
  assert (root / 'sub/a.json').read_text() == '{"ä": 2}'
  with pytest.raises(RuntimeError), paths.new(root / 'sub/a.json') as file:
    file.write(b'half')
    raise RuntimeError
  assert [p.name for p in (root / 'sub').iterdir()] == ['a.json']
  assert (root / 'sub/a.json').read_text() == '{"ä": 2}'


def test_copies_and_back(root, tmp_path):
  source = tmp_path / 'here/deep'
  source.mkdir(parents=True)
  (source / 'b').write_bytes(b'\0\xff')
  paths.copy(source.parent, root)
  with paths.local(root) as near:
    assert isinstance(near, pathlib.Path)
    assert (near / 'deep/b').read_bytes() == b'\0\xff'
  assert near.exists() != paths.remote(root)


def test_private_is_private_from_the_start(tmp_path):
  old = os.umask(0)
  try:
    paths.write(tmp_path / 'open', '')
    with paths.new(tmp_path / 'own', private=True):
      hidden, = tmp_path.glob('.own*')
      assert stat.S_IMODE(hidden.stat().st_mode) == 0o600
    paths.folder(tmp_path / 'room', private=True)
  finally:
    os.umask(old)
  assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (
      'open', 'own', 'room')] == [0o666, 0o600, 0o700]


def test_a_full_disk_leaves_the_file_of_before(tmp_path, monkeypatch):
  paths.write(tmp_path / 'a', 'old')
  def full(handle):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError, match='No space left'):
    paths.write(tmp_path / 'a', 'new')
  assert [p.name for p in tmp_path.iterdir()] == ['a']
  assert (tmp_path / 'a').read_text() == 'old'
