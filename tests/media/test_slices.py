"""Which slices are shown, and how: against NumPy on volumes made here."""

import functools
import inspect
import pathlib

import nibabel
import numpy as np
import pytest

from medrl import types
from medrl.media import slice_choice
from medrl.media import slices
from medrl.media import volume
from medrl.media import volume_files
from medrl.media import windows

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'nifti'
RNG = np.random.default_rng(0)
SHAPE = (20, 24, 40)
VALUES = RNG.integers(-1000, 1000, SHAPE).astype(np.int16)
AFFINE = np.diag([1., 1., 2.5, 1.])


def save(folder, array, name='a.nii', affine=AFFINE):
  nibabel.save(nibabel.Nifti1Image(array, affine), folder / name)


@pytest.fixture
def root(tmp_path):
  save(tmp_path, VALUES)
  return str(tmp_path)


def axial(k, centre, width, values=VALUES):
  """Slice k as a radiologist sees it, by the formula of the window."""
  shown = values[::-1, ::-1, k].T
  grey = np.clip((shown - centre) / width + .5, 0, 1) * 255
  return np.repeat(np.floor(grey + .5).astype(np.uint8)[..., None], 3, -1)


def same(image, expected):
  """Equal, but for halves that float32 rounds the other way."""
  assert image.shape == expected.shape and image.dtype == np.uint8
  apart = np.abs(image.astype(int) - expected)
  assert apart.max() <= 1 and (apart > 0).mean() < .05


@pytest.mark.parametrize('size, count, expected', [
    (10, 1, (5,)), (10, 2, (2, 7)), (9, 3, (1, 4, 7)), (4, 4, (0, 1, 2, 3)),
    (3, 9, (0, 1, 2)), (40, 4, (5, 15, 25, 35)), (1, 1, (0,))])
def test_uniform(size, count, expected):
  assert slice_choice.uniform(size, count) == expected


def test_uniform_is_symmetric_and_rises():
  for size in range(1, 60):
    for count in range(1, size + 1):
      got = np.array(slice_choice.uniform(size, count))
      assert len(got) == count and (np.diff(got) > 0).all()
      gaps = np.diff(got) if count > 1 else np.array([1])
      assert gaps.max() - gaps.min() <= 1
      assert abs(got[0] - (size - 1 - got[-1])) <= 1


@pytest.mark.parametrize('size, tokens, budget, expected', [
    (100, 64, 640, 10), (100, 64, 639, 9), (5, 64, 640, 5), (9, 64, 64, 1)])
def test_within_budget(size, tokens, budget, expected):
  assert slice_choice.within_budget(size, tokens, budget) == expected


def test_budget_of_less_than_one():
  with pytest.raises(ValueError, match='64 soft tokens, more than the budget'):
    slice_choice.within_budget(9, 64, 63)
  assert slice_choice.soft_tokens(512, 512, 28) == 19 * 19
  assert slice_choice.soft_tokens(56, 57, 28) == 2 * 3


@pytest.mark.parametrize('areas, count, neighbours, most, expected', [
    ([0, 3, 9, 4, 0], 1, 0, 9, (2,)), ([0, 3, 9, 4, 0], 2, 0, 9, (2, 3)),
    ([5, 0, 0, 5, 5], 2, 0, 9, (0, 3)), ([0, 3, 9, 4, 0], 9, 0, 9, (1, 2, 3)),
    ([9, 0, 0, 0, 8], 2, 1, 9, (0, 1, 3, 4)), ([0, 0, 9, 0, 0], 1, 2, 3,
                                               (1, 2, 3)),
    ([0, 8, 9, 0, 0], 2, 1, 9, (0, 1, 2, 3)), ([9, 0, 0, 0, 8], 2, 1, 3,
                                               (0, 1, 4))])
def test_by_area(areas, count, neighbours, most, expected):
  assert slice_choice.by_area(areas, count, neighbours, most) == expected


def test_sixteen_slices_by_default(root):
  images = slices.load('a.nii', root, window=(40, 400))
  assert len(images) == 16
  for image, k in zip(images, slice_choice.uniform(40, 16)):
    same(image, axial(k, 40, 400))


@pytest.mark.parametrize('options, indices', [
    ({'count': 3}, (6, 20, 33)), ({'slices': [7, 3, 7]}, (7, 3, 7)),
    ({'slices': [39, 0], 'neighbours': 10 ** 12}, range(40)),
    ({'slices': [7], 'neighbours': 2}, (5, 6, 7, 8, 9)),
    ({'slices': [0, 1], 'neighbours': 1}, (0, 1, 2)),
    # 20 x 24 pixels are one soft token of 28, 2 of 20, 4 of 14.
    ({'max_tokens': 2}, (10, 30)), ({'max_tokens': 4, 'patch': 20}, (10, 30)),
    ({'max_tokens': 8, 'patch': 14}, (10, 30)),
    ({'max_tokens': 11, 'slice_tokens': 5}, (10, 30)),
    ({'max_tokens': 2, 'count': 9}, (10, 30)),
    ({'max_tokens': 9, 'count': 2}, (10, 30))])
