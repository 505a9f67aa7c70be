"""Where a path may lead, and what an error says."""

import pytest

from medrl.media import files


@pytest.fixture
def root(tmp_path):
  """A root with files and folders in it, beside it, and links between."""
  base = tmp_path / 'root'
  (base / 'in').mkdir(parents=True)
  (base / 'in' / 'a.txt').write_bytes(b'inside')
  (tmp_path / 'out.txt').write_bytes(b'outside')
  (tmp_path / 'root2').mkdir()   # its name begins as that of the root
  (tmp_path / 'root2' / 'a.txt').write_bytes(b'outside')
  (base / 'link.txt').symlink_to(tmp_path / 'out.txt')
  (base / 'folder').symlink_to(tmp_path / 'root2')
  (base / 'good.txt').symlink_to(base / 'in' / 'a.txt')
  (base / 'loop.txt').symlink_to(base / 'loop.txt')
  (base / 'broken.txt').symlink_to(base / 'nothing.txt')
  return base


def test_paths_below_the_root(root):
  for path in ('in/a.txt', 'in/../in/a.txt', './in/a.txt', 'good.txt',
               str(root / 'in' / 'a.txt')):
    assert files.read(path, str(root)) == b'inside'
    assert files.locate(path, str(root)) == root / 'in' / 'a.txt'
  assert files.locate_folder('in', str(root)) == root / 'in'
  assert files.locate_folder('.', str(root)) == root


@pytest.mark.parametrize('path', [
    '../out.txt', 'in/../../out.txt', 'link.txt', 'folder/a.txt', '/etc/passwd',
    '../root2/a.txt', '{out}/out.txt'])
def test_paths_that_leave_it(root, path):
  path = path.format(out=root.parent)
  for find in (files.locate, files.locate_folder, files.read):
    with pytest.raises(files.OutsideRoot, match='outside the data root'):
      find(path, str(root))
  assert not files.within(root / path, str(root))


def test_folders_that_leave_it(root):
  for path in ('folder', '..', '../root2', '/'):
    with pytest.raises(ValueError, match='outside the data root'):
      files.locate_folder(path, str(root))


def test_a_root_may_be_a_link(root):
  alias = root.parent / 'alias'
  alias.symlink_to(root)
  assert files.read('in/a.txt', str(alias)) == b'inside'
  assert files.read(str(alias / 'good.txt'), str(alias)) == b'inside'
  assert files.within(alias / 'in' / 'a.txt', str(root))
  with pytest.raises(ValueError, match='outside'):
    files.read('link.txt', str(alias))


def test_what_is_not_there(root):
  for path in ('b.txt', 'in', 'broken.txt', ''):
    with pytest.raises(FileNotFoundError, match='root / path') as caught:
      files.locate(path, str(root))
    assert str(root) in str(caught.value)
  for path in ('nothing', 'in/a.txt'):
    with pytest.raises(FileNotFoundError, match='root / path'):
      files.locate_folder(path, str(root))
  for path in ('loop.txt', 'a\0.txt', 'a' * 5000):
    with pytest.raises((ValueError, FileNotFoundError)):
      files.locate(path, str(root))


def test_large_files_are_not_read(root):
  assert files.read('in/a.txt', str(root), limit=6) == b'inside'
  with pytest.raises(ValueError, match='has 6 bytes, of which at most 5'):
    files.read('in/a.txt', str(root), limit=5)


@pytest.mark.parametrize('error', [
    OSError('x'), SyntaxError('x'), EOFError('x'), MemoryError('x'),
    RecursionError('x')])
def test_any_failure_is_one_error(error):
  def fail():
    raise error
  words = f"'a.dcm' cannot be read as DICOM: {type(error).__name__}: x"
  with pytest.raises(files.Undecodable, match=words):
    files.decoded('a.dcm', 'DICOM', fail)
  assert files.decoded('a', 'b', lambda: 3) == 3
