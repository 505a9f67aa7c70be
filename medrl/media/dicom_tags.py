"""Which tags of a DICOM file are read: a list, and all else left unread.

A header names the patient, physicians, institutions and dates, in hundreds of
tags and in private ones that no list knows. So tags are allowed, not
forbidden: `dataset` reads those of `ALLOWED` and of no other, in sequences
too. Errors and warnings of pydicom quote values; none of its text about a
header is passed on.

It neither makes sense of the values (see `dicom_header`) nor decodes pixels
(see `dicom`).
"""

import io
import logging
import math
import re
from typing import Any, BinaryIO
import warnings
import zlib

from medrl.media import files

try:
  import pydicom
  import pydicom.config
  import pydicom.datadict
  import pydicom.dataset
  import pydicom.tag
  import pydicom.uid
except ImportError as error:
  raise ImportError('DICOM files are read by pydicom; install with: '
                    'pip install -r launch/requirements-media.txt') from error

# Its warnings and logged errors quote the values of tags. They are turned off
# once and for all: to do so call by call would not be safe in threads.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger('pydicom').setLevel(logging.CRITICAL + 1)
warnings.filterwarnings('ignore', module='pydicom')

_PIECE = 1 << 20   # bytes unpacked at a time
# No dates, no UIDs of instances, no free text, nothing of groups 0010 (the
# patient), 0032 and 0038 (requests and visits).
ALLOWED = frozenset((
    # what it is
    'SpecificCharacterSet', 'TransferSyntaxUID', 'SOPClassUID', 'Modality',
    'ImageType', 'ConversionType', 'BodyPartExamined', 'ViewPosition',
    'ImageLaterality', 'Laterality', 'PatientOrientation',
    'BurnedInAnnotation',
    # pixels
    'SamplesPerPixel', 'PhotometricInterpretation', 'PlanarConfiguration',
    'NumberOfFrames', 'Rows', 'Columns', 'BitsAllocated', 'BitsStored',
    'HighBit', 'PixelRepresentation', 'PixelPaddingValue',
    'PixelPaddingRangeLimit', 'PixelData', 'FloatPixelData',
    'DoubleFloatPixelData', 'ExtendedOffsetTable',
    'ExtendedOffsetTableLengths',
    # grey levels and colours
    'RescaleSlope', 'RescaleIntercept', 'DoseGridScaling',
    'ModalityLUTSequence', 'VOILUTSequence', 'LUTDescriptor', 'LUTData',
    'WindowCenter', 'WindowWidth', 'VOILUTFunction',
    *(f'{segmented}{colour}PaletteColorLookupTable{part}'
      for colour in ('Red', 'Green', 'Blue')
      for segmented, part in (('', 'Descriptor'), ('', 'Data'),
                              ('Segmented', 'Data'))),
    # where and when
    'PixelSpacing', 'ImagerPixelSpacing', 'ImagePositionPatient',
    'ImageOrientationPatient', 'SliceThickness', 'GridFrameOffsetVector',
    'SequenceOfUltrasoundRegions', 'PhysicalUnitsXDirection',
    'PhysicalUnitsYDirection', 'PhysicalDeltaX', 'PhysicalDeltaY',
    'FrameTime', 'FrameTimeVector', 'CineRate', 'RecommendedDisplayFrameRate',
    'TemporalPositionIdentifier', 'TriggerTime', 'EchoNumbers',
    'AcquisitionNumber', 'InstanceNumber', 'SeriesNumber',
    # the same by frame
    'SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence',
    'PixelMeasuresSequence', 'PlanePositionSequence',
    'PlaneOrientationSequence', 'FrameVOILUTSequence',
    'PixelValueTransformationSequence', 'TemporalPositionSequence',
    'TemporalPositionTimeOffset',
    # waveforms
    'WaveformSequence', 'WaveformOriginality', 'NumberOfWaveformChannels',
    'NumberOfWaveformSamples', 'SamplingFrequency', 'WaveformBitsAllocated',
    'WaveformSampleInterpretation', 'WaveformPaddingValue', 'WaveformData',
    'ChannelDefinitionSequence', 'ChannelLabel', 'ChannelSourceSequence',
    'ChannelSensitivity', 'ChannelSensitivityUnitsSequence',
    'ChannelSensitivityCorrectionFactor', 'ChannelBaseline',
    'ChannelTimeSkew', 'ChannelSampleSkew', 'WaveformBitsStored',
    'CodeValue', 'CodingSchemeDesignator', 'CodeMeaning'))
