"""Stored values of DICOM frames, out of every transfer syntax of images.

It chooses the decoder, checks what it is about to decode, and brings colours
to RGB. It neither rescales nor windows (see `dicom`), and decodes no MPEG.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import io
from typing import Any

import numpy as np
from PIL import Image
import pydicom
import pydicom.encaps
import pydicom.pixels
import pydicom.uid

from medrl.media import dicom_header
from medrl.media import dicom_tags

# Of one frame, and of all frames that one call gives: as for images.
MAX_PIXELS = 80_000_000
MAX_ALL_PIXELS = 4 * MAX_PIXELS
# Which plug-ins of pydicom are tried, the first that is right and robust
# first. Pillow refuses cut files; OpenJPEG itself gives integers as they were
# coded, which Pillow has to scale back; CharLS knows every depth of JPEG-LS.
# GDCM knows most of these too, but ends the process on damaged input. 12-bit
# lossy JPEG has no free decoder here.
DECODERS = {
    pydicom.uid.JPEGBaseline8Bit: ('pillow',),
    pydicom.uid.JPEGExtended12Bit: ('pillow',),
    pydicom.uid.JPEGLSLossless: ('pyjpegls',),
    pydicom.uid.JPEGLSNearLossless: ('pyjpegls',),
    pydicom.uid.JPEG2000Lossless: ('pylibjpeg', 'pillow'),
    pydicom.uid.JPEG2000: ('pylibjpeg', 'pillow'),
    pydicom.uid.HTJ2KLossless: ('pylibjpeg',),
    pydicom.uid.HTJ2KLosslessRPCL: ('pylibjpeg',),
    pydicom.uid.HTJ2K: ('pylibjpeg',),
    pydicom.uid.RLELossless: ('pydicom',),
}
# pydicom has but GDCM for these; FFmpeg decodes them as fast, and survives.
LOSSLESS_JPEG = (pydicom.uid.JPEGLossless, pydicom.uid.JPEGLosslessSV1)
GREY = ('MONOCHROME1', 'MONOCHROME2')
_AS_RGB = ('RGB', 'YBR_ICT', 'YBR_RCT')   # decoders undo the latter two
_AS_YBR = ('YBR_FULL', 'YBR_FULL_422')
_STRIP = 1 << 14


@dataclasses.dataclass(frozen=True)
class Pixels:
  """Values of frames as they are stored, before any rescaling.

  `values` is [n, rows, columns], or uint8 or uint16 [n, rows, columns, 3] in
  RGB; `header.frames` describes the n frames. `photometric` is MONOCHROME1,
  MONOCHROME2, PALETTE COLOR (values are indices into `palette`, uint8
  [entries, 3]) or RGB.
  """
  values: np.ndarray
  photometric: str
  header: dicom_header.Header
  palette: np.ndarray | None = None


def decoded(found: pydicom.Dataset, header: dicom_header.Header,
            indices: Sequence[int]) -> Pixels:
  """The stored values of some frames, colours as RGB.

  Args:
    found: what `dicom_tags.parsed` gave.
    header: the header of it.
    indices: of frames, in the order of the file.

  Raises:
    ValueError: there are no pixels, they are too many, damaged, or of a kind
      that nothing here decodes.
  """
  size = header.rows * header.columns
  if size > MAX_PIXELS or size * len(indices) > MAX_ALL_PIXELS:
    raise ValueError(
        f'{len(indices)} frames of {header.rows} x {header.columns} are more '
        f'than {MAX_PIXELS} pixels each or {MAX_ALL_PIXELS} in all; ask for '
        f'fewer frames, or cut it into tiles beforehand')
  values, photometric = _raw(found, header, indices)
  values = values.reshape(len(indices), *values.shape[-2 - (
      header.samples > 1):])
  values = values.astype(values.dtype.newbyteorder('='), copy=False)
  palette = None
  if photometric in _AS_YBR and header.samples == 3:
    values = _rgb(values)
  elif photometric == 'PALETTE COLOR' and header.samples == 1:
    palette = _palette(found, header)
  elif (photometric, header.samples) not in {
      *((x, 1) for x in GREY), *((x, 3) for x in _AS_RGB)}:
    raise ValueError(f'its photometric interpretation is '
                     f'{photometric or "missing"!r}, with {header.samples} '
                     f'samples; expected grey, a palette, RGB or YBR_FULL')
  if photometric in _AS_RGB or photometric in _AS_YBR:
    photometric = 'RGB'
  frames = tuple(header.frames[i] for i in indices)
  return Pixels(values, photometric,
                dataclasses.replace(header, frames=frames), palette)


def _raw(found: pydicom.Dataset, header: dicom_header.Header,
         indices: Sequence[int]) -> tuple[np.ndarray, str]:
  """Values as decoders give them, and the photometric interpretation."""
  if not any(k in found for k in (
      'PixelData', 'FloatPixelData', 'DoubleFloatPixelData')):
    raise ValueError('it has no pixels, or they are cut off')
  syntax = dicom_tags.syntax(found)
  try:
    decoder = pydicom.pixels.get_decoder(syntax)
  except NotImplementedError:
    raise ValueError(f'its pixels are encoded as {header.syntax}, which '
                     f'nothing here decodes') from None
  if not syntax.is_encapsulated:
    return _frames(decoder, found, header, indices, '')
  _check_sizes(found, header, set(indices))
  if syntax in LOSSLESS_JPEG:
    values = _each(found, header, indices, lambda x: _lossless(x, header))
    kind = 'i' if found.PixelRepresentation == 1 else 'u'
    values = values.view(f'{kind}{values.dtype.itemsize}')
    return _used_bits(values, found, header), header.photometric
  if (syntax == pydicom.uid.JPEGBaseline8Bit and header.samples == 3
      and header.photometric in _AS_YBR):
    return _each(found, header, indices, _jpeg), 'RGB'
  failures = []
  for name in DECODERS[syntax]:
    if name in decoder.available_plugins:
      try:
        return _frames(decoder, found, header, indices, name)
      except Exception as error:  # as many kinds as there are decoders
        failures.append(f'{name}: {type(error).__name__}: {error}')
  raise ValueError('; '.join(failures) or (
      f'{header.syntax} is decoded by {" or ".join(DECODERS[syntax])}; '
      f'install with: pip install -r launch/requirements-media.txt'))


def _each(found: pydicom.Dataset, header: dicom_header.Header,
          indices: Sequence[int],
          decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
  """Coded frames, decoded one by one."""
  total, kept = len(header.frames), {}
  for i, data in enumerate(_coded(found, total)):
    if i in indices:
      kept[i] = decode(data)
  if len(kept) < len(set(indices)):
    raise ValueError(f'it has {total} frames by its header, and fewer coded')
  return np.stack([kept[i] for i in indices])


def _jpeg(data: bytes) -> np.ndarray:
  """Colour JPEG as every viewer shows it: libjpeg knows what YBR it holds.

  Four times as fast as to convert what pydicom gives, and the same values.
  """
  with Image.open(io.BytesIO(data), formats=('JPEG',)) as image:
    return np.asarray(image.convert('RGB'))


def _lossless(data: bytes, header: dicom_header.Header) -> np.ndarray:
  """Lossless JPEG (ISO 10918-1 annex H): unsigned [rows, columns(, 3)]."""
  try:
    import av
  except ImportError as error:
    raise ImportError('lossless JPEG is decoded by PyAV; install with: pip '
                      'install -r launch/requirements-media.txt') from error
  codec = av.CodecContext.create('mjpeg', 'r')
  codec.thread_count = 1
  codec.options = {'err_detect': 'explode'}   # damage is not concealed
  pictures = codec.decode(av.Packet(data)) + codec.decode(None)
  if len(pictures) != 1:
    raise ValueError(f'a frame holds {len(pictures)} pictures; expected 1')
  kind = pictures[0].format.name
  known = ('gray', 'gray16le') if header.samples == 1 else (
      'bgr24', 'rgb24', 'gbrp', 'yuv444p', 'yuvj444p')
  if kind not in known:
    raise ValueError(f'lossless JPEG is decoded to {kind}; expected one of '
                     f'{", ".join(known)}')
  if kind.startswith('yuv'):   # components as they are coded, not converted
    return np.moveaxis(pictures[0].to_ndarray(), 0, -1)
  values = pictures[0].to_ndarray(
      format='rgb24' if header.samples == 3 else None)
  # FFmpeg puts what has fewer bits than its type at the upper end.
  return values >> 8 * values.dtype.itemsize - _coded_size(data)[2]


def _frames(decoder: Any, found: pydicom.Dataset, header: dicom_header.Header,
            indices: Sequence[int], name: str) -> tuple[np.ndarray, str]:
  def read(index):
    values, described = decoder.as_array(
        found, index=index, raw=True, decoding_plugin=name, view_only=True,
        correct_unused_bits=False, allow_excess_frames=False)
    return _used_bits(values, found, header), str(
        described['photometric_interpretation'])
  if list(indices) == list(range(len(header.frames))):
    return read(None)
  several = [read(index) for index in indices]
  return np.stack([values for values, _ in several]), several[0][1]


def _used_bits(values: np.ndarray, found: pydicom.Dataset,
               header: dicom_header.Header) -> np.ndarray:
  """Drops bits that hold no pixel (PS3.5 8.1.1), once used for overlays."""
  syntax = dicom_tags.syntax(found)
  if values.dtype.kind == 'f' or syntax in (
      *pydicom.uid.JPEG2000TransferSyntaxes,
      *pydicom.uid.JPEGLSTransferSyntaxes):
    return values   # JPEG 2000 and JPEG-LS code the bits that are used
  wide = 8 * values.dtype.itemsize
  high = header.bits - 1
  if not syntax.is_encapsulated or syntax == pydicom.uid.RLELossless:
    high = header.high_bit
  if not header.bits <= high + 1 <= wide:
    raise ValueError(f'bits stored {header.bits} and high bit {high} do not '
                     f'fit into {wide} bits')
  if header.bits in (1, wide):
    return values
  return (values << (wide - 1 - high)) >> (wide - header.bits)


def _check_sizes(found: pydicom.Dataset, header: dicom_header.Header,
                 chosen: set[int]) -> None:
  """Refuses frames whose own header asks for another amount of memory."""
  for i, data in enumerate(_coded(found, len(header.frames))):
    size = _coded_size(data) if i in chosen else None
    if size and size[:2] != (header.rows, header.columns):
      raise ValueError(f'frame {i} is coded as {size[0]} x {size[1]}; its '
                       f'header says {header.rows} x {header.columns}')


def _coded(found: pydicom.Dataset, total: int) -> Iterator[bytes]:
  extended = [found.get(k) for k in ('ExtendedOffsetTable',
                                     'ExtendedOffsetTableLengths')]
  return pydicom.encaps.generate_frames(
      found.PixelData, number_of_frames=total,
      extended_offsets=None if None in extended else tuple(extended))


def _coded_size(data: bytes) -> tuple[int, int, int] | None:
  """(rows, columns, bits) of a JPEG, JPEG-LS or JPEG 2000 stream, or None.

  From the SIZ marker (ISO 15444-1 A.5.1) or the frame header (ISO 10918-1
  B.2.2, ISO 14495-1 C.2.2).
  """
  at = data.find(b'\xff\x4f\xff\x51', 0, 1024)
  if at >= 0 and len(data) > at + 42:
    right, low, left, top = np.frombuffer(data[at + 8:at + 24], '>u4').tolist()
    return low - top, right - left, (data[at + 42] & 0x7f) + 1
  at = 2
  while data[:2] == b'\xff\xd8' and at + 9 <= len(data) and data[at] == 0xff:
    marker = data[at + 1]
    if marker == 0xf7 or (0xc0 <= marker <= 0xcf
                          and marker not in (0xc4, 0xc8, 0xcc)):
      rows, columns = np.frombuffer(data[at + 5:at + 9], '>u2').tolist()
      return rows, columns, data[at + 4]
    at += 1 if marker == 0xff else 2 + int.from_bytes(data[at + 2:at + 4])
  return None


def _rgb(values: np.ndarray) -> np.ndarray:
  """YBR_FULL to RGB: the inverse of PS3.3 C.7.6.3.1.2, which is JFIF's."""
  if values.dtype != np.uint8:
    raise ValueError(f'it is YBR of {8 * values.dtype.itemsize} bits; '
                     f'expected 8')
  flat = np.ascontiguousarray(values).reshape(-1, 3)
  out = np.empty_like(flat)
  for at in range(0, len(flat), _STRIP):
    part = flat[at:at + _STRIP].T.astype(np.float32)
    luma, blue, red = part[0] + np.float32(0.5), part[1] - 128, part[2] - 128
    for channel, value in enumerate((
        luma + np.float32(1.402) * red,
        luma - np.float32(0.344136) * blue - np.float32(0.714136) * red,
        luma + np.float32(1.772) * blue)):
      out[at:at + _STRIP, channel] = np.clip(value, 0, 255, out=value)
  return out.reshape(values.shape)


def _palette(found: pydicom.Dataset,
             header: dicom_header.Header) -> np.ndarray:
  """uint8 [values that there can be, 3] (PS3.3 C.7.6.3.1.5 and C.7.9)."""
  described = dicom_tags.numbers(
      found, 'RedPaletteColorLookupTableDescriptor')
  if len(described) != 3 or not 1 <= header.bits <= 16:
    raise ValueError('its palette has no descriptor of three numbers')
  count, first = int(described[0]) or 1 << 16, int(described[1])
  little = found.original_encoding[1] is not False
  columns = []
  for colour in ('Red', 'Green', 'Blue'):
    data = found.get(f'{colour}PaletteColorLookupTableData')
    if data is None:   # in segments, which pydicom knows how to expand
      domain = np.arange(first, first + count)
      columns = pydicom.pixels.apply_color_lut(domain, found)[:, :3].T
      break
    wide = len(data) >= 2 * count
    columns.append(np.frombuffer(
        data, ('<u2' if little else '>u2') if wide else 'u1', count))
  table = np.stack(columns, -1)
  if table.max() > 255:
    table = table >> 8
  at = np.clip(np.arange(1 << header.bits) - first, 0, count - 1)
  return table.astype(np.uint8)[at]
