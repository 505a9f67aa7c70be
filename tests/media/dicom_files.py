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
