"""Compiles a run's programs for a TPU slice that is not here, on a CPU host.

  python launch/compile.py --config=experiments/pod.py --topology=v5e:8x8 \
    --model=qwen2_5_vl_7b [--slices=2] [--config.mesh.fsdp=16 ...] \
    [--json] [--explain] [--search]

Tells per program what it holds on a chip, computes and sends, beside what the
chip has and the least that there is to do, and how long it should take. Needs
no records, tokenizer, weights or TPU; needs libtpu (tests/requirements.txt).
Exits with 1 where it does not fit. Nothing is run, so nothing is measured.
"""

import json
import logging
import os
import pathlib
import sys

if __name__ == '__main__':
  # Read when jax starts. libtpu is told that it is no part of a pod, and need
  # not be alone here; it refuses flags for the CPU, and has no text of what it
  # gives to the sparse cores of a v5p or v6e.
  os.environ.pop('XLA_FLAGS', None)
  os.environ.update(
      JAX_PLATFORMS='cpu', TPU_SKIP_MDS_QUERY='1',
      TPU_WORKER_HOSTNAMES='localhost', TPU_ACCELERATOR_TYPE='v5litepod-16',
      ALLOW_MULTIPLE_LIBTPU_LOAD='true',
      LIBTPU_INIT_ARGS=' '.join((
          '--xla_tpu_offload_gather_to_sparsecore=false',
          '--xla_tpu_enable_offloading_scatter_to_sparsecore=false',
          '--xla_tpu_enable_offloading_gather_to_sparsecore=false',
          '--xla_tpu_enable_offloading_sort_to_sparsecore=false')))
  sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
from absl import app
from absl import flags
from ml_collections import config_flags

from launch import compile_figures
from launch import compile_report
from launch import compile_search
from medrl import lookup

_CONFIG = config_flags.DEFINE_config_file('config', None, 'A study.')
_TOPOLOGY = flags.DEFINE_string(
    'topology', None, 'A TPU slice by chip and shape, such as v5e:8x8.')
_SLICES = flags.DEFINE_integer('slices', 1, 'How many such slices.',
                               lower_bound=1)
_MODEL = flags.DEFINE_string(
    'model', '', 'A size of the family, instead of the config\'s model.')
_PROGRAMS = flags.DEFINE_list('programs', [], 'Only these programs.')
_JSON = flags.DEFINE_bool('json', False, 'Print one JSON object.')
_EXPLAIN = flags.DEFINE_bool('explain', False,
                             'Also the five largest buffers of each program.')
_SEARCH = flags.DEFINE_bool(
    'search', False, 'Look for the mesh that sends the least and the most '
    'prompts that fit.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  logging.getLogger().setLevel(logging.INFO)
  config = _CONFIG.value
  sized(config, _MODEL.value)
  if _SEARCH.value:
    found, tried = compile_search.search(
        config, _TOPOLOGY.value, _SLICES.value, compile_figures.of_slice)
    found['searched'] = tried
  else:
    found = compile_figures.of_slice(config, _TOPOLOGY.value, _SLICES.value,
                                     _PROGRAMS.value)
  print(json.dumps(found) if _JSON.value else
        compile_report.text(found, _EXPLAIN.value), flush=True)
  if not found['fits']:
    if _JSON.value:
      print(compile_report.verdict(found), file=sys.stderr)
    sys.exit(1)


def sized(config, model: str) -> None:
  """Gives the config a size of its family by name; '' leaves it.

  Raises:
    ValueError: no such size, with those there are.
  """
  if model:
    known = list(lookup.resolve(config.model.family).CONFIGS)
    if model not in known:
      raise ValueError(f'--model={model}: {lookup.nearest(model, known)}')
    config.model.update(dict(size=model, checkpoint=''))


def run():
  """Entry point: what does not fit together ends in one line."""
  flags.mark_flags_as_required(['config', 'topology'])
  try:
    app.run(main)
  except (ValueError, RuntimeError) as error:
    if os.environ.get('MEDRL_TRACEBACK'):
      raise
    print(f'{type(error).__name__}: {error}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  run()