# Read to group and to tell apart, hashed at once, and passed on to nobody.
IDENTITY = ('SeriesInstanceUID', 'SOPInstanceUID')
_NUMBERS = {keyword: pydicom.tag.Tag(keyword)
            for keyword in (*ALLOWED, *IDENTITY)}
_READ = list(_NUMBERS.values())
_TAGS = frozenset(_READ)
_KEPT = _TAGS - {_NUMBERS[keyword] for keyword in IDENTITY}
_SEQUENCES = frozenset(
    tag for tag in _READ if pydicom.datadict.dictionary_VR(tag) == 'SQ')
_DEFLATED = b'1.2.840.10008.1.2.1.99'
# A code word (VR CS), and nothing that a sentence or a name could hide in.
_WORD = re.compile(r'[A-Z0-9_ ]{1,16}')


def recognised(head: bytes) -> bool:
  """Whether the first 132 bytes or more are of a DICOM file.

  Files without the preamble (as old software wrote them) begin with an
  element of group 0002 or 0008, little-endian.
  """
  if head[128:132] == b'DICM':
    return True
  return (len(head) > 132 and head[:2] in (b'\2\0', b'\10\0')
          and head[3:4] == b'\0'
          and (head[4:6].isalpha() and head[4:6].isupper()
               or head[6:8] == b'\0\0'))


def dataset(data: bytes, name: str) -> pydicom.Dataset:
  """The allowed tags of a DICOM file, in sequences too; all others dropped.

  Args:
    data: the bytes of the file.
    name: of the file, for errors.

  Raises:
    ValueError: it is no DICOM file, or damaged in its header.
  """
  def read():
    found = parsed(io.BytesIO(data))
    for keyword in IDENTITY:
      if keyword in found:
        del found[keyword]
    return found
  return files.decoded(name, 'DICOM', read)


def parsed(source: BinaryIO, pixels: bool = True) -> pydicom.Dataset:
  """The tags of `ALLOWED` and of `IDENTITY` of an open file.

  What it gives stays in this folder: a `dicom_header.Header` of it does not
  hold what `IDENTITY` names.

  Args:
    source: at its start.
    pixels: whether pixel data are read too.

  Raises:
    ValueError: it is no DICOM file, or damaged in its header.
  """
  head = source.read(4096)
  source.seek(0)
  if not recognised(head):
    raise ValueError('it does not begin as a DICOM file does')
  if _DEFLATED in head:
    _refuse_bomb(source, head)
  try:
    found = _bare(pydicom.dcmread(
        source, stop_before_pixels=not pixels, force=True,
        specific_tags=_READ))
  except Exception as error:  # its text quotes values
    raise ValueError(f'its header is damaged, which ended in '
                     f'{type(error).__name__}') from None
  # A header that breaks off is read without an error.
  if not any(k in found for k in ('SOPClassUID', 'Modality', 'Rows')):
    raise ValueError('its header is damaged: it does not say what it is')
  return found


def syntax(found: pydicom.Dataset) -> pydicom.uid.UID:
  """How the pixels are encoded; as the header is, where nothing says so."""
  given = found.file_meta.get('TransferSyntaxUID')
  if given:
    return given
  implicit, little = found.original_encoding
  if implicit:
    return pydicom.uid.ImplicitVRLittleEndian
  return (pydicom.uid.ExplicitVRLittleEndian if little
          else pydicom.uid.ExplicitVRBigEndian)


