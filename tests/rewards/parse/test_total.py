"""Every parser reads any text: total, deterministic, spans inside, fast."""

import dataclasses
import itertools

import pytest

from medrl.rewards.parse import spans
from tests import soon
from tests.rewards.parse import hostile


def readings(name, text):
  found = hostile.PARSERS[name](text)
  for reading in found if isinstance(found, list) else [found]:
    if reading is not None:
      assert isinstance(reading, spans.Parsed)
      start, end = reading.span
      assert 0 <= start <= end <= len(text)
      assert isinstance(reading.how, str) and reading.how
  return found


@pytest.mark.parametrize('name', hostile.PARSERS)
def test_noise(name):
  read = set()
  for text in hostile.noise(seed=3, count=100, longest=200):
    found = readings(name, text)
    assert found == readings(name, text), 'not deterministic'
    read.add(bool(found))
  assert False in read


@pytest.mark.parametrize('name', hostile.PARSERS)
def test_long_noise(name):
  for text in hostile.noise(seed=7, count=3, longest=hostile.SIZE):
    readings(name, text)


@pytest.mark.parametrize('name', hostile.PARSERS)
def test_adversarial_texts_take_no_time(name):
  readings(name, '5 mm')  # builds what is built once
  # White space is what patterns run over twice; of the rest, a share each.
  share = list(hostile.PARSERS).index(name) % 18
  for text in itertools.chain(
      hostile.framed(' \n'),
      itertools.islice(hostile.adversarial(), share, None, 18)):
    with soon.soon(what=(text[:20], text[-20:])):
      readings(name, text)


def test_a_reading_cannot_be_changed():
  with pytest.raises(dataclasses.FrozenInstanceError):
    spans.Parsed(1, (0, 1), 'x').value = 2