def test_which_slices(root, options, indices):
  images = slices.load('a.nii', root, window='lung', **options)
  assert len(images) == len(indices)
  for image, k in zip(images, indices):
    same(image, axial(k, *windows.NAMED['lung']))


def test_annotation(root, tmp_path):
  mask = np.zeros(SHAPE, np.uint8)
  mask[2:6, 3:9, 11] = 1    # the largest in axial planes
  mask[2:4, 3:9, 30] = 7
  mask[2, 3, 31] = 1
  save(tmp_path, mask, 'mask.nii.gz')
  show = functools.partial(slices.load, 'a.nii', root, window='bone',
                           annotation='mask.nii.gz')
  bone = windows.NAMED['bone']
  for options, indices in (({}, (11,)), ({'count': 2}, (11, 30)),
                           ({'count': 9}, (11, 30, 31)),
                           ({'neighbours': 1}, (10, 11, 12)),
                           ({'max_tokens': 2}, (11, 30))):
    images = show(**options)
    assert len(images) == len(indices), options
    for image, k in zip(images, indices):
      same(image, axial(k, *bone))
  # Through the centroid, in all planes.
  marked = np.argwhere(mask)
  centre = np.rint(marked.mean(0)).astype(int)
  images = show(plane='multiplanar', isotropic=False)
  same(images[0], axial(centre[2], *bone))
  same(images[1], axial(centre[1], *bone, VALUES.swapaxes(1, 2)))
  same(images[2], axial(centre[0], *bone, VALUES.transpose(1, 2, 0)))


def test_annotation_stored_in_other_axes(root, tmp_path):
  """Orientation of the file does not matter; the grid in space does."""
  mask = np.zeros(SHAPE, np.uint8)
  mask[:, :, 33] = 1
  image = nibabel.Nifti1Image(mask, AFFINE).as_reoriented(
      np.array([[2, -1], [0, 1], [1, -1]]))
  nibabel.save(image, tmp_path / 'mask.nii')
  got, = slices.load('a.nii', root, annotation='mask.nii', window='lung')
  same(got, axial(33, *windows.NAMED['lung']))


def test_marked_in_slabs(monkeypatch):
  monkeypatch.setattr(slice_choice, 'SLAB', 20 * 24 * 7)
  mask = (RNG.random((*SHAPE, 1)) < .3).astype(np.uint8)
  opened = volume.Volume(SHAPE, AFFINE, (0.,), lambda i: mask[np.ix_(*i)])
  for axis, got in enumerate(slice_choice.marked(opened)):
    others = tuple(a for a in range(4) if a != axis)
    np.testing.assert_array_equal(got, np.count_nonzero(mask, others))


@pytest.mark.parametrize('array, affine, message', [
    (np.zeros(SHAPE), AFFINE, 'marks nothing'),
    (np.ones((19, 24, 40)), AFFINE, 'same grid'),
    (np.ones(SHAPE), AFFINE + np.outer([9, 0, 0, 0], [0, 0, 0, 1]),
     '9.0 voxels apart.*same grid'),
    (np.ones(SHAPE), AFFINE @ np.diag([1, 1, 2, 1]), 'same grid')])
def test_annotations_that_do_not_fit(root, tmp_path, array, affine, message):
  save(tmp_path, array.astype(np.uint8), 'mask.nii', affine)
  with pytest.raises(ValueError, match=message):
    slices.load('a.nii', root, annotation='mask.nii')


def test_isotropic_sections(root):
  coronal, = slices.load('a.nii', root, plane='coronal', slices=[3])
  assert coronal.shape == (100, 20, 3)
  flat, = slices.load('a.nii', root, plane='coronal', slices=[3],
                      isotropic=False)
  assert flat.shape == (40, 20, 3)


def test_one_automatic_window_for_all(root):
  images = slices.load('a.nii', root, slices=[2, 30])
  seen = windows.automatic(VALUES[:, :, [2, 30]])
  for image, k in zip(images, (2, 30)):
    same(image, axial(k, seen.centre, seen.width))


def test_automatic_windows_look_at_a_bounded_sample(root, monkeypatch):
  monkeypatch.setattr(slices, 'SAMPLE', 64)
  looked, plain = [], windows.choose
  monkeypatch.setattr(windows, 'choose', lambda values, wanted: (
      looked.append(values.size), plain(values, wanted))[1])
  first = slices.load('a.nii', root, count=8)
  second = slices.load('a.nii', root, count=8)
  assert looked[0] == looked[1] <= 4 * 64
  np.testing.assert_array_equal(first, second)