def named(found: pydicom.Dataset) -> str:
  """The name of `syntax`, and nothing of one that no standard knows."""
  given = syntax(found)
  return given.name if given.name != str(given) else 'an unknown syntax'


def numbers(found: pydicom.Dataset, keyword: str) -> tuple[float, ...]:
  """The finite numbers that a tag holds; () where it is missing or empty.

  Raises:
    ValueError: it holds something else.
  """
  try:
    value = _plain(found, keyword)
    if isinstance(value, str):
      value = [x for x in value.split('\\') if x.strip()]
    elif not hasattr(value, '__iter__'):
      value = () if value is None else (value,)
    read = tuple(float(x) for x in value)
  except Exception:  # its text quotes the value
    raise ValueError(f'{keyword} holds what is no number') from None
  if not all(math.isfinite(x) for x in read):
    raise ValueError(f'{keyword} holds a number that is not finite')
  return read


def first(found: pydicom.Dataset, keyword: str) -> float | None:
  """The first of `numbers`; None where there is none."""
  return next(iter(numbers(found, keyword)), None)


def words(found: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
  """The code words that a tag holds; what is no code word is left out."""
  try:
    value = _plain(found, keyword) or ''
    text = value if isinstance(value, str) else '\\'.join(value)
  except Exception:  # its text quotes the value
    return ()
  stripped = (x.strip() for x in text.split('\\'))
  return tuple(x for x in stripped if _WORD.fullmatch(x))


def items(found: pydicom.Dataset, keyword: str) -> list[pydicom.Dataset]:
  """The items of a sequence; none where it is missing."""
  return list(found.get(keyword) or ())


def _plain(found: pydicom.Dataset, keyword: str) -> Any:
  """A value; what is common is taken as it stands in the file.

  That is several times as fast as to have pydicom make an object of it, and
  headers take as long as pixels that are not compressed.
  """
  tag = _NUMBERS[keyword]
  if tag not in found:
    return None
  element = found.get_item(tag)
  if isinstance(element.value, bytes):
    if element.VR in ('DS', 'IS', 'CS'):
      return element.value.decode('ascii').rstrip('\0')
    if element.VR == 'US' and len(element.value) == 2:
      return int.from_bytes(element.value,
                            'little' if element.is_little_endian else 'big')
  return found[tag].value


def _bare(found: pydicom.Dataset) -> pydicom.Dataset:
  """The tags alone: what pydicom gives holds on to the whole file."""
  _prune(found)
  bare = pydicom.Dataset({tag: found.get_item(tag) for tag in found.keys()})
  bare.set_original_encoding(*found.original_encoding,
                             found.original_character_set)
  bare.file_meta = pydicom.dataset.FileMetaDataset()
  given = found.file_meta.get('TransferSyntaxUID')
  if given:
    bare.file_meta.TransferSyntaxUID = given
  return bare


def _prune(found: pydicom.Dataset, kept: frozenset[int] | None = None) -> None:
  for tag in list(found.keys()):
    sequence = tag in _SEQUENCES
    # A sequence under the tag of a number or a word is a hiding place.
    if tag not in (kept or _TAGS) or (
        found.get_item(tag).VR == 'SQ' and not sequence):
      del found[tag]
    elif sequence:
      for item in found[tag].value:
        _prune(item, _KEPT)


def _refuse_bomb(source: BinaryIO, head: bytes) -> None:
  """Deflated files may grow by a factor of a thousand when they are read."""
  source.seek(144 + int.from_bytes(head[140:144], 'little'))
  # In pieces that are thrown away: only their number is wanted.
  packer, size, data = zlib.decompressobj(-zlib.MAX_WBITS), 0, source.read()
  while data and size <= files.MAX_BYTES:
    size += len(packer.decompress(data, _PIECE))
    data = packer.unconsumed_tail
  source.seek(0)
  if size > files.MAX_BYTES:
    raise ValueError(f'it is deflated, and unpacks to more than '
                     f'{files.MAX_BYTES} bytes')
