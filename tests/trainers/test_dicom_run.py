"""A run on DICOM files names nobody whom their headers name."""

import dataclasses
import io
import json
import logging
import pathlib

import numpy as np
import pytest

from medrl import feed
from medrl.evals import dry_run
from medrl.media import dicom_tags
from tests.trainers import small

pydicom = pytest.importorskip(
    'pydicom', reason='needs launch/requirements-media.txt')

NAMES = ('DOE^JANE', 'MRN-4711', '19440823', 'ST ELSEWHERE', 'DR^STRANGE',
         'PRIVATE-NAME', 'NESTED^NAME', 'ACC-0815', 'COMMENT-NAME')


def film(path: pathlib.Path, seed: int, broken: bool) -> None:
  """A small CT slice whose header names people in every way."""
  from pydicom import dataset
  from pydicom import uid
  found = dataset.Dataset()
  found.file_meta = dataset.FileMetaDataset()
  found.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  found.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
  found.SOPClassUID, found.SOPInstanceUID = uid.CTImageStorage, '1.2.3.4711'
  found.PatientName, found.PatientID, found.PatientBirthDate = NAMES[:3]
  found.InstitutionName, found.ReferringPhysicianName = NAMES[3:5]
  found.AccessionNumber, found.ImageComments = NAMES[7:]
  block = found.private_block(0x0011, 'PRIVATE-NAME CREATOR', create=True)
  block.add_new(1, 'LO', NAMES[5])
  nested = dataset.Dataset()
  nested.PatientName = NAMES[6]
  found.ReferencedPatientSequence = [nested]
  found.Modality, found.PhotometricInterpretation = 'CT', 'MONOCHROME2'
  found.Rows = found.Columns = 40
  found.SamplesPerPixel, found.PixelRepresentation = 1, 0
  found.BitsAllocated = found.BitsStored = 16
  found.HighBit = 15
  found.RescaleSlope, found.RescaleIntercept = 1, -1024
  pixels = np.random.default_rng(seed).integers(0, 2000, (40, 40), np.uint16)
  found.PixelData = pixels.tobytes()[:100 if broken else None]
  data = io.BytesIO()
  found.save_as(data, enforce_file_format=True)
  path.write_bytes(data.getvalue())


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / 'data'
  folder.mkdir()
  lines = []
  for i in range(12):
    film(folder / f'{i}.dcm', i, broken=i % 5 == 4)
    lines.append({'id': f'r{i}', 'images': [{'path': f'{i}.dcm',
                                             'window': 'soft_tissue'}],
                  'question': 'Lesion?', 'answer': 'no', 'subject': f'JANE-{i}',
                  'answer_type': 'yesno', 'site': 'ST ELSEWHERE'})
  (folder / 'all.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  return folder


def test_no_planted_name_leaves_a_run(root, tmp_path, caplog, capfd):
  caplog.set_level(logging.DEBUG)
  changed = dict(data__dataset='medrl.data.jsonl.records', data__root=str(root),
                 data__on_bad='skip', data__workers=1, rl__steps=2,
                 data__overlap__action='refuse')
  options = dict(file='all.jsonl', validation=.3, test=0.)
  config = small.config(**changed)
  config.data.options = options
  config.eval.options = {}
  from medrl.trainers import grpo
  grpo.train(config, tmp_path / 'run')
  dry_run.show(config, tmp_path / 'run')
  lines = small.logged(tmp_path / 'run')
  assert lines[2]['data/bad/Undecodable'] >= 1   # the cut ones were met
  records = feed.records(config, 'train')
  # A site is in the record, for splits, and nowhere else.
  shown = [repr(dataclasses.replace(r, site='', subject='')) for r in records]
  said = caplog.text + ''.join(capfd.readouterr()) + ''.join(shown)
  for name in (*NAMES, 'JANE-'):
    assert name not in said
    for path in (tmp_path / 'run').rglob('*'):
      if path.is_file():
        assert name.encode() not in path.read_bytes(), (name, path)


def test_tags_that_may_name_somebody_are_not_allowed():
  from pydicom import datadict
  identifying = {'PatientName', 'PatientID', 'PatientBirthDate', 'StudyDate',
                 'InstitutionName', 'ReferringPhysicianName', 'ImageComments',
                 'AccessionNumber', 'StationName', 'OperatorsName'}
  allowed = {datadict.keyword_for_tag(tag) for tag in dicom_tags.ALLOWED}
  assert not allowed & identifying and len(allowed) > 20
