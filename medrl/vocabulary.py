"""The tokenizer of a run: named, or built from its records; its stop strings.

What text becomes with it is the processor's; ids of roles are `build.run`'s.
"""

import os
import pathlib
import shutil
import tempfile

from medrl import feed
from medrl import hosts
from medrl import lookup
from medrl import paths
from medrl.processors import text
from medrl.rollout import stops


def tokenizer(config, workdir):
  """Loads the named tokenizer, or the run's own, built from its records."""
  named = config.processor.tokenizer or config.model.checkpoint
  if named:
    return text.load(named)
  folder = paths.at(workdir) / 'tokenizer'
  remote = paths.remote(folder)
  if not folder.is_dir() and (hosts.index() == 0 or not remote):
    with tempfile.TemporaryDirectory() as scratch:
      made = pathlib.Path(scratch) / 'tokenizer'
      _make(config, made)
      _put(made, folder)
  if remote:   # which shows a folder file by file
    hosts.meet('tokenizer', config.hosts.meet_s)
  with paths.local(folder) as near:
    return text.load(near)


def _make(config, made: pathlib.Path) -> None:
  """Writes the run's own tokenizer into a folder."""
  family = lookup.resolve(config.model.family)
  layout = family.layout(family.CONFIGS[config.model.size])
  origin = paths.at(config.checkpoint.start) / 'tokenizer'
  # A policy that goes on from another run keeps that run's ids.
  if config.checkpoint.start and origin.is_dir():
    paths.copy(origin, made)
  else:
    text.build(_corpus(config), tuple(layout.specials.values()),
               config.processor.vocab, made)


def _put(made: pathlib.Path, folder) -> None:
  """The folder as the run's, unless another process was first."""
  paths.folder(folder.parent)
  if paths.remote(folder):
    paths.copy(made, folder)
    return
  near = folder.with_name(f'.{folder.name}.{os.getpid()}.tmp')
  try:
    shutil.copytree(made, near)
    os.replace(near, folder)
  except OSError:
    shutil.rmtree(near, ignore_errors=True)
    if not folder.is_dir():
      raise


def _corpus(config, limit: int = 4000):
  yield 'system\nuser\nassistant\n' + config.processor.system
  for record in feed.flat(feed.training(config))[:limit]:
    yield config.processor.user.format(
        question=record.question, options='\n'.join(
            f'{k}. {v}' for k, v in record.options.items()))
    yield record.demonstration


def stop_strings(config, tokenizer, rows: int):
  """The automaton of the config's stop strings over the model's `rows`, or
  None.

  Args:
    config: the run's.
    tokenizer: whose tokens they may end in; None takes the bytes, which gives
      tables of the same sizes, to compile for.
    rows: of the model's vocabulary.
  """
  strings = config.rollout.stop_strings
  if not strings:
    return None
  known = tuple(bytes([i]) for i in range(256))
  if tokenizer is not None:
    known = tokenizer.token_bytes()
  return stops.build(strings, known[:rows] + (b'',) * (rows - len(known)))
