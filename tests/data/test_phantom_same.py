"""The first phantom stays as it was, whatever is built beside it.

Runs and checkpoints were made with its worlds and images; the digests are those
of commit 6c9fa6b, before the phantom grew.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json

import pytest

from medrl import lookup
from medrl.data import phantom

FIELDS = ('id', 'question', 'answer', 'answer_type', 'options', 'tolerance',
          'subject', 'source', 'task', 'demonstration', 'meta', 'unit')


def rounded(value):
  """Other libraries for sines may differ in the last of 16 digits."""
  if isinstance(value, float):
    return f'{value:.12g}'
  if isinstance(value, Mapping):
    return {key: rounded(v) for key, v in value.items()}
  if isinstance(value, Sequence) and not isinstance(value, str):
    return [rounded(v) for v in value]
  return value


@pytest.mark.parametrize('options, text, pixels', [
    (dict(count=63), 'd824ebafadf9c60f', '01aaed27d2f16157'),
    (dict(split='test', count=40, seed=5, demonstration_error=.6,
          permute=False), 'bc1248c2161eabc2', '883477f2933e5555'),
    (dict(split='validation', count=27, seed=2, demonstration_error=.6,
          trace=False, difficulty={'noise': 20., 'contrast': 40.,
                                   'smallest': 6, 'largest': 20}),
     '668f8276d03c87da', '49ee86778ba9c329'),
])
def test_records_and_images_are_those_of_before(options, text, pixels):
  said, drawn = hashlib.sha256(), hashlib.sha256()
  for record in phantom.records('', **{'split': 'train', **options}):
    values = {name: getattr(record, name) for name in FIELDS}
    media = [dataclasses.asdict(m) for m in record.media]
    said.update(json.dumps(rounded([values, media]), sort_keys=True).encode())
    for m in record.media:
      drawn.update(lookup.resolve(m.loader)(m.path, '', **m.options).tobytes())
  assert said.hexdigest()[:16] == text
  assert drawn.hexdigest()[:16] == pixels
