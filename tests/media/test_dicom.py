"""DICOM files against the truth table, pydicom, and arrays written by hand."""

import json
import pathlib
import pickle
import random
import traceback
import warnings

import numpy as np
import pydicom
import pydicom.encaps
import pydicom.pixels
import pydicom.uid
import pytest

from medrl import types
from medrl.media import dicom
from medrl.media import dicom_header
from medrl.media import dicom_pixels
from medrl.media import dicom_tags
from medrl.media import windows
from tests.media import dicom_files

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
TABLE = DATA / 'dicom' / 'index.jsonl'
ROWS = [json.loads(line) for line in TABLE.read_text().splitlines()
        ] if TABLE.exists() else []
FILES = DATA / 'dicom' / 'files'
needs_data = pytest.mark.skipif(not ROWS, reason=f'{TABLE} is absent')
RNG = np.random.default_rng(0)
HU = RNG.integers(-1000, 1500, (6, 8)).astype(np.int16)


def read(name):
  return (FILES / name).read_bytes()


def close(got, wanted):
  assert got.shape == wanted.shape
  assert np.abs(got.astype(float) - wanted).max() <= 0.5001


@needs_data
@pytest.mark.parametrize('row', [r for r in ROWS if 'px_shape' in r],
                         ids=lambda r: r['file'])
def test_stored_values_are_those_of_the_table(row):
  got = dicom.pixels((DATA / 'dicom' / row['file']).read_bytes(), row['file'])
  values, header = got.values, got.header
  assert len(header.frames) == len(values) == row['frames']
  shape = values.shape if row['frames'] > 1 else values.shape[1:]
  assert list(shape) == row['px_shape']
  # Decoders of lossy JPEG differ by rounding and in how they spread colours.
  slack = 0.02 if 'JPEG Baseline' in row['syntax'] else 5e-4
  assert (values.min(), values.max()) == (row['px_min'], row['px_max'])
  assert abs(values.mean(dtype=np.float64) - row['px_mean']) < slack
  assert (header.modality, header.rows, header.columns, header.photometric,
          header.bits, header.syntax, header.body) == (
      row['modality'], row['rows'], row['cols'], row['photometric'],
      row['bits'], row['syntax'], row['body'] or '')
  first = header.frames[0]
  if row['spacing'] and min(row['spacing']):
    np.testing.assert_allclose(first.spacing, row['spacing'])
  if row['slope']:
    assert (first.slope, first.intercept) == (row['slope'], row['intercept'])
  if row.get('ipp'):
    np.testing.assert_allclose(first.position, row['ipp'])
  if row['wc'] and row['wc'][0] != '[':
    assert first.voi[0][:2] == (float(row['wc']), float(row['ww']))


@needs_data
@pytest.mark.parametrize('row', ROWS, ids=lambda r: r['file'])
def test_every_file_is_shown_or_fails_for_its_reason(row):
  root = str(DATA / 'dicom')
  if 'px_error' in row:
    reason = ('number of bytes of pixel data is less than expected'
              if row['rows'] else f'modality is {row["modality"]}')
    with pytest.raises(ValueError, match=reason):
      dicom.load(row['file'], root)
    return
  got = dicom.load(row['file'], root)
  images = got.frames if isinstance(got, types.Clip) else (
      got if isinstance(got, tuple) else [got])
  assert len(images) == row['frames']
  assert isinstance(got, np.ndarray) == (row['frames'] == 1)
  for image in images:
    assert image.dtype == np.uint8
    assert image.shape == (row['rows'], row['cols'], 3)
  if row['file'].startswith('files'):   # the others are cut to 16 x 16
    assert np.ptp(images) > 50


@needs_data
@pytest.mark.parametrize('name', [
    'CT_small.dcm', 'MR_small_bigendian.dcm', 'examples_overlay.dcm',
    'J2K_pixelrep_mismatch.dcm', 'vlut_04.dcm', 'RG1_J2KI.dcm',
    'JPGLosslessP14SV1_1s_1f_8b.dcm'])
