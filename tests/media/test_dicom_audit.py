"""The audit counts what was planted, and prints none of it."""

import subprocess
import sys

import numpy as np
import pydicom.uid
import pytest

from medrl.media import dicom_audit
from medrl.media import dicom_tags
from tests.media import dicom_files

VALUES = np.arange(16, dtype=np.uint8).reshape(4, 4)


@pytest.fixture
def folder(tmp_path):
  """Two good images with names, one of them marked; and what is none."""
  below = tmp_path / 'scans' / 'a'
  below.mkdir(parents=True)

  def write(name, **tags):
    made = dicom_files.planted(dicom_files.tagged(VALUES, **tags))
    data = dicom_files.written(made)
    (below / name).write_bytes(data)
    return data

  write('one')
  data = write('two', Modality='US', PhotometricInterpretation='MONOCHROME1',
               BurnedInAnnotation='YES', ConversionType='WSD')
  write('three', Modality='US')
  (below / 'cut').write_bytes(data[:-6])
  (below / 'bad').write_bytes(data[:132] + b'\2\0\0\0UL\4\0' + b'\xff' * 40)
  (below / 'notes.txt').write_text('QUIXANO')
  outside = tmp_path / 'outside'
  outside.write_bytes(data)
  (below / 'link').symlink_to(outside)
  return tmp_path / 'scans'


def test_counts(folder):
  found = dicom_audit.audit('.', str(folder), decode=True)
  native = pydicom.uid.ExplicitVRLittleEndian.name
  assert found.kinds[f'CT | {native} | MONOCHROME2'] == 1
  assert found.kinds[f'US | {native} | MONOCHROME1'] == 2   # with the cut one
  assert found.other == 1
  assert found.text['yes, it says'] == 2
  assert found.text['not said'] == 1
  assert found.allowed['Rows'] == 4 and found.allowed['ConversionType'] == 2
  assert found.dropped['PatientName'] == 4
  assert found.dropped['StudyInstanceUID'] == 4
  # Within a sequence that is dropped, and within one that is read.
  assert found.dropped['RequestedProcedureDescription'] == 4
  assert found.dropped['PatientComments'] == 4
  assert found.allowed['FrameVOILUTSequence'] == 4
  assert found.dropped['SourceApplicationEntityTitle'] == 4
  assert not set(found.allowed) - dicom_tags.ALLOWED
  # What may be read elsewhere is dropped with the sequence that holds it.
  assert set(found.dropped) & dicom_tags.ALLOWED == {'CodeMeaning'}
  # A creator and a value in each of two groups.
  assert found.private == 16 and found.private_files == 4
  reasons = ' '.join(found.broken)
  assert sum(map(len, found.broken.values())) == 3
  assert all(part in reasons for part in (
      'leads out of the root', 'less than expected', 'damaged'))


def test_no_value_is_printed(folder, capsys):
  assert dicom_audit.main([str(folder), '--decode']) == 1
  printed = capsys.readouterr()
  assert '     4  PatientName' in printed.out
  assert 'private tags: 16 in 4 files' in printed.out
  assert 'images of modality US usually do' in printed.out
  for trace in dicom_files.TRACES:
    assert trace not in printed.out + printed.err
  assert 'cut' not in printed.out

  dicom_audit.main([str(folder), '--files'])
  assert str(folder / 'a' / 'bad') in capsys.readouterr().out


def test_errors_of_others_are_not_quoted(folder, monkeypatch):
  def fail(tags):
    raise KeyError(dicom_files.SECRET)
  monkeypatch.setattr(dicom_audit.dicom_header, 'header', fail)
  text = dicom_audit.report(dicom_audit.audit('a', str(folder)))
  assert 'ended in KeyError' in text
  assert not any(trace in text for trace in dicom_files.TRACES)


def test_as_a_command(tmp_path):
  (tmp_path / 'a').write_bytes(dicom_files.written(
      dicom_files.planted(dicom_files.tagged(VALUES))))
  done = subprocess.run(
      [sys.executable, '-m', 'medrl.media.dicom_audit', '.', '--root',
       str(tmp_path)], capture_output=True, text=True)
  assert done.returncode == 0 and done.stdout.startswith('1 DICOM files')
  assert not any(t in done.stdout + done.stderr for t in dicom_files.TRACES)
  done = subprocess.run(
      [sys.executable, '-m', 'medrl.media.dicom_audit', '..', '--root',
       str(tmp_path)], capture_output=True, text=True)
  assert done.returncode == 2 and 'outside' in done.stderr