def test_time_points(tmp_path):
  values = RNG.integers(0, 99, (6, 5, 4, 7)).astype(np.int16)
  image = nibabel.Nifti1Image(values, np.eye(4))
  image.header.set_xyzt_units('mm', 'msec')
  image.header['pixdim'][4] = 40
  nibabel.save(image, tmp_path / 'a.nii.gz')
  got, = slices.load('a.nii.gz', str(tmp_path), slices=[1], time=5,
                     window=(50, 100))
  same(got, axial(1, 50, 100, values[..., 5]))
  for options, times in (({}, range(7)), ({'count': 3}, (1, 3, 5)),
                         ({'max_tokens': 1}, (3,))):
    clip = slices.load('a.nii.gz', str(tmp_path), as_clip=True,
                       window=(50, 100), **options)
    assert isinstance(clip, types.Clip)
    np.testing.assert_allclose(clip.times, np.array(times) * .04)
    for frame, t in zip(clip.frames, times, strict=True):
      same(frame, axial(2, 50, 100, values[..., t]))
  with pytest.raises(ValueError, match='time 7 is none of the 7'):
    slices.load('a.nii.gz', str(tmp_path), time=7)


def test_embedded(root, tmp_path):
  data = (tmp_path / 'a.nii').read_bytes()
  for a, b in zip(slices.load('a.nii', root, count=3),
                  slices.decode(data, 'record 1', count=3), strict=True):
    np.testing.assert_array_equal(a, b)
  with pytest.raises(ValueError, match='no data root'):
    slices.decode(data, 'record 1', annotation='a.nii')
  with pytest.raises(ValueError, match='record 1.*as a volume'):
    slices.decode(data[:-5], 'record 1')


def test_npy_options_reach_the_opener(tmp_path):
  np.save(tmp_path / 'a.npy', VALUES)
  got, = slices.load('a.npy', str(tmp_path), slices=[4], axes='RAS',
                     spacing=[1, 1, 2.5], window='lung')
  same(got, axial(4, *windows.NAMED['lung']))
  # A mask that is stored alike is opened alike.
  np.save(tmp_path / 'mask.npy', np.arange(40) == np.full(SHAPE, 17))
  got, = slices.load('a.npy', str(tmp_path), annotation='mask.npy', axes='RAS',
                     window='lung')
  same(got, axial(17, *windows.NAMED['lung']))


def test_colours(tmp_path):
  colours = RNG.integers(0, 256, (*SHAPE, 3), np.uint8)
  np.save(tmp_path / 'a.npy', colours)
  got, = slices.load('a.npy', str(tmp_path), slices=[4], axes='RASC')
  np.testing.assert_array_equal(
      got, colours[::-1, ::-1, 4].swapaxes(0, 1))


@pytest.mark.parametrize('options, message', [
    ({'plane': 'up'}, 'coronal'), ({'window': 'heart'}, 'lung'),
    ({'window': [1]}, 'unknown'), ({'count': -1}, 'whole number'),
    ({'count': True}, 'whole number'), ({'time': 1.5}, 'whole number'),
    ({'patch': 0}, 'at least 1'), ({'slices': 'all'}, 'list of indices'),
    ({'slices': [.5]}, 'list of indices'), ({'slices': [40]}, '0 to 39'),
    ({'slices': [1, 2], 'max_tokens': 1}, '2 slices are given, and 1 fit'),
    ({'max_tokens': 1, 'patch': 14}, 'raise max_tokens'),
    ({'plane': 'multiplanar', 'count': 3}, 'leave out count'),
    ({'slices': [1], 'count': 1}, 'leave out'), ({'neighbours': 1}, 'of what'),
    ({'as_clip': True}, 'several time points'), ({'time': 1}, 'time 1 is none'),
    ({'as_clip': True, 'slices': [1, 2]}, 'a clip is of one slice'),
    ({'slices': 4}, 'list of indices'), ({'as_clip': 'no'}, 'true or false'),
    ({'annotation': [3]}, 'expected a path'),
    ({'slice': [1]}, "option 'slice' is none of a volume"),
    ({'axes': 'RAS'}, 'not one of NIfTI'),
    ({'annotation': '../mask.nii'}, 'outside the data root')])
def test_refusals(root, options, message):
  with pytest.raises(ValueError, match=message):
    slices.load('a.nii', root, **options)


def test_options_can_be_listed():
  for function, places in ((slices.load, ['path', 'root']),
                           (slices.decode, ['data', 'name'])):
    names = list(inspect.signature(function).parameters)
    assert names[:2] == places
    assert {'plane', 'window', 'slices', 'axes', 'level'} < set(names)


@pytest.mark.skipif(not DATA.exists(), reason='shared/data/nifti is not here')
def test_real_planes_through_a_tilted_volume():
  """MR_Gd is tilted by 7 degrees: shown along its own axes, and says so."""
  opened = volume.canonical(
      volume_files.open_volume('MR_Gd.nii.gz', str(DATA)))
  assert 6 < opened.oblique < 7
  images = slices.load('MR_Gd.nii.gz', str(DATA), plane='multiplanar')
  assert [i.shape for i in images] == [(188, 176, 3), (148, 176, 3),
                                       (148, 188, 3)]
  assert all(i.std() > 20 for i in images)