def test_shown_as_pydicom_shows(name):
  if name.startswith('JPGLossless'):
    pytest.importorskip('gdcm', reason='pydicom has no other decoder for it')
  found = pydicom.dcmread(FILES / name)
  modal = pydicom.pixels.apply_modality_lut(found.pixel_array, found)
  wanted = pydicom.pixels.apply_voi_lut(modal, found)
  got = dicom.decode(read(name), name)[..., 0]
  if 'WindowCenter' in found:
    # pydicom spreads a window over the range of stored values.
    high = 2 ** (found.BitsStored - found.PixelRepresentation) - 1
    low = -(high + 1) * found.PixelRepresentation
    slope = float(found.get('RescaleSlope', 1))
    shift = float(found.get('RescaleIntercept', 0))
    wanted = (wanted - low * slope - shift) * 255 / ((high - low) * slope)
  elif 'VOILUTSequence' in found:
    top = 2 ** found.VOILUTSequence[0].LUTDescriptor[2] - 1
    wanted = wanted * (255. / top)
  else:
    wanted = windows.window(modal, *windows.automatic(
        modal[found.pixel_array != found.PixelPaddingValue]))
  if found.PhotometricInterpretation == 'MONOCHROME1':
    wanted = 255 - wanted
  assert np.abs(got - wanted).max() <= 0.51 + (name == 'CT_small.dcm')


@needs_data
def test_colours():
  name = 'examples_palette.dcm'
  found = pydicom.dcmread(FILES / name)
  wanted = pydicom.pixels.apply_color_lut(found.pixel_array, found) >> 8
  np.testing.assert_array_equal(dicom.decode(read(name), name), wanted)

  name = 'examples_rgb_color.dcm'
  np.testing.assert_array_equal(
      dicom.decode(read(name), name), pydicom.dcmread(FILES / name).pixel_array)

  name = 'examples_ybr_color.dcm'
  clip = dicom.decode(read(name), name)
  np.testing.assert_array_equal(
      clip.frames, pydicom.pixels.pixel_array(
          FILES / name, decoding_plugin='pillow'))
  np.testing.assert_allclose(clip.times, np.arange(30) * 0.033333, atol=1e-9)


def test_native_ybr_and_planes():
  ybr = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)
  made = dicom_files.tagged(ybr, PhotometricInterpretation='YBR_FULL')
  wanted = pydicom.pixels.convert_color_space(ybr, 'YBR_FULL', 'RGB')
  got = dicom.decode(dicom_files.written(made), 'a').astype(int)
  assert np.abs(got - wanted).max() <= 1

  planes = dicom_files.tagged(ybr, PlanarConfiguration=1)
  planes.PixelData = np.moveaxis(ybr, -1, 0).tobytes() + b'\0'
  got = dicom.decode(dicom_files.written(planes), 'a')
  np.testing.assert_array_equal(got, ybr)
  assert got.flags.c_contiguous

  deep = ybr.astype(np.uint16) << 4
  got = dicom.decode(dicom_files.written(dicom_files.tagged(
      deep, BitsStored=12, HighBit=11)), 'a')
  np.testing.assert_array_equal(got, ybr)


@pytest.mark.parametrize('entries, kind', [(256, 'u2'), (256, 'u1'),
                                           (10, 'u1'), (300, 'u2')])
def test_palettes_start_where_they_say(entries, kind):
  tables = RNG.integers(0, np.iinfo(kind).max, (3, entries)).astype(kind)
  made = dicom_files.tagged(
      np.arange(256, dtype=np.uint8).reshape(16, 16),
      PhotometricInterpretation='PALETTE COLOR')
  for colour, table in zip(('Red', 'Green', 'Blue'), tables):
    name = f'{colour}PaletteColorLookupTable'
    setattr(made, f'{name}Descriptor', [entries, 5, 8 * table.itemsize])
    setattr(made, f'{name}Data', table.tobytes())
  at = np.clip(np.arange(256) - 5, 0, entries - 1)
  wanted = (tables >> 8 * (table.itemsize - 1)).T[at].reshape(16, 16, 3)
  np.testing.assert_array_equal(
      dicom.decode(dicom_files.written(made), 'a'), wanted)


def test_monochrome1_is_turned():
  made = dicom_files.tagged(HU, WindowCenter=40, WindowWidth=400)
  usual = dicom.decode(dicom_files.written(made), 'a')
  made.PhotometricInterpretation = 'MONOCHROME1'
  turned = dicom.decode(dicom_files.written(made), 'a')
  np.testing.assert_array_equal(turned, 255 - usual)


