"""Order of slices against the table of positions, and planted faults."""

import itertools
import json
import pathlib

import numpy as np
import pydicom.uid
import pytest

from medrl.media import dicom
from medrl.media import dicom_series
from medrl.media import dicom_stack
from tests.media import dicom_files

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'dicom'
TABLE = DATA / 'index.jsonl'
needs_data = pytest.mark.skipif(not TABLE.exists(), reason=f'{TABLE} is absent')
AXIAL = [1, 0, 0, 0, 1, 0]
RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
  return Folder(tmp_path)


class Folder:
  """Writes slices whose names and numbers say nothing about their order."""

  def __init__(self, path):
    self.root, self.names = str(path), itertools.count(100, -1)
    self.path = path / 'scan'
    self.path.mkdir()
    self.uid = pydicom.uid.generate_uid(prefix='1.2.826.0.1.424242.')

  def add(self, z, level=0, orientation=AXIAL, at=(10., 20.), **tags):
    """Writes one slice, 4 x 6, whose values are `level` plus 0 to 23."""
    values = (level + np.arange(24)).reshape(4, 6).astype(np.int16)
    described = {
        'SeriesInstanceUID': self.uid, 'ImageOrientationPatient': orientation,
        'ImagePositionPatient': [*at, z], 'PixelSpacing': [0.5, 0.7],
        'RescaleSlope': 1, 'RescaleIntercept': -1000, **tags}
    values = described.pop('values', values)
    made = dicom_files.planted(dicom_files.tagged(values))
    for keyword, value in described.items():
      if value is not None:
        setattr(made, keyword, value)
    name = f'IM{next(self.names):04}'
    (self.path / name).write_bytes(dicom_files.written(made))
    return name

  def open(self, **options):
    return dicom_series.open_series('scan', self.root, **options)

  def load(self, **options):
    return dicom_series.load('scan', self.root, **options)


@needs_data
@pytest.mark.parametrize('path, gaps', [
    ('98892001/CT5N', 'refuse'), ('77654033/CT2', 'allow')])
def test_order_is_that_of_the_positions_in_the_table(path, gaps):
  rows = [json.loads(line) for line in TABLE.read_text().splitlines()]
  rows = [r for r in rows if path in r['file']]
  by_height = sorted(rows, key=lambda r: r['ipp'][2])
  got = dicom_series.open_series(f'series/{path}', str(DATA), gaps=gaps)
  assert [one.file.name for one in got.slices] == [
      pathlib.Path(r['file']).name for r in by_height]
  assert got.ordered_by == 'position'
  for k, row in enumerate(by_height):
    values = got.read(k)
    assert values.dtype == np.float32 and values.shape == (16, 16)
    wanted = row['px_mean'] * row['slope'] + row['intercept']
    assert abs(values.mean(dtype=np.float64) - wanted) < 1e-3
  # Voxel (0, 0) of the ends of the stack, from left and back to right, front.
  for k in (0, len(rows) - 1):
    np.testing.assert_allclose(got.affine @ [0, 0, k, 1],
                               np.array([*by_height[k]['ipp'], 1]) * [-1, -1, 1,
                                                                      1])


@needs_data
def test_folders_of_the_table_that_are_no_stack():
  with pytest.raises(ValueError, match='202.5 mm between .17106. and .17136.'):
    dicom_series.load('series/77654033/CT2', str(DATA))
  # Two localisers, coronal and sagittal, in one series.
  with pytest.raises(ValueError, match='holds several stacks.*0 .*: 1 of 16'):
    dicom_series.load('series/98892001/CT2N', str(DATA))
  got = dicom_series.open_series('series/77654033/CR1', str(DATA))
  assert got.affine is None and got.spacing is None
  assert got.ordered_by == 'instance number, as the headers have no positions'


def test_affine_is_that_of_the_standard(folder):
  # A tilted plane and a step that is not along its normal (a tilted gantry).
  row, column = np.array([0., 0.6, -0.8]), np.array([1., 0., 0.])
  origin, step = np.array([5., -7., 11.]), np.array([0.3, 2., 1.5])
  for k in (2, 0, 3, 1):
    x, y, z = origin + k * step
    folder.add(z, at=(x, y), orientation=[*row, *column])
  got = folder.open()
  assert got.shape == (4, 6, 4)
  along = np.sign(np.cross(row, column) @ step)
  first, step = (origin, step) if along > 0 else (origin + 3 * step, -step)
  for r, c, k in itertools.product((0, 3), (0, 5), (0, 1, 3)):
    wanted = first + c * 0.7 * row + r * 0.5 * column + k * step
    np.testing.assert_allclose(got.affine @ [r, c, k, 1],
                               [-wanted[0], -wanted[1], wanted[2], 1])
  np.testing.assert_allclose(got.spacing, (0.5, 0.7, np.linalg.norm(step)))


