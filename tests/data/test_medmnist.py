import collections
import pathlib

import ml_collections
import numpy as np
import pytest

from medrl import lookup
from medrl.data import medmnist

DATA = pathlib.Path(__file__).parents[3] / 'shared/data'


@pytest.fixture
def root(tmp_path):
  (tmp_path / 'set').mkdir()
  images = np.arange(7, dtype=np.uint8)[:, None, None] * np.ones(
      (1, 4, 4), np.uint8)
  np.savez(tmp_path / 'set/a.npz', train_images=images,
           train_labels=np.array([[0], [2], [0], [0], [1], [2], [0]]),
           val_images=images[:2], val_labels=np.array([[1], [0]]))
  return tmp_path


def read(root, split='train', **options):
  options = {'folder': 'set', 'question': 'Which?', 'options': 'xyz'} | options
  return list(medmnist.records(root, split, **options))


def test_labels_survive_the_order_of_options(root):
  found = read(root, size=8)
  assert [r.options[r.answer] for r in found] == list('xzxxyzx')
  assert len({tuple(r.options.values()) for r in found}) > 1
  assert [tuple(r.options.values()) for r in found] == [
      tuple(r.options.values()) for r in read(root)]
  plain = read(root, permute=False)
  assert [r.answer for r in plain] == list('ACAABCA')


def test_media_are_those_images(root):
  media = read(root, size=8)[5].media[0]
  image = lookup.resolve(media.loader)(media.path, str(root), **media.options)
  assert image.shape == (8, 8, 3) and (image == 5).all()


def test_balance_repeats_rarer_labels_in_order(root):
  found = read(root, balance=True)
  assert collections.Counter(r.meta['class'] for r in found) == {
      'x': 4, 'y': 4, 'z': 4}
  assert found[:7] == read(root)
  assert [r.meta['class'] for r in found[7:]] == list('zzyyy')
  assert found[7].id == found[1].id and found[8].id == found[5].id


def test_values_of_a_config(root):
  config = ml_collections.ConfigDict(dict(
      folder='set', question='Which?', options=('x', 'y', 'z'), size=0))
  assert len(list(medmnist.records(str(root), 'validation', **config))) == 2


def test_errors_say_what_there_is(root):
  with pytest.raises(ValueError, match='test_labels; there is a.npz: train_im'):
    read(root, 'test')
  with pytest.raises(ValueError, match=r'labels \[2\] have no name'):
    read(root, options='xy')
  with pytest.raises(FileNotFoundError, match='no .npz archive in .*none'):
    read(root, folder='none')
  with pytest.raises(ValueError, match='one label'):
    np.savez(root / 'set/b.npz', test_images=np.zeros((2, 4, 4), np.uint8),
             test_labels=np.zeros((2, 14), int))
    read(root, 'test')


@pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')
def test_real_archive():
  def classes(**options):
    found = read(DATA, folder='pneumoniamnist', options=('normal', 'pneumonia'),
                 **options)
    return collections.Counter(r.meta['class'] for r in found)
  assert classes() == {'normal': 388, 'pneumonia': 3494}
  assert classes(balance=True) == {'normal': 3494, 'pneumonia': 3494}
