import io
import pathlib

import numpy as np
from PIL import Image
import pytest

from medrl.data import looks

DATA = pathlib.Path(__file__).parents[3] / 'shared/data'
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason='needs shared/data')


def image(seed, side=96):
  """A smooth random image, as photographs are."""
  rng = np.random.default_rng(seed)
  small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
  return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def jpeg(pixels, quality):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG', quality=quality)
  return np.asarray(Image.open(file).convert('RGB'))


def scaled(pixels, width, height):
  return np.asarray(Image.fromarray(pixels).resize((width, height)))


# What imagehash.phash of ImageHash 4.3.2 gives for these files.
@needs_data
@pytest.mark.parametrize('path, code', [
    ('busi/images/benign_1.jpg', 0xd4e80bc73485eea3),
    ('isic2017/images/ISIC_0000000.jpg', 0xad61c01d9f9a3ac3),
    ('covid_cxr_hannover/images/006f3a8a.jpg', 0x803f96151d1d1f1f),
    ('bccd/images/BloodImage_00000.jpg', 0xc33081ee32bee633)])
def test_hash_is_that_of_imagehash(path, code):
  assert looks.look(np.asarray(Image.open(DATA / path).convert('RGB')))[
      0] == code


@pytest.mark.parametrize('change', [
    lambda x: jpeg(x, 60), lambda x: scaled(x, 48, 48),
    lambda x: scaled(x, 200, 150), lambda x: (x * .8 + 20).astype(np.uint8),
    lambda x: np.asarray(Image.fromarray(x).convert('L').convert('RGB'))])
def test_a_changed_copy_is_found_and_nothing_else(change):
  first = [looks.look(image(seed)) for seed in range(40)]
  second = [looks.look(change(image(seed))) for seed in range(20, 60)]
  assert looks.alike(first, second) == [(i, i - 20) for i in range(20, 40)]


def test_flips_are_not_found():
  assert looks.alike([looks.look(image(0))],
                     [looks.look(image(0)[:, ::-1].copy())]) == []


def test_blanks_have_no_look():
  noise = np.random.default_rng(0).integers(0, 3, (64, 64, 3), np.uint8)
  assert looks.look(np.zeros((50, 40, 3), np.uint8)) is None
  assert looks.look(noise) is None
  assert looks.alike([], [looks.look(image(0))]) == []


@pytest.mark.parametrize('distance', [0, 1, 4, 16])
@pytest.mark.parametrize('chunk', [1, 50, 1 << 17])
def test_the_index_finds_what_comparing_all_finds(distance, chunk, monkeypatch):
  monkeypatch.setattr(looks, '_CHUNK', chunk)
  rng = np.random.default_rng(distance)
  base = rng.integers(0, 1 << 63, 8, np.uint64)
  def codes(count):
    flips = rng.random((count, 64)) < rng.uniform(-.1, .25, (count, 1))
    return rng.choice(base, count) ^ np.packbits(flips, axis=1).view(
        np.uint64).ravel()
  first, second = codes(120), codes(90)
  same = np.arange(256, dtype=np.uint8)   # likeness is not tested here
  found = looks.alike([(int(c), same) for c in first],
                      [(int(c), same) for c in second], distance)
  near = np.bitwise_count(first[:, None] ^ second[None]) <= distance
  assert found == list(zip(*(x.tolist() for x in np.nonzero(near))))
  assert found


def test_equal_hashes_of_unlike_images_are_no_match():
  one = looks.look(image(0))
  assert looks.alike([one], [(one[0], looks.look(image(1))[1])]) == []


@pytest.mark.parametrize('distance', [-1, 17])
def test_distance_is_checked(distance):
  with pytest.raises(ValueError, match='expected 0 to 16'):
    looks.alike([], [], distance)