def test_slices_are_read_in_order_and_only_those(folder, monkeypatch):
  for z in (7.5, 2.5, 0., 5.):
    folder.add(z, level=int(z * 10), InstanceNumber=1)
  got = folder.open()
  for k, z in enumerate((0, 25, 50, 75)):
    np.testing.assert_array_equal(
        got.read(k), (z - 1000. + np.arange(24)).reshape(4, 6))

  opened = []
  decode = dicom.pixels
  monkeypatch.setattr(dicom, 'pixels', lambda data, name: (
      opened.append(name), decode(data, name))[1])
  window = (-960, 100)
  images = folder.load(window=window, slices=[3, 1])
  assert len(images) == len(opened) == 2
  wanted = (np.arange(24).reshape(4, 6) + [[[75]], [[25]]] - 40 + 50) / 100
  got = np.stack(images)[..., 0]
  assert np.abs(got - np.clip(wanted, 0, 1) * 255).max() <= 0.51
  assert len(folder.load(count=2)) == 2 and len(opened) == 4
  assert len(folder.load(count=99)) == 4
  # One window for all: the lowest values of all and the highest of all.
  images = np.stack(folder.load(window='automatic'))
  assert images[0].min() == 0 and images[-1].max() == 255
  assert images[0].max() < images[1].max() < images[3].min()
  with pytest.raises(ValueError, match='no index of 4'):
    folder.load(slices=[4])


def test_several_series_are_refused_and_can_be_chosen(folder):
  for z in (0, 1, 2):
    folder.add(z, SeriesNumber=7)
  folder.add(0, orientation=[0, 1, 0, 0, 0, -1], SeriesNumber=7)   # localiser
  folder.add(0, values=np.zeros((8, 8), np.int16), SeriesNumber=7)
  other = pydicom.uid.generate_uid()
  for z in (0, 5):
    folder.add(z, level=300, SeriesInstanceUID=other, SeriesNumber=2)
  with pytest.raises(ValueError, match='several stacks') as caught:
    folder.load()
  text = str(caught.value)
  assert all(part in text for part in (
      '0 (', ': 2 of 4 x 6, CT', ': 3 of 4 x 6', ': 1 of 8 x 8'))
  assert not any(trace in text for trace in dicom_files.TRACES)
  assert str(other) not in text
  assert len(folder.load(series=0)) == 2
  names = [name for name, _ in dicom_stack.stacks(
      dicom_series.headers('scan', folder.root))]
  assert len(set(names)) == 4
  for i, name in enumerate(names):
    assert name in text
    assert [s.file for s in folder.open(series=name).slices] == [
        s.file for s in folder.open(series=i).slices]
  for wrong in (4, 'abc', True):
    with pytest.raises(ValueError, match='has no'):
      folder.open(series=wrong)


def test_duplicates(folder):
  for z in (0, 1, 2, 3):
    folder.add(z, InstanceNumber=int(z))
  double = folder.add(1.001, InstanceNumber=99, level=50)
  with pytest.raises(ValueError, match='1 of 4 places have more than one'):
    folder.open()
  got = folder.open(duplicates='first')
  assert got.shape == (4, 6, 4)
  assert double not in [one.file.name for one in got.slices]


def test_gaps(folder):
  for z in (0, 1.25, 2.5, 5, 6.25):
    folder.add(z)
  with pytest.raises(ValueError, match='1.25 mm apart, but 2.5 mm'):
    folder.open()
  assert folder.open(gaps='allow').shape == (4, 6, 5)


def test_slices_beside_a_line(folder):
  for z, x in ((0, 0.), (1, 30.), (2, 0.)):
    folder.add(z, at=(x, 0.))
  with pytest.raises(ValueError, match='beside a line'):
    folder.open()


