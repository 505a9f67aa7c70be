"""A DICOM series as a volume: each voxel where its own header puts it."""

import pathlib

import numpy as np
import pydicom
import pytest

from medrl.media import slices
from medrl.media import volume
from medrl.media import volume_files

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'dicom'
FOLDER = 'series/98892001/CT5N'
pytestmark = pytest.mark.skipif(not (DATA / FOLDER).exists(),
                                reason='shared/data/dicom is not here')


def test_voxels_lie_where_headers_say():
  opened = volume_files.open_volume(FOLDER, str(DATA))
  turned = volume.canonical(opened)
  values, checked = turned.read(), 0
  for file in (DATA / FOLDER).iterdir():
    header = pydicom.dcmread(file)
    pixels = (header.pixel_array * float(header.RescaleSlope)
              + float(header.RescaleIntercept))
    along = np.array(header.ImageOrientationPatient, float)
    down, across = map(float, header.PixelSpacing)
    for row, column in ((0, 0), (3, 7), (15, 2)):
      # DICOM PS3.3 C.7.6.2.1.1, and from left, posterior to right, anterior.
      point = (np.array(header.ImagePositionPatient, float)
               + along[:3] * across * column + along[3:] * down * row)
      at = np.linalg.solve(turned.affine, [-point[0], -point[1], point[2], 1])
      place = np.rint(at[:3]).astype(int)
      np.testing.assert_allclose(at[:3], place, atol=.02)
      assert values[tuple(place)] == pixels[row, column]
      checked += 1
  assert checked == 3 * opened.shape[2] == 15


def test_only_slices_asked_for_are_decoded(monkeypatch):
  opened = volume_files.open_volume(FOLDER, str(DATA))
  whole, decoded = opened.read(), []
  from medrl.media import dicom_series
  plain = dicom_series.Series.read
  monkeypatch.setattr(dicom_series.Series, 'read', lambda self, k: (
      decoded.append(k), plain(self, k))[1])
  got = opened.read(([3, 5], slice(2, 9), [4, 1]))
  np.testing.assert_array_equal(got, whole[[3, 5], 2:9][:, :, [4, 1]])
  assert decoded == [1, 4]


def test_sections_of_other_planes():
  images = slices.load(FOLDER, str(DATA), plane='multiplanar', window='lung')
  assert [i.shape[2] for i in images] == [3, 3, 3]


@pytest.mark.parametrize('folder, options, message', [
    (FOLDER, {'axes': 'SPL'}, 'headers give positions'),
    (FOLDER, {'channel': 1}, 'channel=1 is not one of DICOM'),
    ('series/77654033/CR1', {}, "axes='SPL'"),
    ('series/98892001/CT2N', {}, 'several stacks'),
    ('series/98892001', {}, 'no image|DICOM')])
def test_refusals(folder, options, message):
  with pytest.raises(ValueError, match=message):
    slices.load(folder, str(DATA), **options)


def test_series_and_axes_by_option():
  opened = volume_files.open_volume('series/98892001/CT2N', str(DATA),
                                    volume_files.Opening(series=1))
  assert opened.shape[2] == 1
  opened = volume_files.open_volume('series/77654033/CR1', str(DATA),
                                    volume_files.Opening(axes='SPL'))
  assert opened.orientation == 'SPL' and opened.shape[0] == 1
