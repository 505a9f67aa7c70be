"""Volumes against NumPy and nibabel: orientation, reading, planes, pixels."""

import itertools

import nibabel
from nibabel import orientations
import numpy as np
import pytest

from medrl.media import volume

RNG = np.random.default_rng(0)
# Every way to name three axes: 6 orders of 8 combinations of directions.
CODES = [''.join(ends) for order in itertools.permutations(volume.LETTERS)
         for ends in itertools.product(*order)]


def of_array(array, affine, times=(0.,), colour=False):
  """A volume of an array [x, y, z(, t)(, 3)], which notes what is fetched."""
  array = array if array.ndim > 3 else array[..., None]

  def fetch(indices):
    assert all((np.diff(i) > 0).all() for i in indices)
    return array[np.ix_(*indices)]

  return volume.Volume(array.shape[:3], affine, times, fetch, colour)


def counted(shape=(4, 5, 6)):
  """Voxel (x, y, z) is x + 10 y + 100 z."""
  x, y, z = np.indices(shape)
  return x + 10 * y + 100 * z


def stored(array, affine, code):
  """The same image with its axes stored as `code`, by nibabel."""
  image = nibabel.Nifti1Image(array.astype(np.int16), affine)
  turn = orientations.ornt_transform(
      nibabel.io_orientation(affine), orientations.axcodes2ornt(code))
  image = image.as_reoriented(turn)
  return np.asarray(image.dataobj), image.affine


def tilted(seed):
  """An affine of random spacing, rotation and slight shear."""
  rng = np.random.default_rng(seed)
  turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
  affine = np.eye(4)
  shear = np.eye(3) + rng.uniform(-.2, .2, (3, 3)) * (seed % 2)
  affine[:3, :3] = turn @ shear @ np.diag(rng.uniform(.3, 5, 3))
  affine[:3, 3] = rng.normal(size=3) * 100
  return affine


@pytest.mark.parametrize('block', range(4))
def test_axes_are_those_of_nibabel(block):
  for seed in range(block * 100, block * 100 + 100):
    affine = tilted(seed)
    expected = nibabel.io_orientation(affine)
    assert volume.axes_of(affine) == tuple(
        (int(world), int(sign)) for world, sign in expected)
    opened = of_array(counted(), affine)
    assert opened.orientation == ''.join(nibabel.aff2axcodes(affine))
    np.testing.assert_allclose(opened.spacing,
                               nibabel.affines.voxel_sizes(affine))


def test_oblique_is_the_angle():
  angle = np.deg2rad(20)
  affine = np.diag([2., 3., 4., 1.])
  assert of_array(counted(), affine).oblique == 0
  turn = np.eye(4)
  turn[:2, :2] = [[np.cos(angle), -np.sin(angle)],
                  [np.sin(angle), np.cos(angle)]]
  np.testing.assert_allclose(of_array(counted(), turn @ affine).oblique, 20)


@pytest.mark.parametrize('code', CODES)
def test_all_orientations(code):
  array = counted()
  affine = np.diag([1., 2., 3., 1.])
  affine[:3, 3] = -7, 8, 9
  data, stored_affine = stored(array, affine, code)
  opened = of_array(data, stored_affine)
  assert opened.orientation == code
  turned = volume.canonical(opened)
  assert turned.orientation == 'RAS' and turned.shape == array.shape
  np.testing.assert_array_equal(turned.affine, affine)
  np.testing.assert_array_equal(turned.read(), array)
  # Corners of the patient: right and anterior at the top left, and so on.
  axial, = volume.planes(turned, 'axial', [2])[0]
  right, anterior, superior = np.subtract(array.shape, 1)
  assert axial[0, 0] == array[right, anterior, 2]
  assert axial[-1, 0] == array[right, 0, 2]
  assert axial[0, -1] == array[0, anterior, 2]
  coronal, = volume.planes(turned, 'coronal', [3])[0]
  assert coronal[0, 0] == array[right, 3, superior]
  assert coronal[-1, 0] == array[right, 3, 0]
  assert coronal[0, -1] == array[0, 3, superior]
  sagittal, = volume.planes(turned, 'sagittal', [1])[0]
  assert sagittal[0, 0] == array[1, anterior, superior]
  assert sagittal[-1, 0] == array[1, anterior, 0]
  assert sagittal[0, -1] == array[1, 0, superior]
  # What is annotated in the axes as stored, in canonical ones.
  spot = np.array([1, 2, 0])
  at = volume.between(spot, opened.affine, turned.affine)
  assert array[tuple(np.rint(at).astype(int))] == data[tuple(spot)]


def test_canonical_of_oblique_is_that_of_nibabel():
  for seed in range(50):
    affine, array = tilted(seed), counted()
    image = nibabel.as_closest_canonical(
        nibabel.Nifti1Image(array.astype(np.int16), affine))
    turned = volume.canonical(of_array(array, affine))
    np.testing.assert_array_equal(turned.read(), image.dataobj)
    np.testing.assert_allclose(turned.affine, image.affine, atol=1e-9)


@pytest.mark.parametrize('code', ['RAS', 'PIL'])
def test_reads_any_selection(code):
  array = RNG.integers(0, 99, (7, 8, 9, 5))
  opened = volume.canonical(of_array(
      array, stored(counted((7, 8, 9)), np.eye(4), code)[1], tuple(range(5))))
  whole = opened.read(time=slice(None))
  assert whole.shape == (*opened.shape, 5)
  for _ in range(30):
    box = [RNG.integers(0, n, RNG.integers(1, 6)) for n in whole.shape]
    np.testing.assert_array_equal(
        opened.read([list(b) for b in box[:3]], box[3]), whole[np.ix_(*box)])
  np.testing.assert_array_equal(
      opened.read((slice(1, 6, 2), 3, slice(None, None, -1)), 2),
      whole[1:6:2, 3:4, ::-1, 2])