def test_small_differences_are_no_gaps(folder):
  for z in (0, 1.249, 2.501, 3.75):
    folder.add(z)
  assert folder.open().shape[2] == 4


@pytest.mark.parametrize('keyword', [
    'TemporalPositionIdentifier', 'EchoNumbers', 'AcquisitionNumber'])
def test_time_points_of_one_place(folder, keyword):
  for t, z in itertools.product((2, 1, 3), (5, 0, 10)):
    folder.add(z, level=100 * t + z, **{keyword: t})
  with pytest.raises(ValueError, match='3 images lie at each of 3 places'):
    folder.open()
  for t in range(3):
    got = folder.open(time=t)
    assert [int(got.read(k)[0, 0]) + 1000 for k in range(3)] == [
        100 * (t + 1) + z for z in (0, 5, 10)]
  with pytest.raises(ValueError, match='time 3'):
    folder.open(time=3)


def test_without_positions(folder):
  for number, level in ((3, 30), (1, 10), (2, 20)):
    folder.add(0, level=level, InstanceNumber=number,
               ImagePositionPatient=None)
  got = folder.open()
  assert got.ordered_by.startswith('instance number') and got.affine is None
  assert [got.read(k)[0, 0] for k in range(3)] == [-990, -980, -970]
  folder.add(0, InstanceNumber=1, ImagePositionPatient=None)
  assert folder.open().ordered_by.startswith('name')
  with pytest.raises(ValueError, match='no positions'):
    folder.open(time=0)


def test_one_slice_is_as_thick_as_it_says(folder):
  folder.add(3, SliceThickness=2.5)
  assert folder.open().spacing == (0.5, 0.7, 2.5)


def test_what_else_lies_in_a_folder(folder, tmp_path):
  with pytest.raises(ValueError, match='no DICOM image'):
    folder.open()
  folder.add(0)
  (folder.path / 'README.txt').write_text('about this scan ' * 20)
  (folder.path / '.hidden').write_bytes(b'DICM')
  (folder.path / 'below').mkdir()
  report = dicom_files.tagged(np.zeros((2, 2), np.uint8), Modality='SR')
  report.SOPClassUID = '1.2.840.10008.5.1.4.1.1.88.11'   # Basic Text SR
  del report.Rows, report.PixelData
  (folder.path / 'SR1').write_bytes(dicom_files.written(report))
  assert folder.open().shape == (4, 6, 1)

  folder.add(1, values=np.zeros((3, 4, 6), np.int16))
  with pytest.raises(ValueError, match='has 3 frames'):
    folder.open()
  (folder.path / 'cut').write_bytes(bytes(128) + b'DICM' + b'\xff' * 40)
  with pytest.raises(ValueError, match='cut.*header is damaged'):
    folder.open()


@pytest.mark.parametrize('size', [0, 100, 400, 900])
@pytest.mark.parametrize('which', [0, 3])
def test_a_slice_cut_short_is_not_left_out(folder, which, size):
  """At the ends no gap would tell."""
  for number in range(4):
    folder.add(number)
  path = sorted(p for p in folder.path.iterdir())[which]
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(ValueError, match=path.name):
    dicom_series.load(folder.path.name, folder.root)


def test_nothing_outside_the_root_is_read(folder, tmp_path_factory):
  folder.add(0)
  outside = tmp_path_factory.mktemp('outside') / 'a.dcm'
  outside.write_bytes((folder.path / 'IM0100').read_bytes())
  (folder.path / 'IM0001').symlink_to(outside)
  with pytest.raises(ValueError, match='outside'):
    folder.open()
  with pytest.raises(ValueError, match='outside'):
    dicom_series.load(str(outside.parent), folder.root)


def test_options(folder):
  folder.add(0, BurnedInAnnotation='YES')
  assert len(folder.load()) == 1
  for options, text in (({'burnt_in': 'refuse'}, 'may hold text'),
                        ({'window': 'lungs'}, 'unknown'),
                        ({'duplicates': 'last'}, 'duplicates'),
                        ({'gaps': 'fill'}, 'gaps')):
    with pytest.raises(ValueError, match=text):
      folder.load(**options)


def test_no_names_in_what_is_kept(folder):
  for z in (0, 1):
    folder.add(z)
  got = repr((folder.open(), folder.load()))
  assert not any(trace in got for trace in dicom_files.TRACES)