@pytest.mark.parametrize('window, centre, width', [
    ('header', 30.5, 99), ('lung', -600, 1500), ([100, 50], 100, 50)])
def test_windows_are_of_rescaled_values(window, centre, width):
  made = dicom_files.tagged(
      HU, RescaleSlope=2, RescaleIntercept=-7.5, WindowCenter=31,
      WindowWidth=100)
  got = dicom.decode(dicom_files.written(made), 'a', window=window)
  scaled = ((HU * 2 - 7.5 - centre) / width + 0.5) * 255
  close(got, np.repeat(np.clip(scaled, 0, 255)[..., None], 3, -1))


def test_modality_and_voi_tables():
  modality = dicom_files.item(LUTDescriptor=[4, 2, 16], ModalityLUTType='US')
  modality.add_new('LUTData', 'US', [0, 1, 2, 3])
  voi = dicom_files.item(LUTDescriptor=[4, 0, 10])
  voi.add_new('LUTData', 'OW', np.array([0, 100, 500, 1023], '<u2').tobytes())
  values = np.arange(8, dtype=np.uint8).reshape(2, 4)
  made = dicom_files.tagged(values)
  made.ModalityLUTSequence, made.VOILUTSequence = [modality], [voi]
  data = dicom_files.written(made)
  np.testing.assert_array_equal(
      dicom.measured(dicom.pixels(data, 'a'))[0],
      [[0, 0, 0, 1], [2, 3, 3, 3]])
  close(dicom.decode(data, 'a')[..., 0], np.array(
      [[0, 0, 0, 100], [500, 1023, 1023, 1023]]) * 255 / 1023)
  close(dicom.decode(data, 'a', window=[1.5, 3])[..., 0], np.array(
      [[0, 0, 0, 85], [170, 255, 255, 255]]))


def test_eight_bits_without_a_window_stay_as_they_are():
  values = RNG.integers(50, 90, (4, 6)).astype(np.uint8)
  got = dicom.decode(dicom_files.written(dicom_files.tagged(values)), 'a')
  np.testing.assert_array_equal(got, np.stack([values] * 3, -1))
  mask = dicom_files.tagged(values % 2, BitsStored=1, HighBit=0)
  got = dicom.decode(dicom_files.written(mask), 'a')[..., 0]
  np.testing.assert_array_equal(got, values % 2 * 255)


def test_deeper_ones_are_shown_automatically_without_padding():
  values = np.full((20, 20), -2000, np.int16)
  values[5:15, 5:15] = np.arange(100).reshape(10, 10)
  made = dicom_files.tagged(values)
  made.add_new('PixelPaddingValue', 'SS', -2000)
  got = dicom.decode(dicom_files.written(made), 'a')[5:15, 5:15, 0]
  assert np.ptp(got) == 255 and len(np.unique(got)) > 90


@pytest.mark.parametrize('signed', [False, True])
def test_bits_beside_the_pixel_are_dropped(signed):
  # 12 bits with high bit 13: bits 14, 15, 0 and 1 belong to overlays.
  values = RNG.integers(0, 1 << 12, (6, 8)) - (2048 if signed else 0)
  stray = RNG.integers(0, 1 << 16, (6, 8)) & 0b1100_0000_0000_0011
  stored = ((values & 0xfff) << 2 | stray).astype(np.uint16)
  made = dicom_files.tagged(
      stored, BitsStored=12, HighBit=13, PixelRepresentation=int(signed))
  got = dicom.pixels(dicom_files.written(made), 'a')
  np.testing.assert_array_equal(got.values[0], values)


@pytest.mark.parametrize('syntax, coder', [
    (pydicom.uid.RLELossless, 'pydicom'),
    (pydicom.uid.JPEGLSLossless, 'pyjpegls')])
@pytest.mark.parametrize('dtype, bits', [('u1', 8), ('u2', 12), ('i2', 16)])
def test_lossless_syntaxes_give_what_was_coded(syntax, coder, dtype, bits):
  low, high = (0, 1 << bits) if dtype[0] == 'u' else (
      -(1 << bits - 1), 1 << bits - 1)
  values = RNG.integers(low, high, (3, 17, 13)).astype(dtype)
  made = dicom_files.tagged(values, BitsStored=bits, HighBit=bits - 1)
  made.compress(syntax, encoding_plugin=coder, generate_instance_uid=False)
  got = dicom.pixels(dicom_files.written(made), 'a')
  np.testing.assert_array_equal(got.values, values)
  one = dicom.pixels(dicom_files.written(made), 'a', frames=[2])
  np.testing.assert_array_equal(one.values, values[2:])


