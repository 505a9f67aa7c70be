"""An object store that is a folder of this machine, behind gs://. Not a test.

Like a store it has whole objects only: nothing is appended, no folder need be
there, and none is private. Arrays of checkpoints do not come by here, as
TensorStore reaches stores by itself.
"""

from etils.epath import backend
from fsspec.implementations import dirfs
from fsspec.implementations import local
import pytest


@pytest.fixture
def store(tmp_path, monkeypatch):
  """The folder that stands for all buckets."""
  root = tmp_path / 'buckets'
  root.mkdir()

  class Store(dirfs.DirFileSystem):
    protocol = ('gs', 'gcs')
    cachable = False

    def __init__(self, **options):
      del options
      super().__init__(str(root), local.LocalFileSystem(auto_mkdir=True))

    def open(self, path, mode='rb', *rest, **options):
      if 'a' in mode:
        raise NotImplementedError(f'append to {path}')
      return super().open(path, mode, *rest, **options)

  monkeypatch.setattr(backend.fsspec_backend, '_get_filesystem',
                      lambda name: Store())
  return root
