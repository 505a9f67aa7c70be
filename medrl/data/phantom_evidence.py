"""The records of `phantom` with numbered reasoning and the evidence of a step.

The questions, answers, images and ids are those of `phantom.records`. For
rewards that look for phrases in numbered steps (`rewards.process.evidence`,
after ECG-R1, arXiv 2602.04279); the newer phantoms have such evidence anyway.
"""

from collections.abc import Iterator
import dataclasses
import re

from medrl import types
from medrl.data import phantom
from medrl.data import phantom_answers
from medrl.data import phantom_world
from medrl.rewards.parse import blocks

TASKS = phantom.TASKS
_SENTENCE = re.compile(r'\.(?: (?=[A-Z])|\Z)')
_MEASURE = re.compile(r'\d+(?:\.\d+)? (?:px|mm)')


def records(root: str, split: str, **options) -> Iterator[types.Record]:
  """`phantom.records` with these options, each of them `numbered`."""
  return map(numbered, phantom.records(root, split, **options))


def numbered(record: types.Record) -> types.Record:
  """The record with `meta['evidence']` and the steps of its demonstration.

  A sentence becomes a step, which `phantom.check_trace` reads as before. The
  evidence is that of the true world, whatever the demonstration says.
  """
  state = phantom_world.from_dict(record.meta['world'])
  text, block = record.demonstration, blocks.think(record.demonstration)
  if block:
    steps = ' '.join(f'Step {number}: {sentence}.' for number, sentence
                     in enumerate(_sentences(block.value), 1))
    text = text[:block.span[0]] + steps + text[block.span[1]:]
  return dataclasses.replace(record, demonstration=text, meta={
      **record.meta, 'evidence': evidence(record.task, state)})


def evidence(task: str, state: phantom_world.World) -> dict[str, list[str]]:
  """Number of a step -> phrases that are true of the world and belong there."""
  return {str(number): _phrases(sentence) for number, sentence in enumerate(
      _sentences(phantom_answers.trace(task, state)), 1)}


def _sentences(text: str) -> list[str]:
  """Sentences without full stops; the point of a number ends none."""
  return [part for part in _SENTENCE.split(text) if part]


def _phrases(sentence: str) -> list[str]:
  """At most three, since there are no more lesions or numbers in one."""
  if '=' in sentence:
    return _MEASURE.findall(sentence)
  return sentence.removeprefix('Lesions: ').split(', ')