@pytest.mark.parametrize('predictor', range(1, 8))
@pytest.mark.parametrize('dtype, bits', [
    ('u1', 6), ('u1', 8), ('u2', 10), ('u2', 12), ('i2', 12), ('u2', 15),
    ('u2', 16), ('i2', 16)])
def test_lossless_jpeg_is_exact(dtype, bits, predictor):
  low = -(1 << bits - 1) if dtype[0] == 'i' else 0
  values = RNG.integers(low, low + (1 << bits), (2, 9, 13)).astype(dtype)
  values[:, 2:5, 3:9] = 7   # categories of no bits
  made = dicom_files.tagged(values, BitsStored=bits, HighBit=bits - 1)
  made.PixelData = pydicom.encaps.encapsulate([
      dicom_files.lossless_jpeg(v & (1 << bits) - 1, bits, predictor)
      for v in values.astype(int)])
  made['PixelData'].VR, made['PixelData'].is_undefined_length = 'OB', True
  made.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLossless
  got = dicom.pixels(dicom_files.written(made), 'a')
  assert got.values.dtype == values.dtype
  np.testing.assert_array_equal(got.values, values)


def test_damage_of_lossless_jpeg_is_no_picture():
  values = RNG.integers(0, 4096, (60, 50)).astype(np.uint16)
  stream = dicom_files.lossless_jpeg(values, 12)
  made = dicom_files.tagged(values, BitsStored=12, HighBit=11)
  made.PixelData = pydicom.encaps.encapsulate(
      [stream[:len(stream) // 2] + b'\xff\xd9'])
  made['PixelData'].VR, made['PixelData'].is_undefined_length = 'OB', True
  made.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
  with pytest.raises(ValueError):
    dicom.decode(dicom_files.written(made), 'a')


def test_deflated_files(monkeypatch):
  made = dicom_files.tagged(np.zeros((500, 500), np.uint8))
  made.file_meta.TransferSyntaxUID = (
      pydicom.uid.DeflatedExplicitVRLittleEndian)
  data = dicom_files.written(made)
  assert len(data) < 3000
  assert dicom.decode(data, 'a').shape == (500, 500, 3)
  monkeypatch.setattr(dicom_tags.files, 'MAX_BYTES', 100_000)
  with pytest.raises(ValueError, match='unpacks to more'):
    dicom.decode(data, 'a')


def enhanced(**tags):
  """Four frames, out of order, each with its own rescaling and window."""
  values = RNG.integers(0, 1000, (4, 5, 6)).astype(np.uint16)
  made = dicom_files.tagged(values, **tags)
  item = dicom_files.item
  made.SharedFunctionalGroupsSequence = [item(
      PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.7], SliceThickness=3)],
      PlaneOrientationSequence=[item(
          ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])]
  made.PerFrameFunctionalGroupsSequence = [item(
      PlanePositionSequence=[item(ImagePositionPatient=[1, 2, z])],
      PixelValueTransformationSequence=[item(
          RescaleSlope=i + 1, RescaleIntercept=-100 * i)],
      FrameVOILUTSequence=[item(
          WindowCenter=200 * (i + 1), WindowWidth=300 + i,
          VOILUTFunction='LINEAR_EXACT')],
  ) for i, z in enumerate((9., 3., 6., 0.))]
  return values, made


def test_what_a_frame_says_goes_before_what_all_say():
  made = enhanced(RescaleIntercept=-5, PixelSpacing=[9, 9])[1]
  got = dicom.pixels(dicom_files.written(made), 'a').header.frames
  assert [f.intercept for f in got] == [0, -100, -200, -300]
  assert {f.spacing for f in got} == {(0.5, 0.7)}
  for group in made.PerFrameFunctionalGroupsSequence:
    del group.PixelValueTransformationSequence
  got = dicom.pixels(dicom_files.written(made), 'a').header.frames
  assert {(f.slope, f.intercept) for f in got} == {(1, -5)}


@pytest.mark.parametrize('offsets', [[0, 3, 7], [-20, -17, -13]])
def test_planes_of_a_dose_grid(offsets):
  made = dicom_files.tagged(
      np.arange(12, dtype=np.uint32).reshape(3, 2, 2), Modality='RTDOSE',
      DoseGridScaling=0.5, GridFrameOffsetVector=offsets,
      ImagePositionPatient=[1, 2, -20],
      ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
  got = dicom.pixels(dicom_files.written(made), 'a')
  assert [f.position for f in got.header.frames] == [
      (1, 2, -20), (1, 2, -17), (1, 2, -13)]
  np.testing.assert_array_equal(dicom.measured(got), got.values / 2)


def test_ultrasound_regions_give_the_spacing():
  def region(units, delta):
    return dicom_files.item(
        PhysicalUnitsXDirection=units, PhysicalUnitsYDirection=units,
        PhysicalDeltaX=delta, PhysicalDeltaY=-2 * delta)

  def spacing(*regions):
    made = dicom_files.tagged(np.zeros((2, 2), np.uint8),
                              SequenceOfUltrasoundRegions=list(regions))
    return dicom.pixels(dicom_files.written(made), 'a').header.frames[
        0].spacing

  assert spacing(region(3, 0.05), region(4, 7.)) == (1., 0.5)
  assert spacing(region(3, 0.05), region(3, 0.06)) is None
  assert spacing(region(4, 0.05)) is None


def test_frames_of_an_enhanced_file_have_their_own_headers():
  values, made = enhanced()
  data = dicom_files.written(made)
  got = dicom.pixels(data, 'a')
  np.testing.assert_array_equal(got.values, values)
  for i, (frame, z) in enumerate(zip(got.header.frames, (9, 3, 6, 0))):
    assert frame == dicom_header.Frame(
        slope=i + 1, intercept=-100 * i, position=(1, 2, z), thickness=3,
        voi=(windows.Window(200 * (i + 1), 300 + i),), spacing=(0.5, 0.7),
        orientation=(1, 0, 0, 0, 1, 0))
  measured = dicom.measured(got)
  np.testing.assert_array_equal(
      measured, [v * (i + 1.) - 100 * i for i, v in enumerate(values)])

  images = dicom.decode(data, 'a')
  assert isinstance(images, tuple)
  for image, i in zip(images, (3, 1, 2, 0), strict=True):
    level = ((measured[i] - 200 * (i + 1)) / (300 + i) + 0.5) * 255
    close(image[..., 1], np.clip(level, 0, 255))

  np.testing.assert_array_equal(dicom.decode(data, 'a', frame=3), images[3])
  some = dicom.decode(data, 'a', frames=[2, 0])
  np.testing.assert_array_equal(some, [images[2], images[0]])
  np.testing.assert_array_equal(dicom.decode(data, 'a', count=2),
                                [images[1], images[3]])
  together = dicom.decode(data, 'a', window='automatic')
  low, high = np.percentile(measured, (0.5, 99.5))
  for image, i in zip(together, (3, 1, 2, 0)):
    level = (measured[i] - low) / (high - low) * 255
    close(image[..., 1], np.clip(level, 0, 255))


def test_order_of_frames():
  def at(z, x=1.):
    return dicom_header.Frame(
        position=(0., 0., z), orientation=(x, 0., 0., 0., 1., 0.))

  assert dicom_header.ordered([at(2.), at(0.), at(1.)]) == [1, 2, 0]
  assert dicom_header.ordered([at(2., -1.), at(0., -1.)]) == [0, 1]
  # Two time points of two places: first all places of the first.
  assert dicom_header.ordered([at(1.), at(0.), at(1.), at(0.)]) == [1, 0, 3, 2]
  assert dicom_header.ordered([at(1.), at(0., -1.)]) == [0, 1]
  assert dicom_header.ordered([at(1.), dicom_header.Frame()]) == [0, 1]


@pytest.mark.parametrize('tags, times', [
    ({'FrameTime': 40}, [0, 0.04, 0.08]),
    ({'FrameTimeVector': [0, 30, 50]}, [0, 0.03, 0.08]),
    ({'CineRate': 20}, [0, 0.05, 0.1]), ({'FrameTime': 0}, None), ({}, None)])
def test_cine_loops_keep_their_times(tags, times):
  values = RNG.integers(0, 255, (3, 4, 4)).astype(np.uint8)
  data = dicom_files.written(dicom_files.tagged(values, **tags))
  got = dicom.decode(data, 'a')
  if times is None:
    assert isinstance(got, tuple)
    return
  np.testing.assert_allclose(got.times, times)
  np.testing.assert_array_equal(got.frames[..., 2], values)
  ends = dicom.decode(data, 'a', count=2)
  np.testing.assert_allclose(ends.times, [times[0], times[2]])
  np.testing.assert_array_equal(dicom.decode(data, 'a', frame=1)[..., 0],
                                values[1])


def test_text_in_the_pixels():
  values = np.zeros((4, 4), np.uint8)

  def header(**tags):
    made = dicom_files.tagged(values, **tags)
    return dicom.pixels(dicom_files.written(made), 'a').header

  plain = header()
  assert plain.burnt_in is None and not plain.suspicion
  assert header(BurnedInAnnotation='YES').burnt_in is True
  marked = header(Modality='US')
  assert marked.burnt_in is None and 'US' in marked.suspicion
  said = header(Modality='US', BurnedInAnnotation='NO')
  assert said.burnt_in is False and not said.suspicion
  assert header(ConversionType='WSD').suspicion
  assert header(SOPClassUID='1.2.840.10008.5.1.4.1.1.7.2').suspicion
  assert header(ImageType=['DERIVED', 'SECONDARY', 'SCREEN SAVE']).suspicion

  data = dicom_files.written(dicom_files.tagged(values, Modality='XA'))
  assert dicom.decode(data, 'a', burnt_in='allow').shape == (4, 4, 3)
  with pytest.raises(ValueError, match='XA usually do'):
    dicom.decode(data, 'a', burnt_in='refuse')


@pytest.mark.parametrize('options, text', [
    ({'window': 'lungs'}, 'unknown'), ({'frame': 3}, 'no index of 3'),
    ({'frame': -1}, 'no index'), ({'frames': [0, 7]}, 'no index'),
    ({'frames': ['a']}, 'no index'), ({'count': 0}, 'expected an integer'),
    ({'count': 1, 'frame': 1}, 'several options'),
    ({'burnt_in': 'remove'}, 'allow')])
def test_options_that_are_none(options, text):
  data = dicom_files.written(dicom_files.tagged(np.zeros((3, 4, 4), np.uint8)))
  with pytest.raises(ValueError, match=text):
    dicom.decode(data, 'a', **options)


@pytest.mark.parametrize('tags, text', [
    ({'Rows': 5}, 'less than expected'), ({'Columns': 0}, 'no rows'),
    ({'NumberOfFrames': 10 ** 6}, 'frames'), ({'HighBit': 20}, 'high bit'),
    ({'Rows': 60_000, 'Columns': 60_000}, 'more than'),
    ({'PhotometricInterpretation': 'HSV'}, 'HSV'),
    ({'RescaleSlope': 'x'}, 'RescaleSlope holds what is no number'),
    ({'VOILUTFunction': 'CUBIC'}, 'CUBIC'), ({'PixelData': None}, 'no pixels')])
def test_files_that_are_wrong(tags, text):
  values = np.zeros((4, 4), np.uint8)
  with pydicom.config.disable_value_validation():
    made = dicom_files.tagged(values)
    for keyword, value in tags.items():
      if value is None:
        del made[keyword]
      elif value == 'x':
        # As it would stand in a file; pydicom itself refuses to write it.
        made[keyword] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(keyword), 'DS', 2, b'x ', 0, False, True)
      else:
        setattr(made, keyword, value)
    data = dicom_files.written(made)
  with pytest.raises(ValueError, match=text):
    dicom.decode(data, 'a')


def test_a_named_window_needs_hounsfield_units():
  data = dicom_files.written(dicom_files.tagged(HU, Modality='MR'))
  with pytest.raises(ValueError, match="'MR' is not"):
    dicom.decode(data, 'a', window='brain')


def test_a_stream_of_another_size_than_the_header_is_refused():
  made = dicom_files.tagged(RNG.integers(0, 9, (20, 30)).astype(np.uint8))
  made.compress(pydicom.uid.JPEGLSLossless, encoding_plugin='pyjpegls')
  made.Rows = 21
  with pytest.raises(ValueError, match='coded as 20 x 30'):
    dicom.decode(dicom_files.written(made), 'a')


def test_headers_without_a_preamble(tmp_path):
  values = np.arange(16, dtype=np.uint8).reshape(4, 4)
  made = dicom_files.tagged(values)
  whole = dicom_files.written(made)
  bare = whole[whole.index(b'\x08\0\x16\0UI'):]
  assert dicom_tags.recognised(whole) and dicom_tags.recognised(bare)
  np.testing.assert_array_equal(dicom.decode(bare, 'a')[..., 0], values)
  for other in (b'', b'\x89PNG' + bytes(200), b'\xff\xd8' + bytes(200)):
    assert not dicom_tags.recognised(other)
    with pytest.raises(ValueError, match='does not begin as'):
      dicom.decode(other, 'a')
  with pytest.raises(ValueError, match='outside'):
    dicom.load('../a.dcm', str(tmp_path))


def every_text(error):
  return ''.join(traceback.format_exception(error))


def test_names_never_leave_the_reader(caplog, capfd):
  caplog.set_level(0)
  values, made = enhanced()
  made = dicom_files.planted(made)
  made.PerFrameFunctionalGroupsSequence[0].OperatorsName = dicom_files.SECRET
  data = dicom_files.written(made)
  assert all(t.encode() in data for t in dicom_files.TRACES)
  with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter('always')
    got = [dicom.pixels(data, 'a'), dicom.decode(data, 'a'),
           dicom.dataset(data, 'a')]
    texts = [repr(x) for x in got] + [str(x) for x in got]
    raw = b''.join(pickle.dumps(x) for x in got)
    # Damage anywhere: whatever fails says nothing either.
    luck, failed = random.Random(0), 0
    for _ in range(300):
      bad = bytearray(data[:luck.choice((len(data), luck.randrange(
          len(data))))])
      for _ in range(luck.choice((1, 3, 20))):
        bad[luck.randrange(len(bad))] = luck.randrange(256)
      try:
        texts.append(repr(dicom.pixels(bytes(bad), 'a')))
        raw += pickle.dumps(dicom.dataset(bytes(bad), 'a'))
      except ValueError as error:
        failed += 1
        texts.append(every_text(error))
  assert failed > 30
  captured = capfd.readouterr()
  texts += [caplog.text, captured.out, captured.err]
  texts += [str(w.message) for w in warned]
  for trace in dicom_files.TRACES:
    assert not any(trace in text for text in texts), trace
    assert trace.encode() not in raw


def test_only_allowed_tags_are_kept():
  data = dicom_files.written(dicom_files.planted(enhanced()[1]))
  got = dicom.dataset(data, 'a')

  def check(tags):
    for element in tags:
      assert element.keyword in dicom_tags.ALLOWED
      for item in element.value if element.VR == 'SQ' else ():
        check(item)

  check(got)
  assert 'FrameVOILUTSequence' in got.SharedFunctionalGroupsSequence[0]
  assert list(got.file_meta.keys()) == [0x00020010]
  forbidden = ('Name', 'Date', 'Birth', 'Address', 'Comment', 'Description',
               'InstanceUID', 'PatientID', 'Accession', 'Institution')
  assert not [k for k in dicom_tags.ALLOWED if any(f in k for f in forbidden)]


@needs_data
def test_a_waveform_comes_whole():
  got = dicom.dataset(read('waveform_ecg.dcm'), 'a')
  wanted = pydicom.dcmread(FILES / 'waveform_ecg.dcm')
  np.testing.assert_array_equal(got.waveform_array(0),
                                wanted.waveform_array(0))
  leads = [channel.ChannelSourceSequence[0].CodeMeaning for channel in
           got.WaveformSequence[0].ChannelDefinitionSequence]
  assert leads[0] == 'Lead I (Einthoven)' and len(leads) == 12


@pytest.mark.parametrize('syntax', dicom_pixels.DECODERS)
def test_decoders_are_known_to_pydicom(syntax):
  known = pydicom.pixels.get_decoder(syntax)
  for name in dicom_pixels.DECODERS[syntax]:
    assert name in known.available_plugins or any(
        text.startswith(name) for text in known.missing_dependencies)