def test_a_read_fetches_no_more_than_asked():
  sizes = []
  opened = of_array(counted(), np.diag([-1., 1., 1., 1.]))
  counting = volume.Volume(
      opened.shape, opened.affine, opened.times,
      lambda i: (sizes.append([len(a) for a in i]), opened.fetch(i))[1])
  volume.planes(volume.canonical(counting), 'coronal', [4, 0, 4])
  assert sizes == [[4, 2, 6, 1]]


def test_colours_keep_their_axis():
  array = RNG.integers(0, 256, (4, 5, 6, 1, 3), np.uint8)
  opened = volume.canonical(of_array(array, np.diag([-1., -1., 1., 1.]),
                                     colour=True))
  got = volume.planes(opened, 'axial', [5])[0, 0]
  np.testing.assert_array_equal(got, array[:, :, 5, 0].swapaxes(0, 1))


@pytest.mark.parametrize('spacing, size', [
    ((1, 1, 1), (4, 6)), ((1, 1, 2.5), (4, 15)), ((3, 1, 1), (12, 6)),
    ((.7, 9, 1.4), (4, 12))])
def test_pixels_are_square(spacing, size):
  opened = of_array(counted(), np.diag([*spacing, 1.]))
  shown = volume.view(opened, 'coronal')
  assert shown.transform.target == size
  image = volume.resized(np.zeros((6, 4), np.uint8), shown)
  assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8
  flat = volume.view(opened, 'coronal', isotropic=False)
  assert flat.transform.target == (4, 6)


def test_a_wild_spacing_stays_bounded():
  opened = of_array(counted(), np.diag([1e-3, 1., 1e3, 1.]))
  wide, high = volume.view(opened, 'coronal').transform.target
  assert high == volume.MAX_SHOWN and wide == 1


@pytest.mark.parametrize('plane', volume.PLANES)
def test_voxels_and_pixels_both_ways(plane):
  opened = of_array(np.zeros((20, 24, 16)), np.diag([1.3, 2., 4.1, 1.]))
  shown = volume.view(opened, plane)
  across, up, through = volume.PLANES[plane]
  points = RNG.uniform(-1, 25, (50, 3))
  points[:, through] = 7
  pixels = volume.voxel_to_pixel(shown, points)
  np.testing.assert_allclose(volume.pixel_to_voxel(shown, pixels, 7), points,
                             atol=1e-12)
  # The corners of the volume are those of the image, reversed.
  ends = volume.voxel_box_to_pixel(shown, [0, 0, 0],
                                   np.subtract(opened.shape, 1))
  np.testing.assert_allclose(ends, [0, 0, *shown.transform.target], atol=1e-9)
  low, high = volume.pixel_box_to_voxel(shown, ends, 7)
  expected = np.zeros((2, 3))
  expected[1] = np.subtract(opened.shape, 1)
  expected[:, through] = 7
  np.testing.assert_allclose([low, high], expected, atol=1e-9)


@pytest.mark.parametrize('plane', volume.PLANES)
def test_a_box_of_voxels_is_lit_where_its_pixels_are(plane):
  array = np.zeros((30, 24, 18), np.uint8)
  low, high = np.array([4, 9, 2]), np.array([10, 13, 8])
  array[4:11, 9:14, 2:9] = 255
  opened = of_array(array, np.diag([1., 1.7, 3.2, 1.]))
  shown = volume.view(opened, plane)
  index = int(low[volume.PLANES[plane][2]])
  image = volume.resized(volume.planes(opened, plane, [index])[0, 0], shown)
  rows, columns = np.nonzero(image[..., 0] > 127)
  found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
  # Half a pixel of rounding; interpolation is symmetric about the edge.
  np.testing.assert_allclose(
      found, volume.voxel_box_to_pixel(shown, low, high), atol=.5 + 1e-6)


@pytest.mark.parametrize('call, message', [
    (lambda v: v.read((slice(9, 9), 0, 0)), '0 voxels'),
    (lambda v: v.read((4, 0, 0)), '0 to 3'),
    (lambda v: v.read((-1, 0, 0)), '0 to 3'),
    (lambda v: v.read(([.5], 0, 0)), 'whole numbers'),
    (lambda v: v.read(time=1), '0 to 0'),
    (lambda v: volume.planes(v, 'axial', [6]), '0 to 5'),
    (lambda v: volume.planes(v, 'oblique', [0]), 'axial, coronal'),
    (lambda v: volume.view(volume.Volume(
        v.shape, np.diag([-1., 1, 1, 1]), v.times, v.fetch), 'axial'),
     'canonical'),
    (lambda v: volume.Volume((0, 1, 1), np.eye(4), (0.,), v.fetch), 'shape'),
    (lambda v: volume.Volume((1, 1), np.eye(4), (0.,), v.fetch), 'shape'),
    (lambda v: volume.Volume((1 << 21, 1, 1), np.eye(4), (0.,), v.fetch),
     'shape'),
    (lambda v: volume.Volume((1, 1, 1), np.eye(4), (), v.fetch), 'times'),
    (lambda v: volume.Volume((1, 1, 1), np.zeros((4, 4)), (0.,), v.fetch),
     'basis'),
    (lambda v: volume.Volume((1, 1, 1), np.full((4, 4), np.nan), (0.,),
                             v.fetch), 'finite'),
    (lambda v: volume.Volume((1 << 10,) * 3, np.eye(4), (0.,), v.fetch).read(),
     'fewer slices'),
])
def test_refusals(call, message):
  with pytest.raises(ValueError, match=message):
    call(of_array(counted(), np.eye(4)))
