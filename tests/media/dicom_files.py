"""DICOM files of the tests, written by pydicom, with names to be kept in."""

import io

import numpy as np
import pydicom
import pydicom.dataset
import pydicom.uid

SECRET = 'QUIXANO^ALONSO'
# A part of what is planted, as it would be found in any text.
TRACES = ('QUIXANO', 'ALONSO', '18471130', '424242', 'MANCHA')


def item(**tags):
  """A sequence item."""
  made = pydicom.Dataset()
  for keyword, value in tags.items():
    setattr(made, keyword, value)
  return made


def tagged(values, **tags):
  """A data set with these pixels, grey or (with a last axis of 3) RGB."""
  values = np.asarray(values)
  colour = values.ndim > 2 and values.shape[-1] == 3
  grid = values.shape[:-1] if colour else values.shape
  made = pydicom.Dataset()
  made.file_meta = pydicom.dataset.FileMetaDataset()
  made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  made.SOPClassUID = pydicom.uid.CTImageStorage
  made.SOPInstanceUID = pydicom.uid.generate_uid(prefix='1.2.826.0.1.424242.')
  made.Modality = 'CT'
  made.Rows, made.Columns = grid[-2:]
  if len(grid) == 3:
    made.NumberOfFrames = grid[0]
  made.SamplesPerPixel = 3 if colour else 1
  made.PhotometricInterpretation = 'RGB' if colour else 'MONOCHROME2'
  if colour:
    made.PlanarConfiguration = 0
  bits = 8 * values.dtype.itemsize
  made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
  made.PixelRepresentation = int(values.dtype.kind == 'i')
  made.PixelData = values.tobytes() + b'\0' * (values.nbytes % 2)
  made['PixelData'].VR = 'OB' if bits == 8 else 'OW'
  for keyword, value in tags.items():
    setattr(made, keyword, value)
  return made


def planted(made):
  """The data set with names where files have them, and where they do not."""
  made.PatientName = SECRET
  made.PatientID = SECRET
  made.PatientBirthDate = '18471130'
  made.StudyDate = '18471130'
  made.InstitutionName = 'LA MANCHA'
  made.StudyInstanceUID = '1.2.826.0.1.424242.1'
  made.SeriesInstanceUID = '1.2.826.0.1.424242.2'
  made.SeriesDescription = f'for {SECRET}'
  made.ImageComments = SECRET
  made.ReferringPhysicianName = SECRET
  made.RequestAttributesSequence = [item(
      RequestedProcedureDescription=SECRET, CodeMeaning=SECRET)]
  made.private_block(0x0009, 'MANCHA', create=True).add_new(1, 'LO', SECRET)
  # In a sequence that is read, and in one nested in it.
  inner = item(WindowCenter=40, WindowWidth=400, PatientName=SECRET)
  inner.private_block(0x0011, 'MANCHA', create=True).add_new(1, 'PN', SECRET)
  made.SharedFunctionalGroupsSequence = [item(
      PatientComments=SECRET, FrameVOILUTSequence=[inner])]
  made.file_meta.SourceApplicationEntityTitle = 'MANCHA'
  made.preamble = b'QUIXANO ALONSO'.ljust(128, b' ')
  return made


def written(made):
  """The bytes of a file."""
  out = io.BytesIO()
  pydicom.dcmwrite(out, made, enforce_file_format=True)
  return out.getvalue()


def lossless_jpeg(values, precision, predictor=1):
  """A lossless JPEG stream (ISO 10918-1 annex H) of [h, w], longhand.

  Differences are modulo 2**16; its Huffman table gives each of the 17
  categories a code of 5 bits.
  """
  v = np.asarray(values).astype(int)
  bits = []
  for y, x in np.ndindex(v.shape):
    a = v[y, x - 1] if x else 0
    b = v[y - 1, x] if y else 0
    c = v[y - 1, x - 1] if x and y else 0
    guess = (a, b, c, a + b - c, a + (b - c >> 1), b + (a - c >> 1),
             a + b >> 1)[predictor - 1]
    if not y:
      guess = a if x else 1 << precision - 1
    elif not x:
      guess = b
    d = (v[y, x] - guess + 32767) % 65536 - 32767   # -32767 to 32768
    size = int(abs(d)).bit_length()
    bits.append(f'{size:05b}')
    if 0 < size < 16:
      bits.append(f'{d if d > 0 else d + (1 << size) - 1:0{size}b}')
  text = ''.join(bits)
  text += '1' * (-len(text) % 8)
  coded = int(text, 2).to_bytes(len(text) // 8).replace(b'\xff', b'\xff\0')

  def segment(marker, body):
    return bytes((0xff, marker)) + (len(body) + 2).to_bytes(2) + body

  h, w = v.shape
  return (b'\xff\xd8'
          + segment(0xc3, bytes((precision,)) + h.to_bytes(2) + w.to_bytes(2)
                    + bytes((1, 1, 0x11, 0)))
          + segment(0xc4, bytes((0, 0, 0, 0, 0, 17)) + bytes(11)
                    + bytes(range(17)))
          + segment(0xda, bytes((1, 1, 0, predictor, 0, 0)))
          + coded + b'\xff\xd9')
